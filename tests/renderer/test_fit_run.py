"""Whole fits, tiny ones: they learn, they resume bit for bit, they refuse what is not theirs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from renderer.fitter import checkpoint
from renderer.fitter.evaluate import evaluate
from renderer.fitter.fit import DivergedError, Fit
from renderer.fitter.presets import PRESETS, preset_for_memory, preset_of
from renderer.fitter.prior import ends_of
from renderer.fitter.render import render_view
from streamer.errors import CalibrationError, ConfigError, FitError, TakeError
from tests.renderer.fit_makers import footage

CPU = torch.device("cpu")
QUICK = {
    "steps": 60, "samples": 4096, "rays": 512, "step_mm": 12.0, "occupancy": 12,
    "shape.grid.finest": 32, "shape.grid.log2_rows": 11, "shape.tables": 2,
}  # fmt: skip


def fit_of(**values: Any) -> Fit:
    torch.set_num_threads(1)
    return Fit(footage(), preset_of("ci", {**QUICK, **values}), CPU)


@pytest.mark.timeout(300)
def test_a_fit_learns_and_is_seen_from_a_camera_it_never_saw() -> None:
    fit = fit_of(steps=110)
    before = evaluate(fit, 2)
    while fit.step < fit.preset.steps:
        fit.advance()
    after = evaluate(fit, 2)
    assert before is not None and after is not None and after.held_out
    assert after.psnr_db > before.psnr_db + 6, (before, after)
    view = render_view(fit, fit.footage.held_out[0], 0)
    middle = view.opacity[14:18, 14:18]
    assert middle.min() > 0.8 and view.opacity[0, 0] < 0.5, "a ball before a wall"
    assert view.depth[16, 16] == pytest.approx(1.03 - 0.12, abs=0.06)


@pytest.mark.parametrize("prior", [True, False])
def test_a_resumed_fit_goes_on_bit_for_bit(tmp_path: Path, prior: bool) -> None:
    whole = fit_of(prior=prior)
    losses = [whole.advance()["loss"] for _ in range(24)]
    first = fit_of(prior=prior)
    for _ in range(13):
        first.advance()
    path = checkpoint.save(first, tmp_path)
    second = fit_of(prior=prior)
    checkpoint.load(second, path)
    assert [second.advance()["loss"] for _ in range(11)] == losses[13:]
    for a, b in zip(whole.field.parameters(), second.field.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_a_fit_on_a_gpu_goes_on_after_a_checkpoint(tmp_path: Path) -> None:
    made = [Fit(footage(), preset_of("ci", {**QUICK, "encoder": "torch"}), torch.device("cuda")) for _ in range(2)]
    made[0].advance()
    checkpoint.load(made[1], checkpoint.save(made[0], tmp_path))
    assert made[1].advance()["loss"] == pytest.approx(made[0].advance()["loss"], rel=1e-3)


def test_what_adam_remembers_lies_where_its_parameters_are(tmp_path: Path) -> None:
    """A fused Adam on a GPU counts its steps there too. Without a GPU: a device that holds no data stands for it."""
    fit = fit_of()
    fit.advance()
    path = checkpoint.save(fit, tmp_path)
    fit.field.to("meta")
    checkpoint.load(fit, path)
    devices = {value.device.type for state in fit.optimiser.state.values() for value in state.values()}
    assert devices == {"meta"}


def test_a_checkpoint_is_of_its_footage_alone(tmp_path: Path) -> None:
    """The queue's file was deleted and its numbers begin anew: an old run of a like take is in the folder."""
    fit = fit_of()
    fit.advance()
    path = checkpoint.save(fit, tmp_path)
    mine, recipe = fit.footage, fit.preset
    later = dataclasses.replace(mine, times_ns=tuple(time + 1 for time in mine.times_ns))
    painted = dataclasses.replace(mine, bytes=255 - mine.bytes)
    bent = dataclasses.replace(
        mine, meshes={**mine.meshes, 1: dataclasses.replace(mine.meshes[1], vertices=mine.meshes[1].vertices + 0.01)}
    )
    matted = np.zeros(mine.begins.shape, bool)
    judged = dataclasses.replace(mine, mattes=np.zeros(len(mine.bytes) // 3, np.uint8), matted=matted)
    for other in (later, painted, bent, judged):
        with pytest.raises(FitError, match="other pictures, mattes or meshes"):
            checkpoint.load(Fit(other, recipe, CPU), path)
    checkpoint.load(Fit(dataclasses.replace(mine, bytes=mine.bytes.copy()), recipe, CPU), path)


def test_checkpoints_are_whole_few_and_particular(tmp_path: Path) -> None:
    fit = fit_of()
    for _ in range(3):
        fit.advance()
        checkpoint.save(fit, tmp_path)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [
        "checkpoint-00000002.safetensors", "checkpoint-00000003.safetensors",
    ]  # fmt: skip
    newest = checkpoint.checkpoints(tmp_path)[-1]
    with pytest.raises(FitError, match="another take or preset"):
        checkpoint.load(fit_of(steps=61), newest)
    data = newest.read_bytes()
    torn = tmp_path / "torn.safetensors"
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        torn.write_bytes(data[:length])
        with pytest.raises(FitError, match="damaged"):
            checkpoint.load(fit, torn)
    assert fit.step == 3


def test_the_deformation_begins_slowly_and_in_published_fits_at_once() -> None:
    """After 800 steps of `preview` seed 3 stood in fog at 25.6 dB without it, seeds 1 and 2 at 28.7 and 28.0; with it
    seeds 1 to 4 had 27.9 to 28.2."""
    for published, parts in ((False, [0.1, 0.55, 1.0]), (True, [1.0, 1.0, 1.0])):
        fit = fit_of(steps=100, published=published)
        found = []
        for step in (0, 5, 10):
            fit.step = step
            fit.advance()
            fields, _, motion, _ = (group["lr"] / group["base"] for group in fit.optimiser.param_groups)
            found.append(motion / fields)
        assert found == pytest.approx(parts)


def test_fits_that_differ_in_their_tables_begin_alike() -> None:
    one, more = (dict(fit_of(**{"shape.tables": tables}).field.named_parameters()) for tables in (1, 3))
    assert one.keys() == more.keys()
    for name, value in one.items():
        if not name.startswith("ensemble."):
            assert torch.equal(value, more[name]), name
    assert torch.equal(one["ensemble.tables"][0], more["ensemble.tables"][0])


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    fit = fit_of()
    fit.advance()
    kept = [p.detach().clone() for p in fit.field.parameters()]
    fit.field.tint[0].weight.data[:] = torch.nan
    with pytest.raises(DivergedError, match=r"not finite at step 1 \(colour"):
        fit.advance()
    fit.field.tint[0].weight.data[:] = 0
    same = [torch.equal(a, b) for a, b in zip(kept, fit.field.parameters(), strict=True)]
    assert same.count(False) <= 1 and fit.step == 1


def test_the_prior_moves_the_ball_into_one_place() -> None:
    """At every instant a point of the ball comes to the same point of the canonical ball, to a fraction of a cell."""
    fit = fit_of()
    assert fit.prior is not None
    normals = np.random.default_rng(0).normal(size=(40, 3))
    surface = normals / np.linalg.norm(normals, axis=1, keepdims=True) * 0.12
    places = []
    for step in range(fit.footage.steps):
        centre = fit.footage.meshes[step].world_from_head[:3, 3]
        points = torch.from_numpy(((surface + centre - fit.box.corner) / fit.box.size).astype(np.float32))
        with torch.no_grad():
            places.append(fit.field.canonical(points, [step], [40], fit.opening()).numpy())
    spread = np.ptp(np.stack(places), axis=0).max() * fit.box.size
    assert spread < 0.004
    moved = np.ptp([fit.footage.meshes[s].world_from_head[:3, 3] for s in range(4)], axis=0).max()
    assert moved > 0.05, "without the prior the points would be this far apart"


def test_distances_that_cannot_be_kept_are_not_known() -> None:
    """Tenths of a millimetre in 16 bits end at 6.5 m; what is farther must not come back nearer."""
    near = footage()
    back = np.eye(4)
    back[2, 3] = 7.0
    far = [dataclasses.replace(one, camera_from_world=back @ one.camera_from_world) for one in near.cameras]
    for pictures, kept in ((near, True), (dataclasses.replace(near, cameras=tuple(far)), False)):
        fit = Fit(pictures, preset_of("ci", QUICK), CPU)
        assert fit.prior is not None
        assert any(one.any() for one in fit.prior.distance) == kept


def test_rays_end_behind_the_skin_once_the_head_is_solid() -> None:
    for values, ending in (({}, True), ({"prior_parts.depth": False}, False), ({"published": True}, False)):
        fit = fit_of(steps=100, **values)
        batch = fit._sampler.draw(400, 2, np.random.default_rng(0))
        assert bool(torch.isfinite(batch.ends).any()) == (values != {"prior_parts.depth": False})
        behind = []
        for fit.step in (29, 30):
            samples = fit._samples(batch)
            behind.append(int((samples.depth > batch.ends[samples.ray]).sum()))
        if torch.isfinite(batch.ends).any():
            assert behind[0] > 100 and (behind[1] == 0) == ending, values


def test_where_the_outline_of_a_mesh_is_near_rays_do_not_end() -> None:
    """Behind the deepest of nine pixels, where all nine see the mesh; a wall at 6.5 m leaves no room for more."""
    distance = np.zeros((1, 6, 6), np.uint16)
    distance[0, :, 1:] = 10_000
    distance[0, 2, 3] = 10_400
    ends = ends_of(distance)
    assert not ends[0, :, :2].any(), "beside the outline"
    assert (ends[0, 1:4, 2:5] == 10_700).all() and ends[0, 5, 5] == 10_300
    assert not ends_of(np.full((1, 3, 3), 65_400, np.uint16)).any()


def test_what_cannot_be_fitted_is_told() -> None:
    one = footage()
    with pytest.raises(TakeError, match="no meshes"):
        Fit(footage(meshes=False), preset_of("ci"), CPU)
    blind = dataclasses.replace(one, begins=np.full_like(one.begins, -1))
    with pytest.raises(TakeError, match="no instant"):
        Fit(blind, preset_of("ci"), CPU)
    with pytest.raises(CalibrationError, match="two cameras"):
        Fit(dataclasses.replace(one, cameras=one.cameras[:1]), preset_of("ci"), CPU)


def test_presets_are_found_changed_and_refused() -> None:
    assert preset_of("ci", {"shape.grid.levels": 3, "time_steps": 1}).shape.grid.levels == 3
    assert preset_of("ci", {"step_mm": 7}).step_mm == 7.0
    assert preset_of("ci", {"losses.mask": 0, "seed": 0, "shape.deform_layers": 0}).losses.mask == 0.0
    for name, values, text in (
        ("cy", {}, "no preset 'cy'"),
        ("ci", {"shape.tabels": 3}, "no value 'shape.tabels'"),
        ("ci", {"steps": "many"}, "expected something like"),
        ("ci", {"shape": 1}, "does not name one value"),
        ("ci", {"steps": 0}, "'steps' is 0; expected 1 or more"),
        ("ci", {"step_mm": 0}, "expected a number from 0"),
        ("ci", {"schedule.rate_fields": float("nan")}, "expected a number from 0"),
        ("ci", {"encoder": "foo"}, "choose one of auto, torch, numba"),
        ("ci", {"schedule.strides": [1.0]}, "expected something like"),
    ):
        with pytest.raises(ConfigError, match=text):
            preset_of(name, values)
    assert [preset_for_memory(gb) for gb in (0, 23, 80)] == ["preview", "gpu-24", "gpu-48"]
    for preset in PRESETS.values():
        assert json.loads(json.dumps(dataclasses.asdict(preset)))["name"] == preset.name
