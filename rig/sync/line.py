"""Device ticks to shared nanoseconds by a straight line that noise, bursts and late arrivals do not bend. Pure.

Two kinds of pairs are met. Where both readings are taken at one instant (PTP, a latch) errors have both signs: a robust
least-squares line. Where the second is the arrival on the host, every error is a delay, so the truth lies along the
lower edge of the cloud: the edge of its convex hull below the mean, which is the line of least total delay (the linear
programme of Moon, Skelly and Towsley, 1999), exact and without a parameter.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from streamer.errors import DriverError
from streamer.types import F64

HUBER = 1.345
"""Residuals beyond this many standard deviations count less; 95 % efficient for normal errors."""
ROUNDS = 8
BUCKETS = 64
"""Stretches of which only the promptest arrival is looked at, where there are many."""


@dataclass(frozen=True, slots=True)
class ClockLine:
    """time = origin_ns + (ticks - origin_ticks) * ns_per_tick."""

    origin_ticks: int
    """Ticks at the origin; integers there keep precision over years of nanoseconds."""
    origin_ns: int
    """Shared time at the origin, ns."""
    ns_per_tick: float
    """Length of a tick in shared nanoseconds."""
    residual_ns: float
    """Median distance of the observations from the line: jitter, or delay beyond the smallest one."""

    def time_ns(self, ticks: int) -> int:
        """Return the shared time at which the device read `ticks`, ns."""
        return self.origin_ns + round((ticks - self.origin_ticks) * self.ns_per_tick)

    def drift_ppm(self, nominal_ns_per_tick: float) -> float:
        """Return how much too fast the device's clock runs, parts per million."""
        return (nominal_ns_per_tick / self.ns_per_tick - 1.0) * 1e6


def fit_line(ticks: list[int], times_ns: list[int], *, one_sided: bool) -> ClockLine:
    """Fit the line.

    Args:
        ticks: device readings, at least two different ones.
        times_ns: shared times that belong to them, ns.
        one_sided: errors of `times_ns` are delays; otherwise they have both signs.

    Raises:
        DriverError: fewer than two different readings, or a clock that does not go forward.
    """
    # Differences in integers: doubles have no nanoseconds left at the size of CLOCK_REALTIME.
    x = np.array([value - ticks[0] for value in ticks], np.float64)
    y = np.array([value - times_ns[0] for value in times_ns], np.float64)
    if len(x) < 2 or np.ptp(x) == 0:
        raise DriverError(f"{len(x)} reading(s) of a camera clock make no line; two different ones are needed")
    slope, base = _lower_edge(x, y) if one_sided else _robust(x, y)
    if not slope > 0:
        raise DriverError("a camera clock does not go forward; power the camera off and on")
    middle = float(x.mean())
    return ClockLine(
        origin_ticks=ticks[0] + round(middle),
        origin_ns=times_ns[0] + round(base + slope * round(middle)),
        ns_per_tick=float(slope),
        residual_ns=float(np.median(np.abs(y - base - slope * x))),
    )


def _lower_edge(x: F64, y: F64) -> tuple[float, float]:
    """Slope and base of the edge of the lower convex hull that spans the mean of x."""
    order = np.lexsort((y, x))
    if len(order) > 2 * BUCKETS:
        # Only the promptest of each stretch can be on the edge; against the mean rate, so that the stretch is level.
        level = y[order] - x[order] * (y[order[-1]] - y[order[0]]) / max(x[order[-1]] - x[order[0]], 1.0)
        parts = np.array_split(np.arange(len(order)), BUCKETS)
        order = order[[int(part[np.argmin(level[part])]) for part in parts]]
    hull: list[int] = []
    for index in order:
        if hull and x[index] == x[hull[-1]]:
            continue  # the lowest of equal readings came first
        while len(hull) > 1 and _turn(x, y, hull[-2], hull[-1], int(index)) <= 0:
            hull.pop()
        hull.append(int(index))
    mean = float(x.mean())
    right = next(k for k in range(1, len(hull)) if x[hull[k]] >= mean or k == len(hull) - 1)
    a, b = hull[right - 1], hull[right]
    slope = float((y[b] - y[a]) / (x[b] - x[a]))
    return slope, float(y[a] - slope * x[a])


def _turn(x: F64, y: F64, a: int, b: int, c: int) -> float:
    return float((x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a]))


def _robust(x: F64, y: F64) -> tuple[float, float]:
    weights = np.ones_like(x)
    slope = base = 0.0
    for _ in range(ROUNDS):
        mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
        spread = float(weights @ (x - mean_x) ** 2)
        slope = float(weights @ ((x - mean_x) * (y - mean_y))) / spread
        base = float(mean_y - slope * mean_x)
        rest = np.abs(y - base - slope * x)
        sigma = 1.4826 * float(np.median(rest))
        if sigma == 0:
            break
        weights = np.minimum(1.0, HUBER * sigma / np.maximum(rest, 1e-9))
    return slope, base


class ClockFollower:
    """Follows one device clock by its last observations; for one thread.

    Args:
        nominal_ns_per_tick: length of a tick as the device declares it, ns.
        one_sided: see `fit_line`.
        window: observations that count; 50 ppm bend by nothing within them, temperature drifts slower still.
        refit: observations between two fits.
    """

    def __init__(self, nominal_ns_per_tick: float, *, one_sided: bool, window: int = 512, refit: int = 16) -> None:
        """Begin without observations."""
        self._nominal = nominal_ns_per_tick
        self._one_sided = one_sided
        self._refit = refit
        self._seen: deque[tuple[int, int]] = deque(maxlen=window)
        self._since = 0
        self.line: ClockLine | None = None
        """The line in use; None until two readings came."""
        self.restarts = 0
        """Times the device's clock went back."""

    def observe(self, ticks: int, time_ns: int) -> int:
        """Take an observation; return the shared time of `ticks`, ns.

        Args:
            ticks: the device's reading.
            time_ns: shared time that goes with it: the arrival, or the same instant by another clock.
        """
        if self._seen and ticks <= self._seen[-1][0]:
            self._seen.clear()
            self.line = None
            self.restarts += 1
        self._seen.append((ticks, time_ns))
        self._since += 1
        young = len(self._seen) < 2 * self._refit
        if len(self._seen) > 1 and (self.line is None or young or self._since >= self._refit):
            self._since = 0
            self.line = self._fit()
        return time_ns if self.line is None else self.line.time_ns(ticks)

    @property
    def drift_ppm(self) -> float:
        """How much too fast the device's clock runs, parts per million; 0 until it is known."""
        return 0.0 if self.line is None else self.line.drift_ppm(self._nominal)

    @property
    def residual_us(self) -> float:
        """Median distance of the observations from the line, microseconds."""
        return 0.0 if self.line is None else self.line.residual_ns / 1000

    def _fit(self) -> ClockLine:
        if len(self._seen) < self._refit:
            # Few arrivals say little about the rate: the declared one, laid along the promptest arrival.
            first = self._seen[0][0]
            return ClockLine(
                first, min(t - round((k - first) * self._nominal) for k, t in self._seen), self._nominal, 0.0
            )
        return fit_line([k for k, _ in self._seen], [t for _, t in self._seen], one_sided=self._one_sided)
