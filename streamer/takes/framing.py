r"""One message as one blob: magic, checksum, keys, lengths, parts. Pure.

    offset  size  field (little-endian)
    0       8     magic  \x89MienB1\\n: parts as on the wire;  \x89MienB2\\n: part 2 holds encoded vertices
    8       4     CRC-32 of everything behind it
    12      4     number of parts
    16      8     log time, ns (the same number as in the MCAP record, so that a damaged record is noticed)
    24      8     frame id, 0 for messages without one
    32      8     exposure time (or the message's own time), ns
    40      8 n   length of each part
    40+8n   ...   the parts, one behind the other

A blob can be found and checked without anything around it: that is what recovery lives on. The keys stand outside the
parts, so frame sets are matched by reading 40 bytes of a picture.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from isal.isal_zlib import crc32

from streamer.errors import WireError
from streamer.types import Calibration, Frame, Health, MeshFrame, Topology

MAGIC = b"\x89MienB1\n"
PACKED_MAGIC = b"\x89MienB2\n"
"""Of a mesh whose vertices are encoded (`streamer.takes.mesh_codec`)."""
MAGICS = (MAGIC, PACKED_MAGIC)
MAGIC_STEM = b"\x89MienB"
HEAD = struct.Struct("<8sIIqqq")
MAX_PARTS = 4096

Buffer = bytes | bytearray | memoryview
Message = Frame | Calibration | Topology | MeshFrame | Health


@dataclass(frozen=True, slots=True)
class Keys:
    """What a reader has to know of a message before it reads it."""

    log_time_ns: int
    """When it was recorded, ns, >= 0."""
    frame_id: int
    """Rig frame id; 0 for messages without one."""
    time_ns: int
    """Exposure time, or the message's own time; 0 for messages without one."""


def keys_of(message: Message, log_time_ns: int) -> Keys:
    """Return the keys of a message."""
    if isinstance(message, Frame | MeshFrame):
        return Keys(log_time_ns, message.frame_id, message.exposure_time_ns)
    return Keys(log_time_ns, 0, message.time_ns if isinstance(message, Health) else 0)


def blob_size(parts: Sequence[Buffer]) -> int:
    """Bytes that `write_blob` needs for these parts."""
    return HEAD.size + 8 * len(parts) + sum(len(part) for part in parts)


def write_blob(target: bytearray, start: int, keys: Keys, parts: Sequence[Buffer], packed: bool = False) -> int:
    """Write a blob into a buffer. The parts are copied: they may change afterwards.

    Args:
        target: buffer with at least `blob_size(parts)` bytes from `start`.
        start: where the blob begins.
        keys: keys of the message.
        parts: the wire parts, flat bytes.
        packed: whether the vertices among them are encoded.

    Returns:
        The position behind the blob.
    """
    position = start + HEAD.size
    struct.pack_into(f"<{len(parts)}Q", target, position, *(len(part) for part in parts))
    position += 8 * len(parts)
    for part in parts:
        target[position : position + len(part)] = part
        position += len(part)
    magic = PACKED_MAGIC if packed else MAGIC
    HEAD.pack_into(target, start, magic, 0, len(parts), keys.log_time_ns, keys.frame_id, keys.time_ns)
    with memoryview(target) as view, view[start + 12 : position] as body:
        struct.pack_into("<I", target, start + 8, crc32(body))
    return position


def read_keys(head: Buffer, where: str) -> Keys:
    """Read the keys from the first bytes of a blob, without checking its checksum.

    Raises:
        WireError: the bytes are not the head of a blob; the message names `where`.
    """
    if len(head) < HEAD.size or bytes(head[:8]) not in MAGICS:
        raise WireError(f"{where}: no message begins here")
    _, _, _, log_time, frame_id, time = HEAD.unpack_from(head)
    return Keys(log_time, frame_id, time)


def is_packed(blob: Buffer) -> bool:
    """Whether the vertices in a blob are encoded."""
    return bytes(blob[:8]) == PACKED_MAGIC


def extent(view: Buffer, start: int = 0) -> int:
    """Length of the blob at `start` as its own lengths say, or -1 if they cannot be right."""
    if len(view) - start < HEAD.size or bytes(view[start : start + 8]) not in MAGICS:
        return -1
    count = HEAD.unpack_from(view, start)[2]
    if not 0 < count <= MAX_PARTS or len(view) - start < HEAD.size + 8 * count:
        return -1
    total: int = HEAD.size + 8 * count + sum(struct.unpack_from(f"<{count}Q", view, start + HEAD.size))
    return total if total <= len(view) - start else -1


def read_blob(blob: Buffer, where: str) -> tuple[Keys, list[memoryview]]:
    """Check a blob and return its parts as views.

    Args:
        blob: exactly one blob.
        where: file and position, for messages.

    Raises:
        WireError: not a blob, cut, or changed since it was written; the message names `where`.
    """
    keys = read_keys(blob, where)
    if extent(blob) != len(blob):
        raise WireError(f"{where}: the message is cut or its lengths are damaged")
    view = memoryview(blob)
    if crc32(view[12:]) != HEAD.unpack_from(blob)[1]:
        raise WireError(f"{where}: checksum mismatch, the message has changed since it was written")
    count = HEAD.unpack_from(blob)[2]
    position, parts = HEAD.size + 8 * count, []
    for length in struct.unpack_from(f"<{count}Q", blob, HEAD.size):
        parts.append(view[position : position + length])
        position += length
    return keys, parts
