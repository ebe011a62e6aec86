"""Closest points of a triangle mesh: found exactly in numpy, differentiated in torch.

Which triangle is nearest, and where on it, is found without gradients; the distance to that fixed combination of the
three corners has the gradient of the true distance, because the closest point is already the best one. (The release
projects onto the plane of the triangle without clamping, which shortens distances beside edges; here they are exact.)
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.errors import MissingExtra
from streamer.types import F32, F64, I32

FACTOR = 4
"""Each round looks at so many times the triangles of the one before."""
MOST = 1024
"""Triangles per point after which all of a group are looked at."""


def closest_on_triangles(points: F64, corners: F64) -> F64:
    """Barycentric weights of the closest point, pair by pair: of face and edges the nearest (Ericson 2005, 5.1.5).

    Args:
        points: (M, 3).
        corners: (M, 3, 3) of triangles, which may be degenerate.

    Returns:
        (M, 3) weights, none negative, summing to 1.
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    d11, d12, d22 = (np.einsum("mi,mi->m", x, y) for x, y in ((ab, ab), (ab, ac), (ac, ac)))
    p1, p2 = np.einsum("mi,mi->m", ap, ab), np.einsum("mi,mi->m", ap, ac)
    area = d11 * d22 - d12 * d12
    flat = area <= 1e-18 * np.maximum(d11 * d22, 1e-300)
    safe = np.where(flat, 1.0, area)
    v, w = (d22 * p1 - d12 * p2) / safe, (d11 * p2 - d12 * p1) / safe
    best = np.stack([1 - v - w, v, w], 1)
    within = ~flat & (best >= 0).all(1)
    inner = ((points - np.einsum("mk,mki->mi", best, corners)) ** 2).sum(1)
    nearest = np.where(within, inner, np.inf)  # of a triangle that is hardly one, an edge may still be nearer
    for first, second in ((0, 1), (1, 2), (2, 0)):
        origin, along = corners[:, first], corners[:, second] - corners[:, first]
        length = np.einsum("mi,mi->m", along, along)
        t = np.einsum("mi,mi->m", points - origin, along) / np.where(length > 0, length, 1.0)
        t = np.clip(t, 0.0, 1.0)
        distance = ((points - origin - t[:, None] * along) ** 2).sum(1)
        better = distance < nearest
        nearest = np.where(better, distance, nearest)
        weights = np.zeros_like(best)
        weights[:, first], weights[:, second] = 1 - t, t
        best[better] = weights[better]
    return best


def closest_points(points: NDArray[np.floating], vertices: NDArray[np.floating], triangles: I32) -> tuple[I32, F32]:
    """Exactly nearest place of a mesh for every point.

    A triangle is no nearer to a point than its box's centre less its radius: those with the nearest centres are tested,
    and where another could still be nearer, more of them. Triangles are grouped by size, so that a few large ones do
    not loosen the bound for all.

    Args:
        points: (P, 3).
        vertices: (N, 3).
        triangles: (T, 3), T >= 1.

    Returns:
        (P,) triangle, and (P, 3) barycentric weights there.

    Raises:
        MissingExtra: scipy is not installed.
    """
    try:
        from scipy.spatial import cKDTree  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("scipy", "train") from error
    where, corners = np.asarray(points, np.float64), np.asarray(vertices, np.float64)[triangles]
    centres = (corners.min(1) + corners.max(1)) / 2
    radii = np.linalg.norm(corners - centres[:, None], axis=2).max(1)
    sizes = np.floor(np.log2(np.maximum(radii, 1e-12))).astype(int)
    found = _Nearest(np.full(len(where), np.inf), np.zeros(len(where), np.int32), np.zeros((len(where), 3)))
    for size in np.unique(sizes):
        group = np.flatnonzero(sizes == size)
        _improve(found, where, corners, group, cKDTree(centres[group]), float(radii[group].max()))
    return found.triangle, found.weights.astype(np.float32)


class _Nearest:
    """The best so far."""

    def __init__(self, distance: F64, triangle: I32, weights: F64) -> None:
        self.distance, self.triangle, self.weights = distance, triangle, weights


def _improve(found: _Nearest, points: F64, corners: F64, group: NDArray[np.intp], tree: Any, radius: float) -> None:
    """Take in one group of triangles."""
    still, tested, k = np.arange(len(points)), 0, 1
    while still.size:
        reach, index = tree.query(points[still], k=np.arange(tested + 1, k + 1))
        row, column = np.nonzero(reach - radius < found.distance[still, None])  # the others cannot be nearer
        point, triangle = still[row], group[index[row, column]]
        weights = closest_on_triangles(points[point], corners[triangle])
        distance = np.linalg.norm(points[point] - np.einsum("mk,mki->mi", weights, corners[triangle]), axis=1)
        order = np.lexsort((distance, point))
        first = order[np.unique(point[order], return_index=True)[1]]
        first = first[distance[first] < found.distance[point[first]]]
        found.distance[point[first]] = distance[first]
        found.triangle[point[first]] = triangle[first]
        found.weights[point[first]] = weights[first]
        if k == len(group):
            return
        still = still[reach[:, -1] - radius < found.distance[still]]
        tested, k = k, min(FACTOR * k, len(group)) if k < MOST else len(group)


def surface_distance(points: Tensor, vertices: Tensor, triangles: Tensor) -> Tensor:
    """Distance (P,) of points (P, 3) to the mesh of vertices (N, 3), differentiable in the vertices."""
    index, weights = closest_points(
        points.detach().cpu().numpy(), vertices.detach().float().cpu().numpy(), triangles.cpu().numpy()
    )
    corners = vertices[triangles[torch.from_numpy(index).to(triangles.device).long()].long()]
    place = (torch.from_numpy(weights).to(vertices)[:, :, None] * corners).sum(1)
    return (points - place).square().sum(-1).clamp(min=1e-16).sqrt()
