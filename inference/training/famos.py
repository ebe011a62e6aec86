"""The layout of the FaMoS data set, as TEMPEH's release reads it. The data are the user's: nothing of them ships.

    <dir>/frames.json                                       [[subject, sequence, frame], ...]
    <dir>/images/<subject>/<sequence>/<frame>/<sequence>.<frame>.<view>.png
    <dir>/calibrations/<subject>/<sequence>/<view>.tka
    <dir>/scans/<subject>/<sequence>/<sequence>.<frame>.npy|obj|ply     points or mesh, mm
    <dir>/registrations/<subject>/<sequence>/<sequence>.<frame>.ply     metres
    <dir>/template.obj                                      metres

Grey stereo views are those whose name holds `_A` or `_B`. With `quirks` pictures and cameras are made as the release
makes them: distortion that depends on the resize factor, no half pixel, one pixel off after turning a portrait.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from inference.meshes import SurfaceMesh, read_mesh
from inference.training.scan_corpus import CACHED_PICTURES, NetworkView, ScanCorpus, ScanSet, in_mm
from streamer.errors import MissingExtra, TakeError
from streamer.imports.tka import Tka, read_tka
from streamer.types import F32, F64, U8, Topology

STEREO = ("_A", "_B")
RADII = 100
"""Radii at which the distortion is inverted."""


def network_camera(tka: Tka, factor: float, *, quirks: bool) -> tuple[F64, F64, F64, tuple[int, int]]:
    """K (3, 3), distortion (2,), camera_from_world (3, 4) and size of the picture shrunk by `factor`.

    With `quirks` the focal length is divided by the factor before the Tsai coefficients are converted and the
    size of a pixel is not multiplied: the distortion shrinks with the picture.
    """
    width, height = (int(side / factor + 1e-6) for side in tka.size)
    focal = tka.focal_mm / factor
    fx, fy = focal / tka.pixel_mm[0], focal / tka.pixel_mm[1]
    shift = 0.0 if quirks else 0.5 / factor - 0.5
    cx, cy = (value / factor + shift for value in tka.principal_px)
    bend = focal if quirks else tka.focal_mm
    distortion = _inverse(tka.undistortion[0] * bend**2, tka.undistortion[1] * bend**4, width / fx, height / fy)
    outer = np.concatenate([tka.rotation, (-tka.rotation @ tka.centre_mm)[:, None]], 1)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), distortion, outer, (width, height)


def _inverse(k1: float, k2: float, width: float, height: float) -> F64:
    """Radial distortion (2,) that undoes the undistortion 1 + k1 r^2 + k2 r^4, by least squares over a picture."""
    rho = np.arange(1, RADII + 1) / RADII * np.hypot(width, height)
    ideal = rho * (1 + k1 * rho**2 + k2 * rho**4)
    return np.asarray(np.linalg.lstsq(np.stack([ideal**2, ideal**4], 1), rho / ideal - 1, rcond=None)[0])


def turned(K: F64, width: int, *, quirks: bool) -> F64:
    """K after a quarter turn counter-clockwise of a picture of this width; with `quirks` one pixel off."""
    return np.array([[0.0, 1, 0], [-1, 0, width if quirks else width - 1], [0, 0, 1]]) @ K


def shrink(picture: U8, size: tuple[int, int]) -> U8:
    """Resize by a Gaussian of (scale - 1) / 2 px and bilinear reading, as scikit-image's `resize` does.

    Raises:
        MissingExtra: scipy is not installed.
    """
    try:
        from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("scipy", "train") from error
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    scale = (picture.shape[0] / size[1], picture.shape[1] / size[0])
    sigma = [max(0.0, (s - 1) / 2) for s in scale] + [0.0]
    smooth = gaussian_filter(picture.astype(np.float32), sigma, mode="mirror")
    small = cv2.resize(smooth, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(np.rint(small), 0, 255), np.uint8)


@dataclass(frozen=True)
class FamosView:
    """A picture of the data set."""

    path: Path
    """The picture."""
    calibration: Path
    """Its `.tka`."""
    quirks: bool
    """See the module."""

    @property
    def name(self) -> str:
        """See `ViewSource`."""
        return f"{self.calibration.stem} of {self.path.parent.name}"

    def view(self, size: tuple[int, int]) -> NetworkView:
        """Read it, landscape."""
        return _famos_view(self, size)


@lru_cache(CACHED_PICTURES)
def _famos_view(source: FamosView, size: tuple[int, int]) -> NetworkView:
    tka = read_tka(source.calibration)
    portrait = tka.size[1] > tka.size[0]
    factor = (tka.size[1] if portrait else tka.size[0]) / size[0]
    K, distortion, outer, small = network_camera(tka, factor, quirks=source.quirks)
    read = cv2.imread(str(source.path), cv2.IMREAD_COLOR_RGB)
    if read is None:
        raise TakeError(f"{source.path}: not a readable picture")
    picture = shrink(np.asarray(read, np.uint8), small)
    if portrait:
        K, picture = turned(K, small[0], quirks=source.quirks), np.ascontiguousarray(np.rot90(picture))
    if (picture.shape[1], picture.shape[0]) != size:
        raise TakeError(
            f"{source.path}: shrinks to {picture.shape[1]}x{picture.shape[0]}, the network takes {size[0]}x{size[1]}"
        )
    return NetworkView(np.asarray(picture, np.uint8), K, distortion, outer)


def read_famos(folder: Path, topology: Topology, *, quirks: bool, scan_unit: str = "mm") -> ScanCorpus:
    """Find the frames of a data set in this layout. Missing pictures leave their view out, as in the release.

    Raises:
        TakeError: no `frames.json`, or one that is none.
    """
    index = folder / "frames.json"
    try:
        rows = json.loads(index.read_text("utf-8"))
        names = [(str(subject), str(sequence), str(frame)) for subject, sequence, frame in rows]
    except (OSError, ValueError, TypeError) as error:
        raise TakeError(f"{index}: expected a list of [subject, sequence, frame]: {error}") from error
    return ScanCorpus(topology, tuple(_famos_set(folder, *name, quirks, scan_unit) for name in names))


def _famos_set(folder: Path, subject: str, sequence: str, frame: str, quirks: bool, unit: str) -> ScanSet:
    views = []
    for calibration in sorted((folder / "calibrations" / subject / sequence).glob("*.tka")):
        if any(mark in calibration.stem for mark in STEREO):
            picture = folder / "images" / subject / sequence / frame / f"{sequence}.{frame}.{calibration.stem}.png"
            if picture.exists():
                views.append(FamosView(picture, calibration, quirks))
    stem = f"{sequence}.{frame}"
    scan = first_of([folder / "scans" / subject / sequence / f"{stem}{ending}" for ending in (".npy", ".obj", ".ply")])
    if scan is None:
        raise TakeError(f"{folder}: no scan {subject}/{sequence}/{stem} (.npy, .obj or .ply)")
    registration = folder / "registrations" / subject / sequence / f"{stem}.ply"
    return ScanSet(
        f"{subject}/{stem}",
        tuple(views),
        lambda: read_scan(scan, unit),
        (lambda: read_registration(registration)) if registration.exists() else None,
    )


def first_of(paths: Sequence[Path]) -> Path | None:
    """The first of some files that exists."""
    return next((path for path in paths if path.exists()), None)


def read_scan(path: Path, unit: str) -> SurfaceMesh:
    """Read a raw scan: a mesh, or an `.npy` of points.

    Raises:
        TakeError: of no head's size in this unit, or no points.
        MeshError: not a readable mesh.
    """
    if path.suffix != ".npy":
        return in_mm(read_mesh(path), unit, str(path))
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise TakeError(f"{path}: not a readable array of points: {error}") from error
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise TakeError(f"{path}: is {points.shape} {points.dtype}; points (N, 3) that are finite numbers are expected")
    return in_mm(SurfaceMesh(points.astype(np.float32), np.zeros((0, 3), np.int32)), unit, str(path))


def read_registration(path: Path) -> F32:
    """Vertices (N, 3) of a registered mesh in metres, in mm."""
    mesh = read_mesh(path)
    return np.asarray(in_mm(mesh, "m", str(path)).vertices, np.float32)
