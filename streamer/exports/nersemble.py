"""Pictures of a take -> the layout of NeRSemble v2, so that other people's tools can fit it.

    OUT/calibration/camera_params.json          world_2_cam {serial: 4x4, OpenCV axes, metres}, intrinsics 3x3 of all
    OUT/sequences/<S>/images/cam_<serial>.mp4   one video per camera, all of one length
    OUT/metadata.cptake                         the same videos for Epic's Capture Manager, with what they lack

The layout knows one pinhole for all cameras and no distortion. So every picture is resampled once into a shared
pinhole, wide enough for each of them; a rig that is one already is not resampled. With `keep_lenses` pictures and
lenses stay, as an extension per serial that `mien import nersemble` reads. Cameras without pictures stay in the
calibration (held-out views). One video is made at a time, so memory does not grow with cameras or length.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from streamer.errors import TakeError
from streamer.exports.motion import Progress
from streamer.exports.options import ExportOptions
from streamer.exports.timeline import recorded_rate
from streamer.geometry import scaled
from streamer.pixels import decode_pixels
from streamer.takes.cptake import CPTAKE, Video, cptake_bytes
from streamer.takes.layout import check_name
from streamer.takes.reader import FRAME, Take
from streamer.takes.sets import Match, match_frames
from streamer.types import F64, U8, Camera

CRF = "14"
"""Quality of the videos: that of the benchmark's."""
NOTE = "NeRSemble holds no exposure times, frame ids, timecode, meshes or weights; videos are lossy (H.264, crf 14)"
"""What the layout cannot hold."""


@dataclass(frozen=True, slots=True)
class _View:
    """One camera, and how its pictures become those of the layout."""

    camera: Camera
    """In the size of its pictures."""
    maps: tuple[Any, Any] | None
    """OpenCV maps from the shared pinhole; None: pictures stay."""


def write_nersemble(
    folder: Path, take: Take, options: ExportOptions, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Write a participant's folder with one sequence.

    Args:
        folder: to make.
        take: with pictures; sets in which a camera is missing are left out, since videos have no gaps.
        options: `frames` (of sets, counted from 0), `sequence`, `keep_lenses`.
        on_progress: called after each picture.

    Returns:
        `frames` (pictures of each camera), `cameras`, `held_out`, `sequence`, `fps`, `notes`.

    Raises:
        TakeError: no pictures, no complete set, pictures of several sizes, or a name that is no folder.
    """
    sequence = check_name("sequence", options.sequence or take.info.slate)
    if options.filter != "none" or options.stabilise != "none" or options.fps is not None or options.speed != 1.0:
        raise TakeError("--fps, --speed, --filter and --stabilise are for meshes; nersemble holds pictures as they are")
    matches, left_out = _complete(take)
    first, last = options.frames or (0, len(matches) - 1)
    if not 0 <= first <= last < len(matches):
        raise TakeError(f"--frames {first}-{last}: there are {len(matches)} complete sets, 0 to {len(matches) - 1}")
    chosen = matches[first : last + 1]
    views, shared = _views(take, chosen[0], keep=options.keep_lenses)
    rate = _rate(take, chosen)
    images = folder / "sequences" / sequence / "images"
    images.mkdir(parents=True)
    _write_params(folder, take, views, shared)
    total = len(chosen) * len(take.cameras)
    for number, name in enumerate(take.cameras):
        path = images / f"cam_{take.calibration[name].serial}.mp4"
        done = number * len(chosen)
        _write_video(path, take, views[name], [m.rows[name] for m in chosen], rate, done, total, on_progress)
    _write_cptake(folder, take, views, chosen, rate, images)
    notes = [NOTE]
    if left_out:
        notes.append(f"{left_out} sets in which a camera is missing were left out")
    if any(view.maps is not None for view in views.values()):
        notes.append("pictures were resampled into one shared pinhole; --keep-lenses leaves them as they are")
    return {
        "frames": len(chosen),
        "cameras": list(take.cameras),
        "held_out": [name for name in take.calibration.ids if name not in take.cameras],
        "sequence": sequence,
        "fps": float(rate),
        "notes": notes,
    }


def _complete(take: Take) -> tuple[list[Match], int]:
    """Return the sets that have all cameras with pictures, and how many have not."""
    cameras = [name for name in take.cameras if name in take.calibration.ids]
    if not cameras:
        raise TakeError(f"{take.path} holds no pictures; nersemble is made of pictures")
    serials = [check_name("serial number", camera.serial) for camera in take.calibration.cameras]
    repeated = sorted({serial for serial in serials if serials.count(serial) > 1})
    if repeated:
        raise TakeError(f"{take.path}: two cameras have serial {repeated[0]!r}; NeRSemble names cameras by serial")
    matches = match_frames({name: take.keys(FRAME + name) for name in cameras}, take.sync)
    whole = [match for match in matches if len(match.rows) == len(cameras)]
    if not whole:
        rarest = min(cameras, key=lambda name: sum(name in match.rows for match in matches))
        count = sum(rarest in match.rows for match in matches)
        raise TakeError(f"{take.path}: no set has all cameras; '{rarest}' is in {count} of {len(matches)} sets")
    return whole, len(matches) - len(whole)


def _rate(take: Take, matches: Sequence[Match]) -> Fraction:
    name = take.cameras[0]
    keys = take.keys(FRAME + name)[[match.rows[name] for match in matches]]
    if (np.diff(keys[:, 1]) <= 0).any():
        raise TakeError(f"{take.path}: exposure times of camera '{name}' run backwards; choose a part: --frames A-B")
    return recorded_rate(np.array([match.frame_id for match in matches]), keys[:, 1])


def _views(take: Take, match: Match, *, keep: bool) -> tuple[dict[str, _View], Camera]:
    """Return every camera of the calibration in the size of the pictures, and the shared pinhole."""
    sizes = {name: _size(take, name, match) for name in take.cameras}
    first = next(iter(sizes.values()))
    odd = [name for name, size in sizes.items() if size != first]
    if odd:
        raise TakeError(
            f"{take.path}: pictures of '{odd[0]}' are {sizes[odd[0]][0]}x{sizes[odd[0]][1]}, of '{take.cameras[0]}' "
            f"{first[0]}x{first[1]}; NeRSemble has one size for all"
        )
    cameras = {camera.id: scaled(camera, *first) for camera in take.calibration.cameras}
    focal = min(float(min(camera.K[0, 0], camera.K[1, 1])) for camera in cameras.values())
    some = next(iter(cameras.values()))
    alike = all(np.array_equal(c.K, some.K) and not c.distortion.any() for c in cameras.values())
    pinhole = np.array([[focal, 0, (first[0] - 1) / 2], [0, focal, (first[1] - 1) / 2], [0, 0, 1]])
    shared = Camera("shared", "shared", *first, some.K if alike else pinhole, np.zeros(5), np.eye(4))
    if keep or alike:
        return {name: _View(camera, None) for name, camera in cameras.items()}, shared
    return {name: _View(camera, _maps(camera, shared.K)) for name, camera in cameras.items()}, shared


def _size(take: Take, camera: str, match: Match) -> tuple[int, int]:
    frame = take.frame(camera, match.rows[camera])
    return frame.width, frame.height


def _maps(camera: Camera, pinhole: F64) -> tuple[Any, Any]:
    """Where in the camera's picture each pixel of the shared pinhole comes from."""
    size = (camera.width, camera.height)
    return cv2.initUndistortRectifyMap(camera.K, camera.distortion, np.eye(3), pinhole, size, cv2.CV_16SC2)


def _write_params(folder: Path, take: Take, views: dict[str, _View], shared: Camera) -> None:
    by_serial = {view.camera.serial: view.camera for view in views.values()}
    params: dict[str, Any] = {
        "world_2_cam": {serial: camera.camera_from_world.tolist() for serial, camera in by_serial.items()},
        "intrinsics": shared.K.tolist(),
    }
    if all(view.maps is None for view in views.values()):
        one = all(np.array_equal(camera.K, shared.K) for camera in by_serial.values())
        if not one:
            params["intrinsics"] = {serial: camera.K.tolist() for serial, camera in by_serial.items()}
        if any(camera.distortion.any() for camera in by_serial.values()):
            params["distortion"] = {serial: camera.distortion.tolist() for serial, camera in by_serial.items()}
    place = folder / "calibration" / "camera_params.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(params, indent=2), "utf-8")


def _write_cptake(
    folder: Path, take: Take, views: dict[str, _View], chosen: Sequence[Match], rate: Fraction, images: Path
) -> None:
    """List the videos; sets that are not in them are dropped frames, counted from the first one."""
    ids = [match.frame_id - chosen[0].frame_id for match in chosen]
    dropped = sorted(set(range(ids[-1] + 1)) - set(ids)) if take.info.match == "frame_id" else []
    videos = []
    for name in take.cameras:
        view = views[name].camera
        path = (images / f"cam_{view.serial}.mp4").relative_to(folder).as_posix()
        first_ns = int(take.keys(FRAME + name)[chosen[0].rows[name], 1])
        videos.append(Video(name, path, (view.width, view.height), rate, len(chosen), first_ns, dropped))
    first_ns = min(video.first_ns for video in videos)
    (folder / CPTAKE).write_bytes(cptake_bytes(take.info, first_ns, videos=videos))


def _write_video(
    path: Path, take: Take, view: _View, rows: Sequence[int], rate: Fraction, done: int, total: int,
    on_progress: Progress | None,
) -> None:  # fmt: skip
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        options = {"crf": CRF, "preset": "veryfast"} if codec == "libx264" else {"qscale": "2"}
        stream = container.add_stream(codec, rate=rate, options=options)
        if not isinstance(stream, VideoStream):
            raise TypeError(f"FFmpeg's {codec} is no video codec")
        stream.width, stream.height = view.camera.width, view.camera.height
        odd = view.camera.width % 2 or view.camera.height % 2  # halved colour needs even sizes
        stream.pix_fmt = "yuv444p" if odd and codec == "libx264" else "yuv420p"
        for number, row in enumerate(rows):
            picture = av.VideoFrame.from_ndarray(_picture(take, view, row), format="rgb24")
            container.mux(stream.encode(picture))
            if on_progress is not None:
                on_progress(done + number + 1, total)
        container.mux(stream.encode())


def _picture(take: Take, view: _View, row: int) -> U8:
    pixels = decode_pixels(take.frame(view.camera.id, row))
    if pixels.shape[:2] != (view.camera.height, view.camera.width):
        raise TakeError(
            f"{take.path}: picture {row} of '{view.camera.id}' is {pixels.shape[1]}x{pixels.shape[0]}, the first was "
            f"{view.camera.width}x{view.camera.height}; choose a part of one size: --frames A-B"
        )
    if view.maps is not None:
        pixels = np.asarray(cv2.remap(pixels, *view.maps, cv2.INTER_LINEAR), np.uint8)
    return np.ascontiguousarray(pixels)
