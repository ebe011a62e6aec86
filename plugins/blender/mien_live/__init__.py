"""Mien Live: the captured head in Blender, as it happens. Blender 4.2 or newer.

`records` and `client` know nothing of Blender; `addon` and `live_head` are imported when Blender registers the add-on.
"""

bl_info = {
    "name": "Mien Live",
    "author": "The Mien authors",
    "version": (0, 1, 0),
    "blender": (4, 2, 0),
    "location": "3D View > Sidebar > Mien",
    "description": "Shows the head that Mien captures, live",
    "category": "Import-Export",
}


def register() -> None:
    """Add the add-on to Blender."""
    from . import addon

    addon.register()


def unregister() -> None:
    """Take the add-on out of Blender."""
    from . import addon

    addon.unregister()
