"""Drivers of real cameras beyond the contract: losses, unplugging, formats, names, triggers, calibration."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rig.config import GenicamConfig, OpencvConfig, RigConfig, RtspConfig, SimulatedConfig
from rig.driver import CameraDriver, RawFrame
from rig.drivers import genicam_nodes, opencv, pool
from rig.drivers.opencv import OpencvDriver, find_nodes
from rig.drivers.rtsp import RtspDriver
from rig.grabber import Grabber
from rig.patterns import PatternStage
from rig.pictures import as_rgb
from rig.uncalibrated import NOMINAL, calibrate
from streamer.calibration import save_calibration
from streamer.errors import CalibrationError, ConfigError, DriverError
from streamer.types import Calibration
from tests.rig.fake_v4l2 import FakeCamera, FakeKernel

RIG = RigConfig(fps=50.0, opencv=OpencvConfig(width_px=64, height_px=48))


def webcams(*cameras: FakeCamera, rig: RigConfig = RIG) -> OpencvDriver:
    names = {f"cam_{k}": (f"usb-Fake_{k}", Path(f"/fake/{k}")) for k in range(len(cameras))}
    kernel = FakeKernel({f"/fake/{k}": camera for k, camera in enumerate(cameras)})
    return OpencvDriver(rig, names, kernel)


def until(driver: CameraDriver, enough: Callable[[list[RawFrame]], bool]) -> list[RawFrame]:
    frames: list[RawFrame] = []
    deadline = time.monotonic() + 30.0
    while not enough(frames):
        assert time.monotonic() < deadline, f"{len(frames)} pictures, {driver.counters}"
        if (frame := driver.next_frame(0.2)) is not None:
            frames.append(frame)
    return frames


def test_pictures_that_the_kernel_lost_or_damaged_are_gaps_in_the_counter() -> None:
    driver = webcams(FakeCamera(period_s=0.002, lost=frozenset({4, 5}), damaged=frozenset({9})))
    grabber = Grabber(driver, "free-run")
    grabber.start()
    counters: list[int] = []
    while len(counters) < 12:
        grabbed = grabber.get(20.0)
        assert grabbed is not None
        counters.append(grabbed.raw.counter)
    grabber.stop()
    if counters[0] == 0 and "device-overruns.cam_0" not in grabber.counters:
        assert counters[:10] == [0, 1, 2, 3, 6, 7, 8, 10, 11, 12]
    assert grabber.counters["dropped-by-camera.cam_0"] >= 3
    assert not {4, 5, 9} & set(counters)


def test_mjpeg_passes_unchanged_and_other_formats_are_decoded() -> None:
    for name, encoding in (("mjpeg", "jpeg"), ("grey", "mono8"), ("yuyv", "rgb8")):
        config = OpencvConfig(width_px=64, height_px=48, format=name)  # type: ignore[arg-type]
        camera = FakeCamera(fourcc=opencv.FOURCC[name])
        driver = webcams(camera, rig=replace(RIG, opencv=config))
        driver.open()
        driver.arm("free-run")
        (frame,) = until(driver, lambda frames: len(frames) == 1)
        driver.close()
        assert frame.encoding == encoding
        if name == "mjpeg":
            assert frame.pixels.tobytes() == camera.picture(frame.counter)
        rgb = as_rgb(frame)
        assert rgb.shape == (48, 64, 3)
        assert abs(int(rgb[10, frame.counter % 64].mean()) - 220) < 30
        assert abs(int(rgb[10, (frame.counter + 30) % 64].mean()) - 60) < 20


def test_stamps_are_those_of_the_driver_on_the_clock_of_the_host() -> None:
    driver = webcams(FakeCamera(period_s=0.005))
    before_ns = time.time_ns()
    driver.open()
    driver.arm("free-run")
    frames = until(driver, lambda frames: len(frames) == 20)
    driver.close()
    assert before_ns <= frames[0].exposure_time_ns <= frames[-1].exposure_time_ns <= time.time_ns()
    steps = np.diff([f.exposure_time_ns for f in frames]) / np.diff([f.counter for f in frames])
    # Not 5 ms of a busy host but of the device; the two clocks are read a moment apart, hence the median.
    assert np.median(steps) == pytest.approx(5e6, rel=0.02)
    assert {f.clock for f in frames} == {"host"}


def test_an_unplugged_camera_is_looked_for_while_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PAUSES_S", (0.01,))
    stays, goes = FakeCamera(), FakeCamera()
    driver = webcams(stays, goes)
    driver.open()
    driver.arm("free-run")
    until(driver, lambda frames: len({f.camera for f in frames}) == 2)
    goes.unplugged = True
    deadline = time.monotonic() + 30.0
    while not driver.status["cam_1"].trouble:
        assert time.monotonic() < deadline
        driver.next_frame(0.05)
    # Not the first words: by now an attempt to open it may have failed in its own way.
    assert driver.status["cam_1"].trouble.endswith("; looking for it again")
    while driver.next_frame(0.0) is not None:
        pass
    until(driver, lambda frames: sum(f.camera == "cam_0" for f in frames) >= 9)
    goes.unplugged = False
    until(driver, lambda frames: any(f.camera == "cam_1" for f in frames))
    assert driver.counters["reconnects.cam_1"] == 1
    assert driver.status["cam_1"].trouble == ""
    driver.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("opencv")]


def test_a_defect_in_a_driver_is_told_and_not_retried() -> None:
    driver = webcams(FakeCamera())
    driver.open()
    driver.arm("free-run")
    driver._members[0].device.read = lambda timeout_s: 1 / 0  # type: ignore[attr-defined,method-assign]
    with pytest.raises(ZeroDivisionError):
        until(driver, lambda frames: len(frames) > 10_000)
    driver.close()


def test_cameras_are_named_by_serial_and_never_by_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("0", "/dev/video0", "", "../video0"):
        with pytest.raises(DriverError, match=r"indices are dealt out anew"):
            find_nodes({"cam_0": name})
    for name in ("usb-B_7-video-index0", "usb-A_3-video-index0", "usb-A_3-video-index1"):
        (tmp_path / name).touch()
    monkeypatch.setattr(opencv, "FOLDERS", (tmp_path, tmp_path / "none"))
    assert {k: v[0] for k, v in find_nodes({}).items()} == {"cam_0": "usb-A_3", "cam_1": "usb-B_7"}
    assert find_nodes({"left": "usb-B_7"}) == {"left": ("usb-B_7", tmp_path / "usb-B_7-video-index0")}
    absent = OpencvDriver(RIG, find_nodes({"cam_0": "usb-gone"}))
    with pytest.raises(DriverError, match=r"usb-gone: No such file or directory; plug it in"):
        absent.open()
    with pytest.raises(DriverError, match="no camera was found for the driver 'opencv'"):
        OpencvDriver(RIG, {}).open()


def test_a_device_that_cannot_do_what_is_asked_is_refused_when_it_is_opened() -> None:
    with pytest.raises(DriverError, match=r"offers 32x24 MJPG instead of 64x48 MJPG; set width_px"):
        webcams(FakeCamera(width=32, height=24)).open()
    with pytest.raises(DriverError, match="delivers no pictures"):
        webcams(FakeCamera(capabilities=0x04000000)).open()
    with pytest.raises(ConfigError, match="'gps' is no source of time"):
        webcams(FakeCamera(), rig=replace(RIG, clocks={"cam_0": "gps"})).open()


def test_an_address_that_gives_no_video_is_one_line_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=r"rig\.rtsp\.cameras is empty"):
        RtspDriver.from_config(RigConfig(driver="rtsp"))
    camera = RtspDriver.from_config(RigConfig(rtsp=RtspConfig({"door": "rtsp://user:secret@127.0.0.1:9/live"})))
    with pytest.raises(DriverError, match=r"camera 'door': rtsp://127\.0\.0\.1:9/live gives no video") as caught:
        camera.open()
    assert "secret" not in str(caught.value)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DriverError, match="gives no video"):
        RtspDriver.from_config(RigConfig(rtsp=RtspConfig({"a": str(tmp_path / "a.mp4")}))).open()


def test_calibration_goes_by_serial_and_size(tmp_path: Path) -> None:
    stage = PatternStage(SimulatedConfig(cameras=2, width=64, height=48))
    save_calibration(stage.calibration, tmp_path / "rig.toml")
    path = str(tmp_path / "rig.toml")
    swapped = calibrate(path, {"cam_0": ("PATTERN0001", 64, 48), "cam_1": ("PATTERN0000", 64, 48)})
    assert np.allclose(swapped["cam_0"].camera_from_world, stage.calibration["cam_1"].camera_from_world)
    assert swapped["cam_0"].serial == "PATTERN0001"
    with pytest.raises(CalibrationError, match=r"is calibrated for 64x48, 'cam_0' delivers 640x480"):
        calibrate(path, {"cam_0": ("PATTERN0000", 640, 480)})
    with pytest.raises(CalibrationError, match=r"holds no camera of serial 'X' \('door'\), only cam_0 \(PATTERN0000\)"):
        calibrate(path, {"door": ("X", 64, 48)})
    nominal: Calibration = calibrate("", {"door": ("X", 64, 48)})
    assert nominal.source == NOMINAL
    assert nominal["door"].K[0, 0] == pytest.approx(76.8)


XML = """<?xml version="1.0" encoding="utf-8"?>
<RegisterDescription ModelName="Test" VendorName="Mien" ToolTip="t" StandardNameSpace="None" SchemaMajorVersion="1"
 SchemaMinorVersion="1" SchemaSubMinorVersion="0" MajorVersion="1" MinorVersion="0" SubMinorVersion="0"
 ProductGuid="11111111-1111-1111-1111-111111111111" VersionGuid="11111111-1111-1111-1111-111111111112"
 xmlns="http://www.genicam.org/GenApi/Version_1_1">
<Category Name="Root"><pFeature>PixelFormat</pFeature></Category>
{nodes}
</RegisterDescription>"""


def _enumeration(name: str, *entries: str) -> str:
    inner = "".join(f'<EnumEntry Name="{entry}"><Value>{k}</Value></EnumEntry>' for k, entry in enumerate(entries))
    return f'<Enumeration Name="{name}">{inner}<Value>0</Value></Enumeration>'


def _boolean(name: str) -> str:
    return f'<Boolean Name="{name}"><Value>0</Value></Boolean>'


FULL = "".join(
    [
        _enumeration("PixelFormat", "Mono8"),
        _enumeration("TriggerSelector", "AcquisitionStart", "FrameStart"),
        _enumeration("TriggerMode", "Off", "On"),
        _enumeration("TriggerSource", "Software", "Line0", "Line1"),
        _enumeration("TriggerActivation", "FallingEdge", "RisingEdge"),
        _enumeration("ChunkSelector", "Timestamp", "Gain", "ExposureTime"),
        _boolean("ChunkModeActive"),
        _boolean("ChunkEnable"),
        _boolean("PtpEnable"),
        _enumeration("PtpStatus", "Initializing", "Slave"),
        '<Integer Name="ChunkTimestamp"><Value>5</Value></Integer>',
        '<Float Name="ChunkExposureTime"><Value>4000</Value></Float>',
        '<Float Name="DeviceTemperature"><Value>41.5</Value></Float>',
        '<Integer Name="GevTimestampTickFrequency"><Value>125000000</Value></Integer>',
        '<Float Name="ExposureTime"><Value>1000</Value><Min>10</Min><Max>20000</Max></Float>',
    ]
)
"""The features of a machine-vision camera with trigger, chunks and PTP, as its description names them (SFNC)."""


@pytest.fixture
def nodes() -> Callable[[str], Any]:
    """Node maps of the real GenApi, from a description; values live in the description, so no camera is needed."""
    genapi = pytest.importorskip("genicam.genapi", reason="the extra 'genicam' is not installed")

    def make(text: str) -> Any:
        made = genapi.NodeMap()
        made.load_xml_from_string(XML.replace("{nodes}", text))
        return made

    return make


def test_a_camera_with_trigger_chunks_and_ptp_is_armed_by_its_node_map(nodes: Callable[[str], Any]) -> None:
    camera = nodes(FULL)
    genicam_nodes.set_trigger(camera, "cam_0", "hardware", "Line1")
    state = [camera.get_node(n).value for n in ("TriggerSelector", "TriggerMode", "TriggerSource", "TriggerActivation")]
    assert state == ["FrameStart", "On", "Line1", "RisingEdge"]
    genicam_nodes.set_trigger(camera, "cam_0", "software", "Line1")
    assert camera.TriggerSource.value == "Software"
    genicam_nodes.set_trigger(camera, "cam_0", "free-run", "Line1")
    assert camera.TriggerMode.value == "Off"
    assert genicam_nodes.enable_chunks(camera, "cam_0") == genicam_nodes.Chunks(True, False, True)
    assert camera.ChunkModeActive.value
    assert genicam_nodes.enable_ptp(camera, "cam_0")
    assert camera.PtpEnable.value
    assert genicam_nodes.ptp_status(camera) == "Initializing"
    assert genicam_nodes.ns_per_tick(camera) == 8.0
    assert genicam_nodes.value(camera, "DeviceTemperature") == 41.5
    genicam_nodes.set_features(camera, "cam_0", {"ExposureTime": "4000"})
    assert camera.ExposureTime.value == 4000


def test_what_a_camera_cannot_do_is_refused_with_its_name(nodes: Callable[[str], Any]) -> None:
    plain = nodes(_enumeration("PixelFormat", "Mono8"))
    genicam_nodes.set_trigger(plain, "cam_0", "free-run", "Line0")
    with pytest.raises(DriverError, match=r"rig.trigger = 'hardware': camera 'cam_0' has no TriggerMode"):
        genicam_nodes.set_trigger(plain, "cam_0", "hardware", "Line0")
    assert not genicam_nodes.enable_ptp(plain, "cam_0")
    assert genicam_nodes.enable_chunks(plain, "cam_0") == genicam_nodes.Chunks(False, False, False)
    assert genicam_nodes.ns_per_tick(plain) == 1.0
    with pytest.raises(DriverError, match="camera 'cam_0' has no feature Gain"):
        genicam_nodes.set_features(plain, "cam_0", {"Gain": "3"})
    full = nodes(FULL)
    with pytest.raises(DriverError, match=r"TriggerSource = 'Line9' is refused"):
        genicam_nodes.set_trigger(full, "cam_0", "hardware", "Line9")
    with pytest.raises(DriverError, match=r"ExposureTime = '90000' is refused"):
        genicam_nodes.set_features(full, "cam_0", {"ExposureTime": "90000"})


def test_a_real_producer_is_opened_by_serial_and_refuses_what_it_lacks() -> None:
    package = pytest.importorskip("genicam", reason="the extra 'genicam' is not installed")
    producer = str(Path(package.__file__).with_name("viky.cti"))
    from rig.drivers.genicam import GenicamDriver

    def driver(**changes: Any) -> GenicamDriver:
        rig: dict[str, Any] = {"fps": 20.0, **{k: v for k, v in changes.items() if k == "clocks"}}
        config = {"producers": (producer,), **{k: v for k, v in changes.items() if k != "clocks"}}
        return GenicamDriver.from_config(RigConfig(genicam=GenicamConfig(**config), **rig))

    every = driver(features={"PixelFormat": "Mono8", "Width": "320"})
    every.open()
    try:
        assert {c.id: (c.serial, c.width) for c in every.calibration.cameras} == {
            f"cam_{k}": (str(k), 320) for k in range(3)
        }
        with pytest.raises(DriverError, match="has no TriggerMode and cannot be triggered"):
            every.arm("hardware")
    finally:
        every.close()
    for given, message in (
        ({"cameras": {"left": "4711"}}, r"camera 'left' \(serial 4711\) is not there; there are: 0, 1, 2"),
        ({"cameras": {"left": "1"}, "features": {"Shutter": "1"}}, "camera 'left' has no feature Shutter"),
        ({"cameras": {"left": "1"}, "clocks": {"left": "ptp"}}, r"rig\.clocks\.left = 'ptp'"),
        ({"producers": ("/nowhere.cti",)}, r"/nowhere\.cti is no GenTL producer"),
    ):
        with pytest.raises(DriverError, match=message):
            driver(**given).open()
