"""What the lens shader needs to know about a camera. Pure.

The shader repeats `streamer.geometry.project` in float32; tests hold the two together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamer.geometry import transform
from streamer.types import F32, F64, Camera


@dataclass(frozen=True, slots=True)
class Lens:
    """Uniforms of the lens shader."""

    camera_from_world: F32
    """(4, 4) rigid, metres."""
    focal: F32
    """(2, 2) upper left of K, px of the calibrated picture."""
    centre: F32
    """(2,) principal point, px."""
    distortion: F32
    """(5,) OpenCV k1, k2, p1, p2, k3."""
    size: tuple[float, float]
    """Width and height of the calibrated picture, px."""
    depth_range: tuple[float, float]
    """Nearest and farthest depth drawn, metres."""
    limit_r2: float
    """Squared radius x² + y² beyond which the distortion polynomial folds back; nothing is drawn there."""


def lens_limit_r2(distortion: F64) -> float:
    """Squared radius at which the radial polynomial stops growing, or 1e6 if it always grows.

    Beyond it the model sends points from far outside back into the picture, which no lens does.
    """
    k1, k2, _, _, k3 = (float(value) if abs(value) > 1e-9 else 0.0 for value in distortion)
    roots = np.roots([7 * k3, 5 * k2, 3 * k1, 1.0])
    real = [root.real for root in roots if abs(root.imag) < 1e-9 * max(1.0, abs(root.real)) and root.real > 0]
    return min(min(real, default=1e6), 1e6)


def lens_of(camera: Camera, low: F64, high: F64) -> Lens:
    """Prepare a camera for drawing what lies in a box.

    Args:
        camera: the camera.
        low: (3,) lower corner of the box, metres, world.
        high: (3,) upper corner.
    """
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3)
    depth = transform(camera.camera_from_world, corners)[:, 2]
    near = max(0.9 * float(depth.min()), 0.01)
    return Lens(
        camera_from_world=camera.camera_from_world.astype(np.float32),
        focal=camera.K[:2, :2].astype(np.float32),
        centre=camera.K[:2, 2].astype(np.float32),
        distortion=camera.distortion.astype(np.float32),
        size=(float(camera.width), float(camera.height)),
        depth_range=(near, max(1.1 * float(depth.max()), near + 0.01)),
        limit_r2=lens_limit_r2(camera.distortion),
    )


def same_rig(cameras: Sequence[Camera], others: Sequence[Camera]) -> bool:
    """Whether two rigs draw alike; calibrations come again each second as new objects."""
    return len(cameras) == len(others) and all(
        one is other
        or (
            (one.id, one.width, one.height) == (other.id, other.width, other.height)
            and (one.K == other.K).all()
            and (one.distortion == other.distortion).all()
            and (one.camera_from_world == other.camera_from_world).all()
        )
        for one, other in zip(cameras, others, strict=True)
    )
