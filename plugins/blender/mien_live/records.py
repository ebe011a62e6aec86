"""Mien's records, read: bytes from the gateway to arrays in Blender's axes. No bpy here, numpy comes with Blender.

The layout is that of docs/gateway.md, version 1: a header of 32 bytes and a payload, all little-endian.
"""

import json
import struct
from dataclasses import dataclass

import numpy as np

MAGIC = b"HCM1"
HELLO, TOPOLOGY, FRAME, END = 0, 1, 2, 9
UV, NAMES = 1, 2
POSE, WEIGHTS = 1, 2
MAX_PAYLOAD = 1 << 26
_HEADER = struct.Struct("<4sBBHIIdII")


class RecordError(Exception):
    """The bytes are no record that this add-on can read; the message says what to do."""


@dataclass(frozen=True)
class Topology:
    """What all frames with the same key share."""

    key: int
    """Number by which frames name it."""
    vertices: int
    """Number of vertices N."""
    triangles: np.ndarray
    """(T, 3) int32, counter-clockwise from outside."""
    uv: np.ndarray | None
    """(T * 3, 2) float32 texture coordinates per corner of a triangle, v up, or None."""
    name: str
    """For people."""
    units: tuple[str, ...]
    """Names of the expression units."""


@dataclass(frozen=True)
class Frame:
    """One head."""

    sequence: int
    """Count of the gateway; gaps are meshes that were not sent to this client."""
    key: int
    """Key of its topology."""
    capture_time_s: float
    """Exposure time, s, on the rig's clock."""
    positions: np.ndarray
    """(N, 3) float32, contiguous: metres in Blender's axes (face along -Y, +Z up)."""
    weights: np.ndarray | None
    """(U,) float32 in 0..1, or None."""


def to_blender(points: np.ndarray) -> np.ndarray:
    """Turn points of Mien (right-handed, +Y up, face +Z) into Blender's (right-handed, +Z up, face -Y).

    Args:
        points: (N, 3).

    Returns:
        (N, 3) float32, contiguous. The turn keeps the hand, so triangles keep their order.
    """
    turned = np.empty((len(points), 3), np.float32)
    turned[:, 0] = points[:, 0]
    np.negative(points[:, 2], out=turned[:, 1])
    turned[:, 2] = points[:, 1]
    return turned


class Splitter:
    """Cuts the bytes of a connection into records."""

    def __init__(self) -> None:
        """Begin at the start of a record."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they came and return the records that are whole now.

        Raises:
            RecordError: what came is no stream of records; hang up.
        """
        self._buffer += data
        whole = []
        while self._buffer:
            _check_magic(bytes(self._buffer[:4]))
            if len(self._buffer) < _HEADER.size:
                break
            header_bytes, payload_bytes = _sizes(self._buffer)
            size = header_bytes + payload_bytes
            if len(self._buffer) < size:
                break
            whole.append(bytes(self._buffer[:size]))
            del self._buffer[:size]
        return whole


def _check_magic(magic: bytes) -> None:
    if MAGIC.startswith(magic):
        return
    if magic[:3] == MAGIC[:3]:
        raise RecordError(f"the server speaks {magic!r}, this add-on {MAGIC!r}: use the add-on of your Mien's version")
    raise RecordError(f"what answers there is not Mien ({magic!r}); the port is serve.tcp_port, 5750 by default")


def _sizes(record: bytes | bytearray) -> tuple[int, int]:
    _magic, _kind, _flags, header_bytes, *_, payload_bytes = _HEADER.unpack_from(record)
    if header_bytes < _HEADER.size or header_bytes % 8 or payload_bytes > MAX_PAYLOAD:
        raise RecordError(f"a record of {header_bytes} + {payload_bytes} bytes cannot be; connect again")
    return header_bytes, payload_bytes


def decode(record: bytes) -> dict | Topology | Frame | str | None:
    """Read one whole record.

    Returns:
        A hello (dict), a Topology, a Frame, the reason of an end (str), or None for a kind of a later version.

    Raises:
        RecordError: lengths or indices that do not fit, or values that are no numbers.
    """
    if len(record) < _HEADER.size:
        raise RecordError(f"a record of {len(record)} bytes is cut short")
    magic, kind, flags, header_bytes, sequence, key, time_s, vertices, payload_bytes = _HEADER.unpack_from(record)
    _check_magic(magic)
    _sizes(record)
    if len(record) != header_bytes + payload_bytes:
        raise RecordError(f"a record of {len(record)} bytes should have {header_bytes + payload_bytes}")
    payload = _Payload(record, header_bytes)
    if kind == HELLO:
        return payload.json(payload_bytes)
    if kind == TOPOLOGY:
        return _topology(payload, flags, key, vertices)
    if kind == FRAME:
        return _frame(payload, flags, sequence, key, time_s, vertices)
    if kind == END:
        return payload.text(payload_bytes)
    return None


class _Payload:
    """Takes blocks off a payload; every length is checked before it is used."""

    def __init__(self, record: bytes, start: int) -> None:
        self._record, self._at = memoryview(record), start

    def bytes(self, count: int) -> memoryview:
        if count > len(self._record) - self._at:
            raise RecordError(f"a record is cut short: {count} bytes needed, {len(self._record) - self._at} left")
        self._at += count
        return self._record[self._at - count : self._at]

    def count(self) -> int:
        return int.from_bytes(self.bytes(4), "little")

    def array(self, dtype: str, rows: int, columns: int) -> np.ndarray:
        return np.frombuffer(self.bytes(4 * rows * columns), dtype).reshape(rows, columns)

    def text(self, count: int) -> str:
        try:
            return str(self.bytes(count), "utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(f"text that is not UTF-8: {error}") from error

    def json(self, count: int) -> dict:
        try:
            value = json.loads(self.text(count))
        except (json.JSONDecodeError, RecursionError) as error:
            raise RecordError(f"text that is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise RecordError("JSON that is no object")
        return value

    def end(self, flags: int, known: int) -> None:
        if self._at != len(self._record) and not flags & ~known:
            raise RecordError(f"a record has {len(self._record) - self._at} bytes too many")


def _indices(values: np.ndarray, count: int) -> np.ndarray:
    if values.size and values.max() >= count:
        raise RecordError(f"a triangle names number {values.max()} of {count}")
    return values.astype(np.int32)


def _topology(payload: _Payload, flags: int, key: int, vertices: int) -> Topology:
    triangles = _indices(payload.array("<u4", payload.count(), 3), vertices)
    uv = None
    if flags & UV:
        points = payload.array("<f4", payload.count(), 2)
        corners = _indices(payload.array("<u4", len(triangles), 3), len(points))
        uv = np.ascontiguousarray(points[corners.ravel()], np.float32)
    names: dict = {}
    if flags & NAMES:
        size = payload.count()
        names = payload.json(size)
        payload.bytes(-size % 4)
    payload.end(flags, UV | NAMES)
    units = names.get("units", [])
    if not isinstance(units, list):
        raise RecordError("the units of a topology are no list")
    return Topology(key, vertices, triangles, uv, str(names.get("name", "")), tuple(map(str, units)))


def _frame(payload: _Payload, flags: int, sequence: int, key: int, time_s: float, vertices: int) -> Frame:
    positions = payload.array("<f4", vertices, 3)
    if flags & POSE:
        payload.bytes(64)
    weights = payload.array("<f4", payload.count(), 1).ravel() if flags & WEIGHTS else None
    payload.end(flags, POSE | WEIGHTS)
    if not np.isfinite(positions).all():
        raise RecordError("a frame holds positions that are no numbers")
    return Frame(sequence, key, time_s, to_blender(positions), weights)
