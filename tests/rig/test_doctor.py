"""The checks before a shoot: what is measured, and that each finding has its remedy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rig import doctor
from rig.config import FaultConfig, RigConfig, SimulatedConfig
from rig.doctor import examine_rig, interface_of, sustain
from rig.driver import RawFrame
from rig.patterns import PatternStage
from streamer.config import BusConfig, RecordConfig
from streamer.doctor import Check
from streamer.transport import Publisher
from tests.rig.fake_v4l2 import FakeCamera
from tests.rig.makers import SMALL, pattern_rig
from tests.rig.test_real_cameras import webcams


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LOOK_S", 0.5), ("DISK_S", 0.1), ("BUS_MB", 8)):
        monkeypatch.setattr(doctor, name, value)


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_rig_that_works_is_described_with_its_numbers(tmp_path: Path) -> None:
    rig = RigConfig(fps=20.0, simulated=SMALL)
    found = by_name(examine_rig(rig, BusConfig(), RecordConfig(directory=str(tmp_path)), driver=pattern_rig(rig)))
    assert found["cameras"].found.startswith("3 of driver simulated, 64x48; ")
    assert found["trigger"] == Check("trigger", "ok", "clock")
    assert found["host clock"].state == "ok"
    assert "lo, MTU" in found["network"].found
    assert "MB/s through ZeroMQ" in found["network"].found
    for name in ("sustain: bus", "sustain: disk", "sustain: encoding"):
        assert found[name].state == "ok", found[name]
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_silent_camera_and_an_absent_driver_fail_with_a_remedy(tmp_path: Path) -> None:
    record = RecordConfig(directory=str(tmp_path))
    stalled = FaultConfig(stall_camera=1, stall_after_s=0.0, stall_for_s=1000.0)
    rig = RigConfig(fps=20.0, simulated=replace(SMALL, faults=stalled))
    cameras = by_name(examine_rig(rig, BusConfig(), record, driver=pattern_rig(rig)))["cameras"]
    assert cameras.state == "fail"
    assert "silent: cam_1" in cameras.found
    assert cameras.remedy
    absent = by_name(examine_rig(RigConfig(driver="playback"), BusConfig(), record))
    assert absent["cameras"].state == "fail"
    assert "rig.playback.source is empty" in absent["cameras"].found
    assert "sustain: bus" not in absent


def test_real_cameras_tell_clock_and_that_they_are_not_calibrated(tmp_path: Path) -> None:
    driver = webcams(FakeCamera(), FakeCamera())
    rig = replace(driver._rig, driver="opencv")
    found = by_name(examine_rig(rig, BusConfig(), RecordConfig(directory=str(tmp_path)), driver=driver))
    assert "of driver opencv, 64x48" in found["cameras"].found
    assert found["cameras"].state in ("warn", "fail")
    assert found["trigger"].state == "warn"
    assert "cam_0: ntp" in found["camera clocks"].found


def test_nodes_are_reached_or_named(tmp_path: Path) -> None:
    rig, record = RigConfig(fps=20.0, simulated=SMALL), RecordConfig(directory=str(tmp_path))
    with Publisher("tcp://127.0.0.1:0") as there:
        bus = BusConfig(nodes=(there.endpoint, "tcp://127.0.0.1:9", "nowhere"))
        nodes = [c for c in examine_rig(rig, bus, record, driver=pattern_rig(rig)) if c.name == "node"]
    assert [node.state for node in nodes] == ["ok", "fail", "fail"]
    assert "start mien node there" in nodes[1].remedy
    assert "tcp://HOST:PORT" in nodes[2].remedy


@pytest.mark.parametrize(("limit", "state"), [(10.0, "fail"), (33.0, "warn"), (200.0, "ok")])
def test_what_is_asked_is_compared_with_what_was_measured(limit: float, state: str) -> None:
    """4 cameras of 640x480 grey, raw, at 20 fps: 24.6 MB/s."""
    calibration = PatternStage(SimulatedConfig(cameras=4, width=640, height=480)).calibration
    sample = RawFrame("cam_1", 0, 0, "host", np.zeros((480, 640), np.uint8), "mono8", 640, 480)
    rig = RigConfig(fps=20.0, encoding="raw")
    found = by_name(sustain(rig, calibration, sample, bus_mb_per_s=limit, disk_mb_per_s=limit, cores=2))
    for name in ("sustain: bus", "sustain: disk"):
        assert found[name].state == state
        assert "24.6 of" in found[name].found
        assert found[name].remedy or state == "ok"
    ticks = iter([0.0, 4 * 0.05])
    slow = sustain(rig, calibration, sample, bus_mb_per_s=99, disk_mb_per_s=99, cores=2, now_s=lambda: next(ticks))
    assert by_name(slow)["sustain: encoding"].found == "50.0 ms a picture: 4.00 of 2.00 cores: cannot be sustained"


def test_the_interface_of_an_address_is_found() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.7") == ""
