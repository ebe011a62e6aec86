"""Pinhole with OpenCV's five coefficients, with derivatives, and the family of lens models to choose from."""

from collections.abc import Mapping

import numpy as np

from streamer.types import F64

PARAMETERS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")
"""Order of a camera's nine intrinsic parameters, as OpenCV's."""
LENSES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "k1": ("k1",),
    "k1k2": ("k1", "k2"),
    "k1k2p1p2": ("k1", "k2", "p1", "p2"),
    "k1k2p1p2k3": ("k1", "k2", "p1", "p2", "k3"),
}
"""Name of a lens model to its coefficients that are not zero, each model within the next."""


def free_parameters(lens: str) -> np.ndarray:
    """Return (9,) whether a parameter is estimated with this lens model."""
    return np.array([name in ("fx", "fy", "cx", "cy", *LENSES[lens]) for name in PARAMETERS])


def camera_matrix(intrinsics: F64) -> F64:
    """Return K (3, 3) of nine parameters."""
    fx, fy, cx, cy = intrinsics[:4]
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def pack_intrinsics(K: F64, distortion: F64) -> F64:
    """Return nine parameters of K (3, 3) without skew and distortion (5,)."""
    return np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2], *distortion])


def image(points: F64, intrinsics: F64) -> F64:
    """Project points.

    Args:
        points: (M, 3) camera frame, in front of the camera.
        intrinsics: (M, 9) or (9,).

    Returns:
        (M, 2) px.
    """
    return image_with_derivatives(points, intrinsics)[0]


def image_with_derivatives(points: F64, intrinsics: F64) -> tuple[F64, F64, F64]:
    """Project points, with derivatives.

    Args:
        points: (M, 3) camera frame.
        intrinsics: (M, 9) or (9,).

    Returns:
        (M, 2) px, (M, 2, 3) by the point, (M, 2, 9) by the intrinsics.
    """
    fx, fy, cx, cy, k1, k2, p1, p2, k3 = np.broadcast_to(intrinsics, (len(points), 9)).T
    z = np.where(np.abs(points[:, 2]) > 1e-9, points[:, 2], 1e-9)
    x, y = points[:, 0] / z, points[:, 1] / z
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    mixed = x * y * slope + 2 * p1 * x + 2 * p2 * y
    xx = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
    yy = radial + y * y * slope + 6 * p1 * y + 2 * p2 * x
    by_point = np.empty((len(points), 2, 3))
    by_point[:, 0, 0], by_point[:, 0, 1] = fx * xx / z, fx * mixed / z
    by_point[:, 1, 0], by_point[:, 1, 1] = fy * mixed / z, fy * yy / z
    by_point[:, :, 2] = -(by_point[:, :, 0] * x[:, None] + by_point[:, :, 1] * y[:, None])
    by_lens = np.zeros((len(points), 2, 9))
    by_lens[:, 0, 0], by_lens[:, 1, 1], by_lens[:, 0, 2], by_lens[:, 1, 3] = xd, yd, 1, 1
    r4, r6 = r2 * r2, r2 * r2 * r2
    across = (x * r2, x * r4, 2 * x * y, r2 + 2 * x * x, x * r6)
    down = (y * r2, y * r4, r2 + 2 * y * y, 2 * x * y, y * r6)
    for column, (a, d) in enumerate(zip(across, down, strict=True), 4):
        by_lens[:, 0, column], by_lens[:, 1, column] = fx * a, fy * d
    return np.stack([fx * xd + cx, fy * yd + cy], 1), by_point, by_lens
