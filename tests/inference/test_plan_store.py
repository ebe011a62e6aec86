"""Plans on disk: used again where everything is the same, and never believed where anything is not."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.engines.openvino import OpenVinoEngine
from inference.engines.tensorrt import TensorRtEngine
from inference.plans import KEY_BYTES, Plan, PlanKey, PlanStore
from streamer.errors import EngineError
from tests.inference.fake_gpu.install import Libraries, install
from tests.inference.fake_gpu.machine import Machine
from tests.inference.tiny_graphs import conv_and_sample

INPUTS = {"picture": np.ones((1, 1, 4, 4), np.float32), "grid": np.zeros((1, 1, 3, 2), np.float32)}
KEY = PlanKey("tiny", "ab" * 32, "11.4.0", "Fake 89 driver 13000", "without TF32")
PLAN = Plan(b"machine code" * 100, {"x": (1, 2)}, {"y": (3,)})


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine()
    install(machine, Libraries(tmp_path), tmp_path, monkeypatch)
    yield machine
    assert machine.faults == []


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return conv_and_sample(tmp_path / "tiny.onnx")


def start(folder: Path, graph: Path, precision: str = "f32") -> None:
    """What a start of Mien does: an engine of its own, a graph, a right answer."""
    made = TensorRtEngine(cache_dir=folder).compile(graph, precision=precision)  # type: ignore[arg-type]
    assert made.run(INPUTS)["conv"].ravel()[5] == 9.5


def test_the_second_start_builds_nothing(machine: Machine, graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    for _ in range(2):
        start(folder, graph)
    assert machine.counts["build"] == 1 and machine.counts["deserialize"] == 2
    assert sorted(path.suffix for path in folder.iterdir()) == ["", ".plan"]
    assert (folder / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", ["gpu", "capability", "driver", "tensorrt", "graph", "precision"])
def test_another_machine_version_or_graph_has_a_plan_of_its_own(
    change: str, machine: Machine, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plans"
    start(folder, graph)
    if change == "gpu":
        machine.name = "Other RTX"
    elif change == "capability":
        machine.capability = (9, 0)
    elif change == "driver":
        machine.driver_version = 13010
    elif change == "tensorrt":
        install(machine, Libraries(tmp_path), tmp_path, monkeypatch, version="11.5.0.1")
    elif change == "graph":
        graph.write_bytes(graph.read_bytes() + b"\x32\x00")  # an empty field more: the same graph, another file
    start(folder, graph, "f16" if change == "precision" else "f32")
    assert machine.counts["build"] == 2 and len(list(folder.glob("*.plan"))) == 2


def spoilt(how: str, folder: Path) -> None:
    """Do something to the one plan of a folder."""
    (path,) = folder.glob("*.plan")
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "longer":
        path.write_bytes(content + b"x")
    elif how == "key of another":
        (folder / "key").write_bytes(bytes(32))
    elif how == "no key":
        (folder / "key").unlink()
    elif how == "key that others read":
        (folder / "key").chmod(0o644)
    elif how == "another format":
        path.write_bytes(b"mien plan 9\n" + content)
    elif how == "of another graph":
        other = PlanStore(folder)
        other.save(KEY, Plan(b"whatever", {}, {}))
        other.path(KEY).replace(path)


SPOILT = (
    "cut", "empty", "one bit", "longer", "key of another", "no key", "key that others read", "another format",
    "of another graph",
)  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_not_whole_and_ours_is_built_again(
    how: str, machine: Machine, graph: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "plans"
    start(folder, graph)
    spoilt(how, folder)
    start(folder, graph)
    # TensorRT never saw the bytes: what was loaded are the two plans that were just built
    assert machine.counts["build"] == 2 and machine.counts["deserialize"] == 2
    assert "is not trusted" in caplog.text


def test_a_plan_of_ours_that_tensorrt_refuses_is_built_again(
    machine: Machine, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that does not tell two machines apart: then TensorRT itself does."""
    folder = tmp_path / "plans"
    start(folder, graph)
    monkeypatch.setattr("inference.devices.cuda.CudaDevice.identity", f"{machine.name} 89 driver 13000")
    machine.capability = (9, 0)
    start(folder, graph)
    assert machine.counts["build"] == 2 and machine.counts["deserialize"] == 3
    start(folder, graph)
    assert machine.counts["build"] == 2


def test_a_plan_of_another_graph_is_noticed_after_loading(machine: Machine, graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    start(folder, graph)
    engine = TensorRtEngine(cache_dir=folder)
    held = PlanStore(folder)._opened
    found: list[Plan] = []

    def lying(content: bytes, wanted: PlanKey) -> Plan:
        plan = held(content, wanted)
        found.append(plan)
        return Plan(plan.data, {"picture": (1, 1, 8, 8), "grid": (1, 1, 3, 2)}, plan.outputs)

    engine._session._store._opened = lying  # type: ignore[union-attr, method-assign]
    made = engine.compile(graph)
    assert found and machine.counts["build"] == 2 and made.inputs["picture"].shape == (1, 1, 4, 4)


def test_a_kept_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    plans = PlanStore(tmp_path / "plans")
    assert plans.load(KEY) is None
    plans.save(KEY, PLAN)
    assert plans.load(KEY) == PLAN == PlanStore(tmp_path / "plans").load(KEY)
    plans.forget(KEY)
    assert plans.load(KEY) is None


def test_a_plan_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plans = PlanStore(tmp_path / "plans")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    plans.save(KEY, PLAN)
    assert plans.load(KEY) is None and "No space left" in caplog.text
    assert [path.name for path in (tmp_path / "plans").iterdir()] == ["key"]


def test_a_folder_that_cannot_be_made_costs_a_build_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    plans = PlanStore(tmp_path / "file")
    plans.save(KEY, PLAN)
    assert plans.load(KEY) is None and "is not kept" in caplog.text


def test_a_key_of_several_processes_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes its key between our look and our link."""
    plans = PlanStore(tmp_path)
    link = os.link

    def later(source: str, target: Path) -> None:
        target.write_bytes(b"k" * KEY_BYTES)
        target.chmod(0o600)
        link(source, target)

    monkeypatch.setattr(os, "link", later)
    plans.save(KEY, PLAN)
    assert (tmp_path / "key").read_bytes() == b"k" * KEY_BYTES and plans.load(KEY) == PLAN


def test_memory_that_is_short_at_the_build_is_told(machine: Machine, graph: Path, tmp_path: Path) -> None:
    engine = TensorRtEngine(cache_dir=tmp_path / "plans")
    machine.refuse = {"build"}
    with pytest.raises(EngineError, match=r"tiny\.onnx: tiny: TensorRT cannot compile it: .*out of memory"):
        engine.compile(graph)
    machine.refuse = {"context"}
    made = engine.compile(graph)
    with pytest.raises(EngineError, match="makes no context: out of memory"):
        made.run(INPUTS)
    machine.refuse = set()
    assert made.run(INPUTS)["conv"].ravel()[5] == 9.5


def test_a_run_that_fails_leaves_the_next_one_alone(machine: Machine, graph: Path) -> None:
    made = TensorRtEngine().compile(graph)
    for what in (set(), {"enqueue"}, set(), {"enqueue"}, set(), set()):
        machine.refuse = set(what)
        if what:
            with pytest.raises(EngineError, match="cannot enqueue it: enqueueV3: out of memory"):
                for _ in range(4):  # every lane's graph
                    made.run({**INPUTS, "picture": 7 * INPUTS["picture"]})
        else:
            assert made.run(INPUTS)["conv"].ravel()[5] == 9.5


class Counting:
    """OpenVINO's core, with the calls that a cache saves."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._core, name)


def started(folder: Path, graph: Path, **options: Any) -> Counter[str]:
    """A start with OpenVINO: what it did, and a right answer."""
    engine = OpenVinoEngine(threads=options.pop("threads", 1), cache_dir=folder)
    counting = engine._core = Counting(engine._core)
    assert engine.compile(graph, **options).run(INPUTS)["conv"].ravel()[5] == 9.5
    return counting.calls


def test_openvino_keeps_what_it_compiled(graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    assert started(folder, graph)["compile_model"] == 1
    again = started(folder, graph)
    assert again["compile_model"] == 0 == again["read_model"] and again["import_model"] == 1
    assert started(folder, graph, threads=2)["compile_model"] == 1
    assert len(list(folder.glob("*.plan"))) == 2


@pytest.mark.parametrize("how", SPOILT)
def test_openvino_believes_no_file_that_is_not_whole_and_ours(how: str, graph: Path, tmp_path: Path) -> None:
    """OpenVINO itself would: it computes with what it finds in a damaged file."""
    folder = tmp_path / "plans"
    started(folder, graph)
    spoilt(how, folder)
    again = started(folder, graph)
    assert again["compile_model"] == 1 and again["import_model"] == 0


def test_what_openvino_does_not_load_is_compiled_again(graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    started(folder, graph)
    (path,) = folder.glob("*.plan")
    content = path.read_bytes()
    length = int.from_bytes(content[12:20], "big")
    key = PlanKey(**json.loads(content[20 : 20 + length])["key"])
    PlanStore(folder).save(key, Plan(b"no graph of OpenVINO", {}, {}))
    again = started(folder, graph)
    assert again["import_model"] == 1 == again["compile_model"]
    assert started(folder, graph)["compile_model"] == 0
