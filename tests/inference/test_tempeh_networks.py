"""The networks: what training shows them is what the live path shows them, and engines agree with torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.engines import open_engine
from inference.schedule import PICTURES, run_in_order
from inference.tempeh import frames, thumbs
from inference.tempeh.export import GraphSpec, export_graphs, graph_specs
from inference.tempeh.layout import THUMB_SPAN_MM, LiveConstants, chosen_vertices, head_points
from inference.tempeh.live import LiveNetwork
from inference.tempeh.localiser import Localiser
from inference.tempeh.shape import Fit, ShapePrior
from inference.training.dataset import Corpus
from inference.training.samples import head_sample, stage_sample
from inference.training.tasks import HeadNet
from streamer.types import Camera
from tests.inference.tiny_corpus import tiny_corpus

VIEWS = 5


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus(2, VIEWS)


@pytest.fixture(scope="module")
def specs(corpus: Corpus) -> dict[str, GraphSpec]:
    torch.manual_seed(0)
    template = corpus.topology.template * np.float32(1000)
    controls = chosen_vertices(corpus.topology)[1]
    head = HeadNet(head_points(template), template[controls])
    torch.nn.init.normal_(head.coarse.query, std=0.5)  # peaked attention: rounding shows
    return graph_specs(Localiser().eval(), head.features.eval(), head.coarse.eval(), VIEWS)


@pytest.fixture(scope="module")
def exported(specs: dict[str, GraphSpec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    export_graphs(specs, folder)
    return folder


def test_exported_graphs_agree_with_torch(specs: dict[str, GraphSpec], exported: Path) -> None:
    engine = open_engine("openvino", threads=1)
    rng = np.random.default_rng(0)
    for name, spec in specs.items():
        inputs = {key: rng.uniform(-1, 1, shape).astype(np.float32) for key, shape in spec.inputs.items()}
        if "weight" in inputs:
            inputs["weight"] = (inputs["weight"] > 0).astype(np.float32)
        got = engine.compile(exported / f"{name}.onnx", precision="f32").run(inputs)[spec.output]
        with torch.no_grad():
            wanted = spec.module(*(torch.from_numpy(value) for value in inputs.values())).numpy()
        # weights of nets are stored in float16 (2^-11 relative, averaged over the layers); geometry only rounds float32
        tolerance = (4e-3 if spec.precision == "net" else 3e-5) * float(np.abs(wanted).max())
        assert got.shape == wanted.shape, name
        assert np.abs(got - wanted).max() < tolerance, name


def test_large_weights_are_stored_in_half_the_space(specs: dict[str, GraphSpec], exported: Path) -> None:
    for name, spec in specs.items():
        count = sum(p.numel() for p in spec.module.parameters())
        own = (exported / f"{name}.onnx").stat().st_size
        if spec.precision == "net" and name != "keys":  # `keys` owns the query of `attend` as well
            assert own < 2.3 * count + 40_000, name


class Recorder:
    """Stands for a compiled graph: keeps its inputs, answers with zeros."""

    def __init__(self, output: str, shape: tuple[int, ...]) -> None:
        self.output, self.shape = output, shape
        self.inputs: dict[str, np.ndarray] = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.inputs = {name: np.array(value) for name, value in inputs.items()}
        return {self.output: np.zeros(self.shape, np.float32)}


@pytest.fixture
def live(corpus: Corpus) -> tuple[LiveNetwork, dict[str, Recorder]]:
    landmarks, controls, looked_at = chosen_vertices(corpus.topology)
    template = np.asarray(corpus.topology.template * np.float32(1000))
    basis = np.random.default_rng(0).normal(0, 1, (*template.shape, 4)).astype(np.float32)
    untaught = 50.0  # mm that landmarks err by: what it finds is not asked whether it is a head
    constants = LiveConstants(
        ShapePrior(template, basis), template, corpus.topology.triangles, landmarks, controls, looked_at, untaught, 5.0
    )
    voxels = (1, 34, 16, 16, 16)
    graphs = {
        "thumbs": Recorder("features", (VIEWS, 16, 30, 40)),
        "stage": Recorder("volume", voxels),
        "heat": Recorder("heat", (1, 24, 4096)),
        "features": Recorder("features", (VIEWS, 16, 56, 48)),
        "volume": Recorder("volume", (1, 37, 16, 16, 16)),
        "keys": Recorder("keys", (1, 32, 4096)),
        "attend": Recorder("controls", (1, len(controls), 3)),
    }
    cameras = []
    for view in range(VIEWS):
        pose, k = np.eye(4), np.eye(3)
        pose[:3], k[:2] = corpus.camera_from_world[0, view], corpus.K[0, view]
        pose[:3, 3] /= 1000
        cameras.append(Camera(f"c{view}", "s", *corpus.size, k, corpus.distortion[0, view], pose))
    return LiveNetwork(constants, graphs, cameras, VIEWS), graphs


def pictures(corpus: Corpus) -> np.ndarray:
    return np.stack([corpus.picture(0, view) for view in range(VIEWS)])


@pytest.mark.parametrize("missed", [None, (12.0, -7.0, 20.0)], ids=["first look", "second look"])
def test_the_localiser_sees_live_what_it_was_trained_on(
    corpus: Corpus, live: tuple[LiveNetwork, Any], missed: tuple[float, float, float] | None
) -> None:
    network, graphs = live
    landmarks = chosen_vertices(corpus.topology)[0]
    shown, mask = pictures(corpus), np.ones(VIEWS, np.float32)
    if missed is None:
        network._look(shown, mask, network._whole, network._first_grid, np.zeros(3))
        trained = stage_sample(corpus, 0, np.arange(VIEWS), landmarks, np.eye(4))
    else:
        rig_from_head = np.linalg.inv(network._world_from_rig) @ corpus.world_from_head[0]
        centre = rig_from_head[:3, 3] + missed
        windows = thumbs.around(network._views, centre, THUMB_SPAN_MM)
        network._look(shown, mask, windows, network._stage_grid(windows, centre), centre)
        trained = stage_sample(corpus, 0, np.arange(VIEWS), landmarks, np.eye(4), np.array(missed))
    np.testing.assert_allclose(graphs["thumbs"].inputs["thumbs"], trained["thumbs"], atol=1e-6)
    np.testing.assert_allclose(graphs["stage"].inputs["grid"], trained["grid"], atol=1e-5)
    assert (graphs["stage"].inputs["weight"] != trained["weight"]).mean() < 1e-4  # a voxel on the very edge may round


def test_a_window_and_its_camera_agree(corpus: Corpus) -> None:
    """A blob at a known place lies in the thumbnail where its camera says, also for a window beyond the picture."""
    views = corpus.cameras(0, range(VIEWS))
    spot = corpus.vertices[0].mean(0).astype(np.float64)
    y, x = np.mgrid[0 : views.size[1], 0 : views.size[0]]
    for aside in ((0.0, 0.0, 0.0), (60.0, 40.0, 0.0), (0.0, -110.0, 30.0)):
        centre = spot + np.array(aside)
        windows = thumbs.around(views, centre, 420.0)
        wanted = frames.project_all(thumbs.thumb_views(views, windows), spot[None])[:, 0]
        for view, pixel in enumerate(frames.project_all(views, spot[None])[:, 0]):
            blob = np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / 40.0)
            picture = np.repeat((blob * 255)[..., None], 3, 2).astype(np.uint8)
            small = thumbs.shrink(picture, windows[view])[..., 0].astype(float)
            rows, columns = np.mgrid[0 : small.shape[0], 0 : small.shape[1]]
            found = np.array([(columns * small).sum(), (rows * small).sum()]) / small.sum()
            np.testing.assert_allclose(found, wanted[view], atol=0.1)  # 8-bit quantisation of the blob


def test_the_head_nets_see_live_what_they_were_trained_on(corpus: Corpus, live: tuple[LiveNetwork, Any]) -> None:
    network, graphs = live
    rig_from_world = np.linalg.inv(network._world_from_rig)
    located = Fit(rig_from_world @ corpus.world_from_head[0], np.zeros(4))
    crop_to_coarse = [stage for stage in network.stages() if stage.name in ("crop", "features", "coarse")]
    run_in_order(crop_to_coarse, {PICTURES: (pictures(corpus), np.ones(VIEWS, np.float32)), "located": located})
    controls = chosen_vertices(corpus.topology)[1]
    points = head_points(np.asarray(corpus.topology.template * np.float32(1000)))
    rng = np.random.default_rng(0)
    trained = head_sample(corpus, 0, np.arange(VIEWS), np.eye(4), points, controls, rng)
    # warpAffine works in 1/32 px: a transform that differs by 1e-12 may move a sample by one of these steps
    difference = np.abs(graphs["features"].inputs["crops"] - trained["crops"])
    assert np.percentile(difference, 99) < 0.05
    np.testing.assert_allclose(graphs["volume"].inputs["grid"], trained["grid"], atol=1e-4)
    assert (graphs["volume"].inputs["weight"] != trained["weight"]).mean() < 1e-3


@pytest.mark.parametrize(
    ("depths_mm", "looks"),
    [
        ([0.0], 1),  # pictures that show a head as large as a closer look would
        ([-3000.0, -3010.0], 2),  # far off, hence small: one closer look, which moves it by 10 mm
        ([-3000.0, -3100.0, -3090.0], 3),
        ([-3000.0, -3100.0, -3000.0, -3100.0, -3000.0], 5),  # never settles
    ],
)
def test_it_looks_closer_until_the_head_stays(
    corpus: Corpus, live: tuple[LiveNetwork, Any], monkeypatch: pytest.MonkeyPatch, depths_mm: list[float], looks: int
) -> None:
    network, seen = live[0], []

    def look(*arguments: Any) -> Fit:
        pose = np.eye(4)
        pose[2, 3] = depths_mm[len(seen)]
        seen.append(arguments[4])
        return Fit(pose, np.zeros(4))

    monkeypatch.setattr(network, "_look", look)
    found = network._locate(pictures(corpus), np.ones(VIEWS, np.float32))
    assert len(seen) == looks
    assert found.a_from_head[2, 3] == depths_mm[looks - 1]
    assert [float(centre[2]) for centre in seen] == [0.0, *depths_mm[: looks - 1]]


def test_a_missing_view_counts_nowhere(corpus: Corpus, live: tuple[LiveNetwork, Any]) -> None:
    network, graphs = live
    shown, mask = pictures(corpus), np.ones(VIEWS, np.float32)
    shown[2], mask[2] = 0, 0
    result = network.run(shown, mask)
    assert np.isfinite(result.vertices).all()
    for graph, name in (("stage", "weight"), ("volume", "weight"), ("thumbs", "thumbs"), ("features", "crops")):
        assert not graphs[graph].inputs[name][2].any(), graph
        assert graphs[graph].inputs[name][1].any(), graph


def test_the_result_is_in_metres_in_the_world(corpus: Corpus, live: tuple[LiveNetwork, Any]) -> None:
    network, _ = live
    result = network.run(pictures(corpus), np.ones(VIEWS, np.float32))
    pose = result.world_from_head.astype(np.float64)
    local = (result.vertices - pose[:3, 3]) @ pose[:3, :3]
    assert np.ptp(local, axis=0) == pytest.approx(np.ptp(corpus.topology.template, axis=0), rel=0.2)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0, abs=1e-5)
    assert frames.MM == 1000.0
