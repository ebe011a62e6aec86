"""Calibration files of other programs. Lengths become metres; a file that does not tell its unit is refused.

Read are: our own TOML; Caliscope's `camera_array.toml` and aniposelib's TOML (tables with `matrix`, `distortions`,
`rotation`, `translation`); and JSON with a list `cameras` of `name`, `width`, `height`, `K`, `dist_opencv5`, `R`,
`t`. In all of them rotation and translation map world to camera, OpenCV axes.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamer.calibration import calibration_from_text
from streamer.errors import CalibrationError
from streamer.types import F64, Calibration, Camera

METRES: Mapping[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_WORDS = {"m": "metres|meters", "cm": "centimetres|centimeters", "mm": "millimetres|millimeters"}


def read_calibration(path: Path, units: str | None = None) -> Calibration:
    """Read a calibration of any known kind.

    Args:
        path: TOML or JSON.
        units: `m`, `cm` or `mm` of a file that does not tell its own unit.

    Raises:
        CalibrationError: unreadable, of no known kind, of unknown unit or of another than `units`, or no sound cameras.
    """
    try:
        text = path.read_text("utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file; give --calibration FILE") from error
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise CalibrationError(f"{path}: holds no table of cameras")
    if path.suffix != ".json" and ("schema" in table or isinstance(table.get("cameras"), list)):
        calibration = calibration_from_text(text, str(path))
        _same_units(path, "m", units)
        return calibration
    rows = _rows(table)
    if not rows:
        raise CalibrationError(
            f"{path}: no cameras in it that Mien knows to read; write them as the calibration.toml of a take"
        )
    scale = METRES[_same_units(path, _stated_units(table), units)]
    cameras = []
    for name, row in rows.items():
        try:
            cameras.append(_camera(name, row, scale))
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, cv2.error) as error:
            raise CalibrationError(f"{path}: camera '{name}': missing or wrong value: {error}") from error
    return Calibration(tuple(cameras), f"{path.name}")


def opencv5(values: Any, where: str) -> F64:
    """Return five OpenCV distortion coefficients.

    Args:
        values: 0 to 14 coefficients in OpenCV's order; those behind the fifth must be zero.
        where: file and camera, for messages.

    Raises:
        CalibrationError: more than five coefficients are in use, or they are no numbers.
    """
    try:
        given = np.asarray(values, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{where}: distortion {values!r} is not a list of numbers") from error
    if len(given) > 14 or given[5:].any():
        raise CalibrationError(
            f"{where}: {len(given)} distortion coefficients; Mien uses k1, k2, p1, p2, k3: calibrate with these"
        )
    return np.concatenate([given[:5], np.zeros(max(5 - len(given), 0))])


def _rows(table: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return camera id to its table."""
    cameras = table.get("cameras")
    if isinstance(cameras, list):
        return {str(row["name"]): row for row in cameras if isinstance(row, dict) and "name" in row}
    source = cameras if isinstance(cameras, dict) else table
    rows: dict[str, Mapping[str, Any]] = {}
    for key, row in source.items():
        if isinstance(row, dict) and "matrix" in row and not row.get("ignore", False):
            name = row.get("name", key)
            rows[f"cam_{name}" if str(name).isdigit() else str(name)] = row
    return rows


def _camera(name: str, row: Mapping[str, Any], scale: float) -> Camera:
    width, height = (row["width"], row["height"]) if "width" in row else row["size"]
    camera_from_world = np.eye(4)
    rotation = np.asarray(row["R"] if "R" in row else row["rotation"], np.float64)
    camera_from_world[:3, :3] = rotation if rotation.shape == (3, 3) else cv2.Rodrigues(rotation.reshape(3))[0]
    translation = np.asarray(row["t"] if "t" in row else row["translation"], np.float64).reshape(3)
    camera_from_world[:3, 3] = translation * scale
    distortion = row["dist_opencv5"] if "dist_opencv5" in row else row["distortions"]
    return Camera(
        id=name,
        serial=str(row.get("serial", row.get("cam_id", name))),
        width=int(width),
        height=int(height),
        K=np.asarray(row["K"] if "K" in row else row["matrix"], np.float64),
        distortion=opencv5(distortion, f"camera '{name}'"),
        camera_from_world=camera_from_world,
    )


def _stated_units(table: Mapping[str, Any]) -> str | None:
    """Return the unit that a file tells, in `units` or in words."""
    if isinstance(table.get("units"), str):
        return str(table["units"])
    words = str(table.get("convention", ""))
    named = [unit for unit, pattern in _WORDS.items() if re.search(rf"\b({pattern})\b", words)]
    return named[0] if len(named) == 1 else None


def _same_units(path: Path, stated: str | None, given: str | None) -> str:
    if stated is None and given is None:
        raise CalibrationError(
            f"{path}: does not tell the unit of its translations; say it with --units m, cm or mm "
            "(never guess: a wrong unit makes a head of the wrong size)"
        )
    if stated is not None and given is not None and stated != given:
        raise CalibrationError(f"{path}: tells units '{stated}', --units says '{given}'; leave --units away")
    unit = stated or given or ""
    if unit not in METRES:
        raise CalibrationError(f"{path}: units = {unit!r}; known: {', '.join(METRES)}")
    return unit
