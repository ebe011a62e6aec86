"""Rays to packed samples: equal steps through the occupied cells of the box."""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1 << 21
"""Candidates tested at once."""


@dataclass(frozen=True)
class Samples:
    """Samples of many rays, one ray after the other."""

    ray: Tensor
    """(n,) int64 ray of each sample, ascending."""
    first: Tensor
    """(n,) int64 index of the first sample of the same ray."""
    depth: Tensor
    """(n,) distance from the origin along the ray, metres; the middle of the step."""
    points: Tensor
    """(n, 3) box units."""
    counts: Tensor
    """(r,) int64 samples of each ray."""


def enter_and_leave(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (r,) distances at which rays enter and leave the unit cube; leave < enter for those that miss it.

    Args:
        origins: (r, 3) box units.
        directions: (r, 3) any length; distances are in units of it.
    """
    tiny = torch.where(directions >= 0, 1e-12, -1e-12)
    inverse = 1 / torch.where(directions.abs() < 1e-12, tiny, directions)
    a, b = -origins * inverse, (1 - origins) * inverse
    near = torch.minimum(a, b).amax(1).clamp_min(0)
    far = torch.maximum(a, b).amin(1)
    return near, far


def march(
    origins: Tensor,
    directions: Tensor,
    occupied: Tensor,
    step_m: float,
    box_m: float,
    jitter: Tensor,
    ends: Tensor | None = None,
) -> Samples:
    """Sample rays where the box is occupied.

    Args:
        origins: (r, 3) box units.
        directions: (r, 3) unit vectors.
        occupied: (cells, cells, cells) bool, x first.
        step_m: distance of samples, metres.
        box_m: edge of the box, metres.
        jitter: (r,) in 0..1, where in its first step a ray begins.
        ends: (r,) metres along the rays, behind which nothing is sampled; None: rays end where they leave the box.

    Returns:
        The samples; their middles are multiples of the step, shifted by the jitter, from where the ray enters.
    """
    near, far = enter_and_leave(origins, directions / box_m)
    if ends is not None:
        far = torch.minimum(far, ends)
    most = int(torch.ceil((far - near).clamp_min(0).max() / step_m)) if len(near) else 0
    rays_at_once = max(1, CHUNK // max(most, 1))
    cells = occupied.shape[0]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    counts: list[Tensor] = []
    flat = occupied.reshape(-1)
    for begin in range(0, len(origins), rays_at_once):
        part = slice(begin, begin + rays_at_once)
        steps = torch.arange(most, device=origins.device) + jitter[part, None]
        depth = near[part, None] + steps * step_m
        points = origins[part, None] + directions[part, None] / box_m * depth[..., None]
        cell = (points * cells).long().clamp_(0, cells - 1)
        index = (cell[..., 0] * cells + cell[..., 1]) * cells + cell[..., 2]
        keep = flat[index] & (depth < far[part, None])
        ray, column = keep.nonzero(as_tuple=True)
        parts.append((ray + begin, depth[ray, column], points[ray, column]))
        counts.append(keep.sum(1))
    if not parts:
        empty = torch.zeros(0, dtype=torch.int64, device=origins.device)
        return Samples(empty, empty, origins.new_zeros(0), origins.new_zeros(0, 3), empty)
    ray, depth, points = (torch.cat([part[i] for part in parts]) for i in range(3))
    count = torch.cat(counts)
    starts = count.cumsum(0) - count
    return Samples(ray, starts[ray], depth, points, count)
