"""The Blender add-on's own decoder gives the answers of Mien's, in Blender's axes, and takes no nonsense."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.blender.mien_live import records
from plugins.blender.mien_live.records import (
    End,
    Frame,
    Health,
    Hello,
    Reader,
    RecordError,
    Splitter,
    Topology,
    decode,
    to_blender,
)
from streamer.errors import WireError
from streamer.gateway.decoding import Splitter as MienSplitter
from streamer.gateway.decoding import decode_frame, decode_record, decode_topology
from streamer.gateway.encoding import encode_frame, encode_topology
from streamer.gateway.records import encode
from streamer.geometry import AXES
from tests.plugins.golden import FOLDER, digits
from tests.streamer.gateway_makers import DECODERS, LEFT_EAR, NOSE, decoded, golden_records, head, mesh, outward

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = (ROOT / "plugins/golden/stream.bin").read_bytes()
HEAD = head()


def test_the_golden_stream_reads_as_mien_reads_it() -> None:
    hello, topology, frame, end = map(decode, Splitter().feed(GOLDEN))
    assert isinstance(hello, Hello) and isinstance(topology, Topology) and isinstance(frame, Frame)
    assert isinstance(end, End) and frame.positions is not None
    records_ = golden_records()
    ours, our_frame = decode_topology(decode_record(records_[1])), decode_frame(decode_record(records_[2]))
    assert (hello.about["unit"], hello.about["version"], end.reason) == ("m", 1, "the gateway was stopped")
    assert (topology.key, topology.vertices, topology.name, topology.units) == (ours.key, 4, ours.name, ours.units)
    assert topology.triangles.tolist() == ours.triangles.tolist()
    assert ours.uv is not None and ours.uv_triangles is not None
    assert topology.uv is not None and topology.corners is not None
    assert topology.uv[topology.corners].tolist() == ours.uv[ours.uv_triangles].tolist()
    assert (frame.sequence, frame.key, frame.capture_time_s) == (5, ours.key, our_frame.capture_time_s)
    assert our_frame.weights is not None and frame.weights is not None
    assert frame.weights.tobytes() == our_frame.weights.tobytes()
    x, y, z = our_frame.positions.T
    assert (frame.positions == np.stack([x, -z, y], 1)).all()


def test_the_head_is_the_right_way_round() -> None:
    frame, topology = decode(encode_frame(mesh(HEAD), 0, HEAD)), decode(encode_topology(HEAD))
    assert isinstance(frame, Frame) and isinstance(topology, Topology) and frame.positions is not None
    assert frame.positions[NOSE] == pytest.approx([0, -0.13, 0]), "the nose looks along -Y"
    assert frame.positions[LEFT_EAR] == pytest.approx([0.11, 0, 0]), "the left ear is the one towards +X"
    assert np.ptp(frame.positions, axis=0) == pytest.approx([0.19, 0.23, 0.25]), "metres, +Z up"
    assert outward(frame.positions, topology.triangles)
    assert frame.positions.dtype == np.float32 and frame.positions.flags.c_contiguous
    np.testing.assert_allclose(to_blender(HEAD.template), HEAD.template @ AXES["blender"].matrix.T, atol=1e-9)


@given(st.lists(st.integers(0, len(GOLDEN)), max_size=8))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    splitter, whole, start = Splitter(), [], 0
    for end in [*sorted(cuts), len(GOLDEN)]:
        whole += splitter.feed(GOLDEN[start:end])
        start = end
    assert whole == golden_records()


@pytest.mark.parametrize("record", golden_records(), ids=["hello", "topology", "frame", "end"])
def test_a_record_cut_at_any_byte_is_refused(record: bytes) -> None:
    for size in range(len(record)):
        with pytest.raises(RecordError):
            decode(record[:size])
    for size in range(32, len(record) - 4 * (record[4] == records.END)):
        if record[4] != records.END:  # any text is a reason
            with pytest.raises(RecordError):
                decode(record[:28] + (size - 32).to_bytes(4, "little") + record[32:size])


@given(st.integers(0, len(GOLDEN) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_does_more_than_raise(place: int, flip: int) -> None:
    spoilt = bytearray(GOLDEN)
    spoilt[place] ^= flip
    try:
        for record in Splitter().feed(bytes(spoilt)):
            decode(record)
    except RecordError as error:
        assert str(error)


@given(st.binary(min_size=4, max_size=80).filter(lambda data: data[:4] != b"HCM1"))
def test_garbage_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(RecordError):
        Splitter().feed(data)
    with pytest.raises(RecordError):
        decode(data)


def test_later_versions_are_skipped_or_named() -> None:
    frame = golden_records()[2]
    plain = decode(frame)
    size = len(frame) - 32 + 5
    more = decode(frame[:5] + bytes([frame[5] | 64]) + frame[6:28] + size.to_bytes(4, "little") + frame[32:] + b"block")
    longer = decode(frame[:6] + (40).to_bytes(2, "little") + frame[8:32] + bytes(8) + frame[32:])
    for other in (more, longer):
        assert isinstance(plain, Frame) and isinstance(other, Frame)
        assert plain.positions is not None and other.positions is not None
        assert other.positions.tobytes() == plain.positions.tobytes()
    assert decode(encode(77, b"?")) is None
    with pytest.raises(RecordError, match=r"speaks b'HCM2', this add-on b'HCM1'"):
        Splitter().feed(b"HCM2")
    with pytest.raises(RecordError, match=r"not Mien.*serve\.tcp_port"):
        Splitter().feed(b"HTTP/1.1 426 Upgrade Required")


def test_positions_that_are_no_numbers_are_refused() -> None:
    frame = golden_records()[2]
    with pytest.raises(RecordError, match="no numbers"):
        decode(frame[:32] + np.float32(np.nan).tobytes() + frame[36:])


def read(stream: bytes, step: int) -> Iterator[records.Message | RecordError]:
    """What the add-on reads, so many bytes at a time; an error is the last."""
    splitter, reader = Splitter(), Reader()
    try:
        for at in range(0, len(stream), step):
            for record in splitter.feed(stream[at : at + step]):
                message = reader.read(record)
                if message is not None:
                    yield message
        splitter.close()
    except RecordError as error:
        yield error


def lines(stream: bytes, step: int) -> Iterator[str]:
    """The same in the form of tests/plugins/golden.py."""
    for told in read(stream, step):
        yield f"error {told.fault}" if isinstance(told, RecordError) else line(told)


def line(message: records.Message) -> str:
    if isinstance(message, Hello):
        about = message.about
        switches = " ".join(f"{name}={about[name]:d}" for name in ("mesh", "normals", "quantised", "split", "token"))
        return f"hello {about['target']} {','.join(about['axes'])} {about['unit']} {about['winding']} {switches}"
    if isinstance(message, Health):
        return f"health {message.about['state']}"
    if isinstance(message, End):
        return f"end {message.reason}"
    if isinstance(message, Topology):
        blocks = {name: digits(getattr(message, name)) for name in ("triangles", "uv", "corners", "source")}
        arrays = " ".join(f"{name}={values}" for name, values in blocks.items())
        names = f"units={','.join(message.units)} name={message.name}"
        return f"topology {message.key:08x} {message.vertices} {arrays} {names}"
    time = struct.pack("<d", message.capture_time_s).hex()
    shown = f"positions={digits(message.positions)} " if message.positions is not None else ""
    normals = f" normals={digits(message.normals)}" if message.positions is not None else ""
    told = f"pose={digits(message.pose)} weights={digits(message.weights)}"
    kind = "weights" if message.positions is None else "frame"
    return f"{kind} {message.sequence} {message.key:08x} {time} {shown}{told}{normals}"


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_the_golden_head_is_read_bit_by_bit_in_blenders_axes(step: int) -> None:
    stream = (FOLDER / "head.bin").read_bytes()
    assert list(lines(stream, step)) == (FOLDER / "head.blender.txt").read_text("utf-8").splitlines()


def test_every_fault_is_named() -> None:
    for row in (FOLDER / "faults.txt").read_text().splitlines():
        name, fault, whole = row.split()
        *before, last = lines((FOLDER / f"faults/{name}.bin").read_bytes(), 1)
        assert (last, len(before)) == (f"error {fault}", int(whole)), name


@given(st.data())
def test_no_bytes_do_more_than_raise(data: st.DataObject) -> None:
    """Parts of the golden head, spoilt, cut and put together at random."""
    stream = bytearray((FOLDER / "head.bin").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        place, value = data.draw(st.integers(0, len(stream) - 1)), data.draw(st.integers(0, 255))
        stream[place] = value
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(stream))] * 2)))
    del stream[begin : begin + (end - begin) // 8]
    for message in read(bytes(stream), 4096):
        assert str(message)
    for told in dump_whole(bytes(stream)):
        assert told


def dump_whole(stream: bytes) -> Iterator[str]:
    """Mien's own decoder on the same bytes, in one piece."""
    splitter = MienSplitter()
    try:
        for record in splitter.feed(stream):
            if record.header.kind in DECODERS:
                yield str(decoded(record))
    except WireError as error:
        yield str(error)
