"""Mien's records, read: bytes from the gateway to arrays in Blender's axes. No bpy here, numpy comes with Blender.

The layout is that of docs/gateway.md, version 1: a header of 32 bytes and a payload, all little-endian.
"""

import json
import struct
from dataclasses import dataclass

import numpy as np

MAGIC = b"HCM1"
HELLO, TOPOLOGY, FRAME, WEIGHTS, HEALTH, REQUEST, END = 0, 1, 2, 3, 4, 8, 9
UV, NAMES, SOURCE = 1, 2, 4
POSE, WEIGHT, NORMALS, QUANTISED = 1, 2, 4, 8
MAX_PAYLOAD = 1 << 26
_HEADER = struct.Struct("<4sBBHIIdII")
_TURN = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)


class RecordError(Exception):
    """The bytes are no record that this add-on can read; the message says what to do.

    `fault` is `newer` (another version), `foreign` (not Mien), `damaged` or `incomplete` (the stream ended inside one).
    """

    def __init__(self, fault: str, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class Hello:
    """What the numbers after it mean."""

    about: dict
    """`target`, `axes`, `unit`, `winding`, `token` and more."""


@dataclass(frozen=True)
class Health:
    """How the stream does, each second."""

    about: dict
    """`state` (`live`, `waiting`), `message`, `meshes_per_s`, `age_ms` and more."""


@dataclass(frozen=True)
class End:
    """The last record."""

    reason: str
    """For people."""


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
    """(C, 2) float32 texture coordinates, v up, or None."""
    corners: np.ndarray | None
    """(T, 3) int32 indices into `uv`."""
    source: np.ndarray | None
    """(N,) int32 vertex of Mien's topology that each one repeats, only after a request with `split`."""
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
    positions: np.ndarray | None
    """(N, 3) float32, contiguous: metres in Blender's axes (face along -Y, +Z up); None in a record of weights."""
    pose: np.ndarray | None
    """(4, 4) float32 rigid pose of the head in the world, Blender's axes, or None."""
    weights: np.ndarray | None
    """(U,) float32 in 0..1, or None."""
    normals: np.ndarray | None
    """(N, 3) float32, Blender's axes, pointing out, or None."""


Message = Hello | Health | End | Topology | Frame


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


def pose_to_blender(pose: np.ndarray) -> np.ndarray:
    """Turn a (4, 4) pose of Mien into Blender's axes, on both sides."""
    turned = np.array(pose, np.float32)
    turned[:3, :3] = _TURN @ turned[:3, :3] @ _TURN.T
    turned[:3, 3] = _TURN @ turned[:3, 3]
    return turned


def encode_request(asked: dict) -> bytes:
    """Return a request; keys as in docs/gateway.md."""
    text = json.dumps(asked).encode()
    return _HEADER.pack(MAGIC, REQUEST, 0, _HEADER.size, 0, 0, 0.0, 0, len(text)) + text


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

    def close(self) -> None:
        """Say that the stream has ended.

        Raises:
            RecordError: in the middle of a record.
        """
        if self._buffer:
            raise RecordError("incomplete", f"the stream ended inside a record, after {len(self._buffer)} bytes of it")


def _check_magic(magic: bytes) -> None:
    if MAGIC.startswith(magic):
        return
    if magic[:3] == MAGIC[:3]:
        told = f"the server speaks {magic!r}, this add-on {MAGIC!r}: use the add-on of your Mien's version"
        raise RecordError("newer", told)
    told = f"what answers there is not Mien ({magic!r}); the port is serve.tcp_port, 5750 by default"
    raise RecordError("foreign", told)


def _sizes(record: bytes | bytearray) -> tuple[int, int]:
    _magic, _kind, _flags, header_bytes, *_, payload_bytes = _HEADER.unpack_from(record)
    if header_bytes < _HEADER.size or header_bytes % 8 or payload_bytes > MAX_PAYLOAD:
        raise RecordError("damaged", f"a record of {header_bytes} + {payload_bytes} bytes cannot be; connect again")
    return header_bytes, payload_bytes


class Reader:
    """Reads the records of one connection in turn; knows which topology the frames belong to."""

    def __init__(self) -> None:
        """Know no topology."""
        self._topology: tuple[int, int] | None = None

    def read(self, record: bytes) -> Message | None:
        """Read one whole record; None for a kind of a later version.

        Raises:
            RecordError: lengths or indices that do not fit, values that are no numbers, a frame before its topology.
        """
        message = decode(record)
        if isinstance(message, Hello):
            self._topology = None
        elif isinstance(message, Topology):
            self._topology = message.key, message.vertices
        elif isinstance(message, Frame) and (
            self._topology is None
            or self._topology[0] != message.key
            or (message.positions is not None and len(message.positions) != self._topology[1])
        ):
            raise RecordError("damaged", "a frame came before its topology; connecting again")
        return message


def decode(record: bytes) -> Message | None:
    """Read one whole record, whatever came before it; None for a kind of a later version.

    Raises:
        RecordError: lengths or indices that do not fit, or values that are no numbers.
    """
    _check_magic(bytes(record[:4]))
    if len(record) < _HEADER.size:
        raise RecordError("incomplete", f"a record of {len(record)} bytes is cut short")
    _magic, kind, flags, header_bytes, sequence, key, time_s, vertices, payload_bytes = _HEADER.unpack_from(record)
    _sizes(record)
    if len(record) != header_bytes + payload_bytes:
        raise RecordError("damaged", f"a record of {len(record)} bytes should have {header_bytes + payload_bytes}")
    payload = _Payload(record, header_bytes)
    if kind == HELLO:
        return Hello(payload.json(payload_bytes))
    if kind == HEALTH:
        return Health(payload.json(payload_bytes))
    if kind == TOPOLOGY:
        return _topology(payload, flags, key, vertices)
    if kind in (FRAME, WEIGHTS):
        return _frame(payload, flags, (sequence, key, time_s), vertices if kind == FRAME else None)
    if kind == END:
        return End(payload.text(payload_bytes))
    return None


class _Payload:
    """Takes blocks off a payload; every length is checked before it is used."""

    def __init__(self, record: bytes, start: int) -> None:
        self._record, self._at = memoryview(record), start

    def bytes(self, count: int) -> memoryview:
        if count > len(self._record) - self._at:
            left = len(self._record) - self._at
            raise RecordError("damaged", f"a record is cut short: {count} bytes needed, {left} left")
        self._at += count
        return self._record[self._at - count : self._at]

    def count(self) -> int:
        return int.from_bytes(self.bytes(4), "little")

    def array(self, dtype: str, rows: int, columns: int) -> np.ndarray:
        size = np.dtype(dtype).itemsize * rows * columns
        values = np.frombuffer(self.bytes(size), dtype).reshape(rows, columns)
        self.bytes(-size % 4)
        return values

    def text(self, count: int) -> str:
        try:
            return str(self.bytes(count), "utf-8")
        except UnicodeDecodeError as error:
            raise RecordError("damaged", f"text that is not UTF-8: {error}") from error

    def json(self, count: int) -> dict:
        try:
            value = json.loads(self.text(count))
        except (json.JSONDecodeError, RecursionError) as error:
            raise RecordError("damaged", f"text that is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise RecordError("damaged", "JSON that is no object")
        return value

    def end(self, flags: int, known: int) -> None:
        if self._at != len(self._record) and not flags & ~known:
            raise RecordError("damaged", f"a record has {len(self._record) - self._at} bytes too many")


def _indices(values: np.ndarray, count: int) -> np.ndarray:
    if values.size and values.max() >= count:
        raise RecordError("damaged", f"a triangle names number {values.max()} of {count}")
    return values.astype(np.int32)


def _topology(payload: _Payload, flags: int, key: int, vertices: int) -> Topology:
    triangles = _indices(payload.array("<u4", payload.count(), 3), vertices)
    uv = corners = source = None
    if flags & UV:
        uv = payload.array("<f4", payload.count(), 2)
        corners = _indices(payload.array("<u4", len(triangles), 3), len(uv))
    names: dict = {}
    if flags & NAMES:
        size = payload.count()
        names = payload.json(size)
        payload.bytes(-size % 4)
    if flags & SOURCE:
        source = payload.array("<u4", vertices, 1).ravel().astype(np.int32)
    payload.end(flags, UV | NAMES | SOURCE)
    units = names.get("units", [])
    if not isinstance(units, list):
        raise RecordError("damaged", "the units of a topology are no list")
    name = str(names.get("name", ""))
    return Topology(key, vertices, triangles, uv, corners, source, name, tuple(map(str, units)))


def _frame(payload: _Payload, flags: int, head: tuple[int, int, float], vertices: int | None) -> Frame:
    positions = pose = weights = normals = None
    if vertices is not None and flags & QUANTISED:
        low, step = payload.array("<f4", 2, 3).astype(np.float64)
        positions = (payload.array("<u2", vertices, 3) * step + low).astype(np.float32)
    elif vertices is not None:
        positions = payload.array("<f4", vertices, 3)
    if flags & POSE:
        pose = pose_to_blender(payload.array("<f4", 4, 4))
    if flags & WEIGHT:
        weights = payload.array("<f4", payload.count(), 1).ravel()
    if flags & NORMALS and flags & QUANTISED:
        normals = to_blender((payload.array("<i1", vertices or 0, 3) / 127).astype(np.float32))
    elif flags & NORMALS:
        normals = to_blender(payload.array("<f4", vertices or 0, 3))
    payload.end(flags, POSE | WEIGHT | NORMALS | QUANTISED)
    if positions is not None and not np.isfinite(positions).all():
        raise RecordError("damaged", "a frame holds positions that are no numbers")
    turned = None if positions is None else to_blender(positions)
    return Frame(*head, turned, pose, weights, normals)
