"""Training: it learns, it continues the same curve, it stops on nonsense."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mien
from inference.evaluation.evaluate import EvaluateOptions, evaluate
from inference.model_store import load_model
from inference.tempeh.close_ups import GRAPHS as CLOSE_UPS
from inference.tempeh.features import FeatureNet
from inference.tempeh.layout import chosen_vertices, head_points
from inference.training import second_stage
from inference.training.cli import TrainOptions, run_training
from inference.training.dataset import Corpus, read_corpus
from inference.training.loop import Plan, train
from inference.training.samples import Batches
from inference.training.tasks import HeadTask, LocaliserTask
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.errors import DriverError, ModelError, TakeError
from tests.inference.tiny_corpus import tiny_corpus


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus(6)


def localiser(corpus: Corpus) -> LocaliserTask:
    torch.manual_seed(0)
    return LocaliserTask(corpus, chosen_vertices(corpus.topology)[0])


def head(corpus: Corpus, map_only: float) -> HeadTask:
    torch.manual_seed(0)
    template = np.asarray(corpus.topology.template * np.float32(1000))
    return HeadTask(corpus, head_points(template), chosen_vertices(corpus.topology)[1], views=3, map_only=map_only)


class Interrupted(Exception):
    """Stands for a power cut after a checkpoint."""


def test_a_training_that_was_stopped_continues_the_same_curve(corpus: Corpus, tmp_path: Path) -> None:
    plan = Plan(iterations=4, batch=2, every=2, bf16=False)
    whole = train(localiser(corpus), plan, tmp_path / "whole", lambda *_: None)

    def stop(iteration: int, _: dict[str, float]) -> None:
        if iteration == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(localiser(corpus), plan, tmp_path / "parts", stop)
    parts = train(localiser(corpus), plan, tmp_path / "parts", lambda *_: None)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    curves = [(tmp_path / run / "localiser.curve.jsonl").read_text() for run in ("whole", "parts")]
    assert curves[0] == curves[1]
    assert [json.loads(line)["samples"] for line in curves[0].splitlines()] == [4, 8]


def test_a_checkpoint_of_another_plan_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    train(localiser(corpus), Plan(iterations=1, batch=1, every=1), tmp_path, lambda *_: None)
    with pytest.raises(ModelError, match="another plan"):
        train(localiser(corpus), Plan(iterations=2, batch=1, every=1), tmp_path, lambda *_: None)


def test_a_checkpoint_of_other_takes_or_of_another_network_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    plan = Plan(iterations=1, batch=1, every=1)
    train(localiser(corpus), plan, tmp_path, lambda *_: None)
    with pytest.raises(ModelError, match="another plan"):
        train(localiser(tiny_corpus(6, seed=1)), plan, tmp_path, lambda *_: None)
    torch.save({"average": {"weight": torch.zeros(1)}}, tmp_path / "head.checkpoint.pt")
    with pytest.raises(ModelError, match="not a checkpoint of this network"):
        train(head(corpus, map_only=1.0), plan, tmp_path / "new", lambda *_: None, start=tmp_path)
    (tmp_path / "head.checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint"):
        train(head(corpus, map_only=1.0), plan, tmp_path / "new", lambda *_: None, start=tmp_path)


def test_a_take_is_on_one_side_of_the_split(corpus: Corpus) -> None:
    twice = replace(corpus, camera_from_world=corpus.camera_from_world[[0, 0, 0, 3, 3, 3]])
    for share, held_out in ((0.2, 3), (0.5, 3), (0.7, 6), (0.0, 0)):
        learn, rest = twice.split(share)
        assert (learn.sets, rest.sets) == (6 - held_out, held_out), share


def test_the_map_learns_what_the_pictures_show(corpus: Corpus, tmp_path: Path) -> None:
    curve: list[float] = []
    plan = Plan(iterations=60, batch=3, every=10, rate=3e-3)
    train(head(corpus, map_only=1.0), plan, tmp_path, lambda _, figures: curve.append(figures["map_mm"]))
    # the untrained map is off by the size of the head (about 45 mm an axis); colours tell the place directly
    assert curve[-1] < 0.6 * curve[0]


def test_controls_start_at_the_mean_head(corpus: Corpus) -> None:
    task = head(corpus, map_only=0.0)
    rng = np.random.default_rng(0)
    batch = {name: torch.from_numpy(array)[None] for name, array in task.sample(0, rng).items()}
    with torch.no_grad():
        found = task.model.coarse(torch.zeros(1, 3, 16, 56, 48), batch["grid"], batch["weight"])
    # the prior's expectation on a 16 mm grid with 25 mm spread; towards the walls of the box it is pulled inwards
    offset = (found[0] - torch.from_numpy(task.controls_mm)).norm(dim=1)
    assert offset.median() < 8.0


def test_nonsense_stops_the_training_and_keeps_the_batch(corpus: Corpus, tmp_path: Path) -> None:
    task = localiser(corpus)
    with torch.no_grad():
        task.model.thumbs.out.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="bad_batch"):
        train(task, Plan(iterations=1, batch=1), tmp_path, lambda *_: None)
    with np.load(tmp_path / "bad_batch.npz") as kept:
        assert "thumbs" in kept.files


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_depend_on_seed_and_number_alone(threads: int) -> None:
    def make(index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"index": np.float32(index), "noise": rng.normal(size=2).astype(np.float32)}

    def first(count: int, begin: int, workers: int) -> list[dict[str, np.ndarray]]:
        batches = Batches(make, count=5, batch=2, seed=3, first=begin, threads=workers)
        try:
            stream = iter(batches)
            return [next(stream) for _ in range(count)]
        finally:
            batches.close()

    reference, later = first(6, 0, 1), first(4, 2, threads)
    for one, other in zip(reference[2:], later, strict=True):
        np.testing.assert_array_equal(one["noise"], other["noise"])
        np.testing.assert_array_equal(one["index"], other["index"])
    seen = np.concatenate([batch["index"] for batch in reference[:5]])
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]


def simulated(folder: Path, takes: int, frames: int) -> Path:
    """Takes of the wide world, small ones; skips where there is no OpenGL."""
    rig = RigConfig(simulated=SimulatedConfig(cameras=4, width=160, height=120, seed=9))
    try:
        simulate_takes(folder, rig, takes=takes, frames=frames, world="wide")
    except DriverError as error:
        pytest.skip(str(error))
    return folder


@pytest.mark.timeout(240)  # torch, an export and 40 forward passes beside other tests on two cores
def test_from_takes_to_a_model_that_reconstructs_them(tmp_path: Path) -> None:
    """The whole road of `mien train`, too short to learn anything: what comes out runs, and is as good as its start."""
    takes = simulated(tmp_path / "takes", takes=5, frames=36)
    options = TrainOptions((takes,), tmp_path / "run", "tiny", 2, 2, max_views=4, held_out=0.05)
    result = run_training(options, quiet=True)
    model = load_model(result["model"])
    assert model.name == "tiny"
    assert model.topology.units
    figures = evaluate([takes / "take_00000"], model, EvaluateOptions(stride=18, threads=1))
    assert figures["failed"] == 0
    assert figures["meshes"] == 2
    assert run_training(options, quiet=True) == result  # a finished training is not begun again


@pytest.mark.timeout(240)  # torch, an export and a few forward passes beside other tests on two cores
def test_a_second_stage_is_learned_and_joined_to_its_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole road of `mien train --second-stage`, too short to learn anything: begun with live features."""
    takes = simulated(tmp_path / "takes", takes=1, frames=2)
    first, start = load_model("live"), tmp_path / "live"
    start.mkdir()
    torch.manual_seed(3)
    features = FeatureNet()
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save({"average": state | {"coarse.other": torch.zeros(1)}}, start / "head.checkpoint.pt")
    asked = ["train", str(takes), "--second-stage", "live", "--start", str(start), "--out", str(tmp_path / "run")]
    options = ["--name", "second", "--detail-iterations", "2", "--rate", "1e-3", "--json"]
    begun = state_at_the_beginning(monkeypatch)
    assert mien.main([*asked, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    for name, value in features.state_dict().items():
        assert torch.equal(begun[f"live.{name}"], value), name
    model = load_model(result["model"])
    assert model.name == "second" and model.provenance.samples == first.provenance.samples + 8
    assert model.graphs.keys() == (first.graphs.keys() - set(CLOSE_UPS)) | {"detail"}
    assert (model.width, model.height) == (2 * first.width, 2 * first.height)
    figures = evaluate([takes], model, EvaluateOptions(threads=1))
    assert (figures["meshes"], figures["failed"]) == (2, 0)
    assert mien.main([*asked, *options]) == 0  # a finished training is not begun again
    assert load_model(json.loads(capsys.readouterr().out)["model"]).id == model.id
    torch.save({"average": {"features.other": torch.zeros(1)}}, start / "head.checkpoint.pt")
    assert mien.main([*asked[:-1], str(tmp_path / "other"), *options]) == 1
    assert "holds no feature net to begin the second stage with" in capsys.readouterr().err


def state_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Filled with the weights that the next training of a second stage begins with."""
    begun: dict[str, torch.Tensor] = {}
    learn = second_stage.train

    def noting(task: Any, *rest: Any) -> Any:
        begun.update({name: value.clone() for name, value in task.model.state_dict().items()})
        return learn(task, *rest)

    monkeypatch.setattr(second_stage, "train", noting)
    return begun


def test_too_few_takes_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    takes = simulated(tmp_path / "takes", takes=1, frames=3)
    with pytest.raises(TakeError, match="3 frame sets are too few"):
        run_training(TrainOptions((takes,), tmp_path / "run", "tiny"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_no_takes_no_training(tmp_path: Path) -> None:
    with pytest.raises(TakeError, match="mien simulate"):
        read_corpus([tmp_path])
