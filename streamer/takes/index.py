"""Where the messages of one file are: from its MCAP index, or by scanning where a full disk left none."""

import os
import struct
import weakref
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import ChunkIndex
from mcap.summary import Summary
from numpy.typing import NDArray

from streamer.errors import TakeError, WireError
from streamer.takes.carve import Found, carve
from streamer.takes.framing import HEAD, extent, is_packed, read_blob, read_keys
from streamer.takes.layout import FileInfo
from streamer.takes.mcap_file import CHUNK_HEAD, DATA_END, FOOTER, MCAP_MAGIC, MESSAGE_HEAD
from streamer.takes.stored import channel_of
from streamer.takes.table import ATTACHMENT, ENTRY, TAIL, Entries, read_table, table_bytes
from streamer.takes.tables import TOPICS
from streamer.types import Frame
from streamer.wire import Message, decode

_DAMAGE = (McapError, struct.error, OSError, ValueError, KeyError, IndexError, OverflowError, EOFError, MemoryError)


class TakeFile:
    """One file of a take, read at any place; closes itself when nobody refers to it."""

    def __init__(self, path: Path, info: FileInfo) -> None:
        """Open the file and compare its length.

        Raises:
            TakeError: it is missing or has another length than take.json says.
        """
        self.path, self.info = path, info
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TakeError(
                f"{path}: {error.strerror}; take.json names this file, restore it or run: mien recover {path.parent}"
            ) from error
        self.close = weakref.finalize(self, os.close, self._fd)
        size = os.fstat(self._fd).st_size
        if size != info.size:
            raise TakeError(f"{path} has {size} bytes, take.json says {info.size}; run: mien recover {path.parent}")

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes at a place, fewer at the end of the file."""
        return os.pread(self._fd, size, offset)

    def keys(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Read frame ids and times without reading the messages.

        Args:
            offsets: (M,) places of blobs.

        Returns:
            (M, 2) frame id and exposure time in ns.

        Raises:
            TakeError: no message is there.
        """
        out = np.empty((len(offsets), 2), np.int64)
        for row, offset in enumerate(offsets.tolist()):
            try:
                keys = read_keys(self.read(offset, HEAD.size), f"{self.path} at byte {offset}")
            except WireError as error:
                raise self.damaged(str(error)) from error
            out[row] = keys.frame_id, keys.time_ns
        return out

    def parts(self, offset: int, size: int) -> tuple[list[memoryview], bool]:
        """Read the parts of one message, its checksum checked, and whether the vertices among them are encoded.

        Raises:
            TakeError: it is damaged.
        """
        where = f"{self.path} at byte {offset}"
        data = memoryview(self.read(offset, size))
        length = extent(data)
        try:
            _, parts = read_blob(data[: length if length >= 0 else len(data)], where)
        except WireError as error:
            raise self.damaged(str(error)) from error
        return parts, is_packed(data)

    def message(self, offset: int, size: int) -> tuple[str, Message]:
        """Read one message that is no encoded mesh; its arrays are views of the bytes just read.

        Raises:
            TakeError: it is damaged.
        """
        parts, _ = self.parts(offset, size)
        try:
            return decode(parts)
        except WireError as error:
            raise self.damaged(f"{self.path} at byte {offset}: {error}") from error

    def index(self, number: int) -> Mapping[str, Entries]:
        """Return topic to entries, in the order of the file.

        Args:
            number: of this file in its take, for the entries.

        Raises:
            TakeError: the index is damaged.
        """
        if not self.info.indexed:
            return self._with_keys(self._scan(number))
        try:
            start = self._start_of_summary()
            table = self._table(start, number)
            if table is not None:
                return table
            self._check_summary(start)
            with self.path.open("rb") as stream:
                summary = SeekingReader(stream).get_summary()
            if summary is None:
                raise ValueError("there is no index at its end")
            return self._with_keys(self._collect(summary, number))
        except _DAMAGE as error:
            raise self.damaged(f"{self.path}: the index is damaged ({type(error).__name__}: {error})") from error

    def _start_of_summary(self) -> int:
        opcode, length, start, _, _, magic = FOOTER.unpack(self.read(self.info.size - FOOTER.size, FOOTER.size))
        if opcode != Opcode.FOOTER or length != 20 or magic != MCAP_MAGIC or not DATA_END.size < start < self.info.size:
            raise ValueError("the file does not end with one")
        return int(start)

    def _table(self, summary: int, number: int) -> Mapping[str, Entries] | None:
        """Read the table of messages, None in files of the first schema, which have none."""
        end = summary - DATA_END.size - 4
        size = table_bytes(self.read(max(end - TAIL.size, 0), TAIL.size)) + ATTACHMENT.size + 4
        if size <= ATTACHMENT.size + 4:
            return None
        if size > end + 4:
            raise ValueError("its table is longer than the file")
        return read_table(self.read(end + 4 - size, size), number)

    def _with_keys(self, topics: Mapping[str, Entries]) -> Mapping[str, Entries]:
        for entries in topics.values():
            keys = self.keys(entries["offset"])
            entries["frame_id"], entries["time"] = keys[:, 0], keys[:, 1]
        return topics

    def _check_summary(self, start: int) -> None:
        checksum = FOOTER.unpack(self.read(self.info.size - FOOTER.size, FOOTER.size))[4]
        body = self.read(start, self.info.size - start - 4 - len(MCAP_MAGIC))
        if zlib.crc32(body) != checksum:
            raise ValueError("its checksum does not match")

    def _collect(self, summary: Summary, number: int) -> Mapping[str, Entries]:
        columns: dict[str, list[Entries]] = {}
        for chunk in summary.chunk_indexes:
            tables = self._message_indexes(chunk)
            if not tables:
                continue
            starts = np.sort(np.concatenate([table["offset"] for _, table in tables]))
            ends = np.append(starts[1:], chunk.chunk_start_offset + chunk.chunk_length)
            for channel, table in tables:
                entries = np.empty(len(table), ENTRY)
                entries["log_time"], entries["file"] = table["time"], number
                entries["offset"] = table["offset"] + MESSAGE_HEAD.size
                entries["size"] = ends[np.searchsorted(starts, table["offset"])] - entries["offset"]
                columns.setdefault(summary.channels[channel].topic, []).append(entries)
        return {topic: np.concatenate(parts) for topic, parts in columns.items()}

    def _message_indexes(self, chunk: ChunkIndex) -> list[tuple[int, Entries]]:
        """Return channel id and (time, absolute offset of the record) rows of a chunk."""
        data = self.read(chunk.chunk_start_offset + chunk.chunk_length, chunk.message_index_length)
        position, tables = 0, []
        row = np.dtype([("time", "<i8"), ("offset", "<i8")])
        while position < len(data):
            opcode, length, channel, size = struct.unpack_from("<BQHI", data, position)
            if opcode != Opcode.MESSAGE_INDEX or length != size + 6 or size % row.itemsize:
                raise ValueError("a message index is not where the chunk index says")
            table = np.frombuffer(data, row, size // row.itemsize, position + 15).copy()
            table["offset"] += chunk.chunk_start_offset + CHUNK_HEAD.size
            tables.append((channel, table))
            position += 9 + length
        return tables

    def _scan(self, number: int) -> Mapping[str, Entries]:
        rows: dict[str, list[tuple[int, int, int, int]]] = {}
        for item in carve(self.path):
            if not isinstance(item, Found):
                raise self.damaged(f"{self.path.parent}: {item.why}")
            channel = channel_of(item.parts)
            if not item.packed and channel not in TOPICS:
                channel, message = decode(item.parts)
                channel = f"{channel}/{message.camera}" if isinstance(message, Frame) else channel
            rows.setdefault(channel, []).append((item.keys.log_time_ns, number, item.offset, item.size))
        return {topic: np.array([(*row, 0, 0) for row in entries], ENTRY) for topic, entries in rows.items()}

    def damaged(self, what: str) -> TakeError:
        """Return the error for damage in this file."""
        return TakeError(f"{what}; run: mien recover {self.path.parent}")
