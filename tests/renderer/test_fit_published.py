"""The switch that keeps the published errors, each by itself; and which preset a worker takes."""

import math

import pytest
import torch

from renderer.fitter import losses
from renderer.fitter.compositing import weights_of
from renderer.fitter.fit import Fit
from renderer.fitter.jobs import Job
from renderer.fitter.marching import Samples
from renderer.fitter.presets import preset_of
from renderer.fitter.worker import gpu_memory_gb, task_of
from streamer.errors import FitError
from tests.renderer.fit_makers import footage
from tests.renderer.test_fit_input import TINY

VALUES = {**TINY, "shape.deform_layers": 2, "shape.tables": 3}


def fit_of(*, published: bool) -> Fit:
    return Fit(footage(meshes=False), preset_of("ci", {**VALUES, "published": published}), torch.device("cpu"))


def test_a_published_motion_is_in_other_units() -> None:
    """Motions in units of the box are added to positions in scene units, 9 to a metre: weaker by the box's edge."""
    ours, theirs = fit_of(published=False), fit_of(published=True)
    for name, value in theirs.field.deformation.state_dict().items():  # type: ignore[union-attr]
        ours.field.deformation.state_dict()[name].copy_(value)  # type: ignore[union-attr]
    for fit in (ours, theirs):
        fit.field.deformation.translation.bias.data[:] = torch.tensor([0.1, -0.05, 0.02])  # type: ignore[union-attr]
    points = torch.rand(20, 3)
    moved, less = (fit.field.canonical(points, [1], [20], fit.opening()) - points for fit in (ours, theirs))
    assert torch.allclose(moved, less * 9 * ours.box.size, atol=1e-6) and float(moved.detach().abs().max()) > 0.05


def test_published_blend_weights_begin_near_zero() -> None:
    """So that all jumps when they take over from the first table; ours begin as that."""
    ours, theirs = (fit_of(published=published).field.ensemble.codes for published in (False, True))
    assert float(theirs.detach().abs().max()) < 0.05 and torch.equal(ours[:, 0].detach(), torch.ones(4))


def test_published_depths_close_at_a_millimetre() -> None:
    ends = []
    for published in (False, True):
        fit = fit_of(published=published)
        assert fit._tolerance_m() == 0.1
        fit.step = fit.preset.steps
        ends.append(fit._tolerance_m())
    assert ends == pytest.approx([0.004, 0.0011])


def test_a_published_near_loss_takes_a_variance_for_a_deviation() -> None:
    """In scene units the tolerance is eps, the deviation eps / 3, and (eps / 3)^2 is what the published code passes."""
    depth = torch.arange(60) * 0.002 + 0.95
    ray = torch.zeros(60, dtype=torch.int64)
    samples = Samples(ray, ray, depth, torch.rand(60, 3), torch.tensor([60]))
    weights = weights_of(torch.full((60,), 8.0), samples, 0.002)
    eps, summed = 9 * 0.03, weights.cumsum(0)
    for published, deviation in ((False, eps / 3), (True, (eps / 3) ** 2)):
        wanted = [
            (float(summed[i]) - 0.5 * (1 + math.erf(9 * (float(depth[i]) - 1.0) / deviation / math.sqrt(2)))) ** 2
            for i in range(60)
            if abs(float(depth[i]) - 1.0) <= 0.03
        ]
        found = losses.near_loss(weights, samples, torch.tensor([1.0]), 0.03, published=published)
        assert float(found) == pytest.approx(sum(wanted) / len(wanted), rel=1e-3)


def test_a_worker_takes_what_its_memory_allows() -> None:
    """`auto` is the largest that fits; a preset by name is never replaced by a smaller one in silence."""
    chosen = {gb: task_of(Job(0, "/t", "auto", {}), gb).preset.name for gb in (0, 12, 24, 47.9, 48, 80)}
    assert chosen == {0: "preview", 12: "preview", 24: "gpu-24", 47.9: "gpu-48", 48: "gpu-48", 80: "gpu-48"}
    with pytest.raises(FitError, match="needs a GPU with 44 GB, this worker has 24; add the job again with --preset"):
        task_of(Job(0, "/t", "gpu-48", {}), 24)
    assert task_of(Job(0, "/t", "preview", {}), 80).preset.name == "preview"
    assert gpu_memory_gb(None) == gpu_memory_gb(torch.device("cpu")) == 0.0
