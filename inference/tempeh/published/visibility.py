"""Which vertices a view sees, by a depth picture: the published rule, without its CUDA rasteriser. Numpy only.

Per view the mesh is drawn into 200 x 200 pixels around its own outline, with depth normalised to 0..1 between the whole
millimetres before and behind it. A vertex is seen where its depth is within 0.003 of the picture's, read bilinearly.

The rasteriser's rules are those of kaolin (`kaolin.render.mesh.rasterize`, Apache-2.0; rules read, no code taken):
pixel centres at (2 i + 1 - 200) / 200, both facings drawn, half-open boxes, barycentric weights affine in the picture,
coordinates times 1000 and 1e-8 in the denominator, all in float32. Lens distortion is ignored, as published.
"""

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelError
from streamer.types import F32, I32, U8

SIDE = 200
"""Pixels along an edge of the depth picture."""
BIAS = np.float32(0.003)
"""How far behind the picture's depth a vertex may lie, of the normalised depth."""
MULTIPLIER = np.float32(1000.0)
EPSILON = np.float32(1e-8)
BATCH = 2_000_000
"""Pairs of a triangle and a pixel that are weighed at one time."""


def visibility(vertices: F32, triangles: I32, K: F32, camera_from_world: F32) -> U8:
    """Find what every view sees.

    Args:
        vertices: (N, 3) world, mm.
        triangles: (T, 3).
        K: (V, 3, 3) px.
        camera_from_world: (V, 3, 4) mm.

    Returns:
        (V, N) 1 where the view sees the vertex, else 0.

    Raises:
        ModelError: vertices that are not finite or project onto one point.
    """
    return np.stack([_view(vertices, triangles, k, t) for k, t in zip(K, camera_from_world, strict=True)])


def _view(vertices: F32, triangles: I32, K: F32, camera_from_world: F32) -> U8:
    place, depth = outline(vertices, K, camera_from_world)
    picture = depth_picture(place, depth, triangles)
    return np.asarray(depth - BIAS <= np.float32(1) - read_picture(picture, place), np.uint8)


def outline(vertices: F32, K: F32, camera_from_world: F32) -> tuple[F32, F32]:
    """Place and depth of the vertices in the depth picture.

    Returns:
        (N, 2) in -1..1, y down, and (N,) normalised depth in 0..1, 0 nearest.

    Raises:
        ModelError: see `visibility`.
    """
    local = vertices.astype(np.float32) @ camera_from_world[:, :3].astype(np.float32).T
    local = local + camera_from_world[:, 3].astype(np.float32)
    z = local[:, 2]
    safe = np.where(np.abs(z) < 1e-7, np.float32(1), z)
    pixel = (local / safe[:, None]) @ K.astype(np.float32).T
    if not np.isfinite(pixel).all():
        raise ModelError("vertices are not finite where visibility is asked for; the coarse stage gave nonsense")
    near = np.floor(z.min())
    far = max(np.ceil(z.max()), near + np.float32(1))
    low, high = np.floor(pixel[:, :2].min(0)), np.ceil(pixel[:, :2].max(0))
    extent = (high - low).max()
    if not extent > 0:
        raise ModelError("all vertices project onto one point; a mesh without extent has no visibility")
    place = (pixel[:, :2] - (low + high) * np.float32(0.5)) * (np.float32(2) / extent)
    return np.asarray(place, np.float32), np.asarray((z - near) / (far - near), np.float32)


def depth_picture(place: F32, depth: F32, triangles: I32) -> F32:
    """Draw 1 - depth of the nearest triangle into (SIDE, SIDE), row 0 at the top; 0 where there is none.

    Args:
        place: (N, 2) in -1..1, y down.
        depth: (N,) normalised.
        triangles: (T, 3).
    """
    upright = place * np.array([1, -1], np.float32) * MULTIPLIER
    corners, height = upright[triangles], np.float32(1) - depth[triangles]
    picture = np.zeros(SIDE * SIDE, np.float32)
    first, count = _boxes(corners)
    pairs = np.cumsum(count.prod(1))
    begin = 0
    while begin < len(triangles):
        done = pairs[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(pairs, done + BATCH, "right")))
        part = slice(begin, end)
        _draw(picture, corners[part], height[part], first[part], count[part])
        begin = end
    return picture.reshape(SIDE, SIDE)


def _centres(index: NDArray[np.int64], axis: int) -> F32:
    """Pixel centres times the multiplier: columns to the right (axis 0), rows from the top, y up (axis 1)."""
    odd = 2 * index + 1 - SIDE if axis == 0 else SIDE - 2 * index - 1
    return np.asarray(odd.astype(np.float32) * (MULTIPLIER / np.float32(SIDE)), np.float32)


def _boxes(corners: F32) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First column and row (T, 2), and numbers of columns and rows (T, 2), that may lie in each triangle's box."""
    low, high = corners.min(1).astype(np.float64), corners.max(1).astype(np.float64)
    low, high = (np.stack([c[:, 0], c[:, 1]], 1) for c in (low, high))
    left = np.stack([low[:, 0], -high[:, 1]], 1)
    right = np.stack([high[:, 0], -low[:, 1]], 1)
    half = SIDE / 2
    # a pixel more on each side: `_draw` decides, in float32 and with the half-open rule
    first = np.clip(np.floor(left / 1000.0 * half + half - 0.5), 0, SIDE - 1).astype(np.int64)
    last = np.clip(np.ceil(right / 1000.0 * half + half - 0.5), 0, SIDE - 1).astype(np.int64)
    return first, last - first + 1


def _draw(picture: F32, corners: F32, height: F32, first: NDArray[np.int64], count: NDArray[np.int64]) -> None:
    """Draw triangles into the flat picture, keeping what is higher."""
    per = count.prod(1)
    owner = np.repeat(np.arange(len(corners)), per)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(per) - per, per)
    column = first[owner, 0] + step % count[owner, 0]
    row = first[owner, 1] + step // count[owner, 0]
    x, y = _centres(column, 0), _centres(row, 1)
    low, high = corners.min(1), corners.max(1)
    boxed = (x >= low[owner, 0]) & (x < high[owner, 0]) & (y >= low[owner, 1]) & (y < high[owner, 1])
    owner, column, row, x, y = owner[boxed], column[boxed], row[boxed], x[boxed], y[boxed]
    a, b, c = corners[owner, 0], corners[owner, 1], corners[owner, 2]
    (m, p), (n, q) = (b - a).T, (c - a).T
    s, t = x - a[:, 0], y - a[:, 1]
    area = m * q - n * p + EPSILON
    w1, w2 = (s * q - n * t) / area, (m * t - s * p) / area
    w0 = np.float32(1) - w1 - w2
    covered = (w0 >= 0) & (w1 >= 0) & (w2 >= 0)
    shown = height[owner]
    value = w0 * shown[:, 0] + w1 * shown[:, 1] + w2 * shown[:, 2]
    np.maximum.at(picture, (row * SIDE + column)[covered], value[covered])


def read_picture(picture: F32, place: F32) -> F32:
    """Bilinear reading at (N, 2) in -1..1, y down; outside is 0. The picture's edges are at -1 and 1."""
    position = ((place + np.float32(1)) * np.float32(SIDE) - np.float32(1)) * np.float32(0.5)
    base = np.floor(position)
    part = position - base
    column, row = base.astype(np.int64).T
    padded = np.pad(picture, 1)
    column, row = np.clip(column, -1, SIDE - 1) + 1, np.clip(row, -1, SIDE - 1) + 1
    fx, fy = part.T
    top = padded[row, column] * (1 - fx) + padded[row, column + 1] * fx
    bottom = padded[row + 1, column] * (1 - fx) + padded[row + 1, column + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy, np.float32)
