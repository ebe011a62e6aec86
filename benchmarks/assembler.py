"""What the frame-set assembler costs: headers of many cameras at a high rate, in per cent of one core.

    python benchmarks/assembler.py --cameras 16 --fps 73

Replays arrivals on a fake clock, so the figure is pure CPU time; the budget is 5 % of a core.
"""

import argparse
import json
import statistics
import sys
import time

import numpy as np

from streamer.assembler import Assembler
from streamer.config import SyncConfig
from streamer.types import Frame

BUDGET_PERCENT = 5.0


def arrivals(cameras: int, fps: float, seconds: float, loss: float, match: str) -> list[tuple[int, Frame]]:
    """Frames with jittered delays and some losses, in the order in which they arrive."""
    rng = np.random.default_rng(0)
    period = round(1e9 / fps)
    empty = np.zeros(0, np.uint8)
    frames: list[tuple[int, Frame]] = []
    for camera in range(cameras):
        ready = 0
        for n in range(round(seconds * fps)):
            exposure = n * period + (int(rng.integers(0, period // 4)) if match == "time" else 0)
            ready = max(ready, exposure + int(rng.integers(1_000_000, 8_000_000)))
            if rng.random() >= loss:
                frames.append((ready, Frame(f"cam_{camera}", n, n, n, exposure, "host", 0, 0, 64, 64, "jpeg", empty)))
    return sorted(frames, key=lambda arrival: arrival[0])


def cpu_seconds(frames: list[tuple[int, Frame]], cameras: int, config: SyncConfig) -> tuple[float, Assembler]:
    """CPU time of pushing all frames, with the polls that a consumer makes."""
    assembler = Assembler([f"cam_{camera}" for camera in range(cameras)], config)
    began = time.process_time()
    for now, frame in frames:
        due = assembler.next_deadline_ns
        if due is not None and due <= now:
            assembler.poll(due)
        assembler.push(frame, now)
    assembler.flush(frames[-1][0])
    return time.process_time() - began, assembler


def main() -> int:
    """Measure and print; exit code 1 when over the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--fps", type=float, default=73.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the stream on the fake clock")
    parser.add_argument("--loss", type=float, default=0.0005, help="share of frames lost on the way")
    parser.add_argument("--match", choices=["frame_id", "time"], default="frame_id")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    frames = arrivals(args.cameras, args.fps, args.seconds, args.loss, args.match)
    config = SyncConfig(match=args.match, tolerance_us=5000)
    runs = [cpu_seconds(frames, args.cameras, config) for _ in range(args.repeats)]
    median = statistics.median(seconds for seconds, _ in runs)
    assembler = runs[0][1]
    result = {
        "cameras": args.cameras,
        "fps": args.fps,
        "match": args.match,
        "frames": len(frames),
        "percent_of_one_core": round(100 * median / args.seconds, 3),
        "us_per_frame": round(1e6 * median / len(frames), 2),
        "budget_percent": BUDGET_PERCENT,
        "sets": dict(assembler.sets),
        "unused": dict(assembler.unused),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{args.cameras} cameras x {args.fps:g} fps by {args.match}: {result['percent_of_one_core']} % of one core "
            f"({result['us_per_frame']} us per frame, median of {args.repeats}; budget {BUDGET_PERCENT:g} %)"
        )
        print(f"sets {result['sets']}, unused {result['unused']}")
    return 0 if 100 * median / args.seconds < BUDGET_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
