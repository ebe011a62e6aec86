"""Where the time of a camera comes from, most trusted first. Pure: the arrival is an argument.

    ptp        the device stamps exposures on a clock that PTP keeps: ticks are nanoseconds already
    pulses     one electrical pulse per exposure: their count is the identity, arrivals give rate and phase
    ntp        the host's own clock stamped the exposure (V4L2), and NTP or PTP disciplines that clock
    arrival    the device counts its own ticks, or nothing: a line through the arrivals (least trusted)

A constant delay between exposure and arrival is invisible to `pulses` and `arrival`; `mien sync check` measures it from
pictures.
"""

import ctypes
from dataclasses import dataclass
from typing import Literal, Protocol

from rig.clock import NS, Pulses
from rig.sync.line import ClockFollower
from streamer.errors import ConfigError

Source = Literal["ptp", "pulses", "ntp", "arrival"]
SOURCES: tuple[Source, ...] = ("ptp", "pulses", "ntp", "arrival")
FAR_NS = 2 * NS
"""A PTP stamp further from its arrival than this is not of the shared clock: no grandmaster, or TAI taken for UTC."""
_CLOCK_ERROR = 5
"""What adjtimex returns for a clock that nothing disciplines (TIME_ERROR)."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """What is known of one camera's clock."""

    source: Source
    """Where its time comes from."""
    locked: bool
    """Whether its stamps can be believed to be of the shared clock."""
    drift_ppm: float
    """How much too fast the device's clock runs; 0 where that cannot be seen."""
    residual_us: float
    """Median distance of the observations from the line."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One exposure on the shared clock."""

    exposure_time_ns: int
    """Middle of the exposure, ns."""
    frame_id: int | None = None
    """Identity where the source counts pulses; None: it follows from the time."""


class CameraTime(Protocol):
    """Turns what a device says of one exposure into shared time."""

    clock: str
    """Name of the clock, as in `Frame.clock`."""

    def stamp(self, ticks: int, counter: int, receive_ns: int) -> Stamp:
        """Return the time of an exposure.

        Args:
            ticks: the device's own stamp, in its ticks.
            counter: the device's frame counter.
            receive_ns: arrival on the host, CLOCK_REALTIME, ns.
        """

    @property
    def state(self) -> ClockState:
        """What is known so far."""


class PtpTime:
    """Stamps of a device that follows PTP.

    Args:
        ns_per_tick: length of a tick, ns; 1 for PTP cameras as a rule.
        utc_offset_s: what the grandmaster's time is ahead of CLOCK_REALTIME: 37 for one that keeps TAI, 0 for UTC.
    """

    clock = "ptp"

    def __init__(self, ns_per_tick: float = 1.0, utc_offset_s: int = 0) -> None:
        """Begin unlocked."""
        self._ns_per_tick, self._offset_ns = ns_per_tick, utc_offset_s * NS
        self._follower = ClockFollower(1.0, one_sided=True)
        self._locked = False

    def stamp(self, ticks: int, counter: int, receive_ns: int) -> Stamp:
        """Return the device's own stamp; its distance from the arrival tells whether it is on the shared clock."""
        own_ns = (ticks if self._ns_per_tick == 1.0 else round(ticks * self._ns_per_tick)) - self._offset_ns
        self._locked = abs(receive_ns - own_ns) < FAR_NS
        self._follower.observe(own_ns, receive_ns)
        return Stamp(own_ns)

    @property
    def state(self) -> ClockState:
        """`drift_ppm` is against the host's clock: beyond NTP's few ppm it shows a camera that follows nobody."""
        return ClockState("ptp", self._locked, self._follower.drift_ppm, self._follower.residual_us)


class ArrivalTime:
    """A line through the arrivals of pictures that carry the device's own ticks.

    Args:
        ns_per_tick: declared length of a tick, ns.
    """

    clock = "host"

    def __init__(self, ns_per_tick: float) -> None:
        """Begin without observations."""
        self._follower = ClockFollower(ns_per_tick, one_sided=True)

    def stamp(self, ticks: int, counter: int, receive_ns: int) -> Stamp:
        """Return the time on the line."""
        return Stamp(self._follower.observe(ticks, receive_ns))

    @property
    def state(self) -> ClockState:
        """Locked as soon as there is a line."""
        follower = self._follower
        return ClockState("arrival", follower.line is not None, follower.drift_ppm, follower.residual_us)


class HostTime:
    """Stamps that the host's kernel took; as good as the discipline of its clock (`host_clock`)."""

    clock = "host"

    def __init__(self) -> None:
        """Ask the kernel once."""
        self._disciplined, self._error_us = host_clock()

    def stamp(self, ticks: int, counter: int, receive_ns: int) -> Stamp:
        """Return `ticks`, which are ns of CLOCK_REALTIME."""
        return Stamp(ticks)

    @property
    def state(self) -> ClockState:
        """`residual_us` is the error that the kernel estimates for the host's clock."""
        return ClockState("ntp", self._disciplined, 0.0, self._error_us)


class PulseOrigin:
    """What the cameras on one trigger line share: which pulse the first count was.

    Args:
        pulses: the grid of the rate asked for.
    """

    def __init__(self, pulses: Pulses) -> None:
        """No pulse has been seen."""
        self._pulses = pulses
        self._origin: tuple[int, int] | None = None

    def first_id(self, time_ns: int) -> int:
        """Return the frame id of the pulse at `time_ns`, ns; the first caller fixes the phase for all."""
        if self._origin is None:
            self._origin = self._pulses.frame_id(time_ns), time_ns
        number, origin_ns = self._origin
        return number + round((time_ns - origin_ns) * self._pulses.rate / NS)


class PulseTime:
    """Counts trigger pulses: identities never slip, whatever the arrivals do.

    Args:
        pulses: rate of the trigger.
        origin: shared by the cameras on the same line.
        settle: pictures before the identity is fixed; until then it follows from the time.
    """

    clock = "host"

    def __init__(self, pulses: Pulses, origin: PulseOrigin, settle: int = 8) -> None:
        """Begin unlocked."""
        self._origin, self._settle = origin, settle
        self._follower = ClockFollower(float(NS / pulses.rate), one_sided=True)
        self._base: int | None = None
        self._restarts = 0
        self._seen = 0

    def stamp(self, ticks: int, counter: int, receive_ns: int) -> Stamp:
        """Return the time of pulse `counter`."""
        time_ns = self._follower.observe(counter, receive_ns)
        if self._follower.restarts != self._restarts:
            self._restarts, self._seen, self._base = self._follower.restarts, 0, None
        self._seen += 1
        if self._base is None and self._seen >= self._settle:
            self._base = self._origin.first_id(time_ns) - counter
        return Stamp(time_ns, None if self._base is None else self._base + counter)

    @property
    def state(self) -> ClockState:
        """Locked once the identity is fixed; `drift_ppm` is of the trigger against its declared rate."""
        follower = self._follower
        return ClockState("pulses", self._base is not None, follower.drift_ppm, follower.residual_us)


def camera_time(
    source: str, *, pulses: Pulses, origin: PulseOrigin, ns_per_tick: float, utc_offset_s: int = 0
) -> CameraTime:
    """Make the time of one camera.

    Args:
        source: one of `SOURCES`.
        pulses: rate of the rig.
        origin: shared by the cameras of one trigger line.
        ns_per_tick: length of the device's tick, ns.
        utc_offset_s: see `PtpTime`.

    Raises:
        ConfigError: no such source.
    """
    if source == "ptp":
        return PtpTime(ns_per_tick, utc_offset_s)
    if source == "pulses":
        return PulseTime(pulses, origin)
    if source == "ntp":
        return HostTime()
    if source == "arrival":
        return ArrivalTime(ns_per_tick)
    raise ConfigError(f"rig.clocks: {source!r} is no source of time; allowed: {', '.join(SOURCES)}")


class _Timex(ctypes.Structure):
    """The head of the kernel's `struct timex`; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 256),
    )


def host_clock() -> tuple[bool, float]:
    """Ask the kernel how well CLOCK_REALTIME is disciplined.

    Returns:
        Whether NTP or PTP holds it, and the error that the kernel estimates, microseconds; (False, 0) where the kernel
        cannot be asked.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "adjtimex"):
        return False, 0.0
    timex = _Timex()
    state = library.adjtimex(ctypes.byref(timex))
    return state not in (-1, _CLOCK_ERROR), float(timex.esterror)
