"""The records of the gateway: what they hold; docs/gateway.md has every byte. No socket, no clock.

A record is a header of 32 bytes and a payload. All is little-endian; positions come first in a frame and are aligned
to 8 bytes, so that an engine can copy them without parsing. `streamer.gateway.encoding` writes meshes as records,
`streamer.gateway.decoding` reads them.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import WireError
from streamer.gateway.variants import PLAIN, Variant
from streamer.types import F32

MAGIC = b"HCM1"
"""Ends in the version: a record that an older reader could misread starts with another."""
VERSION = 1
HEADER = struct.Struct("<4sBBHIIdII")
MAX_PAYLOAD = 1 << 26
"""Bytes: more than any head needs, little enough to be refused before it fills the memory."""
ALIGNMENT = 8
NORMAL_STEPS = 127
"""What a component of 1 is in a quantised normal."""

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a record holds; readers skip the numbers that they do not know."""

    HELLO = 0
    TOPOLOGY = 1
    FRAME = 2
    WEIGHTS = 3
    """A frame without positions, for clients that want none."""
    HEALTH = 4
    REQUEST = 8
    """From the client."""
    END = 9


class TopologyBlock(IntFlag):
    """What follows the triangles, in the order of the bits."""

    UV = 1
    NAMES = 2
    SOURCE = 4


class FrameBlock(IntFlag):
    """What follows the positions, in the order of the bits; `QUANTISED` is how positions and normals are written."""

    POSE = 1
    WEIGHTS = 2
    NORMALS = 4
    QUANTISED = 8


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
    source: NDArray[np.uint32] | None = None
    """(N,) vertex of Mien's topology that each vertex repeats, if the client asked for split vertices."""


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One head, in the space that the hello before it named."""

    sequence: int
    """As in the header."""
    key: int
    """Key of its topology."""
    capture_time_s: float
    """As in the header."""
    positions: F32
    """(N, 3) world; (0, 3) in a record of weights."""
    world_from_head: F32 | None = None
    """(4, 4) rigid pose of the head frame in the world."""
    weights: F32 | None = None
    """(U,) expression unit weights in 0..1."""
    normals: F32 | None = None
    """(N, 3) pointing out."""


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


def encode_hello(variant: Variant = PLAIN, *, token: bool = False) -> bytes:
    """Return what the numbers after it mean: the first record of every connection, and the answer to a request.

    Args:
        variant: the form of what follows.
        token: whether nothing follows before the client has sent the token.
    """
    about = {"format": "mien", "version": VERSION, **variant.about(), "token": token, "subjects": ["head"]}
    return encode(Kind.HELLO, _json(about))


def encode_request(**asked: object) -> bytes:
    """Return a client's request; keys as in `streamer.gateway.variants.parse_request`."""
    return encode(Kind.REQUEST, _json(asked))


def encode_health(state: str, numbers: Mapping[str, float], message: str = "") -> bytes:
    """Return how the stream does, for people and for a client's own alarm.

    Args:
        state: `live`, or `waiting` if no head came for a second.
        numbers: further keys.
        message: a line for people.
    """
    return encode(Kind.HEALTH, _json({"state": state, "message": message, **numbers}))


def encode_end(reason: str) -> bytes:
    """Return the last record of a connection, with a line for people."""
    return encode(Kind.END, reason.encode())


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
