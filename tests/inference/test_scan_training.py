"""Learning from raw scans: it learns, resumes bit by bit, is shared by processes, stops on nonsense."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import mien
from inference.model_store import load_model
from inference.published import published_entry
from inference.tempeh.published.sizes import SMALL
from inference.tempeh.published.store import load_coarse, load_refine
from inference.tempeh.published.volumes import ViewTensors
from inference.training.curves import draw_curves, read_curve
from inference.training.loop import Plan, train
from inference.training.losses import LossWeights
from inference.training.scan_corpus import ScanCorpus, check_corpus
from inference.training.scan_readers import read_folder
from inference.training.scan_tasks import (
    CoarseScanTask,
    RefineScanTask,
    ScanSettings,
    predict_coarse,
    predict_refined,
    random_turns,
)
from inference.training.scan_training import ScanOptions, train_on_scans
from streamer.errors import ConfigError, ModelError, TakeError
from tests.inference.scan_world import plain_folder, template, write_mesh

SETTINGS = ScanSettings(
    sizes=replace(SMALL, step_mm=60.0, centre_mm=(0.0, 0.0, 0.0), localiser_scale=1.0),
    coarse_size=(66, 50),
    refine_size=(132, 100),
    min_views=2,
    scan_points=300,
    refined=40,
    seed=1,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on two loaded cores: a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ScanCorpus:
    folder = tmp_path_factory.mktemp("scans")
    plain_folder(folder)
    return check_corpus(read_folder(folder, template()), (66, 50))


def test_samples_are_a_function_of_the_generator_alone(corpus: ScanCorpus) -> None:
    task = CoarseScanTask(corpus, SETTINGS)
    one, same = (task.sample(1, np.random.default_rng(4)) for _ in range(2))
    other = task.sample(1, np.random.default_rng(5))
    for name, value in one.items():
        np.testing.assert_array_equal(value, same[name])
    assert not np.array_equal(one["images"], other["images"])
    assert 2 <= one["views"] <= 3 and one["images"].shape == (3, 3, 50, 66) and one["scan"].shape == (300, 3)
    counts = {float(task.sample(0, np.random.default_rng(k))["views"]) for k in range(12)}
    assert counts == {2.0, 3.0}


def test_augmented_pictures_still_fit_their_cameras(corpus: ScanCorpus) -> None:
    """Where the registration's vertices project, the pictures show them, whatever the zoom."""
    task = CoarseScanTask(corpus, replace(SETTINGS, brightness=0.0, zoom=0.1))
    for seed in range(4):
        sample = task.sample(0, np.random.default_rng(seed))
        K, outer, picture = sample["K"][0], sample["camera_from_world"][0], sample["images"][0]
        local = sample["registration"] @ outer[:, :3].T + outer[:, 3]
        pixel = (local / local[:, 2:]) @ K.T
        mask = np.zeros(picture.shape[1:], np.uint8)
        for u, v in pixel[:, :2]:
            cv2.circle(mask, (round(float(u)), round(float(v))), 1, 1, -1)
        # the head is lighter than the background, and the background begins where it should
        background = np.median(picture[:, mask == 0])
        assert (np.abs(picture[:, mask == 1] - background).max(0) > 0.2).mean() > 0.9


def test_turns_are_rotations_of_all_directions() -> None:
    turns = random_turns(np.random.default_rng(0), 2000)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (2000, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-5)
    assert np.abs(turns.mean(0)).max() < 0.05


def test_both_stages_learn(corpus: ScanCorpus, tmp_path: Path) -> None:
    sizes = replace(SETTINGS.sizes, step_mm=40.0)
    settings = replace(SETTINGS, turn=False, zoom=0.0, brightness=0.0, pretrain=0.8, refined=64, sizes=sizes)
    told: list[dict[str, float]] = []
    task = CoarseScanTask(corpus, settings)
    train(task, Plan(30, 1, rate=5e-2, every=5, bf16=False), tmp_path, lambda _, figures: told.append(figures))
    assert told[-1]["vertex_mm"] < 0.8 * told[0]["vertex_mm"]
    assert "surface_mm" not in told[0] and "surface_mm" in told[-1]
    assert predict_coarse(task.model, corpus, settings.coarse_size).shape == (3, 64, 3)
    meshes = np.stack([entry.registration() for entry in corpus.entries if entry.registration]) * np.float32(1.03)
    learnt: list[dict[str, float]] = []
    # only the surface term: what the registrations say must not be needed here
    refine = RefineScanTask(corpus, settings, meshes, LossWeights(vertices=0.0, surface=1.0))
    train(refine, Plan(15, 1, rate=2e-2, every=5, bf16=False), tmp_path, lambda _, figures: learnt.append(figures))
    assert learnt[-1]["surface_mm"] < 0.9 * learnt[0]["surface_mm"]
    refined = predict_refined(refine.model, corpus, meshes, settings.refine_size)
    assert np.isfinite(refined).all() and 0 < np.abs(refined - meshes).max() <= 4.0 * 3
    for stage in ("coarse", "refine"):
        picture = cv2.imread(str(tmp_path / f"{stage}.curve.png"))
        assert picture is not None and (picture < 200).any()


class Interrupted(Exception):
    """Stands for a power cut."""


def test_a_training_that_was_stopped_continues_bit_by_bit(corpus: ScanCorpus, tmp_path: Path) -> None:
    meshes = np.stack([entry.registration() for entry in corpus.entries if entry.registration]) + np.float32(2.0)
    plan = Plan(4, 2, every=2, bf16=False)
    for make in (lambda: CoarseScanTask(corpus, SETTINGS), lambda: RefineScanTask(corpus, SETTINGS, meshes)):
        whole = train(make(), plan, tmp_path / "whole", lambda *_: None)

        def stop(iteration: int, _: dict[str, float]) -> None:
            if iteration == 2:
                raise Interrupted

        with pytest.raises(Interrupted):
            train(make(), plan, tmp_path / "parts", stop)
        parts = train(make(), plan, tmp_path / "parts", lambda *_: None)
        assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    for stage in ("coarse", "refine"):
        curves = [(tmp_path / run / f"{stage}.curve.jsonl").read_text() for run in ("whole", "parts")]
        assert curves[0] == curves[1]


def test_nonsense_stops_the_training_and_keeps_the_batch(corpus: ScanCorpus, tmp_path: Path) -> None:
    task = CoarseScanTask(corpus, SETTINGS)
    with torch.no_grad():
        task.model.localiser.mapping[2].bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="bad_batch"):
        train(task, Plan(1, 2, bf16=False), tmp_path, lambda *_: None)
    with np.load(tmp_path / "bad_batch.npz") as kept:
        assert {"images", "scan", "registration"} <= set(kept.files)


def test_scans_without_registrations_are_refused(tmp_path: Path) -> None:
    plain_folder(tmp_path, registered=False)
    with pytest.raises(TakeError, match=r"3 of 3 scans have no registration \(frame_000, ...\).* mien register"):
        CoarseScanTask(read_folder(tmp_path, template()), SETTINGS)


WORKER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from inference.training.loop import Plan, train
from inference.training.ranks import joined_ranks
from inference.training.scan_corpus import check_corpus
from inference.training.scan_readers import read_folder
from inference.training.scan_tasks import CoarseScanTask
from tests.inference.scan_world import template
from tests.inference.test_scan_training import SETTINGS
out = Path(sys.argv[3])
with joined_ranks() as ranks:
    task = CoarseScanTask(check_corpus(read_folder(Path(sys.argv[2]), template()), (66, 50)), SETTINGS)
    state = train(task, Plan(3, 4, every=1, bf16=False), out / "run", lambda *_: None, ranks=ranks)
    torch.save(state, out / f"rank_{ranks.rank}.pt")
"""


@pytest.mark.timeout(180)  # two interpreters with torch, beside other tests on two cores
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    plain_folder(tmp_path / "data")
    (tmp_path / "worker.py").write_text(WORKER)
    root = Path(mien.__file__).resolve().parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(tmp_path / "worker.py"), str(root), str(tmp_path / "data"), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=170, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    states = [torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    lines = (tmp_path / "run" / "coarse.curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["samples"] for line in lines] == [4, 8, 12]  # one writer, all samples


def test_a_batch_must_be_divisible(corpus: ScanCorpus, tmp_path: Path) -> None:
    from inference.training.ranks import Ranks

    with pytest.raises(ModelError, match="a batch of 3 sets cannot be divided among 2 processes"):
        train(CoarseScanTask(corpus, SETTINGS), Plan(1, 3), tmp_path, lambda *_: None, ranks=Ranks(0, 2))


def test_the_verb_writes_a_model_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain_folder(tmp_path / "data")
    write_mesh(tmp_path / "data" / "template.obj", template().template, template().triangles)
    command = ["train", str(tmp_path / "data"), "--network", "published", "--layout", "folder", "--size", "small"]
    short = ["--coarse-iterations", "2", "--refine-iterations", "1", "--every", "1", "--min-views", "2", "--json"]
    assert mien.main([*command, *short, "--out", str(tmp_path / "run"), "--f32"]) == 0
    told = json.loads(capsys.readouterr().out)
    model = load_model(told["model"])
    entry = published_entry(model)
    assert told["scans"] == 3 and told["remarks"] == []
    assert not entry.quirks and entry.sizes.vertices == 64 and (model.width, model.height) == (200, 150)
    load_coarse(model)
    load_refine(model)
    with np.load(tmp_path / "run" / "coarse_meshes.npz") as kept:
        assert kept["vertices_mm"].shape == (3, 64, 3) and kept["names"].tolist()[0] == "frame_000"


def test_batches_of_one_scan_are_refused(tmp_path: Path) -> None:
    """At full size the coarse net ends in one voxel, whose batch statistics need two scans."""
    with pytest.raises(ConfigError, match="--batch 1 over 1 process: each needs 2 scans or more"):
        train_on_scans(ScanOptions((tmp_path,), tmp_path / "run", batch=1), lambda *_: None, quiet=True)


def test_sets_with_different_views_share_a_batch(corpus: ScanCorpus) -> None:
    """Together or alone, in evaluation mode the same vertices."""
    task = CoarseScanTask(corpus, SETTINGS)
    task.model.eval()
    rows = [task.sample(k, np.random.default_rng(seed)) for k, seed in ((0, 1), (1, 3))]
    sets = []
    for count, row in zip((2, 3), rows, strict=True):
        cameras = [torch.from_numpy(row[name][None, :count]) for name in ("K", "distortion", "camera_from_world")]
        sets.append((torch.from_numpy(row["images"][None, :count]), ViewTensors(*cameras)))
    turns = torch.from_numpy(np.stack([row["turn"] for row in rows]))
    with torch.no_grad():
        images, views = zip(*sets, strict=True)
        together = task.model.together(images, views, turns).vertices
        for number, (one, cameras_of_one) in enumerate(sets):
            alone = task.model(one, cameras_of_one, turns[number : number + 1]).vertices[0]
            torch.testing.assert_close(together[number], alone, atol=1e-3, rtol=0)


def test_the_command_line_says_what_the_options_say() -> None:
    given = mien.build_parser().parse_args(["train", "data", "--out", "run", "--network", "published"])
    options = ScanOptions(sources=(Path("data"),), out=Path("run"))
    names = {"sources": "takes", "rate": "learning_rate"}
    for field in dataclasses.fields(options):
        if field.name in ("bf16", "name"):
            continue
        value = getattr(given, names.get(field.name, field.name))
        assert (tuple(value) if field.name == "sources" else value) == getattr(options, field.name), field.name
    assert given.f32 is not options.bf16


def test_curves_are_read_and_drawn(tmp_path: Path) -> None:
    rows = [{"iteration": i, "samples": i, "loss": 100.0 / i, "mm": 3.0} for i in (1, 2, 2, 10)]
    (tmp_path / "a.curve.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    curves = read_curve(tmp_path / "a.curve.jsonl")
    assert curves == {"loss": [(1, 100), (2, 50), (10, 10)], "mm": [(1, 3), (2, 3), (10, 3)]}
    picture = draw_curves(curves, "a")
    assert picture.shape[0] > 2 * 150 and (picture == (200, 90, 20)).all(-1).sum() > 200
    assert train_on_scans.__doc__
