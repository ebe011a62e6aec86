"""FaMoS / TEMPEH `.tka`: one text file per camera, read by the position of its lines; millimetres; Tsai's lens."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.errors import CalibrationError
from streamer.types import F64


@dataclass(frozen=True, slots=True)
class Tka:
    """A camera of a `.tka` file."""

    rotation: F64
    """(3, 3) camera from world."""
    centre_mm: F64
    """(3,)."""
    focal_mm: float
    """Focal length."""
    undistortion: tuple[float, float]
    """Tsai k1, k2: from distorted to ideal, on the sensor in mm."""
    pixel_mm: tuple[float, float]
    """Size of a pixel."""
    principal_px: tuple[float, float]
    """Principal point of the full picture."""
    size: tuple[int, int]
    """Width and height of the full picture."""


def read_tka(path: Path) -> Tka:
    """Read a calibration; the format goes by the position of lines.

    Raises:
        CalibrationError: not readable, too short, or values that make no camera.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
        values = [[float(word) for word in line.split() if _number(word)] for line in lines[1:16]]
        rotation = np.array([row[-3:] for row in values[:3]])
        singles = [row[-1] for row in values[3:14]]
        width, height = values[14][-2:]
    except (OSError, UnicodeDecodeError, IndexError, ValueError) as error:
        raise CalibrationError(f"{path}: not a readable .tka calibration: {error}") from error
    sound = rotation.shape == (3, 3) and np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-3
    if not sound or min(singles[3], singles[7], singles[8], width, height) <= 0:
        raise CalibrationError(
            f"{path}: no camera: a rotation, a focal length, pixel sizes and a picture size are needed"
        )
    return Tka(
        rotation=rotation,
        centre_mm=np.array(singles[:3]),
        focal_mm=singles[3],
        undistortion=(singles[4], singles[5]),
        pixel_mm=(singles[7], singles[8]),
        principal_px=(singles[9], singles[10]),
        size=(int(width), int(height)),
    )


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
