"""The pulse grid and the pacer, on a fake clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.clock import NS, CameraClock, Pacer, Pulses
from streamer.errors import ConfigError

TIMES = st.integers(0, 4_000_000_000 * NS)
RATES = st.sampled_from([0.1, 7.5, 24.0, 29.97, 30.0, 59.94, 72.3, 73.0, 120.0, 240.0, 1000.0])


@given(number=st.integers(0, 10**12), fps=RATES)
def test_a_pulse_is_numbered_by_floor_of_time_over_period(number: int, fps: float) -> None:
    pulses = Pulses.at(fps)
    assert pulses.frame_id(pulses.exposure_ns(number)) == number
    assert pulses.frame_id(0) == 0


@given(number=st.integers(1, 10**12), fps=RATES, error=st.floats(-0.49, 0.49))
def test_stamps_wrong_by_less_than_half_a_period_keep_their_number(number: int, fps: float, error: float) -> None:
    pulses = Pulses.at(fps)
    stamp = pulses.exposure_ns(number) + int(error * pulses.period_ns)
    assert pulses.frame_id(stamp) == number


@given(time_ns=TIMES, fps=RATES)
def test_the_next_pulse_is_the_nearest_one_not_in_the_past(time_ns: int, fps: float) -> None:
    pulses = Pulses.at(fps)
    number = pulses.first_at_or_after(time_ns)
    assert pulses.exposure_ns(number) >= time_ns
    assert pulses.exposure_ns(number - 1) < time_ns


def test_the_grid_does_not_depend_on_when_or_where_it_is_asked() -> None:
    """Two hosts that start a day apart number the same instant alike: 73 fps has no whole number of ns."""
    pulses = Pulses.at(73.0)
    day = 86_400 * 73
    assert pulses.exposure_ns(20_000 * day + 5) - pulses.exposure_ns(5) == 20_000 * 86_400 * NS


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"rig\.fps = 0\.0"):
        Pulses.at(0.0)


def test_a_fast_rig_takes_every_pulse() -> None:
    pulses = Pulses.at(30.0)
    pacer = Pacer(pulses, 1000 * NS)
    now_ns, numbers = 1000 * NS, []
    for _ in range(100):
        pulse = pacer.next(now_ns)
        assert pulse.skipped == 0
        assert pulse.exposure_ns >= now_ns
        numbers.append(pulse.number)
        now_ns = pulse.exposure_ns + pulses.period_ns * 9 // 10
    assert numbers == list(range(numbers[0], numbers[0] + 100))


def test_a_slow_rig_skips_what_it_must_and_counts_it() -> None:
    """Busy for 1.25 periods per pulse: late by 0, 1/4 and 1/2 of a period, then one is lost: 3 of 4."""
    pulses = Pulses.at(40.0)
    busy_ns = 31_250_000
    pacer = Pacer(pulses, 0)
    now_ns, taken, skipped = 0, [], 0
    for _ in range(400):
        pulse = pacer.next(now_ns)
        assert now_ns - pulse.exposure_ns <= pulses.period_ns // 2
        taken.append(pulse.number)
        skipped += pulse.skipped
        now_ns = max(now_ns, pulse.exposure_ns) + busy_ns
    assert len(taken) + skipped == taken[-1] + 1
    assert len(taken) / (len(taken) + skipped) == pytest.approx(0.75, abs=0.01)


def test_a_pause_is_skipped_in_one_piece_and_time_never_goes_back() -> None:
    pulses = Pulses.at(10.0)
    pacer = Pacer(pulses, 0)
    assert pacer.next(0).number == 0
    pulse = pacer.next(5 * NS + 1)
    assert (pulse.number, pulse.skipped) == (50, 49)
    assert pacer.next(0).number == 51


def test_a_drifting_clock_gains_its_rate() -> None:
    clock = CameraClock(origin_ns=10 * NS, rate_ppm=50.0)
    assert clock.reading(10 * NS) == 10 * NS
    assert clock.reading(110 * NS) == 110 * NS + 5_000_000
    assert CameraClock(10 * NS).reading(110 * NS) == 110 * NS
