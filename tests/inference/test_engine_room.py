"""What stands on the engines: the live network on a GPU that is not there, exports, and the table of engines."""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import mien
from inference import parity as table_of_engines
from inference.engines import open_engine
from inference.manifest import Provenance
from inference.model_export import HALVES, ExportOptions, export_model
from inference.model_store import ModelFiles, load_model, save_model
from inference.networks import compile_graphs
from inference.parity import Row, measured, parity, table
from inference.pipeline import Outcome, Pipeline
from inference.published import published_cameras
from inference.reconstruct import Reconstructor
from inference.stand_in import drawn, stand_in_rig, stand_in_sets
from inference.tempeh.export import export_graphs
from inference.tempeh.gpu import bench
from inference.tempeh.gpu.bench import bench_on_device
from inference.tempeh.gpu.run import open_cuda_network
from inference.tempeh.published import export
from inference.tempeh.published import parity as published
from inference.tempeh.published.export import cpu_graphs
from inference.tempeh.published.seeded import round_head
from inference.tempeh.published.sizes import FULL
from inference.tempeh.published.store import load_coarse, load_refine, published_parts
from inference.tempeh.published.weights import initial_coarse, initial_refine, stir
from streamer.errors import ConfigError, EngineError, MissingExtra, ModelError
from streamer.types import FrameSet, MeshFrame, Topology
from tests.inference.fake_gpu.install import Libraries, install
from tests.inference.fake_gpu.machine import Machine
from tests.inference.takes import write_take

SIZES = replace(
    FULL, vertices=72, trunk_channels=(8, 12, 16, 24), trunk_blocks=(1, 1, 1, 1), grid=8, step_mm=100.0,
    localiser_channels=8, localiser_hidden=16, coarse_levels=(32, 64), coarse_back=(64, 48),
)  # fmt: skip


def nothing(done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    return Libraries(tmp_path_factory.mktemp("libraries"))


@pytest.fixture
def machine(libraries: Libraries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine()
    install(machine, libraries, tmp_path, monkeypatch)
    yield machine
    machine.check_fences()
    assert machine.faults == []


@pytest.fixture(scope="module")
def live() -> ModelFiles:
    return load_model("live")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A published model with the release's refinement behind narrow nets."""
    template, triangles = round_head(SIZES.vertices)
    coarse = initial_coarse(SIZES, seed=1, quirks=True)
    stir(coarse, seed=2, peak=30.0)
    refine = initial_refine(SIZES, template, triangles, seed=3, quirks=True)
    stir(refine, seed=4, peak=10.0)
    topology = Topology(
        "round-head", triangles, np.zeros((1, 2), np.float32), np.zeros_like(triangles), template / np.float32(1000)
    )
    weights = {
        name: {k: v.numpy() for k, v in s.state_dict().items()} for name, s in (("coarse", coarse), ("refine", refine))
    }
    parts = published_parts("narrow", topology, SIZES, weights, Provenance("test"), quirks=True)
    return save_model(tmp_path_factory.mktemp("small") / "model", replace(parts, width=96, height=64, max_views=4))


def test_the_stand_in_is_a_head_in_every_picture(live: ModelFiles) -> None:
    calibration = stand_in_rig(8, 320, 240)
    for camera in calibration.cameras:
        picture = drawn(live.topology, live.topology.template, camera)
        rest = drawn(replace(live.topology), live.topology.template + np.float32(5), camera)
        covered = (picture != rest).any(-1)
        assert 0.05 < covered.mean() < 0.5 and not covered[0].any() and picture[covered].std() > 15


def test_the_live_network_on_a_gpu_gives_the_cpus_vertices(live: ModelFiles, machine: Machine) -> None:
    """The production pipeline, three threads on the lanes of one engine; a second start takes its plans."""
    calibration = stand_in_rig(8, live.width, live.height)
    sets = stand_in_sets(live.topology, calibration, 3)
    meshes: dict[str, list[MeshFrame]] = {}
    for engine in ("openvino", "tensorrt"):
        outcomes: list[Outcome[FrameSet, MeshFrame]] = []
        with Reconstructor(live, calibration, engine, "f32", 1) as reconstructor:
            pipeline: Pipeline[FrameSet, MeshFrame] = Pipeline(reconstructor.stages, outcomes.append, mode="every")
            for frame_set in sets:
                pipeline.submit(frame_set)
            pipeline.close(drain=True)
            assert reconstructor.precision == "f32"
        assert [outcome.error for outcome in outcomes] == [None] * 3
        meshes[engine] = [outcome.result for outcome in outcomes]  # type: ignore[misc]
    for ours, theirs in zip(meshes["tensorrt"], meshes["openvino"], strict=True):
        assert np.linalg.norm(ours.vertices - theirs.vertices, axis=1).max() < 2e-5
    built = machine.counts["build"]
    compile_graphs(live, "tensorrt", "f32", 1)
    assert machine.counts["build"] == built == len(live.graphs)


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_an_export_is_what_its_manifest_says(precision: Any, live: ModelFiles, tmp_path: Path) -> None:
    assert mien.main(["model", "export", "live", "--out", str(tmp_path / "out"), "--precision", precision]) == 0
    manifest = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (
        manifest["model_id"] == live.id and manifest["views"] == 8 and manifest["graphs"].keys() == live.graphs.keys()
    )
    for name, entry in manifest["graphs"].items():
        content = (tmp_path / "out" / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        halves = [
            n for n in onnx.load_from_string(content).graph.node if n.op_type == "Cast" and n.attribute[0].i == 10
        ]
        wanted = precision if live.graphs[name].precision == "net" else "f32"
        assert entry["precision"] == wanted and bool(halves) == (wanted == "f16")
        graph = open_engine("torch", threads=1).compile(tmp_path / "out" / entry["file"])
        assert {n: list(s.shape) for n, s in graph.inputs.items()} == entry["inputs"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_what_cannot_be_exported_is_said(live: ModelFiles, small: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for model, out, options, message in (
        (live, "there", ExportOptions(), "exists already"),
        (live, "new", ExportOptions(views=5), "made for 8 views"),
        (live, "new", ExportOptions(size=(64, 48)), "takes 320x240"),
        (small, "new", ExportOptions(views=1), "two views or more"),
        (small, "new", ExportOptions(size=(97, 64)), "must be even"),
    ):
        with pytest.raises(ModelError, match=message):
            export_model(model, tmp_path / out, options, nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_published_model_is_compared_in_every_engine(
    small: ModelFiles, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Export, the CUDA path on what was exported, the compiled path, and float16 as a GPU rounds it."""
    graphs = tmp_path / "graphs"
    graphs.mkdir()
    monkeypatch.setattr(export, "LOCAL_BATCH", 40)
    cases = (("openvino", "f32"), ("openvino", "bf16"), ("torch", "f16"), ("tensorrt", "f16"))
    monkeypatch.setattr(table_of_engines, "CASES", cases)  # float32 on a GPU: test_cuda_path.py
    export_graphs(cpu_graphs(load_coarse(small), load_refine(small), (64, 96), 2), graphs)
    monkeypatch.setattr(published, "prepared", lambda folder: (small, graphs))
    found = parity(small, 1, nothing)
    rows = {(row["engine"], row["precision"]): row for row in found["rows"]}
    assert rows["openvino", "bf16"]["skipped"] and found["views"] == 4
    assert rows["openvino", "f32"]["max_mm"] < 0.6, rows
    for case in (("torch", "f16"), ("tensorrt", "f16")):
        assert 0 < rows[case]["median_mm"] < 0.5, rows
    out = tmp_path / "exported"
    manifest = export_model(small, out, ExportOptions("f16"), nothing)
    assert {name for name, entry in manifest["graphs"].items() if entry["precision"] == "f16"} == HALVES
    (out / "export.json").write_text(json.dumps(manifest | {"model_id": "0" * 16}))
    with pytest.raises(ModelError, match="export them again"):
        open_cuda_network(small, out, published_cameras(stand_in_rig(4, 96, 64).cameras))


def test_the_bench_of_a_gpu_gives_the_figures_it_promises(
    small: ModelFiles, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "LOCAL_BATCH", 80)
    monkeypatch.setattr(bench, "SLOTS", 1)
    result = bench_on_device(small, precision="auto", views=2, meshes=1, from_template=True)
    assert (result["model"], result["engine"], result["precision"], result["views"]) == ("narrow", "tensorrt", "f32", 2)
    assert all(result[key] > 0 for key in ("cpu_s_per_mesh", "wall_s_per_mesh", "meshes_per_s", "overlap_gain"))
    assert set(result["latency_ms"]) == {"p50", "p95", "p99"} and "refine" in result["stages_ms"]
    with pytest.raises(ConfigError, match="--views 1"):
        bench_on_device(small, precision="f32", views=1, meshes=1, from_template=True)


def test_what_cannot_run_is_a_row_with_the_reason() -> None:
    zero = [np.zeros((4, 3), np.float32)]

    def run(engine: str, precision: str) -> list[np.ndarray]:
        if engine == "tensorrt":
            raise MissingExtra("tensorrt", "gpu")
        if precision == "bf16":
            raise EngineError("this CPU does not list BF16")
        return [zero[0] + np.float32(0.001)]

    rows = {(row.engine, row.precision): row for row in measured(run, zero, nothing)}
    assert rows["openvino", "f32"] == Row("openvino", "f32", 1.73205, 1.73205)
    assert "BF16" in rows["openvino", "bf16"].skipped and "mien[gpu]" in rows["tensorrt", "f16"].skipped
    text = table({"reference": "torch f32", "sets": 1, "views": 2, "skipped": "", "rows": [
        asdict(row) for row in rows.values()]})  # fmt: skip
    assert "median 1.7321  max 1.7321 mm" in text and "pip install 'mien[gpu]'" in text


def test_mien_model_check_tells_the_table(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_of_engines, "CASES", (("openvino", "f32"), ("torch", "f16"), ("tensorrt", "f32")))
    assert mien.main(["model", "check", "live", "--sets", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {(row["engine"], row["precision"]): row for row in told["parity"]["rows"]}
    assert told["ok"] and told["compiled"].keys() == told["graphs"].keys()
    assert rows["openvino", "f32"]["max_mm"] < 0.02 and rows["tensorrt", "f32"]["max_mm"] == 0
    assert 0 < rows["torch", "f16"]["max_mm"] < 0.2


@pytest.mark.parametrize("verb", [["bench", "model", "full"], ["reprocess", "take", "--out", "new"]])
def test_an_engine_that_is_not_here_is_told_at_once(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.chdir(tmp_path)
    if verb[0] == "reprocess":
        write_take(tmp_path / "take", sets=1)
    assert mien.main([*verb, "--engine", "tensorrt"]) == 1
    assert "'tensorrt' is not installed; run: pip install 'mien[gpu]'" in capsys.readouterr().err
