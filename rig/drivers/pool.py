"""Cameras that come and go one by one: a thread each, a common bounded queue, and a patient search for what was lost.

A driver of real cameras says how one camera is opened, started and read (`Device`); everything else is here. A camera
that is unplugged is looked for by its own thread while the others go on.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rig.clock import Pulses
from rig.config import RigConfig
from rig.driver import CameraStatus, RawFrame, TriggerMode, choose_trigger
from rig.sync.sources import CameraTime, PulseOrigin, camera_time
from rig.uncalibrated import calibrate
from streamer.errors import DriverError
from streamer.types import U8, Calibration, Encoding, Topology

POLL_S = 0.2
"""How long a camera's thread may be out of reach of `close`."""
BUFFERED_PULSES = 8
"""Pictures per camera that wait for the grab loop; older ones go and are counted."""
PAUSES_S = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Between attempts to find a lost camera; the last one is repeated."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What an open camera says of itself."""

    serial: str
    """Serial number, or the name that stands for it."""
    width: int
    """Width of its pictures, px."""
    height: int
    """Height of its pictures, px."""
    model: str = ""
    """Maker and model."""
    firmware: str = ""
    """Version of its firmware, empty if it does not tell."""
    ns_per_tick: float = 1.0
    """Length of a tick of its clock, ns."""
    clock: str = "arrival"
    """Best source of time that it has: one of `rig.sync.sources.SOURCES`."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture as a device delivers it."""

    counter: int
    """The device's own counter, from 0."""
    ticks: int
    """The device's stamp of the middle of the exposure, ticks of its clock."""
    pixels: U8
    """See `RawFrame`; its own memory."""
    encoding: Encoding
    """How `pixels` holds the picture."""
    width: int
    """px."""
    height: int
    """px."""


class Device(Protocol):
    """One camera. Used by one thread at a time."""

    def open(self) -> DeviceInfo:
        """Find and open it.

        Raises:
            DriverError: it is not there, or cannot do what it is configured for.
        """

    def start(self, trigger: TriggerMode) -> None:
        """Begin to expose.

        Raises:
            DriverError: it cannot do this trigger mode.
        """

    def read(self, timeout_s: float) -> Shot | None:
        """Return the next picture, None if none came in time.

        Raises:
            DriverError: it was lost.
        """

    @property
    def temperature_c(self) -> float | None:
        """Degrees Celsius, None if it does not tell."""

    def close(self) -> None:
        """Let go of it; also of one that is lost, or not open."""


class _Member:
    """A camera of the pool and what is known of it."""

    def __init__(self, name: str, device: Device) -> None:
        self.name, self.device = name, device
        self.info: DeviceInfo | None = None
        self.time: CameraTime | None = None
        self.trouble = ""
        self.open = False


class CameraPool:
    """The common part of drivers of real cameras; see `rig.driver.CameraDriver`.

    Args:
        name: of the driver, for messages.
        rig: rate, sources of time and calibration.
        devices: camera id to its device, in rig order.
    """

    triggers: ClassVar[tuple[TriggerMode, ...]] = ("free-run",)
    can_wait: ClassVar[bool] = False

    def __init__(self, name: str, rig: RigConfig, devices: Mapping[str, Device]) -> None:
        """Remember; nothing is opened."""
        self._name, self._rig = name, rig
        self._members = [_Member(camera, device) for camera, device in devices.items()]
        self._calibration: Calibration | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._stop = threading.Event()
        self._ready = threading.Condition()
        self._arrived: deque[RawFrame] = deque()
        self._counters: Counter[str] = Counter()
        self._failure: BaseException | None = None

    @property
    def is_open(self) -> bool:
        """Whether the cameras are open."""
        return self._calibration is not None

    def replace_devices(self, devices: Mapping[str, Device]) -> None:
        """Take other cameras; only while closed."""
        self._members = [_Member(camera, device) for camera, device in devices.items()]

    @property
    def calibration(self) -> Calibration:
        """The configured calibration, or a nominal one that says so."""
        if self._calibration is None:
            raise DriverError(f"the {self._name} cameras are not open; call open first")
        return self._calibration

    @property
    def topologies(self) -> Sequence[Topology]:
        """Real cameras know no true head."""
        _ = self.calibration
        return ()

    @property
    def fps(self) -> float:
        """The rate asked for."""
        return self._rig.fps

    @property
    def counters(self) -> Mapping[str, int]:
        """`device-overruns.<camera>` and `reconnects.<camera>`."""
        with self._ready:
            return dict(self._counters)

    @property
    def status(self) -> Mapping[str, CameraStatus]:
        """Camera id to its temperature, clock and trouble."""
        found = {}
        for member in self._members:
            clock = member.time.state if member.time is not None else None
            firmware = member.info.firmware if member.info is not None else ""
            temperature_c = member.device.temperature_c if member.open else None
            found[member.name] = CameraStatus(temperature_c, clock, firmware, member.trouble)
        return found

    def open(self) -> None:
        """Open all cameras; each has to be there at the start."""
        if self._calibration is not None:
            raise DriverError(f"the {self._name} cameras are open already; close them first")
        if not self._members:
            raise DriverError(f"no camera was found for the driver '{self._name}'; look at cables, power and rights")
        origin = PulseOrigin(Pulses.at(self._rig.fps))
        try:
            for member in self._members:
                member.info = member.device.open()
                member.open = True
                source = self._rig.clocks.get(member.name, "auto")
                member.time = camera_time(
                    member.info.clock if source == "auto" else source,
                    pulses=Pulses.at(self._rig.fps),
                    origin=origin,
                    ns_per_tick=member.info.ns_per_tick,
                    utc_offset_s=self._rig.ptp_utc_offset_s,
                )
            sizes = {m.name: (m.info.serial, m.info.width, m.info.height) for m in self._members if m.info is not None}
            self._calibration = calibrate(self._rig.calibration, sizes)
        except BaseException:
            self._close_all()
            raise

    def arm(self, trigger: TriggerMode) -> None:
        """Begin to expose, a thread per camera."""
        _ = self.calibration
        choose_trigger(self._name, self.triggers, trigger)
        if self._executor is not None:
            raise DriverError(f"the {self._name} cameras are armed already; close it first")
        for member in self._members:
            member.device.start(trigger)
        self._stop.clear()
        self._arrived.clear()
        self._failure = None
        self._executor = ThreadPoolExecutor(len(self._members), thread_name_prefix=self._name)
        for member in self._members:
            self._executor.submit(self._serve, member, trigger)

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        """Return the picture that arrived longest ago."""
        if self._executor is None:
            raise DriverError(f"the {self._name} cameras are not armed; call arm first")
        with self._ready:
            self._ready.wait_for(lambda: self._arrived or self._failure is not None, timeout_s)
            if self._failure is not None:
                raise self._failure
            return self._arrived.popleft() if self._arrived else None

    def close(self) -> None:
        """Stop the threads and let go of all cameras."""
        self._stop.set()
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
        self._close_all()
        self._arrived.clear()

    def _close_all(self) -> None:
        for member in self._members:
            member.open = False
            member.device.close()
        self._calibration = None

    def _serve(self, member: _Member, trigger: TriggerMode) -> None:
        """Read one camera until stopped; a defect in the driver ends the run, a lost camera does not."""
        try:
            while not self._stop.is_set():
                try:
                    shot = member.device.read(POLL_S)
                except DriverError as error:
                    self._find_again(member, trigger, error)
                    continue
                if shot is not None:
                    self._deliver(member, shot, time.time_ns())
        except BaseException as defect:  # noqa: BLE001 -- handed to the thread that asks for pictures
            with self._ready:
                self._failure = defect
                self._ready.notify_all()

    def _find_again(self, member: _Member, trigger: TriggerMode, error: DriverError) -> None:
        attempt = 0
        while True:
            member.trouble = f"{error}; looking for it again"
            member.open = False
            member.device.close()
            if self._stop.wait(PAUSES_S[min(attempt, len(PAUSES_S) - 1)]):
                return
            attempt += 1
            try:
                info = member.device.open()
                if member.info is not None and (info.width, info.height) != (member.info.width, member.info.height):
                    raise DriverError(f"camera '{member.name}' came back with pictures of {info.width}x{info.height}")
                member.device.start(trigger)
            except DriverError as again:
                error = again
                continue
            member.info, member.open, member.trouble = info, True, ""
            with self._ready:
                self._counters[f"reconnects.{member.name}"] += 1
            return

    def _deliver(self, member: _Member, shot: Shot, receive_ns: int) -> None:
        if member.time is None:
            raise DriverError(f"camera '{member.name}' is not open")
        stamp = member.time.stamp(shot.ticks, shot.counter, receive_ns)
        frame = RawFrame(
            camera=member.name,
            counter=shot.counter,
            exposure_time_ns=stamp.exposure_time_ns,
            clock=member.time.clock,
            pixels=shot.pixels,
            encoding=shot.encoding,
            width=shot.width,
            height=shot.height,
            frame_id=stamp.frame_id,
        )
        with self._ready:
            if len(self._arrived) >= BUFFERED_PULSES * len(self._members):
                lost = self._arrived.popleft()
                self._counters[f"device-overruns.{lost.camera}"] += 1
            self._arrived.append(frame)
            self._ready.notify_all()
