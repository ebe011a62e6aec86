"""FaMoS / TEMPEH `.tka`: one text file per camera, read by the position of its lines; millimetres; Tsai's lens.

Tsai's coefficients undistort (from the picture to the ideal point), on the sensor in mm; Mien's distort. Each is turned
into the other by least squares over the picture, radial part only.
"""

from pathlib import Path

import numpy as np

from streamer.imports.tka import read_tka
from streamer.types import F64, Calibration, Camera

PIXEL_MM = 0.0055
"""Size of a pixel written: any would do, focal lengths in px are what counts."""
RADII = 200
BENT_PX = 0.1


def write_famos(calibration: Calibration, out: Path) -> list[str]:
    """Write OUT/<camera>.tka for each camera."""
    out.mkdir(parents=True, exist_ok=True)
    notes = []
    for camera in calibration.cameras:
        focal = camera.K[0, 0] * PIXEL_MM
        ideal = _radii(camera)
        forward = _forward(camera, ideal)
        u1, u2 = _fit(forward, ideal)
        worst = float(np.abs(forward * (1 + u1 * forward**2 + u2 * forward**4) - ideal).max() * camera.K[0, 0])
        if worst > BENT_PX or camera.distortion[2:4].any():
            notes.append(f"{camera.id}: Tsai's lens is off by up to {worst:.2f} px; tangential distortion is left out")
        centre = camera.centre_world * 1000
        rows = ["Mien"]
        rows += [" ".join(repr(float(v)) for v in row) + " " for row in camera.camera_from_world[:3, :3]]
        labels = ("X", "Y", "Z", "f", "K", "K2", "S", "x", "y", "a", "b")
        numbers = (*centre, focal, u1 / focal**2, u2 / focal**4, 1.0, PIXEL_MM, focal / camera.K[1, 1])
        numbers = (*numbers, camera.K[0, 2], camera.K[1, 2])
        rows += [f"{label}: {float(v)!r}" for label, v in zip(labels, numbers, strict=True)]
        rows += [f"is: {camera.width} {camera.height}", "c: 0"]
        (out / f"{camera.id}.tka").write_text("\n".join(rows) + "\n", "utf-8")
    return notes


def read_famos(path: Path) -> Calibration:
    """Read one `.tka`, or all of a folder in name order.

    Raises:
        CalibrationError: a file is no calibration.
    """
    files = sorted(path.glob("*.tka")) if path.is_dir() else [path]
    return Calibration(tuple(_read(file) for file in files), f"FaMoS {path.name}")


def _read(path: Path) -> Camera:
    tka = read_tka(path)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = tka.rotation, -tka.rotation @ (tka.centre_mm / 1000)
    focal, (sx, sy), (a, b) = tka.focal_mm, tka.pixel_mm, tka.principal_px
    K = np.array([[focal / sx, 0, a], [0, focal / sy, b], [0, 0, 1]])
    plain = Camera(path.stem, path.stem, *tka.size, K, np.zeros(5), pose)
    u1, u2 = tka.undistortion[0] * focal**2, tka.undistortion[1] * focal**4
    distorted = _radii(plain)
    ideal = distorted * (1 + u1 * distorted**2 + u2 * distorted**4)
    c1, c2 = _fit(ideal, distorted)
    return Camera(path.stem, path.stem, *tka.size, K, np.array([c1, c2, 0, 0, 0]), pose)


def _radii(camera: Camera) -> F64:
    """Return radii (RADII,) from the middle to beyond the farthest corner, in focal lengths."""
    corners = np.array([[x, y] for x in (0, camera.width) for y in (0, camera.height)])
    off = (corners - camera.K[:2, 2]) / np.diag(camera.K)[:2]
    return np.arange(1, RADII + 1) / RADII * float(np.linalg.norm(off, axis=1).max())


def _forward(camera: Camera, ideal: F64) -> F64:
    k1, k2, _, _, k3 = camera.distortion
    return np.asarray(ideal * (1 + ideal**2 * (k1 + ideal**2 * (k2 + ideal**2 * k3))), np.float64)


def _fit(from_r: F64, to_r: F64) -> F64:
    """Return c (2,) with to = from (1 + c1 from² + c2 from⁴), least squares."""
    return np.asarray(np.linalg.lstsq(np.stack([from_r**3, from_r**5], 1), to_r - from_r, rcond=None)[0], np.float64)
