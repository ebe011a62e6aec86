"""Does anything grow? The inference process at full rate for a long time: memory, threads, files, shared memory.

    python benchmarks/soak.py --minutes 30 [--model live] [--json]

Sets of JPEG pictures go through the pipeline in mode `latest`, faster than it can take them, so that the oldest are
dropped and counted; every minute resident memory, threads, open files and shared-memory segments are noted. Growth is
that of the second half over the first quarter's end; it exits with 1 if a count grew, or memory by more than 3 %.
"""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `mien infer` does

from inference.bench import BenchOptions, stand_in_rig, stand_in_sets
from inference.model_store import load_model
from inference.pipeline import Outcome, Pipeline
from inference.reconstruct import Reconstructor
from streamer.types import FrameSet, MeshFrame

GROWTH = 1.03


def sample() -> dict[str, float]:
    """What the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "threads": float(threading.active_count()),
        "files": float(len(os.listdir("/proc/self/fd"))),
        "segments": float(len(os.listdir("/dev/shm"))),
    }


def soak(model: str, minutes: float, interval_s: float) -> dict[str, object]:
    """Run, and note."""
    options = BenchOptions(views=8)
    sets = stand_in_sets(options)
    counts = {"meshes": 0, "failed": 0, "superseded": 0}

    def deliver(outcome: Outcome[FrameSet, MeshFrame]) -> None:
        counts["meshes" if outcome.error is None else "failed"] += 1

    before = sample()
    with Reconstructor(load_model(model), stand_in_rig(options), precision="auto") as reconstructor:
        pipeline: Pipeline[FrameSet, MeshFrame] = Pipeline(reconstructor.stages, deliver, mode="latest")
        start = time.monotonic()
        notes, number = [], 0
        while (now := time.monotonic() - start) < 60 * minutes:
            if now >= interval_s * (len(notes) + 1):
                notes.append(sample())
            counts["superseded"] += pipeline.submit(sets[number % len(sets)]) is not None
            number += 1
            time.sleep(1 / 60)
        left = pipeline.close(drain=True)
        elapsed = time.monotonic() - start
    after = sample()
    early, late = notes[len(notes) // 4], notes[-1]
    grew = {key: late[key] - early[key] for key in early}
    ok = late["rss_mb"] <= GROWTH * early["rss_mb"] and all(grew[k] <= 0 for k in ("threads", "files", "segments"))
    return {
        "minutes": round(elapsed / 60, 2),
        "submitted": number,
        **counts,
        "accounted": number == sum(counts.values()) + len(left),
        "meshes_per_s": round(counts["meshes"] / elapsed, 2),
        "before": before,
        "early": early,
        "late": late,
        "after": after,
        "ok": ok and after["threads"] <= before["threads"],
    }


def main() -> int:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="as every benchmark; this one prints nothing else")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", default="live")
    args = parser.parse_args()
    result = soak(args.model, args.minutes, min(60.0, 60 * args.minutes / 12))
    print(json.dumps(result))
    return 0 if result["ok"] and result["accounted"] else 1


if __name__ == "__main__":
    sys.exit(main())
