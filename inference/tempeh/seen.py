"""Which vertices a view sees. Numpy."""

import numpy as np
from numpy.typing import NDArray

from inference.tempeh.frames import Views, project_all
from streamer.geometry import vertex_normals
from streamer.types import F32, I32

FACING = 0.12
"""A vertex counts as seen from this cosine between its normal and the ray on."""
CELL_PX, DEPTH_MM = 48, 14.0
"""Cells across the head, and the depth within which a vertex of a cell is not hidden."""


def seen(vertices: F32, triangles: I32, views: Views) -> NDArray[np.bool_]:
    """Which vertices each view sees: facing it, and not behind another part of the head.

    Args:
        vertices: (N, 3) mm in the views' frame.
        triangles: (T, 3).
        views: V views.

    Returns:
        (V, N).
    """
    normals = vertex_normals(vertices, triangles)
    pixels = project_all(views, vertices)
    result = np.zeros(pixels.shape[:2], bool)
    for view in range(len(pixels)):
        rotation, shift = views.camera_from_a[view, :, :3], views.camera_from_a[view, :, 3]
        ray = vertices + (rotation.T @ shift).astype(np.float32)  # from the camera's centre to the vertex
        distance = np.linalg.norm(ray, axis=1)
        facing = np.einsum("ni,ni->n", normals, ray) < -FACING * distance
        low, high = pixels[view].min(0), pixels[view].max(0)
        cell = ((pixels[view] - low) / np.maximum((high - low).max(), 1e-6) * (CELL_PX - 1)).astype(np.int32)
        flat = cell[:, 1] * CELL_PX + cell[:, 0]
        nearest = np.full(CELL_PX * CELL_PX, np.inf, np.float32)
        np.minimum.at(nearest, flat, distance)
        width, height = views.size
        inside = (pixels[view] > -0.5).all(1) & (pixels[view] < np.array([width, height]) - 0.5).all(1)
        result[view] = facing & inside & (distance < nearest[flat] + DEPTH_MM)
    return result
