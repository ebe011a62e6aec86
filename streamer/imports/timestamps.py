"""Exposure times from CSV files, exact to the nanosecond."""

import csv
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

from streamer.errors import TakeError
from streamer.types import Calibration

CAMERA_COLUMNS = ("cam_id", "camera", "cam")
SECONDS_COLUMNS = ("frame_time", "time_s")
NANOSECONDS_COLUMN = "time_ns"


def read_times(path: Path, calibration: Calibration) -> dict[str, list[int]]:
    """Read the times of all cameras from one file.

    Columns: `cam_id` (a camera's id, its serial, or N for `cam_N`) and `frame_time` in seconds or `time_ns`. The k-th
    row of a camera is its k-th picture; other columns (`sync_index`) are not used.

    Args:
        path: the CSV.
        calibration: names the cameras.

    Returns:
        Camera id to times in ns, rising.

    Raises:
        TakeError: unreadable, columns missing, an unknown camera, not a number, or times that do not rise.
    """
    names = {alias: camera.id for camera in calibration.cameras for alias in _aliases(camera.id, camera.serial)}
    times: dict[str, list[int]] = {}
    for line, row in _rows(path, camera=True):
        given = row["camera"]
        if given not in names:
            raise TakeError(
                f"{path} line {line}: camera {given!r} is not calibrated; known: {', '.join(calibration.ids)}"
            )
        _append(times.setdefault(names[given], []), row["time"], path, line)
    return times


def read_camera_times(path: Path) -> list[int]:
    """Read the times of one camera: a column `frame_time` in seconds or `time_ns`, one row per picture.

    Raises:
        TakeError: see `read_times`.
    """
    times: list[int] = []
    for line, row in _rows(path, camera=False):
        _append(times, row["time"], path, line)
    return times


def read_times_of(path: Path, camera: str) -> list[int]:
    """Read the times of one camera from a file of its own, or from one of all cameras.

    Args:
        path: the CSV; with a column `cam_id`, the rows of this camera count (by its name, or N for `cam_N`).
        camera: id of the camera.

    Raises:
        TakeError: see `read_times`; or no row of this camera.
    """
    if not _names_cameras(path):
        return read_camera_times(path)
    times: list[int] = []
    for line, row in _rows(path, camera=True):
        if row["camera"] in _aliases(camera, camera):
            _append(times, row["time"], path, line)
    if not times:
        raise TakeError(f"{path}: no row of camera '{camera}' in its column cam_id")
    return times


def _names_cameras(path: Path) -> bool:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return any(name.strip() in CAMERA_COLUMNS for name in next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TakeError(f"{path}: cannot be read: {error}") from error


def _aliases(camera_id: str, serial: str) -> tuple[str, ...]:
    return (camera_id, serial, camera_id.removeprefix("cam_"))


def _rows(path: Path, camera: bool) -> list[tuple[int, Mapping[str, str]]]:
    """Return line number, and the cells `camera` and `time` (ns as text) of every row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = [name.strip() for name in table.fieldnames or ()]
            table.fieldnames = columns
            who = next((name for name in CAMERA_COLUMNS if name in columns), None)
            seconds = next((name for name in SECONDS_COLUMNS if name in columns), None)
            if (camera and who is None) or (seconds is None and NANOSECONDS_COLUMN not in columns):
                needed = f"{'cam_id and ' if camera else ''}frame_time (s) or {NANOSECONDS_COLUMN}"
                raise TakeError(
                    f"{path}: its first line is {','.join(columns) or 'empty'}; needed are the columns {needed}"
                )
            rows: list[tuple[int, Mapping[str, str]]] = []
            for row in table:
                text = str(row[seconds or NANOSECONDS_COLUMN] or "").strip()
                cell = {"camera": str(row[who] or "").strip() if who else "", "time": text}
                cell["time"] = _nanoseconds(text, path, table.line_num) if seconds else text
                rows.append((table.line_num, cell))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TakeError(f"{path}: cannot be read: {error}") from error


def _nanoseconds(text: str, path: Path, line: int) -> str:
    try:
        return str(int((Decimal(text) * 10**9).to_integral_value()))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise TakeError(f"{path} line {line}: time {text!r} is not a number of seconds") from error


def _append(times: list[int], text: str, path: Path, line: int) -> None:
    try:
        time = int(text)
    except ValueError as error:
        raise TakeError(f"{path} line {line}: time {text!r} is not a whole number of nanoseconds") from error
    if not 0 <= time < 2**63 or (times and time <= times[-1]):
        raise TakeError(
            f"{path} line {line}: time {text} ns does not rise (or is negative); times must, for each camera"
        )
    times.append(time)
