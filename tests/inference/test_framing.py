"""Windows, the cameras that belong to them, exact area averages, and which cameras a model looks through."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.framing import Resampler, Window, area_weights, choose_evenly, fit_window, framed
from streamer.geometry import project, scaled
from streamer.types import U8, Camera
from tests.inference.makers import camera, ring

SIZES = st.tuples(st.integers(40, 4000), st.integers(40, 4000))


def blob(width: int, height: int, x: float, y: float, radius: float) -> U8:
    """A soft bright blob centred at pixel (x, y)."""
    v, u = np.mgrid[0:height, 0:width]
    value = 255 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * radius**2))
    return np.repeat(value.astype(np.uint8)[..., None], 3, 2)


def centroid(picture: U8) -> tuple[float, float]:
    v, u = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]]
    value = picture[..., 0].astype(float)
    return float((value * u).sum() / value.sum()), float((value * v).sum() / value.sum())


@given(SIZES, SIZES)
def test_the_window_keeps_the_height_and_the_aspect(full: tuple[int, int], small: tuple[int, int]) -> None:
    window = fit_window(*full, *small)
    assert (window.top, window.height) == (0, full[1])
    stretch = (small[0] / window.width) / (small[1] / window.height)
    assert abs(stretch - 1) <= 8.01 / min(window.width, full[1] * small[0] / small[1])  # snapping moves edges by 8 px
    centre = window.left + window.width / 2
    assert abs(centre - full[0] / 2) <= 8.01
    if window.width <= full[0]:
        assert window.left >= 0 and window.left + window.width <= full[0]


def test_the_whole_picture_gives_the_scaled_camera_of_geometry() -> None:
    full = camera("a", 0.3, width=640, height=480)
    window = fit_window(640, 480, 160, 120)
    assert window == Window(0, 0, 640, 480)
    np.testing.assert_allclose(framed(full, window, 160, 120).K, scaled(full, 160, 120).K, atol=1e-12)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1280, 720), (550, 802), (1000, 333), (637, 481)])
def test_the_adapted_camera_sees_a_point_where_the_picture_shows_it(width: int, height: int) -> None:
    full = replace(camera("a", 0.0, width=width, height=height), distortion=np.array([-0.1, 0.02, 1e-3, -1e-3, 0.0]))
    point = np.array([0.08, -0.05, 0.1])
    (x, y), _ = project(full, point)
    window = fit_window(width, height, 160, 120)
    out = np.empty((120, 160, 3), np.uint8)
    Resampler(width, height, window, 160, 120).into(blob(width, height, x, y, height / 20), out)
    expected, _ = project(framed(full, window, 160, 120), point)
    np.testing.assert_allclose(centroid(out), expected, atol=0.05)


@given(st.integers(1, 40), st.integers(1, 30), st.floats(-20, 20), st.floats(1, 60))
def test_area_weights_are_an_average(source: int, target: int, start: float, length: float) -> None:
    weights = area_weights(start, start + length, source, target)
    assert weights.shape == (target, source) and (weights >= 0).all() and weights.sum(1).max() <= 1 + 1e-4
    covered = max(0.0, min(start + length, source) - max(start, 0.0))
    assert weights.sum() * length / target == pytest.approx(covered, abs=1e-3)


def test_both_ways_of_resampling_agree() -> None:
    picture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8), (5, 5), 0)
    fast, exact = np.empty((2, 24, 32, 3), np.uint8)
    Resampler(128, 96, Window(0, 0, 128, 96), 32, 24).into(picture, fast)
    slow = Resampler(128, 96, Window(1e-9, 0, 128 - 1e-9, 96), 32, 24)
    assert slow._box is None
    slow.into(picture, exact)
    expected = picture.reshape(24, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(exact - expected).max() <= 0.5 + 1e-4 and np.abs(fast - expected).max() <= 0.5 + 1e-4


def test_two_thirds_of_the_size_are_averages_too() -> None:
    """The demo's pictures: rough ones, since the quick way has weights in steps of 1/32."""
    picture = np.random.default_rng(2).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    fast, exact = np.empty((2, 48, 64, 3), np.uint8)
    quick = Resampler(96, 72, Window(0, 0, 96, 72), 64, 48)
    assert quick._two_thirds is not None
    quick.into(picture, fast)
    Resampler(96, 72, Window(1e-9, 0, 96 - 1e-9, 72), 64, 48).into(picture, exact)
    off = abs(11 / 32 - 1 / 3)  # of a weight along one edge; rounding of both results beside it
    assert np.abs(fast.astype(float) - exact).max() <= 2 * off * 255 + 1


def test_beyond_the_picture_all_is_black() -> None:
    out = np.empty((12, 16, 3), np.uint8)
    window = fit_window(30, 60, 16, 12)
    Resampler(30, 60, window, 16, 12).into(np.full((60, 30, 3), 255, np.uint8), out)
    assert (out[:, :5] == 0).all() and (out[:, -5:] == 0).all() and (out[:, 5:-5] == 255).all()


def on_arc(angles: list[float]) -> list[Camera]:
    return [camera(f"cam_{i}", angle) for i, angle in enumerate(angles)]


def test_cameras_are_chosen_evenly_around_the_ring() -> None:
    assert choose_evenly(ring(6).cameras, 8) == tuple(range(6))
    chosen = choose_evenly(ring(16).cameras, 8)
    assert len(chosen) == 8 and set(np.diff(chosen)) == {2}
    assert len(choose_evenly(ring(12).cameras, 8)) == 8


def test_an_arc_keeps_its_ends_wherever_the_rig_begins() -> None:
    angles = list(np.linspace(-1.2, 1.2, 9))
    shuffled = np.random.default_rng(2).permutation(9)
    chosen = choose_evenly(on_arc([angles[i] for i in shuffled]), 5)
    assert sorted(shuffled[list(chosen)]) == [0, 2, 4, 6, 8]
    assert list(chosen) == sorted(chosen)


@given(st.lists(st.floats(0, 6.28), min_size=2, max_size=20), st.integers(1, 8))
def test_any_rig_gives_distinct_cameras(angles: list[float], count: int) -> None:
    chosen = choose_evenly(on_arc(angles), count)
    assert len(set(chosen)) == len(chosen) == min(count, len(angles))


def test_cameras_that_bunch_up_are_thinned_where_they_bunch() -> None:
    angles = [0.0, 0.02, 0.04, 0.06, math.pi / 2, math.pi, 3 * math.pi / 2]
    chosen = choose_evenly(on_arc(angles), 4)
    assert {4, 5, 6} <= set(chosen)
