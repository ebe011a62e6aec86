"""Real spherical harmonics up to band 4: light from all around, and how much of it a vertex receives. Pure."""

import math

import numpy as np

from streamer.types import F64

BANDS = 5
COUNT = BANDS * BANDS


def fibonacci(count: int) -> F64:
    """(count, 3) unit vectors on a Fibonacci spiral: even cover of the sphere."""
    height = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    angle = math.pi * (3.0 - math.sqrt(5.0)) * np.arange(count)
    radius = np.sqrt(1.0 - height * height)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1)


def harmonics(directions: F64) -> F64:
    """Evaluate the functions.

    Args:
        directions: (D, 3) unit vectors.

    Returns:
        (D, 25), orthonormal over the sphere, band by band.
    """
    x, y, z = np.asarray(directions, np.float64).T
    xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
    rows = [
        0.28209479177387814 * np.ones_like(x),
        0.4886025119029199 * y,
        0.4886025119029199 * z,
        0.4886025119029199 * x,
        1.0925484305920792 * xy,
        1.0925484305920792 * yz,
        0.31539156525252005 * (3.0 * zz - 1.0),
        1.0925484305920792 * xz,
        0.5462742152960396 * (xx - yy),
        0.5900435899266435 * y * (3.0 * xx - yy),
        2.890611442640554 * xy * z,
        0.4570457994644658 * y * (5.0 * zz - 1.0),
        0.3731763325901154 * z * (5.0 * zz - 3.0),
        0.4570457994644658 * x * (5.0 * zz - 1.0),
        1.445305721320277 * z * (xx - yy),
        0.5900435899266435 * x * (xx - 3.0 * yy),
        2.5033429417967046 * xy * (xx - yy),
        1.7701307697799304 * yz * (3.0 * xx - yy),
        0.9461746957575601 * xy * (7.0 * zz - 1.0),
        0.6690465435572892 * yz * (7.0 * zz - 3.0),
        0.10578554691520431 * (35.0 * zz * zz - 30.0 * zz + 3.0),
        0.6690465435572892 * xz * (7.0 * zz - 3.0),
        0.47308734787878004 * (xx - yy) * (7.0 * zz - 1.0),
        1.7701307697799304 * xz * (xx - 3.0 * yy),
        0.6258357354491761 * (xx * (xx - 3.0 * yy) - yy * (3.0 * xx - yy)),
    ]
    return np.stack(rows, 1)
