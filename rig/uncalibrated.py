"""The calibration of real cameras: from a file by serial number, or a nominal one until they are calibrated."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamer.calibration import load_calibration
from streamer.errors import CalibrationError
from streamer.types import Calibration, Camera

NOMINAL = "not calibrated: nominal lenses and places; run mien calibrate"
"""`Calibration.source` of cameras that nobody has calibrated."""
FOCAL_WIDTHS = 1.2
"""Nominal focal length, picture widths: a normal lens."""


def calibrate(path: str, cameras: Mapping[str, tuple[str, int, int]]) -> Calibration:
    """Return the calibration of these cameras.

    Args:
        path: calibration TOML; empty: nominal.
        cameras: id to serial, width and height in px.

    Raises:
        CalibrationError: the file cannot be used, lacks a camera, or was made for another picture size.
    """
    if not path:
        return Calibration(tuple(_nominal(name, *rest) for name, rest in cameras.items()), NOMINAL)
    known = load_calibration(Path(path))
    return Calibration(tuple(_find(known, path, name, *rest) for name, rest in cameras.items()), known.source)


def _find(known: Calibration, path: str, name: str, serial: str, width: int, height: int) -> Camera:
    # The serial decides: ids may be swapped in a configuration, glass and sensor may not.
    found = next((camera for camera in known.cameras if camera.serial == serial), None)
    found = found or next((camera for camera in known.cameras if camera.id == name), None)
    if found is None:
        listed = ", ".join(f"{camera.id} ({camera.serial})" for camera in known.cameras)
        raise CalibrationError(
            f"{path} holds no camera of serial {serial!r} ('{name}'), only {listed}; calibrate the rig again, or "
            "correct rig.calibration"
        )
    if (found.width, found.height) != (width, height):
        raise CalibrationError(
            f"{path}: camera '{found.id}' is calibrated for {found.width}x{found.height}, '{name}' delivers "
            f"{width}x{height}; set the camera so, or calibrate again"
        )
    return replace(found, id=name, serial=serial)


def _nominal(name: str, serial: str, width: int, height: int) -> Camera:
    focal = FOCAL_WIDTHS * width
    k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    camera_from_world = np.eye(4)
    camera_from_world[2, 3] = 1.0
    return Camera(name, serial, width, height, k, np.zeros(5), camera_from_world)
