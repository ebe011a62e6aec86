"""Calibrations of other programs, in and out. Formats are recognised by name and content; units are never guessed.

opencv      OpenCV YAML, one file of all cameras; also reads the file of a single camera that OpenCV's samples write
colmap      COLMAP text model: cameras.txt, images.txt, points3D.txt
caliscope   Caliscope's camera_array.toml
nersemble   NeRSemble v2: calibration/camera_params.json, with per-camera intrinsics, distortion and sizes as extensions
famos       FaMoS / TEMPEH: one .tka per camera
"""

from pathlib import Path

from rig.calibration.formats.caliscope import write_caliscope
from rig.calibration.formats.colmap import read_colmap, write_colmap
from rig.calibration.formats.famos import read_famos, write_famos
from rig.calibration.formats.nersemble import PARAMS, read_nersemble, write_nersemble
from rig.calibration.formats.opencv import read_opencv, write_opencv
from streamer.calibration import save_calibration
from streamer.errors import CalibrationError
from streamer.imports.calibrations import METRES, read_calibration
from streamer.types import Calibration

WRITERS = {
    "opencv": write_opencv,
    "colmap": write_colmap,
    "caliscope": write_caliscope,
    "nersemble": write_nersemble,
    "famos": write_famos,
}


def read_any(path: Path, units: str | None = None) -> Calibration:
    """Read a calibration of any known format.

    Args:
        path: file or folder.
        units: `m`, `cm` or `mm`, for formats that do not tell (COLMAP, OpenCV without `units`).

    Raises:
        CalibrationError: unreadable, of no known format, of unknown unit, or no sound cameras.
    """
    scale = None if units is None else METRES[units]
    if path.is_dir():
        if (path / "cameras.txt").is_file():
            return read_colmap(path, scale)
        if any(path.glob("*.tka")):
            return read_famos(path)
        if (path / PARAMS).is_file():
            return read_nersemble(path / PARAMS)
        raise CalibrationError(
            f"{path}: holds neither cameras.txt (COLMAP), nor *.tka (FaMoS), nor {PARAMS} (NeRSemble)"
        )
    if path.suffix in (".yml", ".yaml"):
        return read_opencv(path, scale)
    if path.suffix == ".tka":
        return read_famos(path)
    if path.name == PARAMS.name:
        return read_nersemble(path)
    return read_calibration(path, units)


def write_as(calibration: Calibration, kind: str, out: Path) -> list[str]:
    """Write a calibration.

    Args:
        calibration: the cameras.
        kind: `mien` or a name in `WRITERS`.
        out: file, or folder for formats of several files; files in it are replaced.

    Returns:
        What the format cannot hold, a line each.

    Raises:
        CalibrationError: it cannot be written, or the format cannot hold a camera.
    """
    if kind == "mien":
        save_calibration(calibration, out)
        return []
    try:
        return WRITERS[kind](calibration, out)
    except OSError as error:
        raise CalibrationError(f"{out}: cannot be written: {error}") from error
