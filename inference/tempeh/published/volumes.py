"""Grids, projection, sampling and fusion of the published network. All sampling is 4-D; lengths in millimetres."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from inference.tempeh.published.sizes import PublishedSizes

NEAR_MM = 1.0
"""Corrected: points nearer to a camera than this, or behind it, are outside its picture."""
OUTSIDE = 4.0
"""Normalised coordinate of such points."""


@dataclass(frozen=True, slots=True)
class ViewTensors:
    """Cameras of B sets of V views each, for pictures of one size."""

    K: Tensor
    """(B, V, 3, 3), px of the network's pictures; need not be upper triangular."""
    distortion: Tensor
    """(B, V, 2) radial: 1 + k1 r^2 + k2 r^4, of normalised coordinates."""
    camera_from_world: Tensor
    """(B, V, 3, 4), mm."""

    def centres(self) -> Tensor:
        """Optical centres (B, V, 3), world."""
        rotation, shift = self.camera_from_world[..., :3], self.camera_from_world[..., 3:]
        return -(rotation.transpose(-1, -2) @ shift)[..., 0]

    def to(self, device: torch.device | str) -> "ViewTensors":
        """The same on a device."""
        return ViewTensors(*(getattr(self, field.name).to(device) for field in fields(self)))


def grid_axis(size: int, step_mm: float, *, quirks: bool) -> Tensor:
    """(size,) displacements along an axis: -size/2 ... size/2-1 steps, or symmetric."""
    first = size // 2 if quirks else (size - 1) / 2
    return (torch.arange(size, dtype=torch.float32, device="cpu") - first) * step_mm


def grid_points(size: int, step_mm: float, *, quirks: bool) -> Tensor:
    """(size^3, 3) displacements of a volume's voxels, x slowest."""
    axis = grid_axis(size, step_mm, quirks=quirks)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def project(points: Tensor, views: ViewTensors, size: tuple[int, int], *, quirks: bool) -> Tensor:
    """Project points into every view.

    Args:
        points: (B, P, 3) world, mm.
        views: the cameras.
        size: width and height of the pictures, px.
        quirks: see the package.

    Returns:
        (B, V, P, 2) normalised picture coordinates, -1 to 1 inside.
    """
    p = points[:, None] @ views.camera_from_world[..., :3].transpose(-1, -2)
    p = p + views.camera_from_world[..., None, :, 3]
    depth = p[..., 2:]
    hidden = depth.abs() < 1e-7 if quirks else depth < NEAR_MM
    xy = p[..., :2] / torch.where(hidden, torch.ones_like(depth), depth)
    r2 = (xy * xy).sum(-1, keepdim=True)
    k1, k2 = views.distortion[..., None, :1], views.distortion[..., None, 1:]
    xy = xy * (1.0 + k1 * r2 + k2 * (r2 * r2))
    pixel = xy @ views.K[..., :2, :2].transpose(-1, -2) + views.K[..., None, :2, 2]
    extent = torch.tensor(size, dtype=pixel.dtype, device=pixel.device)
    if quirks:
        return 2.0 * pixel / (extent - 1.0) - 1.0
    return torch.where(hidden, torch.full_like(pixel, OUTSIDE), (2.0 * pixel + 1.0) / extent - 1.0)


def sample(features: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples, zero outside.

    Args:
        features: (B, V, C, H, W).
        grid: (B, V, P, 2) of `project`.

    Returns:
        (B, V, C, P).
    """
    picked = functional.grid_sample(
        features.flatten(0, 1).float(), grid.flatten(0, 1)[:, None], padding_mode="zeros", align_corners=False
    )
    return picked.reshape(*grid.shape[:2], features.shape[2], -1)


def inside(grid: Tensor) -> Tensor:
    """1.0 where (..., 2) normalised coordinates lie in the picture."""
    return (grid.abs() <= 1.0).all(-1).float()


def fuse(samples: Tensor, grid: Tensor, *, quirks: bool) -> Tensor:
    """Mean and unbiased variance over the views ("mean_var").

    Args:
        samples: (B, V, C, P).
        grid: (B, V, P, 2) where they were taken.
        quirks: a view that does not contain a point counts as zeros; without, it does not count.

    Returns:
        (B, 2 C, P): means, then variances.
    """
    if quirks:
        return torch.cat([samples.mean(1), samples.var(1, correction=1)], 1)
    weight = inside(grid)[:, :, None]
    count = weight.sum(1)
    mean = (samples * weight).sum(1) / count.clamp(min=1.0)
    variance = ((samples - mean[:, None]) ** 2 * weight).sum(1) / (count - 1.0).clamp(min=1.0)
    return torch.cat([mean, variance], 1)


def fused_volume(features: Tensor, views: ViewTensors, points: Tensor, *, quirks: bool) -> Tensor:
    """Feature volume at points (B, P, 3): (B, 2 C, P)."""
    height, width = features.shape[-2:]
    grid = project(points, views, (width, height), quirks=quirks)
    return fuse(sample(features, grid), grid, quirks=quirks)


def base_grid(sizes: PublishedSizes, *, quirks: bool) -> Tensor:
    """(grid^3, 3) displacements of the coarse volume's voxels from its centre."""
    return grid_points(sizes.grid, sizes.step_mm, quirks=quirks)
