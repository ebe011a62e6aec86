"""The records byte by byte: the golden stream, every truncation, garbage, and what a later version may add."""

import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamer.errors import WireError
from streamer.gateway.decoding import Splitter, decode_frame, decode_record, decode_topology, parse_header
from streamer.gateway.encoding import encode_frame, encode_topology
from streamer.gateway.records import HEADER, MAX_PAYLOAD, FrameRecord, Kind, TopologyRecord, encode, topology_key
from tests.streamer.gateway_makers import DECODERS, decoded, golden_records, head, mesh

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = (ROOT / "plugins/golden/stream.bin").read_bytes()
HEAD = head()


def hexdump(data: bytes) -> str:
    return "\n".join(
        f"{at:04x}  {data[at : at + 16].hex(' '):47}  "
        + "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data[at : at + 16])
        for at in range(0, len(data), 16)
    )


def same(a: Any, b: Any) -> bool:
    """Whether two contents are equal, arrays bit by bit."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, TopologyRecord | FrameRecord):
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in a.__slots__)
    return bool(a == b)


def patched(record: bytes, **fields: int) -> bytes:
    """The record with other numbers in its header; the payload length follows the payload."""
    names = ("magic", "kind", "flags", "header", "sequence", "topology", "time", "vertices", "payload")
    values = dict(zip(names, HEADER.unpack_from(record), strict=True)) | {"payload": len(record) - HEADER.size} | fields
    return HEADER.pack(*values.values()) + record[HEADER.size :]


def test_the_golden_stream_is_what_is_encoded_and_what_the_document_shows() -> None:
    assert b"".join(golden_records()) == GOLDEN
    assert hexdump(GOLDEN) in (ROOT / "docs/gateway.md").read_text("utf-8")


def test_the_golden_stream_reads_as_it_was_meant() -> None:
    hello, topology, frame, end = (decoded(record) for record in Splitter().feed(GOLDEN))
    assert hello == {
        "format": "mien", "version": 1, "target": "mien", "axes": ["x", "y", "z"], "unit": "m",
        "winding": "counter-clockwise", "mesh": True, "normals": False, "quantised": False, "split": False,
        "token": False, "subjects": ["head"],
    }  # fmt: skip
    assert (topology.name, topology.units, topology.vertices) == ("golden", ("jawOpen", "cheekPuff"), 4)
    assert topology.key == topology_key(topology.id) == frame.key
    assert topology.triangles.tolist() == [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    assert topology.uv.tolist() == [[0, 0], [1, 0], [0.5, 1]]
    assert topology.uv_triangles.tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1]]
    assert (frame.sequence, frame.capture_time_s) == (5, 1_700_000_000.25)
    assert frame.positions.tolist()[2:] == [[0, -0.125, 0.25], [-0.125, -0.125, -0.5]]
    assert frame.world_from_head.tolist()[0] == [0, 0, 1, 0.5] and frame.weights.tolist() == [0.25, 1]
    assert end == "the gateway was stopped"


def test_positions_can_be_copied_without_a_parse() -> None:
    record = encode_frame(mesh(HEAD), 0, HEAD)
    assert struct.unpack_from("<H", record, 6) == (32,)
    assert np.frombuffer(record, "<f4", 3 * HEAD.vertex_count, 32).tobytes() == mesh(HEAD).vertices.tobytes()


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    arrays(np.float32, st.tuples(st.integers(0, 9), st.just(3)), elements=FINITE),
    st.one_of(st.none(), arrays(np.float32, st.integers(0, 5), elements=st.floats(0, 1, width=32))),
    st.integers(0, 1 << 40),
)  # fmt: skip
def test_any_frame_comes_back(positions: Any, weights: Any, number: int) -> None:
    bare = type(HEAD)("bare", np.empty((0, 3)), np.empty((0, 2)), np.empty((0, 3)), positions)
    sent = replace(mesh(bare), vertices=positions, weights=weights)
    back = decoded(decode_record(encode_frame(sent, number, bare)))
    assert same(back.positions, positions) and same(back.weights, weights)
    assert same(back.world_from_head, sent.world_from_head)
    assert back.sequence == number % (1 << 32) and back.capture_time_s == sent.exposure_time_ns / 1_000_000_000


def test_a_topology_comes_back_with_and_without_texture() -> None:
    bare = type(HEAD)("bare", HEAD.triangles, np.empty((0, 2)), np.empty((0, 3), np.int32), HEAD.template)
    for topology in (HEAD, bare):
        back = decode_topology(decode_record(encode_topology(topology)))
        assert back.triangles.tolist() == topology.triangles.tolist()
        assert (back.id, back.name, back.units) == (topology.id, topology.name, topology.units)
        assert (back.uv is None) == (topology is bare)


@given(st.lists(st.integers(0, len(GOLDEN)), max_size=8))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    splitter, places = Splitter(), [0, *sorted(cuts), len(GOLDEN)]
    found = [record for a, b in pairwise(places) for record in splitter.feed(GOLDEN[a:b])]
    splitter.close()
    whole = [decode_record(record) for record in golden_records()]
    assert [record.header for record in found] == [record.header for record in whole]
    assert all(same(decoded(a), decoded(b)) for a, b in zip(found, whole, strict=True))


def test_a_stream_that_ends_inside_a_record_is_noticed_at_every_byte() -> None:
    ends = np.cumsum([len(record) for record in golden_records()]).tolist()
    for size in range(len(GOLDEN)):
        splitter = Splitter()
        assert len(splitter.feed(GOLDEN[:size])) == sum(end <= size for end in ends)
        if size in (0, *ends):
            splitter.close()
        else:
            with pytest.raises(WireError, match="ended inside a record"):
                splitter.close()


@pytest.mark.parametrize("record", golden_records(), ids=["hello", "topology", "frame", "end"])
def test_a_record_cut_at_any_byte_is_refused(record: bytes) -> None:
    for size in range(len(record)):
        with pytest.raises(WireError):
            decode_record(record[:size])


@pytest.mark.parametrize("record", golden_records()[:3], ids=["hello", "topology", "frame"])
def test_a_payload_shorter_or_longer_than_its_blocks_is_refused(record: bytes) -> None:
    """The header is right about the payload's length, the blocks do not fit into it."""
    for size in range(HEADER.size, len(record)):
        with pytest.raises(WireError):
            decoded(decode_record(patched(record[:size])))
    with pytest.raises(WireError):
        decoded(decode_record(patched(record + b"\0\0\0\0")))


@given(st.binary(max_size=80))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    if len(data) >= 4 and not data.startswith(b"HCM1"):
        with pytest.raises(WireError):
            Splitter().feed(data)
    with pytest.raises(WireError):
        decode_record(data)


@given(st.integers(0, len(GOLDEN) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_does_more_than_raise(place: int, flip: int) -> None:
    spoilt = bytearray(GOLDEN)
    spoilt[place] ^= flip
    try:
        for record in Splitter().feed(spoilt):
            if record.header.kind in set(DECODERS):
                decoded(record)
    except WireError as error:
        assert str(error)


def test_a_later_version_says_so() -> None:
    with pytest.raises(WireError, match=r"speaks b'HCM2', this reader b'HCM1'.*one version"):
        Splitter().feed(b"HCM2")
    with pytest.raises(WireError, match=r"b'HTTP' begins no record.*gateway's port"):
        Splitter().feed(b"HTTP/1.1 400")
    with pytest.raises(WireError, match="GET"):
        Splitter().feed(b"GET")


def test_what_a_later_version_adds_is_skipped() -> None:
    frame = golden_records()[2]
    longer = patched(frame, header=40)
    longer = longer[:32] + bytes(8) + longer[32:]
    more = patched(frame + b"new block", flags=frame[5] | 128)
    plain = decode_frame(decode_record(frame))
    assert same(decode_frame(decode_record(longer)), plain) and same(decode_frame(decode_record(more)), plain)
    assert Splitter().feed(encode(77, b"?"))[0].header.kind == 77


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"header": 24}, "at least 32"), ({"header": 33}, "multiple of 8"), ({"payload": MAX_PAYLOAD + 1}, "allowed")],
)
def test_impossible_sizes_are_refused_before_they_are_waited_for(fields: dict[str, int], told: str) -> None:
    with pytest.raises(WireError, match=told):
        parse_header(patched(golden_records()[2], **fields))


def test_indices_outside_are_refused() -> None:
    topology = golden_records()[1]
    spoilt = topology[:36] + struct.pack("<I", 4) + topology[40:]
    with pytest.raises(WireError, match="vertex 4 of 4"):
        decoded(decode_record(spoilt))
    with pytest.raises(WireError, match="cut short"):
        decoded(decode_record(topology[:32] + struct.pack("<I", 1 << 31) + topology[36:]))


@pytest.mark.parametrize("field", ["vertices", "world_from_head", "weights"])
def test_values_that_are_not_finite_are_not_sent(field: str) -> None:
    sent = mesh(HEAD)
    value = np.array(getattr(sent, field))
    value.flat[0] = np.nan
    with pytest.raises(WireError, match="frame 0 holds values that are not finite"):
        encode_frame(replace(sent, **{field: value}), 0, HEAD)


def test_a_record_too_large_for_clients_is_not_made() -> None:
    with pytest.raises(WireError, match="larger than"):
        encode(Kind.FRAME, bytes(MAX_PAYLOAD + 1))
