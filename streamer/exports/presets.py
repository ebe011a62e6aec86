"""What each program wants to find in each format: axes, unit, up. streamer/geometry.py converts; this chooses.

Exchange formats (USD, Alembic, glTF, OBJ) are right-handed by their own rules, and every program converts on import: a
preset chooses the unit and the up axis that this works best with. NPZ has no rules: there a preset gives the
coordinates as the program itself holds them. PC2 and MDD move the vertices of a mesh that is already in the program.
"""

from dataclasses import dataclass

from streamer.errors import TakeError
from streamer.exports.options import FORMATS, Format
from streamer.geometry import AXES, Axes, signed_axes

Y_UP = ("x", "y", "z")
Z_UP = ("x", "-z", "y")


@dataclass(frozen=True, slots=True)
class Preset:
    """How one program wants one format."""

    axes: Axes
    """From Mien's world to the file."""
    up: str = "Y"
    """Up axis of the file, `Y` or `Z`."""
    metres_per_unit: float = 1.0
    """Size of the file's unit."""
    note: str = ""
    """What to choose in the program's import dialogue, if anything."""


METRES = Preset(AXES["mien"])
CENTIMETRES = Preset(signed_axes(Y_UP, 100.0), "Y", 0.01)
Z_METRES = Preset(signed_axes(Z_UP), "Z", 1.0)
Z_CENTIMETRES = Preset(signed_axes(Z_UP, 100.0), "Z", 0.01)
ABC_METRES = Preset(AXES["alembic"])
ABC_CENTIMETRES = Preset(signed_axes(Y_UP, 100.0, reverse_winding=True), "Y", 0.01)


def _with(preset: Preset, note: str) -> Preset:
    return Preset(preset.axes, preset.up, preset.metres_per_unit, note)


_CACHES = {
    "": METRES,
    "blender": _with(METRES, "import the .obj with its default axes, then add the modifier Mesh Cache with this file"),
    "maya": CENTIMETRES,
    "houdini": METRES,
}
PRESETS: dict[Format, dict[str, Preset]] = {
    "npz": {"": METRES, **{name: Preset(axes, "Z" if name in ("blender", "unreal") else "Y",
                                        0.01 if name == "unreal" else 1.0)
                           for name, axes in AXES.items()}, "maya": CENTIMETRES},
    "usd": {
        "": METRES, "usd": METRES, "houdini": METRES, "unity": METRES, "blender": Z_METRES, "maya": CENTIMETRES,
        "unreal": Z_CENTIMETRES,
    },
    "abc": {
        "": ABC_METRES, "alembic": ABC_METRES, "blender": ABC_METRES, "houdini": ABC_METRES, "maya": ABC_CENTIMETRES,
        "unreal": _with(ABC_CENTIMETRES, "import into Unreal with the conversion preset Maya"),
        "unity": _with(ABC_CENTIMETRES, "Unity's Alembic importer: Scale Factor 0.01, Swap Handedness on"),
    },
    "gltf": dict.fromkeys(("", "gltf", "blender", "godot", "unity", "unreal"), METRES),
    "obj": {"": METRES, "blender": METRES, "houdini": METRES, "unity": METRES, "godot": METRES, "maya": CENTIMETRES},
    "pc2": _CACHES,
    "mdd": _CACHES,
    "csv": {"": METRES},
    "nersemble": {"": METRES},
}  # fmt: skip
"""Format, then target; "" is the format's own custom. A pair that is not here makes no sense or is not known."""

TARGETS = tuple(sorted({target for table in PRESETS.values() for target in table if target}))
"""All names of targets."""


def preset_for(format: Format, target: str) -> Preset:
    """Return the preset.

    Raises:
        TakeError: there is none; the message names formats that the target takes.
    """
    if target in PRESETS[format]:
        return PRESETS[format][target]
    takes = [other for other in FORMATS if target in PRESETS[other]]
    if not takes:
        raise TakeError(f"--target {target!r} is not known; one of: {', '.join(TARGETS)}")
    raise TakeError(f"there is no preset of {format} for {target}; --target {target} goes with: {', '.join(takes)}")
