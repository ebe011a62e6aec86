"""The camera of the free view as a value: a drag makes a new one. Pure."""

import math
from dataclasses import dataclass, replace

import numpy as np

from streamer.types import F64

_PITCH_LIMIT = math.radians(85.0)
_HELD = 0.92
"""Of the half of the view that points are held within."""


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
    orthographic: bool = False
    """Whether lines that are parallel stay so; at the target sizes are those of the perspective view."""

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

    def focus(self, point: F64) -> "OrbitCamera":
        """Look at a point (3,), metres, world, from where the eye is turned; the distance stays."""
        return replace(self, target=(float(point[0]), float(point[1]), float(point[2])))

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

    def hold(self, points: F64, aspect: float) -> "OrbitCamera":
        """Keep the angles and come as near as all of some points stay in view.

        Args:
            points: (K, 3) metres, world.
            aspect: width / height of the view.
        """
        middle = (points.min(0) + points.max(0)) / 2
        held = replace(self, target=(float(middle[0]), float(middle[1]), float(middle[2])))
        near, far = math.log(0.05), math.log(50.0)
        homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)
        for _ in range(24):
            tried = replace(held, distance_m=math.exp((near + far) / 2))
            clip = homogeneous @ tried.clip_from_world(aspect).T
            inside = (clip[:, 3] > 0).all() and (np.abs(clip[:, :2]) <= _HELD * clip[:, 3:]).all()
            near, far = (near, math.log(tried.distance_m)) if inside else (math.log(tried.distance_m), far)
        return replace(held, distance_m=math.exp(far))

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
        projection = np.zeros((4, 4))
        if self.orthographic:
            half = self.distance_m * math.tan(self.fov_y_rad / 2)
            projection[0, 0], projection[1, 1], projection[3, 3] = 1 / (half * aspect), 1 / half, 1.0
            projection[2, 2], projection[2, 3] = -2 / (far + far), 0.0  # behind the eye too: nothing is cut off
            return projection @ self.eye_from_world()
        focal = 1.0 / math.tan(self.fov_y_rad / 2)
        projection[0, 0], projection[1, 1] = focal / aspect, focal
        projection[2, 2], projection[2, 3] = (far + near) / (near - far), 2 * far * near / (near - far)
        projection[3, 2] = -1.0
        return projection @ self.eye_from_world()
