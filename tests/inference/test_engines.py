"""One contract for every engine, on a graph whose answers are known by hand."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from inference.engines import ENGINES, Graph, Precision, TensorSpec, open_engine
from inference.engines.base import Trial, choose_precision, disagreement, prefer_lower
from streamer.errors import EngineError, MissingExtra, ModelError
from streamer.types import F32
from tests.inference.fake_gpu.install import Libraries, install
from tests.inference.fake_gpu.machine import Machine
from tests.inference.tiny_graphs import conv_and_sample

ROOT = Path(__file__).parents[2]
PICTURE = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
# Pixel centres are at (2i + 1) / size - 1 without align_corners: (-0.25, -0.25) is pixel (1, 1); the origin is the mean
# of the four middle pixels; (-2, 0) lies outside.
GRID = np.array([[[[-0.25, -0.25], [0.0, 0.0], [-2.0, 0.0]]]], np.float32)


def box_sums(picture: F32) -> F32:
    padded = np.pad(picture[0, 0], 1)
    return sum(padded[y : y + 4, x : x + 4] for y, x in itertools.product(range(3), range(3))) + np.float32(0.5)


@pytest.fixture(params=[*sorted(ENGINES), "tensorrt on a fake GPU"])
def engine_name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name, _, fake = str(request.param).partition(" on ")
    machine = Machine()
    if fake:
        (tmp_path / "gpu").mkdir()
        install(machine, Libraries(tmp_path), tmp_path / "gpu", monkeypatch)
    try:
        open_engine(name, threads=1)
    except (MissingExtra, EngineError) as error:
        pytest.skip(f"{name}: {error}")
    yield name
    machine.check_fences()
    assert machine.faults == []


@pytest.fixture
def graph(engine_name: str, tmp_path: Path) -> Graph:
    return open_engine(engine_name, threads=1).compile(conv_and_sample(tmp_path / "tiny.onnx"), precision="f32")


def test_a_graph_tells_its_ports_and_gives_the_numbers_of_hand_arithmetic(graph: Graph) -> None:
    f4 = np.dtype(np.float32)
    assert graph.name == "tiny" and graph.precision == "f32"
    assert dict(graph.inputs) == {"picture": TensorSpec((1, 1, 4, 4), f4), "grid": TensorSpec((1, 1, 3, 2), f4)}
    assert dict(graph.outputs) == {"conv": TensorSpec((1, 1, 4, 4), f4), "sampled": TensorSpec((1, 1, 1, 3), f4)}
    out = graph.run({"picture": PICTURE, "grid": GRID})
    expected = box_sums(PICTURE)
    np.testing.assert_allclose(out["conv"][0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(out["sampled"].ravel(), [expected[1, 1], expected[1:3, 1:3].mean(), 0.0], rtol=1e-6)
    assert out["conv"].dtype == np.float32


def test_outputs_belong_to_the_caller_and_inputs_are_left_alone(graph: Graph) -> None:
    picture = PICTURE.copy()
    picture.setflags(write=False)
    first = graph.run({"picture": picture, "grid": GRID})
    kept = first["conv"].copy()
    graph.run({"picture": np.zeros_like(PICTURE), "grid": GRID})
    np.testing.assert_array_equal(first["conv"], kept)
    first["conv"][:] = 7.0  # and they can be written
    np.testing.assert_array_equal(picture, PICTURE)


def test_views_that_are_not_contiguous_give_the_same_numbers(graph: Graph) -> None:
    strided = np.zeros((1, 1, 8, 4), np.float32)
    strided[:, :, ::2] = PICTURE
    out = graph.run({"picture": strided[:, :, ::2], "grid": GRID})
    np.testing.assert_allclose(out["conv"][0, 0], box_sums(PICTURE), rtol=1e-6)


def test_threads_take_turns(graph: Graph) -> None:
    wrong: list[int] = []

    def work(k: int) -> None:
        picture = np.full_like(PICTURE, k)
        for _ in range(20):
            value = graph.run({"picture": picture, "grid": GRID})["sampled"][0, 0, 0, 0]
            wrong.extend([k] if value != 9 * k + 0.5 else [])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"picture": PICTURE}, r"'tiny'.*missing: \['grid'\]"),
        ({"picture": PICTURE, "grid": GRID, "mask": GRID}, r"unknown: \['mask'\]"),
        ({"picture": PICTURE[:, :, :3], "grid": GRID}, r"'picture': got float32 \(1, 1, 3, 4\), needs float32"),
        ({"picture": PICTURE.astype(np.float64), "grid": GRID}, r"'picture': got float64"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(graph: Graph, inputs: dict[str, F32], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        graph.run(inputs)


def test_files_that_are_no_graphs_are_refused(engine_name: str, tmp_path: Path) -> None:
    engine = open_engine(engine_name, threads=1)
    with pytest.raises(ModelError, match=r"absent\.onnx: no such graph"):
        engine.compile(tmp_path / "absent.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"\x00not a graph")
    with pytest.raises(EngineError, match=r"noise\.onnx"):
        engine.compile(tmp_path / "noise.onnx")
    with pytest.raises(EngineError, match="static shapes"):
        engine.compile(conv_and_sample(tmp_path / "dynamic.onnx", batch="n"))


def test_auto_ends_in_a_precision_and_right_numbers(engine_name: str, tmp_path: Path) -> None:
    graph = open_engine(engine_name, threads=1).compile(conv_and_sample(tmp_path / "tiny.onnx"), precision="auto")
    assert graph.precision in ("f32", "bf16", "f16")
    conv = graph.run({"picture": PICTURE, "grid": GRID})["conv"][0, 0]
    np.testing.assert_allclose(conv, box_sums(PICTURE), rtol=1e-2)


def test_an_unknown_engine_and_a_missing_package_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"'tensorflow'.*openvino"):
        open_engine("tensorflow")
    needs = (("openvino", "openvino", "live"), ("tensorrt", "tensorrt", "gpu"))
    for package, engine, extra in (*needs, ("torch", "torch", "train"), ("onnx", "torch", "train")):
        with monkeypatch.context() as gone:
            gone.setitem(sys.modules, package, None)
            for module in ("inference.tempeh.torch_engine", "inference.tempeh.operators", "inference.tensorrt.half"):
                gone.delitem(sys.modules, module, raising=False)
            with pytest.raises(
                MissingExtra, match=f"'{package}' is not installed; run: pip install 'mien\\[{extra}\\]'"
            ):
                open_engine(engine)


@pytest.mark.parametrize(("name", "precision"), [("openvino", "f16"), ("torch", "bf16")])
def test_a_precision_that_an_engine_lacks_is_refused(name: str, precision: Precision, tmp_path: Path) -> None:
    engine = open_engine(name, threads=1)
    with pytest.raises(EngineError, match=f"'{precision}': {name} computes in f32 or"):
        engine.compile(conv_and_sample(tmp_path / "tiny.onnx"), precision=precision)


def test_opening_an_engine_reports_to_nobody() -> None:
    """In a fresh interpreter: the import of openvino would start its telemetry, a thread that calls a server."""
    code = (
        "import sys, threading\n"
        "from inference.engines import open_engine\n"
        "open_engine('openvino', threads=1)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["[]", "1"]


FIRST_RUNS = """
import faulthandler, pathlib, sys, threading
import numpy as np
from inference.engines import open_engine

faulthandler.dump_traceback_later(60, exit=True)
path = pathlib.Path(sys.argv[2])
graphs = [open_engine(sys.argv[1], threads=1).compile(path, precision="f32") for _ in range(4)]
inputs = {name: np.zeros(spec.shape, spec.dtype) for name, spec in graphs[0].inputs.items()}
sys.setswitchinterval(1e-6)
together = threading.Barrier(len(graphs))
threads = [threading.Thread(target=lambda g=g: (together.wait(), g.run(inputs))) for g in graphs]
[thread.start() for thread in threads], [thread.join() for thread in threads]
"""


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_the_first_runs_of_a_process_may_come_at_once(name: str, tmp_path: Path) -> None:
    """As a pipeline's streams do. Without its guard half of openvino's processes hang here, holding Python's lock."""
    path = conv_and_sample(tmp_path / "tiny.onnx")
    command = [sys.executable, "-c", FIRST_RUNS, name, path]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(6)]
    told = [child.communicate()[1] for child in children]
    assert [child.returncode for child in children] == [0] * 6, told


class FakeGraph:
    """A graph whose speed and rounding are chosen by the test."""

    name = "fake"
    outputs: ClassVar[dict[str, TensorSpec]] = {}
    inputs: ClassVar[dict[str, TensorSpec]] = {"x": TensorSpec((64,), np.dtype(np.float32))}

    def __init__(self, precision: str, seconds: float, error: float, time: list[float]) -> None:
        self.precision, self._seconds, self._error, self._time = precision, seconds, error, time

    def run(self, inputs: dict[str, F32]) -> dict[str, F32]:
        self._time[0] += self._seconds
        return {"y": inputs["x"] * np.float32(1 + self._error)}


@pytest.mark.parametrize(
    ("seconds", "error", "expected"),
    [(0.4, 5e-3, "bf16"), (6.0, 5e-3, "f32"), (0.95, 5e-3, "f32"), (0.4, 0.1, "f32"), (0.4, float("nan"), "f32")],
)
def test_auto_takes_bf16_only_if_faster_and_in_agreement(seconds: float, error: float, expected: str) -> None:
    now = [0.0]
    kinds = {"f32": FakeGraph("f32", 1.0, 0.0, now), "bf16": FakeGraph("bf16", seconds, error, now)}
    assert choose_precision(kinds.__getitem__, clock=lambda: now[0], tolerance=2e-2).precision == expected


def test_auto_stays_in_f32_where_bf16_does_not_compile() -> None:
    now = [0.0]

    def make(precision: str) -> FakeGraph:
        if precision == "bf16":
            raise EngineError("no such instruction")
        return FakeGraph(precision, 1.0, 0.0, now)

    assert choose_precision(make, clock=lambda: now[0], tolerance=1.0).precision == "f32"


def test_disagreement_is_relative_and_takes_the_worst_output() -> None:
    ones = np.ones(8, np.float32)
    reference = {"a": ones, "b": 100 * ones, "zero": 0 * ones}
    assert disagreement(reference, reference) == 0.0
    assert disagreement(reference, reference | {"b": 101 * ones}) == pytest.approx(0.01)
    assert disagreement(reference, reference | {"zero": ones}) == float("inf")
    assert not prefer_lower(Trial(1.0, reference), Trial(0.1, reference | {"zero": ones}), tolerance=1e9)
