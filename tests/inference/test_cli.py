"""The mind's verbs through the parser: what they print, how they refuse."""

import argparse
import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inference import cli, model_store, networks
from inference.config import InferenceConfig
from streamer.config import BusConfig, SyncConfig
from streamer.errors import ConfigError, MissingExtra, ModelError
from streamer.takes import open_take
from tests.inference.fake_network import FakeNetwork
from tests.inference.makers import tiny_model
from tests.inference.takes import write_take

ROOT = Path(__file__).parents[2]


@dataclass
class Settings:
    inference: InferenceConfig
    sync: SyncConfig = field(default_factory=SyncConfig)
    bus: BusConfig = field(default_factory=BusConfig)


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser()
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true")
    cli.add_verbs(root.add_subparsers(), common)
    return root


def run(*words: str, model: Path | str = "none", **hooks: object) -> int:
    args = parser().parse_args(list(words))
    args.load = lambda: Settings(InferenceConfig(model=str(model), threads=1))
    for name, hook in hooks.items():
        setattr(args, name, hook)
    return int(args.handler(args))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that the verbs run with the small network."""
    for module in ("inference.reprocess", "inference.evaluation.evaluate", "inference.bench"):
        __import__(module)
        for function in ("reprocess_take", "evaluate", "bench_model"):
            found = getattr(sys.modules[module], function, None)
            if callable(found) and found.__module__ == module:
                monkeypatch.setitem(found.__kwdefaults__, "network", FakeNetwork)
    monkeypatch.setattr(networks, "live_network", FakeNetwork)
    return tiny_model(tmp_path / "tiny").folder


def test_reprocess_leaves_a_take_and_hands_it_to_the_overlay(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_take(tmp_path / "take", sets=3)
    drawn: list[tuple[int, Path]] = []

    def overlay(take: object, video: Path) -> int:
        drawn.append((take.mesh_count, video))  # type: ignore[attr-defined]
        return 24

    words = ("reprocess", str(tmp_path / "take"), "--out", str(tmp_path / "out"), "--overlay", "v.mp4", "--json")
    with pytest.raises(ConfigError, match="brings no renderer"):
        run(*words, model=model)
    with pytest.raises(ConfigError, match=r"v\.avi: videos are written as \.mp4"):
        run(*(word.replace("v.mp4", "v.avi") for word in words), model=model, overlay_take=overlay)
    assert not (tmp_path / "out").exists()
    assert run(*words, model=model, overlay_take=overlay) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["sets"], result["meshes"], result["precision"]) == (3, 3, "f32")
    assert result["overlay"] == {"path": "v.mp4", "pictures": 24} and drawn == [(3, Path("v.mp4"))]
    with open_take(tmp_path / "out") as take:
        assert take.mesh_count == 3


def test_evaluate_bench_and_model_print_one_object(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_take(tmp_path / "take", sets=3)
    assert run("evaluate", str(tmp_path / "take"), "--drop-cameras", "4", "--json", model=model) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["views"] == 4 and {"median_mm", "mean_mm", "p90_mm"} <= set(result["regions"]["face"])
    assert set(result["template"]["regions"]) == {"head", "face", "back"} and "jitter_mm" in result
    assert run("bench", "model", "--views", "2", "--size", "64x48", "--meshes", "2", "--json", model=model) == 0
    assert json.loads(capsys.readouterr().out)["views"] == 2
    assert run("model", "check", str(model), "--json") == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["ok"] and checked["compiled"] == {"mean": "f32"} and checked["vertices"] == 6
    assert run("model", "check", "--no-compile", model=model) == 0
    assert "whole" in capsys.readouterr().out


def test_model_list_tells_what_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_store, "WEIGHTS", tmp_path / "weights")
    assert run("model", "list") == 0
    assert "no model ships" in capsys.readouterr().out
    tiny_model(tmp_path / "weights" / "tiny")
    assert run("model", "list") == 0
    out = capsys.readouterr().out
    assert "6 vertices, up to 8 views of 16x12" in out and "face_median_mm 1.5" in out
    assert run("model", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["provenance"]["samples"] == 12


def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ("infer", "--seconds", "0"), ("bench", "model", "--size", "640"), ("evaluate", "x", "--views", "0"),
        ("evaluate", "x", "--drop-cameras", "-1"), ("infer", "--seconds", "nan"),
        ("reprocess", "x"), ("model",), ("evaluate", "x", "--precision", "int8"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            parser().parse_args(list(words))
        assert stopped.value.code == 2
    capsys.readouterr()
    with pytest.raises(ModelError, match="'none'"):
        run("model", "check")


def test_train_has_the_defaults_of_training() -> None:
    """Written down twice, since the verbs must be listed without torch."""
    from inference.training.cli import TrainOptions

    ours = parser().parse_args(["train", "a", "--out", "b"])
    theirs = dataclasses.asdict(TrainOptions(takes=(Path("a"),), out=Path("b"), name="live"))
    assert ours.f32 is not theirs.pop("bf16")
    del theirs["held_out"]  # no argument of the command
    assert {key: vars(ours)[key] for key in theirs} == theirs | {"takes": [Path("a")]}


def test_training_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("inference.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"'torch' is not installed; run: pip install 'mien\[train\]'"):
        run("train", "a", "--out", "b")


def test_listing_the_verbs_imports_nothing_heavy() -> None:
    code = (
        "import sys, argparse\n"
        "from inference.cli import add_verbs\n"
        "add_verbs(argparse.ArgumentParser().add_subparsers(), argparse.ArgumentParser(add_help=False))\n"
        "print([m for m in ('numpy', 'cv2', 'zmq', 'openvino', 'torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
