"""LPIPS and JOD of a fit: handed what their packages expect, left out with a reason where they cannot be had."""

import dataclasses
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from renderer.fitter.evaluate import evaluate
from renderer.fitter.fit import Fit
from renderer.fitter.perceptual import FILM_FPS, FILM_LENGTH, TRUNK, film_steps, load_perceptual
from renderer.fitter.presets import preset_of
from streamer.types import U8
from tests.renderer.fit_makers import footage

CPU = torch.device("cpu")
STEPS = 4


class Recorder:
    """Stands for a film metric: keeps what it was asked, answers with the mean difference."""

    def __init__(self, **how: Any) -> None:
        self.how, self.asked = how, []  # type: ignore[var-annotated]

    def predict(self, film: U8, truth: U8, **terms: Any) -> tuple[torch.Tensor, None]:
        self.asked.append((film, truth, terms))
        return torch.tensor(10.0 - np.abs(film.astype(float) - truth).mean() / 255), None


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Recorder]:
    """Both packages as they would be, with AlexNet's file in torch's folder."""
    made: list[Recorder] = []

    def cvvdp(**how: Any) -> Recorder:
        made.append(Recorder(**how))
        return made[-1]

    class LPIPS(torch.nn.Module):
        def __init__(self, **how: Any) -> None:
            super().__init__()
            assert how == {"net": "alex", "verbose": False}

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            assert a.shape == b.shape == (1, 3, 32, 32)
            assert a.dtype == torch.float32 and a.min() >= -1 and a.max() <= 1
            return (a - b).abs().mean()[None, None, None, None]

    monkeypatch.setitem(sys.modules, "pycvvdp", types.SimpleNamespace(cvvdp=cvvdp))
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=LPIPS))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{TRUNK}7be5be79.pth").touch()
    return made


def fit() -> Fit:
    return Fit(footage(STEPS, held_out=2), preset_of("ci", {"steps": 1}), CPU)


def test_metrics_get_what_their_packages_expect(packages: list[Recorder]) -> None:
    scores = evaluate(fit(), 1, load_perceptual(CPU))
    assert scores is not None and not scores.without
    (metric,) = packages
    assert metric.how == {"display_name": "standard_4k", "device": CPU, "quiet": True}
    assert len(metric.asked) == 2, "a film of each held-out camera"
    differences = []
    for film, truth, terms in metric.asked:
        assert film.shape == truth.shape == (STEPS, 32, 32, 3) and film.dtype == truth.dtype == np.uint8
        assert terms == {"dim_order": "FHWC", "frames_per_second": pytest.approx(1e9 / 40_000_000 / 1)}
        assert not np.array_equal(truth[0], truth[1]), "the true film moves"
        differences.append(np.abs(film.astype(float) - truth).mean() / 255)
    assert scores.jod == pytest.approx(10 - np.mean(differences), abs=1e-5)
    first = [np.abs(film[0].astype(float) - truth[0]).mean() / 127.5 for film, truth, _ in metric.asked]
    assert scores.lpips == pytest.approx(np.mean(first), abs=1e-5)


def test_what_cannot_be_had_is_left_out_with_the_reason(
    packages: list[Recorder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pycvvdp", None)
    (tmp_path / "checkpoints" / f"{TRUNK}7be5be79.pth").unlink()
    scores = evaluate(fit(), 1, load_perceptual(CPU))
    assert scores is not None and scores.lpips is None and scores.jod is None
    assert "lpips.LPIPS(net='alex')" in scores.without["lpips"], "says how to fetch the weights"
    assert "mien[fit-metrics]" in scores.without["jod"]
    assert scores.psnr_db > 0


def test_a_package_that_does_not_load_costs_no_fit(
    packages: list[Recorder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Torchvision of another build than torch raises RuntimeError when it is imported."""
    (tmp_path / "broken_vdp.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pycvvdp")
    (tmp_path / "broken_vdp.py").rename(tmp_path / "pycvvdp.py")
    assert "torchvision::nms" in load_perceptual(CPU).without["jod"]


def test_a_metric_that_fails_at_work_costs_no_fit(packages: list[Recorder]) -> None:
    metrics = load_perceptual(CPU)

    def starved(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore of this")

    packages[0].predict = starved  # type: ignore[method-assign]
    scores = evaluate(fit(), 1, metrics)
    assert scores is not None and scores.jod is None and scores.lpips is not None
    assert scores.without == {"jod": "CUDA out of memory. Tried to allocate 9 GiB"}


def test_instants_that_are_all_one_make_no_film(packages: list[Recorder]) -> None:
    still = dataclasses.replace(footage(STEPS, held_out=2), times_ns=(7,) * STEPS)
    scores = evaluate(Fit(still, preset_of("ci", {"steps": 1}), CPU), 1, load_perceptual(CPU))
    assert scores is not None and scores.jod is None and scores.lpips is not None


@pytest.mark.parametrize(
    ("steps", "fps", "length", "film_fps"),
    [(24, 4.0, 24, 4.0), (500, 73.0, FILM_LENGTH, 73 / 3), (60, 24.0, FILM_LENGTH, FILM_FPS), (2, 60.0, 1, 30.0)],
)
def test_films_are_the_middle_of_a_take_at_about_24_hertz(steps: int, fps: float, length: int, film_fps: float) -> None:
    chosen, found_fps = film_steps(steps, fps)
    assert len(chosen) == length and found_fps == pytest.approx(film_fps)
    assert set(np.diff(chosen)) <= {round(fps / film_fps)}
    assert abs((chosen[0] + chosen[-1]) / 2 - (steps - 1) / 2) <= 2 * fps / film_fps


@pytest.mark.skipif(
    importlib.util.find_spec("pycvvdp") is None, reason="cvvdp is not installed: pip install 'mien[fit-metrics]'"
)
def test_the_real_film_metric_knows_better_from_worse() -> None:
    metrics = load_perceptual(CPU)
    if metrics.jod is None:
        pytest.skip(metrics.without["jod"])
    rows = [np.tile(np.arange(64, dtype=np.uint8) * 3 + t, (48, 1)) for t in range(8)]
    truth = np.stack(rows)[..., None].repeat(3, 3)
    noise = np.random.default_rng(1).integers(-30, 31, truth.shape)
    far, near = ((truth + noise // part).clip(0, 255).astype(np.uint8) for part in (1, 6))
    same, close, apart = (metrics.jod(film, truth, FILM_FPS) for film in (truth, near, far))
    assert same == pytest.approx(10.0) and apart < close < same
