"""One MCAP file being written: uncompressed chunks, message indexes, summary, and a checksum over all of it.

The record layouts come from the `mcap` package. The chunk is put together here: the package's writer copies every
picture four times and costs more than twice the CPU time (benchmarks/recording.py); here a message is copied once, into
the chunk's buffer, which goes to the disk in one write. The result is plain MCAP: any reader of the format opens it.
"""

import struct
from collections.abc import Sequence

from isal.isal_zlib import crc32
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    ChunkIndex,
    DataEnd,
    Header,
    MessageIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from streamer.takes.disk import AppendFile
from streamer.takes.framing import Buffer, Keys, blob_size, write_blob
from streamer.takes.stored import Topic
from streamer.takes.table import MEDIA_TYPE, NAME, MessageTable
from streamer.takes.tables import TOPICS

MCAP_MAGIC = b"\x89MCAP0\r\n"
DATA_END = struct.Struct("<BQI")
"""Opcode, record length, CRC of the data section."""
PROFILE = "mien"
LIBRARY = "mien takes 1"
CHUNK_HEAD = struct.Struct("<BQQQQIIQ")
"""Opcode, record length, first and last log time, size, CRC (0: the data section has one), compression, size."""
MESSAGE_HEAD = struct.Struct("<BQHIQQ")
"""Opcode, record length, channel, sequence, log time, publish time."""

FOOTER = struct.Struct("<BQQQI8s")
"""Opcode, record length, start of the summary, of its offsets, CRC of the summary and the footer so far, magic."""


class McapFile:
    """Writes one file. Not thread-safe; `file.sync` may be called from elsewhere."""

    def __init__(self, file: AppendFile, chunk_bytes: int) -> None:
        """Write the head of the file.

        Args:
            file: an empty file; it stays the caller's to close.
            chunk_bytes: a chunk is written when it has grown to this.

        Raises:
            OSError: the disk is full.
        """
        self._file = file
        self._chunk_bytes = chunk_bytes
        self._buffer = bytearray(CHUNK_HEAD.size + chunk_bytes + (1 << 18))
        self._end = CHUNK_HEAD.size
        self._schemas: dict[str, Schema] = {}
        self._channels: dict[Topic, Channel] = {}
        self._index: dict[int, list[tuple[int, int]]] = {}
        self._chunks: list[ChunkIndex] = []
        self._own: set[int] = set()
        self._counts: dict[int, int] = {}
        self._table, self._rows = MessageTable(), 0
        self._first, self._last = 2**63 - 1, 0
        self._crc = 0
        builder = RecordBuilder()
        builder.write(MCAP_MAGIC)
        Header(PROFILE, LIBRARY).write(builder)
        self._append(_bytes(builder))

    @property
    def written(self) -> int:
        """Messages that have been handed to the system; tables of the ledger are none."""
        return sum(count for number, count in self._counts.items() if number not in self._own)

    @property
    def messages(self) -> int:
        """Messages taken, those in the open chunk included."""
        return len(self._table)

    @property
    def waiting(self) -> Sequence[tuple[str, Keys]]:
        """Topic and keys of what is in the open chunk."""
        names = {channel.id: topic.name for topic, channel in self._channels.items()}
        return [(names[channel], keys) for channel, keys in self._table.since(self._rows)]

    def add(self, topic: Topic, keys: Keys, sequence: int, parts: Sequence[Buffer], packed: bool = False) -> None:
        """Put a message into the open chunk, and write the chunk if it is full.

        Args:
            topic: registered on first use.
            keys: log time and keys.
            sequence: of the publisher; kept modulo 2**32 as MCAP has it.
            parts: the wire parts; copied.
            packed: whether the vertices among them are encoded.

        Raises:
            OSError: the chunk could not be written; it is still waiting, the file is whole.
        """
        channel = self._channels.get(topic) or self._register(topic)
        size = MESSAGE_HEAD.size + blob_size(parts)
        self._make_room(size)
        self._index.setdefault(channel.id, []).append((keys.log_time_ns, self._end - CHUNK_HEAD.size))
        head = (Opcode.MESSAGE, size - 9, channel.id, sequence & 0xFFFFFFFF, keys.log_time_ns, max(keys.time_ns, 0))
        MESSAGE_HEAD.pack_into(self._buffer, self._end, *head)
        place, whole = self._file.size + self._end + MESSAGE_HEAD.size, size - MESSAGE_HEAD.size
        self._table.add(channel.id, place, whole, keys)
        self._end = write_blob(self._buffer, self._end + MESSAGE_HEAD.size, keys, parts, packed)
        if self._end - CHUNK_HEAD.size >= self._chunk_bytes:
            self.flush()

    def flush(self) -> None:
        """Write the open chunk, if it holds a message.

        Raises:
            OSError: the disk is full; the chunk is still waiting, the file is whole.
        """
        if not self._index:
            return
        times = [time for entries in self._index.values() for time, _ in entries]
        first, last, size = min(times), max(times), self._end - CHUNK_HEAD.size
        head = (Opcode.CHUNK, CHUNK_HEAD.size - 9 + size, first, last, size, 0, 0, size)
        CHUNK_HEAD.pack_into(self._buffer, 0, *head)
        builder = RecordBuilder()
        offsets = {}
        for number, entries in self._index.items():
            offsets[number] = self._file.size + self._end + builder.count
            MessageIndex(number, entries).write(builder)
        indexes, start = _bytes(builder), self._file.size
        self._make_room(len(indexes))
        self._buffer[self._end : self._end + len(indexes)] = indexes
        with memoryview(self._buffer) as view, view[: self._end + len(indexes)] as record:
            self._append(record)
        self._chunks.append(ChunkIndex(self._end, start, "", size, last, len(indexes), offsets, first, size))
        for number, entries in self._index.items():
            self._counts[number] = self._counts.get(number, 0) + len(entries)
        self._first, self._last = min(self._first, first), max(self._last, last)
        self._rows = len(self._table)
        self.discard()

    def discard(self) -> None:
        """Forget the open chunk, except that its topics stay known."""
        self._index = {}
        self._end = CHUNK_HEAD.size
        self._table.cut(self._rows)

    def finish(self) -> None:
        """Write the open chunk and the summary: the file is complete and indexed.

        Raises:
            OSError: the disk is full; the file is whole but not indexed.
        """
        self.flush()
        attached = self._attach()
        builder = RecordBuilder()
        DataEnd(self._crc).write(builder)
        data_end = _bytes(builder)
        start = self._file.size + len(data_end)
        groups: list[tuple[Opcode, Sequence[Schema | Channel | Statistics | ChunkIndex | AttachmentIndex]]] = [
            (Opcode.SCHEMA, list(self._schemas.values())),
            (Opcode.CHANNEL, list(self._channels.values())),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, self._chunks),
            (Opcode.ATTACHMENT_INDEX, [attached]),
        ]
        offsets = []
        for opcode, records in groups:
            begin = builder.count
            for record in records:
                record.write(builder)
            if builder.count > begin:
                offsets.append(SummaryOffset(opcode, start + begin, builder.count - begin))
        offset_start = start + builder.count
        for offset in offsets:
            offset.write(builder)
        summary = _bytes(builder)
        footer = FOOTER.pack(Opcode.FOOTER, 20, start, offset_start, 0, MCAP_MAGIC)
        checksum = crc32(footer[:25], crc32(summary))
        self._append(data_end + summary + footer[:25] + struct.pack("<I", checksum) + MCAP_MAGIC)

    def _attach(self) -> AttachmentIndex:
        """Write the table of messages behind the last chunk."""
        topics = {channel.id: topic.name for topic, channel in self._channels.items()}
        data, start = self._table.pack(topics), self._file.size
        builder = RecordBuilder()
        Attachment(0, self._last, NAME, MEDIA_TYPE, data).write(builder)
        record = _bytes(builder)
        self._append(record)
        return AttachmentIndex(start, len(record), self._last, 0, len(data), NAME, MEDIA_TYPE)

    def _append(self, data: Buffer) -> None:
        self._file.write(data)
        self._crc = crc32(data, self._crc)

    def _make_room(self, size: int) -> None:
        if self._end + size > len(self._buffer):
            self._buffer.extend(bytes(self._end + size - len(self._buffer)))

    def _register(self, topic: Topic) -> Channel:
        builder = RecordBuilder()
        if topic.schema not in self._schemas:
            self._schemas[topic.schema] = Schema(len(self._schemas) + 1, b"", "", topic.schema)
            self._schemas[topic.schema].write(builder)
        channel = Channel(len(self._channels) + 1, topic.name, "mien", {}, self._schemas[topic.schema].id)
        channel.write(builder)
        records = _bytes(builder)
        self._make_room(len(records))
        self._buffer[self._end : self._end + len(records)] = records
        self._end += len(records)
        self._channels[topic] = channel
        if topic.name in TOPICS:
            self._own.add(channel.id)
        return channel

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=1,
            channel_count=len(self._channels),
            channel_message_counts=dict(self._counts),
            chunk_count=len(self._chunks),
            message_count=sum(self._counts.values()),
            message_end_time=self._last,
            message_start_time=self._first if self._counts else 0,
            metadata_count=0,
            schema_count=len(self._schemas),
        )


def _bytes(builder: RecordBuilder) -> bytes:
    data: bytes = builder.end()  # type: ignore[no-untyped-call]
    return data
