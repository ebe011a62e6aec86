"""The one grab loop: a thread between a driver and whoever consumes its pictures.

It stamps arrivals, gives frames their rig numbers, counts what was lost and by whom, and brings a lost device back.
What it counts is what arrives, never what a driver says of itself: a gap in a camera's counter is `dropped-by-camera`.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from rig.clock import Pulses
from rig.driver import CameraDriver, RawFrame, StreamEnded, TriggerMode
from streamer.errors import DriverError
from streamer.types import Calibration

POLL_S = 0.1
"""How long a driver may keep the loop from noticing that it should stop."""
QUEUE_BYTES = 256 << 20
"""Memory for pictures that wait for the consumer."""
MAX_QUEUED_PULSES = 32
"""A consumer further behind than this will not catch up; older pictures are of no use to it."""


@dataclass(frozen=True, slots=True)
class Grabbed:
    """A picture on the host."""

    raw: RawFrame
    """As the device gave it."""
    frame_id: int
    """Rig frame id."""
    receive_time_ns: int
    """Arrival on the host, CLOCK_REALTIME, ns."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """Pauses between attempts to get a lost device back: doubling, bounded."""

    first_s: float = 0.25
    """Pause before the first attempt."""
    limit_s: float = 8.0
    """Longest pause."""

    def pause_s(self, attempt: int) -> float:
        """Return the pause before attempt 0, 1, 2, ..."""
        return float(min(self.limit_s, self.first_s * 2.0 ** min(attempt, 32)))


def queue_capacity(calibration: Calibration, queue_bytes: int) -> int:
    """Return how many pictures may wait: as many whole pulses as fit, at least one.

    Args:
        calibration: the cameras, whose pictures count as colour.
        queue_bytes: memory for them.
    """
    pulse_bytes = sum(3 * camera.width * camera.height for camera in calibration.cameras)
    return len(calibration.cameras) * min(MAX_QUEUED_PULSES, max(1, queue_bytes // pulse_bytes))


class Grabber:
    """Grabs from one driver into a bounded queue.

    When the queue is full the oldest picture goes and is counted, since a live consumer wants the newest; a source that
    can wait is made to wait instead and loses nothing.

    Args:
        driver: not open; opened, used and closed in the grabber's own thread.
        trigger: mode to arm it with.
        queue_bytes: memory for pictures that wait for the consumer.
        back_off: pauses while a lost device is looked for.
        now_ns: CLOCK_REALTIME.
    """

    _pulses: Pulses

    def __init__(
        self,
        driver: CameraDriver,
        trigger: TriggerMode,
        *,
        queue_bytes: int = QUEUE_BYTES,
        back_off: BackOff | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare; nothing is opened before `start`."""
        self._driver = driver
        self._trigger = trigger
        self._queue_bytes = queue_bytes
        self._capacity = 1
        self._back_off = back_off or BackOff()
        self._now_ns = now_ns
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._queue: deque[Grabbed] = deque()
        self._last: dict[str, int] = {}
        self._counters: Counter[str] = Counter()
        self._trouble = ""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="grabber")
        self._loop: Future[None] | None = None

    def start(self) -> None:
        """Open and arm the device, then begin to grab.

        Raises:
            DriverError: the device is absent; at the start there is nobody to wait for it.
        """
        try:
            self._executor.submit(self._connect).result()
        except BaseException:
            self.stop()
            raise
        self._loop = self._executor.submit(self._grab_until_stopped)
        self._loop.add_done_callback(self._wake)

    def get(self, timeout_s: float) -> Grabbed | None:
        """Return the oldest picture that waits, or None when none came in time or the source has ended.

        Raises:
            Exception: what broke the grab loop, if it is broken and nothing waits any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self.finished, timeout_s)
            if self._queue:
                grabbed = self._queue.popleft()
                self._changed.notify_all()
                return grabbed
        if self._loop is not None and self._loop.done():
            self._loop.result()
        return None

    @property
    def finished(self) -> bool:
        """Whether no further picture will be queued; pictures may still wait."""
        return self._loop is None or self._loop.done()

    @property
    def waiting(self) -> int:
        """Pictures in the queue."""
        return len(self._queue)

    @property
    def fill(self) -> float:
        """How full the queue is, 0 to 1."""
        return len(self._queue) / self._capacity

    @property
    def trouble(self) -> str:
        """Why there are no pictures at the moment; empty while the device delivers."""
        return self._trouble

    @property
    def counters(self) -> Mapping[str, int]:
        """Counts so far, those of the driver among them.

        `grabbed.<camera>`: pictures that arrived; `dropped-by-camera.<camera>`: gaps in its counter;
        `counter-resets.<camera>`: times it went back; `dropped-in-queue.<camera>`: pictures pushed out by newer ones;
        `reconnects`: times the device was found again.
        """
        with self._changed:
            own = dict(self._counters)
        return {**self._driver.counters, **own}

    def stop(self) -> None:
        """Stop grabbing and close the device; once is enough. Pictures that wait stay available to `get`."""
        if self._stop.is_set():
            return
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        try:
            self._executor.submit(self._driver.close).result()
        finally:
            self._executor.shutdown()

    def _wake(self, _: Future[None]) -> None:
        with self._changed:
            self._changed.notify_all()

    def _connect(self) -> None:
        self._driver.open()
        self._driver.arm(self._trigger)
        self._last.clear()
        self._pulses = Pulses.at(self._driver.fps)
        self._capacity = queue_capacity(self._driver.calibration, self._queue_bytes)

    def _grab_until_stopped(self) -> None:
        while not self._stop.is_set():
            try:
                raw = self._driver.next_frame(POLL_S)
            except StreamEnded:
                return
            except DriverError as error:
                self._reconnect(error)
                continue
            if raw is not None:
                self._accept(raw)
        if not self._driver.can_wait:
            self._fetch_arrived()

    def _fetch_arrived(self) -> None:
        """Take what has arrived but was not fetched yet, so that the last set of a run is whole."""
        with suppress(DriverError):
            for _ in range(self._capacity):
                raw = self._driver.next_frame(0.0)
                if raw is None:
                    return
                self._accept(raw)

    def _reconnect(self, error: DriverError) -> None:
        attempt = 0
        while True:
            self._trouble = f"{error}; looking for the device again"
            self._driver.close()
            if self._stop.wait(self._back_off.pause_s(attempt)):
                return
            try:
                self._connect()
            except DriverError as again:
                error, attempt = again, attempt + 1
                continue
            self._trouble = ""
            with self._changed:
                self._counters["reconnects"] += 1
            return

    def _accept(self, raw: RawFrame) -> None:
        frame_id = self._pulses.frame_id(raw.exposure_time_ns) if raw.frame_id is None else raw.frame_id
        grabbed = Grabbed(raw, frame_id, self._now_ns())
        with self._changed:
            self._counters[f"grabbed.{raw.camera}"] += 1
            # A device counts from 0 when armed, so losses before its first picture show; a recording starts anywhere.
            before_first = raw.counter - 1 if self._trigger == "recorded" else -1
            gap = raw.counter - self._last.get(raw.camera, before_first) - 1
            self._last[raw.camera] = raw.counter
            if gap < 0:
                self._counters[f"counter-resets.{raw.camera}"] += 1
            elif gap:
                self._counters[f"dropped-by-camera.{raw.camera}"] += gap
            if self._driver.can_wait:
                self._changed.wait_for(lambda: len(self._queue) < self._capacity or self._stop.is_set())
            elif len(self._queue) >= self._capacity:
                pushed_out = self._queue.popleft()
                self._counters[f"dropped-in-queue.{pushed_out.raw.camera}"] += 1
            self._queue.append(grabbed)
            self._changed.notify_all()
