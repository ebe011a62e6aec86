"""Filters over time: what they must not change, and what they must."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.smoothing.one_euro import OneEuro, OneEuroParameters
from streamer.smoothing.zero_phase import kernel, reach_s, smooth

FPS = 60


def run_zero_phase(times: np.ndarray, values: np.ndarray, cutoff_hz: float) -> np.ndarray:
    stream = ((float(t), np.atleast_1d(np.float32(v))) for t, v in zip(times, values, strict=True))
    return np.stack(list(smooth(stream, cutoff_hz)))


@given(
    st.lists(st.floats(0.002, 0.3), min_size=3, max_size=40),
    st.floats(1, 30),
    st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_quadratics_pass_whatever_the_times(gaps: list[float], cutoff_hz: float, factors: tuple[float, ...]) -> None:
    """No lag and no flattening: a turn at constant acceleration comes out as it went in, ends and gaps included."""
    times = np.cumsum(gaps)
    values = factors[0] + factors[1] * (times - times[0]) + factors[2] * (times - times[0]) ** 2
    out = run_zero_phase(times, values, cutoff_hz)[:, 0]
    # A row of a projection: squares of the weights over the Gauss add up to 1 at most, so 40 of them to sqrt(40) in
    # absolute value; each term is rounded to float32 when it comes in and when it is added.
    assert np.abs(out - values).max() <= 41 * 40**0.5 * np.finfo(np.float32).eps * max(1.0, np.abs(values).max())


@pytest.mark.parametrize("cutoff_hz", [2.0, 6.0, 10.0])
def test_the_cutoff_halves_the_power_and_adds_no_phase(cutoff_hz: float) -> None:
    offsets = np.arange(-200, 201) / 1000.0 if cutoff_hz > 3 else np.arange(-600, 601) / 1000.0
    weights = kernel(offsets[np.abs(offsets) <= reach_s(cutoff_hz)], cutoff_hz)
    inside = offsets[np.abs(offsets) <= reach_s(cutoff_hz)]
    assert np.allclose(weights, weights[::-1], atol=1e-12)  # symmetric: zero phase
    gain = abs(np.sum(weights * np.exp(2j * np.pi * cutoff_hz * inside)))
    assert gain**2 == pytest.approx(0.5, abs=0.01)  # the window ends at 4 sigma
    assert abs(np.sum(weights * np.exp(2j * np.pi * 4 * cutoff_hz * inside))) < 0.02


def test_noise_is_less_and_only_a_window_is_held() -> None:
    rng = np.random.default_rng(0)
    held: list[int] = [0, 0]

    def stream():  # type: ignore[no-untyped-def]
        for number in range(500):
            held[0] += 1
            yield number / FPS, rng.normal(0, 1, 30).astype(np.float32)

    out = []
    for value in smooth(stream(), 6.0):
        out.append(value)
        held[1] = max(held[1], held[0] - len(out))
    assert np.std(out) < 0.6
    assert held[1] <= int(reach_s(6.0) * FPS) + 2


def test_one_euro_is_the_paper_s_formula() -> None:
    """Against the algorithm written out for one number."""
    parameters = OneEuroParameters(cutoff_hz=1.5, beta=3.0)
    one = OneEuro(parameters)
    values, period = np.cumsum(np.random.default_rng(1).normal(0, 0.1, 50)).astype(np.float32), 1 / FPS

    def alpha(cutoff: float) -> float:
        return 1 / (1 + 1 / (2 * np.pi * cutoff) / period)

    x, dx = float(values[0]), 0.0
    assert one(values[:1, None], 0)[0, 0] == values[0]
    for number, value in enumerate(values[1:].tolist(), 1):
        dx += alpha(1.0) * ((value - x) / period - dx)
        x += alpha(1.5 + 3.0 * abs(dx)) * (value - x)
        assert one(np.array([[value]], np.float32), round(number * period * 1e9))[0, 0] == pytest.approx(x, abs=1e-4)


def test_one_euro_begins_anew_where_it_must() -> None:
    one = OneEuro()
    rest, far = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    one(rest, 10**9)
    assert 0 < one(far, 10**9 + 16_000_000)[0, 0] < 1
    assert np.array_equal(one(rest, 10**9 + 600_000_000), rest)  # a gap
    assert np.array_equal(one(far, 10**9), far)  # the clock runs backwards
    assert np.array_equal(one(far[:2], 10**9 + 1), far[:2])  # another topology
    given_back = one(rest[:2], 10**9 + 2)
    given_back += 100  # what was handed out is the caller's
    assert one(rest[:2], 10**9 + 3).max() < 2
