"""Meshes for other programs: exact values, nothing overwritten, nothing half-written."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import TakeError
from streamer.exports.export import export_take
from streamer.exports.options import ExportOptions
from streamer.takes import open_take
from streamer.takes.carve import carve
from streamer.takes.stored import channel_of
from streamer.types import Topology
from tests.streamer.take_makers import START_NS, frame, mesh, open_writer, topology, write_take

GOLDEN_OBJ = """# frame 3, exposed at 1700000000099999999 ns; metres, +Y up
o tetra
v 0.003000 0.003000 0.003000
v 0.103000 0.003000 0.003000
v 0.003000 0.203000 0.003000
v 0.003000 0.003000 0.303000
vt 0.000000 0.000000
vt 1.000000 0.000000
vt 0.000000 1.000000
f 1/1 3/3 2/2
f 1/1 2/2 4/1
f 2/2 3/3 4/1
f 3/3 1/1 4/1
"""
GOLDEN_NPZ_SHA256 = "c846b32ba0f9f143e9bed44b99d63c47c4b6a3d7e514b554cd69a76e5b2fcc56"


def test_npz_holds_what_was_recorded(tmp_path: Path) -> None:
    with open_take(write_take(tmp_path / "take", 40)) as take:
        seen: list[tuple[int, int]] = []
        result = export_take(take, "npz", tmp_path / "deep" / "head.npz", on_progress=lambda *p: seen.append(p))
    assert result == {
        "out": str(tmp_path / "deep" / "head.npz"),
        "format": "npz",
        "frames": 40,
        "vertices": 4,
        "triangles": 4,
        "fps": 30.0,
        "notes": [],
    }
    assert (len(seen), seen[-1]) == (40, (40, 40))
    with np.load(tmp_path / "deep" / "head.npz", allow_pickle=False) as data:
        assert (data["vertices"].shape, data["vertices"].dtype) == ((40, 4, 3), np.float32)
        for number in range(40):
            assert np.array_equal(data["vertices"][number], mesh(number).vertices)
            assert np.array_equal(data["world_from_head"][number], mesh(number).world_from_head)
        assert data["frame_ids"].tolist() == list(range(40))
        assert data["times_ns"].tolist() == [mesh(number).exposure_time_ns for number in range(40)]
        assert np.array_equal(data["triangles"], topology().triangles)
        assert np.array_equal(data["uv"], topology().uv)
        assert (data["units"].tolist(), data["topology_id"]) == (["jawOpen"], topology().id)
        assert np.array_equal(data["weights"][:, 0], np.arange(40, dtype=np.float32) / 100)


def test_obj_is_as_it_has_always_been(tmp_path: Path) -> None:
    with open_take(write_take(tmp_path / "take", 5)) as take:
        export_take(take, "obj", tmp_path / "obj")
    assert sorted(file.name for file in (tmp_path / "obj").iterdir()) == [f"{n:08d}.obj" for n in range(5)]
    assert (tmp_path / "obj" / "00000003.obj").read_text() == GOLDEN_OBJ


def test_npz_is_as_it_has_always_been(tmp_path: Path) -> None:
    with open_take(write_take(tmp_path / "take", 5)) as take:
        export_take(take, "npz", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as data:
        digest = hashlib.sha256()
        for name in sorted(data.files):
            digest.update(f"{name} {data[name].dtype.str} {data[name].shape}".encode() + data[name].tobytes())
    assert digest.hexdigest() == GOLDEN_NPZ_SHA256


@pytest.mark.parametrize("format", ["npz", "obj"])
def test_nothing_is_overwritten_unless_asked(tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with open_take(write_take(tmp_path / "take", 3)) as take:
        with pytest.raises(TakeError, match=r"exists already; give --force"):
            export_take(take, format, out)  # type: ignore[arg-type]
        assert out.read_text() == "mine"
        export_take(take, format, out, ExportOptions(force=True))  # type: ignore[arg-type]
        export_take(take, format, out, ExportOptions(force=True))  # type: ignore[arg-type]
        other = "obj" if format == "npz" else "npz"
        export_take(take, other, out, ExportOptions(force=True))  # type: ignore[arg-type]
    assert out.is_dir() == (other == "obj")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out", "take"]


def _damage(path: Path) -> None:
    file = path / "main_0000.mcap"
    data = bytearray(file.read_bytes())
    data[[item.offset + item.size for item in carve(file) if channel_of(item.parts) == "mesh"][2] - 9] ^= 1
    file.write_bytes(data)


def _fill_without_meshes(path: Path) -> None:
    with open_writer(path) as writer:
        writer.write("frame", frame("left", 0), START_NS)


def _fill_without_topology(path: Path) -> None:
    with open_writer(path) as writer:
        writer.write("mesh", mesh(0), START_NS)


def _fill_with_truth(path: Path) -> None:
    with open_writer(path) as writer:
        writer.write("truth", mesh(0), START_NS)


def _fill_with_two_topologies(path: Path) -> None:
    other = Topology("other", topology().triangles, topology().uv, topology().uv_triangles, topology().template)
    with open_writer(path) as writer:
        for number, shape in enumerate((topology(), other)):
            writer.write("topology", shape, START_NS)
            changed = mesh(number)
            object.__setattr__(changed, "topology_id", shape.id)
            writer.write("mesh", changed, START_NS)


def _fill_and_damage(path: Path) -> None:
    write_take(path, 5)
    _damage(path)


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (_fill_without_meshes, "holds no meshes on channel 'mesh'; run: mien reprocess"),
        (_fill_with_truth, "channel 'truth' has some: --channel truth"),
        (_fill_without_topology, "which it does not hold"),
        (_fill_with_two_topologies, "frame 1 has topology"),
        (_fill_and_damage, "checksum mismatch"),
    ],
)
@pytest.mark.parametrize("format", ["npz", "obj"])
def test_what_cannot_be_exported_leaves_nothing(
    tmp_path: Path, fill: Callable[[Path], None], says: str, format: str
) -> None:
    fill(tmp_path / "take")
    with open_take(tmp_path / "take") as take, pytest.raises(TakeError, match=says):
        export_take(take, format, tmp_path / "out")  # type: ignore[arg-type]
    assert [item.name for item in tmp_path.iterdir()] == ["take"]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with open_take(write_take(tmp_path / "take", 1)) as take, pytest.raises(TakeError, match="npz, usd, abc, gltf"):
        export_take(take, "fbx", tmp_path / "out")  # type: ignore[arg-type]
