"""Display options as values: a key makes a new one. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from renderer.viewer.materials import MATERIALS, Material
from renderer.viewer.orbit import OrbitCamera

Overlay = Literal["solid", "wire", "silhouette", "difference", "off"]
View = Literal["free", "camera", "wall"]
Frusta = Literal["pictures", "outlines", "none"]
ScanShown = Literal["none", "beside", "alone"]
Turning = Literal["no", "round", "swing"]
Choice = TypeVar("Choice", bound=str)

OVERLAYS: tuple[Overlay, ...] = ("solid", "wire", "silhouette", "difference", "off")
VIEWS: tuple[View, ...] = ("free", "camera", "wall")
SCANS: tuple[ScanShown, ...] = ("none", "beside", "alone")
TURNS: tuple[Turning, ...] = ("no", "round", "swing")
FRUSTA: tuple[Frusta, ...] = ("none", "outlines", "pictures")

_SWING, _SWING_S = 50.0 / 180.0, 8.0
"""To either side, in drags of the height of the view, which are half turns; and of a swing there and back, s."""


def _after(choices: Sequence[Choice], now: Choice, step: int = 1) -> Choice:
    return choices[(choices.index(now) + step) % len(choices)]


@dataclass(frozen=True, slots=True)
class Look:
    """How the operator wants to see things."""

    camera: OrbitCamera = field(default_factory=OrbitCamera)
    """Where the head is seen from."""
    steered: bool = False
    """Whether a person moved the camera; until then the viewer frames each new head by itself."""
    view: View = "free"
    """What the large part of the screen shows."""
    material: Material = "skin"
    """Surface of the head."""
    edges: bool = False
    """Whether the edges of the mesh are drawn over the surface."""
    eyes: bool = True
    """Whether eyes are painted where the topology has closed sockets."""
    frusta: Frusta = "none"
    """Cameras in the free view."""
    scan: ScanShown = "none"
    """Whether the raw scan is drawn, with the head or without it."""
    onion: bool = False
    """Whether the last meshes are seen through."""
    ghost: bool = True
    """Whether the second layer is seen through beside the head, where there is one."""
    swapped: bool = False
    """Whether the second layer is the head, and the first the ghost."""
    overlay: Overlay = "solid"
    """How the mesh lies over the camera pictures."""
    opacity: float = 0.5
    """Opacity of that overlay, 0..1."""
    figures: bool = True
    """Whether figures and labels are shown."""
    help: bool = False
    """Whether the table of keys is shown."""
    turning: Turning = "no"
    """Whether the camera circles the head, or swings before it."""
    turned_s: float = 0.0
    """For how long it has."""
    held: bool = False
    """Whether the picture stands still; messages are still counted."""
    first_camera: int = 0
    """Which camera of the rig comes first among those shown, and is the one of the camera view."""

    def press(self, key: str) -> "Look":
        """Answer a key (lower case, `space` for the space bar); unknown keys change nothing."""
        match key:
            case "1" | "2" | "3":
                return replace(self, view=VIEWS[int(key) - 1])
            case "m" | "n":
                return replace(self, material=_after(MATERIALS, self.material, 1 if key == "m" else -1))
            case "o":
                return replace(self, overlay=_after(OVERLAYS, self.overlay))
            case "s":
                return replace(self, scan=_after(SCANS, self.scan))
            case "f":
                return replace(self, frusta=_after(FRUSTA, self.frusta))
            case "[" | "]":
                step = 0.1 if key == "]" else -0.1
                return replace(self, opacity=round(min(max(self.opacity + step, 0.0), 1.0), 2))
            case "c" | "v":
                return replace(self, first_camera=self.first_camera + (1 if key == "c" else -1))
            case "z":
                return replace(self, camera=replace(self.camera, orthographic=not self.camera.orthographic))
            case "r":
                return replace(self, camera=OrbitCamera(), steered=False)
        return self._switch(key)

    def _switch(self, key: str) -> "Look":
        """Options that are on or off."""
        match key:
            case "h":
                return replace(self, figures=not self.figures)
            case "?":
                return replace(self, help=not self.help)
            case "t":
                return replace(self, turning=_after(TURNS, self.turning), turned_s=0.0)
            case "space":
                return replace(self, held=not self.held)
            case "x":
                return replace(self, edges=not self.edges)
            case "e":
                return replace(self, eyes=not self.eyes)
            case "k":
                return replace(self, onion=not self.onion)
            case "g":
                return replace(self, ghost=not self.ghost)
            case "b":
                return replace(self, swapped=not self.swapped)
        return self

    def steer(self, camera: OrbitCamera) -> "Look":
        """Take a camera that a person chose."""
        return replace(self, camera=camera, steered=True)

    def turn(self, elapsed_s: float) -> "Look":
        """Advance the turntable, when it is on: a round in 12 s, or 50 degrees to either side and back in 8 s."""
        if self.turning == "no":
            return self
        turned = self.turned_s + elapsed_s
        if self.turning == "round":
            return replace(self, camera=self.camera.orbit(elapsed_s / 6.0, 0.0), turned_s=turned)
        swing = math.sin(math.tau * turned / _SWING_S) - math.sin(math.tau * self.turned_s / _SWING_S)
        return replace(self, camera=self.camera.orbit(_SWING * swing, 0.0), turned_s=turned)


def shown_cameras(cameras: tuple[str, ...], count: int, first: int) -> tuple[str, ...]:
    """Choose which cameras are shown: `count` of them, evenly spread over the rig, starting at the `first`-th.

    Args:
        cameras: ids in rig order.
        count: how many tiles there are room for.
        first: offset, taken modulo the number of cameras.
    """
    total = len(cameras)
    count = min(count, total)
    return tuple(cameras[(first + index * total // count) % total] for index in range(count))
