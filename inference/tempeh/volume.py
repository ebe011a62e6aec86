"""Feature volumes: sample every view's feature map at projected grid points and fuse over the views.

As TEMPEH's global feature volume (section 3.1 of the paper: mean and variance over views), but masked: a view counts
at a point only where it exists and the point lies inside its picture. All sampling is 4-D GridSample; projections
come from the host.
"""

import torch
from torch import Tensor
from torch.nn import functional


def as_float32(values: Tensor) -> Tensor:
    """Return float32. Values that are so already stay untouched: a no-op cast would rename an exported input."""
    return values if values.dtype == torch.float32 else values.float()


def sample(features: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples of feature maps.

    Args:
        features: (B, C, H, W).
        grid: (B, P, 2) as made by `frames.sampling_grid`.

    Returns:
        (B, C, P) float32; zero outside the picture.
    """
    picked = functional.grid_sample(
        as_float32(features), grid[:, None], mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return picked[:, :, 0]


def fuse(samples: Tensor, weight: Tensor) -> Tensor:
    """Masked mean and standard deviation over the views.

    Args:
        samples: (B, V, C, P).
        weight: (B, V, P), 0 where a view does not count.

    Returns:
        (B, 2 C + 2, P): mean, deviation, share of views that count, and 1 where any does.
    """
    views = samples.shape[1]
    w = weight[:, :, None]
    total = w.sum(1)
    scale = 1.0 / total.clamp(min=1e-3)
    mean = (samples * w).sum(1) * scale
    variance = ((samples - mean[:, None]) ** 2 * w).sum(1) * scale
    deviation = torch.sqrt(variance + 1e-6)
    return torch.cat([mean, deviation, total / views, total.clamp(max=1.0)], 1)


def expectation(logits: Tensor, points: Tensor) -> Tensor:
    """Soft-argmax: softmax over the voxels, expected position (TEMPEH section 3.1).

    Args:
        logits: (B, N, P), float32.
        points: (P, 3) voxel positions.

    Returns:
        (B, N, 3).
    """
    return torch.softmax(as_float32(logits), -1) @ points
