"""Where the origin is and what is up: by the cameras, by a board, or by a head. Pure."""

import numpy as np

from rig.calibration.boards import Board
from streamer.errors import CalibrationError
from streamer.geometry import inverse_rigid, rigid_from_points
from streamer.types import F64, Calibration


def ring_world(calibration: Calibration) -> F64:
    """Return world from now (4, 4): the origin where the optical axes meet, +Y up as most cameras are held, +Z to them.

    Args:
        calibration: two cameras or more.
    """
    centres = np.stack([camera.centre_world for camera in calibration.cameras])
    axes = np.stack([camera.camera_from_world[2, :3] for camera in calibration.cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    # axes that are all but parallel meet nowhere: then the point 1 m in front of the middle of the cameras
    ahead = centres.mean(0) + axes.mean(0) / np.linalg.norm(axes.mean(0))
    weak = 1e-3 * np.eye(3)
    origin = np.linalg.solve(across.sum(0) + weak, np.einsum("cij,cj->i", across, centres) + weak @ ahead)
    up = -np.mean([camera.camera_from_world[1, :3] for camera in calibration.cameras], axis=0)
    if np.linalg.norm(up) < 0.2:  # held every way round: the plane that the cameras stand in is level
        up = np.linalg.svd(centres - centres.mean(0))[2][2]
        up *= np.sign(up @ -calibration.cameras[0].camera_from_world[1, :3]) or 1.0
    back = (centres - origin).mean(0)
    return _frame(origin, up, back if np.linalg.norm(np.cross(back, up)) > 1e-6 else -axes[0])


def board_world(board: Board, now_from_board: F64) -> F64:
    """Return world from now (4, 4): the origin in the middle of the board, +Y up its print, +Z out of it.

    Args:
        board: the board.
        now_from_board: (4, 4) where it is.
    """
    world_from_board = np.diag([1.0, -1.0, -1.0, 1.0])
    world_from_board[:3, 3] = -world_from_board[:3, :3] @ board.points().mean(0)
    return np.asarray(world_from_board @ inverse_rigid(now_from_board), np.float64)


def head_world(poses: F64) -> F64:
    """Return world from now (4, 4): the origin in the head's middle as it was held mostly, axes as the head's.

    Args:
        poses: (F, 4, 4) now from head.

    Raises:
        CalibrationError: there is no pose.
    """
    if not len(poses):
        raise CalibrationError("there is no mesh to set the world by; run: mien reprocess TAKE --out TAKE2")
    middle = np.median(poses[:, :3, 3], axis=0)
    u, _, vt = np.linalg.svd(poses[:, :3, :3].sum(0))
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    now_from_world = np.eye(4)
    now_from_world[:3, :3], now_from_world[:3, 3] = rotation, middle
    return inverse_rigid(now_from_world)


def aligned(calibration: Calibration, reference: Calibration) -> F64:
    """Return reference world from this world (4, 4), rigid, by the cameras that both have: centres and axes.

    Raises:
        CalibrationError: no camera in common.
    """
    common = [name for name in calibration.ids if name in reference.ids]
    if not common:
        raise CalibrationError(
            f"no camera in common: one calibration has {', '.join(calibration.ids)}, the other "
            f"{', '.join(reference.ids)}"
        )
    here: list[F64] = []
    there: list[F64] = []
    reach = 1.0  # directions count like points one metre from the camera, where heads are
    for name in common:
        for rig, points in ((calibration, here), (reference, there)):
            camera = rig[name]
            points.append(camera.centre_world)
            points += [
                camera.centre_world + sign * reach * row for row in camera.camera_from_world[:3, :3] for sign in (1, -1)
            ]
    return rigid_from_points(np.stack(here), np.stack(there))


def _frame(origin: F64, up: F64, back: F64) -> F64:
    y = up / np.linalg.norm(up)
    x = np.cross(y, back)
    x /= np.linalg.norm(x)
    world_from_now = np.eye(4)
    world_from_now[:3, :3] = np.stack([x, y, np.cross(x, y)])
    world_from_now[:3, 3] = -world_from_now[:3, :3] @ origin
    return world_from_now
