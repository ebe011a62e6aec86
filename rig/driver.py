"""The smallest possible camera driver.

A driver is a group of cameras behind one device or SDK: one capture card, one network, the simulated rig. It opens,
arms, yields pictures and closes, all from one thread. It never runs a grab loop, queues for consumers, numbers frames
or reconnects: that exists once, in `rig.grabber`. Every driver passes tests/rig/test_driver_contract.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self, runtime_checkable

from rig.config import RigConfig
from rig.sync.sources import ClockState
from streamer.errors import DriverError
from streamer.types import U8, Calibration, Encoding, MeshFrame, Timecode, Topology

TriggerMode = Literal["clock", "free-run", "software", "hardware", "recorded"]
"""How exposures are started: `clock` at pulses of the shared clock (PTP action commands, the simulated rig), `free-run`
by each camera for itself, `software` by a command per frame, `hardware` by an electrical edge, `recorded` long ago."""


class StreamEnded(DriverError):
    """There will be no further picture: a recording is over. Reconnecting would not help."""


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One picture as the device gave it, full size."""

    camera: str
    """Id of the camera."""
    counter: int
    """The camera's own counter; a gap means that the camera or its link lost pictures."""
    exposure_time_ns: int
    """Middle of the exposure on `clock`, ns."""
    clock: str
    """Name of that clock: `host` (CLOCK_REALTIME), `ptp`, `media`, ..."""
    pixels: U8
    """`mono8` (H, W), `rgb8` (H, W, 3), or `jpeg` (bytes,) where the source compresses; not reused by the driver."""
    encoding: Encoding
    """How `pixels` holds the picture."""
    width: int
    """Width of the picture, px."""
    height: int
    """Height of the picture, px."""
    frame_id: int | None = None
    """The identity that a recording kept; None: the grabber derives it from the exposure time."""
    timecode: Timecode | None = None
    """Label from LTC or the house clock, if there is one."""


class CameraDriver(Protocol):
    """A device group.

    All methods are called from one thread, properties may be read from any. After `close` it may be opened again.
    """

    triggers: ClassVar[tuple[TriggerMode, ...]]
    """Modes that the device can do, the preferred one first."""
    can_wait: ClassVar[bool]
    """Whether the source waits for a slow consumer (a recording) instead of losing pictures (a camera)."""

    @classmethod
    def from_config(cls, rig: RigConfig) -> Self:
        """Build the driver without touching the device.

        Raises:
            DriverError: a setting that the device cannot do.
        """

    @property
    def calibration(self) -> Calibration:
        """The cameras, full size; valid after `open`."""

    @property
    def topologies(self) -> Sequence[Topology]:
        """Topologies of the true meshes; empty where there is no truth; valid after `open`."""

    @property
    def fps(self) -> float:
        """The rate on whose grid frames are numbered; valid after `open`."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Monotonic counts of the device since it was opened first, named as in `Health.counters`."""

    def open(self) -> None:
        """Find the device and make it ready.

        Raises:
            DriverError: the device is absent or unusable.
        """

    def arm(self, trigger: TriggerMode) -> None:
        """Begin to expose; camera counters start at 0, unless a recording keeps its own.

        Raises:
            DriverError: the device is not open, is armed already, or cannot do this trigger mode.
        """

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        """Return the next picture of any camera, or None when none came in time.

        Raises:
            StreamEnded: there will be no further picture.
            DriverError: not armed, or the device was lost; `close` and `open` may bring it back.
        """

    def close(self) -> None:
        """Stop exposing and release the device. Does nothing on a driver that is not open."""


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """What a driver knows of one real camera besides its pictures."""

    temperature_c: float | None
    """Degrees Celsius, None if the camera does not tell."""
    clock: ClockState | None
    """Where its time comes from and how well, None before the first picture."""
    firmware: str
    """Version, empty if it does not tell."""
    trouble: str
    """Why it delivers nothing at the moment, empty while it does."""


@runtime_checkable
class StatusSource(Protocol):
    """A driver that can say how its cameras are. May be asked from any thread."""

    @property
    def status(self) -> Mapping[str, CameraStatus]:
        """Camera id to what is known of it; empty before `open`."""


@runtime_checkable
class TruthSource(Protocol):
    """A driver that knows the true head (simulated rig, takes of it). May be asked from any thread."""

    def take_truths(self) -> list[MeshFrame]:
        """Return the true meshes of the pulses delivered since the last call, oldest first; also after `close`."""


def choose_trigger(name: str, triggers: Sequence[TriggerMode], wanted: str) -> TriggerMode:
    """Return the trigger mode to arm with.

    Args:
        name: name of the driver, for the message.
        triggers: modes that it declares.
        wanted: `rig.trigger`; `auto` takes the first declared mode.

    Raises:
        DriverError: the driver does not declare the mode.
    """
    if wanted == "auto":
        return triggers[0]
    for mode in triggers:
        if mode == wanted:
            return mode
    raise DriverError(
        f"rig.trigger = {wanted!r}: the driver '{name}' cannot do that; it can do {', '.join(triggers)}, or say 'auto'"
    )
