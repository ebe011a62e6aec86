"""Numbers per vertex that the head can be coloured by. Pure; NaN where nothing is known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.geometry import transform
from streamer.types import F32, F64, Camera, MeshFrame

MM = 1e3


def speed_mm_s(mesh: MeshFrame, before: MeshFrame | None) -> F32:
    """Speed of each vertex in the world, the head's own motion included.

    Args:
        mesh: the mesh that is shown.
        before: the one shown before it, of the same topology.

    Returns:
        (N,) mm/s; NaN without an earlier mesh or with one that is more than a second away.
    """
    elapsed_s = 0.0 if before is None else (mesh.exposure_time_ns - before.exposure_time_ns) / 1e9
    if before is None or not 0.0 < abs(elapsed_s) <= 1.0:
        return np.full(len(mesh.vertices), np.nan, np.float32)
    moved = np.linalg.norm(mesh.vertices - before.vertices, axis=1)
    return np.asarray(moved * (MM / abs(elapsed_s)), np.float32)


def distance_mm(vertices: F32, reference: F32 | None) -> F32:
    """Distance of each vertex from the same vertex of a reference, mm; NaN without one (N, 3)."""
    if reference is None or reference.shape != vertices.shape:
        return np.full(len(vertices), np.nan, np.float32)
    return np.asarray(MM * np.linalg.norm(vertices - reference, axis=1), np.float32)


def view_count(seen: NDArray[np.bool_]) -> F32:
    """Number of cameras that see each vertex.

    Args:
        seen: (V, N), camera by camera.
    """
    return np.asarray(seen.sum(0), np.float32)


def uncertainty_mm(vertices: F32, cameras: Sequence[Camera], seen: NDArray[np.bool_]) -> F32:
    """How far off a vertex is, were each picture that sees it off by one pixel.

    The cameras' projections are linearised at each vertex; with errors of one pixel, independent in every direction and
    camera, the position has the covariance (sum of JᵀJ)⁻¹. Its spread is the square root of the trace. This is
    geometry alone - angles, focal lengths, how many cameras see it - and the best any method could do, not the error
    of the network.

    Args:
        vertices: (N, 3) metres, world.
        cameras: V of them.
        seen: (V, N).

    Returns:
        (N,) mm; NaN where fewer than two cameras see it.
    """
    information = np.zeros((len(vertices), 3, 3))
    for camera, visible in zip(cameras, seen, strict=True):
        rotation = camera.camera_from_world[:3, :3]
        x, y, z = transform(camera.camera_from_world, vertices).T
        z = np.where(z > 1e-6, z, np.inf)
        rows: F64 = np.zeros((len(vertices), 2, 3))
        rows[:, 0, 0], rows[:, 0, 2] = camera.K[0, 0] / z, -camera.K[0, 0] * x / z**2
        rows[:, 1, 1], rows[:, 1, 2] = camera.K[1, 1] / z, -camera.K[1, 1] * y / z**2
        jacobian = rows @ rotation
        information += np.where(visible, 1.0, 0.0)[:, None, None] * (jacobian.transpose(0, 2, 1) @ jacobian)
    known = seen.sum(0) >= 2
    out = np.full(len(vertices), np.nan, np.float32)
    if known.any():
        covariance = np.linalg.inv(information[known])
        out[known] = MM * np.sqrt(np.trace(covariance, axis1=1, axis2=2))
    return out
