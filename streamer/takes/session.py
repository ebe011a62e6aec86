"""The recorder between takes: armed with a pre-roll, started and stopped by commands, alive when a disk is not."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamer import timecode
from streamer.audio.recorder import AudioInput
from streamer.config import RecordConfig, SyncConfig
from streamer.errors import ConfigError, MienError, TakeError
from streamer.processes import Vitals
from streamer.takes.anchors import anchor_for, label_of, rate_of
from streamer.takes.intake import PreRoll
from streamer.takes.layout import TAKE_JSON, About, check_name, new_take_path, numbered_path, take_number
from streamer.takes.recording import Plan, Recording
from streamer.takes.space import check_place, free_bytes
from streamer.types import Calibration, Topology
from streamer.wire import Message

CLOSE_WAIT_S = 5.0
"""How long the answer to `stop` waits for the disk."""
MAX_TEXT = 500
ARGUMENTS: Mapping[str, frozenset[str]] = {
    "status": frozenset(),
    "start": frozenset({"show", "slate", "take", "notes"}),
    "stop": frozenset(),
    "mark": frozenset({"text"}),
    "set": frozenset({"show", "slate", "take", "notes"}),
}
"""Commands and what each may be told."""


@dataclass(frozen=True, slots=True)
class Next:
    """What the next take will be called."""

    show: str
    """Show name."""
    slate: str
    """Slate name."""
    take: int | None = None
    """Take number; None: the next free one."""
    notes: str = ""
    """Notes."""


class Session:
    """Takes, one after the other. Messages come from one thread, commands from any; neither waits for a disk.

    Args:
        record: where and how.
        sync: how frames become sets; kept in the takes.
        config_text: the effective configuration as TOML, kept in the takes.
        clock_ns: CLOCK_REALTIME.
        audio: an input that is recorded with the pictures.
    """

    def __init__(
        self,
        record: RecordConfig,
        sync: SyncConfig,
        config_text: str = "",
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        audio: AudioInput | None = None,
        on_closed: Callable[[Path], None] = lambda path: None,
    ) -> None:
        """Begin armed."""
        if record.timecode == "ltc" and audio is None:
            raise ConfigError("record.timecode = 'ltc' needs an audio input: set record.audio")
        self._audio, self._on_closed = audio, on_closed
        self._record, self._sync, self._config_text, self._clock_ns = record, sync, config_text, clock_ns
        self._next = Next(check_name("record.show", record.show), check_name("record.slate", record.slate))
        if record.timecode != "none":
            timecode.check_rate(rate_of(record), record.drop_frame)
        self._commands, self._lock = threading.Lock(), threading.Lock()
        self._preroll = PreRoll(record.preroll_s, int(record.queue_mb * 5e5))
        self._cameras: dict[tuple[str, ...], Calibration] = {}  # of each camera host
        self._topologies: dict[str, Topology] = {}
        self._current: Recording | None = None
        self._closing: threading.Thread | None = None
        self._begun_ns = 0
        self.failure: MienError | None = None
        """What ended the last take, if it did not end well."""
        self.alarm = ""
        """Why the last take ended by itself, one line; empty if it did not."""
        self.closed: list[Path] = []
        """The takes closed so far."""
        self._recorded = 0
        self.refused: Mapping[str, int] = {}
        """Messages that arrived unsound so far, by reason; told by the receiving side."""
        self._refused_before: Mapping[str, int] = {}

    # The receiving side

    def put(self, channel: str, message: Message) -> None:
        """Take in a message of the bus."""
        now_ns = self._clock_ns()
        with self._lock:
            if isinstance(message, Calibration):
                self._cameras[message.ids] = message
            elif isinstance(message, Topology):
                self._topologies[message.id] = message
            self._preroll.add((channel, message, now_ns))
            if self._current is None:
                return
            try:
                self._current.put(channel, message, now_ns)
            except MienError as error:  # its folder cannot be made: there is no take, the bus goes on
                self._current, self.failure, self.alarm = None, error, str(error)

    def check(self) -> None:
        """End the take if its disk failed, is gone or nearly full; call it about once a second."""
        current = self._current
        if current is None:
            return
        if current.broken:
            self._finish("")
        elif self.opened and not (current.plan.path / TAKE_JSON).exists():
            self._finish(f"its folder is gone: {current.plan.path}")
        elif free_bytes(current.plan.path) < self._record.min_free_gb * 1e9:
            self._finish(f"less than record.min_free_gb = {self._record.min_free_gb:g} GB free")

    def begin(self, path: Path | None) -> Path:
        """Begin a take at once; its folder is made when the first calibration comes, what comes before waits.

        Args:
            path: its folder; None: the next free one.

        Returns:
            Its folder.

        Raises:
            TakeError: it exists, or the disk is too full.
        """
        path = path or self._path(self._next)
        check_place(path, self._record.min_free_gb * 1e9)
        now_ns = self._clock_ns()
        about = About(str(uuid.uuid4()), self._next.notes, anchor_for(self._record, now_ns))
        plan = Plan(path, self._next.show, self._next.slate, about, self._config_text)
        with self._lock:
            self._current, self._begun_ns = Recording(plan, self._record, self._sync, self._audio), now_ns
        return path

    @property
    def empty(self) -> bool:
        """Whether nothing was recorded at all."""
        return not self.closed

    @property
    def recording(self) -> bool:
        """Whether a take is on."""
        return self._current is not None

    @property
    def broken(self) -> bool:
        """Whether the disk of the present take has failed."""
        current = self._current
        return current is not None and current.broken

    @property
    def opened(self) -> bool:
        """Whether the folder of the present take has been made."""
        current = self._current
        return current is not None and current.writer is not None

    def close(self) -> None:
        """End the take, if one runs, and wait for the disk."""
        self._finish("")
        if self._closing is not None:
            self._closing.join()

    # Commands

    def command(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Obey a command.

        Args:
            name: `status`, `start`, `stop`, `mark` or `set`.
            arguments: as docs/takes.md says.

        Returns:
            The status after it.

        Raises:
            ConfigError: no such command or argument, or a value that cannot be.
            TakeError: not possible now; the message says why.
        """
        if name not in ARGUMENTS:
            raise ConfigError(f"no command {name!r}; there are {', '.join(ARGUMENTS)}")
        if unknown := sorted(arguments.keys() - ARGUMENTS[name]):
            raise ConfigError(
                f"{name} takes no {unknown[0]!r}; it takes {', '.join(sorted(ARGUMENTS[name])) or 'nothing'}"
            )
        with self._commands:
            if name == "start":
                self._start(self._named(arguments))
            elif name == "set":
                self._next = self._named(arguments)
            elif name == "stop":
                self._stop()
            elif name == "mark":
                self._mark(_text("text", arguments.get("text", "")))
            return self.status()

    def status(self) -> dict[str, Any]:
        """Return what a console shows."""
        current, now_ns = self._current, self._clock_ns()
        closing = self._closing is not None and self._closing.is_alive()
        state = "recording" if current else "closing" if closing else "armed"
        anchor = current.plan.about.timecode if current else None
        return {
            "state": state,
            "take": str(current.plan.path) if current else "",
            "last": str(self.closed[-1]) if self.closed else "",
            "show": self._next.show,
            "slate": self._next.slate,
            "next_take": self._next.take or take_number(self._path(self._next)),
            "notes": self._next.notes,
            "seconds": round((now_ns - self._begun_ns) / 1e9, 3) if current else 0.0,
            "messages": current.messages if current else 0,
            "markers": current.markers if current else 0,
            "lost": dict(current.losses.total) if current else {},
            "preroll_s": round(self._preroll.seconds, 3),
            "disk_free_gb": round(free_bytes(Path(self._record.directory)) / 1e9, 3),
            "alarm": self.alarm,
            "audio": self._record.audio,
            "timecode": timecode.at(label_of(anchor), anchor.time_ns, now_ns).text if anchor else "",
        }

    def vitals(self) -> Vitals:
        """What the heartbeat says."""
        current = self._current
        lost = {f"lost.{reason}": count for reason, count in current.losses.total.items()} if current else {}
        refused = {f"refused.{reason}": count for reason, count in self.refused.items()}
        gauges = {
            "recording": float(current is not None),
            "markers": float(current.markers if current else 0),
            "preroll_s": self._preroll.seconds,
            "queue_mb": current.intake.waiting_bytes / 1e6 if current else 0.0,
            "disk_free_gb": free_bytes(current.plan.path if current else Path(self._record.directory)) / 1e9,
        }
        if current:
            gauges[f"take_begun_s.{current.plan.path.name}"] = self._begun_ns / 1e9  # CLOCK_REALTIME
        recorded = self._recorded + (current.messages if current else 0)
        state = "degraded" if lost or refused or self.alarm else "running"
        waiting = "" if self._cameras else "waiting for the calibration message of a camera node"
        return Vitals(
            state, {"recorded": recorded, "takes": len(self.closed), **lost, **refused}, gauges, self.alarm or waiting
        )

    def _named(self, arguments: Mapping[str, Any]) -> Next:
        take = arguments.get("take", self._next.take)
        if take is not None and (type(take) is not int or not 1 <= take <= 999_999):
            raise ConfigError(f"take = {take!r}: expected a whole number from 1 to 999999")
        return Next(
            check_name("show", _text("show", arguments.get("show", self._next.show))),
            check_name("slate", _text("slate", arguments.get("slate", self._next.slate))),
            take,
            _text("notes", arguments.get("notes", self._next.notes)),
        )

    def _path(self, wanted: Next) -> Path:
        record = replace(self._record, show=wanted.show, slate=wanted.slate)
        return new_take_path(record) if wanted.take is None else numbered_path(record, wanted.take)

    def _start(self, wanted: Next) -> None:
        if self._current is not None:
            raise TakeError(f"{self._current.plan.path} is being recorded already; stop it first")
        if not self._cameras:
            raise TakeError("no calibration came from a camera node yet; start mien node")
        hosts = list(self._cameras.values())
        path = self._path(wanted)
        check_place(path, self._record.min_free_gb * 1e9)
        now_ns = self._clock_ns()
        about = About(str(uuid.uuid4()), wanted.notes, anchor_for(self._record, now_ns))
        plan = Plan(path, wanted.show, wanted.slate, about, self._config_text)
        recording = Recording(plan, self._record, self._sync, self._audio)
        recording.open(hosts[0])  # makes folders and files: outside the lock, the bus does not wait for them
        with self._lock:
            before = self._preroll.items()
            first_ns = before[0][2] if before else now_ns
            for calibration in hosts:
                recording.put("calibration", calibration, first_ns)
            for topology in self._topologies.values():
                recording.put("topology", topology, first_ns)
            for item in before:
                recording.put(*item)
            self._refused_before = self.refused
            self._current, self._begun_ns, self.alarm = recording, now_ns, ""
        self._next = replace(wanted, take=None)

    def _stop(self) -> None:
        if self._current is None:
            raise TakeError("nothing is being recorded")
        self._finish("")
        if self._closing is not None:
            self._closing.join(CLOSE_WAIT_S)

    def _mark(self, text: str) -> None:
        current = self._current
        if current is None:
            raise TakeError("nothing is being recorded; a marker belongs to a take")
        current.mark(self._clock_ns(), text)

    def _finish(self, stopped: str) -> None:
        """Take the recording off the bus and close it in a thread of its own."""
        with self._lock:
            current, self._current = self._current, None
        if current is None:
            return
        refused = {k: n - self._refused_before.get(k, 0) for k, n in self.refused.items()}
        before = self._closing

        def close() -> None:
            if before is not None:
                before.join()
            self.failure = None
            try:
                current.close(stopped, {k: n for k, n in refused.items() if n})
                if stopped:
                    message = f"{current.plan.path}: {stopped}; the take is closed and whole, free space on this disk"
                    self.failure = TakeError(message)
            except MienError as error:
                self.failure = error
            self.alarm = str(self.failure or "")
            self._recorded += current.messages
            if current.writer is not None:
                self.closed.append(current.plan.path)
                self._on_closed(current.plan.path)

        self._closing = threading.Thread(target=close, name="take-close")
        self._closing.start()


def _text(name: str, value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT or not value.replace("\n", " ").isprintable():
        raise ConfigError(f"{name}: expected printable text of at most {MAX_TEXT} characters")
    return value
