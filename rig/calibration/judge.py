"""A given calibration on new pictures of a board: cameras stay, only the boards are placed."""

import numpy as np

from rig.calibration.bundle import Free, errors, keep_whole, settle, wrong_corners
from rig.calibration.extrinsics import FULL, Rig, calibrate_rig, corners_of, solution_of
from rig.calibration.harvest import Harvest
from rig.calibration.initial import place_boards
from rig.calibration.lens import pack_intrinsics
from streamer.errors import CalibrationError
from streamer.types import Calibration


def judge(found: Harvest, calibration: Calibration) -> tuple[Rig, Rig | None]:
    """Hold a calibration against pictures.

    Args:
        found: what was seen.
        calibration: of these cameras and others.

    Returns:
        The calibration with what was seen, and a fresh one with the same intrinsics to compare with; None where the
        pictures do not suffice for one.

    Raises:
        CalibrationError: a camera is not calibrated, or pictures have another size.
    """
    for name, size in found.sizes.items():
        camera = calibration[name]
        if (camera.width, camera.height) != size:
            raise CalibrationError(
                f"camera '{name}': its pictures are {size[0]}x{size[1]}, it is calibrated for "
                f"{camera.width}x{camera.height}; give pictures of the calibrated size"
            )
    own = Calibration(tuple(calibration[name] for name in found.names), calibration.source)
    points = found.board.points()
    intrinsics = {c.id: pack_intrinsics(c.K, c.distortion) for c in own.cameras}
    placed = {c.id: c.camera_from_world for c in own.cameras}
    numbers, boards, views = place_boards(
        points, found.views, placed, intrinsics, turned_alike=found.board.turned_alike
    )
    corners = corners_of(found.names, numbers, views)
    count = len(own.cameras)
    free = Free(np.zeros((count, 9), bool), np.zeros(count, bool))
    solution, _ = settle(points, corners, free, solution_of(own, np.stack(boards)))
    kept = keep_whole(corners, ~wrong_corners(errors(points, corners, solution), corners.camera))
    still = {c.id: (np.zeros(9), np.zeros(6)) for c in own.cameras}
    judged = Rig(found.board, own, corners, kept, solution.boards, numbers, dict.fromkeys(own.ids, FULL), still)
    if count < 2:
        return judged, None
    try:
        return judged, calibrate_rig(found, given=own)
    except CalibrationError as error:
        found.notes.append(f"no fresh calibration to compare with: {error}")
        return judged, None
