"""Messages to buffers and back: a fixed preamble, a MessagePack header, arrays as they lie in memory.

Parts of a message (docs/wire.md has the bytes):

    0   topic     channel name and a zero byte, so that no topic is the prefix of another
    1   header    preamble (magic, version, kind, length, CRC-32), then MessagePack: fields, arrays, ring
    2…  arrays    one part each, C order, little-endian; absent for pixels that lie in a shared-memory ring

Nothing of a message is believed: topic, preamble, checksum, every field's type and range, every dtype, shape and
length are compared before an array is looked at, and no allocation follows a length that a peer claims. The sender
runs the same checks, so a wrong message fails where it was made.
"""

import math
import re
import reprlib
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from streamer.channels import CHANNELS
from streamer.errors import CalibrationError, ModelError, WireError
from streamer.types import U8, Calibration, Camera, Frame, Health, MeshFrame, Topology
from streamer.wire_fields import FIELDS, MAX_ITEMS, refuse

Message = Frame | Calibration | Topology | MeshFrame | Health
Buffer = bytes | memoryview

MAGIC = b"MIEN"
VERSION = 1
PREAMBLE = struct.Struct("<4sBBHII")
"""Magic, version, kind, zero, header bytes, CRC-32 of the header."""
KINDS: dict[int, type[Any]] = {1: Frame, 2: Calibration, 3: Topology, 4: MeshFrame, 5: Health}
MAX_HEADER = 1 << 18
REGION = "region:"
_SEGMENT = re.compile(r"mien-[0-9]{1,10}-[0-9a-f]{1,16}-[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Where the pixels of a frame lie in shared memory."""

    segment: str
    """Name of the segment, `mien-<pid>-<token>-<number>`."""
    slot: int
    """Index of the slot."""
    sequence: int
    """Number of the write, from 1; the slot holds another one when it has been overwritten."""
    nbytes: int
    """Bytes of the picture."""


Row = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of an array."""
Resolve = Callable[[Descriptor], U8]
"""Fetches the bytes of a descriptor as a (nbytes,) array, or raises."""


@dataclass(frozen=True, slots=True)
class _Array:
    """What an array must be; None stands for any extent."""

    dtype: str
    shape: tuple[int | None, ...]
    required: bool = True


def _expected_arrays(kind: str, fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, _Array]:
    """Return what the arrays of a message must be, once its fields are known to be sound."""
    if kind == "Frame":
        size = (fields["height"], fields["width"])
        pictures = {"mono8": size, "rgb8": (*size, 3), "jpeg": (None,), "png": (None,)}
        return {"data": _Array("|u1", pictures[fields["encoding"]])}
    if kind == "Calibration":
        count = len(fields["cameras"])
        return {
            "K": _Array("<f8", (count, 3, 3)),
            "distortion": _Array("<f8", (count, 5)),
            "camera_from_world": _Array("<f8", (count, 4, 4)),
        }
    if kind == "MeshFrame":
        return {
            "vertices": _Array("<f4", (None, 3)),
            "world_from_head": _Array("<f4", (4, 4)),
            "weights": _Array("<f4", (None,), required=False),
        }
    if kind == "Topology":
        regions = {name: _Array("<i4", (None,)) for name in shapes if name.startswith(REGION)}
        return {
            "triangles": _Array("<i4", (None, 3)),
            "uv": _Array("<f4", (None, 2)),
            "uv_triangles": _Array("<i4", (*shapes.get("triangles", (None,))[:1], 3)),
            "template": _Array("<f4", (None, 3)),
            **regions,
        }
    return {}


def _arrays_of(message: Message) -> dict[str, NDArray[Any]]:
    match message:
        case Frame():
            return {"data": message.data}
        case Calibration():
            stacks = ("K", "distortion", "camera_from_world")
            return {name: np.stack([getattr(camera, name) for camera in message.cameras]) for name in stacks}
        case MeshFrame():
            weights = {} if message.weights is None else {"weights": message.weights}
            return {"vertices": message.vertices, "world_from_head": message.world_from_head, **weights}
        case Topology():
            names = ("triangles", "uv", "uv_triangles", "template")
            regions = {f"{REGION}{name}": indices for name, indices in message.regions.items()}
            return {**{name: getattr(message, name) for name in names}, **regions}
        case Health():
            return {}


def topic(channel: str) -> bytes:
    """Return the first part of every message of a channel; subscribing to it matches that channel and no other.

    Raises:
        WireError: no such channel.
    """
    if channel not in CHANNELS:
        raise WireError(f"no channel {reprlib.repr(channel)}; the bus has {', '.join(CHANNELS)}")
    return channel.encode() + b"\0"


def encode(channel: str, message: Message, ring: Descriptor | None = None) -> list[Buffer]:
    """Turn a message into the parts of a ZeroMQ multipart message.

    Arrays are not copied: the parts are views that stay valid while they are referenced, and the arrays must not change
    until they are sent. Only an array that is not C-contiguous is copied.

    Args:
        channel: name of the channel; its type in `streamer.channels` must be that of the message.
        message: what to send.
        ring: for a Frame whose pixels were put into shared memory: where; `data` is then left out.

    Raises:
        WireError: unknown channel, another type than the channel carries, a field or an array of a wrong type or size.
    """
    first = topic(channel)
    kind = type(message).__name__
    if kind != CHANNELS[channel].message:
        raise WireError(f"channel '{channel}' carries {CHANNELS[channel].message}, not {kind}")
    plain: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for name, field in FIELDS[kind].items():
        try:
            plain[name] = field.plain(getattr(message, name))
        except (TypeError, ValueError, AttributeError) as error:
            raise refuse(f"{kind}.{name}", getattr(message, name), f"another type ({error})") from error
        fields[name] = field.parse(plain[name], f"{kind}.{name}")
    arrays = _arrays_of(message)
    rows = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    _check_arrays(kind, fields, rows)
    place = None if ring is None else [ring.segment, ring.slot, ring.sequence, ring.nbytes]
    _check_ring(kind, rows, place)
    try:
        header = msgpack.packb({"fields": plain, "arrays": rows, "ring": place})
    except ValueError as error:
        raise WireError(f"{kind} cannot be packed: {error}") from error
    if len(header) > MAX_HEADER:
        raise WireError(f"the header of this {kind} has {len(header)} bytes, allowed are {MAX_HEADER}; shorten names")
    code = next(code for code, cls in KINDS.items() if cls is type(message))
    preamble = PREAMBLE.pack(MAGIC, VERSION, code, 0, len(header), zlib.crc32(header))
    parts: list[Buffer] = [first, preamble + header]
    if ring is None:
        # reshape before view: a memoryview with a zero in its shape cannot be cast to bytes.
        parts += [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays.values()]
    return parts


def decode(parts: Sequence[Buffer], resolve: Resolve | None = None) -> tuple[str, Message]:
    """Check a multipart message and turn it into a value.

    Arrays are read-only views of the parts, which they keep alive (a view that would not be aligned is copied: libzmq
    delivers parts of a few bytes inside a shared buffer).

    Args:
        parts: as received.
        resolve: fetches pixels that lie in shared memory; without it such a frame is refused.

    Returns:
        Channel and message.

    Raises:
        WireError: anything about the message that is not as it must be. `resolve` may raise its own error.
    """
    if len(parts) < 2:
        raise WireError(f"a message of {len(parts)} parts: expected at least topic and header")
    views = [part if isinstance(part, bytes) else memoryview(part).cast("B") for part in parts]
    channel, kind, header = _open(views[0], views[1])
    fields = _parse_fields(kind, header["fields"])
    rows = _parse_rows(header["arrays"])
    _check_arrays(kind, fields, rows)
    ring = _check_ring(kind, rows, header["ring"])
    if len(views) != 2 + (len(rows) if ring is None else 0):
        raise WireError(f"{kind} announces {len(rows)} arrays and came with {len(views) - 2}; it was cut or mixed up")
    arrays = {
        name: _view(f"{kind}.{name}", part, dtype, shape)
        for (name, dtype, shape), part in zip(rows, _sources(fields, ring, views, resolve), strict=True)
    }
    try:
        return channel, _build(kind, fields, arrays)
    except (CalibrationError, ModelError) as error:
        raise WireError(f"{kind} refused: {error}") from error


def _open(first: Buffer, second: Buffer) -> tuple[str, str, dict[str, Any]]:
    """Check topic, preamble and checksum; return channel, kind and the unpacked header."""
    if not 0 < len(first) <= 64 or bytes(first[-1:]) != b"\0":
        raise WireError(f"the topic {reprlib.repr(bytes(first[:64]))} is not a channel name and a zero byte")
    channel = bytes(first[:-1]).decode("ascii", "replace")
    topic(channel)
    if len(second) < PREAMBLE.size:
        raise WireError(f"a header of {len(second)} bytes is shorter than the preamble of {PREAMBLE.size}")
    magic, version, code, zero, length, checksum = PREAMBLE.unpack_from(second)
    if magic != MAGIC:
        raise WireError(f"the message begins with {magic!r}, not {MAGIC!r}: the peer on this port is not a Mien")
    if version != VERSION:
        raise WireError(f"the message has wire version {version}, this Mien speaks {VERSION}; update the older one")
    if code not in KINDS or zero != 0:
        raise WireError(f"the message is of unknown kind {code} with flags {zero}")
    kind = KINDS[code].__name__
    if kind != CHANNELS[channel].message:
        raise WireError(f"channel '{channel}' carries {CHANNELS[channel].message}, the message is a {kind}")
    packed = second[PREAMBLE.size :]
    if length != len(packed) or length > MAX_HEADER:
        raise WireError(f"the header says {length} bytes and has {len(packed)}; allowed are {MAX_HEADER}")
    if zlib.crc32(packed) != checksum:
        raise WireError(f"the checksum of the {kind} header does not match; it was damaged on its way")
    try:
        header = msgpack.unpackb(packed, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS, max_ext_len=0)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise WireError(f"the header of the {kind} is not MessagePack of our kind: {error}") from error
    if type(header) is not dict or header.keys() != {"fields", "arrays", "ring"}:
        raise refuse(f"{kind} header", header, "a table of fields, arrays and ring")
    return channel, kind, header


def _parse_fields(kind: str, values: Any) -> dict[str, Any]:
    spec = FIELDS[kind]
    if type(values) is not dict or values.keys() != spec.keys():
        raise refuse(f"{kind}.fields", values, f"exactly {', '.join(spec)}")
    return {name: field.parse(values[name], f"{kind}.{name}") for name, field in spec.items()}


def _parse_rows(rows: Any) -> list[Row]:
    if type(rows) is not list or len(rows) > MAX_ITEMS:
        raise refuse("arrays", rows, f"a list of at most {MAX_ITEMS} rows")
    for row in rows:
        sound = type(row) is list and len(row) == 3 and type(row[0]) is type(row[1]) is str and type(row[2]) is list
        if not sound or len(row[2]) > 4 or any(type(n) is not int or not 0 <= n < 2**40 for n in row[2]):
            raise refuse("arrays", row, "rows of name, dtype and a shape of at most four extents")
    return [(name, dtype, tuple(shape)) for name, dtype, shape in rows]


def _check_arrays(kind: str, fields: Mapping[str, Any], rows: Sequence[Row]) -> None:
    names = [name for name, _, _ in rows]
    expected = _expected_arrays(kind, fields, {name: shape for name, _, shape in rows})
    missing = [name for name, spec in expected.items() if spec.required and name not in names]
    if missing or len(set(names)) != len(names) or not set(names) <= expected.keys():
        raise refuse(f"{kind}.arrays", names, f"exactly {', '.join(expected)}")
    for name, dtype, shape in rows:
        spec = expected[name]
        fits = len(shape) == len(spec.shape) and all(b in (None, a) for a, b in zip(shape, spec.shape, strict=True))
        if dtype != spec.dtype or not fits:
            wanted = " x ".join("any" if n is None else str(n) for n in spec.shape)
            where = f"camera '{fields['camera']}': {name}" if kind == "Frame" else f"{kind}.{name}"
            raise WireError(f"{where} has dtype {_plain(dtype)} and shape {shape}; expected {spec.dtype} and {wanted}")


def _plain(text: str) -> str:
    """Return the beginning of a text of the message, fit for a line."""
    return text[:16] if text.isprintable() else repr(text[:16])


def _check_ring(kind: str, rows: Sequence[Row], place: Any) -> Descriptor | None:
    if place is None:
        return None
    sound = kind == "Frame" and type(place) is list and len(place) == 4 and type(place[0]) is str
    if not sound or any(type(n) is not int or not 0 <= n < 2**63 for n in place[1:]):
        raise refuse("ring", place, "segment, slot, sequence and bytes, for a Frame only")
    ring = Descriptor(*place)
    if not _SEGMENT.fullmatch(ring.segment):
        raise refuse("ring.segment", ring.segment, "mien-<pid>-<token>-<number>")
    if ring.nbytes != math.prod(rows[0][2]):
        raise refuse("ring.nbytes", ring.nbytes, f"the {math.prod(rows[0][2])} bytes that the shape {rows[0][2]} holds")
    return ring


def _sources(
    fields: Mapping[str, Any], ring: Descriptor | None, views: Sequence[Buffer], resolve: Resolve | None
) -> Sequence[Buffer]:
    """Return the buffers of the arrays: the parts, or what the ring holds."""
    if ring is None:
        return views[2:]
    if resolve is None:
        raise WireError(f"the pixels of camera '{fields['camera']}' lie in shared memory; only a Subscriber reads them")
    return [resolve(ring).data]


def _view(where: str, part: Buffer, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    kind = np.dtype(dtype)
    nbytes = math.prod(shape) * kind.itemsize
    if len(part) != nbytes:
        raise WireError(f"{where} of {dtype} {shape} needs {nbytes} bytes, came with {len(part)}: cut or mixed up")
    # frombuffer refuses an empty buffer, and libzmq aligns only parts that it does not deliver inside a shared one.
    array = np.frombuffer(part, kind).reshape(shape) if len(part) else np.empty(shape, kind)
    array = array if array.flags.aligned else array.copy()
    array.setflags(write=False)
    return array


def _build(kind: str, fields: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Message:
    if kind == "Health":
        return Health(**fields)
    if kind == "Frame":
        return Frame(**fields, data=arrays["data"])
    if kind == "MeshFrame":
        return MeshFrame(**fields, **{"weights": None, **arrays})  # type: ignore[arg-type]
    if kind == "Calibration":
        rows = enumerate(fields["cameras"])
        cameras = tuple(Camera(*row, *(array[index] for array in arrays.values())) for index, row in rows)
        return Calibration(cameras, fields["source"])
    identity = fields.pop("id")
    regions = {name.removeprefix(REGION): array for name, array in arrays.items() if name.startswith(REGION)}
    plain = {name: array for name, array in arrays.items() if not name.startswith(REGION)}
    topology = Topology(**fields, **plain, regions=regions)  # type: ignore[arg-type]
    if topology.id != identity:
        raise WireError(f"topology '{topology.name}' says id {identity} and its content hashes to {topology.id}")
    return topology
