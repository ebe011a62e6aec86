"""The wire format: everything comes back as it was, nothing that was damaged comes back at all."""

import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.channels import CHANNELS
from streamer.errors import WireError
from streamer.geometry import look_at
from streamer.types import Calibration, Camera, Frame, Health, MeshFrame, Timecode, Topology
from streamer.wire import MAGIC, MAX_HEADER, PREAMBLE, VERSION, Descriptor, Message, decode, encode, topic

INT64 = st.integers(-(2**63), 2**63 - 1)
NAME = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P"), exclude_characters="/\\"), min_size=1, max_size=20
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
TIMECODE = st.builds(Timecode, TEXT, st.fractions(0, 1000, max_denominator=10**6), st.booleans())


def floats(*shape: int) -> st.SearchStrategy[Any]:
    return hnp.arrays(np.float32, shape, elements=st.floats(-8, 8, width=32))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    encoding = draw(st.sampled_from(["mono8", "rgb8", "jpeg"]))
    shape = {"mono8": (height, width), "rgb8": (height, width, 3), "jpeg": (draw(st.integers(0, 50)),)}[encoding]
    data = draw(hnp.arrays(np.uint8, shape))
    times = [draw(INT64) for _ in range(5)]
    sequence = draw(st.integers(0, 2**63 - 1))
    timecode = draw(st.none() | TIMECODE)
    return Frame(
        draw(NAME),
        times[0],
        times[1],
        sequence,
        times[2],
        draw(NAME),
        times[3],
        times[4],
        width,
        height,
        encoding,
        data,
        timecode,
    )


@st.composite
def meshes(draw: st.DrawFn) -> MeshFrame:
    return MeshFrame(
        draw(INT64),
        draw(INT64),
        draw(INT64),
        draw(NAME),
        draw(floats(draw(st.integers(0, 12)), 3)),
        draw(floats(4, 4)),
        tuple(draw(st.lists(NAME, max_size=4))),
        draw(st.none() | floats(5)),
        draw(st.dictionaries(TEXT, INT64, max_size=4)),
    )


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    vertices, coordinates, triangles = (draw(st.integers(1, 6)) for _ in range(3))
    corners = hnp.arrays(np.int32, (triangles, 3), elements=st.integers(0, vertices - 1))
    uv_corners = hnp.arrays(np.int32, (triangles, 3), elements=st.integers(0, coordinates - 1))
    members = hnp.arrays(np.int32, st.integers(0, 5), elements=st.integers(0, vertices - 1))
    return Topology(
        draw(TEXT),
        draw(corners),
        draw(floats(coordinates, 2)),
        draw(uv_corners),
        draw(floats(vertices, 3)),
        tuple(draw(st.lists(NAME, max_size=3))),
        draw(st.dictionaries(NAME, members, max_size=3)),
    )


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    ids = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    number = st.floats(-3, 3)
    return Calibration(
        tuple(
            Camera(
                identity,
                draw(TEXT),
                draw(st.integers(1, 65535)),
                draw(st.integers(1, 65535)),
                np.array([[draw(st.floats(1, 1e5)), 0, draw(number)], [0, draw(st.floats(1, 1e5)), 0], [0, 0, 1]]),
                draw(hnp.arrays(np.float64, 5, elements=number)),
                look_at(np.array([draw(number), draw(number), 4.0]), np.zeros(3), draw(number)),
            )
            for identity in ids
        ),
        draw(TEXT),
    )


HEALTH = st.builds(
    Health,
    NAME,
    INT64,
    NAME,
    st.dictionaries(TEXT, INT64, max_size=4),
    st.dictionaries(TEXT, st.floats(allow_nan=False), max_size=4),
    TEXT,
)
MESSAGES = st.one_of(
    frames().map(lambda m: ("frame", m)),
    meshes().map(lambda m: ("mesh", m)),
    meshes().map(lambda m: ("truth", m)),
    topologies().map(lambda m: ("topology", m)),
    calibrations().map(lambda m: ("calibration", m)),
    HEALTH.map(lambda m: ("health", m)),
)
RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def same(a: Any, b: Any) -> bool:
    """Deep equality with arrays compared by dtype, shape and content."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dataclass_fields__") and type(a) is not Timecode:
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(type(a) is type(b) and a == b)


def examples() -> list[tuple[str, Message]]:
    """One small message of each kind, every optional field filled."""
    camera = Camera("cam_0", "s1", 640, 480, np.diag([800.0, 801.0, 1.0]), np.arange(5) / 10, np.eye(4))
    corners = np.array([[0, 1, 2]])
    topology = Topology("tri", corners, np.zeros((3, 2)), corners, np.eye(3), ("jawOpen",), {"face": np.array([0, 2])})
    timecode = Timecode("01:00:00;02", Fraction(30000, 1001), drop_frame=True)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    pose = np.eye(4, dtype=np.float32)
    weights = np.array([0.25], np.float32)
    return [
        ("frame", Frame("cam_0", 7, 8, 9, 10, "ptp", 11, 12, 4, 2, "rgb8", pixels, timecode)),
        ("calibration", Calibration((camera, replace(camera, id="cam_1")), "by hand")),
        ("topology", topology),
        ("mesh", MeshFrame(7, 8, 9, topology.id, topology.template, pose, ("cam_0",), weights, {"net": 5})),
        ("health", Health("node", 1, "running", {"published.cam_0": 3}, {"fps": 29.5}, "all well")),
    ]


def resigned(parts: list[Any], header: Any) -> list[Any]:
    """The same message with another header, its length and checksum made right: what a hostile peer would send."""
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    magic, version, kind, zero, _, _ = PREAMBLE.unpack_from(parts[1])
    return [parts[0], PREAMBLE.pack(magic, version, kind, zero, len(packed), zlib.crc32(packed)) + packed, *parts[2:]]


def header_of(parts: list[Any]) -> Any:
    return msgpack.unpackb(bytes(parts[1])[PREAMBLE.size :])


@RELAXED
@given(MESSAGES)
def test_every_message_comes_back_as_it_was(pair: tuple[str, Message]) -> None:
    channel, message = pair
    received, back = decode([bytes(part) for part in encode(channel, message)])
    assert received == channel
    assert same(message, back)


def test_examples_cover_every_kind_of_message_on_the_bus() -> None:
    assert {type(message).__name__ for _, message in examples()} == {c.message for c in CHANNELS.values()}


def test_the_page_about_the_wire_shows_what_is_sent() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire.md").read_text("utf-8")
    dump = page.split("```")[1]
    shown = [bytes.fromhex("".join(line[6:53] for line in part.splitlines()[1:])) for part in dump.split("\npart ")[1:]]
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    frame = Frame("cam_0", 7, 8, 9, 1000, "ptp", 2000, 3000, 4, 2, "rgb8", pixels)
    assert shown == [bytes(part) for part in encode("frame", frame)]
    assert same(decode(shown)[1], frame)


def test_arrays_cross_without_a_copy_and_cannot_be_written() -> None:
    frame = examples()[0][1]
    assert isinstance(frame, Frame)
    parts = encode("frame", frame)
    assert np.shares_memory(np.frombuffer(parts[2], np.uint8), frame.data)
    buffer = bytearray(parts[2])
    _, back = decode([parts[0], parts[1], memoryview(buffer)])
    assert isinstance(back, Frame)
    buffer[0] = 99
    assert back.data[0, 0, 0] == 99
    with pytest.raises(ValueError, match="read-only"):
        back.data[0, 0, 0] = 1


def test_an_array_that_is_not_contiguous_travels_right() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(2, 8, 3)[:, ::2]
    frame = replace(examples()[0][1], data=pixels)
    assert same(decode(encode("frame", frame))[1], frame)


def test_a_misaligned_part_gives_an_aligned_array() -> None:
    channel, mesh = examples()[3]
    parts = encode(channel, mesh)
    shifted = memoryview(b"?" + bytes(parts[2]))[1:]
    _, back = decode([*parts[:2], shifted, *parts[3:]])
    assert isinstance(back, MeshFrame)
    assert back.vertices.flags.aligned
    assert same(mesh, back)


@pytest.mark.parametrize(("channel", "message"), examples(), ids=lambda value: value if isinstance(value, str) else "")
def test_truncation_at_every_byte_is_a_wire_error(channel: str, message: Message) -> None:
    parts = [bytes(part) for part in encode(channel, message)]
    for index, part in enumerate(parts):
        with pytest.raises(WireError):
            decode(parts[:index])
        for length in range(len(part)):
            with pytest.raises(WireError):
                decode([*parts[:index], part[:length], *parts[index + 1 :]])
    with pytest.raises(WireError):
        decode([*parts, b""])


@pytest.mark.parametrize(("channel", "message"), examples(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_flipped_bit_of_topic_and_header_is_a_wire_error(channel: str, message: Message) -> None:
    parts = [bytes(part) for part in encode(channel, message)]
    for index in (0, 1):
        for bit in range(8 * len(parts[index])):
            damaged = bytearray(parts[index])
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(WireError):
                decode([bytes(damaged) if at == index else part for at, part in enumerate(parts)])


@RELAXED
@given(st.sampled_from(examples()), st.data())
def test_damage_behind_a_valid_checksum_raises_nothing_but_wire_errors(
    pair: tuple[str, Message], data: st.DataObject
) -> None:
    parts = encode(*pair)
    packed = bytearray(bytes(parts[1])[PREAMBLE.size :])
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, back = decode(resigned(parts, bytes(packed)))
    except WireError:
        return
    # What gets through is a sound message of another content: it can be sent again.
    assert type(back) is type(pair[1])
    encode(pair[0], back)


@RELAXED
@given(
    st.sampled_from(examples()),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=5)
        | st.binary(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=6,
    ),
    st.data(),
)
def test_any_value_in_any_place_of_the_header_raises_nothing_but_wire_errors(
    pair: tuple[str, Message], value: Any, data: st.DataObject
) -> None:
    parts = encode(*pair)
    header = header_of(parts)
    table = header[data.draw(st.sampled_from(["fields", "arrays"]))]
    if isinstance(table, dict):
        table[data.draw(st.sampled_from(sorted(table)))] = value
    elif table:
        row = table[data.draw(st.integers(0, len(table) - 1))]
        row[data.draw(st.integers(0, 2))] = value
    else:
        header["ring"] = value
    try:
        decode(resigned(parts, header))
    except WireError:
        return


def edited(channel: str, edit: Callable[[Any], None]) -> list[Any]:
    message = next(m for c, m in examples() if c == channel)
    parts = encode(channel, message)
    header = header_of(parts)
    edit(header)
    return resigned(parts, header)


@pytest.mark.parametrize(
    ("channel", "edit", "complaint"),
    [
        ("frame", lambda h: h["fields"].update(width=5), "cam_0.*data.*expected .u1 and 2 x 5 x 3"),
        ("frame", lambda h: h["fields"].update(width=True), "Frame.width"),
        ("frame", lambda h: h["fields"].update(width=4.0), "Frame.width"),
        ("frame", lambda h: h["fields"].update(width=0), "Frame.width"),
        ("frame", lambda h: h["fields"].update(sequence=-1), "Frame.sequence"),
        ("frame", lambda h: h["fields"].update(frame_id=2**63), "Frame.frame_id"),
        ("frame", lambda h: h["fields"].update(encoding="gif"), "mono8 or rgb8 or jpeg or png"),
        ("frame", lambda h: h["fields"].update(camera="../../etc"), "without slashes"),
        ("frame", lambda h: h["fields"].update(camera=""), "Frame.camera"),
        ("frame", lambda h: h["fields"].update(extra=1), "Frame.fields"),
        ("frame", lambda h: h["fields"].pop("clock"), "Frame.fields"),
        ("frame", lambda h: h.update(more=1), "Frame header"),
        ("frame", lambda h: h["fields"].update(timecode=["x", 1, 0, False]), "rate"),
        ("frame", lambda h: h["arrays"][0].__setitem__(1, "|O"), "dtype"),
        ("frame", lambda h: h["arrays"][0].__setitem__(1, "<i8"), "dtype"),
        ("frame", lambda h: h["arrays"][0].__setitem__(2, [2, 4]), "shape"),
        ("frame", lambda h: h["arrays"][0].__setitem__(2, [2, 4, -3]), "arrays"),
        ("frame", lambda h: h["arrays"].append(["data", "|u1", [2, 4, 3]]), "exactly data"),
        ("frame", lambda h: h["arrays"].clear(), "exactly data"),
        ("frame", lambda h: h.update(ring=["mien-1-ab-0", 0, 1, 24]), "came with 1"),
        ("mesh", lambda h: h["arrays"][0].__setitem__(2, [2**39, 3]), "needs"),
        ("mesh", lambda h: h["arrays"][0].__setitem__(2, [4, 3]), "needs 48 bytes, came with 36"),
        ("mesh", lambda h: h["fields"].update(views=["a"] * 5000), "max_array_len"),
        ("mesh", lambda h: h.update(ring=["mien-1-ab-0", 0, 1, 24]), "for a Frame only"),
        ("topology", lambda h: h["fields"].update(id="0" * 16), "hashes to"),
        ("topology", lambda h: h["arrays"][4].__setitem__(0, "face"), "exactly"),
        ("calibration", lambda h: h["fields"]["cameras"].pop(), "expected <f8 and 1 x 3 x 3"),
        ("calibration", lambda h: h["fields"]["cameras"][1].__setitem__(0, "cam_0"), "more than once"),
        ("health", lambda h: h["fields"]["gauges"].update(fps=3), "gauges"),
        ("health", lambda h: h["fields"]["counters"].update(x=True), "counters"),
        ("health", lambda h: h["fields"].update(counters=[1]), "counters"),
    ],
)
def test_each_wrong_field_is_named(channel: str, edit: Callable[[Any], None], complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decode(edited(channel, edit))


def test_content_that_no_value_can_have_is_refused() -> None:
    channel, topology = examples()[2]
    parts = encode(channel, topology)
    outside = np.array([[0, 1, 9]], "<i4").tobytes()
    with pytest.raises(WireError, match="vertex 9 of 3"):
        decode([*parts[:2], outside, *parts[3:]])
    channel, calibration = examples()[1]
    parts = encode(channel, calibration)
    with pytest.raises(WireError, match="singular"):
        decode([*parts[:2], bytes(2 * 72), *parts[3:]])


def test_lying_lengths_allocate_nothing() -> None:
    liars = [
        edited("mesh", lambda h: h["arrays"][0].__setitem__(2, [2**39, 3])),
        edited(
            "frame",
            lambda h: h["fields"].update(width=65535, height=65535) or h["arrays"][0].__setitem__(2, [65535, 65535, 3]),
        ),
        resigned(encode(*examples()[0]), b"\xdd\x7f\xff\xff\xff"),  # a list of 2^31 values
        resigned(encode(*examples()[0]), b"\xdf\x7f\xff\xff\xff"),  # a table of 2^31 entries
        resigned(encode(*examples()[0]), b"\xc6\x7f\xff\xff\xff"),  # 2^31 bytes
        resigned(encode(*examples()[0]), b"\xc9\x7f\xff\xff\xff\x01"),  # an extension of 2^31 bytes
        resigned(encode(*examples()[0]), b"\xdc\x0f\xff" * 2000),  # lists in lists, each of 4095 values
    ]
    tracemalloc.start()
    try:
        for parts in liars:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(WireError):
                decode(parts)
            assert tracemalloc.get_traced_memory()[1] - before < 40_000_000
    finally:
        tracemalloc.stop()


def test_strangers_and_other_versions_are_told_apart() -> None:
    parts = [bytes(part) for part in encode(*examples()[4])]
    with pytest.raises(WireError, match="not a Mien"):
        decode([parts[0], b"HTTP" + parts[1][4:]])
    newer = bytearray(parts[1])
    newer[4] = VERSION + 1
    with pytest.raises(WireError, match=f"version {VERSION + 1}, this Mien speaks {VERSION}"):
        decode([parts[0], bytes(newer)])
    with pytest.raises(WireError, match="channel 'mesh' carries MeshFrame"):
        decode([topic("mesh"), *parts[1:]])
    with pytest.raises(WireError, match="no channel 'nonsense'"):
        decode([b"nonsense\0", *parts[1:]])
    assert parts[1][:4] == MAGIC


@pytest.mark.parametrize(
    ("channel", "index", "change", "complaint"),
    [
        ("frame", 0, {"data": np.zeros((2, 4, 3), np.float32)}, "cam_0.*<f4"),
        ("frame", 0, {"width": 3}, "cam_0"),
        ("frame", 0, {"frame_id": 1.5}, "Frame.frame_id"),
        ("frame", 0, {"camera": "a/b"}, "Frame.camera"),
        ("frame", 0, {"timecode": "01:00:00:00"}, "Frame.timecode"),
        ("mesh", 3, {"vertices": np.zeros((3, 3))}, "<f8"),
        ("mesh", 3, {"world_from_head": np.zeros((3, 4), np.float32)}, "world_from_head"),
        ("health", 4, {"gauges": {"fps": "fast"}}, "Health.gauges"),
        ("health", 4, {"message": "\ud800"}, "cannot be packed"),
        ("health", 4, {"counters": {f"{i:0100d}": i for i in range(4000)}}, f"allowed are {MAX_HEADER}"),
        ("mesh", 4, {}, "carries MeshFrame, not Health"),
        ("gossip", 4, {}, "no channel 'gossip'"),
    ],
)
def test_the_sender_refuses_what_the_receiver_would(channel: str, index: int, change: Any, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        encode(channel, replace(examples()[index][1], **change))


def test_numpy_integers_are_taken_for_what_they_are() -> None:
    frame = replace(examples()[0][1], frame_id=np.int64(5))
    _, back = decode(encode("frame", frame))
    assert isinstance(back, Frame)
    assert back.frame_id == 5
    assert type(back.frame_id) is int


def test_pixels_in_shared_memory_are_fetched_only_after_all_checks() -> None:
    frame = examples()[0][1]
    assert isinstance(frame, Frame)
    place = Descriptor("mien-12-ab-0", 1, 3, frame.data.nbytes)
    parts = encode("frame", frame, place)
    asked: list[Descriptor] = []

    def resolve(descriptor: Descriptor) -> Any:
        asked.append(descriptor)
        return frame.data.reshape(-1)

    assert len(parts) == 2
    assert same(decode(parts, resolve)[1], frame)
    assert asked == [place]
    with pytest.raises(WireError, match="shared memory"):
        decode(parts)
    for wrong in (
        ["mien-12-ab-0", 1, 3, 23],
        ["../../etc/passwd", 1, 3, 24],
        ["mien-12-ab-0", -1, 3, 24],
        ["mien-12-ab-0", 1, 3],
        "x",
    ):
        header = header_of(parts)
        header["ring"] = wrong
        with pytest.raises(WireError, match="ring"):
            decode(resigned(parts, header), resolve)
    with pytest.raises(WireError, match="needs 24 bytes, came with 23"):
        decode(parts, lambda _: frame.data.reshape(-1)[1:])
    assert asked == [place]
