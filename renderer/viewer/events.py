"""What a person did at the window since the last screen, and what it does to a look. Pure."""

from dataclasses import dataclass, field, replace

from renderer.viewer.controls import Look


@dataclass(slots=True)
class Events:
    """Keys and movements, in heights of the window."""

    keys: list[str] = field(default_factory=list)
    """In order; names as in `keys`."""
    orbit: tuple[float, float] = (0.0, 0.0)
    """Drag with the left button."""
    pan: tuple[float, float] = (0.0, 0.0)
    """Drag with the right button."""
    zoom: float = 0.0
    """Clicks of the wheel, positive away from the person."""
    focus: tuple[float, float] | None = None
    """Where the middle button was pressed, px of the framebuffer."""
    scrub: float | None = None
    """Where a drag that began on the time line is, px of the framebuffer from the left."""


def steer(look: Look, events: Events) -> Look:
    """Apply keys and drags to a look; focus and time line are the caller's."""
    for key in events.keys:
        look = look.press(key)
    camera = look.camera
    if events.orbit != (0.0, 0.0):
        camera = camera.orbit(*events.orbit)
    if events.pan != (0.0, 0.0):
        camera = camera.pan(*events.pan)
    if events.zoom:
        camera = camera.zoom(events.zoom)
    return look if camera is look.camera else replace(look, camera=camera, steered=True)
