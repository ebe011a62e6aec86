"""What we write, read back by the formats' own libraries and by plain numpy: exact values, units, times, winding."""

import csv
import json
import struct
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.errors import MissingExtra, TakeError
from streamer.exports.export import export_take
from streamer.exports.options import ExportOptions, Format
from streamer.geometry import AXES, signed_axes, vertex_normals
from streamer.takes import open_take
from tests.streamer.export_makers import (
    UNITS,
    head_mesh,
    head_topology,
    nearest_rigid,
    unit_shapes,
    weights_at,
    write_head_take,
)

IDS = [*range(7), *range(9, 16)]
"""Frames 7 and 8 have no mesh."""


@pytest.fixture
def take(tmp_path: Path) -> Path:
    return write_head_take(tmp_path / "take", IDS)


def export(take: Path, form: Format, out: Path, **options: Any) -> dict[str, Any]:
    with open_take(take) as opened:
        return export_take(opened, form, out, ExportOptions(**options))


def truth(ids: list[int] = IDS) -> np.ndarray:
    return np.stack([head_mesh(1000 + number, number / 30).vertices for number in ids])


@pytest.mark.parametrize("clip_frames", [0, 4, 5])
def test_usd_read_back(take: Path, tmp_path: Path, clip_frames: int) -> None:
    from pxr import Usd, UsdGeom

    export(take, "usd", tmp_path / "a.usdc", clip_frames=clip_frames, start_frame=101, name="anna")
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage)) == ("Y", 1.0)
    assert (stage.GetTimeCodesPerSecond(), stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (30, 101, 116)
    assert stage.GetDefaultPrim().GetName() == "anna"
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/anna/mesh"))
    assert np.array_equal(np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3), head_topology().triangles)
    uv = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st")
    assert np.array_equal(np.array(uv.ComputeFlattened()), head_topology().uv[head_topology().uv_triangles.ravel()])
    for number, vertices in zip(IDS, truth(), strict=True):
        code = 101 + number
        assert np.array_equal(np.array(mesh.GetPointsAttr().Get(code)), vertices)
        assert np.allclose(mesh.GetNormalsAttr().Get(code), vertex_normals(vertices, head_topology().triangles))
        assert np.array_equal(mesh.GetExtentAttr().Get(code), [vertices.min(0), vertices.max(0)])
        assert mesh.GetPrim().GetAttribute("mien:frameId").Get(code) == 1000 + number
        assert np.array_equal(mesh.GetPrim().GetAttribute("mien:arkitWeights").Get(code), weights_at(number / 30))
    between = np.array(mesh.GetPointsAttr().Get(101 + 7.0))
    assert np.allclose(between, truth()[6] + (truth()[7] - truth()[6]) / 3, atol=1e-6)  # the gap, and clip borders


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.usdc", {}),
        ("b.usd", {"target": "unreal", "clip_frames": 4}),
        ("c.usdc", {"morphs": "arkit"}),
        ("d.usdc", {"morphs": "arkit", "target": "maya", "stabilise": "rigid"}),
    ],
)
def test_usd_passes_the_asset_validator(take: Path, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    from omni.asset_validator import ValidationEngine

    export(take, "usd", tmp_path / name, **options)
    issues = ValidationEngine(init_rules=True).validate(str(tmp_path / name)).issues()
    assert [(issue.severity.name, issue.message) for issue in issues] == []


def test_the_asset_validator_sees_a_planted_fault(take: Path, tmp_path: Path) -> None:
    from omni.asset_validator import ValidationEngine
    from pxr import Usd, UsdGeom

    export(take, "usd", tmp_path / "a.usdc")
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh")).GetExtentAttr().Set([(0, 0, 0), (1, 1, 1)], 3)
    stage.Save()
    assert len(ValidationEngine(init_rules=True).validate(str(tmp_path / "a.usdc")).issues())


@pytest.mark.parametrize(("target", "scale"), [("", 1.0), ("maya", 100.0)])
def test_alembic_read_back(take: Path, tmp_path: Path, target: str, scale: float) -> None:
    from alembic3d import Abc, AbcGeom

    export(take, "abc", tmp_path / "a.abc", target=target)
    archive = Abc.IArchive(str(tmp_path / "a.abc"))
    mesh = AbcGeom.IPolyMesh(archive.getTop().getChild(0), "head_mesh").getSchema()
    assert (mesh.getNumSamples(), mesh.isConstant()) == (len(IDS), False)
    assert mesh.getTopologyVariance() == AbcGeom.MeshTopologyVariance.kHomogenousTopology
    sampling = mesh.getTimeSampling()
    for row, (number, vertices) in enumerate(zip(IDS, truth(), strict=True)):
        assert sampling.getSampleTime(row) == pytest.approx(number / 30, abs=1e-12)
        value = mesh.getValue(Abc.ISampleSelector(float(sampling.getSampleTime(row))))
        got = np.array([tuple(point) for point in value.getPositions()], np.float32)
        assert np.array_equal(got, vertices * np.float32(scale))
    faces = np.array(list(value.getFaceIndices())).reshape(-1, 3)
    assert np.array_equal(faces, head_topology().triangles[:, ::-1])  # Alembic's front faces are clockwise


def test_point_caches_fill_gaps_and_bring_their_mesh(take: Path, tmp_path: Path) -> None:
    result = export(take, "pc2", tmp_path / "a.pc2", start_frame=5)
    data = (tmp_path / "a.pc2").read_bytes()
    assert struct.unpack_from("<12siiffi", data) == (b"POINTCACHE2\0", 1, 142, 5.0, 1.0, 16)
    points = np.frombuffer(data, "<f4", offset=32).reshape(16, 142, 3)
    assert np.array_equal(points[IDS], truth())
    assert np.allclose(points[7], truth()[6] + (truth()[7] - truth()[6]) / 3, atol=1e-6)
    assert result["beside"] == ["a.obj"] and any("interpolated" in note for note in result["notes"])

    export(take, "mdd", tmp_path / "b.mdd")
    data = (tmp_path / "b.mdd").read_bytes()
    assert struct.unpack_from(">ii", data) == (16, 142)
    assert np.allclose(np.frombuffer(data, ">f4", 16, 8), np.arange(16) / 30)
    assert np.array_equal(np.frombuffer(data, ">f4", offset=8 + 64).reshape(16, 142, 3)[IDS], truth())
    lines = (tmp_path / "b.obj").read_text().splitlines()
    base = np.array([line.split()[1:] for line in lines if line.startswith("v ")], np.float32)
    assert np.array_equal(base, truth()[0])


def test_csv_has_the_weights_of_the_take(take: Path, tmp_path: Path) -> None:
    export(take, "csv", tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame_id"]) - 1000 for row in rows] == IDS == [int(row["frame"]) for row in rows]
    for row, number in zip(rows, IDS, strict=True):
        assert [float(row[unit]) for unit in UNITS] == pytest.approx(weights_at(number / 30), abs=1e-6)
        assert sum(float(row[f"head_q{axis}"]) ** 2 for axis in "wxyz") == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("form", "name"), [("csv", "a.csv"), ("gltf", "a.glb"), ("usd", "a.usdc")])
def test_a_take_without_weights_says_so(tmp_path: Path, form: Format, name: str) -> None:
    take = write_head_take(tmp_path / "take", IDS, weights=False)
    morphs = {} if form == "csv" else {"morphs": "arkit"}
    with pytest.raises(TakeError, match="frame 1000 on channel 'mesh' has no expression weights; reprocess"):
        export(take, form, tmp_path / name, **morphs)
    assert [item.name for item in tmp_path.iterdir()] == ["take"]


@pytest.mark.parametrize("target", sorted(AXES))
def test_npz_for_each_program_faces_out_by_its_own_rule(take: Path, tmp_path: Path, target: str) -> None:
    export(take, "npz", tmp_path / "a.npz", target=target)
    with np.load(tmp_path / "a.npz") as data:
        assert np.allclose(data["vertices"], truth() @ AXES[target].matrix.T.astype(np.float32), atol=1e-5)
        points, faces = data["vertices"][0].astype(float), data["triangles"]
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    normals = np.cross(b - a, c - a)
    # Godot and Alembic: clockwise in a right-handed space. Unreal takes (C - A) x (B - A). Unity's two turns cancel.
    rule = -1 if target in ("godot", "alembic", "unreal") else 1
    assert ((((a + b + c) / 3 - points.mean(0)) * normals).sum(1) * rule > 0).all()


@pytest.mark.parametrize(
    ("form", "name"),
    [("npz", "a.npz"), ("pc2", "a.pc2"), ("mdd", "a.mdd"), ("csv", "a.csv"), ("obj", "obj"), ("abc", "a.abc")],
)
def test_meshes_are_let_go(tmp_path: Path, form: Format, name: str) -> None:
    """What Python and numpy hold hardly grows from an early mesh to the last; a mesh that is kept would show."""
    held: list[int] = []

    def note(done: int, total: int) -> None:
        held.append(tracemalloc.get_traced_memory()[0])

    with open_take(write_head_take(tmp_path / "take", range(80))) as opened:
        tracemalloc.start()
        export_take(opened, form, tmp_path / name, on_progress=note)
        tracemalloc.stop()
    assert len(held) == 80
    mesh_bytes = head_mesh(0, 0.0).vertices.nbytes
    assert held[-1] - held[19] < 60 * mesh_bytes / 3


def test_retiming_range_and_speed(take: Path, tmp_path: Path) -> None:
    export(take, "npz", tmp_path / "a.npz", fps=Fraction(60), frames=(1, 4))
    with np.load(tmp_path / "a.npz") as data:
        assert np.array_equal(data["vertices"][::2], truth([1, 2, 3, 4]))
        assert np.allclose(data["vertices"][1], truth([1, 2]).mean(0), atol=1e-7)
        assert data["times_ns"][1] - data["times_ns"][0] == pytest.approx(1e9 / 60, abs=1)
        assert np.linalg.det(data["world_from_head"][:, :3, :3]) == pytest.approx(np.ones(7), abs=1e-5)
    result = export(take, "npz", tmp_path / "b.npz", fps=Fraction(30), speed=0.5, frames=(0, 6))
    assert (result["frames"], result["fps"]) == (13, 30)


def test_rigid_stabilisation_leaves_the_face(take: Path, tmp_path: Path) -> None:
    """The skull stands still, what is left is what the units did; the pose taken out brings the world back."""
    export(take, "npz", tmp_path / "a.npz", stabilise="rigid")
    with np.load(tmp_path / "a.npz") as data:
        still, poses = data["vertices"].astype(float), data["world_from_head"].astype(float)
    back = np.einsum("fij,fnj->fni", poses[:, :3, :3], still) + poses[:, None, :3, 3]
    assert np.abs(back - truth()).max() < 1e-6
    scalp = head_topology().regions["scalp"]
    crown = scalp[np.linalg.norm(unit_shapes()[:, scalp], axis=2).max(0) < 1e-5]
    assert len(crown) > 10
    assert np.ptp(still[:, crown], axis=0).max() < 2e-4 < np.ptp(truth()[:, crown], axis=0).max() / 10
    for row, number in enumerate(IDS):
        shape = head_topology().template + np.tensordot(weights_at(number / 30), unit_shapes(), 1)
        assert nearest_rigid(still[row].astype(np.float32), shape) < 1e-6


def test_filters_calm_noise_and_zero_phase_does_not_lag(tmp_path: Path) -> None:
    take = write_head_take(tmp_path / "take", list(range(60)), fps=60.0, noise_m=3e-4)
    clean = np.stack([head_mesh(0, number / 60).vertices for number in range(60)])
    errors = {}
    for kind in ("none", "zero-phase", "one-euro"):
        export(take, "npz", tmp_path / f"{kind}.npz", filter=kind)
        with np.load(tmp_path / f"{kind}.npz") as data:
            errors[kind] = float(np.sqrt(((data["vertices"] - clean) ** 2).mean()))
            jitter = np.diff(data["vertices"] - clean, 2, axis=0)
            errors[f"{kind} jitter"] = float(np.sqrt((jitter**2).mean()))
    assert errors["zero-phase"] < 0.75 * errors["none"]
    assert errors["zero-phase jitter"] < 0.3 * errors["none jitter"]
    assert errors["one-euro jitter"] < 0.8 * errors["none jitter"]


def test_a_filtered_range_is_the_range_of_the_filtered(take: Path, tmp_path: Path) -> None:
    export(take, "npz", tmp_path / "all.npz", filter="zero-phase", stabilise="rigid")
    export(take, "npz", tmp_path / "part.npz", filter="zero-phase", stabilise="rigid", frames=(4, 9))
    with np.load(tmp_path / "all.npz") as whole, np.load(tmp_path / "part.npz") as part:
        assert np.array_equal(part["vertices"], whole["vertices"][4:10])


@pytest.mark.parametrize(
    ("form", "name", "options", "says"),
    [
        ("usd", "a.fbx", {}, r"has to end in \.usd or \.usdc or \.usda"),
        ("gltf", "a.usd", {}, r"has to end in \.glb or \.gltf"),
        ("npz", "a", {"frames": (3, 14)}, "--frames 3-14: there are 14 meshes, 0 to 13"),
        ("npz", "a", {"target": "cinema"}, "--target 'cinema' is not known; one of: alembic, blender"),
        ("abc", "a.abc", {"target": "godot"}, "no preset of abc for godot; --target godot goes with: npz, gltf, obj"),
        ("obj", "a", {"morphs": "pca"}, "--morphs pca: format obj knows none"),
        ("usd", "a.usdc", {"morphs": "pca"}, "--morphs pca: format usd knows none, arkit"),
        ("nersemble", "a", {}, "holds no pictures"),
        ("nersemble", "a", {"filter": "one-euro"}, "are for meshes"),
    ],
)
def test_wrong_wishes_are_one_line_and_leave_nothing(
    take: Path, tmp_path: Path, form: Format, name: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(TakeError, match=says) as error:
        export(take, form, tmp_path / "deep" / name, **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "deep").exists() or list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(
    "options", [{"name": "a b"}, {"speed": 0.0}, {"components": 0}, {"fps": Fraction(1, 1000)}, {"cutoff_hz": -1.0}]
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(TakeError):
        ExportOptions(**options)


@pytest.mark.parametrize(
    ("form", "name"), [("usd", "a.usdc"), ("abc", "a.abc"), ("gltf", "a.glb"), ("pc2", "a.pc2"), ("csv", "a.csv")]
)
def test_a_place_that_cannot_be_written_is_one_line(take: Path, tmp_path: Path, form: Format, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TakeError, match="cannot be written"):
        export(take, form, tmp_path / "file" / name)
    assert (tmp_path / "file").read_text() == "in the way"


def test_files_beside_are_guarded_and_replaced_together(take: Path, tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("mine")
    with pytest.raises(TakeError, match=r"a\.obj exists already; give --force"):
        export(take, "pc2", tmp_path / "a.pc2")
    assert not (tmp_path / "a.pc2").exists()
    export(take, "pc2", tmp_path / "a.pc2", force=True)
    assert (tmp_path / "a.obj").read_text() != "mine"
    for _ in range(2):
        export(take, "usd", tmp_path / "b.usdc", clip_frames=4, force=True)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.obj", "a.pc2", "b.clips", "b.usdc", "take"]


@pytest.mark.parametrize(("form", "name", "module"), [("usd", "a.usdc", "pxr"), ("abc", "a.abc", "alembic3d")])
def test_a_missing_library_names_the_extra(
    take: Path, tmp_path: Path, form: Format, name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"pip install 'mien\[export\]'"):
        export(take, form, tmp_path / name)
    assert [item.name for item in tmp_path.iterdir()] == ["take"]


def test_gltf_keeps_every_vertex_and_its_texture(take: Path, tmp_path: Path) -> None:
    result = export(take, "gltf", tmp_path / "a.gltf", tolerance_mm=0.005)
    document = json.loads((tmp_path / "a.gltf").read_text())
    import base64

    buffer = base64.b64decode(document["buffers"][0]["uri"].split(",")[1])

    def read(index: int) -> np.ndarray:
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        return np.frombuffer(buffer, kind, view["byteLength"] // 4, view["byteOffset"]).reshape(accessor["count"], -1)

    primitive = document["meshes"][0]["primitives"][0]
    ids = read(primitive["attributes"]["_VERTEX"])[:, 0].astype(int)
    uv, faces = read(primitive["attributes"]["TEXCOORD_0"]), read(primitive["indices"])[:, 0].reshape(-1, 3)
    topology = head_topology()
    assert np.array_equal(ids[faces], topology.triangles)
    assert np.allclose(uv[faces] * [1, -1] + [0, 1], topology.uv[topology.uv_triangles], atol=1e-6)
    assert (result["morphs"], result["error_mm"]["max"] <= 0.01) == ("pca", True)


def test_presets_that_mirror_are_not_among_the_exchange_formats() -> None:
    from streamer.exports.presets import PRESETS

    for form, table in PRESETS.items():
        for target, preset in table.items():
            right_handed = np.linalg.det(preset.axes.matrix) > 0
            assert right_handed or form == "npz", f"{form} for {target} would come out mirrored"
    assert np.array_equal(PRESETS["usd"]["unreal"].axes.matrix, signed_axes(("x", "-z", "y"), 100.0).matrix)
