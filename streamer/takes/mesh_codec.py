"""Vertices of a mesh to bytes and back, six times smaller than float32 (docs/mesh_codec.md has the bytes). Pure.

Positions are rounded to a grid of 9.8 um, so that no coordinate within 2 m of the origin moves by more than 0.005 mm,
the rounding of float32 included. Grid coordinates are predicted twice: the mesh from an earlier one, moved by the
affine map that fits best (a head turns and nods as a whole), then each vertex from the one before it on a walk over the
mesh. What is left are small integers: zigzag, byte planes, zstd.

Every thirtieth mesh is a key that stands alone. Every sixth is an anchor, predicted from the key; a delta is predicted
from the key or anchor before it and names it. So any mesh is read with at most three reads, and a lost delta costs
itself only. All arithmetic behind the rounding is exact in 53 bits: every decoder gives the same floats, and a mesh
that was decoded encodes to itself.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamer.errors import WireError
from streamer.takes.byte_planes import Buffer, compress, decompress, unzigzag, width_of, zigzag
from streamer.takes.mesh_walk import Order, order_of
from streamer.types import F32, F64, Topology

MAGIC = b"MMC1"
HEAD = struct.Struct("<4sBBBBII8sqII")
"""Magic, kind, planes, order, zero, vertices, step, topology, log time and checksum of the base, zero."""
LOSSLESS, KEY, DELTA, ANCHOR = 0, 1, 2, 3
NATURAL, WALK = 0, 1
STEP_NM = 9800
"""Grid step, nm: half of it, and the rounding of float32 up to 2 m, stay below 5 um."""
GRID_LIMIT = 1 << 28
"""Largest grid coordinate; beyond (2.6 km) a mesh is kept lossless."""
MAP_BITS = 20
"""Fraction bits of the affine map."""
MAP_LIMIT = 1 << 22
OFFSET_LIMIT = 1 << 51
MAX_VERTICES = 1 << 24

ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Base:
    """A key or anchor, as others need it."""

    grid: F64
    """(3, N) whole grid coordinates in the order of the walk."""
    log_time_ns: int
    """Of the message that carries it."""
    checksum: int
    """CRC-32 of its encoded bytes."""


FindTopology = Callable[[str], Topology]
FindBase = Callable[[int, int], Base]
"""Log time in ns and checksum -> key or anchor; raises WireError if it is not there."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """A base, and what is needed to fit its motion to another mesh."""

    base: Base
    name: bytes
    size: int
    centre: F64
    pinv: F64


class MeshEncoder:
    """Encodes the meshes of one channel, one after the other; begins with a key and repeats one each `interval`.

    Args:
        lossless: keep the bits of every float.
        interval: meshes from key to key.
        stride: meshes from anchor to anchor.
    """

    def __init__(self, *, lossless: bool = False, interval: int = 30, stride: int = 6) -> None:
        """Begin; the first mesh becomes a key."""
        self._lossless, self._interval, self._stride = lossless, interval, stride
        self.reset()

    def reset(self) -> None:
        """Make the next mesh a key: nothing after this refers to anything before."""
        self._key: _Fit | None = None
        self._anchor: _Fit | None = None
        self._since = 0

    def encode(self, vertices: F32, topology_id: str, topology: Topology | None, log_time_ns: int) -> bytes:
        """Encode one mesh.

        Args:
            vertices: (N, 3) float32; values that are not finite, or too far out for the grid, are kept lossless.
            topology_id: of the mesh; another one than before begins with a key.
            topology: its topology if it is known: without it the vertices stay in their own order.
            log_time_ns: of the message that will carry it; later ones name it by that.
        """
        name, order = _name(topology_id), None
        if topology is not None and topology.vertex_count == len(vertices) and name:
            order = order_of(topology)
        name = name if order else b""
        grid = None if self._lossless else _to_grid(vertices, order)
        if grid is None:
            return self._encode_lossless(vertices, name, order)
        key, anchor = self._key, self._anchor
        if (
            key is not None
            and anchor is not None
            and self._since < self._interval
            and key.name == name
            and key.base.grid.shape == grid.shape
        ):
            fresh = self._since % self._stride == 0
            part = self._encode_delta(grid, name, key if fresh else anchor, ANCHOR if fresh else DELTA)
            if part is not None and len(part) < 0.9 * key.size:
                if fresh:
                    self._anchor = _fit(Base(grid, log_time_ns, zlib.crc32(part)), name, len(part))
                self._since += 1
                return part
        return self._encode_key(grid, name, log_time_ns)

    def _encode_lossless(self, vertices: F32, name: bytes, order: Order | None) -> bytes:
        bits = np.ascontiguousarray(vertices if order is None else vertices[order.forward], "<f4").view("<i4")
        columns = np.ascontiguousarray(bits.T)
        steps = np.diff(columns, axis=1, prepend=np.int32(0))  # wraps around, and back when decoded
        return _head(LOSSLESS, 4, name, len(vertices), 0, 0, 0) + compress(zigzag(steps), 4)

    def _encode_key(self, grid: F64, name: bytes, log_time_ns: int) -> bytes:
        origin = grid[:, :1].astype(np.int64) if grid.shape[1] else np.zeros((3, 1), np.int64)
        values = zigzag(np.diff(grid, axis=1, prepend=origin).astype(np.int32))
        width = width_of(values)
        head = _head(KEY, width, name, grid.shape[1], STEP_NM, 0, 0)
        part = head + origin.astype("<i8").tobytes() + compress(values, width)
        self._key = self._anchor = _fit(Base(grid, log_time_ns, zlib.crc32(part)), name, len(part))
        self._since = 1
        return part

    def _encode_delta(self, grid: F64, name: bytes, fit: _Fit, kind: int) -> bytes | None:
        if not grid.shape[1]:
            return None
        mean = grid.mean(axis=1, keepdims=True)
        linear = np.rint((grid - mean) @ fit.pinv * (1 << MAP_BITS))
        offset = np.rint(mean * (1 << MAP_BITS) - linear @ fit.centre)
        if not (np.abs(linear).max() < MAP_LIMIT and np.abs(offset).max() < OFFSET_LIMIT):
            return None
        steps = np.diff(grid - _predict(fit.base.grid, linear, offset), axis=1, prepend=0.0)
        if np.abs(steps).max() >= 1 << 30:
            return None
        values = zigzag(steps.astype(np.int32))
        width = width_of(values)
        head = _head(kind, width, name, grid.shape[1], STEP_NM, fit.base.log_time_ns, fit.base.checksum)
        affine = np.hstack([linear, offset]).astype("<i8").tobytes()
        return head + affine + compress(values, width)


def _fit(base: Base, name: bytes, size: int) -> _Fit:
    empty = not base.grid.shape[1]
    centre = np.zeros((3, 1)) if empty else np.rint(base.grid.mean(axis=1, keepdims=True))
    centred = base.grid - centre
    return _Fit(base, name, size, centre, centred.T @ np.linalg.pinv(centred @ centred.T))


def decode_vertices(part: Buffer, find_topology: FindTopology, find_base: FindBase) -> F32:
    """Decode one mesh.

    Args:
        part: what `MeshEncoder.encode` made.
        find_topology: topology id to topology, asked for where the vertices are in the order of a walk.
        find_base: asked for where the part refers to another.

    Returns:
        (N, 3) float32.

    Raises:
        WireError: not such bytes, or what the finders raise.
    """
    kind, _, name, count, step_nm, _, _ = _open(part)
    order = None if not name else order_of(find_topology(name.hex()))
    if order is not None and len(order.forward) != count:
        raise WireError(f"an encoded mesh has {count} vertices, its topology {len(order.forward)}")
    if kind == LOSSLESS:
        columns = np.cumsum(unzigzag(decompress(part, HEAD.size, count, 4)), axis=1, dtype=np.int32)
        bits = np.ascontiguousarray(columns.T)
        return (bits if order is None else bits[order.inverse]).view(np.float32)
    metres = (_read_grid(part, find_base) * (step_nm * 1e-9)).astype(np.float32)
    return np.ascontiguousarray((metres if order is None else metres[:, order.inverse]).T)


def is_base(part: Buffer) -> bool:
    """Whether encoded bytes are a key or an anchor, which others may need."""
    return len(part) >= HEAD.size and bytes(part[:4]) == MAGIC and part[4] in (KEY, ANCHOR)


def base_of(part: Buffer) -> tuple[int, int] | None:
    """Return log time in ns and checksum of what an encoded mesh refers to, None if it stands alone.

    Raises:
        WireError: not an encoded mesh.
    """
    kind, _, _, _, _, time_ns, checksum = _open(part)
    return (time_ns, checksum) if kind in (DELTA, ANCHOR) else None


def read_base(part: Buffer, log_time_ns: int, find_base: FindBase) -> Base:
    """Decode a key or an anchor so that others can be decoded.

    Args:
        part: its encoded bytes.
        log_time_ns: of the message that carries it.
        find_base: asked for the key of an anchor.

    Raises:
        WireError: neither, or not sound.
    """
    if not is_base(part):
        raise WireError("an encoded mesh that others refer to is neither key nor anchor")
    return Base(_read_grid(part, find_base), log_time_ns, zlib.crc32(part))


def _read_grid(part: Buffer, find_base: FindBase) -> F64:
    """Return (3, N) whole grid coordinates in stored order."""
    kind, width, _, count, _, base_time_ns, checksum = _open(part)
    head = HEAD.size + (24 if kind == KEY else 96)
    if len(part) < head:
        raise WireError("an encoded mesh is cut")
    if kind == KEY:
        origin = np.frombuffer(part, "<i8", 3, HEAD.size).reshape(3, 1)
        grid = np.cumsum(unzigzag(decompress(part, head, count, width)), axis=1, dtype=np.float64) + origin
    else:
        base = find_base(base_time_ns, checksum)
        affine = np.frombuffer(part, "<i8", 12, HEAD.size).reshape(3, 4)
        linear, offset = affine[:, :3].astype(np.float64), affine[:, 3:].astype(np.float64)
        if base.grid.shape != (3, count):
            raise WireError(f"an encoded mesh of {count} vertices refers to one of {base.grid.shape[1]}")
        if not (np.abs(linear).max() < MAP_LIMIT and np.abs(offset).max() < OFFSET_LIMIT):
            raise WireError("an encoded mesh holds an impossible motion; it was not written by Mien")
        grid = np.cumsum(unzigzag(decompress(part, head, count, width)), axis=1, dtype=np.float64)
        grid += _predict(base.grid, linear, offset)
    if count and not np.abs(grid).max() < GRID_LIMIT:
        raise WireError("an encoded mesh leaves the grid; it was not written by Mien")
    return np.asarray(grid, np.float64)


def _predict(grid: F64, linear: F64, offset: F64) -> F64:
    """Move a base. Every product and sum is a whole number below 2**53: exact in float64, in any order."""
    return np.asarray(np.floor((linear @ grid + (offset + (1 << (MAP_BITS - 1)))) * 2.0**-MAP_BITS), np.float64)


def _to_grid(vertices: F32, order: Order | None) -> F64 | None:
    """Round to the grid; None where that is not possible."""
    columns = vertices.T if order is None else vertices.T.take(order.forward, axis=1)
    grid = np.rint(np.multiply(columns, 1e9 / STEP_NM, dtype=np.float64))
    return grid if not grid.size or np.abs(grid).max() < GRID_LIMIT else None  # also False for nan


def _name(topology_id: str) -> bytes:
    """Return the id as eight bytes; empty if it is none of ours."""
    try:
        name = bytes.fromhex(topology_id)
    except ValueError:
        return b""
    return name if len(name) == ID_BYTES and name.hex() == topology_id else b""


def _head(kind: int, width: int, name: bytes, count: int, step_nm: int, base_time_ns: int, checksum: int) -> bytes:
    order = WALK if name else NATURAL
    return HEAD.pack(MAGIC, kind, width, order, 0, count, step_nm, name or bytes(ID_BYTES), base_time_ns, checksum, 0)


def _open(part: Buffer) -> tuple[int, int, bytes, int, int, int, int]:
    """Return kind, planes, topology (empty: natural order), vertices, step, log time and checksum of the base."""
    if len(part) < HEAD.size or bytes(part[:4]) != MAGIC:
        raise WireError("a stored mesh does not begin as an encoded one")
    _, kind, width, order, zero, count, step_nm, name, base_time_ns, checksum, last = HEAD.unpack_from(part)
    sound = kind <= ANCHOR and 1 <= width <= 4 and order <= WALK and zero == last == 0 and count <= MAX_VERTICES
    if not sound or (step_nm == 0) != (kind == LOSSLESS):
        raise WireError("the head of an encoded mesh is not one that this Mien knows; update Mien")
    return kind, width, name if order == WALK else b"", count, step_nm, base_time_ns, checksum
