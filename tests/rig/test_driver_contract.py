"""One contract for every camera driver. A new driver adds one maker."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from rig.config import GenicamConfig, OpencvConfig, RigConfig, RtspConfig
from rig.driver import CameraDriver, RawFrame, StatusSource, StreamEnded, TriggerMode, TruthSource, choose_trigger
from rig.drivers import DRIVERS, driver_class, make_driver
from rig.drivers.opencv import OpencvDriver, find_nodes
from rig.drivers.playback import PlaybackDriver
from rig.drivers.rtsp import RtspDriver
from rig.drivers.simulated import SimulatedDriver
from streamer.errors import DriverError
from tests.rig.fake_v4l2 import FakeCamera, FakeKernel
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


def opencv(tmp_path: Path) -> CameraDriver:
    """V4L2 in memory, at the edge of the system calls: this needs no device and no kernel module."""
    names = {f"cam_{k}": (f"usb-Fake_{k}", Path(f"/fake/{k}")) for k in range(3)}
    kernel = FakeKernel({str(path): FakeCamera() for _, path in names.values()})
    return OpencvDriver(RigConfig(fps=50.0, opencv=OpencvConfig(width_px=64, height_px=48)), names, kernel)


def rtsp(tmp_path: Path) -> CameraDriver:
    write_videos(tmp_path / "streams", frames=120)
    cameras = {f"cam_{k}": str(tmp_path / "streams" / f"cam_{k}.mkv") for k in range(3)}
    return RtspDriver.from_config(RigConfig(fps=25.0, rtsp=RtspConfig(cameras)))


def genicam(tmp_path: Path) -> CameraDriver:
    """A real GenTL producer with three virtual cameras, as it comes with the genicam package."""
    package = pytest.importorskip("genicam", reason="the extra 'genicam' is not installed")
    producer = Path(package.__file__).with_name("viky.cti")
    if not producer.is_file():
        pytest.skip(f"this genicam package has no {producer.name}")
    config = GenicamConfig(producers=(str(producer),), cameras={f"cam_{k}": str(k) for k in range(3)})
    return driver_class("genicam").from_config(RigConfig(fps=20.0, genicam=config))


def real_opencv(tmp_path: Path) -> CameraDriver:
    nodes = find_nodes({})
    if not nodes:
        pytest.skip("no camera in /dev/v4l/by-id")
    return OpencvDriver(RigConfig(), nodes)


def real_genicam(tmp_path: Path) -> CameraDriver:
    pytest.importorskip("harvesters", reason="the extra 'genicam' is not installed")
    if "GENICAM_GENTL64_PATH" not in os.environ:
        pytest.skip("no GenTL producer is installed (GENICAM_GENTL64_PATH is not set)")
    return driver_class("genicam").from_config(RigConfig())


MAKERS: tuple[Maker, ...] = (simulated, playback_take, playback_videos, opencv, rtsp, genicam)
HARDWARE = (real_opencv, real_genicam)
CASES = [*MAKERS, *(pytest.param(maker, marks=pytest.mark.hardware) for maker in HARDWARE)]


@pytest.fixture(params=CASES, ids=lambda maker: maker.__name__)
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


def test_every_driver_in_the_table_is_under_contract() -> None:
    makers = {maker.__name__.split("_")[0] for maker in MAKERS}
    assert makers == set(DRIVERS)


def test_nothing_works_before_it_was_opened_and_armed(driver: CameraDriver) -> None:
    for use in (lambda: driver.arm(driver.triggers[0]), lambda: driver.calibration, lambda: driver.topologies):
        with pytest.raises(DriverError, match="not open; call open first"):
            use()
    driver.open()
    with pytest.raises(DriverError, match="call arm first"):
        driver.next_frame(0.0)


def test_open_describes_the_cameras(driver: CameraDriver) -> None:
    driver.open()
    assert driver.calibration.ids == tuple(f"cam_{k}" for k in range(len(driver.calibration.ids)))
    assert driver.fps > 0
    assert isinstance(driver, TruthSource) != isinstance(driver, StatusSource), "a true head, or real cameras"
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
    ids = driver.calibration.ids
    # On a busy host one camera may be far ahead of another.
    while min(sum(f.camera == c for f in frames) for c in ids) < 4 and len(frames) < 1000 and not driver.can_wait:
        frames += grab(driver, 1)
    for camera in ids:
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
    firsts: list[dict[str, int]] = []
    # A camera does not wait: while this thread is held up its first pictures may be pushed out. So more than two tries.
    while len(firsts) < 2 or (firsts[-1] != firsts[-2] and len(firsts) < 8 and not driver.can_wait):
        driver.open()
        driver.arm(driver.triggers[0])
        firsts.append({f.camera: f.counter for f in reversed(grab(driver, 9))})
        driver.close()
        driver.close()
        with pytest.raises(DriverError):
            driver.next_frame(0.0)
    assert firsts[-1] == firsts[-2]


def test_the_configuration_names_driver_and_trigger() -> None:
    made, trigger = make_driver(RigConfig(simulated=SMALL))
    assert (type(made), trigger) == (SimulatedDriver, "clock")
    with pytest.raises(DriverError, match=r"rig.trigger = 'hardware': the driver 'simulated' cannot do that"):
        make_driver(RigConfig(simulated=SMALL, trigger="hardware"))
    with pytest.raises(
        DriverError,
        match=r"rig.driver = 'basler': no such driver; .* opencv, playback, rtsp, simulated",
    ):
        driver_class("basler")
    with pytest.raises(DriverError, match=r"rig\.playback\.source is empty"):
        make_driver(RigConfig(driver="playback"))


def test_auto_takes_what_the_driver_prefers() -> None:
    assert choose_trigger("x", ("hardware", "free-run"), "auto") == "hardware"
    assert choose_trigger("x", ("hardware", "free-run"), "free-run") == "free-run"
