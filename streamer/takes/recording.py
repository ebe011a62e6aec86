"""One take being recorded: messages in, a disk thread behind a bounded queue, the names of what did not fit."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streamer.audio.recorder import AudioInput
from streamer.config import RecordConfig, SyncConfig
from streamer.errors import MienError, TakeError
from streamer.takes.anchors import rate_of
from streamer.takes.extras import write_extras
from streamer.takes.intake import Intake, Losses
from streamer.takes.layout import About, Marker, take_number
from streamer.takes.stored import topic_of
from streamer.takes.writer import TakeWriter
from streamer.types import Calibration, Frame
from streamer.wire import Message


class _Disk(threading.Thread):
    """Moves messages from the intake into the take until the intake is done or the disk fails."""

    def __init__(self, writer: TakeWriter, intake: Intake, losses: Losses, idle_s: float) -> None:
        super().__init__(name="take-writer", daemon=True)
        self.failure: MienError | None = TakeError("the writing thread broke; its trace is on standard error")
        self._writer, self._intake, self._losses, self._idle_s = writer, intake, losses, idle_s

    def run(self) -> None:
        try:
            while not self._intake.done:
                item = self._intake.get(self._idle_s)
                for loss in self._losses.take():
                    self._writer.lose(loss)
                if item is None:
                    self._writer.flush()
                else:
                    self._writer.write(*item)
            self.failure = None
        except MienError as error:
            self.failure = error
        finally:
            self._intake.close()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a take is going to be."""

    path: Path
    """Its folder; must not exist."""
    show: str
    """Show name."""
    slate: str
    """Slate name."""
    about: About = field(default_factory=About)
    """Identity, notes and timecode."""
    config_text: str = ""
    """The effective configuration as TOML."""


class Recording:
    """One take: the receiving side puts, a thread of its own writes. `mark` may come from another thread."""

    def __init__(self, plan: Plan, record: RecordConfig, sync: SyncConfig, audio: AudioInput | None = None) -> None:
        """Prepare; nothing is made before the first calibration."""
        self.plan = plan
        """What it is."""
        self._record, self._sync, self._audio = record, sync, audio
        self.intake = Intake(int(record.queue_mb * 1e6))
        self.losses = Losses()
        self.writer: TakeWriter | None = None
        self._disk: _Disk | None = None
        self.frame_id = -1
        """Newest rig frame id."""
        self.markers = 0
        """Markers set so far."""

    def put(self, channel: str, message: Message, log_time_ns: int) -> None:
        """Put a message on its way to the disk; the first calibration opens the take. Never waits.

        Raises:
            TakeError: the folder of the take cannot be made.
            ConfigError: show or slate cannot be folder names.
        """
        if isinstance(message, Frame):
            self.losses.follow(message)
            self.frame_id = max(self.frame_id, message.frame_id)
        if self.writer is None and isinstance(message, Calibration):
            self.open(message)
        if not self.intake.put((channel, message, log_time_ns)):
            reason = "not-written" if self.intake.closed else "queue-full"
            self.losses.lose(topic_of(channel, message).name, message, reason)

    def open(self, calibration: Calibration) -> None:
        """Make the take's folder and begin to write.

        Raises:
            TakeError: the folder cannot be made.
            ConfigError: show or slate cannot be folder names.
        """
        plan = self.plan
        self.writer = TakeWriter(
            plan.path,
            calibration=calibration,
            config_text=plan.config_text,
            show=plan.show,
            slate=plan.slate,
            take=take_number(plan.path),
            record=self._record,
            sync=self._sync,
            about=plan.about,
        )
        if self._audio is not None:
            self._begin_audio(plan.path, self._audio)
        self._disk = _Disk(self.writer, self.intake, self.losses, self._record.sync_s)
        self._disk.start()

    def _begin_audio(self, path: Path, audio: AudioInput) -> None:
        try:
            audio.begin(path)
        except OSError as error:
            if self.writer is not None:
                self.writer.close(str(error))
            raise TakeError(f"{path}: the sound cannot be written: {error.strerror}; free space") from error

    def _end_audio(self) -> None:
        if self._audio is None or self.writer is None:
            return
        self._audio.end()
        if self._audio.lost_blocks:
            self.writer.count_drop("audio", "not-written", self._audio.lost_blocks)
        if self._audio.failure is not None:
            self.writer.count_drop("audio", "disk-full")

    def mark(self, time_ns: int, text: str) -> None:
        """Set a marker.

        Raises:
            TakeError: the take has not begun or is closed, or the disk refused it.
        """
        if self.writer is None:
            raise TakeError("the take has not begun: no calibration came yet; start mien node")
        self.writer.mark(Marker(time_ns, self.frame_id, text))
        self.markers += 1

    @property
    def broken(self) -> bool:
        """Whether the disk failed: the take is closed with everything before that whole."""
        return self._disk is not None and not self._disk.is_alive()

    @property
    def messages(self) -> int:
        """Messages taken so far."""
        return sum(dict(self.writer.messages).values()) if self.writer else 0

    def close(self, stopped: str, refused: Mapping[str, int]) -> None:
        """Write what waits, close the take with its ledger, thumbnails and metadata. Waits for the disk.

        Args:
            stopped: why the recorder stopped by itself, if it did.
            refused: messages that arrived unsound, by reason.

        Raises:
            MienError: the disk failed; the take is closed with everything before that whole.
        """
        self.intake.close()
        if self.writer is None or self._disk is None:
            return
        self._disk.join()
        self._end_audio()
        while (item := self.intake.get(0.0)) is not None:
            self.losses.lose(topic_of(item[0], item[1]).name, item[1], "not-written")
        for reason, number in refused.items():
            self.losses.count("refused", reason, number)
        for loss in self.losses.take():
            self.writer.lose(loss)
        failure = self._disk.failure
        if failure is None:
            self.writer.close(stopped)
            ltc = (rate_of(self._record), self._record.audio_channels - 1) if self._record.timecode == "ltc" else None
            write_extras(self.writer.path, ltc)
            return
        self.writer.close(str(failure))
        try:
            self.writer.rewrite_ledger()
        except TakeError as error:  # the disk is gone: what it was told before stands
            raise failure from error
        raise failure
