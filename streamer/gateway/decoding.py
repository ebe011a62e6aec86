"""Bytes to records: every length is checked before it is used. Numpy only: no socket, no clock.

For Python clients and for the tests that hold the plugins' own decoders to the same answers.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import WireError
from streamer.gateway.records import (
    ALIGNMENT,
    HEADER,
    MAGIC,
    MAX_PAYLOAD,
    NORMAL_STEPS,
    Buffer,
    FrameBlock,
    FrameRecord,
    Header,
    Kind,
    Record,
    TopologyBlock,
    TopologyRecord,
)
from streamer.types import F32


def parse_header(data: Buffer, limit: int = MAX_PAYLOAD) -> Header:
    """Read the first 32 bytes of a record, whose payload may have `limit` bytes.

    Raises:
        WireError: fewer bytes, another format or version, or sizes that cannot be.
    """
    if len(data) < HEADER.size:
        raise WireError(f"a record's header has {HEADER.size} bytes, these are {len(data)}")
    magic, *fields = HEADER.unpack_from(data)
    if magic != MAGIC:
        _refuse_magic(magic)
    header = Header(*fields)
    if header.header_bytes < HEADER.size or header.header_bytes % ALIGNMENT:
        raise WireError(f"a header of {header.header_bytes} bytes cannot be; at least 32, a multiple of {ALIGNMENT}")
    if header.payload_bytes > limit:
        raise WireError(f"a payload of {header.payload_bytes} bytes is more than the {limit} allowed")
    return header


def _refuse_magic(magic: bytes) -> None:
    if magic[:3] == MAGIC[:3]:
        raise WireError(f"the server speaks {magic!r}, this reader {MAGIC!r}; use a plugin and a Mien of one version")
    raise WireError(f"{magic!r} begins no record of Mien ({MAGIC!r}); is this the gateway's port?")


def decode_record(data: Buffer) -> Record:
    """Read one whole record, such as a WebSocket message.

    Raises:
        WireError: see `parse_header`; or bytes are missing or left over.
    """
    header = parse_header(data)
    expected = header.header_bytes + header.payload_bytes
    if len(data) != expected:
        raise WireError(f"the record has {len(data)} bytes, its header says {expected}")
    return Record(header, memoryview(data)[header.header_bytes :].toreadonly())


class Splitter:
    """Cuts a stream of bytes into records.

    Args:
        limit: bytes of a payload.
    """

    def __init__(self, limit: int = MAX_PAYLOAD) -> None:
        """Begin at the start of a record."""
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: Buffer) -> list[Record]:
        """Take bytes as they came and return the records that are whole now.

        Raises:
            WireError: what came is no stream of records; the connection cannot be used any further.
        """
        self._buffer += data
        records = []
        while self._buffer:
            magic = bytes(self._buffer[: len(MAGIC)])
            if not MAGIC.startswith(magic):  # known before the header is whole: garbage may be short
                _refuse_magic(magic)
            if len(self._buffer) < HEADER.size:
                break
            header = parse_header(self._buffer, self._limit)
            size = header.header_bytes + header.payload_bytes
            if len(self._buffer) < size:
                break
            records.append(decode_record(bytes(self._buffer[:size])))
            del self._buffer[:size]
        return records

    def close(self) -> None:
        """Say that the stream has ended.

        Raises:
            WireError: in the middle of a record.
        """
        if self._buffer:
            raise WireError(f"the stream ended inside a record, after {len(self._buffer)} bytes of it")


class _Reader:
    """Takes blocks off a payload; every length is checked before it is used."""

    def __init__(self, record: Record, what: str) -> None:
        self._payload, self._at, self._what = record.payload, 0, what

    def bytes(self, count: int) -> memoryview:
        if count > len(self._payload) - self._at:
            left = len(self._payload) - self._at
            raise WireError(f"the {self._what} is cut short: {count} bytes needed, {left} left")
        self._at += count
        return self._payload[self._at - count : self._at]

    def count(self) -> int:
        return int.from_bytes(self.bytes(4), "little")

    def array(self, dtype: str, rows: int, columns: int) -> NDArray[Any]:
        size = np.dtype(dtype).itemsize * rows * columns
        values = np.frombuffer(self.bytes(size), dtype).reshape(rows, columns)
        self.bytes(-size % 4)
        return values

    def end(self, flags: int, known: int) -> None:
        """Refuse bytes that no flag announces; a block of a later version may follow the known ones."""
        left = len(self._payload) - self._at
        if left and not flags & ~int(known):  # an IntFlag inverts to its own members only
            raise WireError(f"the {self._what} has {left} bytes too many")


def _expect(record: Record, kind: Kind) -> None:
    if record.header.kind != kind:
        raise WireError(f"a record of kind {record.header.kind} is no {kind.name.lower()}")


def _text(data: memoryview, what: str) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"the {what} is not UTF-8: {error}") from error


def _json(data: memoryview, what: str) -> dict[str, Any]:
    try:
        value = json.loads(_text(data, what))
    except (json.JSONDecodeError, RecursionError) as error:
        raise WireError(f"the {what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WireError(f"the {what} is no JSON object: {value!r:.40}")
    return value


def decode_hello(record: Record) -> dict[str, Any]:
    """Read a hello.

    Raises:
        WireError: another kind, or no JSON object.
    """
    _expect(record, Kind.HELLO)
    return _json(record.payload, "hello")


def decode_end(record: Record) -> str:
    """Read the reason in an end.

    Raises:
        WireError: another kind, or no text.
    """
    _expect(record, Kind.END)
    return _text(record.payload, "end")


def decode_topology(record: Record) -> TopologyRecord:
    """Read a topology.

    Raises:
        WireError: another kind, lengths that do not fit, indices that point outside, or names that are none.
    """
    _expect(record, Kind.TOPOLOGY)
    header, reader = record.header, _Reader(record, "topology")
    triangles = reader.array("<u4", reader.count(), 3)
    _within(triangles, header.vertices, "vertex")
    uv = uv_triangles = None
    if header.flags & TopologyBlock.UV:
        uv = reader.array("<f4", reader.count(), 2)
        uv_triangles = reader.array("<u4", len(triangles), 3)
        _within(uv_triangles, len(uv), "uv")
    names: dict[str, Any] = {}
    if header.flags & TopologyBlock.NAMES:
        size = reader.count()
        names = _json(reader.bytes(size), "names of the topology")
        reader.bytes(-size % 4)
    source = reader.array("<u4", header.vertices, 1).ravel() if header.flags & TopologyBlock.SOURCE else None
    reader.end(header.flags, sum(TopologyBlock))
    name, identity, units = names.get("name", ""), names.get("id", ""), names.get("units", [])
    if not (isinstance(name, str) and isinstance(identity, str) and isinstance(units, list)) or not all(
        isinstance(unit, str) for unit in units
    ):
        raise WireError("the names of the topology are no names; expected name, id and units")
    return TopologyRecord(
        header.topology, header.vertices, triangles, uv, uv_triangles, name, identity, tuple(units), source
    )


def _within(indices: NDArray[np.uint32], count: int, what: str) -> None:
    if indices.size and indices.max() >= count:
        raise WireError(f"a triangle of the topology names {what} {indices.max()} of {count}")


def decode_frame(record: Record) -> FrameRecord:
    """Read a frame, or a record of weights. Arrays that are not quantised are views of the record.

    Raises:
        WireError: another kind, or lengths that do not fit.
    """
    header, count = record.header, record.header.vertices
    if header.kind == Kind.WEIGHTS:
        reader, positions = _Reader(record, "weights"), np.empty((0, 3), np.float32)
    else:
        _expect(record, Kind.FRAME)
        reader = _Reader(record, "frame")
        positions = _positions(reader, count) if header.flags & FrameBlock.QUANTISED else reader.array("<f4", count, 3)
    pose = weights = normals = None
    if header.flags & FrameBlock.POSE:
        pose = reader.array("<f4", 4, 4)
    if header.flags & FrameBlock.WEIGHTS:
        weights = reader.array("<f4", reader.count(), 1).ravel()
    if header.flags & FrameBlock.NORMALS:
        if header.flags & FrameBlock.QUANTISED:
            normals = np.asarray(reader.array("<i1", count, 3) / NORMAL_STEPS, np.float32)
        else:
            normals = reader.array("<f4", count, 3)
    reader.end(header.flags, sum(FrameBlock))
    return FrameRecord(header.sequence, header.topology, header.capture_time_s, positions, pose, weights, normals)


def _positions(reader: _Reader, count: int) -> F32:
    """Read quantised positions: computed in double, rounded once, so that every reader has the same bits."""
    low, step = reader.array("<f4", 2, 3).astype(np.float64)
    return np.asarray(reader.array("<u2", count, 3) * step + low, np.float32)


def decode_health(record: Record) -> dict[str, Any]:
    """Read how the stream does.

    Raises:
        WireError: another kind, or no JSON object.
    """
    _expect(record, Kind.HEALTH)
    return _json(record.payload, "health")
