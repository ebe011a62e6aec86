"""COLMAP's text model. COLMAP puts the middle of the first pixel at (0.5, 0.5), Mien at (0, 0)."""

from pathlib import Path

import numpy as np

from streamer.errors import CalibrationError
from streamer.geometry import quaternion, rotations_of
from streamer.types import F64, Calibration, Camera

MODELS = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8, "FULL_OPENCV": 12}
"""Model to its number of parameters."""


def write_colmap(calibration: Calibration, out: Path) -> list[str]:
    """Write cameras.txt, images.txt (one image per camera, named after it) and an empty points3D.txt; metres."""
    out.mkdir(parents=True, exist_ok=True)
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    images = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; metres"]
    for number, camera in enumerate(calibration.cameras, 1):
        k1, k2, p1, p2, k3 = camera.distortion
        values = [camera.K[0, 0], camera.K[1, 1], camera.K[0, 2] + 0.5, camera.K[1, 2] + 0.5, k1, k2, p1, p2]
        model = "OPENCV" if k3 == 0 else "FULL_OPENCV"
        values += [] if k3 == 0 else [k3, 0, 0, 0]
        cameras.append(f"{number} {model} {camera.width} {camera.height} {' '.join(repr(float(v)) for v in values)}")
        pose = [*quaternion(camera.camera_from_world[:3, :3]), *camera.camera_from_world[:3, 3]]
        images += [f"{number} {' '.join(repr(float(v)) for v in pose)} {number} {camera.id}", ""]
    (out / "cameras.txt").write_text("\n".join(cameras) + "\n", "utf-8")
    (out / "images.txt").write_text("\n".join(images) + "\n", "utf-8")
    (out / "points3D.txt").write_text("# none\n", "utf-8")
    return ["serial numbers are not kept"] if any(c.serial != c.id for c in calibration.cameras) else []


def read_colmap(folder: Path, scale: float | None) -> Calibration:
    """Read cameras.txt and images.txt.

    Args:
        folder: the text model.
        scale: metres of its unit, which COLMAP never tells.

    Raises:
        CalibrationError: see `read_any`.
    """
    if scale is None:
        raise CalibrationError(
            f"{folder}: COLMAP does not tell its unit, and without markers its scale is arbitrary; say it: --units m"
        )
    lenses: dict[str, tuple[int, int, F64, F64]] = {}
    cameras = []
    try:
        for line in _lines(folder / "cameras.txt"):
            number, model, width, height, *values = line.split()
            lenses[number] = int(width), int(height), *_lens(model, [float(v) for v in values], folder)
        # each image has a second line with its points, which may be empty
        for line in _lines(folder / "images.txt", every=2):
            words = line.split(maxsplit=9)
            turn, shift = np.array(words[1:5], np.float64), np.array(words[5:8], np.float64)
            columns, rows, K, distortion = lenses[words[8]]
            name = Path(words[9]).stem.replace("/", "_")
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = rotations_of(turn), shift * scale
            cameras.append(Camera(name, name, columns, rows, K, distortion, pose))
    except (ValueError, IndexError, KeyError) as error:
        raise CalibrationError(f"{folder}: not a COLMAP text model: {error!r}") from error
    return Calibration(tuple(cameras), f"COLMAP {folder.name}")


def _lines(path: Path, every: int = 1) -> list[str]:
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from error
    return [line for line in lines[::every] if line.strip()]


def _lens(model: str, values: list[float], folder: Path) -> tuple[F64, F64]:
    if MODELS.get(model) != len(values):
        raise CalibrationError(
            f"{folder}: camera model {model} with {len(values)} values; read are {', '.join(MODELS)}"
        )
    single = model.startswith("SIMPLE") or model == "RADIAL"
    fx, fy, rest = (values[0], values[0], values[1:]) if single else (values[0], values[1], values[2:])
    bend = rest[2:]
    if len(bend) > 5 and any(bend[5:]):
        raise CalibrationError(f"{folder}: {model} with k4 to k6; Mien uses k1, k2, p1, p2, k3")
    K = np.array([[fx, 0, rest[0] - 0.5], [0, fy, rest[1] - 0.5], [0, 0, 1]])
    return K, np.array([*bend[:5], *[0.0] * (5 - len(bend[:5]))])
