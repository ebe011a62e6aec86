"""The golden files of plugins/golden: a lopsided head in every record and flag, faults, and what decoders have to say.

    python -m tests.plugins.golden      writes them again (from the root of the repository)

The text beside each stream is neutral: one line per record, numbers as the hexadecimal digits of their little-endian
bytes, so that decoders in any language can be compared bit by bit; a negative zero is written as zero. `faults.txt` has
a line per file of faults/: the file, the error, the records that are whole before it.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamer.errors import WireError
from streamer.gateway.decoding import (
    Splitter,
    decode_end,
    decode_frame,
    decode_health,
    decode_hello,
    decode_topology,
)
from streamer.gateway.encoding import Form
from streamer.gateway.records import (
    HEADER,
    Kind,
    Record,
    encode,
    encode_end,
    encode_health,
    encode_hello,
    topology_key,
)
from streamer.gateway.variants import PLAIN, Variant, for_target
from streamer.types import MeshFrame, Topology

FOLDER = Path(__file__).resolve().parents[2] / "plugins/golden"
TARGETS = ("godot", "blender", "unity", "unreal")
NOSE, LEFT_EAR = 19, 17
"""Vertices of `lopsided`: the tip of the nose, the tip of the left ear, which is the longer one."""
TIME_NS = 1_700_000_000_000_000_000


def lopsided() -> Topology:
    """42 vertices: nose to +Z, a left ear at +X of 0.11 m (the right one 0.09), the chin drawn to the left; a seam."""
    segments, rings = 8, 5
    sine = [0.0, 0.7071, 1.0, 0.7071, 0.0, -0.7071, -1.0, -0.7071]
    heights = [0.866, 0.5, 0.0, -0.5, -0.866]
    widths = [0.5, 0.866, 1.0, 0.866, 0.5]
    points = [[0.003, 0.13, -0.01]]
    for height, width in zip(heights, widths, strict=True):
        for k in range(segments):
            x, z = sine[(k + 2) % 8] * width, sine[k] * width
            points.append([round(0.08 * x + 0.02 * max(0.0, -height), 4), round(0.12 * height, 4), round(0.1 * z, 4)])
    points.append([0.021, -0.127, 0.015])
    middle = 1 + 2 * segments
    points[middle + 2] = [0.002, -0.011, 0.137]
    points[middle], points[middle + 4] = [0.11, 0.013, 0], [-0.09, 0, -0.004]
    uv = [[0.5, 1.0]]
    uv += [[k / segments, round(0.5 + 0.45 * height, 4)] for height in heights for k in range(segments + 1)]
    uv.append([0.5, 0.0])
    triangles, corners = [], []
    for row in range(rings - 1):
        for k in range(segments):
            a, b = 1 + row * segments + k, 1 + row * segments + (k + 1) % segments
            u, v, below = 1 + row * (segments + 1) + k, 2 + row * (segments + 1) + k, segments + 1
            triangles += [[a, b, b + segments], [a, b + segments, a + segments]]
            corners += [[u, v, v + below], [u, v + below, u + below]]
    last, last_uv = len(points) - 1, len(uv) - 1
    for k in range(segments):
        following = (k + 1) % segments
        triangles += [[0, 1 + following, 1 + k], [last, last - segments + k, last - segments + following]]
        corners += [[0, 2 + k, 1 + k], [last_uv, last_uv - segments - 1 + k, last_uv - segments + k]]
    units = ("jawOpen", "mouthClose", "browInnerUp")
    arrays = (np.array(part) for part in (triangles, uv, corners, points))
    return Topology("schief \u00b7 lopsided", *arrays, units)


def tetrahedron() -> Topology:
    """Four vertices, no texture, no units."""
    points = np.array([[0, 0.125, 0], [0.0625, -0.125, 0], [0, -0.125, 0.25], [-0.125, -0.125, -0.5]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return Topology("tetrahedron", faces, np.empty((0, 2)), np.empty((0, 3), np.int32), points)


HEAD, OTHER = lopsided(), tetrahedron()


def mesh(topology: Topology, number: int) -> MeshFrame:
    """The template, moved to the person's left, up and forward; a pose that is no identity; weights that differ."""
    shift = np.array([0.001, 0.002, 0.003]) * number + [0.05, 1.6, -0.1]
    pose = np.array([[0.6, 0, 0.8, 0], [0, 1, 0, 0], [-0.8, 0, 0.6, 0], [0, 0, 0, 1]], np.float32)
    pose[:3, 3] = shift
    weights = np.array([0.1, 0.25, 1.0], np.float32) if topology.units else None
    vertices = (topology.template.astype(np.float64) + shift).astype(np.float32)
    return MeshFrame(number, TIME_NS + number * 16_666_667, 0, topology.id, vertices, pose, weights=weights)


def head_stream() -> list[bytes]:
    """Every kind, every flag, and what a later version may add."""
    plain, normals = Form(HEAD, PLAIN), Form(HEAD, replace(PLAIN, normals=True))
    small, both = Variant(quantised=True), Variant(quantised=True, normals=True)
    split, other = Variant(split=True, normals=True), Form(OTHER, PLAIN)
    full = plain.encode_frame(mesh(HEAD, 4), 4)
    bare = replace(mesh(HEAD, 3), weights=None)
    waiting = encode_health("waiting", {"clients": 1, "meshes_per_s": 0.0}, "no head came for 2 s")
    return [
        encode_hello(),
        waiting,
        plain.encode_topology(),
        _positions_only(mesh(HEAD, 2), 2),
        plain.encode_frame(bare, 3),
        full,
        normals.encode_frame(mesh(HEAD, 5), 5),
        encode(77, b"a kind of a later version"),
        patched(plain.encode_frame(mesh(HEAD, 6), 6) + b"a later block", flags=full[5] | 64),
        _longer_header(plain.encode_frame(mesh(HEAD, 7), 7)),
        encode_health("live", {"clients": 1, "meshes_per_s": 59.9}),
        encode_hello(Variant(mesh=False)),
        plain.encode_topology(),
        Form(HEAD, Variant(mesh=False)).encode_frame(mesh(HEAD, 8), (1 << 32) + 8),
        encode_hello(both),
        plain.encode_topology(),
        Form(HEAD, small).encode_frame(mesh(HEAD, 9), (1 << 32) - 1),
        Form(HEAD, both).encode_frame(mesh(HEAD, 10), 10),
        encode_hello(split),
        Form(HEAD, split).encode_topology(),
        Form(HEAD, split).encode_frame(mesh(HEAD, 11), 11),
        encode_hello(),
        other.encode_topology(),
        other.encode_frame(mesh(OTHER, 12), 12),
        Form(OTHER, small).encode_frame(mesh(OTHER, 13), 13),
        plain.encode_topology(),
        plain.encode_frame(mesh(HEAD, 14), 14),
        encode_end("the gateway was stopped"),
    ]


def target_stream(target: str) -> list[bytes]:
    """What a client gets that asked for the conventions of a program."""
    plain = for_target(target)
    normals, small = replace(plain, normals=True), replace(plain, normals=True, quantised=True)
    split = replace(plain, split=True)
    records = []
    for number, variant in enumerate((plain, normals, small, split)):
        form = Form(HEAD, variant)
        records += [encode_hello(variant), form.encode_topology(), form.encode_frame(mesh(HEAD, number), number)]
    return [*records, encode_end("the gateway was stopped")]


def _positions_only(sent: MeshFrame, sequence: int) -> bytes:
    return encode(
        Kind.FRAME, sent.vertices.tobytes(), sequence=sequence, topology=topology_key(sent.topology_id),
        capture_time_s=sent.exposure_time_ns / 1_000_000_000, vertices=len(sent.vertices),
    )  # fmt: skip


def _longer_header(record: bytes) -> bytes:
    longer = patched(record, header=40)
    return longer[:32] + b"8 bytes." + longer[32:]


def patched(record: bytes, **fields: Any) -> bytes:
    """The record with other numbers in its header; the payload length follows the payload."""
    names = ("magic", "kind", "flags", "header", "sequence", "topology", "time", "vertices", "payload")
    values = dict(zip(names, HEADER.unpack_from(record), strict=True)) | {"payload": len(record) - HEADER.size} | fields
    return HEADER.pack(*values.values()) + record[HEADER.size :]


def faults() -> dict[str, tuple[str, bytes]]:
    """File name to the error (`newer`, `foreign`, `damaged`, `incomplete`) and a stream that runs into it."""
    form = Form(HEAD, PLAIN)
    small = Form(HEAD, Variant(quantised=True, normals=True))
    hello, topology, frame = encode_hello(), form.encode_topology(), form.encode_frame(mesh(HEAD, 1), 1)
    quantised = small.encode_frame(mesh(HEAD, 2), 2)
    good, most = hello + topology + frame, b"\xff\xff\xff\xff"
    nan = frame[:36] + struct.pack("<f", np.nan) + frame[40:]
    return {
        "newer": ("newer", good + b"HCM2" + frame[4:]),
        "newer_at_once": ("newer", b"HCM2"),
        "http": ("foreign", b"HTTP/1.1 426 Upgrade Required\r\n"),
        "garbage": ("foreign", good + bytes(range(64, 192))),
        "half_record": ("incomplete", good + frame[:200]),
        "half_header": ("incomplete", good + frame[:20]),
        "header_too_small": ("damaged", good + patched(frame, header=24)),
        "header_odd": ("damaged", good + patched(frame, header=33)),
        "payload_too_large": ("damaged", good + patched(frame, payload=(1 << 26) + 1)),
        "vertices_too_many": ("damaged", good + patched(frame, vertices=0xFFFFFFFF)),
        "vertices_one_more": ("damaged", good + patched(frame, vertices=HEAD.vertex_count + 1)),
        "vertices_overflow": ("damaged", good + patched(frame, vertices=0x55555556)),
        "bytes_left_over": ("damaged", good + patched(frame + bytes(4))),
        "weights_too_many": ("damaged", good + frame[:-16] + most + frame[-12:]),
        "position_no_number": ("damaged", good + nan),
        "quantised_short": ("damaged", good + patched(quantised[:-4])),
        "triangles_too_many": ("damaged", hello + topology[:32] + most + topology[36:]),
        "triangles_overflow": ("damaged", hello + topology[:32] + struct.pack("<I", 0x15555556) + topology[36:]),
        "triangle_outside": ("damaged", hello + topology[:36] + struct.pack("<I", HEAD.vertex_count) + topology[40:]),
        "names_no_json": ("damaged", hello + topology.replace(b'{"name"', b'["name"')),
        "names_no_text": ("damaged", hello + topology.replace(b'{"name"', b'{"n\xffme"')),
        "topology_short": ("damaged", hello + patched(topology[:400])),
        "frame_before_topology": ("damaged", hello + frame),
        "frame_of_another_topology": ("damaged", hello + topology + patched(frame, topology=1)),
    }


def dump(stream: bytes) -> Iterator[str]:
    """Yield the lines that every decoder has to print for a stream; an error is the last one."""
    splitter, topology = Splitter(), (0, 0)
    try:
        for at in range(len(stream)):  # byte by byte, so that what is whole before an error is told
            for record in splitter.feed(stream[at : at + 1]):
                lines, topology = _line(record, topology)
                yield from lines
    except WireError as error:
        yield "error " + ("newer" if "speaks" in str(error) else "foreign" if "begins no" in str(error) else "damaged")
        return
    try:
        splitter.close()
    except WireError:
        yield "error incomplete"


def _line(record: Record, topology: tuple[int, int]) -> tuple[list[str], tuple[int, int]]:
    header = record.header
    if header.kind == Kind.HELLO:
        about = decode_hello(record)
        switches = " ".join(f"{name}={about[name]:d}" for name in ("mesh", "normals", "quantised", "split", "token"))
        space = f"{about['target']} {','.join(about['axes'])} {about['unit']} {about['winding']}"
        return [f"hello {space} {switches}"], (0, 0)
    if header.kind == Kind.HEALTH:
        return [f"health {decode_health(record)['state']}"], topology
    if header.kind == Kind.END:
        return [f"end {decode_end(record)}"], topology
    if header.kind == Kind.TOPOLOGY:
        told = decode_topology(record)
        blocks = {"triangles": told.triangles, "uv": told.uv, "corners": told.uv_triangles, "source": told.source}
        arrays = " ".join(f"{name}={digits(values)}" for name, values in blocks.items())
        text = f"{told.vertices} {arrays} units={','.join(told.units)} name={told.name}"
        return [f"topology {told.key:08x} {text}"], (told.key, told.vertices)
    if header.kind in (Kind.FRAME, Kind.WEIGHTS):
        frame = decode_frame(record)
        if frame.key != topology[0] or (header.kind == Kind.FRAME and len(frame.positions) != topology[1]):
            raise WireError("a frame before its topology")
        if not np.isfinite(frame.positions).all():
            raise WireError("positions that are no numbers")
        parts = [f"positions={digits(frame.positions)}"] if header.kind == Kind.FRAME else []
        parts += [f"pose={digits(frame.world_from_head)}", f"weights={digits(frame.weights)}"]
        parts += [f"normals={digits(frame.normals)}"] if header.kind == Kind.FRAME else []
        time = struct.pack("<d", frame.capture_time_s).hex()
        name = Kind(header.kind).name.lower()
        return [f"{name} {frame.sequence} {frame.key:08x} {time} {' '.join(parts)}"], topology
    return [], topology


def digits(values: Any) -> str:
    """Bytes of an array in hexadecimal digits, without negative zeros; `-` for None."""
    if values is None:
        return "-"
    return bytes((values + values.dtype.type(0)).tobytes()).hex()


def converted(line: str, target: str) -> str:
    """What a client that turns Mien's own space into its program's makes of a line."""
    words = line.split(" ")
    if words[0] not in ("topology", "frame", "weights"):
        return line
    space = for_target(target).space
    signs, unit = np.sign(space.matrix), float(np.abs(space.matrix).max())

    def vectors(text: str, scale: float = unit) -> str:
        values = np.frombuffer(bytes.fromhex(text), "<f4").reshape(-1, 3).astype(np.float64)
        return digits((values @ signs.T * scale).astype("<f4"))

    def pose(text: str) -> str:
        matrix = np.frombuffer(bytes.fromhex(text), "<f4").reshape(4, 4).astype(np.float64)
        matrix[:3, :3], matrix[:3, 3] = signs @ matrix[:3, :3] @ signs.T, signs @ matrix[:3, 3] * unit
        return digits(matrix.astype("<f4"))

    def order(text: str) -> str:
        indices = np.frombuffer(bytes.fromhex(text), "<u4").reshape(-1, 3)
        return digits(indices[:, [0, 2, 1]]) if space.reverse_winding else text

    changes: dict[str, Callable[[str], str]] = {
        "positions": vectors,
        "pose": pose,
        "triangles": order,
        "corners": order,
    }
    changes["normals"] = lambda text: vectors(text, 1.0)
    for number, word in enumerate(words):
        key, equals, value = word.partition("=")
        if equals and key in changes and value != "-":
            words[number] = f"{key}={changes[key](value)}"
    return " ".join(words)


def files() -> dict[str, bytes]:
    """All golden files but `stream.bin`, which is the example of docs/gateway.md."""
    head = b"".join(head_stream())
    lines = list(dump(head))
    made = {"head.bin": head, "head.txt": _text(lines)}
    for target in TARGETS:
        made[f"head.{target}.txt"] = _text([converted(line, target) for line in lines])
        stream = b"".join(target_stream(target))
        made[f"{target}.bin"], made[f"{target}.txt"] = stream, _text(list(dump(stream)))
    told = []
    for name, (error, stream) in faults().items():
        *whole, last = dump(stream)
        assert last == f"error {error}", f"{name}: {last}"
        made[f"faults/{name}.bin"] = stream
        told.append(f"{name} {error} {len(whole)}")
    made["faults.txt"] = _text(told)
    return made


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


if __name__ == "__main__":
    from tests.streamer.gateway_makers import golden_records

    (FOLDER / "faults").mkdir(exist_ok=True)
    for name, content in (files() | {"stream.bin": b"".join(golden_records())}).items():
        (FOLDER / name).write_bytes(content)
