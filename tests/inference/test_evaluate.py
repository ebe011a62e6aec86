"""The figures of a model, the mean head's beside them, and what a stand-in network must score by construction."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.bench import BenchOptions, bench_model
from inference.evaluation.curve_picture import save_curves
from inference.evaluation.evaluate import EvaluateOptions, evaluate, find_takes, table
from inference.evaluation.figures import Openings, find_gaps
from inference.expressions import unpack_basis
from inference.meshes import SurfaceMesh, write_obj
from inference.model_store import ModelFiles, load_model
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.errors import ConfigError, TakeError
from streamer.types import F32, U8
from tests.inference.fake_network import FakeNetwork, Result
from tests.inference.makers import ring, tiny_model
from tests.inference.takes import write_take


class Oracle(FakeNetwork):
    """Gives the true heads in turn, larger by `excess`; `views` collects how many pictures it saw."""

    def __init__(self, excess: float, views: list[tuple[int, ...]], *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self._excess, self._views, self._number = excess, views, 0

    def run(self, pictures: U8, mask: F32) -> Result:
        shift = np.array([0.01 * self._number, 0, 0], np.float32)
        self._number += 1
        self._views.append(tuple(np.flatnonzero(mask)))
        return Result(self._template * np.float32(1 + self._excess) + shift, np.eye(4, dtype=np.float32))


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    return tiny_model(tmp_path / "tiny")


def run(model: ModelFiles, takes: Path, options: EvaluateOptions, excess: float) -> tuple[dict, list[tuple[int, ...]]]:  # type: ignore[type-arg]
    views: list[tuple[int, ...]] = []
    return evaluate([takes], model, options, network=partial(Oracle, excess, views)), views


def test_figures_are_those_of_geometry_beside_the_mean_head(model: ModelFiles, tmp_path: Path) -> None:
    """The truth is an octahedron of 110 mm, the network gives 101 mm, the mean head has 100 mm."""
    write_take(tmp_path / "takes" / "one", scale=1.1)
    result, _ = run(model, tmp_path / "takes", EvaluateOptions(threads=1), 0.01)
    for figures, radius in ((result["regions"], 101.0), (result["template"]["regions"], 100.0)):
        # The nearest point to a tip is the tip of the smaller one: both distances are the difference of the radii.
        for name in ("head", "face", "back"):
            for key in ("median_mm", "mean_mm", "p90_mm", "vertex_median_mm", "vertex_mean_mm", "vertex_p90_mm"):
                assert figures[name][key] == pytest.approx(110 - radius, abs=1e-3)
    better = pytest.approx(10 / 9, abs=1e-3)
    assert result["beats_template"] == {"surface": better, "vertex": better}
    assert (result["takes"], result["sets"], result["meshes"], result["failed"]) == (1, 6, 6, 0)
    assert result["jitter_mm"] == pytest.approx(0, abs=1e-3) and result["views"] == 8
    text = table(result)
    assert "9.00 (10.00)" in text and "face" in text


def test_cameras_are_left_out_by_turns_or_for_good(model: ModelFiles, tmp_path: Path) -> None:
    write_take(tmp_path / "take", sets=12, calibration=ring(4))
    result, views = run(model, tmp_path / "take", EvaluateOptions(threads=1, drop_cameras=2), 0.0)
    assert result["views"] == 2 and sorted(views) == sorted(2 * [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
    result, views = run(model, tmp_path / "take", EvaluateOptions(threads=1, views=2), 0.0)
    assert result["views"] == 2 and set(views) == {(0, 1)}  # two cameras: the first two slots
    result, views = run(model, tmp_path / "take", EvaluateOptions(threads=1, stride=5), 0.0)
    assert result["sets"] == 3 and result["jitter_mm"] is None
    for options, message in (
        (EvaluateOptions(threads=1, drop_cameras=4), "leave none"), (EvaluateOptions(threads=1, views=5), "4 cameras"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            run(model, tmp_path / "take", options, 0.0)


def test_takes_without_truth_and_folders_without_takes_are_named(model: ModelFiles, tmp_path: Path) -> None:
    write_take(tmp_path / "take", sets=1, truth=False)
    with pytest.raises(TakeError, match="no true meshes"):
        run(model, tmp_path / "take", EvaluateOptions(threads=1), 0.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TakeError, match="empty: no take here"):
        find_takes([tmp_path / "empty"])


def test_bench_gives_the_figures_it_promises(model: ModelFiles) -> None:
    options = BenchOptions(threads=1, views=3, width=64, height=48, meshes=4)
    result = bench_model(model, options, network=FakeNetwork)
    assert (result["engine"], result["precision"], result["views"]) == ("openvino", "f32", 3)
    assert result["cpu_s_per_mesh"] >= 0
    assert all(
        result[key] > 0
        for key in ("wall_s_per_mesh", "meshes_per_s", "overlap_gain", "overlap_ideal", "peak_memory_mb")
    )
    assert set(result["stages_ms"]) == {"prepare", "network", "network.run", "network.check"}
    with pytest.raises(ConfigError, match="--views 0"):
        bench_model(model, BenchOptions(views=0), network=FakeNetwork)


def test_scans_of_another_topology_are_a_truth_too(model: ModelFiles, tmp_path: Path) -> None:
    """The scan is the octahedron of 110 mm with every face divided: no vertex of it is one of the mesh's."""
    write_take(tmp_path / "take", sets=2, truth=False)
    scans = tmp_path / "scans"
    scans.mkdir()
    octahedron, triangles = model.topology.template * 1.1, model.topology.triangles
    for k in range(2):
        corners = octahedron[triangles].reshape(-1, 3)
        centres = octahedron[triangles].mean(1)
        a = np.arange(len(triangles)) * 3
        c = len(corners) + np.arange(len(triangles))
        faces = np.concatenate([np.stack([a + i, a + (i + 1) % 3, c], 1) for i in range(3)])
        points = np.concatenate([corners, centres]) + np.array([0.01 * k, 0, 0])
        scan = SurfaceMesh((points * 1000).astype(np.float32), faces.astype(np.int32))
        write_obj(scans / f"{k:06d}.obj", scan, "millimetres")
    result, _ = run(model, tmp_path / "take", EvaluateOptions(threads=1, scans=scans), 0.1)
    assert result["meshes"] == 2 and result["template"]["posed_by"] == "network"
    assert "vertex_median_mm" not in result["regions"]["head"] and result["jitter_mm"] is None
    for figures in (result["regions"], result["mesh_to_scan"]):
        assert figures["head"]["p90_mm"] == pytest.approx(0, abs=1e-3)
    metres = EvaluateOptions(threads=1, scans=scans, scan_unit="m")
    with pytest.raises(TakeError, match="--scan-unit mm"):
        run(model, tmp_path / "take", metres, 0.1)
    with pytest.raises(TakeError, match="no scan here"):
        run(model, tmp_path / "take", EvaluateOptions(threads=1, scans=tmp_path / "none"), 0.1)
    write_obj(scans / "000001.obj", SurfaceMesh(scan.vertices, scan.triangles[:0]), "a cloud of points")
    with pytest.raises(TakeError, match=r"000001\.obj: the scan has no triangles"):
        run(model, tmp_path / "take", EvaluateOptions(threads=1, scans=scans), 0.1)


def test_a_part_that_a_network_has_not_got_cannot_be_left_out(model: ModelFiles, tmp_path: Path) -> None:
    write_take(tmp_path / "take", sets=1)
    with pytest.raises(ConfigError, match="not one of Mien's own"):
        run(model, tmp_path / "take", EvaluateOptions(threads=1, ablate="localizer"), 0.0)
    with pytest.raises(ConfigError, match="no second stage"):
        evaluate([tmp_path / "take"], load_model("live"), EvaluateOptions(threads=1, ablate="point-to-surface"))


def test_the_curve_rises_to_all_points_and_is_drawn(model: ModelFiles, tmp_path: Path) -> None:
    write_take(tmp_path / "take", sets=2, scale=1.003)
    result, _ = run(model, tmp_path / "take", EvaluateOptions(threads=1), 0.0)
    distances, share = result["curve"]["mm"], result["curve"]["share"]["head"]
    assert share[distances.index(0.2)] == 0 and share[distances.index(0.4)] == 1  # 0.3 mm off everywhere
    assert result["coverage"]["views"] == {"8": 2} and set(result["coverage"]["cameras"].values()) == {1.0}
    save_curves(tmp_path / "deep" / "curve.png", "title", distances, result["curve"]["share"])
    picture = cv2.imread(str(tmp_path / "deep" / "curve.png"))
    assert picture is not None and (picture < 100).any(2).sum() > 200


def test_openings_are_found_from_the_units_and_compared() -> None:
    shipped = load_model("live")
    basis = unpack_basis(shipped.constants)
    assert basis is not None
    template, units = shipped.topology.template, list(shipped.topology.units)
    gaps = {gap.name: gap for gap in find_gaps(shipped.topology, basis.at, basis.units)}
    lips = shipped.topology.regions["lips"]
    assert {gaps["mouth"].moving, gaps["mouth"].resting} <= set(lips.tolist())  # what is seen, not the mouth's bag
    openings = Openings()
    for strength in np.linspace(0, 1, 5):
        moved = {}
        for unit in ("eyeBlinkLeft", "jawOpen"):
            for share in (1.0, 0.5):  # the truth, and a mesh that moves half as far
                mesh = moved.setdefault(share, template.astype(np.float64).copy())
                mesh[basis.at] += share * strength * basis.units[units.index(unit)] / 1000
        openings.add(list(gaps.values()), moved[1.0], moved[0.5])
    found = openings.summary()
    assert found["mouth"]["slope"] == pytest.approx(0.5, abs=0.03) and found["mouth"]["true_range_mm"] > 20
    assert found["eye_left"]["slope"] == pytest.approx(0.5, abs=0.2) and found["eye_left"]["true_range_mm"] > 6
    assert "eye_right" not in found  # it never moved


def test_the_second_stage_is_nearer_than_the_first(tmp_path: Path) -> None:
    """A person whom no training saw, with the models as they ship."""
    rig = replace(RigConfig(), simulated=SimulatedConfig(width=640, height=480, seed=1003), fps=2.0)
    simulate_takes(tmp_path / "take", rig, takes=1, frames=2, world="demo")
    faces = {}
    for name in ("live", "reprocess"):
        result = evaluate([tmp_path / "take"], load_model(name), EvaluateOptions(threads=1))
        faces[name] = result["regions"]["face"]
        assert result["beats_template"]["surface"] > 1.3
    assert faces["reprocess"]["median_mm"] < 0.8
    assert faces["reprocess"]["median_mm"] < 0.85 * faces["live"]["median_mm"]
    assert faces["reprocess"]["vertex_median_mm"] < faces["live"]["vertex_median_mm"]
