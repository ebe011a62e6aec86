"""Video files with a calibration as a recording. The only file of this room that opens video containers (PyAV)."""

import heapq
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from rig.clock import NS
from rig.driver import RawFrame
from streamer.calibration import load_calibration
from streamer.errors import DriverError, TakeError
from streamer.types import Calibration, Camera, MeshFrame, Topology

SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm")
TRUNCATED_S = Fraction(1, 2)
"""A file whose pictures end this much before the time it promises has lost its end."""


class VideoRecording:
    """One video per camera, `<camera id>.mp4` (or another container), on one common time line.

    Exposure times are the presentation times in the files, on the clock `media`; the rig number of a frame is the
    nearest pulse at the highest rate that any of the files has, since containers round times to their own unit.

    Args:
        folder: the videos.
        calibration: file of the calibration; every camera in it needs its video.

    Raises:
        DriverError: a video is missing, cannot be opened, or has another picture size than its calibration.
        CalibrationError: the calibration cannot be used.
    """

    topologies: Sequence[Topology] = ()

    def __init__(self, folder: Path, calibration: Path) -> None:
        """Open every file once and compare it with the calibration."""
        self.calibration: Calibration = load_calibration(calibration)
        self._files = {camera.id: _find(folder, camera) for camera in self.calibration.cameras}
        rates = [_check(self._files[camera.id], camera) for camera in self.calibration.cameras]
        self._rate = max(rates)
        self.fps: float | None = float(self._rate)

    def play(self) -> Iterator[RawFrame | MeshFrame]:
        """Pictures of all cameras in the order of their times; never a mesh."""
        streams = [self._pictures(camera.id) for camera in self.calibration.cameras]
        try:
            yield from heapq.merge(*streams, key=lambda frame: frame.exposure_time_ns)
        finally:
            for stream in streams:
                stream.close()

    def _pictures(self, camera: str) -> Generator[RawFrame, None, None]:
        path = self._files[camera]
        end_s = Fraction(0)
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for counter, picture in enumerate(container.decode(stream)):
                    frame, time_s = self._frame(camera, counter, picture)
                    end_s = time_s + 1 / self._rate
                    yield frame
                promised_s = _duration_s(container, stream)
        except av.FFmpegError as error:
            raise TakeError(f"{path}: damaged: {error}; cut or repair the video") from error
        if promised_s - end_s > TRUNCATED_S:
            raise TakeError(
                f"{path}: ends after {float(end_s):.2f} s of {float(promised_s):.2f} s; copy the video again"
            )

    def _frame(self, camera: str, counter: int, picture: av.VideoFrame) -> tuple[RawFrame, Fraction]:
        if picture.pts is None or picture.time_base is None:
            path = self._files[camera]
            raise TakeError(f"{path}: picture {counter} has no time; write the video again with time stamps")
        time_s = Fraction(picture.pts) * picture.time_base
        pixels = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
        height, width = pixels.shape[:2]
        number = int(time_s * self._rate + Fraction(1, 2))
        frame = RawFrame(camera, counter, round(time_s * NS), "media", pixels, "rgb8", width, height, frame_id=number)
        return frame, time_s


def _duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction:
    """Return how long the file says that its pictures last; 0 if it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    # The duration of the container is that of its longest stream, which may be the sound.
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    return Fraction(0)


def _find(folder: Path, camera: Camera) -> Path:
    found = [folder / f"{camera.id}{suffix}" for suffix in SUFFIXES if (folder / f"{camera.id}{suffix}").is_file()]
    if len(found) == 1:
        return found[0]
    problem = "there is none" if not found else f"there are {', '.join(path.name for path in found)}"
    raise DriverError(
        f"camera '{camera.id}' needs one video {folder / camera.id}.mp4 ({'|'.join(SUFFIXES)}); {problem}"
    )


def _check(path: Path, camera: Camera) -> Fraction:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DriverError(f"{path}: holds no video")
            stream = container.streams.video[0]
            size, rate = (stream.width, stream.height), stream.average_rate
    except av.FFmpegError as error:
        raise DriverError(f"{path}: not a video that can be opened ({error}); is it cut? copy it again") from error
    if size != (camera.width, camera.height):
        raise DriverError(
            f"{path}: pictures of {size[0]}x{size[1]}, but camera '{camera.id}' is calibrated for "
            f"{camera.width}x{camera.height}; use the video that was calibrated, or calibrate again"
        )
    if not rate:
        raise DriverError(f"{path}: the file does not say its frame rate; write it again with time stamps")
    return Fraction(rate)
