"""Where calibration pictures come from: image files, videos, takes. Sets of pictures that belong to one instant."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from streamer.errors import CalibrationError
from streamer.imports.footage import decode_video, probe_video
from streamer.imports.timestamps import read_times_of
from streamer.pixels import decode_pixels
from streamer.takes import Take
from streamer.types import U8

PERIOD_SHARE = 0.5
"""Pictures farther apart than this share of the frame period do not belong together."""


class Source(Protocol):
    """The pictures of one camera."""

    @property
    def name(self) -> str:
        """Id of the camera."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px."""

    @property
    def times_ns(self) -> Sequence[int] | None:
        """Exposure time of each picture; None: the k-th picture of every camera belongs to set k."""

    @property
    def count(self) -> int:
        """Number of pictures."""

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, U8]]:
        """Yield index and picture, (H, W) grey or (H, W, 3) RGB, of the indices wanted, rising."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Picture files in name order."""

    name: str
    """Id of the camera."""
    paths: tuple[Path, ...]
    """The files."""
    size: tuple[int, int]
    """Width and height, px."""
    times_ns: Sequence[int] | None = None
    """None: by number."""

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.paths)

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, U8]]:
        """Read the pictures.

        Raises:
            CalibrationError: one cannot be read, or has another size than the first.
        """
        for index in wanted:
            grey = _read_image(self.paths[index])
            if (grey.shape[1], grey.shape[0]) != self.size:
                raise CalibrationError(
                    f"{self.paths[index]}: {grey.shape[1]}x{grey.shape[0]} px, but {self.paths[0].name} of camera "
                    f"'{self.name}' has {self.size[0]}x{self.size[1]}; a camera is calibrated at one size: sort the "
                    "pictures"
                )
            yield index, grey


@dataclass(frozen=True, slots=True)
class VideoFile:
    """One video."""

    name: str
    """Id of the camera."""
    path: Path
    """The file."""
    size: tuple[int, int]
    """Width and height, px."""
    times_ns: Sequence[int]
    """Exposure time of each picture."""

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.times_ns)

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, U8]]:
        """Decode the video.

        Raises:
            TakeError: it is damaged.
        """
        chosen = set(wanted)
        with closing(decode_video(self.path)) as pictures:
            for index, picture in enumerate(pictures):
                if index in chosen:
                    yield index, picture
                    if index == wanted[-1]:
                        return


@dataclass(frozen=True, slots=True)
class TakeCamera:
    """The frames of one camera in a take."""

    name: str
    """Id of the camera."""
    take: Take
    """The take."""
    size: tuple[int, int]
    """Width and height, px."""
    times_ns: Sequence[int]
    """Exposure time of each picture."""

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.times_ns)

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, U8]]:
        """Read the pictures; those that the bus carried smaller are refused.

        Raises:
            CalibrationError: a picture is smaller than the calibrated one.
            TakeError: a frame is damaged.
        """
        for index in wanted:
            frame = self.take.frame(self.name, index)
            if (frame.width, frame.height) != self.size:
                raise CalibrationError(
                    f"camera '{self.name}': the take holds {frame.width}x{frame.height} px, calibrated are "
                    f"{self.size[0]}x{self.size[1]}; record with rig.publish = 'full'"
                )
            yield index, decode_pixels(frame)


def images_of(name: str, pattern: str) -> ImageFiles:
    """Find the pictures of a camera.

    Args:
        name: id of the camera.
        pattern: glob, or a folder.

    Raises:
        CalibrationError: nothing matches, or the first picture cannot be read.
    """
    found = sorted(glob.glob(f"{pattern}/*" if Path(pattern).is_dir() else pattern))
    paths = tuple(Path(path) for path in found if Path(path).is_file())
    if not paths:
        raise CalibrationError(
            f"--images {name}={pattern}: no file matches; quote the pattern, so that the shell leaves it"
        )
    first = _read_image(paths[0])
    return ImageFiles(name, paths, (first.shape[1], first.shape[0]))


def video_of(name: str, path: Path, times: Path | None) -> VideoFile:
    """Open the video of a camera.

    Args:
        name: id of the camera.
        path: the video.
        times: CSV of exposure times; None: those in the video.

    Raises:
        TakeError: video or times cannot be read.
        CalibrationError: another number of times than pictures.
    """
    probe = probe_video(path)
    given = probe.times_ns if times is None else read_times_of(times, name)
    if len(given) != len(probe.times_ns):
        raise CalibrationError(
            f"{times}: {len(given)} times for camera '{name}', {path} holds {len(probe.times_ns)} pictures; give the "
            "times that belong to it"
        )
    if not given:
        raise CalibrationError(f"{path}: holds no picture")
    return VideoFile(name, path, (probe.width, probe.height), tuple(given))


def cameras_of(take: Take) -> list[TakeCamera]:
    """Return the cameras of a take that hold frames."""
    found = []
    for name in take.cameras:
        camera = take.calibration[name]
        times = tuple(int(t) for t in take.keys(f"frame/{name}")[:, 1])
        found.append(TakeCamera(name, take, (camera.width, camera.height), times))
    return found


def sets_of(sources: Sequence[Source]) -> list[dict[str, int]]:
    """Return the sets: camera to index of its picture, of pictures that belong to one instant.

    Pictures without times belong together by their number. With times, the camera with the most pictures leads, and
    each other camera gives the picture nearest in time, within half a period.

    Raises:
        CalibrationError: some cameras have times, others have none.
    """
    timed = [source.times_ns is not None for source in sources]
    if any(timed) and not all(timed):
        raise CalibrationError(
            "some cameras have times and others are single pictures; give all as videos or as images"
        )
    if not all(timed):
        longest = max(source.count for source in sources)
        return [{s.name: k for s in sources if k < s.count} for k in range(longest)]
    return match_times({source.name: source.times_ns or () for source in sources})


def match_times(times_ns: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """Match pictures by time; see `sets_of`. Pure.

    Args:
        times_ns: camera to rising times.
    """
    leader = max(times_ns, key=lambda name: len(times_ns[name]))
    lead = np.asarray(times_ns[leader], np.int64)
    if len(lead) < 2:
        return [{name: 0 for name, times in times_ns.items() if len(times)}]
    tolerance = PERIOD_SHARE * float(np.median(np.diff(lead)))
    sets: list[dict[str, int]] = [{leader: k} for k in range(len(lead))]
    for name, times in times_ns.items():
        if name == leader or not len(times):
            continue
        own = np.asarray(times, np.int64)
        nearest = _nearest(own, lead)
        best: dict[int, int] = {}
        for index, k in enumerate(nearest.tolist()):
            if abs(own[index] - lead[k]) <= tolerance and (
                k not in best or abs(own[index] - lead[k]) < abs(own[best[k]] - lead[k])
            ):
                best[k] = index
        for k, index in best.items():
            sets[k][name] = index
    return sets


def _nearest(own: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """Return for each of `own` the index of the nearest of `lead`, both rising."""
    right = np.clip(np.searchsorted(lead, own), 1, len(lead) - 1)
    return np.asarray(np.where(own - lead[right - 1] <= lead[right] - own, right - 1, right))


def _read_image(path: Path) -> U8:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from error
    grey = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    if grey is None:
        raise CalibrationError(f"{path}: is no picture that can be read; remove it, or give another pattern")
    return np.asarray(grey, np.uint8)
