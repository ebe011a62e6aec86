"""Device ticks to shared time: drift is followed, delays and bursts do not bend the line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.clock import NS, Pulses
from rig.sync.line import ClockFollower, fit_line
from rig.sync.sources import ArrivalTime, PtpTime, PulseOrigin, PulseTime, camera_time, host_clock
from streamer.errors import ConfigError, DriverError

START_NS = 1_790_000_000 * NS
FPS = 73


def arrivals(seed: int, count: int, drift_ppm: float, delay_ms: float) -> tuple[list[int], list[int], list[int]]:
    """True exposures, the readings of a clock that runs wrong by `drift_ppm`, and late arrivals; all ns."""
    rng = np.random.default_rng(seed)
    true = [START_NS + k * NS // FPS for k in range(count)]
    ticks = [123_456_789 + round((t - START_NS) * (1 + drift_ppm * 1e-6)) for t in true]
    delays = rng.exponential(delay_ms * 1e6, count)
    delays[rng.random(count) < 0.02] += 40e6  # a busy host now and then
    return true, ticks, [t + round(d) for t, d in zip(true, delays, strict=True)]


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6), drift=st.sampled_from([-50.0, 50.0, 5.0]))
def test_a_clock_that_drifts_by_50_ppm_is_followed_within_100_us(seed: int, drift: float) -> None:
    """From the second second on every stamp holds."""
    true, ticks, seen = arrivals(seed, 20 * FPS, drift, delay_ms=0.5)
    follower = ClockFollower(1.0, one_sided=True)
    errors_us = [(follower.observe(k, s) - t) / 1000 for t, k, s in zip(true, ticks, seen, strict=True)]
    # The least of n exponential delays is mean / n: 0.5 ms / 146 = 3 us at the second second, and less from there on.
    assert np.abs(errors_us[2 * FPS :]).max() < 100
    assert follower.drift_ppm == pytest.approx(drift, abs=5)


def test_drift_over_five_minutes_does_not_add_up() -> None:
    true, ticks, seen = arrivals(3, 300 * FPS, 50.0, delay_ms=0.5)
    follower = ClockFollower(1.0, one_sided=True, refit=256)
    errors_us = [(follower.observe(k, s) - t) / 1000 for t, k, s in zip(true, ticks, seen, strict=True)]
    assert np.abs(errors_us[2 * FPS :]).max() < 100
    assert (ticks[-1] - ticks[0]) - (true[-1] - true[0]) > 14_000_000, "uncorrected it would be 15 ms"


def test_simultaneous_readings_are_fitted_through_their_middle_and_outliers_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    ticks = list(range(0, 1000 * 1_000_000, 1_000_000))
    times = [START_NS + round(k * (1 - 20e-6) + rng.normal(0, 2000)) for k in ticks]
    for k in range(0, 1000, 50):
        times[k] += 5_000_000
    line = fit_line(ticks, times, one_sided=False)
    assert line.drift_ppm(1.0) == pytest.approx(20, abs=1)
    assert abs(line.time_ns(500_000_000) - (START_NS + 500_000_000 - 10_000)) < 2000
    assert 500 < line.residual_ns < 5000


def test_a_line_needs_two_readings_that_go_forward() -> None:
    with pytest.raises(DriverError, match=r"1 reading\(s\) of a camera clock"):
        fit_line([5], [7], one_sided=True)
    with pytest.raises(DriverError, match="does not go forward"):
        fit_line([0, 10, 20], [100, 50, 0], one_sided=False)


def test_a_device_that_restarts_begins_a_new_line() -> None:
    follower = ClockFollower(1.0, one_sided=True)
    for k in range(20):
        follower.observe(k * NS, START_NS + k * NS)
    assert follower.observe(5, START_NS + 100 * NS) == START_NS + 100 * NS
    assert follower.restarts == 1


def test_ptp_stamps_are_taken_as_they_are_and_checked_against_the_arrival() -> None:
    true, _, seen = arrivals(1, 50, 0.0, 1.0)
    good, tai = PtpTime(), PtpTime(utc_offset_s=37)
    for t, s in zip(true, seen, strict=True):
        assert good.stamp(t, 0, s).exposure_time_ns == t
        assert tai.stamp(t + 37 * NS, 0, s).exposure_time_ns == t
    assert good.state.locked
    assert tai.state.locked
    alone = PtpTime()
    alone.stamp(12 * NS, 0, seen[0])
    assert not alone.state.locked, "a camera that counts from its own power-up follows nobody"


def test_counted_pulses_keep_their_identity_whatever_the_arrivals_do() -> None:
    pulses = Pulses.at(FPS)
    origin = PulseOrigin(pulses)
    cameras = [PulseTime(pulses, origin), PulseTime(pulses, origin)]
    rng = np.random.default_rng(2)
    ids: list[list[int | None]] = [[], []]
    for k in range(400):
        for index, camera in enumerate(cameras):
            late_ns = round(rng.exponential(3e6)) + 2_000_000 * index
            ids[index].append(camera.stamp(0, k, START_NS + k * NS // FPS + late_ns).frame_id)
    settled = [(a, b) for a, b in zip(*ids, strict=True) if a is not None and b is not None]
    assert len(settled) > 390
    assert all(a == b for a, b in settled)
    assert np.diff([a for a, _ in settled]).tolist() == [1] * (len(settled) - 1)
    assert cameras[0].state.locked


def test_sources_are_declared_by_name() -> None:
    pulses = Pulses.at(30)
    made = {
        name: camera_time(name, pulses=pulses, origin=PulseOrigin(pulses), ns_per_tick=8.0)
        for name in ("ptp", "pulses", "ntp", "arrival")
    }
    assert {name: each.state.source for name, each in made.items()} == {name: name for name in made}
    assert isinstance(made["arrival"], ArrivalTime)
    assert made["ntp"].stamp(START_NS, 3, START_NS + 9).exposure_time_ns == START_NS
    with pytest.raises(ConfigError, match="'gps' is no source of time; allowed: ptp, pulses, ntp, arrival"):
        camera_time("gps", pulses=pulses, origin=PulseOrigin(pulses), ns_per_tick=1.0)


def test_the_kernel_tells_of_its_clock() -> None:
    disciplined, error_us = host_clock()
    assert isinstance(disciplined, bool)
    assert error_us >= 0
