"""Little pieces of skin, found again in every view: where a tracked head tells which pixels belong together.

The mesh says where a piece of the surface lies in each picture, to a millimetre or two. The pictures say it to a
fraction of a pixel: the piece is looked up in one view and searched in the others. What the search finds does not
depend on how good the mesh is, so it can tell a moved camera from a bad mesh.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.geometry import project, vertex_normals
from streamer.types import F32, F64, I32, U8, Camera

HALF_MM = 7.5
"""Half the edge of a piece."""
SAMPLES = 21
"""Samples along its edge."""
SEARCH = 10
"""How far a piece is searched, in samples: 7.5 mm."""
FACING = 0.4
"""Cosine between normal and view from which a view counts."""
BEHIND_M = 0.012
"""A vertex this far behind the nearest surface is hidden."""
CELL_PX = 8
MIN_CORRELATION = 0.75
MIN_CONTRAST = 2.5
"""Standard deviation of grey levels below which a piece has no face of its own."""
SMOOTH_PX = 1.0
REFINEMENTS = 4
PIECES = 350


@dataclass(frozen=True, slots=True)
class Tracks:
    """Pieces of surface seen by two views or more; rows of one piece share `piece`."""

    piece: NDArray[np.int64]
    """(R,) index of the piece."""
    camera: NDArray[np.int64]
    """(R,) index of the camera."""
    points: F64
    """(R, 3) the piece's middle as the mesh has it, metres, world."""
    offset: F64
    """(R, 2) where the picture has it, less where the camera should see it, px; 0 in the view it was taken from."""
    information: F64
    """(R, 2, 2) of the offset, 1 / px²."""
    correlation: F64
    """(R,) with the view it was taken from."""


def find_tracks(cameras: tuple[Camera, ...], pictures: Mapping[str, U8], vertices: F32, triangles: I32) -> Tracks:
    """Find pieces of a head again in all views of one instant.

    Args:
        cameras: the rig as it is calibrated.
        pictures: camera id to (H, W) grey of the calibrated size.
        vertices: (N, 3) metres, world.
        triangles: (T, 3).
    """
    normals = vertex_normals(vertices, triangles).astype(np.float64)
    chosen = np.linspace(0, len(vertices) - 1, min(PIECES * 3, len(vertices))).astype(int)
    facing = np.stack([_facing(c, pictures, vertices, normals) for c in cameras])[:, chosen]
    seen = facing > FACING
    useful = seen.sum(0) >= 2
    chosen, facing, seen = chosen[useful], facing[:, useful], seen[:, useful]
    middle, normal = vertices[chosen].astype(np.float64), normals[chosen]
    across = _tangents(normal)
    smooth = {name: _smooth(p) for name, p in pictures.items()}
    taken_from = facing.argmax(0)
    templates = np.zeros((len(chosen), SAMPLES, SAMPLES), np.float32)
    for index, camera in enumerate(cameras):
        mine = np.flatnonzero(taken_from == index)
        if len(mine):
            templates[mine] = _sample(camera, smooth[camera.id], middle[mine], across[mine], _grid(SAMPLES))
    contrast = templates.std((1, 2))
    keep = np.flatnonzero(contrast > MIN_CONTRAST)
    keep = keep[np.argsort(-contrast[keep], kind="stable")[:PIECES]]
    parts = [_anchor(cameras, taken_from, middle, keep)]
    for index, camera in enumerate(cameras):
        mine = keep[seen[index, keep] & (taken_from[keep] != index)]
        if len(mine):
            strips = _sample(camera, smooth[camera.id], middle[mine], across[mine], _grid(SAMPLES + 2 * SEARCH))
            found = _search(strips, templates[mine])
            parts.append(_measure(index, camera, smooth[camera.id], mine, middle, across, templates, found))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return _with_company(Tracks(*columns))


def _smooth(picture: U8) -> F32:
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), SMOOTH_PX), np.float32)


def _facing(camera: Camera, pictures: Mapping[str, U8], vertices: F32, normals: F64) -> F64:
    """Return (N,) the cosine to the view, -1 where a vertex is hidden or outside or the view has no picture."""
    if camera.id not in pictures:
        return np.full(len(vertices), -1.0)
    pixels, depth = project(camera, vertices)
    way = camera.centre_world - vertices
    cosine = np.einsum("ni,ni->n", way, normals) / np.linalg.norm(way, axis=1)
    margin = 12.0
    inside = (
        (depth > 1e-3) & (pixels > margin).all(1) & (pixels < [camera.width - margin, camera.height - margin]).all(1)
    )
    columns, rows = camera.width // CELL_PX + 1, camera.height // CELL_PX + 1
    cell = np.where(inside, (np.nan_to_num(pixels) // CELL_PX).astype(int) @ [1, columns], 0)
    nearest = np.full(columns * rows, np.inf)
    np.minimum.at(nearest, cell[inside], depth[inside])
    return np.where(inside & (depth < nearest[cell] + BEHIND_M), cosine, -1.0)


def _tangents(normal: F64) -> F64:
    """Return two unit vectors (P, 2, 3) along the surface."""
    up = np.where(np.abs(normal[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    first = np.cross(up, normal)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(first, normal)], 1)


def _grid(count: int) -> F64:
    """Return (count, count, 2) places of samples along the two tangents, metres."""
    step = 2 * HALF_MM / 1000 / (SAMPLES - 1)
    line = (np.arange(count) - (count - 1) / 2) * step
    return np.stack(np.meshgrid(line, line), -1)


def _sample(camera: Camera, smooth: F32, middle: F64, across: F64, grid: F64) -> F32:
    """Return the picture (P, n, n) at a grid (n, n, 2) or (P, n, n, 2) on the tangent planes of pieces."""
    where = np.broadcast_to(grid, (len(middle), *grid.shape[-3:]))
    points = middle[:, None, None] + where @ across[:, None]  # an einsum takes three times as long
    pixels, _ = project(camera, points)
    flat = np.nan_to_num(pixels, nan=-1e3).astype(np.float32).reshape(len(middle), -1, 2)
    values = cv2.remap(smooth, flat[..., 0], flat[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values, np.float32).reshape(where.shape[:-1])


def _search(strips: F32, templates: F32) -> F64:
    """Return (P, 3): best shift in samples along the two tangents, and its correlation."""
    found = np.empty((len(strips), 3))
    for row, (strip, template) in enumerate(zip(strips, templates, strict=True)):
        score = cv2.matchTemplate(strip, template, cv2.TM_CCOEFF_NORMED)
        _, best, _, (x, y) = cv2.minMaxLoc(score)
        found[row] = x - SEARCH, y - SEARCH, best
    return found


def _anchor(
    cameras: tuple[Camera, ...], taken_from: NDArray[np.int64], middle: F64, keep: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], F64, F64, F64, F64]:
    """Return the rows of the views that the pieces were taken from: exact by definition."""
    count = len(keep)
    exact = np.tile(np.eye(2) * 100.0, (count, 1, 1))
    return keep, taken_from[keep], middle[keep], np.zeros((count, 2)), exact, np.ones(count)


def _measure(
    index: int,
    camera: Camera,
    smooth: F32,
    mine: NDArray[np.int64],
    middle: F64,
    across: F64,
    templates: F32,
    found: F64,
) -> tuple[NDArray[np.int64], NDArray[np.int64], F64, F64, F64, F64]:
    """Refine the shifts to fractions of a sample (Lucas and Kanade), and turn them into pixels."""
    step = 2 * HALF_MM / 1000 / (SAMPLES - 1)
    good = (found[:, 2] > MIN_CORRELATION) & (np.abs(found[:, :2]).max(1) < SEARCH)
    mine, shift = mine[good], found[good, :2] * step
    centre, tangent = middle[mine], across[mine]
    wanted = _levelled(templates[mine])
    down, right = np.gradient(wanted, step, axis=(1, 2))
    slope = np.stack([right, down], -1).reshape(len(mine), -1, 2)
    tensor = slope.transpose(0, 2, 1) @ slope
    damped = tensor + np.eye(2) * (1e-3 * np.trace(tensor, axis1=1, axis2=2) + 1e-9)[:, None, None]
    start, left = shift.copy(), np.zeros((len(mine), SAMPLES * SAMPLES))
    for _ in range(REFINEMENTS):
        seen = _levelled(_sample(camera, smooth, centre, tangent, _grid(SAMPLES)[None] + shift[:, None, None]))
        left = (wanted - seen).reshape(len(mine), -1)
        change = np.linalg.solve(damped, np.einsum("psk,ps->pk", slope, left)[..., None])[..., 0]
        shift = shift + np.clip(change, -step, step)
    stayed = np.abs(shift - start).max(1) < 2.5 * step if len(mine) else np.zeros(0, bool)
    place = centre + np.einsum("pk,pki->pi", shift, tangent)
    expected, _ = project(camera, centre)
    seen_at, _ = project(camera, place)
    noise = np.maximum(left.var(1), 1e-4) * CORRELATED
    by_shift = np.stack([(project(camera, place + 1e-4 * tangent[:, k])[0] - seen_at) / 1e-4 for k in range(2)], -1)
    back = np.linalg.inv(by_shift) if len(mine) else by_shift
    information = back.transpose(0, 2, 1) @ (tensor / noise[:, None, None]) @ back
    rows = stayed & np.isfinite(seen_at).all(1)
    return (
        mine[rows],
        np.full(int(rows.sum()), index),
        centre[rows],
        (seen_at - expected)[rows],
        information[rows],
        found[good, 2][rows],
    )


CORRELATED = 12.0
"""Samples that err together: pictures are smoothed, light moves with the view."""


def _levelled(patches: F32) -> F64:
    """Return patches (P, n, n) with mean 0 and deviation 1: gain and offset of a camera do not matter."""
    flat = patches.astype(np.float64)
    flat -= flat.mean((1, 2), keepdims=True)
    return np.asarray(flat / np.maximum(flat.std((1, 2), keepdims=True), 1e-3), np.float64)


def _with_company(tracks: Tracks) -> Tracks:
    """Leave out pieces that only one view has."""
    count = np.bincount(tracks.piece)
    rows = count[tracks.piece] >= 2
    return Tracks(*(getattr(tracks, name)[rows] for name in Tracks.__slots__))
