"""The MCAP files of one recorder, one after the other, and what happens to them when the disk is full."""

from collections.abc import Callable, Sequence
from pathlib import Path

from streamer.config import RecordConfig
from streamer.takes.disk import AppendFile, Reserve, Syncer
from streamer.takes.framing import Buffer, Keys
from streamer.takes.layout import FileInfo
from streamer.takes.mcap_file import McapFile
from streamer.takes.stored import Topic

MAX_MESSAGES = 30_000
"""A file rolls here at the latest, however short it is: its index has to fit the reserve."""
RESERVE_BYTES = 4 << 20
"""Room for the index of a file: 48 bytes a message in the table, at most 80 a message in MCAP's summary."""

OpenFile = Callable[[Path], AppendFile]


class RollingFiles:
    """Writes messages into files that roll. Every method may raise OSError; after one, call `rescue`."""

    def __init__(self, folder: Path, name: str, record: RecordConfig, open_file: OpenFile) -> None:
        """Keep space back and open the first file.

        Args:
            folder: of the take.
            name: stem of the files.
            record: sizes and periods.
            open_file: makes a new file.

        Raises:
            OSError: the disk is full; nothing is left behind.
        """
        self.files: list[FileInfo] = []
        """The finished files."""
        self._folder, self._name, self._record, self._open_file = folder, name, record, open_file
        self._chunk_bytes = int(record.chunk_mb * 1e6)
        self._file: AppendFile | None = None
        self._mcap: McapFile | None = None
        self._begun_ns = self._flushed_ns = -1
        self._reserve = Reserve(folder, RESERVE_BYTES + 2 * self._chunk_bytes)
        self._syncer = Syncer(record.sync_s)
        try:
            self._open()
        except OSError:
            self.close()
            raise

    @property
    def written(self) -> int:
        """Messages handed to the system."""
        return sum(file.messages for file in self.files) + (self._mcap.written if self._mcap else 0)

    def due(self, log_time_ns: int) -> bool:
        """Whether the current file has lasted long enough."""
        full = self._mcap is not None and self._mcap.messages >= MAX_MESSAGES
        return full or (self._begun_ns >= 0 and log_time_ns - self._begun_ns >= self._record.roll_s * 1e9)

    def roll(self) -> None:
        """Finish the current file and open the next."""
        self.finish()
        self._open()

    def add(self, topic: Topic, keys: Keys, sequence: int, parts: Sequence[Buffer], packed: bool = False) -> None:
        """Add a message; flush the open chunk if it is full or older than the sync period."""
        if self._mcap is None:
            raise OSError("no file is open")
        if self._begun_ns < 0:
            self._begun_ns = self._flushed_ns = keys.log_time_ns
        self._mcap.add(topic, keys, sequence, parts, packed)
        if keys.log_time_ns - self._flushed_ns >= self._record.sync_s * 1e9:
            self._mcap.flush()
            self._flushed_ns = keys.log_time_ns
        if self._syncer.failure is not None:
            raise self._syncer.failure

    def flush(self, log_time_ns: int = -1) -> None:
        """Hand the open chunk to the system.

        Args:
            log_time_ns: now, so that the period until the next flush begins anew; -1: not known.
        """
        if self._mcap is not None:
            self._mcap.flush()
            self._flushed_ns = max(self._flushed_ns, log_time_ns)

    def finish(self) -> None:
        """Finish the current file: complete, indexed and on the medium."""
        if self._mcap is not None and self._file is not None:
            self._mcap.finish()
            self._file.sync()
            self._leave(indexed=True)

    def release_reserve(self) -> None:
        """Give back the space that was kept for the end."""
        self._reserve.release()

    def rescue(self) -> Sequence[tuple[str, Keys]]:
        """After an error: write the open chunk with the space that was kept back; `leave` comes next.

        Returns:
            Topic and keys of what had been taken and fits nowhere.
        """
        self._reserve.release()
        if self._mcap is None:
            return ()
        try:
            self._mcap.flush()
        except OSError:
            lost = self._mcap.waiting
            self._mcap.discard()
            return lost
        return ()

    def leave(self) -> None:
        """After `rescue`: end the file, indexed if there is room for that. Raises nothing."""
        if self._mcap is None:
            return
        try:
            self._mcap.finish()
        except OSError:
            self._mcap.discard()
            self._leave(indexed=False)
        else:
            self._leave(indexed=True)

    def close(self) -> None:
        """Stop the durability thread and give the reserve back. Closing twice is allowed."""
        self._syncer.close()
        self._reserve.release()
        if self._file is not None:
            self._file.close()

    def _open(self) -> None:
        file = self._open_file(self._folder / f"{self._name}_{len(self.files):04d}.mcap")
        try:
            self._mcap = McapFile(file, self._chunk_bytes)
        except OSError:
            file.close()
            file.path.unlink()
            raise
        self._file = file
        self._begun_ns = self._flushed_ns = -1
        self._syncer.watch(file)

    def _leave(self, indexed: bool) -> None:
        if self._mcap is None or self._file is None:
            return
        self._syncer.watch(None)
        self.files.append(FileInfo(self._file.path.name, self._file.size, self._mcap.written, indexed))
        self._file.close()
        self._file = self._mcap = None
