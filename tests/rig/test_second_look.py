"""Several cameras tell what none can tell alone: tangential lenses, and so where the axes point."""

import numpy as np
import pytest

from rig.calibration import extrinsics
from rig.calibration.boards import Board
from rig.calibration.bundle import MOST_NOISE_PX, Free, solve, weighed
from rig.calibration.detection import Detection
from rig.calibration.extrinsics import Rig, calibrate_rig, solution_of
from rig.calibration.harvest import Harvest
from rig.calibration.poses import angle_deg
from rig.calibration.world import aligned
from rig.simulation.boards import random_board_poses
from rig.simulation.cameras import demo_ring
from streamer.geometry import inverse_rigid, project, transform
from streamer.types import Calibration

BOARD = Board("chessboard", 8, 5, 25.0)
NOISE_PX = 0.025
"""What corners of rendered boards err by: benchmarks/calibration.py."""
SETS = 60


@pytest.fixture(scope="module")
def truth() -> Calibration:
    return Calibration(demo_ring(8, 1280, 960, 1).cameras[3:6], "truth")


@pytest.fixture(scope="module")
def found(truth: Calibration) -> Harvest:
    """Corners as three cameras see them, with noise."""
    rng, points = np.random.default_rng(1), BOARD.points()
    views: dict[str, dict[int, Detection]] = {c.id: {} for c in truth.cameras}
    for k, pose in enumerate(random_board_poses(rng, truth, BOARD, SETS)):
        for camera in truth.cameras:
            seen = camera.camera_from_world @ pose
            pixels = project(camera, transform(pose, points))[0] + rng.normal(0, NOISE_PX, (len(points), 2))
            inside = (pixels > 5).all() and (pixels < [camera.width - 5, camera.height - 5]).all()
            if seen[:3, 2] @ transform(seen, points.mean(0)) > 0.15 and inside:
                views[camera.id][k] = Detection(np.arange(len(points), dtype=np.int32), pixels, 1.5)
    sizes = {c.id: (c.width, c.height) for c in truth.cameras}
    labels = {(name, k): k for name, own in views.items() for k in own}
    return Harvest(BOARD, sizes, views, dict.fromkeys(sizes, SETS), labels)


def errors(rig: Rig, truth: Calibration) -> tuple[float, float, float]:
    """Worst focal length (share), place (mm) and turn (degrees) over the cameras."""
    world = aligned(rig.calibration, truth)
    focal, place, turn = [], [], []
    for camera in truth.cameras:
        one, then = rig.calibration[camera.id], camera.camera_from_world @ world
        focal.append(abs(one.K[0, 0] / camera.K[0, 0] - 1))
        place.append(1000 * float(np.linalg.norm(one.centre_world - inverse_rigid(then)[:3, 3])))
        turn.append(angle_deg(one.camera_from_world @ inverse_rigid(then)))
    return max(focal), max(place), max(turn)


def test_a_rig_is_found_to_a_fiftieth_of_a_degree(truth: Calibration, found: Harvest) -> None:
    rig = calibrate_rig(found)
    focal, place, turn = errors(rig, truth)
    assert focal < 0.001 and place < 0.2 and turn < 0.02


def test_without_the_second_look_axes_are_wrong(
    truth: Calibration, found: Harvest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each camera asks for alone leaves tangential coefficients out: the test above can fail."""
    monkeypatch.setattr(extrinsics, "with_tangential", dict)
    rig = calibrate_rig(found)
    assert any("p1" not in lens for lens in rig.lenses.values())
    assert errors(rig, truth)[2] > 0.02


def test_what_is_known_of_any_camera_counts_for_less_where_corners_are_sharp(
    truth: Calibration, found: Harvest
) -> None:
    rig = calibrate_rig(found, lens="k1k2p1p2")
    points, good = BOARD.points(), rig.corners.where(rig.kept)
    free = Free(np.ones((3, 9), bool), np.array([False, True, True]), np.tile([639.5, 479.5], (3, 1)))
    state = solution_of(rig.calibration, rig.boards)
    assert free.noise_px == MOST_NOISE_PX
    assert weighed(points, good, free, state).noise_px == pytest.approx(2 * NOISE_PX, rel=0.1)
    away = []
    for each in (weighed(points, good, free, state), free):
        middle = solve(points, good, each, state, robust=False).intrinsics[:, 2:4]
        away.append(np.abs(middle - [c.K[:2, 2] for c in truth.cameras]).max())
    assert away[0] < away[1], "a strong expectation pulls the axes to the middle of the pictures"
