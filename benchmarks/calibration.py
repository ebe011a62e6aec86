"""Calibration on the simulated rig, whose truth is known: board calibration, and the check by the head.

    python benchmarks/calibration.py [--json] [--sets 150] [--cameras 4] [--rig-seed 1] [--checks 100] [--instants 6]

`board`: pictures of a waved board (blur 0.6 px, noise 2 grey levels) against the true cameras. `check`: each run is
another person, rig and motion, looked at twice: all cameras in place (false alarms), and one moved by 2 mm and 0.2
degrees in random directions; the mesh is the true one pushed by 1 mm and scaled by 0.5 %, since the check must not
depend on how good a mesh is. `unseen` are moves that shift the camera's own picture of the head by less than 0.5 px.
With `--log FILE` every run is told there as it ends.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from rig.calibration.boards import Board
from rig.calibration.detection import BoardFinder, Detection, as_grey
from rig.calibration.drift import Drift, find_drift
from rig.calibration.extrinsics import calibrate_rig
from rig.calibration.harvest import Harvest
from rig.calibration.patches import find_tracks
from rig.calibration.poses import angle_deg, matrix_of
from rig.calibration.world import aligned
from rig.config import SimulatedConfig
from rig.simulation.boards import BoardLook, print_board, random_board_poses, see_board
from rig.simulation.cameras import demo_ring
from rig.simulation.stage import Stage
from streamer.geometry import inverse_rigid, project
from streamer.types import I32, U8, Calibration, MeshFrame


def board(cameras: int, sets: int, seed: int = 1) -> dict[str, float]:
    """Calibrate from rendered boards; worst errors over the cameras."""
    ring = demo_ring(8, 1280, 960, seed)
    middle = (len(ring.cameras) - cameras) // 2
    truth = Calibration(ring.cameras[middle : middle + cameras])
    plan, rng = Board("chessboard", 11, 8, 20.0), np.random.default_rng(seed)
    finder, texture = BoardFinder(plan), print_board(plan)
    views: dict[str, dict[int, Detection]] = {c.id: {} for c in truth.cameras}
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


def check(runs: int, instants: int, first: int, log: Path | None) -> dict[str, object]:
    """Run the check on simulated heads, one person, rig and motion per run."""
    named, unseen, alarms, seconds = 0, 0, 0, 0.0
    still: list[float] = []
    moved_sigmas: list[float] = []
    for seed in range(first, first + runs):
        stage, rng = Stage(SimulatedConfig(width=640, height=480, seed=1000 + seed)), np.random.default_rng(seed)
        try:
            shots = [stage.render(0.5 * k) for k in range(instants)]
        finally:
            stage.close()
        truth, index = stage.calibration, int(rng.integers(len(stage.calibration.cameras)))
        name, believed = truth.cameras[index].id, _moved(truth, index, rng)
        start = time.perf_counter()
        clean = _drift(shots, truth, stage.topology.triangles, rng)
        drift = _drift(shots, believed, stage.topology.triangles, rng)
        seconds += time.perf_counter() - start
        points = shots[0][1].vertices
        shift = project(believed[name], points)[0] - project(truth[name], points)[0]
        shift_px = float(np.sqrt((shift**2).sum(1).mean()))
        named += name in drift.moved
        unseen += name not in drift.moved and shift_px < 0.5
        alarms += bool(clean.moved) + any(other != name for other in drift.moved)
        still += [m.sigmas for m in clean.motions] + [m.sigmas for m in drift.motions if m.camera != name]
        moved_sigmas += [m.sigmas for m in drift.motions if m.camera == name]
        if log is not None:
            with log.open("a") as file:
                told = {"seed": seed, "moved": name, "shift_px": shift_px, "clean": list(clean.moved)}
                print(json.dumps({**told, "named": list(drift.moved)}), file=file)
    return {
        "runs": runs,
        "named": named,
        "unseen": unseen,
        "false_alarms": alarms,
        "largest_sigmas_in_place": max(still),
        "least_sigmas_moved": sorted(moved_sigmas)[:3],
        "s_per_set": seconds / runs / instants / 2,
    }


def _drift(
    shots: list[tuple[dict[str, U8], MeshFrame]], believed: Calibration, triangles: I32, rng: np.random.Generator
) -> Drift:
    """Check a calibration by meshes that are a little off."""
    tracks = []
    for pictures, truth in shots:
        grey = {name: as_grey(picture) for name, picture in pictures.items()}
        mesh = (truth.vertices * (1 + 0.005 * rng.normal()) + rng.normal(0, 0.001, 3)).astype(np.float32)
        tracks.append(find_tracks(believed.cameras, grey, mesh, triangles))
    return find_drift(tracks, believed)


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
    parser.add_argument("--rig-seed", type=int, default=1)
    parser.add_argument("--checks", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--instants", type=int, default=6)
    args = parser.parse_args()
    result = {
        "board": board(args.cameras, args.sets, args.rig_seed) if args.sets else None,
        "check": check(args.checks, args.instants, args.first, args.log) if args.checks else None,
    }
    print(json.dumps(result) if args.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
