"""A participant's folder in the layout of NeRSemble v2 -> take.

    DIR/calibration/camera_params.json          world_2_cam {serial: 4x4, OpenCV axes, metres}, intrinsics 3x3 of all
    cameras DIR/sequences/<S>/images/cam_<serial>.mp4   one video per camera, hardware-synchronised

Mattes and depth maps become the layers `alpha` and `depth` of the take, bit by bit, for the cameras that have them:

    DIR/sequences/<S>/alpha_maps/cam_<serial>.mp4                               first channel (benchmark)
    DIR/sequences/<S>/frame_<ttttt>/alpha_map*/cam_<serial>.png                 8 bit (first release)
    DIR/sequences/<S>/frame_<ttttt>/colmap*/depth_maps_compressed/cam_<serial>.png   16 bit, 0: none, else
                                                                                metres = (value - 1) / 32767

Extensions that Mien reads: `intrinsics` as {serial: 3x3}, and `distortion` as {serial: [k1, k2, p1, p2, k3]} or one
list of all cameras. Calibrated cameras without a video stay in the take as views without pictures (held-out views).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from streamer.config import SyncConfig
from streamer.errors import CalibrationError, TakeError
from streamer.imports.calibrations import opencv5
from streamer.imports.footage import (
    Footage,
    Probe,
    Progress,
    Storage,
    check_length,
    find_video,
    probe_video,
    write_footage,
)
from streamer.imports.pictures import natural
from streamer.types import F64, Calibration, Camera

PARAMS = Path("calibration") / "camera_params.json"
KEYS = ("world_2_cam", "intrinsics", "distortion")


def import_nersemble(
    folder: Path,
    sequence: str,
    storage: Storage,
    *,
    fps: Fraction | None = None,
    calibrated_size: tuple[int, int] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a take of one sequence of one participant.

    The k-th picture of every camera is the k-th pulse: its frame id is k, its time k / fps on the clock of the media.

    Args:
        folder: the participant's folder.
        sequence: name of the sequence.
        storage: where and how.
        fps: frames per second; None: as the videos say.
        calibrated_size: width and height, px, that the intrinsics are meant for; None: the size of the videos.
        on_progress: called after each picture with how many are done and how many there are.

    Returns:
        `take`, `layers` {name: cameras},
        `frames`, `cameras` {id: frames}, `held_out` [ids without video], `sets` {`assembled`, `complete`,
        `partial`}, `fps`, `seconds`.

    Raises:
        TakeError: no such sequence, a video without calibration, videos of different length, size or rate, or
            damaged; or `out` exists.
        CalibrationError: the calibration is missing, incomplete, or does not fit the size of the pictures.
    """
    params = _read_params(folder / PARAMS)
    images = folder / "sequences" / sequence / "images"
    if not images.is_dir():
        known = sorted(path.parent.name for path in folder.glob("sequences/*/images"))
        raise TakeError(f"{images}: no such folder; sequences here: {', '.join(known) or 'none'}")
    probes = _probe(images, params["world_2_cam"])
    rate = _agree(probes, fps)
    first = next(iter(probes.values()))
    calibration = _calibration(params, calibrated_size, (first.width, first.height), folder / PARAMS)
    count = max(len(probe.times_ns) for probe in probes.values())
    times = [round(number * 10**9 / rate) for number in range(count)]
    footage = [
        Footage(serial, probes[serial].path, range(count), times) for serial in calibration.ids if serial in probes
    ]
    sync = SyncConfig(match="frame_id", tolerance_us=min(int(0.45e6 / rate), 1_000_000), min_cameras=1)
    layers = _layers(folder / "sequences" / sequence, footage)
    write_footage(footage, calibration, sync, storage, on_progress, layers)
    return {
        "take": str(storage.out),
        "layers": {name: len(items) for name, items in layers.items()},
        "frames": count * len(footage),
        "cameras": {item.camera: count for item in footage},
        "held_out": [serial for serial in calibration.ids if serial not in probes],
        "sets": {"assembled": count, "complete": count, "partial": 0},
        "fps": round(float(rate), 6),
        "seconds": round(count / float(rate), 3),
    }


def _layers(folder: Path, footage: Sequence[Footage]) -> dict[str, list[Footage]]:
    """Return the mattes and depth maps that there are; a camera has one for each of its pictures, or none at all."""
    layers: dict[str, list[Footage]] = {"alpha": [], "depth": []}
    patterns = {"alpha": "alpha_map*", "depth": "colmap*/depth_maps_compressed"}
    for item in footage:
        video = find_video(folder / "alpha_maps", f"cam_{item.camera}")
        if video is not None:
            check_length(probe_video(video), len(item.times_ns), f"the pictures of camera {item.camera}")
            layers["alpha"].append(replace(item, path=video))
        for name, pattern in patterns.items():
            files = sorted(folder.glob(f"frame_*/{pattern}/cam_{item.camera}.png"), key=natural)
            if not files or (name == "alpha" and video is not None):
                continue
            if len(files) != len(item.times_ns):
                raise TakeError(
                    f"{folder}: camera {item.camera} has {len(files)} files of {name}, {len(item.times_ns)} pictures; "
                    "copy them again, or move them out of the folder"
                )
            layers[name].append(replace(item, path=folder, files=files))
    return {name: items for name, items in layers.items() if items}


def _probe(images: Path, serials: Mapping[str, Any]) -> dict[str, Probe]:
    found = {serial: find_video(images, f"cam_{serial}") for serial in serials}
    stray = sorted({path.stem.removeprefix("cam_") for path in images.glob("cam_*.*")} - found.keys())
    if stray:
        raise CalibrationError(f"{PARAMS}: world_2_cam holds no camera {stray[0]}, whose video is in {images}")
    probes = {serial: probe_video(path) for serial, path in found.items() if path is not None}
    if not probes:
        raise TakeError(f"{images}: no video cam_<serial>.mp4 of a calibrated camera")
    return probes


def _agree(probes: Mapping[str, Probe], fps: Fraction | None) -> Fraction:
    """Check that all videos have one length, size and rate; return the rate."""
    count = max(len(probe.times_ns) for probe in probes.values())
    first = next(iter(probes.values()))
    for probe in probes.values():
        if probe.promised:
            check_length(probe, probe.promised, "its own head says")
        check_length(probe, count, "the videos of the other cameras")
        if (probe.width, probe.height) != (first.width, first.height):
            raise TakeError(
                f"{probe.path}: pictures are {probe.width}x{probe.height}, those of {first.path.name} "
                f"{first.width}x{first.height}; all cameras share one size"
            )
        if fps is None and probe.rate != first.rate:
            raise TakeError(
                f"{probe.path}: {float(probe.rate):g} fps, {first.path.name} has {float(first.rate):g}; give --fps"
            )
    rate = first.rate if fps is None else fps
    if rate <= 0:
        raise TakeError(f"{first.path}: does not say its frame rate; give --fps")
    return rate


def _read_params(path: Path) -> dict[str, Any]:
    try:
        params = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CalibrationError(
            f"{path}: no such file; give the folder of one participant, which holds calibration/"
        ) from error
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from error
    if not isinstance(params, dict) or not isinstance(params.get("world_2_cam"), dict) or "intrinsics" not in params:
        raise CalibrationError(f"{path}: needs world_2_cam {{serial: 4x4}} and intrinsics")
    # Leaving distortion unread because it is spelt another way would bend every mesh; other keys are harmless.
    odd = [key for key in params if "dist" in key.lower() and key not in KEYS]
    if odd:
        raise CalibrationError(
            f"{path}: key {odd[0]!r} is not known; Mien reads 'distortion': {{serial: [k1, k2, p1, p2, k3]}}"
        )
    return params


def _calibration(
    params: Mapping[str, Any], calibrated: tuple[int, int] | None, pictures: tuple[int, int], path: Path
) -> Calibration:
    width, height = calibrated or pictures
    if width * pictures[1] != height * pictures[0]:
        raise CalibrationError(
            f"--calibrated-size {width}x{height} has another shape than the pictures, {pictures[0]}x{pictures[1]}"
        )
    cameras = []
    for serial, matrix in params["world_2_cam"].items():
        where = f"{path}: camera {serial}"
        distortion = params.get("distortion", [])
        if isinstance(distortion, dict):
            distortion = _of(distortion, serial, f"{where}: distortion")
        intrinsics = params["intrinsics"]
        if isinstance(intrinsics, dict):
            intrinsics = _of(intrinsics, serial, f"{where}: intrinsics")
        camera = Camera(
            id=serial,
            serial=serial,
            width=width,
            height=height,
            K=_matrix(intrinsics, (3, 3), f"{where}: intrinsics"),
            distortion=opencv5(distortion, where),
            camera_from_world=_matrix(matrix, (4, 4), f"{where}: world_2_cam"),
        )
        cx, cy = camera.K[0, 2] / width, camera.K[1, 2] / height
        if not (0.25 < cx < 0.75 and 0.25 < cy < 0.75):
            raise CalibrationError(
                f"{where}: the principal point ({camera.K[0, 2]:.0f}, {camera.K[1, 2]:.0f}) is far from the middle of "
                f"{width}x{height}; say what size the intrinsics are meant for: --calibrated-size WIDTHxHEIGHT"
            )
        cameras.append(camera)
    return Calibration(tuple(cameras), f"NeRSemble {path.parent.parent.name}")


def _of(table: Mapping[str, Any], serial: str, where: str) -> Any:
    if serial not in table:
        raise CalibrationError(f"{where}: nothing for this serial; it is there for {', '.join(table)}")
    return table[serial]


def _matrix(value: Any, shape: tuple[int, int], where: str) -> F64:
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{where}: not a matrix: {error}") from error
    if matrix.shape != shape:
        raise CalibrationError(f"{where}: shape {matrix.shape}, expected {shape}")
    return matrix
