"""Calibrations as TOML: one file per rig, with its unit in it, written whole or not at all.

Example:
    schema = 1
    units = "m"
    source = "by hand, 2026-11-22"

    [[cameras]]
    id = "cam_0"
    serial = "40012345"
    width = 640
    height = 480
    K = [[800.0, 0.0, 319.5], [0.0, 800.0, 239.5], [0.0, 0.0, 1.0]]
    distortion = [0.0, 0.0, 0.0, 0.0, 0.0]              # k1, k2, p1, p2, k3
    camera_from_world = [[...], [...], [...], [0.0, 0.0, 0.0, 1.0]]
"""

import json
import os
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamer.errors import CalibrationError, WireError
from streamer.types import F64, Calibration, Camera
from streamer.wire_fields import check_name

SCHEMA = 1
_KEYS = ("schema", "units", "source", "cameras")
_SHAPES: dict[str, tuple[int, ...]] = {"K": (3, 3), "distortion": (5,), "camera_from_world": (4, 4)}
_CAMERA_KEYS = ("id", "serial", "width", "height", *_SHAPES)


def load_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        CalibrationError: no such file, not TOML, no units, unknown or missing keys, or numbers that cannot be a camera.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"{path}: cannot be read ({error}); give the calibration TOML of a rig, or the calibration.toml of a take"
        ) from error
    return calibration_from_text(text, str(path))


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration, so that a reader sees the old file or the whole new one.

    Raises:
        CalibrationError: the file cannot be written, or a camera could not be read back.
    """
    text = calibration_to_text(calibration)
    calibration_from_text(text, str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CalibrationError(f"{path}: the calibration cannot be written: {error}") from error


def calibration_to_text(calibration: Calibration) -> str:
    """Return the TOML of a calibration; reading it gives the same numbers bit by bit."""
    lines = [f"schema = {SCHEMA}", 'units = "m"', f"source = {_quote(calibration.source)}"]
    for camera in calibration.cameras:
        lines += ["", "[[cameras]]", f"id = {_quote(camera.id)}", f"serial = {_quote(camera.serial)}"]
        lines += [f"width = {camera.width}", f"height = {camera.height}"]
        lines += [f"{name} = {getattr(camera, name).tolist()}" for name in _SHAPES]
    return "\n".join(lines) + "\n"


def calibration_from_text(text: str, where: str = "calibration") -> Calibration:
    """Read a calibration from TOML.

    Args:
        text: the TOML.
        where: what to call it in messages, the path for instance.

    Raises:
        CalibrationError: see `load_calibration`.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalibrationError(f"{where}: not valid TOML: {error}") from error
    _check_units(table.get("units"), where)
    _check_keys(table, _KEYS, ("schema", "units", "cameras"), where)
    if type(table["schema"]) is not int or table["schema"] != SCHEMA:
        raise CalibrationError(f"{where}: schema = {table['schema']!r}, this Mien reads {SCHEMA}")
    rows = table["cameras"]
    if type(rows) is not list or not all(type(row) is dict for row in rows):
        raise CalibrationError(f"{where}: cameras must be written as [[cameras]] tables, one per camera")
    try:
        cameras = tuple(_camera(row, f"{where}: [[cameras]] number {index + 1}") for index, row in enumerate(rows))
        return Calibration(cameras, _text(table.get("source", ""), f"{where}: source"))
    except CalibrationError as error:
        raise CalibrationError(str(error) if where in str(error) else f"{where}: {error}") from error


def _check_units(units: Any, where: str) -> None:
    if units is None:
        raise CalibrationError(
            f"{where}: units is missing, and nothing in the numbers tells metres from millimetres; "
            'add units = "m" at the top if the translations are metres'
        )
    if units != "m":
        raise CalibrationError(
            f'{where}: units = {units!r}; only "m" is read: convert the translations of camera_from_world to metres'
        )


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], needed: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise CalibrationError(f"{where}: unknown key {key!r}; known: {', '.join(known)}")
    for key in needed:
        if key not in table:
            raise CalibrationError(f"{where}: {key} is missing")


def _camera(row: dict[str, Any], where: str) -> Camera:
    _check_keys(row, _CAMERA_KEYS, tuple(key for key in _CAMERA_KEYS if key != "serial"), where)
    try:
        identity = check_name(row["id"], "id")
    except WireError as error:
        raise CalibrationError(f"{where}: {error}") from error
    where = f"{where} ('{identity}')"
    for key in ("width", "height"):
        if type(row[key]) is not int or not 1 <= row[key] <= 65535:
            raise CalibrationError(f"{where}: {key} = {row[key]!r}: expected pixels, an integer from 1 to 65535")
    arrays = {name: _array(row[name], shape, f"{where}: {name}") for name, shape in _SHAPES.items()}
    K, pose = arrays["K"], arrays["camera_from_world"]
    if not (K[0, 0] > 0 and K[1, 1] > 0 and np.allclose([K[1, 0], *K[2]], [0, 0, 0, 1], rtol=0, atol=1e-9)):
        raise CalibrationError(
            f"{where}: K = {K.tolist()} is no intrinsic matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0"
        )
    if not np.allclose(pose[3], [0, 0, 0, 1], rtol=0, atol=1e-9):
        raise CalibrationError(f"{where}: the last row of camera_from_world is {pose[3].tolist()}, not [0, 0, 0, 1]")
    return Camera(identity, _text(row.get("serial", ""), f"{where}: serial"), row["width"], row["height"], **arrays)


def _array(value: Any, shape: tuple[int, ...], where: str) -> F64:
    rows = value if len(shape) == 2 else [value]
    sound = type(rows) is list and len(rows) == (shape[0] if len(shape) == 2 else 1)
    sound = sound and all(type(row) is list and len(row) == shape[-1] for row in rows)
    if not sound or any(type(number) not in (int, float) for row in rows for number in row):
        raise CalibrationError(f"{where}: expected {' x '.join(map(str, shape))} numbers")
    try:
        return np.array(value, np.float64)
    except OverflowError as error:
        raise CalibrationError(f"{where}: a number is too large for a float") from error


def _text(value: Any, where: str) -> str:
    if type(value) is not str:
        raise CalibrationError(f"{where} = {value!r}: expected text in quotes")
    return value


def _quote(text: str) -> str:
    # JSON's strings are TOML's basic strings, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
