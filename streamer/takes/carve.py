"""Every whole message of a file, whatever has happened to the rest: found by its magic, believed by its checksum.

The structure around the messages is not used, so a cut, a hole or a changed byte costs the messages that it touches and
no other.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamer.channels import CHANNELS
from streamer.errors import WireError
from streamer.takes.framing import HEAD, MAGIC, MAGIC_STEM, MAGICS, MAX_PARTS, Keys, extent, is_packed, read_blob
from streamer.takes.tables import TOPICS


@dataclass(frozen=True, slots=True)
class Found:
    """A whole message in a file."""

    offset: int
    """Where its blob begins."""
    size: int
    """Bytes of the blob."""
    keys: Keys
    """Its keys."""
    parts: list[memoryview]
    """Its parts: views of a copy."""
    packed: bool
    """Whether the vertices among them are encoded (`streamer.takes.stored`)."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The place where a message began that is not whole."""

    offset: int
    """Where its blob begins."""
    why: str
    """What is wrong with it."""
    channel: str
    """The channel that it says it is of, `message` if it cannot tell."""


def carve(path: Path) -> Iterator[Found | Broken]:
    """Walk through a file and yield what begins with the magic of a message, in order of offset.

    Args:
        path: a file of a take; it must not change meanwhile.

    Raises:
        OSError: the file cannot be read.
    """
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(MAGIC_STEM)
        while start >= 0:
            step = len(MAGIC_STEM)
            if data[start : start + len(MAGIC)] in MAGICS:
                item = _take(data, start, path.name)
                yield item
                step = item.size if isinstance(item, Found) else len(MAGIC)
            start = data.find(MAGIC_STEM, start + step)


def _take(data: mmap.mmap, start: int, name: str) -> Found | Broken:
    with memoryview(data) as view:
        size = extent(view, start)
        blob = bytes(view[start : start + max(size, 0)])
    if size < 0:
        return Broken(
            start, f"{name} at byte {start}: a message is cut or its lengths are damaged", _channel(data, start)
        )
    try:
        keys, parts = read_blob(blob, f"{name} at byte {start}")
    except WireError as error:
        return Broken(start, str(error), _channel(data, start))
    return Found(start, size, keys, parts, is_packed(blob))


def _channel(data: mmap.mmap, start: int) -> str:
    """Read the topic of a message that is not whole: its first part, behind the lengths."""
    if len(data) - start < HEAD.size:
        return "message"
    first = start + HEAD.size + 8 * min(HEAD.unpack_from(data, start)[2], MAX_PARTS)
    topic, _, _ = data[first : first + 64].partition(b"\0")
    name = topic.decode("ascii", "replace")
    return name if name in CHANNELS or name in TOPICS else "message"
