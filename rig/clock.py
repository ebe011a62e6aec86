"""Pulses of the rig and clocks of its cameras: pure arithmetic, time is an argument.

The rig's cameras expose on pulses of one absolute grid on CLOCK_REALTIME, so that every host of a rig numbers the same
instant alike without talking to the others. The middle of exposure k stands half a period into period k:

    exposure_k = (k + 1/2) * period        frame_id = floor(exposure_time / period) = k

Half a period is the point: on the edge of a period, one nanosecond of jitter would change the number; in its middle a
time stamp may be wrong by up to half a period before the frame is filed under a neighbour.
"""

from dataclasses import dataclass
from fractions import Fraction

from streamer.errors import ConfigError

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Pulses:
    """The grid of a trigger rate. Exact rational arithmetic: numbers stay right after years of nanoseconds."""

    rate: Fraction
    """Pulses per second."""

    @classmethod
    def at(cls, fps: float) -> "Pulses":
        """Return the grid of `fps`, taken as the decimal number that it prints as.

        Raises:
            ConfigError: a rate that is not positive.
        """
        if not fps > 0:
            raise ConfigError(f"rig.fps = {fps!r}: a trigger rate must be positive")
        return cls(Fraction(str(fps)))

    @property
    def period_ns(self) -> int:
        """Period, ns, rounded; for waiting, not for numbering."""
        return round(NS / self.rate)

    def frame_id(self, exposure_time_ns: int) -> int:
        """Return floor(exposure_time / period)."""
        return exposure_time_ns * self.rate.numerator // (NS * self.rate.denominator)

    def exposure_ns(self, frame_id: int) -> int:
        """Return the middle of exposure `frame_id`, ns."""
        return round((frame_id + Fraction(1, 2)) * NS / self.rate)

    def first_at_or_after(self, time_ns: int) -> int:
        """Return the number of the first pulse whose exposure is at `time_ns` or later."""
        number = self.frame_id(time_ns)
        return number if self.exposure_ns(number) >= time_ns else number + 1


@dataclass(frozen=True, slots=True)
class Pulse:
    """One pulse that the pacer chose."""

    number: int
    """Frame id on the grid."""
    exposure_ns: int
    """Middle of its exposure, CLOCK_REALTIME, ns."""
    skipped: int
    """Pulses between the previous one and this one that found the rig busy."""


class Pacer:
    """Chooses the pulse that a rig which is sometimes busy exposes next.

    A pulse that is less than half a period old is still taken, so a rig slightly too slow for its rate loses the pulses
    it must and not every second one; an older pulse is skipped for all cameras together.

    Args:
        pulses: the grid.
        start_ns: the first pulse is the first one at or after this time.
    """

    def __init__(self, pulses: Pulses, start_ns: int) -> None:
        """Remember the grid and the first pulse."""
        self._pulses = pulses
        self._next = pulses.first_at_or_after(start_ns)

    def next(self, now_ns: int) -> Pulse:
        """Return the pulse to expose next; the caller waits until its time. Never repeats or goes back.

        Args:
            now_ns: CLOCK_REALTIME, ns.
        """
        number = max(self._next, self._pulses.first_at_or_after(now_ns - self._pulses.period_ns // 2))
        pulse = Pulse(number, self._pulses.exposure_ns(number), number - self._next)
        self._next = number + 1
        return pulse


@dataclass(frozen=True, slots=True)
class CameraClock:
    """What a camera's own clock reads while the rig's clock reads something else."""

    origin_ns: int
    """Time at which both agreed, ns."""
    rate_ppm: float = 0.0
    """How much too fast the camera's clock runs."""

    def reading(self, time_ns: int) -> int:
        """Return the camera's reading at `time_ns` of the rig's clock, ns."""
        return time_ns + round((time_ns - self.origin_ns) * self.rate_ppm * 1e-6)
