"""Messages -> take. What is on disk depends on the messages alone, never on clocks: offline takes are reproducible."""

import dataclasses
import json
import shutil
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.calibration import calibration_to_text
from streamer.channels import CHANNELS
from streamer.config import RecordConfig, SyncConfig
from streamer.config_text import without_secrets
from streamer.errors import TakeError
from streamer.takes.accounted import AccountedFiles
from streamer.takes.chronicle import Chronicle, Loss, Name, name_of
from streamer.takes.disk import AppendFile, append_line, make_folder, replace_file, sync_folder
from streamer.takes.framing import Buffer, Message
from streamer.takes.layout import (
    CALIBRATION,
    CONFIG,
    JOURNAL,
    About,
    Marker,
    TakeInfo,
    TakeLock,
    check_name,
    read_info,
    sweep,
    write_info,
)
from streamer.takes.rolling import OpenFile, RollingFiles
from streamer.takes.stored import Packer, topic_of
from streamer.types import Calibration, Topology
from streamer.wire import encode

NAMESPACE = uuid.UUID("6f1c0a52-8f0e-5d0c-9a51-0d7a6f0f5b2e")
"""Of the identities of takes that were made offline."""


class TakeWriter:
    """Writes one take into a new folder. Not thread-safe: one thread writes and closes.

    State messages (calibration, topology), which the bus repeats each second, are stored when they change and at the
    head of every rolled file, so that each file can be read alone.

    Used as a context manager; an error inside the block still closes what was written.
    """

    def __init__(
        self,
        path: Path,
        *,
        calibration: Calibration,
        config_text: str,
        show: str,
        slate: str,
        take: int,
        record: RecordConfig | None = None,
        sync: SyncConfig | None = None,
        about: About | None = None,
        name: str = "main",
        open_file: OpenFile = AppendFile,
    ) -> None:
        """Create the folder, whose parents are made, and open the take.

        Args:
            path: the take's folder; must not exist.
            calibration: the cameras; also stored as the first message.
            config_text: the effective configuration as TOML.
            show: show name.
            slate: slate name.
            take: take number, from 1.
            record: sizes and periods.
            sync: how frames become sets; by frame id if None.
            about: identity, notes and timecode.
            name: of the recorder, the stem of its files.
            open_file: makes the files; for disks of another kind.

        Raises:
            TakeError: the folder exists, or cannot be written.
            ConfigError: show or slate cannot be folder names.
        """
        self.path, sync, about = path, sync or SyncConfig(), about or About()
        check_name("recorder name", name)
        texts = {CALIBRATION: calibration_to_text(calibration).encode(), CONFIG: without_secrets(config_text).encode()}
        self._info = TakeInfo(
            show=check_name("show", show),
            slate=check_name("slate", slate),
            take=take,
            state="recording",
            match=sync.match,
            tolerance_us=sync.tolerance_us,
            checksums={file: zlib.crc32(text) for file, text in texts.items()},
            **dataclasses.asdict(about) | {"timecode": about.timecode},
        )
        self._calibration: Calibration | None = calibration  # until it is stored
        self._whole = calibration
        self._messages = dict[str, int]()
        self._states: dict[tuple[str, str], tuple[Message, list[bytes]]] = {}
        self._markers: list[Marker] = []
        self._packer, self._closed = Packer(lossless=(record or RecordConfig()).meshes == "lossless"), False
        self._chronicle = Chronicle(sync, (record or RecordConfig()).sync_s)
        self._chronicle.cameras = calibration.ids
        self._name = name
        make_folder(path)
        self._lock = TakeLock(path)
        self._files = self._begin_files(texts, name, record or RecordConfig(), open_file)

    def _begin_files(
        self, texts: Mapping[str, bytes], name: str, record: RecordConfig, open_file: OpenFile
    ) -> AccountedFiles:
        try:
            for file, text in texts.items():
                replace_file(self.path / file, text)
            write_info(self.path, self._info)
            files = RollingFiles(self.path, name, record, open_file)
            sync_folder(self.path.parent)
        except OSError as error:
            self._lock.release()
            shutil.rmtree(self.path)
            raise TakeError(f"{self.path}: cannot begin a take: {error.strerror}; free space") from error
        return AccountedFiles(self.path, files, self._chronicle, open_file)

    @property
    def messages(self) -> Mapping[str, int]:
        """Messages taken so far, by topic (`frame/<camera>`, `mesh`, ...), states repeated in each file included."""
        return self._messages

    @property
    def on_disk(self) -> int:
        """Messages that have been handed to the system: a killed process does not lose them."""
        return self._files.written

    def write(self, channel: str, message: Message, log_time_ns: int) -> None:
        """Add a message. Its arrays are copied and may change afterwards.

        Args:
            channel: name of a recorded channel.
            message: the message.
            log_time_ns: when it was recorded, ns, >= 0; files roll and chunks are flushed by this time.

        Raises:
            TakeError: the channel is not recorded, the time is negative, the take is closed, or the disk is full:
                then the take has been closed with everything before it whole.
            WireError: the message is not sound.
        """
        if self._closed:
            raise TakeError(f"{self.path}: the take is closed")
        if channel not in CHANNELS or not CHANNELS[channel].recorded or log_time_ns < 0:
            raise TakeError(f"cannot record channel {channel!r} at log time {log_time_ns}")
        parts = encode(channel, message)
        topic = topic_of(channel, message).name
        taken = self._messages.get(topic, 0)
        try:
            self._begin(log_time_ns)
            if CHANNELS[channel].delivery == "state":
                self._put_state(channel, message, parts, log_time_ns)
            else:
                self._put(channel, message, parts, log_time_ns)
        except OSError as error:
            if self._messages.get(topic, 0) == taken:
                self.lose(Loss(name_of(topic, message), "disk-full"))
            self._rescue(error)

    def flush(self) -> None:
        """Hand everything to the system now.

        Raises:
            TakeError: the disk is full; the take has been closed.
        """
        if self._closed:
            return
        try:
            self._files.flush()
        except OSError as error:
            self._rescue(error)

    def mark(self, marker: Marker) -> None:
        """Set a marker; it is on the disk when this returns. May be called from another thread than the others.

        Raises:
            TakeError: the take is closed, or the disk is full; in that case it stands in take.json all the same.
        """
        if self._closed:
            raise TakeError(f"{self.path}: the take is closed")
        self._markers.append(marker)
        self._chronicle.happened("marker", marker.text, marker.time_ns, marker.frame_id)
        try:
            append_line(self.path / JOURNAL, json.dumps(dataclasses.asdict(marker)))
        except OSError as error:
            raise TakeError(f"{self.path / JOURNAL}: the marker is in memory only: {error.strerror}") from error

    def count_drop(self, topic: str, reason: str, count: int = 1) -> None:
        """Enter messages that are not in this take and have no name into its ledger."""
        self.lose(Loss(Name(topic), reason, count))

    def lose(self, loss: Loss) -> None:
        """Enter a message that is not in this take into its ledger. After the end: call `rewrite_ledger`."""
        self._chronicle.lose(loss)

    def close(self, stopped: str = "") -> None:
        """Finish the files and mark the take as closed. Closing twice is allowed.

        Args:
            stopped: why the recorder stopped by itself, if it did.

        Raises:
            TakeError: the disk is full or broken; everything written before is whole.
        """
        if self._closed:
            return
        try:
            self._begin(0)
            self._chronicle.happened("end", stopped)
            self._files.finish()
            self._seal(stopped)
        except OSError as error:
            self._rescue(error)

    def rewrite_ledger(self) -> None:
        """Enter what was lost after the take was closed, by name and in its take.json.

        Raises:
            TakeError: it cannot be written.
        """
        try:
            self._files.append()
            info, files = read_info(self.path), tuple(self._files.files)
            drops, whole = self._chronicle.drops, self._files.complete
            write_info(self.path, replace(info, drops=drops, files=files, ledger=whole))
        except OSError as error:
            raise TakeError(f"{self.path}: the drop ledger cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the take."""
        self.close("" if error is None else f"{type(error).__name__}: {error}")

    def _begin(self, log_time_ns: int) -> None:
        """Store the calibration first; roll when it is time, with all states at the head; keep the ledger."""
        if self._calibration is not None:
            calibration, self._calibration = self._calibration, None
            self._chronicle.happened("begin", self._name, log_time_ns)
            self._put_state("calibration", calibration, encode("calibration", calibration), log_time_ns)
        elif self._files.due(log_time_ns):
            self._files.roll()
            self._packer.begin_file()
            for (channel, _), (message, parts) in self._states.items():
                self._put(channel, message, parts, log_time_ns)
        else:
            self._files.keep_pace(log_time_ns)

    def _put_state(self, channel: str, message: Message, parts: Sequence[Buffer], log_time_ns: int) -> None:
        key = (channel, message.id if isinstance(message, Topology) else "")
        if isinstance(message, Calibration):  # each camera host tells of its own cameras
            key = (channel, "/".join(message.ids))
            self._widen(message)
        content = [bytes(part) for part in parts]
        if key not in self._states or self._states[key][1] != content:
            self._states[key] = (message, content)
            self._put(channel, message, content, log_time_ns)

    def _widen(self, calibration: Calibration) -> None:
        """Enter cameras that were not known before into calibration.toml; those that were stay as they were."""
        fresh = tuple(camera for camera in calibration.cameras if camera.id not in self._whole.ids)
        if not fresh:
            return
        self._whole = replace(self._whole, cameras=(*self._whole.cameras, *fresh))
        self._chronicle.cameras = self._whole.ids
        self._chronicle.happened("cameras", " ".join(camera.id for camera in fresh))
        text = calibration_to_text(self._whole).encode()
        replace_file(self.path / CALIBRATION, text)
        checksums = {**self._info.checksums, CALIBRATION: zlib.crc32(text)}
        self._info = replace(self._info, checksums=checksums)
        write_info(self.path, self._info)

    def _put(self, channel: str, message: Message, parts: Sequence[Buffer], log_time_ns: int) -> None:
        topic = topic_of(channel, message)
        self._messages[topic.name] = self._messages.get(topic.name, 0) + 1
        stored, packed = self._packer.pack(channel, message, parts, log_time_ns)
        self._files.add(topic, message, log_time_ns, stored, packed)

    def _seal(self, stopped: str) -> None:
        closed = replace(
            self._info,
            state="closed",
            files=tuple(self._files.files),
            messages=dict(sorted(self._messages.items())),
            drops=self._chronicle.drops,
            ledger=self._files.complete,
            stopped=stopped,
            markers=tuple(sorted(self._markers, key=lambda marker: marker.time_ns)),
        )
        if not closed.unique_id:
            closed = replace(closed, unique_id=str(uuid.uuid5(NAMESPACE, repr(closed))))
        write_info(self.path, closed)
        (self.path / JOURNAL).unlink(missing_ok=True)
        self._end()

    def _end(self) -> None:
        self._closed = True
        self._files.close()
        sweep(self.path)
        self._lock.release()

    def _rescue(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        self._chronicle.happened("end", reason)
        for topic in self._files.rescue():
            self._messages[topic] -= 1
        try:
            self._seal(f"{reason} after {self.on_disk} messages")
        except OSError as second:
            self._end()
            raise TakeError(
                f"{self.path}: {reason}; all {self.on_disk} messages before it are whole, but take.json could not be "
                f"written ({second.strerror}); free space, then run: mien recover {self.path}"
            ) from error
        raise TakeError(
            f"{self.path}: {reason}; the take is closed and holds all {self.on_disk} messages before it; free space"
        ) from error
