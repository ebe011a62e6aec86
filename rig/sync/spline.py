"""Natural cubic splines through samples at any times; numpy alone, so that the live path needs no scipy. Pure."""

import numpy as np

from streamer.types import F64


class Spline:
    """Through all samples, with continuous curvature.

    Args:
        times_s: (N,) rising, N >= 3, s.
        values: (N, m).
    """

    def __init__(self, times_s: F64, values: F64) -> None:
        """Solve for the curvatures, once for all m columns."""
        self.times_s, self.values = times_s, values
        step = np.diff(times_s)
        slopes = np.diff(values, axis=0) / step[:, None]
        count = len(times_s)
        curvature = np.zeros_like(values)
        diagonal = 2.0 * (step[:-1] + step[1:])
        right = 6.0 * np.diff(slopes, axis=0)
        # Thomas: one pass down, one up; the system is diagonally dominant.
        upper = np.zeros(count - 2)
        for k in range(count - 2):
            pivot = diagonal[k] - (step[k] * upper[k - 1] if k else 0.0)
            upper[k] = step[k + 1] / pivot
            right[k] = (right[k] - (step[k] * right[k - 1] if k else 0.0)) / pivot
        for k in range(count - 3, -1, -1):
            curvature[k + 1] = right[k] - upper[k] * curvature[k + 2]
        self._step, self._curvature = step, curvature

    def __call__(self, at_s: F64) -> F64:
        """Return (M, m) values at (M,) times, s; beyond the ends the last pieces go on."""
        k = np.clip(np.searchsorted(self.times_s, at_s) - 1, 0, len(self._step) - 1)
        h = self._step[k][:, None]
        right = ((at_s - self.times_s[k])[:, None]) / h
        left = 1.0 - right
        bend = (left**3 - left) * self._curvature[k] + (right**3 - right) * self._curvature[k + 1]
        return np.asarray(left * self.values[k] + right * self.values[k + 1] + bend * h * h / 6.0, np.float64)
