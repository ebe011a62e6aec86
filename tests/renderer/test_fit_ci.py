"""The `ci` preset on a ball that moves and changes: a threshold that it reaches, and misses with any part broken."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from renderer.fitter import fit as fit_module
from renderer.fitter import render
from renderer.fitter.deformation import Deformation
from renderer.fitter.ensemble import HashEnsemble
from renderer.fitter.evaluate import evaluate
from renderer.fitter.fit import Fit
from renderer.fitter.footage import Footage
from renderer.fitter.layers import on_white
from renderer.fitter.marching import Samples
from renderer.fitter.presets import preset_of
from streamer.types import U8
from tests.renderer.fit_makers import centre_at, footage
from tests.renderer.fit_takes import matte_of

STEPS = 4
THRESHOLD_DB = 21.0
"""Measured with seeds 1, 2: 21.5, 22.9 whole; at most 19.8 with a part broken. Seed 2 is taken."""
LOWER_PART = 100
"""Green of a pixel of the ball below this: the surface there looks down."""


def changing() -> Footage:
    """A ball on white that moves, which the deformation knows; its lower part is inverted at every other instant, which
    is no motion and needs the ensemble."""
    plain = footage(STEPS, 8, 1, meshes=False)
    flat, mattes = plain.bytes.copy(), np.zeros(len(plain.bytes) // 3, np.uint8)
    held: dict[tuple[int, str], U8] = {}
    for step in range(STEPS):
        for column, camera in enumerate(plain.cameras):
            picture, matte = plain.picture(step, column), matte_of(camera, centre_at(step, STEPS))
            assert picture is not None
            begin = int(plain.begins[step, column])
            flat[begin : begin + picture.size] = changed(picture, matte, step).reshape(-1)
            mattes[begin // 3 : begin // 3 + matte.size] = matte.reshape(-1)
        for camera in plain.held_out:
            matte = matte_of(camera, centre_at(step, STEPS))
            held[step, camera.id] = changed(plain.held_out_pictures[step, camera.id], matte, step)
    matted = plain.begins >= 0
    return dataclasses.replace(plain, bytes=flat, held_out_pictures=held, mattes=mattes, matted=matted)


def changed(picture: U8, matte: U8, step: int) -> U8:
    lower = picture[..., 1:2] < LOWER_PART
    return on_white(np.where(lower, 255 - picture, picture) if step % 2 else picture, matte)


def psnr_db() -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fit = Fit(changing(), preset_of("ci", {"prior": False, "seed": 2}), torch.device("cpu"))
        while fit.step < fit.preset.steps:
            fit.advance()
        scores = evaluate(fit, STEPS)
    finally:
        torch.set_num_threads(before)
    assert scores is not None and scores.held_out
    return scores.psnr_db


def nothing_moves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Deformation, "forward", lambda self, points, steps, counts, opened: points)


def blends_are_constant(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HashEnsemble, "weights", lambda self, opened: torch.ones_like(self.codes) / self.codes.shape[1])


def nothing_hides(patch: pytest.MonkeyPatch) -> None:
    def wrong(density: Tensor, samples: Samples, step_m: float) -> Tensor:
        return 1 - torch.exp(-density * step_m)

    patch.setattr(fit_module, "weights_of", wrong)
    patch.setattr(render, "weights_of", wrong)


def test_the_ci_preset_reaches_its_threshold() -> None:
    assert psnr_db() > THRESHOLD_DB


@pytest.mark.parametrize("fault", [nothing_moves, blends_are_constant, nothing_hides], ids=lambda fault: fault.__name__)
def test_a_broken_part_misses_it(monkeypatch: pytest.MonkeyPatch, fault: object) -> None:
    assert callable(fault)
    fault(monkeypatch)
    assert psnr_db() < THRESHOLD_DB
