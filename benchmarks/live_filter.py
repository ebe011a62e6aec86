"""What the live filter of the gateway does to jitter, lag and time, on the performance of benchmarks/export.py.

    python benchmarks/live_filter.py
    python benchmarks/live_filter.py --fps 30 --cutoff-hz 1 2 4

Error, jitter and lag are as in benchmarks/export.py; the pose is measured at the ends of arms of 0.1 m. CPU time is per
mesh of 4,283 vertices, of the filter alone.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
from export import performance

from streamer.smoothing.live import ARM_M, LiveFilter
from streamer.smoothing.one_euro import OneEuroParameters
from streamer.types import F64, MeshFrame


def effect(points: F64, truth: F64, fps: float) -> dict[str, float]:
    """Errors in mm and lag in ms of points (F, N, 3) against true ones."""
    inner = slice(5, -5)
    error, velocity = (points - truth)[inner], np.gradient(truth, 1 / fps, axis=0)[inner]
    speed = np.linalg.norm(velocity, axis=2)

    def rms(values: F64) -> float:
        return round(1e3 * float(np.sqrt((values**2).sum(-1).mean())), 4) if len(values) else 0.0

    return {
        "error_rms_mm": rms(error),
        "error_in_motion_mm": rms(error[speed > 0.1]),
        "error_at_rest_mm": rms(error[speed < 0.01]),
        "jitter_mm": rms(np.diff(error, axis=0)),
        "lag_ms": round(-1e3 * float((error * velocity).sum() / (velocity**2).sum()), 3),
    }


def arms(pose: F64) -> F64:
    """Origin and ends of the arms (4, 3) of a pose."""
    origin = pose[:3, 3]
    return np.concatenate([origin[None], origin + ARM_M * pose[:3, :3].T])


def measure(frames: int, fps: float, cutoff_hz: float, motion_hz: float) -> dict[str, Any]:
    """Filter the noisy performance, pose noise included."""
    rng = np.random.default_rng(9)
    calm = LiveFilter(OneEuroParameters(cutoff_hz, motion_hz))
    true = list(performance(frames, fps, noisy=False))
    points, poses, raw = [], [], []
    spent = 0.0
    for number, (vertices, pose, weights) in enumerate(performance(frames, fps, noisy=True)):
        shaken = pose.copy()
        shaken[:3, 3] += rng.normal(0, 2e-4, 3)
        mesh = MeshFrame(
            number,
            round(number * 1e9 / fps),
            0,
            "t",
            vertices,
            shaken.astype(np.float32),
            (),
            weights.astype(np.float32),
        )
        began = time.process_time()
        out = calm(mesh)
        spent += time.process_time() - began
        points.append(out.vertices)
        poses.append(arms(out.world_from_head.astype(np.float64)))
        raw.append(vertices)
    truth = np.stack([vertices for vertices, _, _ in true]).astype(np.float64)
    frames_truth = np.stack([arms(pose) for _, pose, _ in true])
    return {
        "none": effect(np.stack(raw).astype(np.float64), truth, fps),
        "one-euro": effect(np.stack(points).astype(np.float64), truth, fps),
        "pose": effect(np.stack(poses), frames_truth, fps),
        "cpu_ms_per_mesh": round(1e3 * spent / frames, 3),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="as every benchmark; this one prints nothing else")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the performance (default: 10)")
    parser.add_argument("--fps", type=float, default=60.0, help="meshes per second (default: 60)")
    parser.add_argument("--cutoff-hz", type=float, nargs="+", default=[1.0, 2.0, 4.0], help="serve.filter_cutoff_hz")
    parser.add_argument("--motion-hz", type=float, default=200.0, help="serve.filter_motion_hz (default: 200)")
    args = parser.parse_args()
    frames = round(args.seconds * args.fps)
    found = {f"{cutoff:g} Hz": measure(frames, args.fps, cutoff, args.motion_hz) for cutoff in args.cutoff_hz}
    print(json.dumps({"fps": args.fps, "motion_hz": args.motion_hz, "cutoffs": found}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
