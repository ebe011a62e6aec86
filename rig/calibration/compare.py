"""Two calibrations of one rig: which camera moved or was flipped, and whether a length was wrong. Pure."""

from dataclasses import dataclass

import numpy as np

from rig.calibration.poses import angle_deg
from streamer.geometry import inverse_rigid, project, rigid_from_points, rotation_vector
from streamer.types import F64, Calibration, Camera

HEAD_M = 0.12
"""Half the size of what is looked at."""
MOVED_PX = 1.5
"""A camera moved if its picture of things in the middle of the rig shifted by more..."""
MOVED_FACTOR = 4.0
"""... and by so many times what the others shifted."""
FLIPPED_DEG = 150.0
SCALE_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one camera."""

    camera: str
    """Id."""
    place_mm: float
    """How far it moved."""
    turn_deg: float
    """By how much it turned."""
    roll_deg: float
    """The part of the turn about its optical axis."""
    shift_px: float
    """How far its picture of the rig's middle shifted, rms."""
    moved: bool
    """Whether it is named."""
    flipped: bool
    """Whether it was turned upside down."""


def compare(now: Calibration, before: Calibration) -> tuple[list[Change], float]:
    """Compare two calibrations; their worlds may differ, and lengths by one factor.

    Args:
        now: the new one.
        before: the old one; at least two cameras in common.

    Returns:
        The changes of the common cameras, and lengths now over lengths before (NaN where there are too few cameras).
    """
    names = [name for name in now.ids if name in before.ids]
    scale = _scale([now[n] for n in names], [before[n] for n in names])
    factor = scale if np.isfinite(scale) and abs(scale - 1) > SCALE_SHARE else 1.0
    middle = _middle(now)
    best: tuple[float, list[Change]] | None = None
    for anchor in names:
        # the worlds are joined by one camera that is thought to stand still; the best such hypothesis wins
        changes = _changes(now, before, names, [anchor], factor, middle)
        score = float(np.median([c.shift_px for c in changes if c.camera != anchor]))
        if best is None or score < best[0]:
            best = score, changes
    if best is None:
        return [], float("nan")
    still = [c.camera for c in best[1] if c.shift_px <= max(MOVED_PX, MOVED_FACTOR * best[0])]
    return _changes(now, before, names, still, factor, middle), scale


def _changes(
    now: Calibration, before: Calibration, names: list[str], still: list[str], factor: float, middle: F64
) -> list[Change]:
    here = np.concatenate([_marks(now[n], 1.0) for n in still])
    there = np.concatenate([_marks(before[n], factor) for n in still])
    old_from_new = rigid_from_points(here, there)
    grid = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * HEAD_M + middle
    found = []
    for name in names:
        camera = now[name]
        old = before[name].camera_from_world.copy()
        old[:3, 3] *= factor
        then = old @ old_from_new
        change = camera.camera_from_world @ inverse_rigid(then)
        place = float(
            1000 * np.linalg.norm(inverse_rigid(camera.camera_from_world)[:3, 3] - inverse_rigid(then)[:3, 3])
        )
        shift = project(camera, grid)[0] - project(_placed(camera, then), grid)[0]
        size = float(np.sqrt(np.nanmean((shift**2).sum(1)))) if np.isfinite(shift).any() else float("inf")
        turn, roll = angle_deg(change), float(np.degrees(rotation_vector(change[:3, :3])[2]))
        found.append(Change(name, place, turn, roll, size, name not in still, abs(roll) > FLIPPED_DEG))
    return found


def _placed(camera: Camera, pose: F64) -> Camera:
    return Camera(camera.id, camera.serial, camera.width, camera.height, camera.K, camera.distortion, pose)


def _marks(camera: Camera, factor: float) -> F64:
    """Return points (7, 3) that stand for a camera's pose: its centre and 1 m along its axes."""
    centre = camera.centre_world * factor
    return np.stack([centre, *(centre + sign * row for row in camera.camera_from_world[:3, :3] for sign in (1, -1))])


def _scale(now: list[Camera], before: list[Camera]) -> float:
    """Return distances between cameras now over before: the median, so that one that moved does not count."""
    a, b = np.triu_indices(len(now), 1)
    new, old = (np.stack([c.centre_world for c in cameras]) for cameras in (now, before))
    here, there = np.linalg.norm(new[a] - new[b], axis=1), np.linalg.norm(old[a] - old[b], axis=1)
    sound = there > 1e-3
    return float(np.median(here[sound] / there[sound])) if sound.any() else float("nan")


def _middle(calibration: Calibration) -> F64:
    """Return the point (3,) nearest to all optical axes."""
    centres = np.stack([c.centre_world for c in calibration.cameras])
    axes = np.stack([c.camera_from_world[2, :3] for c in calibration.cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    ahead = (centres + axes).mean(0)
    weak = 1e-3 * np.eye(3)
    return np.linalg.solve(across.sum(0) + weak, np.einsum("cij,cj->i", across, centres) + weak @ ahead)
