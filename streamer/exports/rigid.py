"""Rotations as quaternions, as files want them. Pure."""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def quaternion(rotation: NDArray[np.floating]) -> F64:
    """Return the unit quaternion (w, x, y, z), w >= 0, of a (3, 3) rotation matrix.

    The largest of the four is found from the diagonal and the others divided by it (Shepperd 1978), so no rotation is
    near a division by zero.
    """
    r = np.asarray(rotation, np.float64)
    trace = float(np.trace(r))
    squares = 0.25 * np.array([1 + trace, *(1 + 2 * r[i, i] - trace for i in range(3))])
    # Row k: the products of component k with w, x, y, z.
    products = 0.25 * np.array(
        [
            [4 * squares[0], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], 4 * squares[1], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], 4 * squares[2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], 4 * squares[3]],
        ]
    )
    found: F64 = products[int(squares.argmax())]
    found = found / np.linalg.norm(found)
    return -found if found[0] < 0 else found
