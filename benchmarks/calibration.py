"""Calibration on the simulated rig, whose truth is known: board calibration, and the check by the head.

    python benchmarks/calibration.py [--json] [--sets 150] [--cameras 4] [--checks 100] [--instants 6]

`board`: pictures of a waved board (blur 0.6 px, noise 2 grey levels) against the true cameras. `check`: runs with all
cameras in place (false alarms) and with one moved by 2 mm and 0.2 degrees in random directions; the mesh is the true
one pushed by 1 mm and scaled by 0.5 %, since the check must not depend on how good a mesh is.
"""

import argparse
import json
import time
from dataclasses import replace

import cv2
import numpy as np

from rig.calibration.boards import Board
from rig.calibration.detection import BoardFinder
from rig.calibration.drift import find_drift
from rig.calibration.extrinsics import calibrate_rig
from rig.calibration.harvest import Harvest
from rig.calibration.patches import find_tracks
from rig.calibration.poses import angle_deg, matrix_of
from rig.calibration.world import aligned
from rig.config import SimulatedConfig
from rig.simulation.boards import BoardLook, print_board, random_board_poses, see_board
from rig.simulation.cameras import demo_ring
from rig.simulation.stage import Stage
from streamer.geometry import inverse_rigid
from streamer.types import Calibration


def board(cameras: int, sets: int, seed: int = 1) -> dict[str, float]:
    """Calibrate from rendered boards; worst errors over the cameras."""
    ring = demo_ring(8, 1280, 960, seed)
    middle = (len(ring.cameras) - cameras) // 2
    truth = Calibration(ring.cameras[middle : middle + cameras])
    plan, rng = Board("chessboard", 11, 8, 20.0), np.random.default_rng(seed)
    finder, texture = BoardFinder(plan), print_board(plan)
    views = {c.id: {} for c in truth.cameras}
    for k, pose in enumerate(random_board_poses(rng, truth, plan, sets)):
        for camera in truth.cameras:
            found = finder(see_board(camera, plan, texture, pose, BoardLook(), rng))
            if found is not None:
                views[camera.id][k] = found
    labels = {(name, k): k for name, own in views.items() for k in own}
    sizes = {c.id: (c.width, c.height) for c in truth.cameras}
    start = time.perf_counter()
    rig = calibrate_rig(Harvest(plan, sizes, views, dict.fromkeys(sizes, sets), labels))
    seconds = time.perf_counter() - start
    world = aligned(rig.calibration, truth)
    place, turn, focal = [], [], []
    for camera in truth.cameras:
        one = rig.calibration[camera.id]
        change = one.camera_from_world @ inverse_rigid(camera.camera_from_world @ world)
        there = inverse_rigid(camera.camera_from_world @ world)[:3, 3]
        place.append(1000 * float(np.linalg.norm(one.centre_world - there)))
        turn.append(angle_deg(change))
        focal.append(100 * abs(float(one.K[0, 0] / camera.K[0, 0]) - 1))
    return {
        "sets": sets,
        "cameras": cameras,
        "focal_error_percent": max(focal),
        "place_error_mm": max(place),
        "turn_error_deg": max(turn),
        "solve_s": seconds,
    }


def check(runs: int, instants: int, *, move: bool) -> dict[str, object]:
    """Run the check on simulated heads, one person, rig and motion per run."""
    named, alarms, worst, seconds = 0, 0, 0.0, 0.0
    for seed in range(runs):
        stage, rng = Stage(SimulatedConfig(seed=1000 + seed)), np.random.default_rng(seed)
        try:
            shots = [stage.render(0.5 * k) for k in range(instants)]
        finally:
            stage.close()
        believed, moved = stage.calibration, int(rng.integers(len(stage.calibration.cameras)))
        if move:
            believed = _moved(believed, moved, rng)
        start = time.perf_counter()
        tracks = []
        for pictures, truth in shots:
            grey = {name: cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for name, picture in pictures.items()}
            mesh = (truth.vertices * (1 + 0.005 * rng.normal()) + rng.normal(0, 0.001, 3)).astype(np.float32)
            tracks.append(find_tracks(believed.cameras, grey, mesh, stage.topology.triangles))
        drift = find_drift(tracks, believed)
        seconds += time.perf_counter() - start
        right = believed.cameras[moved].id if move else None
        named += right in drift.moved
        alarms += any(name != right for name in drift.moved)
        worst = max([worst, *(m.shift_px for m in drift.motions if m.camera != right)])
    return {
        "runs": runs,
        "named": named,
        "false_alarms": alarms,
        "largest_shift_in_place_px": worst,
        "s_per_set": seconds / runs / instants,
    }


def _moved(calibration: Calibration, index: int, rng: np.random.Generator) -> Calibration:
    turn, way = rng.normal(size=3), rng.normal(size=3)
    pose = np.concatenate([turn / np.linalg.norm(turn) * np.radians(0.2), way / np.linalg.norm(way) * 0.002])
    cameras = list(calibration.cameras)
    cameras[index] = replace(cameras[index], camera_from_world=matrix_of(pose) @ cameras[index].camera_from_world)
    return Calibration(tuple(cameras))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sets", type=int, default=150)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--checks", type=int, default=100)
    parser.add_argument("--instants", type=int, default=6)
    args = parser.parse_args()
    result = {
        "board": board(args.cameras, args.sets) if args.sets else None,
        "clean": check(args.checks, args.instants, move=False) if args.checks else None,
        "moved": check(args.checks, args.instants, move=True) if args.checks else None,
    }
    print(json.dumps(result) if args.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
