"""Guests: heads of any other origin (scans, sculpted meshes) on the simulated stage, as they are.

A guest keeps its own triangles and its own texture; it has no expression units, no eyes and teeth of its own parts, and
no hair beside what its surface shows. The stage lights it, films it and clothes its shoulders like everybody else.
"""

import numpy as np
from numpy.typing import NDArray

from rig.simulation.head import HeadModel
from streamer.errors import MeshError
from streamer.types import F32, I32

PARTS = ("skin", "eye_left", "eye_right")
"""The painter asks where the eyes are: a guest's lie hidden in its middle, too small to be seen."""
HIDDEN_M = 1e-4
"""Size of what is hidden."""


def guest_head(
    vertices: F32, triangles: I32, uv: NDArray[np.floating] | None = None, uv_triangles: I32 | None = None
) -> HeadModel:
    """Make a head that a `Painter` can draw of any triangle mesh.

    Args:
        vertices: (N, 3) head frame, metres; the head's middle near the origin.
        triangles: (T, 3) counter-clockwise from outside.
        uv: (C, 2) places in the texture, v up; None: each vertex shows the middle of the texture.
        uv_triangles: (T, 3) corners in `uv`; None: as `triangles`.

    Returns:
        A head without units; its `neutral` is (N + 6, 3), the last six the hidden eyes.

    Raises:
        MeshError: no triangles, or texture corners that do not fit them.
    """
    points = np.asarray(vertices, np.float32).reshape(-1, 3)
    faces = np.asarray(triangles, np.int32).reshape(-1, 3)
    if not len(faces):
        raise MeshError("the head has no triangles: nothing of it can be drawn; mesh the scan first")
    places = np.full((len(points), 2), 0.5) if uv is None else np.asarray(uv, np.float64)
    corners = faces if uv_triangles is None else np.asarray(uv_triangles, np.int32)
    if corners.shape != faces.shape or corners.max() >= len(places) or corners.min() < 0:
        raise MeshError(
            f"texture corners {corners.shape} up to {corners.max()} do not fit {len(faces)} triangles and "
            f"{len(places)} places in the texture"
        )
    middle = (points.min(0) + points.max(0)) / 2
    speck = np.array([[0, 0, 0], [HIDDEN_M, 0, 0], [0, HIDDEN_M, 0]], np.float32)
    eyes = np.concatenate([speck + middle, speck + middle + np.float32(HIDDEN_M)]).astype(np.float32)
    hidden = (np.arange(6).reshape(2, 3) + len(points)).astype(np.int32)
    empty = np.zeros((0, len(points) + 6, 3), np.float32)
    return HeadModel(
        neutral=np.concatenate([points, eyes]),
        triangles=np.concatenate([faces, hidden]),
        uv=places.astype(np.float32),
        uv_triangles=np.concatenate([corners, np.zeros((2, 3), np.int32)]),
        triangle_part=np.r_[np.zeros(len(faces), np.int8), np.int8(1), np.int8(2)],
        part_names=PARTS,
        exposure=np.ones(len(points) + 6, np.float32),
        identity=empty,
        identity_names=(),
        expression=empty,
        units=(),
        skin_count=len(points),
    )
