"""Recordings and rigs that the tests of this room share."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from rig.clock import Pulses
from rig.config import PlaybackConfig, RigConfig, SimulatedConfig
from rig.drivers.simulated import SimulatedDriver
from rig.patterns import PatternStage
from streamer.calibration import save_calibration
from streamer.pixels import encode_pixels
from streamer.takes import TakeWriter
from streamer.types import Frame

SMALL = SimulatedConfig(cameras=3, width=64, height=48)
START_ID = 51_000_000_000
START_COUNTER = 700
TAKE_FPS = 30.0
VIDEO_FPS = 25


def pattern_rig(rig: RigConfig, *, colour: bool = True) -> SimulatedDriver:
    """The simulated rig of a configuration, without GL."""
    return SimulatedDriver(rig.simulated, rig.fps, lambda config: PatternStage(config, colour=colour))


def playback_of(source: Path, calibration: Path | str = "", *, speed: float = 0.0, loop: bool = False) -> RigConfig:
    playback = PlaybackConfig(str(source), str(calibration), loop, speed)
    return RigConfig(driver="playback", simulated=SMALL, playback=playback)


def write_take(path: Path, sets: int = 6, config: SimulatedConfig = SMALL) -> list[Frame]:
    """Write a take of the pattern stage, JPEG, with its true meshes; returns its frames."""
    stage, pulses = PatternStage(config, colour=True), Pulses.at(TAKE_FPS)
    frames = []
    with TakeWriter(path, calibration=stage.calibration, config_text="", show="show", slate="slate", take=1) as writer:
        writer.write("topology", stage.topology, pulses.exposure_ns(START_ID))
        for k in range(sets):
            time_ns = pulses.exposure_ns(START_ID + k)
            pictures, truth = stage.render(k / TAKE_FPS)
            for index, (camera, pixels) in enumerate(pictures.items()):
                encoding, data = encode_pixels(pixels, "jpeg", 85)
                frame = Frame(
                    camera=camera,
                    frame_id=START_ID + k,
                    counter=START_COUNTER + k,
                    sequence=k,
                    exposure_time_ns=time_ns + 1000 * index,
                    clock="ptp",
                    receive_time_ns=time_ns + 5_000_000,
                    publish_time_ns=time_ns + 6_000_000,
                    width=config.width,
                    height=config.height,
                    encoding=encoding,
                    data=data,
                )
                frames.append(frame)
                writer.write("frame", frame, time_ns + index)
            writer.write("truth", replace(truth, frame_id=START_ID + k, exposure_time_ns=time_ns), time_ns + 100)
    return frames


def write_videos(folder: Path, frames: int = 6, config: SimulatedConfig = SMALL) -> Path:
    """Write lossless videos of the pattern stage, one per camera, and the calibration; returns the calibration file."""
    stage = PatternStage(config, colour=True)
    folder.mkdir()
    for camera in stage.calibration.ids:
        with av.open(str(folder / f"{camera}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=VIDEO_FPS)
            stream.width, stream.height, stream.pix_fmt = config.width, config.height, "bgr0"
            for k in range(frames):
                pixels = stage.render(k / VIDEO_FPS)[0][camera]
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
                picture.pts, picture.time_base = k, Fraction(1, VIDEO_FPS)
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    calibration = folder / "calibration.toml"
    save_calibration(stage.calibration, calibration)
    return calibration
