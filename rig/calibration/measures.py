"""How good a calibration is: reprojection errors, and millimetres on the board's known distances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.calibration.bundle import Corners
from rig.calibration.lens import camera_matrix, pack_intrinsics
from streamer.types import F64, Calibration

MIN_ANGLE_DEG = 4.0
"""Rays that meet at a smaller angle do not measure depth."""


@dataclass(frozen=True, slots=True)
class Distances:
    """Known against measured distances between corners of the board."""

    true_m: F64
    """(D,)."""
    measured_m: F64
    """(D,)."""
    along: NDArray[np.int64]
    """(D,) 0: along the rows (x), 1: along the columns (y), 2: oblique."""
    set: NDArray[np.int64]
    """(D,) index of the set."""

    @property
    def rmse_mm(self) -> float:
        """Root mean square of the errors, NaN without any."""
        return float(np.sqrt(np.mean((1000 * (self.measured_m - self.true_m)) ** 2))) if len(self.set) else float("nan")

    @property
    def bias_mm(self) -> float:
        """Mean error, above 0 where things come out too large; NaN without any."""
        return float(np.mean(1000 * (self.measured_m - self.true_m))) if len(self.set) else float("nan")

    @property
    def scale(self) -> float:
        """Measured over true length, least squares; NaN without any."""
        return float(self.measured_m @ self.true_m / (self.true_m @ self.true_m)) if len(self.set) else float("nan")


def undistorted(pixels: F64, intrinsics: F64) -> F64:
    """Return the ideal coordinates x/z, y/z (M, 2) of pixels (M, 2) of one camera."""
    import cv2

    if not len(pixels):
        return np.empty((0, 2))
    until = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 100, 1e-10)
    K, distortion = camera_matrix(intrinsics), intrinsics[4:]
    return np.asarray(
        cv2.undistortPointsIter(pixels.reshape(-1, 1, 2), K, distortion, np.eye(3), np.eye(3), until)
        if hasattr(cv2, "undistortPointsIter")
        else cv2.undistortPoints(pixels.reshape(-1, 1, 2), K, distortion, criteria=until),
        np.float64,
    ).reshape(-1, 2)


def triangulate(corners: Corners, calibration: Calibration) -> tuple[F64, NDArray[np.int64], NDArray[np.int64]]:
    """Find each corner in space from all cameras that saw it at once, without knowing the board.

    Returns:
        (P, 3) metres, world; (P,) set and (P,) corner of each. Corners seen by one camera, or under small angles, are
        left out.
    """
    rays, centres = np.empty((len(corners.set), 3)), np.empty((len(corners.set), 3))
    for index, camera in enumerate(calibration.cameras):
        mine = corners.camera == index
        ideal = undistorted(corners.pixels[mine], pack_intrinsics(camera.K, camera.distortion))
        ray = np.concatenate([ideal, np.ones((len(ideal), 1))], 1) @ camera.camera_from_world[:3, :3]
        rays[mine] = ray / np.linalg.norm(ray, axis=1, keepdims=True)
        centres[mine] = camera.centre_world
    key = corners.set * (int(corners.point.max(initial=0)) + 1) + corners.point
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    weight, pull = np.zeros((len(first), 3, 3)), np.zeros((len(first), 3))
    np.add.at(weight, inverse, across)
    np.add.at(pull, inverse, np.einsum("mij,mj->mi", across, centres))
    # the smallest eigenvalue of a sum of projections is 1 - cos of the angle for two rays
    good = np.linalg.eigvalsh(weight)[:, 0] > 1 - np.cos(np.radians(MIN_ANGLE_DEG))
    points = np.linalg.solve(weight[good], pull[good][..., None])[..., 0]
    return points, corners.set[first][good], corners.point[first][good]


def distances(corners: Corners, calibration: Calibration, board_points: F64) -> Distances:
    """Compare all distances between corners of the board with those of the triangulated corners.

    Args:
        corners: what was seen.
        calibration: the cameras, in the order of `corners.camera`.
        board_points: (N, 3) metres.
    """
    points, sets, ids = triangulate(corners, calibration)
    true, measured, along, owner = [], [], [], []
    for k in np.unique(sets):
        mine = np.flatnonzero(sets == k)
        a, b = np.triu_indices(len(mine), 1)
        way = board_points[ids[mine[a]]] - board_points[ids[mine[b]]]
        true.append(np.linalg.norm(way, axis=1))
        measured.append(np.linalg.norm(points[mine[a]] - points[mine[b]], axis=1))
        along.append(np.where(np.abs(way[:, 1]) < 1e-9, 0, np.where(np.abs(way[:, 0]) < 1e-9, 1, 2)))
        owner.append(np.full(len(a), k))
    if not true:
        return Distances(np.empty(0), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    return Distances(*(np.concatenate(column) for column in (true, measured, along, owner)))


def rms(errors: F64) -> float:
    """Return the root mean square length of errors (M, 2); NaN without any."""
    return float(np.sqrt((errors**2).sum(1).mean())) if len(errors) else float("nan")
