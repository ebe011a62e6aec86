"""The figures of a model, the mean head's beside them, and what a stand-in network must score by construction."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from inference.bench import BenchOptions, bench_model
from inference.evaluate import EvaluateOptions, evaluate, find_takes, table
from inference.model_store import ModelFiles
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
    assert all(result[key] > 0 for key in ("wall_s_per_mesh", "meshes_per_s", "overlap_gain", "peak_memory_mb"))
    assert set(result["stages_ms"]) == {"prepare", "network", "network.run", "network.check"}
    with pytest.raises(ConfigError, match="--views 0"):
        bench_model(model, BenchOptions(views=0), network=FakeNetwork)
