"""Each injected fault shows up exactly as configured, and only that one."""

import numpy as np
import pytest

from rig.clock import NS, Pulse, Pulses
from rig.config import FaultConfig, SimulatedConfig
from rig.drivers.simulated import SimulatedDriver
from rig.faults import Delivery, SimulatedCameras
from streamer.errors import DriverError

CAMERAS = ("a", "b", "c")
PULSES = Pulses.at(50.0)
NOW = np.zeros((4, 6), np.uint8)
LATE = np.ones((4, 6), np.uint8)


def run(faults: FaultConfig, pulses: int, seed: int = 1) -> tuple[list[list[Delivery]], SimulatedCameras]:
    cameras = SimulatedCameras(CAMERAS, faults, seed, start_ns=PULSES.exposure_ns(1000))
    now, late = dict.fromkeys(CAMERAS, NOW), dict.fromkeys(CAMERAS, LATE)
    expose = [Pulse(1000 + k, PULSES.exposure_ns(1000 + k), 0) for k in range(pulses)]
    return [cameras.expose(pulse, now, late if cameras.skew_ns else now) for pulse in expose], cameras


def test_without_faults_every_camera_delivers_every_pulse_at_once() -> None:
    sets, cameras = run(FaultConfig(), 20)
    assert not cameras.counters
    for k, deliveries in enumerate(sets):
        assert [d.frame.camera for d in deliveries] == list(CAMERAS)
        for delivery in deliveries:
            assert delivery.frame.counter == k
            assert delivery.frame.exposure_time_ns == delivery.due_ns == PULSES.exposure_ns(1000 + k)
            assert (delivery.frame.width, delivery.frame.height, delivery.frame.encoding) == (6, 4, "mono8")


def test_drops_leave_gaps_at_the_asked_rate_and_are_repeatable() -> None:
    sets, cameras = run(FaultConfig(drop_probability=0.2), 2000)
    for camera in CAMERAS:
        counters = [d.frame.counter for deliveries in sets for d in deliveries if d.frame.camera == camera]
        lost = 2000 - len(counters)
        assert cameras.counters[f"injected-drops.{camera}"] == lost
        assert lost == pytest.approx(400, abs=5 * np.sqrt(2000 * 0.2 * 0.8))
        assert counters == sorted(set(counters))
    again, _ = run(FaultConfig(drop_probability=0.2), 2000)
    assert [[d.frame.counter for d in s] for s in again] == [[d.frame.counter for d in s] for s in sets]
    other, _ = run(FaultConfig(drop_probability=0.2), 2000, seed=2)
    assert [[d.frame.camera for d in s] for s in other] != [[d.frame.camera for d in s] for s in sets]


def test_drift_is_the_first_cameras_stamp_alone() -> None:
    sets, _ = run(FaultConfig(drift_ppm=-100.0), 501)
    for k, deliveries in enumerate(sets):
        true_ns = PULSES.exposure_ns(1000 + k)
        drifted, *others = [d.frame.exposure_time_ns for d in deliveries]
        assert others == [true_ns, true_ns]
        assert drifted - true_ns == -2000 * k, "100 ppm of 20 ms per pulse"
        assert {d.due_ns for d in deliveries} == {true_ns}, "the exposure itself is on time"


def test_skew_exposes_the_last_camera_later_and_it_sees_the_later_instant() -> None:
    sets, _ = run(FaultConfig(skew_us=700), 10)
    for k, (first, second, last) in enumerate(sets):
        true_ns = PULSES.exposure_ns(1000 + k)
        assert first.frame.exposure_time_ns == second.frame.exposure_time_ns == true_ns
        assert last.frame.exposure_time_ns == last.due_ns == true_ns + 700_000
        assert first.frame.pixels is NOW
        assert last.frame.pixels is LATE


def test_latency_is_uniform_in_0_to_twice_the_mean_and_keeps_the_order() -> None:
    sets, _ = run(FaultConfig(latency_ms=4.0), 2000)
    for index in range(3):
        delays = [s[index].due_ns - PULSES.exposure_ns(1000 + k) for k, s in enumerate(sets)]
        assert min(delays) >= 0
        assert max(delays) <= 8_000_000
        assert np.mean(delays) == pytest.approx(4e6, abs=5 * 8e6 / np.sqrt(12 * 2000))
    crowded, _ = run(FaultConfig(latency_ms=100.0), 500)
    due = np.array([[d.due_ns for d in s] for s in crowded])
    assert (np.diff(due, axis=0) >= 0).all(), "delays of several periods must not reorder a camera"


def test_a_stall_silences_one_camera_for_its_time_and_its_counter_goes_on() -> None:
    sets, cameras = run(FaultConfig(stall_camera=1, stall_after_s=0.2, stall_for_s=0.1), 30)
    silent = [k for k, s in enumerate(sets) if [d.frame.camera for d in s] == ["a", "c"]]
    assert silent == [10, 11, 12, 13, 14], "0.2 s to 0.3 s at 50 pulses per second"
    assert cameras.counters == {"injected-stalls.b": 5}
    assert [d.frame.counter for d in sets[15]] == [15, 15, 15]


def test_a_camera_that_was_unplugged_counts_from_0_again() -> None:
    sets, cameras = run(FaultConfig(stall_camera=1, stall_after_s=0.2, stall_for_s=0.1, stall_unplugged=True), 30)
    assert cameras.counters == {"injected-stalls.b": 5}
    assert [d.frame.counter for d in sets[9]] == [9, 9, 9]
    assert [[d.frame.counter for d in s] for s in sets[15:17]] == [[15, 0, 15], [16, 1, 16]]


def test_one_fault_does_not_change_what_another_draws() -> None:
    alone, _ = run(FaultConfig(drop_probability=0.3), 200)
    both, _ = run(FaultConfig(drop_probability=0.3, latency_ms=2.0, drift_ppm=9.0, skew_us=10), 200)
    assert [[d.frame.camera for d in s] for s in alone] == [[d.frame.camera for d in s] for s in both]


def test_a_stall_of_a_camera_that_is_not_there_is_refused_at_configuration() -> None:
    config = SimulatedConfig(cameras=4, faults=FaultConfig(stall_camera=4))
    with pytest.raises(DriverError, match=r"stall_camera = 4: the rig has cameras 0 to 3"):
        SimulatedDriver(config, 30.0)


def test_start_is_not_mistaken_for_a_stall() -> None:
    cameras = SimulatedCameras(CAMERAS, FaultConfig(stall_camera=0, stall_after_s=1e6), 0, start_ns=5 * NS)
    pulse = Pulse(1, 6 * NS, 0)
    assert len(cameras.expose(pulse, dict.fromkeys(CAMERAS, NOW), dict.fromkeys(CAMERAS, NOW))) == 3
