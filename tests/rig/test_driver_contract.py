"""One contract for every camera driver. A new driver adds one maker."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from rig.config import RigConfig
from rig.driver import CameraDriver, RawFrame, StreamEnded, TriggerMode, TruthSource, choose_trigger
from rig.drivers import DRIVERS, driver_class, make_driver
from rig.drivers.playback import PlaybackDriver
from rig.drivers.simulated import SimulatedDriver
from streamer.errors import DriverError
from tests.rig.makers import SMALL, pattern_rig, playback_of, write_take, write_videos

Maker = Callable[[Path], CameraDriver]


def simulated(tmp_path: Path) -> CameraDriver:
    return pattern_rig(RigConfig(fps=50.0, simulated=SMALL))


def playback_take(tmp_path: Path) -> CameraDriver:
    write_take(tmp_path / "take")
    return PlaybackDriver.from_config(playback_of(tmp_path / "take"))


def playback_videos(tmp_path: Path) -> CameraDriver:
    calibration = write_videos(tmp_path / "videos")
    return PlaybackDriver.from_config(playback_of(tmp_path / "videos", calibration))


MAKERS: tuple[Maker, ...] = (simulated, playback_take, playback_videos)


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CameraDriver]:
    before = set(threading.enumerate())
    made: CameraDriver = request.param(tmp_path)
    yield made
    made.close()
    assert set(threading.enumerate()) <= before, "close ends every thread of the driver"


def grab(driver: CameraDriver, count: int) -> list[RawFrame]:
    """The next `count` pictures, or all until the recording is over."""
    frames: list[RawFrame] = []
    deadline = time.monotonic() + 20.0
    while len(frames) < count:
        assert time.monotonic() < deadline, f"only {len(frames)} pictures in 20 s"
        try:
            frame = driver.next_frame(0.5)
        except StreamEnded:
            break
        if frame is not None:
            frames.append(frame)
    return frames


def test_every_driver_in_the_table_is_under_contract(tmp_path: Path) -> None:
    made = {type(maker(tmp_path / maker.__name__)) for maker in (simulated,)} | {PlaybackDriver}
    assert {driver_class(name) for name in DRIVERS} == made == {SimulatedDriver, PlaybackDriver}


def test_nothing_works_before_it_was_opened_and_armed(driver: CameraDriver) -> None:
    for use in (lambda: driver.arm(driver.triggers[0]), lambda: driver.calibration, lambda: driver.topologies):
        with pytest.raises(DriverError, match="not open; call open first"):
            use()
    driver.open()
    with pytest.raises(DriverError, match="call arm first"):
        driver.next_frame(0.0)


def test_open_describes_the_cameras(driver: CameraDriver) -> None:
    driver.open()
    assert driver.calibration.ids == ("cam_0", "cam_1", "cam_2")
    assert driver.fps > 0
    assert isinstance(driver, TruthSource)
    with pytest.raises(DriverError, match="open already"):
        driver.open()


def test_a_trigger_mode_that_was_not_declared_is_refused(driver: CameraDriver) -> None:
    driver.open()
    assert driver.triggers, "a driver can do something"
    undeclared = [mode for mode in get_args(TriggerMode) if mode not in driver.triggers]
    assert undeclared
    for mode in undeclared:
        with pytest.raises(DriverError, match=f"rig.trigger = '{mode}'.* can do {driver.triggers[0]}"):
            driver.arm(mode)
    driver.arm(driver.triggers[0])
    with pytest.raises(DriverError, match="already; close it first"):
        driver.arm(driver.triggers[0])


def test_pictures_are_what_they_say(driver: CameraDriver) -> None:
    driver.open()
    driver.arm(driver.triggers[0])
    frames = grab(driver, 15)
    assert len(frames) == 15
    cameras = {camera.id: camera for camera in driver.calibration.cameras}
    for frame in frames:
        camera = cameras[frame.camera]
        assert (frame.width, frame.height) == (camera.width, camera.height)
        assert frame.pixels.dtype == np.uint8
        shapes = {"rgb8": (frame.height, frame.width, 3), "mono8": (frame.height, frame.width)}
        assert frame.pixels.shape == shapes.get(frame.encoding, (frame.pixels.size,))
        assert frame.exposure_time_ns >= 0
        assert frame.clock
    assert {frame.camera for frame in frames} == set(cameras)


def test_counters_and_times_of_a_camera_go_forward(driver: CameraDriver) -> None:
    driver.open()
    driver.arm(driver.triggers[0])
    frames = grab(driver, 18)
    for camera in driver.calibration.ids:
        own = [frame for frame in frames if frame.camera == camera]
        assert len(own) > 3
        steps = np.diff([f.counter for f in own])
        assert (steps == 1).all() if driver.can_wait else (steps >= 1).all()
        assert (np.diff([f.exposure_time_ns for f in own]) > 0).all()


def test_a_picture_is_not_overwritten_by_later_ones(driver: CameraDriver) -> None:
    driver.open()
    driver.arm(driver.triggers[0])
    frames = grab(driver, 1)
    before = frames[0].pixels.copy()
    grab(driver, 12)
    assert (frames[0].pixels == before).all()


def test_waiting_is_bounded(driver: CameraDriver) -> None:
    driver.open()
    driver.arm(driver.triggers[0])
    grab(driver, 1)
    start = time.monotonic()
    for _ in range(5):
        driver.next_frame(0.0)
    assert time.monotonic() - start < 5.0


def test_a_closed_driver_opens_again_and_starts_over(driver: CameraDriver) -> None:
    driver.close()
    firsts = []
    for _ in range(2):
        driver.open()
        driver.arm(driver.triggers[0])
        firsts.append({f.camera: f.counter for f in reversed(grab(driver, 9))})
        driver.close()
        driver.close()
        with pytest.raises(DriverError):
            driver.next_frame(0.0)
    assert firsts[0] == firsts[1]


def test_the_configuration_names_driver_and_trigger() -> None:
    made, trigger = make_driver(RigConfig(simulated=SMALL))
    assert (type(made), trigger) == (SimulatedDriver, "clock")
    with pytest.raises(DriverError, match=r"rig.trigger = 'hardware': the driver 'simulated' cannot do that"):
        make_driver(RigConfig(simulated=SMALL, trigger="hardware"))
    with pytest.raises(DriverError, match=r"rig.driver = 'basler': no such driver; there are playback, simulated"):
        driver_class("basler")
    with pytest.raises(DriverError, match=r"rig\.playback\.source is empty"):
        make_driver(RigConfig(driver="playback"))


def test_auto_takes_what_the_driver_prefers() -> None:
    assert choose_trigger("x", ("hardware", "free-run"), "auto") == "hardware"
    assert choose_trigger("x", ("hardware", "free-run"), "free-run") == "free-run"
