"""How far a mesh is from another one: exact point-to-surface distances, vertex distances by region, jitter. Pure.

Distances are in the unit of the points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import MissingExtra
from streamer.types import F64, I32

Points = NDArray[np.floating]

FIRST_CANDIDATES = 8
"""Triangles looked at per point before the bound is tested; three in four points need no more."""


def triangle_distance(points: F64, a: F64, b: F64, c: F64) -> F64:
    """Distance of points to triangles, pair by pair (closest point by regions, Ericson 2005, section 5.1.5).

    Args:
        points: (M, 3).
        a: (M, 3) first corners.
        b: (M, 3) second corners.
        c: (M, 3) third corners; triangles may be degenerate.

    Returns:
        (M,) distances.
    """
    ab, ac, ap = b - a, c - a, points - a
    normal = np.cross(ab, ac)
    area = np.einsum("mi,mi->m", normal, normal)
    flat = area <= 1e-24
    safe = np.where(flat, 1.0, area)
    v = np.einsum("mi,mi->m", np.cross(ap, ac), normal) / safe
    w = np.einsum("mi,mi->m", np.cross(ab, ap), normal) / safe
    inside = ~flat & (v >= 0) & (w >= 0) & (v + w <= 1)
    height = np.abs(np.einsum("mi,mi->m", ap, normal)) / np.sqrt(safe)
    edges = np.minimum(np.minimum(_segment(points, a, b), _segment(points, b, c)), _segment(points, c, a))
    return np.where(inside, height, edges)


def _segment(points: F64, a: F64, b: F64) -> F64:
    along = b - a
    length = np.einsum("mi,mi->m", along, along)
    t = np.einsum("mi,mi->m", points - a, along) / np.where(length > 0, length, 1.0)
    return np.asarray(np.linalg.norm(points - a - np.clip(t, 0.0, 1.0)[:, None] * along, axis=1), np.float64)


def point_to_surface(points: Points, vertices: Points, triangles: I32) -> F64:
    """Exact distance of points to a triangle mesh.

    A triangle is no nearer to a point than its circle's centre less its radius. So the k triangles with the nearest
    centres are tested exactly, and where the next one could still be nearer, k is doubled. Triangles are grouped by
    size, so that a few large ones do not loosen the bound for all.

    Args:
        points: (P, 3).
        vertices: (N, 3).
        triangles: (T, 3), T >= 1.

    Returns:
        (P,) float64 distances, >= 0.

    Raises:
        MissingExtra: scipy is not installed.
    """
    try:
        from scipy.spatial import cKDTree  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("scipy", "train") from error
    where = np.asarray(points, np.float64)
    corners = np.asarray(vertices, np.float64)[triangles]
    centres = (corners.min(1) + corners.max(1)) / 2
    radii = np.linalg.norm(corners - centres[:, None], axis=2).max(1)
    sizes = np.floor(np.log2(np.maximum(radii, 1e-12))).astype(int)
    best = np.full(len(where), np.inf)
    for size in np.unique(sizes):
        group = corners[sizes == size]
        _improve(best, where, group, cKDTree(centres[sizes == size]), float(radii[sizes == size].max()))
    return best


def _improve(best: F64, points: F64, group: F64, tree: Any, radius: float) -> None:
    """Lower `best` (P,) to the distances to the triangles of one group (G, 3, 3), in place."""
    open_points = np.arange(len(points))
    k = min(FIRST_CANDIDATES, len(group))
    while open_points.size:
        reach, index = tree.query(points[open_points], k=np.arange(1, k + 1))
        corners = group[index.ravel()]
        repeated = np.repeat(points[open_points], k, axis=0)
        found = triangle_distance(repeated, corners[:, 0], corners[:, 1], corners[:, 2]).reshape(-1, k).min(1)
        best[open_points] = np.minimum(best[open_points], found)
        if k == len(group):
            return
        open_points = open_points[reach[:, -1] - radius < best[open_points]]
        k = min(2 * k, len(group))


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, mean and 90th percentile of distances, mm; NaN where there are none."""

    median_mm: float
    """Half of the distances are below."""
    mean_mm: float
    """Average."""
    p90_mm: float
    """Nine tenths are below."""


def summarise(distances_mm: Sequence[Points]) -> Summary:
    """Summarise the distances of many meshes, all points alike."""
    values = np.concatenate([np.ravel(d) for d in distances_mm]) if distances_mm else np.empty(0)
    if not values.size:
        return Summary(float("nan"), float("nan"), float("nan"))
    return Summary(float(np.median(values)), float(np.mean(values)), float(np.percentile(values, 90)))


def regions_of(regions: Mapping[str, I32], vertex_count: int) -> dict[str, I32]:
    """Return the regions to report: `head` (all vertices, unless named otherwise) and those that hold any."""
    every: dict[str, I32] = {"head": np.arange(vertex_count, dtype=np.int32)}
    return every | {name: indices for name, indices in regions.items() if indices.size}


def jitter_mm(frame_ids: Sequence[int], errors_mm: Sequence[Points]) -> float | None:
    """How much the error shakes from frame to frame: motion that the truth makes too does not count.

    Args:
        frame_ids: of the meshes, rising.
        errors_mm: per mesh (N, 3) vertices minus their truth, mm.

    Returns:
        Median over vertices and frames of |e(t) - (e(t-1) + e(t+1)) / 2|, mm; None without three frames in a row.
    """
    shakes = [
        np.linalg.norm(errors_mm[i] - (errors_mm[i - 1] + errors_mm[i + 1]) / 2, axis=1)
        for i in range(1, len(frame_ids) - 1)
        if frame_ids[i] - frame_ids[i - 1] == 1 == frame_ids[i + 1] - frame_ids[i]
    ]
    return float(np.median(np.concatenate(shakes))) if shakes else None
