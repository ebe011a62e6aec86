"""The visual hull of the person from mattes: where a field can hold anything at all (Laurentini, IEEE TPAMI 1994).

A place that several cameras see beside the person at an instant is empty then; what is empty at every instant needs
no samples. Cells are judged with the largest size that they have in a picture, so that the hull is never too small.
"""

import numpy as np
from numpy.typing import NDArray

from renderer.fitter.box import Box, lattice
from renderer.fitter.footage import Footage
from streamer.geometry import project
from streamer.types import U8, Camera

CELLS = 64
"""Cells along an edge; finer grids take theirs from these."""
COVERED = 8
"""A pixel is the person's from this alpha of 255 on."""
DOUBT = 8
"""One camera in so many may deny a cell that all others grant: a matte with a hole costs no ear."""
LEAST_MATTES = 2
"""Instants with fewer mattes judge nothing."""

Cells = NDArray[np.bool_]


def hull_of(footage: Footage, box: Box, cells: int) -> Cells | None:
    """Return the (cells, cells, cells) that the person may be in at some instant, x first; None without mattes.

    Args:
        footage: what the training cameras saw.
        box: of the scene.
        cells: along an edge of the result.
    """
    if footage.mattes is None or footage.matted is None:
        return None
    coarse = min(cells, CELLS)
    nodes = lattice(box, coarse).reshape(-1, 3)
    half = np.sqrt(3) / 2 * box.size / coarse
    places = [_places(camera, nodes) for camera in footage.cameras]
    reach = [_reach(camera, nodes, half) for camera in footage.cameras]
    kept = np.zeros(len(nodes), bool)
    for step in np.flatnonzero((footage.begins >= 0).any(1)):
        known = np.flatnonzero(footage.matted[step] & (footage.begins[step] >= 0))
        if len(known) < LEAST_MATTES:
            return None
        seen, denied = np.zeros(len(nodes), np.uint8), np.zeros(len(nodes), np.uint8)
        for column in known:
            index, inside = places[column]
            grown = _grown(_matte(footage, int(step), int(column)), reach[column])
            seen += inside
            denied += inside & ~grown.reshape(-1)[index]
        kept |= denied <= seen // DOUBT
    fine = (np.arange(cells) * coarse // cells)[:, None, None]
    cube = kept.reshape(coarse, coarse, coarse)
    return cube[fine, fine.reshape(1, -1, 1), fine.reshape(1, 1, -1)]


def _places(camera: Camera, nodes: NDArray[np.float64]) -> tuple[NDArray[np.int64], Cells]:
    """Return the (n,) flat pixel of each node and whether it is in the picture."""
    pixels, depth = project(camera, nodes)
    with np.errstate(invalid="ignore"):
        near = np.nan_to_num(np.rint(pixels), nan=-1.0).clip(-1, 1 << 20).astype(np.int64)
    size = np.array([camera.width, camera.height])
    inside = ((near >= 0) & (near < size)).all(1) & (depth > 0)
    held = near.clip(0, size - 1)
    return held[:, 1] * camera.width + held[:, 0], inside


def _reach(camera: Camera, nodes: NDArray[np.float64], half_m: float) -> int:
    """Return how many pixels a cell reaches from its centre at most, for all cells a metre or two away alike."""
    depth = project(camera, nodes)[1]
    before = depth[depth > 0]
    nearest = max(float(np.percentile(before, 10)), half_m) if len(before) else half_m
    return int(np.ceil(max(camera.K[0, 0], camera.K[1, 1]) * half_m / nearest))


def _matte(footage: Footage, step: int, column: int) -> U8:
    assert footage.mattes is not None  # noqa: S101 - hull_of has checked
    camera, begin = footage.cameras[column], int(footage.begins[step, column]) // 3
    return footage.mattes[begin : begin + camera.width * camera.height].reshape(camera.height, camera.width)


def _grown(matte: U8, reach: int) -> Cells:
    import cv2

    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    covered = np.asarray(matte >= COVERED, np.uint8)
    return np.asarray(cv2.dilate(covered, around, borderType=cv2.BORDER_CONSTANT), bool)
