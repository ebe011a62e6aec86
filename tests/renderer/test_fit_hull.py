"""The hull from mattes holds the person at every instant and little else; no fog is taken for white."""

import dataclasses

import numpy as np
import pytest
import torch

from renderer.fitter.box import Box, box_of_cameras, lattice, seen_by
from renderer.fitter.fit import Fit
from renderer.fitter.floaters import drop_floaters
from renderer.fitter.footage import Footage, read_footage
from renderer.fitter.hull import hull_of
from renderer.fitter.occupancy import Occupancy
from renderer.fitter.presets import preset_of
from streamer.takes.reader import open_take
from streamer.types import Calibration
from tests.renderer.fit_makers import RADIUS_M, SIDE_PX, camera, centre_at
from tests.renderer.fit_takes import write_take
from tests.renderer.test_fit_input import TINY

CELLS = 64


@pytest.fixture(scope="module")
def matted(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    take = write_take(tmp_path_factory.mktemp("hull") / "take", cameras=9, mattes=(SIDE_PX, SIDE_PX))
    with open_take(take) as opened:
        return read_footage(opened, mesh_channel="truth")


def ball(box: Box, spare_m: float) -> np.ndarray:
    """Cells within the ball at some instant, grown by `spare_m`."""
    centres = np.stack([centre_at(step, 4) for step in range(4)])
    apart = np.linalg.norm(lattice(box, CELLS)[..., None, :] - centres, axis=-1)
    return np.asarray((apart < RADIUS_M + spare_m).any(-1))


def test_the_hull_holds_the_ball_wherever_it_goes_and_little_else(matted: Footage) -> None:
    box = box_of_cameras(Calibration(matted.cameras))
    hull = hull_of(matted, box, CELLS)
    assert hull is not None and hull[ball(box, 0.0)].all()
    seen = seen_by(Calibration(matted.cameras), lattice(box, CELLS)) >= 2
    assert (hull & seen).mean() < 0.12 and seen.mean() > 0.6, "the rest is above and below: no camera looks there"
    finer = hull_of(matted, box, 96)
    assert finer is not None and finer.shape == (96, 96, 96) and abs(finer.mean() - hull.mean()) < 0.01


def test_a_matte_with_a_hole_costs_nothing_and_two_do(matted: Footage) -> None:
    assert matted.mattes is not None
    box, blind = box_of_cameras(Calibration(matted.cameras)), matted.mattes.copy()
    kept = []
    for column in (0, 4):
        for step in range(matted.steps):
            begin = int(matted.begins[step, column]) // 3
            blind[begin : begin + SIDE_PX**2] = 0
        hull = hull_of(dataclasses.replace(matted, mattes=blind), box, CELLS)
        assert hull is not None
        kept.append(hull[ball(box, -0.03)].mean())
    assert kept == [1.0, 0.0]


def test_without_mattes_everywhere_there_is_no_hull(matted: Footage) -> None:
    assert matted.matted is not None
    box = box_of_cameras(Calibration(matted.cameras))
    assert hull_of(dataclasses.replace(matted, mattes=None, matted=None), box, CELLS) is None
    once = matted.matted.copy()
    once[2, 1:] = False
    assert hull_of(dataclasses.replace(matted, matted=once), box, CELLS) is None, "an instant that nobody judges"


def test_a_fit_begins_in_the_hull_and_fog_is_not_white(matted: Footage) -> None:
    """Where white fog would cost nothing, another colour stands behind each ray, in picture and truth alike."""
    narrow = Fit(matted, preset_of("ci", {**TINY, "occupancy": CELLS}), torch.device("cpu"))
    assert narrow.occupancy.occupied.float().mean() < 0.12
    batch = narrow._sampler.draw(400, 2, narrow.rng)
    behind, target = narrow._behind(batch)
    outside, inside = batch.alpha == 0, batch.alpha == 1
    assert outside.any() and inside.any()
    assert torch.allclose(target[outside], behind[outside], atol=1e-6) and float(behind.std()) > 0.2
    assert torch.equal(target[inside], batch.colour[inside])
    wide = Fit(matted, preset_of("ci", {**TINY, "occupancy": CELLS, "published": True}), torch.device("cpu"))
    assert wide.occupancy.occupied.float().mean() > 0.6
    assert torch.equal(wide._behind(batch)[0], torch.ones(400, 3)), "published: white"


def test_crumbs_in_the_air_are_dropped_and_the_head_is_not() -> None:
    side = torch.arange(32) - 10.0
    head = side[:, None, None] ** 2 + side[None, :, None] ** 2 + side[None, None, :] ** 2 < 49
    values = torch.where(head, 300.0, 0.0)
    values[26:29, 26:29, 26:29] = 300.0
    values[16:26, 10, 10] = 9.0  # a bridge of haze to another crumb
    values[25:28, 9:12, 9:12] = 300.0
    occupancy = Occupancy(Box((0, 0, 0), 1.0), 32, Calibration((camera(0, 3), camera(1, 3))), torch.device("cpu"))
    occupancy.values, occupancy.occupied = values, values > 8
    crumbs = occupancy.occupied & ~head
    assert drop_floaters(occupancy) > 40
    assert occupancy.occupied[head].all() and not occupancy.occupied[25:, 9:12, 9:12].any()
    assert not (occupancy.occupied & crumbs)[26:29, 26:29, 26:29].any()
    empty = Occupancy(Box((0, 0, 0), 1.0), 8, Calibration((camera(0, 3), camera(1, 3))), torch.device("cpu"))
    empty.values = torch.zeros(8, 8, 8)
    assert drop_floaters(empty) == 0, "nothing to judge by"
