"""The process of a camera host: grabs, makes the pictures that travel, publishes them, and accounts for every one."""

import math
import os
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from rig.config import RigConfig
from rig.driver import CameraDriver, TriggerMode, TruthSource, choose_trigger
from rig.drivers import make_driver
from rig.grabber import Grabbed, Grabber
from rig.node_gauges import Rates, camera_gauges, camera_trouble
from rig.pictures import DamagedPicture, Picture, prepare
from rig.sync.alarm import SkewWatch
from streamer.config import BusConfig
from streamer.errors import MienError
from streamer.processes import HealthBeat, Vitals
from streamer.transport import Publisher, endpoint_for, ring_slots_for
from streamer.types import Calibration, Camera, Frame, Topology

if TYPE_CHECKING:
    from rig.host_recording import HostRecording, HostRecordingOptions

REPEAT_S = 1.0
"""Period of calibration and topology: what a late joiner waits for at most."""
WAIT_S = 0.05
"""Longest wait for a picture: bounds how late the end of the run is noticed."""


class StopSignal(Protocol):
    """What tells a process to end: a `threading.Event` or the handler of SIGINT and SIGTERM."""

    def is_set(self) -> bool:
        """Whether it is time to end."""


def run_node(
    rig: RigConfig,
    bus: BusConfig,
    *,
    stop: StopSignal,
    seconds: float | None = None,
    driver: CameraDriver | None = None,
    bound: Callable[[str], object] | None = None,
    recording: "HostRecordingOptions | None" = None,
) -> Mapping[str, int]:
    """Publish the cameras of this host until told to stop, until the source ends, or for some time.

    Args:
        rig: cameras and what they publish.
        bus: where to publish.
        stop: ends the run cleanly: the device is closed, every picture already grabbed is published, and a last health
            message holds the final counters.
        seconds: length of the run from the first exposure on; None: no limit.
        driver: the device, not open; None: the one that `rig` names.
        bound: told the endpoint that was bound, before the device is opened.
        recording: also record full pictures on this host; None: do not.

    Returns:
        The final counters; per camera `grabbed` = `published` + `dropped-in-queue` + `damaged`.

    Raises:
        DriverError: the device is absent, cannot do what was asked, or delivers pictures of a wrong size.
        TransportError: the port is in use or not safe to bind.
    """
    device, trigger = _device(rig, driver)
    endpoint = endpoint_for(bus, "node")
    with Publisher(endpoint, ring_slots=ring_slots_for(bus), keys_dir=bus.keys_dir) as publisher:
        if bound is not None:
            bound(publisher.endpoint)
        return _Node(rig, publisher, device, trigger, bus.ring_slots).run(stop, seconds, recording)


def _device(rig: RigConfig, driver: CameraDriver | None) -> tuple[CameraDriver, TriggerMode]:
    if driver is None:
        return make_driver(rig)
    return driver, choose_trigger(type(driver).__name__, driver.triggers, rig.trigger)


class _Node:
    """The state of one run; used by one thread, which alone touches the publisher."""

    def __init__(
        self, rig: RigConfig, publisher: Publisher, driver: CameraDriver, trigger: TriggerMode, ring_slots: int
    ) -> None:
        self._rig = rig
        self._publisher = publisher
        self._driver = driver
        self._truths = driver if isinstance(driver, TruthSource) else None
        self._grabber = Grabber(driver, trigger)
        self._states: tuple[tuple[str, Calibration | Topology], ...] = ()
        self._cameras: dict[str, Camera] = {}
        self._published: dict[str, int] = {}
        self._damaged: Counter[str] = Counter()
        self._encoding: deque[tuple[Grabbed, Future[Picture]]] = deque()
        self._workers = max(1, min(4, os.cpu_count() or 1))
        # Full raw pictures need no work: handing them to another thread would cost more than it does.
        self._inline = rig.encoding == "raw" and rig.publish == "full"
        self._ages_ms: list[float] = []
        self._rates = Rates(ring_slots)
        self._error = ""
        self._watch = SkewWatch((), 0)
        self._recording: HostRecording | None = None

    def run(
        self, stop: StopSignal, seconds: float | None, recording: "HostRecordingOptions | None" = None
    ) -> Mapping[str, int]:
        # No heartbeat before the device is open: the first one tells a supervisor that this process works.
        self._grabber.start()
        try:
            calibration = self._driver.calibration
            self._cameras = {camera.id: camera for camera in calibration.cameras}
            self._published = dict.fromkeys(calibration.ids, 0)
            self._watch = SkewWatch(calibration.ids, self._rig.skew_alarm_us)
            if recording is not None:
                from rig.host_recording import HostRecording  # takes are a third of what a node would import

                rig = self._rig
                self._recording = HostRecording(recording, calibration, rig.encoding, rig.jpeg_quality)
            self._states = (("calibration", calibration), *(("topology", each) for each in self._driver.topologies))
            with (
                HealthBeat(self._publisher, "node", self._vitals),
                ThreadPoolExecutor(self._workers, thread_name_prefix="encode") as pool,
            ):
                self._run(pool, stop, seconds)
        finally:
            self._grabber.stop()
            if self._recording is not None:
                self._recording.close()
        return self._counters()

    def _run(self, pool: ThreadPoolExecutor, stop: StopSignal, seconds: float | None) -> None:
        try:
            self._publish_until_stopped(pool, stop, seconds)
            self._grabber.stop()
            while self._step(pool, 0.0):
                pass
        except MienError as error:
            self._error = str(error)
            raise

    def _publish_until_stopped(self, pool: ThreadPoolExecutor, stop: StopSignal, seconds: float | None) -> None:
        end = math.inf if seconds is None else time.monotonic() + seconds
        repeat_at = -math.inf
        while not (stop.is_set() or self._grabber.finished or (now := time.monotonic()) >= end):
            if now >= repeat_at:
                repeat_at = now + REPEAT_S
                for channel, message in self._states:
                    self._publisher.send(channel, message)
            self._step(pool, WAIT_S)

    def _step(self, pool: ThreadPoolExecutor, wait_s: float) -> bool:
        """Publish one picture if there is one; keep the encoders supplied meanwhile."""
        worked = self._publish_next(wait_s) if self._inline else self._encode_next(pool, wait_s)
        if self._truths is not None:
            for mesh in self._truths.take_truths():
                self._publisher.send("truth", replace(mesh, publish_time_ns=time.time_ns()))
        return worked

    def _next(self, wait_s: float) -> Grabbed | None:
        grabbed = self._grabber.get(wait_s)
        if grabbed is not None:
            raw = grabbed.raw
            self._watch.push(raw.camera, grabbed.frame_id, raw.exposure_time_ns)
            if self._recording is not None:
                self._recording.offer(grabbed)
        return grabbed

    def _publish_next(self, wait_s: float) -> bool:
        grabbed = self._next(wait_s)
        if grabbed is None:
            return False
        try:
            self._publish(grabbed, prepare(grabbed.raw, self._cameras[grabbed.raw.camera], self._rig))
        except DamagedPicture:  # a take of JPEGs, published raw
            self._damaged[grabbed.raw.camera] += 1
        return True

    def _encode_next(self, pool: ThreadPoolExecutor, wait_s: float) -> bool:
        while len(self._encoding) < 4 * self._workers:
            grabbed = self._next(0.0 if self._encoding else wait_s)
            if grabbed is None:
                break
            camera = self._cameras[grabbed.raw.camera]
            self._encoding.append((grabbed, pool.submit(prepare, grabbed.raw, camera, self._rig)))
        if not self._encoding:
            return False
        # In the order of arrival, so that the frames of a camera never overtake one another.
        grabbed, picture = self._encoding.popleft()
        try:
            self._publish(grabbed, picture.result())
        except DamagedPicture:
            self._damaged[grabbed.raw.camera] += 1
        return True

    def _publish(self, grabbed: Grabbed, picture: Picture) -> None:
        raw = grabbed.raw
        now_ns = time.time_ns()
        frame = Frame(
            camera=raw.camera,
            frame_id=grabbed.frame_id,
            counter=raw.counter,
            sequence=self._published[raw.camera],
            exposure_time_ns=raw.exposure_time_ns,
            clock=raw.clock,
            receive_time_ns=grabbed.receive_time_ns,
            publish_time_ns=now_ns,
            width=picture.width,
            height=picture.height,
            encoding=picture.encoding,
            data=picture.data,
            timecode=raw.timecode,
        )
        self._publisher.send("frame", frame)
        self._published[raw.camera] += 1
        self._ages_ms.append((now_ns - grabbed.receive_time_ns) / 1e6)

    def _vitals(self) -> Vitals:
        """Describe the time since the last call; called by the heartbeat, in its thread."""
        gauges = {"queue": float(self._grabber.waiting), "queue_fill": self._grabber.fill}
        gauges |= self._rates.gauges(self._published, time.monotonic())
        gauges |= camera_gauges(self._driver, self._watch)
        ages_ms, self._ages_ms = self._ages_ms, []
        if ages_ms:
            gauges["receive_to_publish_ms.p50"] = statistics.median(ages_ms)
            gauges["receive_to_publish_ms.max"] = max(ages_ms)
        message = self._error or self._grabber.trouble or camera_trouble(self._driver) or self._watch.alarm
        if self._recording is not None:
            gauges |= self._recording.gauges
            message = message or self._recording.trouble
        return Vitals("degraded" if message else "running", self._counters(), gauges, message)

    def _counters(self) -> dict[str, int]:
        counters = dict(self._grabber.counters)
        for camera, count in self._published.items():
            counters[f"published.{camera}"] = count
            for loss in ("dropped-by-camera", "dropped-in-queue"):
                counters.setdefault(f"{loss}.{camera}", 0)
        for camera, count in list(self._damaged.items()):
            counters[f"damaged.{camera}"] = count
        return counters | dict(self._recording.counters if self._recording is not None else {})
