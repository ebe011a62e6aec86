"""The table of messages at the end of each file: where each is and what it is keyed by, in one read. Pure.

MCAP's own index lists chunks, and chunks list messages; an hour of sixteen cameras has half a million chunks, which
take ten seconds to go through, and frame ids and exposure times stand in neither. So each file ends with this table as
an MCAP attachment (name `messages`): rows of six little-endian i64 (channel id, log time, offset and size of the blob,
frame id, time), then a JSON object {channel id: topic}, then a tail of 24 bytes: number of rows, bytes of JSON, magic.
"""

import json
import struct
from array import array
from collections.abc import Mapping, Sequence

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from streamer.takes.framing import Keys

NAME, MEDIA_TYPE = "messages", "application/x-mien-messages"
TAIL = struct.Struct("<QQ8s")
TAIL_MAGIC = b"MienIx1\n"
ATTACHMENT = struct.Struct(f"<BQQQI{len(NAME)}sI{len(MEDIA_TYPE)}sQ")
"""Opcode, record length, log time, create time, name, media type, data length; behind it the data and their CRC."""
COLUMNS = 6
ENTRY = np.dtype(
    [("log_time", "<i8"), ("file", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("frame_id", "<i8"), ("time", "<i8")]
)
"""One message: log time in ns, number of the file, place and size of its blob, rig frame id, exposure time in ns."""
Entries = NDArray[np.void]


class MessageTable:
    """Collects rows while a file is written; 48 bytes a message."""

    def __init__(self) -> None:
        """Begin empty."""
        self._rows: array[int] = array("q")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows) // COLUMNS

    def add(self, channel: int, offset: int, size: int, keys: Keys) -> None:
        """Add a message."""
        self._rows.extend((channel, keys.log_time_ns, offset, size, keys.frame_id, keys.time_ns))

    def since(self, rows: int) -> list[tuple[int, Keys]]:
        """Return channel and keys of all rows but the first ones."""
        last = self._rows[rows * COLUMNS :].tolist()
        grouped = zip(*(last[column::COLUMNS] for column in (0, 1, 4, 5)), strict=True)
        return [(channel, Keys(log, frame_id, time)) for channel, log, frame_id, time in grouped]

    def cut(self, rows: int) -> None:
        """Forget all rows but the first ones."""
        del self._rows[rows * COLUMNS :]

    def pack(self, topics: Mapping[int, str]) -> bytes:
        """Return the content of the attachment."""
        names = json.dumps({str(number): topic for number, topic in topics.items()}).encode()
        rows = np.frombuffer(self._rows, np.int64).astype("<i8").tobytes() if self._rows else b""
        return rows + names + TAIL.pack(len(self), len(names), TAIL_MAGIC)


def table_bytes(tail: bytes) -> int:
    """Return the length of the content that ends with these bytes; 0 if it is no such table."""
    if len(tail) != TAIL.size:
        return 0
    rows, names, magic = TAIL.unpack(tail)
    return int(rows * COLUMNS * 8 + names + TAIL.size) if magic == TAIL_MAGIC else 0


def read_table(record: bytes, number: int) -> Mapping[str, Entries]:
    """Read the attachment.

    Args:
        record: the whole attachment record, with its CRC.
        number: of the file in its take, for the entries.

    Returns:
        Topic to entries, in the order of the file.

    Raises:
        ValueError: it is damaged.
    """
    data = memoryview(record)[ATTACHMENT.size : -4]
    if crc32(memoryview(record)[9:-4]) != struct.unpack("<I", record[-4:])[0]:
        raise ValueError("the checksum of its table does not match")
    count, length, _ = TAIL.unpack(data[-TAIL.size :])
    rows = np.frombuffer(data, "<i8", count * COLUMNS).reshape(count, COLUMNS)
    topics = json.loads(bytes(data[count * COLUMNS * 8 : count * COLUMNS * 8 + length]))
    order = np.argsort(rows[:, 0].astype(np.uint16), kind="stable")  # MCAP's channel ids; sixteen bits sort in one pass
    rows, entries = rows[order], np.empty(count, ENTRY)
    channels = np.ascontiguousarray(rows[:, 0])
    entries["file"] = number
    for column, name in enumerate(("log_time", "offset", "size", "frame_id", "time"), 1):
        entries[name] = rows[:, column]
    found: dict[str, Entries] = {}
    for channel, topic in topics.items():
        first, last = np.searchsorted(channels, (int(channel), int(channel) + 1))
        if last > first:
            found[str(topic)] = entries[first:last]
    return found


def in_log_order(parts: Sequence[Entries]) -> Entries:
    """Join the entries of one topic, in order of log time."""
    entries = np.concatenate([np.empty(0, ENTRY), *parts])
    if (np.diff(entries["log_time"]) > 0).all():  # one topic of one recorder, as a rule
        return entries
    return entries[np.lexsort((entries["offset"], entries["file"], entries["log_time"]))]
