"""Playback keeps what was recorded: identities, times, bytes, truth."""

import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rig.clock import NS
from rig.driver import RawFrame, StreamEnded
from rig.drivers.playback import PlaybackDriver
from rig.patterns import mark_level, phase_at
from rig.recordings import Repeats, due_ns
from streamer.errors import CalibrationError, DriverError, TakeError
from streamer.types import MeshFrame
from tests.rig.makers import START_COUNTER, START_ID, TAKE_FPS, VIDEO_FPS, playback_of, write_take, write_videos


def play(driver: PlaybackDriver, limit: int = 10_000) -> tuple[list[RawFrame], list[MeshFrame]]:
    frames: list[RawFrame] = []
    truths: list[MeshFrame] = []
    try:
        while len(frames) < limit:
            frame = driver.next_frame(1.0)
            if frame is not None:
                frames.append(frame)
            truths += driver.take_truths()
    except StreamEnded:
        truths += driver.take_truths()
    return frames, truths


def armed(driver: PlaybackDriver) -> PlaybackDriver:
    driver.open()
    driver.arm("recorded")
    return driver


def test_a_take_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    recorded = write_take(tmp_path / "take")
    driver = armed(PlaybackDriver.from_config(playback_of(tmp_path / "take")))
    frames, truths = play(driver)
    assert len(frames) == len(recorded) == 18
    for frame, original in zip(frames, recorded, strict=True):
        for name in ("camera", "frame_id", "counter", "exposure_time_ns", "clock", "width", "height", "encoding"):
            assert getattr(frame, name) == getattr(original, name), name
        assert frame.pixels.tobytes() == original.data.tobytes(), "the JPEG is not opened on the way"
    assert [mesh.frame_id for mesh in truths] == [START_ID + k for k in range(6)]
    assert [mesh.topology_id for mesh in truths] == [driver.topologies[0].id] * 6
    assert driver.counters == {"passes": 1}
    driver.close()


def test_a_loop_continues_numbers_and_times_without_a_seam(tmp_path: Path) -> None:
    write_take(tmp_path / "take", sets=4)
    driver = armed(PlaybackDriver.from_config(playback_of(tmp_path / "take", loop=True)))
    frames, truths = play(driver, limit=3 * 4 * 3)
    driver.close()
    for camera in ("cam_0", "cam_1", "cam_2"):
        own = [frame for frame in frames if frame.camera == camera]
        assert [f.frame_id for f in own] == list(range(START_ID, START_ID + 12))
        assert [f.counter for f in own] == list(range(START_COUNTER, START_COUNTER + 12))
        assert np.abs(np.diff([f.exposure_time_ns for f in own]) - NS / TAKE_FPS).max() <= 2
        assert [f.pixels.tobytes() for f in own[:4]] == [f.pixels.tobytes() for f in own[8:]]
    assert [mesh.frame_id for mesh in truths[:11]] == list(range(START_ID, START_ID + 11))


def test_a_single_pulse_repeats_at_the_given_period() -> None:
    repeats = Repeats(period_ns=40)
    frame = RawFrame("a", 7, 1000, "host", np.zeros((1, 1), np.uint8), "mono8", 1, 1, frame_id=5)
    assert repeats.frame(frame) is frame
    repeats.begin_again()
    repeats.begin_again()
    again = repeats.frame(frame)
    assert (again.frame_id, again.counter, again.exposure_time_ns) == (7, 9, 1080)


def test_playback_is_due_by_recorded_time_and_speed() -> None:
    assert due_ns(3_000, first_ns=1_000, start_ns=50, speed=1.0) == 2_050
    assert due_ns(3_000, first_ns=1_000, start_ns=50, speed=4.0) == 550
    assert due_ns(3_000, first_ns=1_000, start_ns=50, speed=0.5) == 4_050
    assert due_ns(3_000, first_ns=1_000, start_ns=50, speed=0.0) == 50


def test_no_picture_comes_before_its_time(tmp_path: Path) -> None:
    write_take(tmp_path / "take", sets=4)
    driver = armed(PlaybackDriver.from_config(playback_of(tmp_path / "take", speed=0.5)))
    start = time.monotonic()
    frame = driver.next_frame(1.0)
    assert frame is not None
    while frame.frame_id != START_ID + 3:
        frame = driver.next_frame(0.005) or frame
    assert time.monotonic() - start >= 3 / TAKE_FPS / 0.5 - 0.001
    driver.close()


def test_videos_keep_times_pictures_and_order(tmp_path: Path) -> None:
    calibration = write_videos(tmp_path / "videos")
    driver = armed(PlaybackDriver.from_config(playback_of(tmp_path / "videos", calibration)))
    assert driver.fps == VIDEO_FPS
    frames, truths = play(driver)
    driver.close()
    assert not truths
    assert [f.camera for f in frames] == ["cam_0", "cam_1", "cam_2"] * 6
    for position, frame in enumerate(frames):
        k = position // 3
        assert (frame.frame_id, frame.counter, frame.clock) == (k, k, "media")
        assert frame.exposure_time_ns == round(Fraction(k * NS, VIDEO_FPS))
        assert frame.pixels[4, 4].tolist() == [mark_level(phase_at(k / VIDEO_FPS))] * 3


def test_a_video_that_is_missing_or_doubled_is_named(tmp_path: Path) -> None:
    calibration = write_videos(tmp_path / "videos")
    driver = PlaybackDriver.from_config(playback_of(tmp_path / "videos", calibration))
    (tmp_path / "videos" / "cam_1.mov").write_bytes(b"")
    with pytest.raises(DriverError, match=r"camera 'cam_1' needs one video .*; there are cam_1\.mkv, cam_1\.mov"):
        driver.open()
    (tmp_path / "videos" / "cam_1.mov").unlink()
    (tmp_path / "videos" / "cam_1.mkv").unlink()
    with pytest.raises(DriverError, match=r"camera 'cam_1' needs one video .*cam_1\.mp4.*; there is none"):
        driver.open()


def test_a_video_of_another_size_or_none_at_all_is_named(tmp_path: Path) -> None:
    calibration = write_videos(tmp_path / "videos")
    driver = PlaybackDriver.from_config(playback_of(tmp_path / "videos", calibration))
    calibration.write_text(calibration.read_text().replace("width = 64", "width = 128", 1))
    with pytest.raises(
        DriverError, match=r"cam_0\.mkv: pictures of 64x48, but camera 'cam_0' is calibrated for 128x48"
    ):
        driver.open()
    (tmp_path / "videos" / "cam_0.mkv").write_bytes(b"no video" * 100)
    with pytest.raises(DriverError, match=r"cam_0\.mkv: not a video that can be opened"):
        driver.open()


def test_a_damaged_recording_ends_the_run_instead_of_starting_over(tmp_path: Path) -> None:
    """A DriverError would make the grabber reconnect, which for a recording means to begin again."""
    calibration = write_videos(tmp_path / "videos", frames=40)
    path = tmp_path / "videos" / "cam_2.mkv"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    driver = armed(PlaybackDriver.from_config(playback_of(tmp_path / "videos", calibration)))
    with pytest.raises(TakeError, match=r"cam_2\.mkv: ends after 0\.\d+ s of 1\.60 s"):
        play(driver)
    driver.close()
    path.write_bytes(data)
    driver.open()
    path.write_bytes(b"replaced while it played" * 100)
    driver.arm("recorded")
    with pytest.raises(TakeError, match=r"cam_2\.mkv: damaged"):
        play(driver)
    driver.close()


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=r"nowhere'.*no such folder"):
        PlaybackDriver.from_config(playback_of(tmp_path / "nowhere")).open()
    with pytest.raises(DriverError, match=r"is not a take .*rig\.playback\.calibration"):
        PlaybackDriver.from_config(playback_of(tmp_path)).open()
    with pytest.raises(CalibrationError, match=r"absent\.toml"):
        PlaybackDriver.from_config(playback_of(tmp_path, tmp_path / "absent.toml")).open()
    (tmp_path / "take.json").write_text("{")
    with pytest.raises(TakeError, match=r"take\.json"):
        PlaybackDriver.from_config(playback_of(tmp_path)).open()
