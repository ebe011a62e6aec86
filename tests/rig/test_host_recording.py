"""Full pictures on the camera host: beside proxies on the wire, and never at their expense."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rig import host_recording
from rig.config import FaultConfig, RigConfig
from rig.drivers.simulated import SimulatedDriver
from rig.grabber import Grabbed
from rig.host_recording import HostRecording, HostRecordingOptions
from rig.node import run_node
from rig.node_gauges import Rates
from rig.patterns import PatternStage
from rig.sync.alarm import SkewWatch
from streamer.config import BusConfig, RecordConfig, SyncConfig
from streamer.errors import TakeError
from streamer.pixels import decode_pixels
from streamer.takes import TakeWriter, open_take
from streamer.transport import Subscriber
from streamer.types import Frame, Health
from tests.rig.makers import SMALL, pattern_rig

BUS = BusConfig(node_port=0, ring_slots=512)


def options(path: Path, **record: Any) -> HostRecordingOptions:
    return HostRecordingOptions(RecordConfig(min_free_gb=0.0, **record), SyncConfig(), "schema = 1\n", path)


class Until(threading.Event):
    """Stops the node when a condition holds; the node asks at each turn."""

    def __init__(self, holds: Any) -> None:
        super().__init__()
        self._holds, self._deadline = holds, time.monotonic() + 40.0

    def is_set(self) -> bool:
        return bool(self._holds()) or time.monotonic() > self._deadline


def grabs(rig: RigConfig, count: int) -> tuple[SimulatedDriver, Until]:
    driver, seen = pattern_rig(rig), []
    take = driver.next_frame

    def counted(timeout_s: float) -> Any:
        frame = take(timeout_s)
        seen.extend([frame] if frame is not None else [])
        return frame

    driver.next_frame = counted  # type: ignore[method-assign]
    return driver, Until(lambda: len(seen) >= count)


def test_full_pictures_are_recorded_while_proxies_are_published(tmp_path: Path) -> None:
    rig = RigConfig(fps=100.0, simulated=SMALL, publish="proxy", proxy_factor=4, encoding="raw")
    driver, stop = grabs(rig, 60)
    counters = run_node(rig, BUS, stop=stop, driver=driver, recording=options(tmp_path / "take"))
    with open_take(tmp_path / "take") as take:
        assert take.info.state == "closed"
        assert take.calibration.ids == ("cam_0", "cam_1", "cam_2")
        frames = list(take.frames())
    assert len(frames) >= 60
    for camera in ("cam_0", "cam_1", "cam_2"):
        own = [frame for frame in frames if frame.camera == camera]
        assert len(own) == counters[f"disk-offered.{camera}"] == counters[f"published.{camera}"]
        assert counters[f"disk-dropped.{camera}"] == 0
        assert [f.sequence for f in own] == list(range(len(own)))
        assert {(f.width, f.height, f.encoding) for f in own} == {(64, 48, "rgb8")}


def test_the_take_has_the_identities_of_the_bus(tmp_path: Path) -> None:
    rig = RigConfig(fps=100.0, simulated=SMALL, publish="proxy", proxy_factor=2)
    driver, stop = grabs(rig, 10**9)
    heard: list[Frame] = []
    bound: list[str] = []
    ready = threading.Event()

    def tell(endpoint: str) -> None:
        bound.append(endpoint)
        ready.set()

    done = threading.Event()
    stop = Until(done.is_set)
    node = threading.Thread(
        target=lambda: run_node(rig, BUS, stop=stop, driver=driver, bound=tell, recording=options(tmp_path / "take"))
    )
    node.start()
    try:
        assert ready.wait(20.0)
        with Subscriber([bound[0]], ["frame"], depth=2000) as subscriber:
            deadline = time.monotonic() + 30.0
            while len(heard) < 40 and time.monotonic() < deadline:
                received = subscriber.receive(0.2)
                if received is not None and isinstance(received[1], Frame):
                    heard.append(received[1])
    finally:
        done.set()
        node.join()
    with open_take(tmp_path / "take") as take:
        on_disk = {(f.camera, f.frame_id): f for f in take.frames()}
    assert len(heard) == 40
    for frame in heard:
        full = on_disk[frame.camera, frame.frame_id]
        assert (full.exposure_time_ns, full.counter) == (frame.exposure_time_ns, frame.counter)
        assert (full.width, full.height, full.encoding) == (64, 48, "jpeg")
        assert (frame.width, frame.height) == (32, 24)
        small = decode_pixels(full).reshape(24, 2, 32, 2, 3).mean((1, 3))
        assert np.abs(small - decode_pixels(frame).astype(float)).mean() < 12


def test_a_disk_that_is_too_slow_costs_its_own_pictures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk stands still until the run is over; memory holds 1 MB, a second of the rig is 14 MB."""
    released = threading.Event()

    class StandingDisk(TakeWriter):
        def write(self, *args: Any) -> None:
            assert released.wait(40.0)
            super().write(*args)

    monkeypatch.setattr(host_recording, "TakeWriter", StandingDisk)
    config = replace(SMALL, width=160, height=120)
    rig = RigConfig(fps=100.0, simulated=config, encoding="raw")
    driver, stop = grabs(rig, 150)
    closing = HostRecording.close
    monkeypatch.setattr(HostRecording, "close", lambda self: (released.set(), closing(self))[1])
    counters = run_node(rig, BUS, stop=stop, driver=driver, recording=options(tmp_path / "take", queue_mb=1.0))
    dropped = 0
    with open_take(tmp_path / "take") as take:
        kept = {c: sum(f.camera == c for f in take.frames()) for c in take.cameras}
        for camera in ("cam_0", "cam_1", "cam_2"):
            own = counters[f"disk-dropped.{camera}"]
            dropped += own
            assert counters[f"disk-offered.{camera}"] == kept.get(camera, 0) + own
            assert take.info.drops.get(f"frame/{camera}", {}).get("queue-full", 0) == own
            assert (
                counters[f"published.{camera}"] + counters[f"dropped-in-queue.{camera}"]
                == counters[f"grabbed.{camera}"]
            )
            assert counters[f"published.{camera}"] == counters[f"disk-offered.{camera}"], "the wire lost none of them"
    assert dropped > 100


def test_a_disk_that_fails_is_told_and_capture_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(TakeWriter):
        def write(self, *args: Any) -> None:
            self.close("full")
            raise TakeError("no space left; free some")

    monkeypatch.setattr(host_recording, "TakeWriter", FullDisk)
    stage = PatternStage(SMALL, colour=True)
    recording = HostRecording(options(tmp_path / "take"), stage.calibration, "raw", 90)
    raw = SimulatedDriver(SMALL, 30.0, PatternStage)
    pixels = stage.render(0.0)[0]["cam_0"]
    assert raw.triggers
    from rig.driver import RawFrame

    picture = RawFrame("cam_0", 0, 0, "host", pixels, "rgb8", 64, 48)
    deadline = time.monotonic() + 20.0
    while not recording.trouble:
        assert time.monotonic() < deadline
        recording.offer(Grabbed(picture, 1, 2))
        time.sleep(0.001)
    recording.offer(Grabbed(picture, 1, 2))
    assert recording.trouble.startswith("no space left")
    assert recording.counters["disk-dropped.cam_0"] >= 1
    recording.close()
    with pytest.raises(TakeError, match="exists already"):
        HostRecording(options(tmp_path / "take"), stage.calibration, "raw", 90)


def test_a_skewed_camera_is_an_alarm_in_health() -> None:
    rig = RigConfig(fps=100.0, simulated=replace(SMALL, faults=FaultConfig(skew_us=4000)), encoding="raw")
    driver = pattern_rig(rig)
    told: list[Health] = []
    ready, done = threading.Event(), threading.Event()
    bound: list[str] = []

    def tell(endpoint: str) -> None:
        bound.append(endpoint)
        ready.set()

    node = threading.Thread(target=lambda: run_node(rig, BUS, stop=done, driver=driver, bound=tell))
    node.start()
    try:
        assert ready.wait(20.0)
        with Subscriber([bound[0]], ["health"]) as subscriber:
            deadline = time.monotonic() + 30.0
            while not (told and "skew_us.cam_2" in told[-1].gauges and "fps.cam_0" in told[-1].gauges):
                assert time.monotonic() < deadline
                received = subscriber.receive(0.5)
                told.extend([received[1]] if received is not None and isinstance(received[1], Health) else [])
    finally:
        done.set()
        node.join()
    last = told[-1]
    assert last.gauges["skew_us.cam_2"] == pytest.approx(4000, abs=1)
    assert last.gauges["skew_us"] == pytest.approx(4000, abs=1)
    assert last.state == "degraded"
    assert "camera 'cam_2' exposes 4.0 ms later than the others" in last.message
    assert last.gauges["ring_ms"] > 0


def test_skew_is_watched_per_pulse_and_incomplete_pulses_are_judged_too() -> None:
    late_ns = {"a": 0, "b": 200_000, "c": -1_500_000}
    watch = SkewWatch(tuple(late_ns), alarm_us=1000)
    for k in range(8):
        assert watch.alarm == ""
        for camera, late in late_ns.items():
            watch.push(camera, k, k * 10_000_000 + late)
    assert watch.offsets_us == {"a": 0.0, "b": 200.0, "c": -1500.0}
    assert watch.alarm.startswith("camera 'c' exposes 1.5 ms earlier")
    partial = SkewWatch(tuple(late_ns), alarm_us=1000)
    for k in range(60):  # b is away: its pulses are judged once newer ones push them out
        for camera in ("a", "c"):
            partial.push(camera, k, k * 10_000_000 + late_ns[camera])
    assert partial.offsets_us == {"a": 750.0, "c": -750.0}
    quiet = SkewWatch(("a", "b"), alarm_us=0)
    for k in range(20):
        quiet.push("a", k, 0)
        quiet.push("b", k, 10**9)
    assert quiet.alarm == ""


def test_rates_are_per_camera_and_say_how_long_the_ring_lasts() -> None:
    rates = Rates(ring_slots=16)
    assert rates.gauges({"a": 0, "b": 0}, 5.0) == {}
    found = rates.gauges({"a": 80, "b": 40}, 7.0)
    assert found == {"fps.a": 40.0, "fps.b": 20.0, "fps": 30.0, "ring_ms": 400.0}
