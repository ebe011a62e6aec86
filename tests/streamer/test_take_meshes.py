"""Meshes on disk: within 0.005 mm, or every bit; the same floats on every machine; read anywhere with three reads."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.config import RecordConfig
from streamer.errors import TakeError, WireError
from streamer.takes import TakeWriter, open_take
from streamer.takes.carve import Found, carve
from streamer.takes.mesh_codec import (
    ANCHOR,
    DELTA,
    KEY,
    LOSSLESS,
    STEP_NM,
    Base,
    MeshEncoder,
    base_of,
    decode_vertices,
    is_base,
    read_base,
)
from streamer.takes.mesh_walk import walk_order
from streamer.takes.recover import recover_take
from streamer.takes.stored import channel_of
from streamer.takes.verify import verify_take
from streamer.types import F32, MeshFrame, Topology
from tests.streamer.take_makers import PERIOD_NS, START_NS, calibration, write_take

DATA = Path(__file__).parent / "data"
QUANTISED = RecordConfig(chunk_mb=0.05, roll_s=1.0, sync_s=0.2)
LIMIT_M = 5e-6


def sheet(columns: int = 24, rows: int = 18) -> Topology:
    """A bent sheet, its vertices numbered at random: what a modelling program leaves."""
    u, v = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    points = np.stack([0.09 * u, 0.12 * v, 0.05 * np.cos(2 * u) * np.cos(v)], -1).reshape(-1, 3)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    near = np.stack([corner, corner + 1, corner + columns], -1)
    far = np.stack([corner + 1, corner + columns + 1, corner + columns], -1)
    mixed = np.random.default_rng(3).permutation(len(points))
    triangles = np.argsort(mixed)[np.concatenate([near, far])]
    corners = triangles.astype(np.int32)
    return Topology("sheet", corners, np.zeros((1, 2), np.float32), np.zeros_like(corners), points[mixed])


def performance(topology: Topology, count: int, noise_mm: float = 0.02) -> list[F32]:
    """Vertices of a head that nods, moves away and bulges."""
    rng, out = np.random.default_rng(9), []
    for number in range(count):
        angle, base = 0.3 * math.sin(number / 9), topology.template.astype(np.float64)
        bulge = base * (1 + 0.05 * math.sin(number / 4) * np.exp(-((base[:, 1:2] / 0.05) ** 2)))
        turn = np.array([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]])
        moved = bulge @ turn.T + [0.02 * number / count, 0, 1.1] + rng.normal(0, noise_mm / 1e3, base.shape)
        out.append(moved.astype(np.float32))
    return out


class Coder:
    """Encodes, remembers what others refer to, decodes."""

    def __init__(self, topology: Topology | None, **options: bool | int) -> None:
        self.topology = topology
        self.encoder = MeshEncoder(**options)  # type: ignore[arg-type]
        self.bases: dict[tuple[int, int], Base] = {}

    def encode(self, vertices: F32, time_ns: int) -> bytes:
        part = self.encoder.encode(vertices, self.topology.id if self.topology else "x", self.topology, time_ns)
        if is_base(part):
            base = read_base(part, time_ns, self.find)
            self.bases[time_ns, base.checksum] = base
        return part

    def find(self, time_ns: int, checksum: int) -> Base:
        if (time_ns, checksum) not in self.bases:
            raise WireError("not there")
        return self.bases[time_ns, checksum]

    def decode(self, part: bytes) -> F32:
        return decode_vertices(part, lambda _: self.topology, self.find)  # type: ignore[arg-type,return-value]


def test_the_walk_visits_every_vertex_once_and_stays_among_neighbours() -> None:
    topology = sheet()
    order = walk_order(topology.triangles, topology.vertex_count)
    assert sorted(order.forward.tolist()) == list(range(topology.vertex_count))
    assert np.array_equal(order.forward[order.inverse], np.arange(topology.vertex_count))
    steps = np.linalg.norm(np.diff(topology.template[order.forward], axis=0), axis=1)
    assert np.median(steps) < 0.015 < np.median(np.linalg.norm(np.diff(topology.template, axis=0), axis=1))
    apart = walk_order(np.array([[4, 5, 6], [0, 2, 1]], np.int32), 8)  # two components and loose vertices
    assert apart.forward.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_performance_stays_within_the_limit_and_is_several_times_smaller() -> None:
    topology = sheet()
    coder, meshes = Coder(topology), performance(topology, 75)
    parts = [coder.encode(vertices, number) for number, vertices in enumerate(meshes)]
    kinds = [part[4] for part in parts]
    assert [n for n, kind in enumerate(kinds) if kind == KEY] == [0, 30, 60]
    assert [n for n, kind in enumerate(kinds) if kind == ANCHOR] == [6, 12, 18, 24, 36, 42, 48, 54, 66, 72]
    assert set(kinds) == {KEY, ANCHOR, DELTA}
    for vertices, part in zip(meshes, parts, strict=True):
        error = np.abs(coder.decode(part).astype(np.float64) - vertices.astype(np.float64)).max()
        assert error <= LIMIT_M
    assert sum(map(len, parts)) * 3.5 < sum(vertices.nbytes for vertices in meshes)
    assert len(parts[1]) < 0.7 * len(parts[0])
    # Any mesh is one delta, one anchor and one key: three reads.
    for part in parts:
        depth, place = 1, base_of(part)
        while place is not None:
            depth, place = depth + 1, base_of(parts[place[0]])
        assert depth <= 3


def test_what_was_decoded_encodes_to_itself() -> None:
    """A trimmed, merged or reprocessed take never drifts: the grid is the same everywhere."""
    topology = sheet()
    first, second = Coder(topology), Coder(topology, interval=7, stride=3)
    for number, vertices in enumerate(performance(topology, 20)):
        once = first.decode(first.encode(vertices, number))
        twice = second.decode(second.encode(once, number + 100))
        assert np.array_equal(once, twice)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=st.floats(width=32)),
    st.booleans(),
)
@example(np.array([[np.nan, -0.0, np.inf]], np.float32), False)
@example(np.full((3, 3), 2.0, np.float32), False)
def test_any_floats_come_back(vertices: F32, lossless: bool) -> None:
    coder = Coder(None, lossless=lossless)
    for number in range(3):
        part = coder.encode(vertices, number)
        back = coder.decode(part)
        assert back.shape == vertices.shape
        if part[4] == LOSSLESS:
            assert back.tobytes() == vertices.tobytes()
        else:
            assert not lossless
            # Half a step, and the rounding of a float32 of that size (2 m: 0.06 um).
            bound = STEP_NM / 2e9 + np.abs(vertices.astype(np.float64)) * 2.0**-23
            assert (np.abs(back.astype(np.float64) - vertices) <= bound).all()


def test_bytes_that_are_none_of_ours_are_refused() -> None:
    topology = sheet()
    coder, meshes = Coder(topology), performance(topology, 3)
    parts = [coder.encode(vertices, number) for number, vertices in enumerate(meshes)]
    rng = np.random.default_rng(4)
    for part in (*parts, Coder(None, lossless=True).encode(meshes[0], 0)):
        for cut in (0, 3, 39, 40, 60, 130, len(part) - 1):
            with pytest.raises(WireError):
                coder.decode(part[:cut])
        for place in rng.integers(0, len(part), 300).tolist():
            damaged = bytearray(part)
            damaged[place] ^= int(rng.integers(1, 256))
            try:  # the checksum of the message is what finds damage; here it is enough that nothing breaks
                assert coder.decode(bytes(damaged)).shape[1] == 3
            except WireError:
                continue


def test_the_conformance_file_is_what_the_encoder_makes_and_the_decoder_reads() -> None:
    """docs/mesh_codec.md; made by this very code, kept so that neither side can change unseen."""
    cases = json.loads((DATA / "mesh_codec.json").read_text("utf-8"))
    topology = Topology(
        cases["name"], np.array(cases["triangles"], np.int32), np.zeros((1, 2), np.float32),
        np.zeros_like(cases["triangles"], np.int32), np.array(cases["template"], np.float32),
    )  # fmt: skip
    assert topology.id == cases["topology_id"]
    assert walk_order(topology.triangles, topology.vertex_count).forward.tolist() == cases["walk"]
    coder, lossless = Coder(topology, interval=5, stride=2), Coder(topology, lossless=True)
    for case in cases["meshes"]:
        part, vertices = bytes.fromhex(case["part"]), np.array(case["vertices"], np.float32)
        made = (lossless if case["kind"] == LOSSLESS else coder).encode(vertices, case["log_time_ns"])
        assert made == part
        assert part[4] == case["kind"]
        assert np.array_equal(coder.decode(part), np.array(case["decoded"], np.float32))
    assert {case["kind"] for case in cases["meshes"]} == {LOSSLESS, KEY, DELTA, ANCHOR}


def _mesh_take(path: Path, count: int, record: RecordConfig = QUANTISED) -> tuple[Topology, list[F32]]:
    topology = sheet()
    meshes = performance(topology, count)
    with TakeWriter(
        path, calibration=calibration(), config_text="", show="s", slate="m", take=1, record=record
    ) as writer:
        for number, vertices in enumerate(meshes):
            log = START_NS + number * PERIOD_NS
            head = MeshFrame(number, log, 0, topology.id, vertices, np.eye(4, dtype=np.float32))
            writer.write("topology", topology, log)
            writer.write("mesh", head, log)
            writer.write("truth", head, log)
    return topology, meshes


def test_a_take_gives_its_meshes_in_any_order_and_the_truth_bit_by_bit(tmp_path: Path) -> None:
    _, meshes = _mesh_take(tmp_path / "take", 100)
    assert verify_take(tmp_path / "take").ok
    with open_take(tmp_path / "take") as take:
        assert len(take.info.files) == 4
        heads, truth = take.meshes(), take.meshes("truth")
        for number in np.random.default_rng(1).permutation(100).tolist():
            assert np.abs(heads[number].vertices - meshes[number]).max() <= LIMIT_M
            assert np.array_equal(truth[number].vertices, meshes[number])
    _, meshes = _mesh_take(tmp_path / "exact", 10, replace(QUANTISED, meshes="lossless"))
    with open_take(tmp_path / "exact") as take:
        assert all(np.array_equal(head.vertices, kept) for head, kept in zip(take.meshes(), meshes, strict=True))


def test_a_lost_key_costs_its_meshes_and_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "take"
    _, meshes = _mesh_take(path, 60, replace(QUANTISED, roll_s=60.0))
    file = path / "main_0000.mcap"
    data = bytearray(file.read_bytes())
    found = [item for item in carve(file) if isinstance(item, Found) and channel_of(item.parts) == "mesh"]
    for number in (30, 6):  # the second key, and an anchor of the first group
        data[found[number].offset + found[number].size - 1] ^= 1
    file.write_bytes(data)
    with open_take(path) as take, pytest.raises(TakeError, match="checksum mismatch"):
        take.meshes()[31]
    assert not verify_take(path).ok
    report = recover_take(path)
    assert report.ok
    assert report.lost == {"mesh": 30 + 6}
    with open_take(path) as take:
        left = [*range(6), *range(12, 30)]
        assert take.meshes().frame_ids.tolist() == left
        for head, number in zip(take.meshes(), left, strict=True):
            assert np.abs(head.vertices - meshes[number]).max() <= LIMIT_M


def test_takes_of_the_first_schema_are_read(tmp_path: Path) -> None:
    old, new = DATA / "take_schema_1", write_take(tmp_path / "new", 6, size=60)
    assert verify_take(old).ok
    with open_take(old) as a, open_take(new) as b:
        assert a.frame_count == b.frame_count == 18
        for x, y in zip(a.meshes(), b.meshes(), strict=True):
            assert np.array_equal(x.vertices, y.vertices)
            assert (x.frame_id, x.exposure_time_ns, x.topology_id) == (y.frame_id, y.exposure_time_ns, y.topology_id)
