"""The published network's CUDA path, end to end on a GPU that is not there: the production pipeline, kernels and all.

The machine does work as late as CUDA allows, so what was not waited for is not there yet; kernels run as C++, graphs
in torch. Vertices must be those of the CPU path, which has other code for everything but the weights.
"""

import gc
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.devices.cpu import CpuDevice
from inference.engines import open_engine
from inference.engines.tensorrt import TensorRtEngine
from inference.pipeline import Outcome, Pipeline
from inference.schedule import ITEM, PICTURES, Access, Stage
from inference.tempeh.compiled.network import PublishedCameras, PublishedNetwork, PublishedParts, PublishedResult
from inference.tempeh.export import export_graphs
from inference.tempeh.gpu.network import GRAPHS, CudaPublishedNetwork
from inference.tempeh.published import export
from inference.tempeh.published.export import cpu_graphs, gpu_graphs
from inference.tempeh.published.seeded import round_head
from inference.tempeh.published.sizes import FULL
from inference.tempeh.published.weights import initial_coarse, initial_refine, stir
from streamer.errors import CalibrationError, EngineError, MissingExtra
from tests.inference.fake_gpu.install import Libraries, install
from tests.inference.fake_gpu.machine import Machine
from tests.inference.published_makers import rig

SIZES = replace(
    FULL, vertices=72, trunk_channels=(8, 12, 16, 24), trunk_blocks=(1, 1, 1, 1), grid=8, step_mm=100.0,
    localiser_channels=8, localiser_hidden=16, coarse_levels=(32, 64), coarse_back=(64, 48),
)  # fmt: skip
VIEWS, WIDTH, HEIGHT, BATCH = 4, 96, 64, 40
CPU_GRAPHS = ("coarse_features", "localise", "coarse_net", "refine_features")


def cameras(seed: int = 0) -> PublishedCameras:
    small, fine = rig(VIEWS, (WIDTH // 2, HEIGHT // 2), seed), rig(VIEWS, (WIDTH, HEIGHT), seed)
    return PublishedCameras(small["K"], small["distortion"], fine["K"], fine["distortion"], fine["camera_from_world"])


def pictures(seed: int) -> np.ndarray:
    """Smooth noise whose halves are whole levels: the CPU rounds when it halves, the kernel does not."""
    import cv2

    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (VIEWS, HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
    half = [cv2.resize(one, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_CUBIC) for one in low]
    return np.stack(half).repeat(2, 1).repeat(2, 2)


@dataclass(frozen=True)
class Made:
    """A network, its graphs for both paths, and a folder that tests may read."""

    parts: PublishedParts
    folder: Path
    libraries: Libraries


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("cuda")
    template, triangles = round_head(SIZES.vertices)
    coarse = initial_coarse(SIZES, seed=1, quirks=True)
    stir(coarse, seed=2, peak=30.0)
    refine = initial_refine(SIZES, template, triangles, seed=3, quirks=True)
    stir(refine, seed=4, peak=10.0)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants of a graph, and are meant to
        patch.setattr(export, "LOCAL_BATCH", BATCH)
        for name, specs in (
            ("gpu", gpu_graphs(coarse, refine, VIEWS, (HEIGHT, WIDTH))),
            ("cpu", cpu_graphs(coarse, refine, (HEIGHT, WIDTH), 2)),
        ):
            (folder / name).mkdir()
            export_graphs(specs, folder / name)
    states = [{k: v.numpy() for k, v in stage.state_dict().items()} for stage in (coarse, refine)]
    return Made(PublishedParts(SIZES, True, *states, template, triangles), folder, Libraries(folder))


@pytest.fixture
def machine(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine()
    install(machine, made.libraries, tmp_path, monkeypatch)
    yield machine
    gc.collect()
    machine.check_fences()
    assert machine.faults == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pipeline")]


def engine_and_plans(made: Made) -> tuple[TensorRtEngine, dict[str, Any]]:
    engine = TensorRtEngine()
    return engine, {name: engine.compile(made.folder / "gpu" / f"{name}.onnx").plan for name in GRAPHS}


def opened(made: Made, which: PublishedCameras) -> CudaPublishedNetwork:
    engine, plans = engine_and_plans(made)
    return CudaPublishedNetwork(made.parts, plans, which, (WIDTH, HEIGHT), engine.device)


def through(network: Any, sets: list[tuple[np.ndarray, np.ndarray]], *, device: Any = None) -> list[Outcome[Any, Any]]:
    """Sets through the production pipeline."""
    outcomes: list[Outcome[Any, PublishedResult]] = []

    def supply(access: Access) -> None:
        access[PICTURES] = access[ITEM]

    first, *rest = network.stages()
    stages = (Stage("supply", first.stream, supply, (ITEM,), (PICTURES,)), first, *rest)
    buffers, spaces = (network.buffers, network.spaces) if device is None else ({}, {})
    pipeline: Pipeline[Any, PublishedResult] = Pipeline(
        stages,
        outcomes.append,
        mode="every",
        device=device or network.device,
        buffers=buffers,
        spaces=spaces,
        slots=2,
    )
    try:
        for item in sets:
            pipeline.submit(item)
    finally:
        pipeline.close(drain=True)
    return outcomes


def on_the_cpu(made: Made, which: PublishedCameras, sets: list[tuple[np.ndarray, np.ndarray]]) -> list[Any]:
    engine = open_engine("openvino", threads=1)
    graphs = {n: engine.compile(made.folder / "cpu" / f"{n}.onnx", precision="f32") for n in CPU_GRAPHS}
    network = PublishedNetwork(made.parts, graphs, which, 1)
    try:
        return [outcome.result for outcome in through(network, sets, device=CpuDevice())]
    finally:
        network.close()


WHOLE = np.ones(VIEWS, np.float32)
HOLE = np.array([1, 0, 1, 1], np.float32)
ALONE = np.array([0, 0, 1, 0], np.float32)
MASKS = (WHOLE, HOLE, WHOLE, ALONE, WHOLE, HOLE)
SETS = [(pictures(k) * (mask[:, None, None, None] != 0).astype(np.uint8), mask) for k, mask in enumerate(MASKS)]


@pytest.fixture(scope="module")
def expected(made: Made) -> list[PublishedResult | None]:
    return on_the_cpu(made, cameras(), SETS)


def require_equal(result: PublishedResult, wanted: PublishedResult) -> None:
    """The same vertices, up to rounding that weights with sharp heat maps make larger."""
    coarse = np.linalg.norm(result.coarse_mm - wanted.coarse_mm, axis=1)
    refined = np.linalg.norm(result.vertices_mm - wanted.vertices_mm, axis=1)
    assert np.array_equal(result.seen, wanted.seen)
    assert coarse.max() < 0.005 and refined.max() < 0.02 and np.median(refined) < 0.001
    assert np.median(np.linalg.norm(result.vertices_mm - result.coarse_mm, axis=1)) > 0.3  # it could be wrong
    np.testing.assert_allclose(result.vertices * 1000, result.vertices_mm, atol=1e-4)


def test_vertices_are_those_of_the_cpu(made: Made, machine: Machine, expected: list[PublishedResult | None]) -> None:
    """Three times through each slot: issued, captured, replayed; a missing view; a set that fails among others."""
    outcomes = through(opened(made, cameras()), SETS)
    for outcome, wanted in zip(outcomes, expected, strict=True):
        if wanted is None:
            assert isinstance(outcome.error, CalibrationError) and "1 views have a picture" in str(outcome.error)
        else:
            assert outcome.error is None and outcome.result is not None
            require_equal(outcome.result, wanted)
    # the set that failed issued nothing: of slot 1 the second set is the sixth, which is captured but never replayed
    assert machine.counts["cuGraphLaunch"] == 4 * 3 and machine.counts["captured"] > 30


@pytest.mark.gpu
def test_vertices_on_a_gpu_that_is_there(made: Made, expected: list[PublishedResult | None]) -> None:
    """The same on a real device, with the bounds that the CPU path has against torch."""
    try:
        network = opened(made, cameras())
    except (MissingExtra, EngineError) as error:
        pytest.skip(f"cuda: {error}")
    for outcome, wanted in zip(through(network, SETS * 2), expected * 2, strict=True):
        if wanted is None:
            assert isinstance(outcome.error, CalibrationError)
            continue
        assert outcome.error is None
        coarse = np.linalg.norm(outcome.result.coarse_mm - wanted.coarse_mm, axis=1)
        refined = np.linalg.norm(outcome.result.vertices_mm - wanted.vertices_mm, axis=1)
        assert coarse.max() < 0.05 and np.median(refined) < 0.02 and refined.max() < 0.6
        assert (outcome.result.seen == wanted.seen).mean() > 0.99


@pytest.mark.parametrize("when", ["early", "random"])
def test_other_timings_give_the_same_bits(when: str, made: Made, machine: Machine) -> None:
    late = through(opened(made, cameras()), SETS[:3])
    machine.when = when  # type: ignore[assignment]
    for other, one in zip(through(opened(made, cameras()), SETS[:3]), late, strict=True):
        assert other.result is not None and one.result is not None
        np.testing.assert_array_equal(other.result.vertices, one.result.vertices)


def test_without_waits_between_streams_it_goes_wrong(
    made: Made, machine: Machine, monkeypatch: pytest.MonkeyPatch, expected: list[PublishedResult | None]
) -> None:
    """The machine is as cruel as it should be: without events the first stage works on nothing."""
    network = opened(made, cameras())
    monkeypatch.setattr(network.device.driver.Stream, "wait_for_event", lambda self, evt: None)
    (outcome,) = through(network, SETS[:1])
    assert outcome.result is None or np.abs(outcome.result.vertices - expected[0].vertices).max() > 0.01  # type: ignore[union-attr]
    machine.drain_all()


def test_work_that_cannot_be_captured_is_issued(
    made: Made, machine: Machine, caplog: pytest.LogCaptureFixture, expected: list[PublishedResult | None]
) -> None:
    machine.refuse.add("capture")
    outcomes = through(opened(made, cameras()), SETS[:1] * 5)
    assert "cuGraphLaunch" not in machine.counts and "cannot be captured as a CUDA graph" in caplog.text
    for outcome in outcomes:
        require_equal(outcome.result, expected[0])  # type: ignore[arg-type]


def test_a_new_rig_is_built_anew_and_the_old_one_leaves_nothing(made: Made, machine: Machine) -> None:
    engine, plans = engine_and_plans(made)
    used = []
    for seed in (0, 3, 0):
        network = CudaPublishedNetwork(made.parts, plans, cameras(seed), (WIDTH, HEIGHT), engine.device)
        (outcome,) = through(network, SETS[:1])
        require_equal(outcome.result, on_the_cpu(made, cameras(seed), SETS[:1])[0])  # type: ignore[arg-type]
        del network, outcome
        gc.collect()
        used.append(machine.used)
    assert used[0] == used[1] == used[2]


def test_what_fails_on_the_device_belongs_to_its_set(made: Made, machine: Machine) -> None:
    network = opened(made, cameras())
    (first,) = through(network, SETS[:1])
    assert first.error is None
    for what, message in (
        ("enqueue", "TensorRT cannot enqueue it: enqueueV3: out of memory"),
        ("launch", "launch failed"),
    ):
        machine.refuse = {what}
        (bad,) = through(network, SETS[:1])
        machine.refuse = set()
        (good,) = through(network, SETS[:1])
        assert bad.result is None and message in str(bad.error) and good.error is None


def test_a_device_that_fails_fails_every_set_from_then_on_and_hangs_nothing(made: Made, machine: Machine) -> None:
    network = opened(made, cameras())
    (first,) = through(network, SETS[:1])
    machine.refuse = {"kernels"}
    outcomes = through(network, SETS[:3])
    assert first.error is None and [outcome.result for outcome in outcomes] == [None] * 3
    assert all("illegal memory access" in str(outcome.error) for outcome in outcomes)
    assert "the GPU has failed" in str(outcomes[-1].error)


def test_memory_that_is_short_is_told_before_anything_runs(made: Made, machine: Machine) -> None:
    engine, plans = engine_and_plans(made)
    machine.capacity = machine.used + 100_000
    with pytest.raises(EngineError, match=r"no GPU memory for .*MB.*use fewer views or slots"):
        CudaPublishedNetwork(made.parts, plans, cameras(), (WIDTH, HEIGHT), engine.device)


def test_what_the_cuda_path_does_not_take_is_said(made: Made, machine: Machine) -> None:
    engine, plans = engine_and_plans(made)

    def attempt(parts: PublishedParts, which: PublishedCameras, size: tuple[int, int]) -> None:
        CudaPublishedNetwork(parts, plans, which, size, engine.device)

    with pytest.raises(EngineError, match="release's quirks"):
        attempt(replace(made.parts, quirks=False), cameras(), (WIDTH, HEIGHT))
    with pytest.raises(EngineError, match=r"the rig needs \(4, 3, 32, 96\)"):
        attempt(made.parts, cameras(), (WIDTH, 32))
    fewer = PublishedCameras(*(getattr(cameras(), name)[:1] for name in PublishedCameras.__slots__))
    with pytest.raises(CalibrationError, match="two views"):
        attempt(made.parts, fewer, (WIDTH, HEIGHT))
    broken = replace(made.parts, template_mm=np.full_like(made.parts.template_mm, np.nan))
    network = CudaPublishedNetwork(broken, plans, cameras(), (WIDTH, HEIGHT), engine.device, from_template=True)
    (outcome,) = through(network, SETS[:1])
    assert "the coarse vertices are not finite" in str(outcome.error)
    (outcome,) = through(network, [(SETS[0][0][:, :32], WHOLE)])
    assert "the graphs need" in str(outcome.error)
