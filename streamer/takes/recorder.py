"""Bus -> take: every recorded channel of every process, and a ledger of whatever could not be taken."""

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path

from streamer.channels import CHANNELS
from streamer.config import BusConfig, RecordConfig, SyncConfig
from streamer.errors import MienError, TakeError
from streamer.processes import HealthBeat, Vitals
from streamer.takes.layout import new_take_path, take_number
from streamer.takes.writer import TakeWriter, topic_of
from streamer.transport import Publisher, Subscriber, endpoint_for, infer_endpoint, node_endpoints
from streamer.types import Calibration, Frame
from streamer.wire import Message

DEPTH = 512
"""Messages per publisher that may wait in the socket while this process is held up: a second of sixteen cameras."""
MESSAGE_BYTES = 2048
"""What a message costs in the queue besides its picture."""
POLL_S = 0.1
CHECK_S = 1.0
DRAIN_S = 2.0

Item = tuple[str, Message, int]
"""Channel, message, log time in ns."""


def _weight(message: Message) -> int:
    return MESSAGE_BYTES + (message.data.nbytes if isinstance(message, Frame) else 0)


class Intake:
    """Messages that wait for the disk, bounded in bytes; never blocks the side that puts."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin empty.

        Args:
            limit_bytes: what may wait.
        """
        self._limit = limit_bytes
        self._items: deque[Item] = deque()
        self._ready = threading.Condition()
        self.closed = False
        """Whether nothing more is let in."""
        self.waiting_bytes = 0
        """What waits now."""

    def put(self, item: Item) -> bool:
        """Add a message; returns False if there is no room for it."""
        weight = _weight(item[1])
        with self._ready:
            if self.closed or self.waiting_bytes + weight > self._limit:
                return False
            self._items.append(item)
            self.waiting_bytes += weight
            self._ready.notify()
        return True

    def get(self, timeout_s: float) -> Item | None:
        """Take the oldest message, None if none came within the time."""
        with self._ready:
            if not self._items and not self.closed:
                self._ready.wait(timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self.waiting_bytes -= _weight(item[1])
            return item

    def close(self) -> None:
        """Let nothing more in; what waits can still be taken."""
        with self._ready:
            self.closed = True
            self._ready.notify_all()

    @property
    def done(self) -> bool:
        """Whether it is closed and empty."""
        with self._ready:
            return self.closed and not self._items


class Ledger:
    """What could not be taken: topic to reason to number. Fed by the receiving thread."""

    def __init__(self) -> None:
        """Begin empty."""
        self.counts: dict[str, Counter[str]] = {}
        self._next: dict[str, int] = {}

    def count(self, topic: str, reason: str, number: int = 1) -> None:
        """Enter lost messages."""
        self.counts.setdefault(topic, Counter())[reason] += number

    def follow(self, frame: Frame) -> None:
        """Notice a gap in what a node published; a number that falls back means that the node was started again."""
        expected = self._next.get(frame.camera, frame.sequence)
        if frame.sequence > expected:
            self.count(f"frame/{frame.camera}", "lost-on-bus", frame.sequence - expected)
        self._next[frame.camera] = frame.sequence + 1

    @property
    def total(self) -> Mapping[str, int]:
        """Reason to number, all topics together."""
        total: Counter[str] = Counter()
        for reasons in list(self.counts.values()):
            total.update(dict(reasons))  # a copy: the receiving thread goes on counting
        return total


class _Disk(threading.Thread):
    """Moves messages from the intake into the take until the intake is done or the disk fails."""

    def __init__(self, writer: TakeWriter, intake: Intake, idle_s: float) -> None:
        super().__init__(name="take-writer", daemon=True)
        self.failure: MienError | None = TakeError("the writing thread broke; its trace is on standard error")
        self._writer, self._intake, self._idle_s = writer, intake, idle_s

    def run(self) -> None:
        try:
            while not self._intake.done:
                item = self._intake.get(self._idle_s)
                if item is None:
                    self._writer.flush()
                else:
                    self._writer.write(*item)
            self.failure = None
        except MienError as error:
            self.failure = error
        finally:
            self._intake.close()


class _Recorder:
    """The receiving side: one thread, one subscriber."""

    def __init__(self, record: RecordConfig, sync: SyncConfig, path: Path, config_text: str) -> None:
        self._record, self._sync, self._path, self._config_text = record, sync, path, config_text
        self.intake = Intake(int(record.queue_mb * 1e6))
        self.ledger = Ledger()
        self.writer: TakeWriter | None = None
        self.disk: _Disk | None = None
        self.refused: Mapping[str, int] = {}

    def take(self, channel: str, message: Message) -> None:
        """Put a message on its way to the disk; the first calibration opens the take."""
        now = time.time_ns()
        if isinstance(message, Frame):
            self.ledger.follow(message)
        if self.writer is None and isinstance(message, Calibration):
            self._open(message)
        if not self.intake.put((channel, message, now)):
            reason = "not-written" if self.intake.closed else "queue-full"
            self.ledger.count(topic_of(channel, message).name, reason)

    def _open(self, calibration: Calibration) -> None:
        self.writer = TakeWriter(
            self._path,
            calibration=calibration,
            config_text=self._config_text,
            show=self._record.show,
            slate=self._record.slate,
            take=take_number(self._path),
            record=self._record,
            sync=self._sync,
        )
        self.disk = _Disk(self.writer, self.intake, self._record.sync_s)
        self.disk.start()

    def vitals(self) -> Vitals:
        """What the heartbeat says."""
        lost = {f"lost.{reason}": count for reason, count in self.ledger.total.items()}
        refused = {f"refused.{reason}": count for reason, count in self.refused.items()}
        taken = sum(dict(self.writer.messages).values()) if self.writer else 0
        gauges = {"queue_mb": self.intake.waiting_bytes / 1e6, "disk_free_gb": _free_bytes(self._path) / 1e9}
        message = "" if self.writer else "waiting for the calibration message of a camera node"
        state = "degraded" if lost or refused else "running"
        return Vitals(state, {"recorded": taken, **lost, **refused}, gauges, message)

    def close(self, stopped: str) -> None:
        """Write what waits, close the take with its ledger.

        Raises:
            TakeError: the disk failed; the take is closed with everything before that whole.
        """
        self.intake.close()
        if self.writer is None or self.disk is None:
            return
        self.disk.join()
        while (item := self.intake.get(0.0)) is not None:
            self.ledger.count(topic_of(item[0], item[1]).name, "not-written")
        for reason, number in self.refused.items():
            self.ledger.count("refused", reason, number)
        for topic, reasons in self.ledger.counts.items():
            for reason, number in reasons.items():
                self.writer.count_drop(topic, reason, number)
        failure = self.disk.failure
        if failure is None:
            self.writer.close(stopped)
            return
        self.writer.close(str(failure))
        self.writer.rewrite_ledger()
        raise failure


def run_record(
    record: RecordConfig,
    bus: BusConfig,
    sync: SyncConfig,
    *,
    stop: threading.Event,
    seconds: float | None = None,
    path: Path | None = None,
    config_text: str = "",
) -> Path:
    """Record a take until told to stop.

    The take begins with the first calibration message; what arrives before waits in memory and is recorded too. What
    cannot be taken is counted by topic and reason in the take's ledger: `lost-on-bus` (gaps in a node's numbering),
    `queue-full` (the disk was too slow), `disk-full`, `not-written` (received when the disk had failed); and under
    `refused` what arrived unsound (frames among it are in `lost-on-bus` of their camera as well).

    Args:
        record: where and how.
        bus: whom to listen to, and the port for health.
        sync: how frames of this take become sets; kept in the take.
        stop: ends the recording; what has arrived by then is written.
        seconds: length, counted from the calibration message; None: until `stop`.
        path: folder of the take; None: the next free one of show and slate.
        config_text: the effective configuration as TOML, kept in the take.

    Returns:
        The folder of the closed take.

    Raises:
        TakeError: no calibration came, the folder exists, the disk is too full to begin, or it filled up: then the
            take is closed and whole up to there.
        TransportError: the health port is in use, or keys are missing.
        ConfigError: show or slate cannot be folder names.
    """
    path = new_take_path(record) if path is None else path
    least = record.min_free_gb * 1e9
    _check_place(path, least)
    sources = [*node_endpoints(bus), infer_endpoint(bus), endpoint_for(bus, "record"), endpoint_for(bus, "demo")]
    channels = [channel.name for channel in CHANNELS.values() if channel.recorded]
    recorder = _Recorder(record, sync, path, config_text)
    stopped = ""
    with (
        Publisher(endpoint_for(bus, "record"), keys_dir=bus.keys_dir) as publisher,
        Subscriber(sources, channels, keys_dir=bus.keys_dir, depth=DEPTH) as subscriber,
        HealthBeat(publisher, "record", recorder.vitals),
    ):
        try:
            stopped = _receive(recorder, subscriber, stop, seconds, least, path)
        finally:
            recorder.close(stopped)
    if recorder.writer is None:
        raise TakeError(
            f"nothing was recorded: no calibration came from {', '.join(node_endpoints(bus))}; start mien node"
        )
    if stopped:
        raise TakeError(f"{path}: {stopped}; the take is closed and whole, free space on this disk")
    return path


def _check_place(path: Path, least: float) -> None:
    if path.exists():
        raise TakeError(f"{path} exists already; give another folder or remove it")
    if (free := _free_bytes(path)) < least:
        raise TakeError(
            f"{path}: {free / 1e9:.2f} GB free, record.min_free_gb = {least / 1e9:g}; free space on this disk"
        )


def _receive(
    recorder: _Recorder, subscriber: Subscriber, stop: threading.Event, seconds: float | None, least: float, path: Path
) -> str:
    """Receive until it is time to stop; return why the recorder stopped by itself."""
    end_s: float | None = None
    check_s = time.monotonic() + CHECK_S
    while not stop.is_set():
        received = subscriber.receive(POLL_S)
        if received is not None:
            recorder.take(*received)
        now_s = time.monotonic()
        if seconds is not None and end_s is None and recorder.writer is not None:
            end_s = now_s + seconds
        if end_s is not None and now_s >= end_s:
            break
        if recorder.disk is not None and not recorder.disk.is_alive():
            return ""
        if now_s >= check_s:
            check_s = now_s + CHECK_S
            recorder.refused = dict(subscriber.rejected)
            if _free_bytes(path) < least:
                return f"less than record.min_free_gb = {least / 1e9:g} GB free"
    drain_s = time.monotonic() + DRAIN_S
    while time.monotonic() < drain_s and (waiting := subscriber.drain()):
        for channel, message in waiting:
            recorder.take(channel, message)
    recorder.refused = dict(subscriber.rejected)
    return ""


def _free_bytes(path: Path) -> int:
    """Free space where a path is or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
