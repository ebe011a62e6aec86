"""When the samples of an export stand."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import TakeError
from streamer.exports.timeline import make_timeline, recorded_rate

START = 1_700_000_000_000_000_000
RATES = (Fraction(24), Fraction(30000, 1001), Fraction(30), Fraction(60000, 1001), Fraction(60), Fraction(73))


def exposures(ids: np.ndarray, rate: Fraction) -> np.ndarray:
    return np.array([START + round((int(i) + Fraction(1, 2)) * 10**9 / rate) for i in ids])


@given(st.sampled_from(RATES), st.sets(st.integers(0, 3000), min_size=2, max_size=60), st.integers(0, 10**11))
def test_pulses_stand_on_whole_frames_and_gaps_stay(rate: Fraction, chosen: set[int], offset: int) -> None:
    ids = np.array(sorted(chosen)) + offset
    line = make_timeline(ids, exposures(ids, rate) - START // 2)
    assert line.rate == rate == recorded_rate(ids, exposures(ids, rate))
    assert np.array_equal(line.frame_numbers, ids - ids[0])
    assert not line.blend.any()
    assert line.missing == ids[-1] - ids[0] + 1 - len(ids)


def test_a_clock_that_is_a_little_off_stays_on_the_grid_over_ten_minutes() -> None:
    ids = np.arange(36_000)
    times = START + np.round(ids * 1e9 / 60 * (1 + 40e-6)).astype(np.int64)  # 40 ppm: 1.4 frames in all
    line = make_timeline(ids, times)
    assert (line.rate, line.regular) == (60, True)


def test_free_running_times_are_kept() -> None:
    ids = np.arange(50)
    jitter = np.random.default_rng(0).uniform(-0.4, 0.4, 50)
    times = START + np.round((ids + jitter) * 1e9 / 30).astype(np.int64)
    line = make_timeline(ids, times)
    assert not line.regular
    assert np.allclose(line.times_s, (times - times[0]) / 1e9, atol=1e-9)


@given(st.sampled_from(RATES), st.sampled_from([0.25, 0.5, 1.0, 2.0]), st.integers(2, 200))
def test_resampling_lies_between_neighbours(fps: Fraction, speed: float, count: int) -> None:
    ids = np.arange(count)
    line = make_timeline(ids, exposures(ids, Fraction(30)), fps=fps, speed=speed)
    assert line.regular and line.rate == fps
    assert ((line.blend >= 0) & (line.blend < 1)).all()
    taken = (line.row + line.blend) / 30 / speed
    assert np.allclose(taken, line.times_s, atol=1e-6)
    last = (count - 1) / 30 / speed
    assert line.times_s[-1] <= last + 1e-6 < line.times_s[-1] + float(1 / fps) + 2e-6
    assert not (line.blend[line.row == count - 1]).any()


def test_a_format_without_times_gets_its_gaps_filled() -> None:
    ids = np.array([0, 1, 4, 5])
    line = make_timeline(ids, exposures(ids, Fraction(30)), regular=True)
    assert line.regular
    assert line.row.tolist() == [0, 1, 1, 1, 2, 3]
    assert np.allclose(line.blend, [0, 0, 1 / 3, 2 / 3, 0, 0], atol=1e-6)


def test_duplicates_and_a_clock_that_jumps_back_are_left_out() -> None:
    ids = np.array([0, 1, 1, 2, 3, 4])
    times = exposures(ids, Fraction(30))
    times[3] = times[0] - 10**9
    line = make_timeline(ids, times)
    assert (line.rows.tolist(), line.left_out) == ([0, 1, 4, 5], 2)
    assert (np.diff(line.times_s) > 0).all()


def test_ranges_are_checked_and_a_single_mesh_is_a_take() -> None:
    ids = np.arange(10)
    assert make_timeline(ids, exposures(ids, Fraction(30)), frames=(2, 4)).row.tolist() == [2, 3, 4]
    one = make_timeline(ids[:1], exposures(ids[:1], Fraction(30)))
    assert (len(one.times_s), one.rate) == (1, 30)
    for frames in ((3, 10), (5, 4), (-1, 3)):
        with pytest.raises(TakeError, match="there are 10 meshes, 0 to 9"):
            make_timeline(ids, exposures(ids, Fraction(30)), frames=frames)
