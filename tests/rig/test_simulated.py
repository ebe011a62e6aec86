"""The simulated rig in its own thread: what it does beyond the contract of drivers."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from rig.config import FaultConfig, SimulatedConfig
from rig.driver import RawFrame
from rig.drivers.simulated import BUFFERED_PULSES, SimulatedDriver
from rig.patterns import PatternStage
from streamer.errors import DriverError
from tests.rig.makers import SMALL


@pytest.fixture
def opened() -> Iterator[list[SimulatedDriver]]:
    drivers: list[SimulatedDriver] = []
    yield drivers
    for driver in drivers:
        driver.close()


def armed(opened: list[SimulatedDriver], driver: SimulatedDriver) -> SimulatedDriver:
    opened.append(driver)
    driver.open()
    driver.arm("clock")
    return driver


def next_frame(driver: SimulatedDriver) -> RawFrame:
    deadline = time.monotonic() + 20.0
    while (frame := driver.next_frame(0.5)) is None:
        assert time.monotonic() < deadline
    return frame


def test_the_stage_lives_in_one_thread_of_its_own() -> None:
    """OpenGL contexts belong to the thread that made them."""
    seen = []

    class ThreadStage(PatternStage):
        def __init__(self, config: SimulatedConfig) -> None:
            seen.append(("make", threading.get_ident()))
            super().__init__(config)

        def render(self, time_s: float):  # type: ignore[no-untyped-def]
            seen.append(("render", threading.get_ident()))
            return super().render(time_s)

        def close(self) -> None:
            seen.append(("close", threading.get_ident()))

    driver = SimulatedDriver(SMALL, 200.0, ThreadStage)
    driver.open()
    driver.arm("clock")
    next_frame(driver)
    driver.close()
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][0] == "make"
    assert seen[-1][0] == "close"
    assert threading.get_ident() not in {thread for _, thread in seen}


def test_a_stage_that_cannot_be_made_is_an_error_of_open() -> None:
    def broken(config: SimulatedConfig) -> PatternStage:
        raise DriverError("OpenGL is not available; install libegl1")

    driver = SimulatedDriver(SMALL, 30.0, broken)
    for _ in range(2):
        with pytest.raises(DriverError, match="libegl1"):
            driver.open()


def test_a_stage_that_breaks_while_it_runs_breaks_the_next_frame(opened: list[SimulatedDriver]) -> None:
    class BreakingStage(PatternStage):
        def render(self, time_s: float):  # type: ignore[no-untyped-def]
            raise DriverError("the GPU fell off the bus")

    driver = armed(opened, SimulatedDriver(SMALL, 100.0, BreakingStage))
    with pytest.raises(DriverError, match="fell off"):
        next_frame(driver)


def test_nothing_arrives_before_its_exposure(opened: list[SimulatedDriver]) -> None:
    driver = armed(opened, SimulatedDriver(SMALL, 50.0, PatternStage))
    for _ in range(12):
        frame = next_frame(driver)
        assert time.time_ns() >= frame.exposure_time_ns


def test_late_pictures_arrive_late_and_in_the_order_of_their_camera(opened: list[SimulatedDriver]) -> None:
    config = SimulatedConfig(cameras=3, width=64, height=48, faults=FaultConfig(latency_ms=20.0))
    driver = armed(opened, SimulatedDriver(config, 100.0, PatternStage))
    counters = defaultdict(list)
    delays_ms = []
    for _ in range(90):
        frame = next_frame(driver)
        counters[frame.camera].append(frame.counter)
        delays_ms.append((time.time_ns() - frame.exposure_time_ns) / 1e6)
    assert all(own == sorted(own) for own in counters.values())
    assert np.mean(delays_ms) > 15.0, "20 ms on average, and never less than drawn"


def test_a_host_that_does_not_fetch_loses_the_oldest_pictures(opened: list[SimulatedDriver]) -> None:
    driver = armed(opened, SimulatedDriver(SMALL, 500.0, PatternStage))
    deadline = time.monotonic() + 20.0
    while driver.counters.get("device-overruns", 0) < 30:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first = next_frame(driver)
    assert first.counter >= 10, "30 pictures of 3 cameras are gone"
    assert len(driver.take_truths()) > BUFFERED_PULSES


def test_the_real_stage_delivers_all_cameras_and_the_true_mesh(opened: list[SimulatedDriver]) -> None:
    config = SimulatedConfig(cameras=2, width=64, height=48)
    driver = SimulatedDriver(config, 20.0)
    try:
        driver = armed(opened, driver)
    except DriverError as error:
        pytest.skip(f"no OpenGL on this machine: {error}")
    frames: dict[str, RawFrame] = {}
    while len(frames) < 2:
        frame = next_frame(driver)
        frames[frame.camera] = frame
    assert set(frames) == set(driver.calibration.ids)
    assert all(frame.pixels.shape == (48, 64, 3) and frame.pixels.std() > 10 for frame in frames.values())
    truth = driver.take_truths()[0]
    assert truth.topology_id == driver.topologies[0].id
    assert truth.vertices.shape == (driver.topologies[0].vertex_count, 3)
    assert truth.exposure_time_ns > 0


def test_truths_outlive_the_stage(opened: list[SimulatedDriver]) -> None:
    """A node closes the device first and publishes what it has grabbed then; the pictures need their truth."""
    driver = armed(opened, SimulatedDriver(SMALL, 200.0, PatternStage))
    seen = {next_frame(driver).exposure_time_ns for _ in range(20)}
    driver.close()
    assert seen <= {mesh.exposure_time_ns for mesh in driver.take_truths()}
    assert driver.take_truths() == []
