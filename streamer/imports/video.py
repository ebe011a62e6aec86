"""Videos + calibration + time stamps -> take. Times stay as they are; free-running cameras are matched by them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamer.config import SyncConfig
from streamer.errors import CalibrationError, TakeError
from streamer.imports.footage import (
    SUFFIXES,
    Footage,
    Probe,
    Progress,
    Storage,
    check_length,
    check_size,
    find_video,
    probe_video,
    write_footage,
)
from streamer.imports.timestamps import read_camera_times, read_times
from streamer.takes.sets import Match, Table, match_by_time
from streamer.types import Calibration

TOLERANCE = 0.45
"""Default spread of a set in frame periods: below one half, a frame never fits two sets."""


def find_videos(given: Sequence[str], calibration: Calibration) -> dict[str, Path]:
    """Resolve `--videos`: one folder, or NAME=FILE for each camera.

    Returns:
        Camera id to file, in rig order.

    Raises:
        TakeError: no such folder or file, or a camera of the calibration has no video in the folder.
        CalibrationError: a NAME that is not calibrated.
    """
    if len(given) == 1 and "=" not in given[0]:
        folder = Path(given[0])
        if not folder.is_dir():
            raise TakeError(
                f"{folder}: no such folder; give a folder of <camera>.mp4 files, or NAME=FILE for each camera"
            )
        found = {camera: find_video(folder, camera) for camera in calibration.ids}
        for camera, path in found.items():
            if path is None:
                raise TakeError(
                    f"{folder}: no video of camera '{camera}' ({camera}{'|'.join(SUFFIXES)}); to import without it, "
                    "name the others: --videos NAME=FILE ..."
                )
        return {camera: path for camera, path in found.items() if path is not None}
    files = _pairs("--videos", given, calibration)
    for path in files.values():
        if not path.is_file():
            raise TakeError(f"{path}: no such file")
    return {camera: files[camera] for camera in calibration.ids if camera in files}


def find_times(given: Sequence[str], calibration: Calibration, videos: Mapping[str, Path]) -> dict[str, list[int]]:
    """Resolve `--times`: one CSV of all cameras, or NAME=CSV for each; nothing: the videos' own time stamps.

    Returns:
        Camera id to times in ns, for every video; empty if nothing was given.

    Raises:
        TakeError: unreadable, or a video has no times.
        CalibrationError: a NAME that is not calibrated.
    """
    if not given:
        return {}
    if len(given) == 1 and "=" not in given[0]:
        times = read_times(Path(given[0]), calibration)
    else:
        times = {camera: read_camera_times(path) for camera, path in _pairs("--times", given, calibration).items()}
    for camera, path in videos.items():
        if camera not in times:
            raise TakeError(f"{path}: --times holds no times of camera '{camera}'; give them as {camera}=CSV")
    return {camera: times[camera] for camera in videos}


def _pairs(option: str, given: Sequence[str], calibration: Calibration) -> dict[str, Path]:
    pairs: dict[str, Path] = {}
    for item in given:
        name, equals, file = item.partition("=")
        if not equals or not name or not file or name in pairs:
            raise TakeError(f"{option} {item}: expected NAME=FILE, each name once")
        if name not in calibration.ids:
            raise CalibrationError(
                f"{option} {item}: no camera '{name}' in the calibration: {', '.join(calibration.ids)}"
            )
        pairs[name] = Path(file)
    return pairs


def import_videos(
    videos: Mapping[str, Path],
    times_ns: Mapping[str, Sequence[int]],
    calibration: Calibration,
    storage: Storage,
    *,
    tolerance_ns: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a take of videos.

    Args:
        videos: camera id to file.
        times_ns: camera id to exposure times, one per picture; empty: the videos' own time stamps.
        calibration: the cameras; the world frame of the take is the one of this calibration.
        storage: where and how.
        tolerance_ns: largest spread of a set; None: 0.45 of the shortest frame period.
        on_progress: called after each picture with how many are done and how many there are.

    Returns:
        `take`, `frames`, `cameras` {id: frames}, `sets` {`assembled`, `complete`, `partial`}, `fps`, `tolerance_ms`,
        `skew_ms` {`median`, `max`}, `seconds`.

    Raises:
        TakeError: a video is longer or shorter than its times, of another size than its calibration, damaged; or
            `out` exists.
    """
    if not videos:
        raise TakeError("no videos; give --videos DIR or NAME=FILE")
    probes = {camera: probe_video(path) for camera, path in videos.items()}
    for camera, probe in probes.items():
        check_size(probe, calibration[camera])
        if camera in times_ns:
            check_length(probe, len(times_ns[camera]), "its time stamps")
        elif probe.promised:
            check_length(probe, probe.promised, "its own head says")
    times = {camera: tuple(times_ns.get(camera, probe.times_ns)) for camera, probe in probes.items()}
    period_ns = _period_ns(times, probes)
    spread = int(TOLERANCE * period_ns) if tolerance_ns is None else tolerance_ns
    spread_us = spread // 1000
    table = {
        camera: np.array([(0, time) for time in stamps], np.int64).reshape(-1, 2) for camera, stamps in times.items()
    }
    matches = match_by_time(table, spread_us * 1000)
    ids = _number(matches, table, period_ns)
    footage = [Footage(camera, videos[camera], ids[camera], times[camera]) for camera in videos]
    sync = replace(SyncConfig(), match="time", tolerance_us=spread_us, min_cameras=1)
    write_footage(footage, calibration, sync, storage, on_progress)
    return _summary(storage, table, matches, period_ns, spread_us)


def _period_ns(times: Mapping[str, Sequence[int]], probes: Mapping[str, Probe]) -> float:
    """Return the shortest frame period of the cameras, each the median of its own."""
    for camera, stamps in times.items():
        if not stamps:
            raise TakeError(f"{probes[camera].path}: holds no picture")
    periods = [float(np.median(np.diff(stamps))) for stamps in times.values() if len(stamps) > 1]
    return min(periods) if periods else 1e9 / 30


def _number(matches: Sequence[Match], table: Table, period_ns: float) -> dict[str, list[int]]:
    """Give every set the id floor(time / period) of its median time, raised where two sets would share one."""
    ids = {camera: [0] * len(rows) for camera, rows in table.items()}
    last = -1
    for match in matches:
        stamps = sorted(int(table[camera][row, 1]) for camera, row in match.rows.items())
        last = max(int(stamps[len(stamps) // 2] // period_ns), last + 1)
        for camera, row in match.rows.items():
            ids[camera][row] = last
    return ids


def _summary(
    storage: Storage, table: Table, matches: Sequence[Match], period_ns: float, spread_us: int
) -> dict[str, Any]:
    spreads = [np.ptp([table[camera][row, 1] for camera, row in match.rows.items()]) / 1e6 for match in matches]
    complete = sum(len(match.rows) == len(table) for match in matches)
    stamps = np.concatenate([rows[:, 1] for rows in table.values()])
    return {
        "take": str(storage.out),
        "frames": len(stamps),
        "cameras": {camera: len(rows) for camera, rows in table.items()},
        "sets": {"assembled": len(matches), "complete": complete, "partial": len(matches) - complete},
        "fps": round(1e9 / period_ns, 3),
        "tolerance_ms": spread_us / 1e3,
        "skew_ms": {"median": round(float(np.median(spreads)), 3), "max": round(float(np.max(spreads)), 3)},
        "seconds": round(float(np.ptp(stamps)) / 1e9, 3),
    }
