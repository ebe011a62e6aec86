"""Pictures in shared memory: one ring per camera on the camera host, read by any process of the same user there.

A segment is a file in /dev/shm (elsewhere: in the folder of temporary files), mapped by both sides: 64 bytes of header,
then slots of 64 bytes and the picture. The first word of a slot is 2n - 1 while write n is under way and 2n once it is
done. The reader copies the picture out and looks at that word before and after: a slot that was written meanwhile is
refused, so no picture is ever delivered torn, and the writer never waits for a reader.

The standard library's SharedMemory is not used: its resource tracker unlinks segments of other processes when a
reader ends, and its segments outlive a killed writer. Here the writer holds a lock on the file, which dies with it, so
`remove_stale_segments` knows what nobody owns any more.
"""

import fcntl
import itertools
import mmap
import os
import platform
import re
import secrets
import struct
import tempfile
import time
import zlib
from pathlib import Path
from typing import Self

import numpy as np

from streamer.errors import TransportError
from streamer.types import U8
from streamer.wire import Descriptor

PREFIX = "mien-"
DIRECTORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())

_NAME = re.compile(r"mien-(\d+)-[0-9a-f]+-\d+")
_HEADER = struct.Struct("<8sIIQQ")
"""Magic, version, slots, stride and capacity of a slot in bytes."""
_MAGIC = b"MIENRING"
_VERSION = 1
_LINE = 64
_TOKEN = secrets.token_hex(4)
_numbers = itertools.count()
# The two looks at the sequence prove a copy whole only where stores become visible in program order. Elsewhere (ARM)
# the slot carries a checksum as well.
_ORDERED_STORES = platform.machine().lower() in {"x86_64", "amd64"}


class RingWriter:
    """The writing end; owns the segment and removes it on `close`.

    Args:
        slots: number of pictures the ring holds.
        capacity: largest picture, bytes. All memory is reserved at once.

    Raises:
        TransportError: no room in shared memory.
    """

    def __init__(self, slots: int, capacity: int) -> None:
        """Create, lock and map the segment."""
        self.name = f"{PREFIX}{os.getpid()}-{_TOKEN}-{next(_numbers)}"
        self.slots = slots
        self.capacity = capacity
        self._stride = _LINE + -(-capacity // _LINE) * _LINE
        size = _LINE + slots * self._stride
        self._path = DIRECTORY / self.name
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Reserving now turns a full /dev/shm into an error here instead of a SIGBUS in the middle of a take.
            os.posix_fallocate(self._fd, 0, size)
            self._map = mmap.mmap(self._fd, size)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            raise TransportError(
                f"no room for {size / 1e6:.0f} MB of shared memory in {DIRECTORY} ({error.strerror}); enlarge it "
                "(docker: --shm-size), lower bus.ring_slots, or set bus.shared_memory=false"
            ) from error
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._words = np.frombuffer(self._map, np.uint64, size // 8)
        self._count = 0
        _HEADER.pack_into(self._map, 0, _MAGIC, _VERSION, slots, self._stride, capacity)

    def next_place(self, nbytes: int) -> Descriptor:
        """Return where the next `write` of so many bytes will put them."""
        return Descriptor(self.name, self._count % self.slots, self._count + 1, nbytes)

    def write(self, data: U8) -> Descriptor:
        """Copy a picture into the next slot, over the oldest one.

        Args:
            data: any shape, at most `capacity` bytes.

        Returns:
            Where it lies.

        Raises:
            TransportError: the picture does not fit.
        """
        if data.nbytes > self.capacity:
            raise TransportError(f"a picture of {data.nbytes} bytes does not fit a slot of {self.capacity}")
        place = self.next_place(data.nbytes)
        self._count += 1
        start = _LINE + place.slot * self._stride
        word = start // 8
        self._words[word] = 2 * self._count - 1
        target = self._bytes[start + _LINE : start + _LINE + data.nbytes]
        np.copyto(target.reshape(data.shape), data)
        self._words[word + 1] = data.nbytes
        self._words[word + 2] = 0 if _ORDERED_STORES else zlib.crc32(target.data)
        self._words[word] = 2 * self._count
        return place

    def close(self) -> None:
        """Remove the segment; readers that have mapped it keep what they mapped."""
        if self._map.closed:
            return
        del self._bytes, self._words
        self._map.close()
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class RingReader:
    """The reading end.

    Args:
        name: of the segment, from a descriptor.

    Raises:
        TransportError: no such segment here, or it is not a ring.
    """

    def __init__(self, name: str) -> None:
        """Map the segment read-only."""
        if not _NAME.fullmatch(name):
            raise TransportError(f"{name!r} is not the name of a Mien segment")
        try:
            fd = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise TransportError(
                f"shared memory {name} cannot be opened ({error.strerror}); its node has ended, or runs on another "
                "host or in a container: set bus.shared_memory=false there"
            ) from error
        try:
            size = os.fstat(fd).st_size
            if size < _LINE:
                raise TransportError(f"shared memory {name} has {size} bytes and is no ring")
            self._map = mmap.mmap(fd, size, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self.name = name
        magic, version, self.slots, self._stride, self.capacity = _HEADER.unpack_from(self._map)
        sound = _LINE + self.slots * self._stride == size and self._stride == _LINE + -(-self.capacity // _LINE) * _LINE
        if magic != _MAGIC or version != _VERSION or not sound:
            self._map.close()
            raise TransportError(f"shared memory {name} is not a ring of version {_VERSION}; update the older Mien")
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._words = np.frombuffer(self._map, np.uint64, size // 8)

    def read(self, descriptor: Descriptor) -> U8 | None:
        """Copy a picture out.

        Returns:
            (nbytes,) a fresh array, or None when the slot was overwritten before the copy was complete.

        Raises:
            TransportError: the descriptor does not fit the ring.
        """
        if not 0 <= descriptor.slot < self.slots or not 0 <= descriptor.nbytes <= self.capacity:
            raise TransportError(f"{descriptor} does not fit a ring of {self.slots} slots of {self.capacity} bytes")
        start = _LINE + descriptor.slot * self._stride
        word = start // 8
        expected = 2 * descriptor.sequence
        if self._words[word] != expected or self._words[word + 1] != descriptor.nbytes:
            return None
        picture = self._copy(start + _LINE, descriptor.nbytes)
        checksum = int(self._words[word + 2])
        if self._words[word] != expected or (not _ORDERED_STORES and zlib.crc32(picture.data) != checksum):
            return None
        return picture

    def _copy(self, start: int, nbytes: int) -> U8:
        return self._bytes[start : start + nbytes].copy()

    def close(self) -> None:
        """Unmap the segment."""
        if not self._map.closed:
            del self._bytes, self._words
            self._map.close()


class RingReaders:
    """The segments that one consumer has mapped, opened as descriptors name them."""

    def __init__(self) -> None:
        """Start with none."""
        self._readers: dict[str, RingReader] = {}

    def read(self, descriptor: Descriptor) -> U8 | None:
        """Copy a picture out, see `RingReader.read`.

        Raises:
            TransportError: the segment cannot be opened or the descriptor does not fit it.
        """
        reader = self._readers.get(descriptor.segment)
        if reader is None:
            # A new segment means a node began anew or a ring grew: let go of those that are gone.
            for name in [name for name in self._readers if not (DIRECTORY / name).exists()]:
                self._readers.pop(name).close()
            reader = self._readers[descriptor.segment] = RingReader(descriptor.segment)
        return reader.read(descriptor)

    def close(self) -> None:
        """Unmap everything."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()


def remove_stale_segments(directory: Path | None = None) -> list[str]:
    """Remove the segments of this user whose writer has died without closing them.

    A segment is stale when nobody holds its lock and the process in its name has ended (or, since process ids come
    round again and containers have their own, when it is older than a minute).

    Args:
        directory: where to look; by default where rings are made.

    Returns:
        Names of the removed segments.
    """
    removed = []
    for path in sorted((directory or DIRECTORY).glob(f"{PREFIX}*")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # gone meanwhile, or of another user
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _alive(int(match[1])) or time.time() - os.fstat(fd).st_mtime > 60:
                path.unlink(missing_ok=True)
                removed.append(path.name)
        except BlockingIOError:
            pass  # its writer lives
        finally:
            os.close(fd)
    return removed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
