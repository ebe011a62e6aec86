"""Pixels to rays, with the lens undone."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from renderer.fitter.box import Box
from streamer.types import Camera

ITERATIONS = 10
"""Fixed-point steps that undo the lens; the error falls by the distortion's slope (about 0.1) at each."""


@dataclass(frozen=True)
class Lenses:
    """All cameras as tensors, in the box's frame."""

    K: Tensor
    """(C, 3, 3) px."""
    distortion: Tensor
    """(C, 5) OpenCV k1, k2, p1, p2, k3."""
    box_from_camera: Tensor
    """(C, 3, 3) rotations."""
    centres: Tensor
    """(C, 3) optical centres, box units."""


def lenses_of(cameras: tuple[Camera, ...], box: Box, device: torch.device) -> Lenses:
    """Return cameras (at the size of their pictures) as tensors."""
    rotations = np.stack([camera.camera_from_world[:3, :3].T for camera in cameras])
    centres = np.stack([(camera.centre_world - box.corner) / box.size for camera in cameras])
    arrays = (np.stack([c.K for c in cameras]), np.stack([c.distortion for c in cameras]), rotations, centres)
    K, distortion, turned, stands = (torch.from_numpy(np.asarray(a, np.float32)).to(device) for a in arrays)
    return Lenses(K, distortion, turned, stands)


def rays_of(lenses: Lenses, camera: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rays of pixels.

    Args:
        lenses: the cameras.
        camera: (r,) int64 index of the camera.
        pixels: (r, 2) x, y; pixel centres at integers.

    Returns:
        (r, 3) origins in box units and (r, 3) unit directions.
    """
    K, lens = lenses.K[camera], lenses.distortion[camera]
    seen_y = (pixels[:, 1] - K[:, 1, 2]) / K[:, 1, 1]
    seen_x = (pixels[:, 0] - K[:, 0, 2] - K[:, 0, 1] * seen_y) / K[:, 0, 0]
    k1, k2, p1, p2, k3 = lens.unbind(1)
    x, y = seen_x, seen_y
    for _ in range(ITERATIONS):
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        x, y = (
            (seen_x - 2 * p1 * x * y - p2 * (r2 + 2 * x * x)) / radial,
            (seen_y - 2 * p2 * x * y - p1 * (r2 + 2 * y * y)) / radial,
        )
    directions = torch.stack([x, y, torch.ones_like(x)], 1)
    directions = (lenses.box_from_camera[camera] @ directions[..., None])[..., 0]
    return lenses.centres[camera], directions / directions.norm(dim=1, keepdim=True)
