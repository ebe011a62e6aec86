"""A file that only grows, by whole writes; space kept back for the end; and the thread that makes it durable."""

import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

from streamer.errors import TakeError

RESERVE_NAME = ".reserve"


class AppendFile:
    """A new file that holds whole writes only: a write that fails leaves the file as it was before.

    Writes come from one thread; `sync` may come from another.
    """

    def __init__(self, path: Path) -> None:
        """Create the file.

        Raises:
            OSError: it exists, or cannot be created.
        """
        self.path = path
        self.size = 0
        """Bytes of whole writes so far."""
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`, or nothing.

        Raises:
            OSError: the disk is full or broken; the file ends where it ended before.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError:
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            raise
        self.size += len(data)

    def _write_some(self, data: memoryview) -> int:
        return os.write(self._fd, data)

    def sync(self) -> None:
        """Wait until everything written so far is on the medium."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Reserve:
    """Disk space kept back, so that a take can be closed properly on a full disk."""

    def __init__(self, folder: Path, size: int) -> None:
        """Allocate `size` bytes in `folder`.

        Raises:
            OSError: not even the reserve fits.
        """
        self._path = folder / RESERVE_NAME
        fd = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(fd)

    def release(self) -> None:
        """Give the space back. Releasing twice is allowed."""
        self._path.unlink(missing_ok=True)


class Syncer:
    """Calls fdatasync once a period from its own thread, so that writing never waits for the medium."""

    def __init__(self, period_s: float) -> None:
        """Start the thread.

        Args:
            period_s: seconds between two syncs.
        """
        self._period_s = period_s
        self._lock = threading.Lock()
        self._sync: Callable[[], None] | None = None
        self._stop = threading.Event()
        self.failure: OSError | None = None
        """Why the medium refused to keep what was written, if it did; syncing ends there."""
        self._thread = threading.Thread(target=self._run, name="take-sync", daemon=True)
        self._thread.start()

    def watch(self, file: AppendFile | None) -> None:
        """Sync this file from now on; waits for a sync of the previous one, which may be closed afterwards."""
        with self._lock:
            self._sync = None if file is None else file.sync

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            with self._lock:
                if self._sync is None:
                    continue
                try:
                    self._sync()
                except OSError as error:
                    self.failure = error
                    return


def crc_of(path: Path) -> int:
    """Return the CRC-32 of a file of any size.

    Raises:
        OSError: it cannot be read.
    """
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def make_folder(path: Path) -> None:
    """Make a folder, whose parents are made.

    Raises:
        TakeError: it exists, or cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except FileExistsError as error:
        raise TakeError(f"{path} exists already; give another folder or remove it") from error
    except OSError as error:
        raise TakeError(f"{path}: cannot make the folder: {error.strerror}; give another one") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (files created, renamed, removed)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def append_line(path: Path, line: str) -> None:
    """Append a line of text to a file and wait until the medium has it.

    Raises:
        OSError: no space or no permission.
    """
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, (line + "\n").encode())
        os.fdatasync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        OSError: no space or no permission; the old file stands.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
