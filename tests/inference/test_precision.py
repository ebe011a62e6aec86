"""Precision `auto`: only graphs that do not move vertices, and a decision that is kept for this machine alone."""

from pathlib import Path

import pytest

from inference import networks, precision
from inference.engines import TensorSpec
from inference.model_store import GraphFile
from inference.networks import compile_graphs
from inference.precision import decision_file, keep_decision, kept_decision, lowest
from tests.inference.makers import tiny_model
from tests.inference.tiny_graphs import conv_and_sample


class Compiled:
    def __init__(self, name: str, precision: str) -> None:
        self.name, self.precision = name, precision
        self.inputs: dict[str, TensorSpec] = {}
        self.outputs: dict[str, TensorSpec] = {}


class Machine:
    """An engine that notes what it is asked for and answers `auto` as the test wishes."""

    name, version = "fake", "1"

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}
        self.answer = "bf16"

    def compile(self, path: Path, *, precision: str) -> Compiled:
        self.asked[path.stem] = precision
        return Compiled(path.stem, self.answer if precision == "auto" else precision)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    one = Machine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(networks, "open_engine", lambda name, threads, cache_dir: one)
    return one


@pytest.mark.parametrize(
    ("engine", "answer", "asked"),
    [
        ("openvino", "bf16", {"keys"}),
        ("openvino", "f32", {"keys"}),
        ("tensorrt", "f16", {"keys", "features"}),
        ("torch", "f32", set()),
    ],
)
def test_auto_asks_once_and_only_about_harmless_graphs(
    engine: str, answer: str, asked: set[str], machine: Machine, tmp_path: Path
) -> None:
    source = conv_and_sample(tmp_path / "source.onnx")
    kinds = {"heat": "net", "features": "net", "keys": "net", "attend": "geometry"}
    graphs = {name: GraphFile(source, kind) for name, kind in kinds.items()}  # type: ignore[arg-type]
    model = tiny_model(tmp_path / "model", graphs=graphs)
    machine.answer = answer
    compile_graphs(model, engine, "auto", 1)
    assert machine.asked == dict.fromkeys(kinds, "f32") | dict.fromkeys(asked, "auto")
    compile_graphs(model, engine, "auto", 1)
    assert machine.asked == dict.fromkeys(kinds, "f32") | dict.fromkeys(asked, answer)
    compile_graphs(model, engine, "bf16", 1)
    assert machine.asked == {"heat": "bf16", "features": "bf16", "keys": "bf16", "attend": "f32"}
    machine.version = "2"
    compile_graphs(model, engine, "auto", 1)
    assert all(machine.asked[name] == "auto" for name in asked)  # another runtime is asked again


def test_the_lowest_precision_says_most() -> None:
    assert lowest(["f32", "f16"]) == "f16" and lowest(["f16", "bf16", "f32"]) == "bf16" and lowest([]) == "f32"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": "int4"}', '{"keys": "f32", "more": "f32"}', "{}"])
def test_what_does_not_read_or_fit_is_not_trusted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kept.json"
    assert kept_decision(path, frozenset({"keys"})) is None
    path.write_text(text)
    assert kept_decision(path, frozenset({"keys"})) is None


def test_a_decision_is_of_one_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = decision_file("model", "openvino", "1", 2)
    assert here == decision_file("model", "openvino", "1", 2) and here != decision_file("model", "openvino", "1", 1)
    keep_decision(here, {"keys": "bf16"})
    assert kept_decision(here, frozenset({"keys"})) == {"keys": "bf16"}
    assert [file.name for file in here.parent.iterdir()] == [here.name]
    monkeypatch.setattr(precision, "processor", lambda: "another")
    assert decision_file("model", "openvino", "1", 2) != here


def test_a_cache_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep_decision(tmp_path / "file" / "kept.json", {"keys": "f32"})
    assert (tmp_path / "file").read_text() == ""
