"""How high the surface lies, read from the pictures themselves: small patches slid along the normal until views agree.

A correspondence map knows where on the template a pixel is, to two or three millimetres, and errs alike in all views.
What it cannot see, two pictures of the same skin can: at the right height the same pores are seen by both. TEMPEH's
local volumes learn this; here it is a normalised cross-correlation over all pairs of views. Numpy and OpenCV, lengths
in millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.tempeh.frames import Views, project_all
from inference.tempeh.seen import seen
from streamer.types import F32, I32, U8

FACING = 0.25
"""Cosine between normal and ray from which a view's patch is used: more oblique ones are too short."""
PATCH = 2
"""A patch has 2 PATCH + 1 samples a side."""
FINEST_MM, COARSEST_MM, PER_PIXEL = 1.3, 4.0, 1.1
"""Distance of samples: so many pixels, within these bounds."""
BLUR_PX = 0.4
"""Pictures are smoothed by this before they are sampled."""
NOISE_DN = 2.0
"""Contrast of a patch, grey levels, at which it counts half: less is noise."""
LEAST_PAIRS = 0.05
"""Weight of the pairs of views below which nothing is read."""
LEAST_AGREEMENT = 0.2
"""Correlation below which nothing is read."""
SHARPNESS = 30.0
"""Certainty of a height per curvature of the correlation over the height."""


@dataclass(frozen=True, slots=True)
class Heights:
    """Where the surface seems to lie."""

    height: F32
    """(N,) along the normal from where it was looked for."""
    certainty: F32
    """(N,) inverse square millimetres; 0 where nothing could be read."""


def grey_pictures(pictures: U8) -> list[F32]:
    """Pictures (V, H, W, 3) as `read_heights` takes them."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    return [np.asarray(cv2.GaussianBlur(one, (0, 0), BLUR_PX), np.float32) for one in grey]


def read_heights(
    vertices: F32,
    normals: F32,
    triangles: I32,
    where: I32,
    views: Views,
    grey: Sequence[F32],
    present: F32,
    reach_step: tuple[float, float],
) -> Heights:
    """Slide patches along the normals.

    Args:
        vertices: (N, 3) in the views' frame.
        normals: (N, 3).
        triangles: (T, 3).
        where: indices of the vertices that are looked at; the others get no certainty.
        views: V views of whole pictures.
        grey: V pictures of `grey_pictures`.
        present: (V,) 1 where a view exists.
        reach_step: how far up and down, and in what steps.
    """
    reach, step = reach_step
    offsets = np.arange(-reach, reach + step / 2, step, dtype=np.float32)
    agreement, pairs = _agreement(vertices, normals, triangles, where, views, grey, present, offsets)
    best = agreement.argmax(1)
    inner = np.clip(best, 1, len(offsets) - 2)
    rows = np.arange(len(where))
    below, at, above = (agreement[rows, inner + k] for k in (-1, 0, 1))
    curvature = np.maximum(2 * at - below - above, 1e-6)
    height = offsets[inner] + np.clip((above - below) / (2 * curvature), -1, 1) * step
    known = (best == inner) & (at > LEAST_AGREEMENT) & (pairs > LEAST_PAIRS)
    heights, certainty = np.zeros(len(vertices), np.float32), np.zeros(len(vertices), np.float32)
    heights[where] = height
    certainty[where] = np.where(known, SHARPNESS * curvature / step**2 * np.clip(at, 0, 1), 0)
    return Heights(heights, certainty)


def _agreement(
    vertices: F32,
    normals: F32,
    triangles: I32,
    where: I32,
    views: Views,
    grey: Sequence[F32],
    present: F32,
    offsets: F32,
) -> tuple[F32, F32]:
    """Mean correlation of all pairs of views (M, O) by height, and the weight of the pairs (M,)."""
    centres = -np.einsum("vij,vi->vj", views.camera_from_a[:, :, :3], views.camera_from_a[:, :, 3])
    x, n = vertices[where], normals[where]
    ray = x - centres[:, None].astype(np.float32)
    facing = -np.einsum("vmi,mi->vm", ray, n) / np.linalg.norm(ray, axis=2)
    shown = seen(vertices, triangles, views)[:, where] & (facing > FACING) & (present > 0)[:, None]
    pixels, slope = _linear(views, x)
    patch = _patch(n, _spacing(slope, shown))
    total = np.zeros((len(where), len(offsets), patch.shape[1]), np.float32)
    weight, square = np.zeros(len(where), np.float32), np.zeros(len(where), np.float32)
    for view in np.flatnonzero(shown.any(1)).tolist():
        rows = np.flatnonzero(shown[view])
        across = np.einsum("mij,mpj->mpi", slope[view, rows], patch[rows])
        along = np.einsum("mij,mj->mi", slope[view, rows], n[rows])
        spots = pixels[view, rows][:, None, None] + offsets[None, :, None, None] * along[:, None, None]
        spots = (spots + across[:, None]).reshape(len(rows), -1, 2)
        values = cv2.remap(grey[view], spots[..., 0], spots[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        w = facing[view, rows]
        patches = np.asarray(values, np.float32).reshape(len(rows), len(offsets), -1)
        total[rows] += w[:, None, None] * _normalised(patches)
        weight[rows] += w
        square[rows] += w * w
    # sum over all pairs a != b of w_a w_b <p_a, p_b>, without going through the pairs
    pairs = weight**2 - square
    crossed = (total**2).sum(2) - square[:, None]
    return (crossed / np.maximum(pairs, 1e-6)[:, None]).astype(np.float32), pairs


def _normalised(values: F32) -> F32:
    """Patches (M, O, P) without mean and contrast; faint ones are shorter than 1."""
    values = values - values.mean(2, keepdims=True)
    length = np.sqrt((values**2).sum(2, keepdims=True))
    return np.asarray(values / (length + NOISE_DN * np.sqrt(values.shape[2]) + 1e-6), np.float32)


def _linear(views: Views, x: F32) -> tuple[F32, F32]:
    """Pixels (V, M, 2) of points and their derivatives (V, M, 2, 3): over a patch a projection is linear."""
    shifts = [np.float32(1.0) * axis for axis in np.eye(3, dtype=np.float32)]
    slope = [(project_all(views, x + shift) - project_all(views, x - shift)) / 2 for shift in shifts]
    return project_all(views, x), np.stack(slope, -1)


def _spacing(slope: F32, shown: NDArray[np.bool_]) -> float:
    """Distance of a patch's samples for pictures of this scale."""
    if not shown.any():
        return FINEST_MM
    pixels_per_mm = float(np.median(np.sqrt((slope[shown] ** 2).sum((1, 2)) / 2)))
    return float(np.clip(PER_PIXEL / max(pixels_per_mm, 1e-3), FINEST_MM, COARSEST_MM))


def _patch(normals: F32, spacing: float) -> F32:
    """Points (M, P, 3) around the origin, across the normals."""
    axis = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(normals, axis)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normals, first)
    k = np.arange(-PATCH, PATCH + 1) * spacing
    a, b = (grid.ravel()[None, :, None] for grid in np.meshgrid(k, k))
    return np.asarray(a * first[:, None] + b * second[:, None], np.float32)
