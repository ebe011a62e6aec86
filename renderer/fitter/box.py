"""The box that a field lives in."""

from dataclasses import dataclass

import numpy as np

from streamer.errors import CalibrationError
from streamer.geometry import project
from streamer.types import F64, Calibration

REACH = 0.42
"""Half an edge of the box as a part of the cameras' median distance: a studio's cameras frame head and shoulders."""


@dataclass(frozen=True)
class Box:
    """A cube in the world."""

    centre: tuple[float, float, float]
    """Metres, world."""
    size: float
    """Edge, metres."""

    @property
    def corner(self) -> F64:
        """(3,) the corner of smallest coordinates, metres, world."""
        return np.asarray(self.centre, np.float64) - self.size / 2


def box_of_cameras(calibration: Calibration) -> Box:
    """Return the cube around the point that the cameras look at (nearest to all optical axes, in the square).

    Raises:
        CalibrationError: one camera only, or axes that do not meet before the cameras.
    """
    centres = np.stack([camera.centre_world for camera in calibration.cameras])
    axes = np.stack([camera.camera_from_world[2, :3] for camera in calibration.cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    system = across.sum(0)
    if len(centres) < 2 or np.linalg.cond(system) > 1e6:
        raise CalibrationError("a radiance field needs two cameras or more that look at one point from several sides")
    middle = np.linalg.solve(system, (across @ centres[:, :, None]).sum(0))[:, 0]
    depths = ((middle - centres) * axes).sum(1)
    if np.median(depths) <= 0:
        raise CalibrationError("the cameras do not look at a common point: check the calibration (docs/conventions.md)")
    return Box((float(middle[0]), float(middle[1]), float(middle[2])), float(2 * REACH * np.median(depths)))


def lattice(box: Box, cells: int) -> F64:
    """Return the (cells, cells, cells, 3) centres of a grid over the box, x first, metres, world."""
    line = (np.arange(cells) + 0.5) / cells * box.size
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), -1) + box.corner


def seen_by(calibration: Calibration, points: F64) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Count the cameras whose picture each of (..., 3) world points falls into."""
    count = np.zeros(points.shape[:-1], np.int64)
    for camera in calibration.cameras:
        pixels, depth = project(camera, points)
        with np.errstate(invalid="ignore"):
            inside = (pixels > -0.5) & (pixels < (camera.width - 0.5, camera.height - 0.5))
        count += inside.all(-1) & (depth > 0)
    return count
