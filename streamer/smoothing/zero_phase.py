"""A low-pass without lag for recordings: a local quadratic, fitted with Gaussian weights around each moment.

In the middle of a recording this is a symmetric kernel, so phase and lag are exactly zero; quadratics (a blink's top, a
turn of the head) pass unchanged. At the ends and in gaps the same fit uses what is there, without reflection or
padding. Irregular times are no special case. (Loader: "Local regression and likelihood", 1999, chapter 2.) Pure.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

REACH = 4.0
"""Half the window, in standard deviations of the Gaussian; what is cut off weighs less than 0.1 %."""
_HALF_POWER = 1.0777
"""Solves (1 + u) exp(-u) = sqrt(1/2): the response of the kernel at u = (2 pi f sigma)^2 / 2."""


def sigma_s(cutoff_hz: float) -> float:
    """Return the standard deviation in seconds of the kernel that halves the power at `cutoff_hz`."""
    return math.sqrt(2 * _HALF_POWER) / (2 * math.pi * cutoff_hz)


def reach_s(cutoff_hz: float) -> float:
    """Return how far to either side the filter looks, seconds."""
    return REACH * sigma_s(cutoff_hz)


def kernel(offsets_s: F64, cutoff_hz: float) -> F64:
    """Return the weights that estimate the value at offset 0.

    Args:
        offsets_s: (W,) times relative to the moment in question, seconds; W >= 1, all different.
        cutoff_hz: where the power is halved, for regular times.

    Returns:
        (W,) weights; they add up to 1 and leave polynomials of degree min(2, W - 1) unchanged.
    """
    scaled = np.asarray(offsets_s, np.float64) / sigma_s(cutoff_hz)
    basis = np.vander(scaled, min(3, len(scaled)), increasing=True)
    gauss = np.exp(-0.5 * scaled**2)
    root = np.sqrt(gauss)
    weights: F64 = np.linalg.pinv(basis * root[:, None])[0] * root
    return weights


def smooth(stream: Iterable[tuple[float, F32]], cutoff_hz: float) -> Iterator[F32]:
    """Filter a recording that need not fit into memory.

    Args:
        stream: times in seconds, rising strictly, and values (D,) float32.
        cutoff_hz: where the power is halved, Hz.

    Yields:
        (D,) float32, one for each value, in order. At most the values of one window are held.
    """
    reach = reach_s(cutoff_hz)
    window: deque[tuple[float, F32]] = deque()
    centre = 0  # index in the window of the next value to give
    for item in stream:
        window.append(item)
        while window[centre][0] + reach < item[0]:
            yield _estimate(window, centre, reach, cutoff_hz)
            centre += 1
            while window[0][0] < window[centre][0] - reach:
                window.popleft()
                centre -= 1
    while centre < len(window):
        yield _estimate(window, centre, reach, cutoff_hz)
        centre += 1


def _estimate(window: deque[tuple[float, F32]], centre: int, reach: float, cutoff_hz: float) -> F32:
    now = window[centre][0]
    near = [(time - now, value) for time, value in window if abs(time - now) <= reach]
    weights = kernel(np.array([offset for offset, _ in near]), cutoff_hz).astype(np.float32)
    return np.asarray(weights @ np.stack([value for _, value in near]), np.float32)
