"""Orbit camera and display options as values: a key or a drag makes a new one. Pure."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from streamer.types import F64

Material = Literal["skin", "clay"]
Overlay = Literal["solid", "wire", "off"]

MATERIALS: tuple[Material, ...] = ("skin", "clay")
OVERLAYS: tuple[Overlay, ...] = ("solid", "wire", "off")
KEYS = (
    "drag orbit · right-drag pan · wheel zoom · R reset · M material · O overlay · [ ] opacity · C cameras · T turn"
    " · H figures · Space hold"
)
"""Help line of the window."""

_PITCH_LIMIT = math.radians(85.0)


@dataclass(frozen=True, slots=True)
class OrbitCamera:
    """A camera on a sphere around a point, +Y up; at yaw 0 and pitch 0 it stands on +Z, in front of the face."""

    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Point looked at, metres, world."""
    yaw_rad: float = math.radians(24.0)
    """Turn about +Y; positive moves the camera to world +X."""
    pitch_rad: float = math.radians(6.0)
    """Height angle; positive looks down."""
    distance_m: float = 1.0
    """From the target to the eye, metres."""
    fov_y_rad: float = math.radians(24.0)
    """Vertical field of view: a portrait lens."""

    def orbit(self, dx: float, dy: float) -> "OrbitCamera":
        """Turn by a drag of (dx, dy) in heights of the view; a height is half a turn, and the head follows the hand."""
        pitch = min(max(self.pitch_rad + math.pi * dy, -_PITCH_LIMIT), _PITCH_LIMIT)
        return replace(self, yaw_rad=math.remainder(self.yaw_rad - math.pi * dx, math.tau), pitch_rad=pitch)

    def pan(self, dx: float, dy: float) -> "OrbitCamera":
        """Move the target so that the point under the cursor follows a drag of (dx, dy), in heights of the view."""
        eye_from_world = self.eye_from_world()
        height = 2.0 * self.distance_m * math.tan(self.fov_y_rad / 2)
        moved = np.asarray(self.target) - height * (dx * eye_from_world[0, :3] - dy * eye_from_world[1, :3])
        return replace(self, target=(float(moved[0]), float(moved[1]), float(moved[2])))

    def zoom(self, steps: float) -> "OrbitCamera":
        """Come nearer by `steps` wheel clicks of 12 %; stays between 5 cm and 50 m."""
        return replace(self, distance_m=min(max(self.distance_m * 1.12**-steps, 0.05), 50.0))

    def fit(self, low: F64, high: F64, aspect: float) -> "OrbitCamera":
        """Keep the angles and frame a box so that it fills about four fifths of the view.

        Args:
            low: (3,) lower corner, metres, world.
            high: (3,) upper corner.
            aspect: width / height of the view.
        """
        centre, size = (low + high) / 2, np.maximum(high - low, 1e-3)
        across = math.hypot(float(size[0]), float(size[2]))
        needed = max(float(size[1]), across / max(aspect, 1e-3))
        distance = 1.25 * needed / 2 / math.tan(self.fov_y_rad / 2) + across / 2
        return replace(self, target=(float(centre[0]), float(centre[1]), float(centre[2])), distance_m=distance)

    @property
    def eye(self) -> F64:
        """(3,) position of the eye, metres, world."""
        cos_pitch = math.cos(self.pitch_rad)
        way = [cos_pitch * math.sin(self.yaw_rad), math.sin(self.pitch_rad), cos_pitch * math.cos(self.yaw_rad)]
        return np.asarray(self.target) + self.distance_m * np.asarray(way)

    def eye_from_world(self) -> F64:
        """(4, 4) rigid, metres; eye axes as OpenGL has them: x right, y up, z backwards."""
        backward = (self.eye - np.asarray(self.target)) / self.distance_m
        right = np.cross([0.0, 1.0, 0.0], backward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(backward, right), backward])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ self.eye
        return matrix

    def clip_from_world(self, aspect: float) -> F64:
        """(4, 4) projective; clip space of OpenGL, depth range from 1/50 to 20 times the distance."""
        near, far = self.distance_m / 50, self.distance_m * 20
        focal = 1.0 / math.tan(self.fov_y_rad / 2)
        projection = np.zeros((4, 4))
        projection[0, 0], projection[1, 1] = focal / aspect, focal
        projection[2, 2], projection[2, 3] = (far + near) / (near - far), 2 * far * near / (near - far)
        projection[3, 2] = -1.0
        return projection @ self.eye_from_world()


@dataclass(frozen=True, slots=True)
class Look:
    """How the operator wants to see things."""

    camera: OrbitCamera = field(default_factory=OrbitCamera)
    """Where the head is seen from."""
    steered: bool = False
    """Whether a person moved the camera; until then the viewer frames each new head by itself."""
    material: Material = "skin"
    """Surface of the head."""
    overlay: Overlay = "solid"
    """How the mesh lies over the camera pictures."""
    opacity: float = 0.5
    """Opacity of that overlay, 0..1."""
    figures: bool = True
    """Whether figures and labels are shown."""
    turning: bool = False
    """Whether the camera circles the head."""
    held: bool = False
    """Whether the picture stands still; messages are still counted."""
    first_camera: int = 0
    """Which camera of the rig comes first among those shown."""

    def press(self, key: str) -> "Look":
        """Answer a key (lower case, `space` for the space bar); unknown keys change nothing."""
        match key:
            case "m":
                return replace(self, material=MATERIALS[(MATERIALS.index(self.material) + 1) % len(MATERIALS)])
            case "o":
                return replace(self, overlay=OVERLAYS[(OVERLAYS.index(self.overlay) + 1) % len(OVERLAYS)])
            case "[" | "]":
                step = 0.1 if key == "]" else -0.1
                return replace(self, opacity=round(min(max(self.opacity + step, 0.0), 1.0), 2))
            case "h":
                return replace(self, figures=not self.figures)
            case "t":
                return replace(self, turning=not self.turning)
            case "space":
                return replace(self, held=not self.held)
            case "c":
                return replace(self, first_camera=self.first_camera + 1)
            case "r":
                return replace(self, camera=OrbitCamera(), steered=False)
        return self

    def steer(self, camera: OrbitCamera) -> "Look":
        """Take a camera that a person chose."""
        return replace(self, camera=camera, steered=True)

    def turn(self, elapsed_s: float) -> "Look":
        """Advance the turntable, a round in 12 s, when it is on."""
        if not self.turning:
            return self
        return replace(self, camera=self.camera.orbit(elapsed_s / 6.0, 0.0))


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
