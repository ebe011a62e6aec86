"""The records of the gateway and how they are written; docs/gateway.md has every byte. Numpy only: no socket, no clock.

A record is a header of 32 bytes and a payload. All is little-endian; positions come first in a frame and are aligned
to 4 bytes, so that an engine can copy them without parsing. Space is Mien's: metres, right-handed, +Y up, the face
looks along +Z, triangles counter-clockwise from outside.
"""

import json
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray

from streamer.errors import WireError
from streamer.types import F32, MeshFrame, Topology

MAGIC = b"HCM1"
"""Ends in the version: a record that an older reader could misread starts with another."""
HEADER = struct.Struct("<4sBBHIIdII")
MAX_PAYLOAD = 1 << 26
"""Bytes: more than any head needs, little enough to be refused before it fills the memory."""
ALIGNMENT = 8

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a record holds; readers skip the numbers that they do not know."""

    HELLO = 0
    TOPOLOGY = 1
    FRAME = 2
    END = 9


class TopologyBlock(IntFlag):
    """What follows the triangles, in the order of the bits."""

    UV = 1
    NAMES = 2


class FrameBlock(IntFlag):
    """What follows the positions, in the order of the bits."""

    POSE = 1
    WEIGHTS = 2


@dataclass(frozen=True, slots=True)
class Header:
    """The 32 bytes at the start of a record."""

    kind: int
    """A `Kind`, or a number that this version does not know."""
    flags: int
    """Blocks of the payload."""
    header_bytes: int
    """Where the payload begins: 32, or more in a later version."""
    sequence: int
    """Meshes that the gateway has received, modulo 2**32; a gap: those that this client did not get."""
    topology: int
    """`topology_key` of the topology that the record belongs to, 0 if to none."""
    capture_time_s: float
    """Exposure time of the set on the rig's clock, s (Unix time on the clocks `host` and `ptp`); 0 if of no instant."""
    vertices: int
    """Number of vertices."""
    payload_bytes: int
    """Size of the payload."""


@dataclass(frozen=True, slots=True)
class Record:
    """One whole record."""

    header: Header
    """Its header, checked."""
    payload: memoryview
    """Its payload, of the length that the header says; not yet checked."""


@dataclass(frozen=True, slots=True)
class TopologyRecord:
    """What all frames with the same key share."""

    key: int
    """`topology_key`."""
    vertices: int
    """Number of vertices N."""
    triangles: NDArray[np.uint32]
    """(T, 3) counter-clockwise from outside."""
    uv: F32 | None = None
    """(C, 2) texture coordinates, v up."""
    uv_triangles: NDArray[np.uint32] | None = None
    """(T, 3) indices into `uv`."""
    name: str = ""
    """For people."""
    id: str = ""
    """`Topology.id` in full."""
    units: tuple[str, ...] = ()
    """Names of the expression units, in the order of a frame's weights."""


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One head."""

    sequence: int
    """As in the header."""
    key: int
    """Key of its topology."""
    capture_time_s: float
    """As in the header."""
    positions: F32
    """(N, 3) metres, world."""
    world_from_head: F32 | None = None
    """(4, 4) rigid pose of the head frame in the world, metres."""
    weights: F32 | None = None
    """(U,) expression unit weights in 0..1."""


def topology_key(topology_id: str) -> int:
    """Return the 32 bits by which records name a topology: the first eight hexadecimal digits of its id."""
    return int(topology_id[:8], 16)


def encode(
    kind: int,
    payload: Buffer = b"",
    *,
    flags: int = 0,
    sequence: int = 0,
    topology: int = 0,
    capture_time_s: float = 0.0,
    vertices: int = 0,
) -> bytes:
    """Put a header before a payload.

    Raises:
        WireError: the payload is larger than `MAX_PAYLOAD`.
    """
    size = len(payload)
    if size > MAX_PAYLOAD:
        raise WireError(f"a record of {size} bytes is larger than the {MAX_PAYLOAD} that clients take; reduce the mesh")
    head = HEADER.pack(MAGIC, kind, flags, HEADER.size, sequence, topology, capture_time_s, vertices, size)
    return b"".join((head, payload))


def encode_hello() -> bytes:
    """Return the first record of every connection: what the numbers after it mean."""
    about = {
        "format": "mien",
        "version": 1,
        "axes": "right-handed, +Y up, face +Z",
        "unit": "m",
        "winding": "counter-clockwise",
        "subjects": ["head"],
    }
    return encode(Kind.HELLO, json.dumps(about, separators=(",", ":")).encode())


def encode_topology(topology: Topology) -> bytes:
    """Return the record that must precede the frames of a topology."""
    names = {"name": topology.name, "id": topology.id, "units": list(topology.units)}
    text = json.dumps(names, separators=(",", ":"), ensure_ascii=False).encode()
    parts = [struct.pack("<I", len(topology.triangles)), topology.triangles.astype("<u4").tobytes()]
    flags = TopologyBlock.NAMES
    if len(topology.uv):
        flags |= TopologyBlock.UV
        parts += [struct.pack("<I", len(topology.uv)), topology.uv.astype("<f4").tobytes()]
        parts.append(topology.uv_triangles.astype("<u4").tobytes())
    parts += [struct.pack("<I", len(text)), text, bytes(-len(text) % 4)]
    key = topology_key(topology.id)
    return encode(Kind.TOPOLOGY, b"".join(parts), flags=flags, topology=key, vertices=topology.vertex_count)


def encode_frame(mesh: MeshFrame, sequence: int) -> bytes:
    """Return the record of one mesh.

    Args:
        mesh: the mesh; its topology must have been announced.
        sequence: see `Header.sequence`; taken modulo 2**32.

    Raises:
        WireError: positions, pose or weights that are not finite: they would wreck the bounds in every engine.
    """
    blocks = [mesh.vertices, mesh.world_from_head] + ([] if mesh.weights is None else [mesh.weights])
    if not all(np.isfinite(block).all() for block in blocks):
        raise WireError(f"the mesh of frame {mesh.frame_id} holds values that are not finite; it is not sent")
    flags = FrameBlock.POSE
    parts = [np.asarray(mesh.vertices, "<f4").tobytes(), np.asarray(mesh.world_from_head, "<f4").tobytes()]
    if mesh.weights is not None:
        flags |= FrameBlock.WEIGHTS
        parts += [struct.pack("<I", len(mesh.weights)), np.asarray(mesh.weights, "<f4").tobytes()]
    return encode(
        Kind.FRAME,
        b"".join(parts),
        flags=flags,
        sequence=sequence % (1 << 32),
        topology=topology_key(mesh.topology_id),
        capture_time_s=mesh.exposure_time_ns / 1_000_000_000,  # int by int: rounded once
        vertices=len(mesh.vertices),
    )


def encode_end(reason: str) -> bytes:
    """Return the last record of a connection, with a line for people."""
    return encode(Kind.END, reason.encode())
