"""The sync check: injected skews are found in the pictures, and what cannot be known is said."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from rig.clock import NS, Pulses
from rig.config import FaultConfig, RigConfig, SimulatedConfig
from rig.drivers.simulated import SimulatedDriver
from rig.node import run_node
from rig.patterns import PatternStage
from rig.simulation.lamp import LampStage, lamp_level
from rig.sync import footage
from rig.sync.check import SyncReport, as_table, check_sync
from rig.sync.plot import draw
from rig.sync.signals import Track, small_picture
from rig.sync.spline import Spline
from streamer.config import BusConfig
from streamer.errors import DriverError, TakeError, TransportError
from streamer.takes import TakeWriter
from streamer.types import F32, U8, Frame

START_NS = 1_790_000_000 * NS
FPS = 30.0
CONFIG = SimulatedConfig(cameras=4, width=128, height=96)
Look = Callable[[int, float], U8]


def lamp(camera: int, time_s: float) -> U8:
    """A still scene, different for each camera, in the light of the lamp."""
    scene = np.random.default_rng(camera).uniform(40, 230, (6, 8)).astype(np.uint8)
    return np.asarray(cv2.convertScaleAbs(cv2.resize(scene, (128, 96)), alpha=lamp_level(time_s)), np.uint8)


def blinking(camera: int, time_s: float) -> U8:
    """A torch that is switched on and off by hand; cameras expose for 8 ms."""
    instants = time_s + np.linspace(-0.004, 0.004, 17)
    level = np.mean([np.sin(9 * t + 3 * np.sin(2.1 * t)) > 0 for t in instants])
    scene = np.random.default_rng(camera).uniform(40, 130, (6, 8)).astype(np.uint8)
    return np.asarray(cv2.convertScaleAbs(cv2.resize(scene, (128, 96)), alpha=1.0 + 0.5 * level), np.uint8)


def juggler(camera: int, time_s: float) -> U8:
    """Five bright balls on wandering paths in space, seen from another side by each camera."""
    turn = 0.5 * camera
    y, x = np.mgrid[0:96, 0:128].astype(np.float32)
    picture = np.full((96, 128), 60.0, np.float32)
    for ball in range(5):
        phases = np.random.default_rng(ball).uniform(0, 6.28, (3, 4))
        rates = 2 * np.pi * np.array([0.9, 1.7, 2.9, 4.3]) * (1 + 0.13 * ball)
        place = (np.sin(rates * time_s + phases + 1.5 * np.sin(0.8 * time_s + phases)) * [0.4, 0.3, 0.2, 0.15]).sum(1)
        u = 64 + 40 * (np.cos(turn) * place[0] + np.sin(turn) * place[2])
        v = 48 + 30 * place[1]
        picture += 120 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 9.0**2))
    return np.clip(picture, 0, 255).astype(np.uint8)


def film(
    look: Look, late_s: float, *, cameras: int = 4, seconds: float = 8.0, told: bool = False, noise: float = 2.0
) -> list[Track]:
    """Tracks of cameras of which the last exposes later, and says so or not."""
    pulses, tracks = Pulses.at(FPS), []
    first = pulses.first_at_or_after(START_NS)
    ids = tuple(range(first, first + round(seconds * FPS)))
    for camera in range(cameras):
        rng = np.random.default_rng([camera, 1])
        late = late_s if camera == cameras - 1 else 0.0
        times = [pulses.exposure_ns(k) for k in ids]
        pictures = []
        for time_ns in times:
            pixels = look(camera, (time_ns - START_NS) / NS + late).astype(np.float32)
            noisy = np.clip(pixels + rng.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8)
            pictures.append(small_picture(noisy))
        stamps = tuple(t + round(late * NS * told) for t in times)
        counters = tuple(range(len(ids)))
        tracks.append(
            Track(f"cam_{camera}", ids, stamps, counters, tuple(t + 10_000_000 for t in stamps), np.stack(pictures))
        )
    return tracks


def check(tracks: list[Track], method: str = "auto") -> SyncReport:
    return check_sync(tracks, method=method, limit_ms=1.0, search_ms=100.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("late_ms", [1.0, -4.0, 12.5, 40.0])
def test_an_injected_skew_is_measured_within_half_a_millisecond(late_ms: float) -> None:
    report = check(film(lamp, late_ms / 1000))
    assert report.method == "light"
    last = report.cameras["cam_3"]
    assert last.offset_ms == pytest.approx(late_ms, abs=0.5)
    assert last.stamped_ms == pytest.approx(0.0, abs=1e-3)
    for camera in ("cam_0", "cam_1", "cam_2"):
        assert report.cameras[camera].offset_ms == pytest.approx(0.0, abs=0.5)
        assert report.cameras[camera].verdict == "in sync"
    if abs(late_ms) > 1.5:
        assert last.verdict == "stamps lie"
        assert not report.ok


def test_a_camera_that_says_that_it_is_late_is_skewed_and_no_liar() -> None:
    report = check(film(lamp, 0.0125, told=True))
    last = report.cameras["cam_3"]
    assert last.stamped_ms == pytest.approx(12.5, abs=1e-3)
    assert last.stamp_error_ms == pytest.approx(0.0, abs=0.5)
    assert last.offset_ms == pytest.approx(12.5, abs=0.5)
    assert last.verdict == "skewed"
    assert report.skew_true_ms == pytest.approx(12.5, abs=1.0)
    assert last.delay_ms == pytest.approx(10.0)


@pytest.mark.parametrize("cameras", [2, 4])
def test_a_torch_tells_too_and_the_error_says_how_well(cameras: int) -> None:
    """On and off: an edge is only known to lie between two pictures, many edges tell more."""
    report = check(film(blinking, 0.011, cameras=cameras, seconds=16.0), "light")
    first, *_, last = report.cameras.values()
    assert first.offset_ms is not None and first.error_ms is not None
    assert last.offset_ms is not None and last.error_ms is not None
    assert abs(last.offset_ms - first.offset_ms - 11.0) < 3 * np.hypot(first.error_ms, last.error_ms)
    assert last.error_ms < 3.0


@pytest.mark.parametrize("late_ms", [0.0, 15.0])
def test_what_moves_tells_without_a_lamp_and_the_error_is_honest(late_ms: float) -> None:
    report = check(film(juggler, late_ms / 1000, seconds=7.0))
    assert report.method == "motion"
    for name, camera in report.cameras.items():
        wanted = late_ms if name == "cam_3" else 0.0
        assert camera.offset_ms is not None
        assert camera.error_ms is not None
        assert abs(camera.offset_ms - wanted) < 3 * camera.error_ms
        assert camera.error_ms < 2.5


def test_a_still_scene_tells_nothing_and_says_so() -> None:
    report = check(film(lambda camera, _: lamp(camera, 0.0), 0.01))
    assert report.method is None
    assert report.skew_true_ms is None
    assert "swing a lamp" in report.note
    assert {camera.verdict for camera in report.cameras.values()} == {"not seen"}
    assert not report.ok
    assert "not known by the pictures" in as_table(report)


def test_footage_that_is_too_short_or_of_one_camera_says_so() -> None:
    assert "too short" in check(film(lamp, 0.0, seconds=0.6)).note
    with pytest.raises(TakeError, match=r"1 camera\(s\) with pictures"):
        check(film(lamp, 0.0, cameras=1, seconds=1.0))


def test_drift_jitter_and_losses_are_read_from_the_stamps() -> None:
    tracks = film(lamp, 0.0, seconds=6.0)
    first = tracks[0]
    begin = first.times_ns[0]
    drifting = tuple(t + (t - begin) * 100 // 1_000_000 for t in first.times_ns)
    keep = [k for k in range(len(first.times_ns)) if k % 10]
    tracks[0] = Track(
        "cam_0",
        *(tuple(each[k] for k in keep) for each in (first.frame_ids, drifting, first.counters, first.receive_ns)),
        first.pictures[keep],
    )
    report = check(tracks)
    assert report.cameras["cam_0"].drift_ppm == pytest.approx(100, abs=2)
    assert report.cameras["cam_0"].lost == len(first.times_ns) - len(keep) - 1, "the first is no gap"
    assert report.cameras["cam_1"].drift_ppm == pytest.approx(0, abs=2)


def test_the_plot_shows_where_the_offset_is() -> None:
    tracks = film(lamp, 0.02, seconds=6.0)
    report = check(tracks)
    picture = draw(report, tracks)
    red = (picture[..., 2] > 150) & (picture[..., 1] < 90) & (picture[..., 0] < 90)
    columns = [np.nonzero(red[70 + 34 * row + 6 : 70 + 34 * (row + 1) - 6, 150:1030])[1] for row in range(4)]
    assert all(len(column) for column in columns)
    assert np.median(columns[3]) - np.median(columns[0]) > 300, "20 ms of a scale of 22 ms to either side"


def test_a_spline_goes_through_its_samples_and_between_them() -> None:
    times = np.sort(np.random.default_rng(0).uniform(0, 3, 90))
    values = np.stack([np.sin(2 * times), np.cos(3 * times)], 1)
    spline = Spline(times, values)
    assert np.allclose(spline(times), values)
    at = np.linspace(0.3, 2.7, 200)
    assert np.abs(spline(at) - np.stack([np.sin(2 * at), np.cos(3 * at)], 1)).max() < 0.01


def lamp_rig(fps: float, skew_us: int, *, hidden: bool = True) -> tuple[RigConfig, SimulatedDriver]:
    faults = FaultConfig(skew_us=skew_us, skew_hidden=hidden)
    config = SimulatedConfig(cameras=3, width=128, height=96, faults=faults)
    rig = RigConfig(fps=fps, simulated=config, encoding="raw")
    return rig, SimulatedDriver(config, fps, lambda each: LampStage(PatternStage(each, colour=True)))


def test_the_live_rig_is_measured_by_opening_it_and_over_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, driver = lamp_rig(25.0, 9000)
    monkeypatch.setattr(footage, "make_driver", lambda _: (driver, "clock"))
    opened = footage.tracks_of_rig(rig, seconds=4.0)
    with ThreadPoolExecutor(1) as pool:
        stop, bound = threading.Event(), threading.Event()
        endpoints: list[str] = []

        def tell(endpoint: str) -> None:
            endpoints.append(endpoint)
            bound.set()

        bus = BusConfig(node_port=0, ring_slots=256)
        node = pool.submit(run_node, rig, bus, stop=stop, driver=lamp_rig(25.0, 9000)[1], bound=tell)
        try:
            assert bound.wait(20.0)
            heard = footage.tracks_of_bus(BusConfig(nodes=(endpoints[0],)), seconds=4.0)
        finally:
            stop.set()
        node.result()
    for tracks in (opened, heard):
        report = check_sync(tracks, method="light", limit_ms=1.0, search_ms=60.0)
        if report.note.startswith("too short") or min(len(track.times_ns) for track in tracks) < 60:
            pytest.skip(f"this machine was too busy for a live rig: {[len(t.times_ns) for t in tracks]} pictures")
        assert report.cameras["cam_2"].offset_ms == pytest.approx(9.0, abs=0.5)
        assert report.cameras["cam_2"].verdict == "stamps lie"


def test_a_silent_bus_and_silent_cameras_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footage, "SILENCE_S", 0.3)
    with pytest.raises(TransportError, match=r"no picture came from tcp://127\.0\.0\.1:9 .*start mien node"):
        footage.tracks_of_bus(BusConfig(nodes=("tcp://127.0.0.1:9",)), seconds=1.0)
    rig = RigConfig(simulated=replace(CONFIG, faults=FaultConfig(drop_probability=1.0)))
    silent = SimulatedDriver(rig.simulated, 30.0, PatternStage)
    monkeypatch.setattr(footage, "make_driver", lambda _: (silent, "clock"))
    with pytest.raises(DriverError, match="no camera delivered a picture"):
        footage.tracks_of_rig(rig, seconds=1.0)


def test_the_command_line_checks_a_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage, pulses = LampStage(PatternStage(CONFIG, colour=True)), Pulses.at(FPS)
    first = pulses.first_at_or_after(START_NS)
    path = tmp_path / "take"
    with TakeWriter(path, calibration=stage.calibration, config_text="", show="s", slate="s", take=1) as writer:
        for k in range(150):
            time_ns = pulses.exposure_ns(first + k)
            for name in stage.calibration.ids:
                late_ns = 6_000_000 if name == "cam_1" else 0
                pixels = stage.render((time_ns + late_ns - START_NS) / NS)[0][name]
                writer.write("frame", _frame(name, first + k, k, time_ns, pixels), time_ns)
    assert (
        mien.main(["sync", "check", str(path), "--json", "--search-ms", "60", "--plot", str(tmp_path / "a.png")]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert report["cameras"]["cam_1"]["offset_ms"] == pytest.approx(6.0, abs=0.5)
    assert report["cameras"]["cam_1"]["verdict"] == "stamps lie"
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 1280
    assert mien.main(["sync", "check", str(tmp_path / "none")]) == 1
    assert "is not a take" in capsys.readouterr().err
    assert mien.main(["sync", "check", str(path), "--seconds", "2.5", "--search-ms", "60"]) == 0
    assert "stamps lie" in capsys.readouterr().out


def _frame(camera: str, frame_id: int, counter: int, time_ns: int, pixels: U8) -> Frame:
    height, width = pixels.shape[:2]
    return Frame(
        camera, frame_id, counter, counter, time_ns, "host", time_ns, time_ns, width, height, "rgb8", pixels
    )  # fmt: skip


def test_small_pictures_are_averages() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8)
    small: F32 = small_picture(picture)
    assert small.shape == (24, 32)
    assert np.allclose(small, picture.reshape(24, 20, 32, 20).mean((1, 3)), atol=0.6)
