"""Does anything grow? The inference process at full rate for a long time: memory, threads, files, shared memory.

    python benchmarks/soak.py --minutes 30 [--model live] [--picture soak.png] [--json]

Sets of JPEG pictures go through the pipeline in mode `latest`, faster than it can take them, so that the oldest are
dropped and counted; every minute resident memory, threads, open files, shared-memory segments and latency are noted,
and drawn on request. Growth is that of the second half over the first quarter's end; it exits with 1 if a count grew,
or memory by more than 3 %.
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

import cv2
import numpy as np

from inference.bench import BenchOptions, stand_in_rig, stand_in_sets
from inference.model_store import load_model
from inference.pipeline import Outcome, Pipeline
from inference.reconstruct import Reconstructor
from streamer.types import FrameSet, MeshFrame

GROWTH = 1.03


def sample() -> dict[str, float]:
    """What the process holds now."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    shared = {line.split(None, 5)[5] for line in maps if "/dev/shm/" in line}  # its own: others come and go
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "threads": float(threading.active_count()),
        "files": float(len(os.listdir("/proc/self/fd"))),
        "segments": float(len(shared)),
    }


def latency(values_ms: list[float]) -> dict[str, float]:
    """Percentiles of what came since the last note; empties the list."""
    taken, values_ms[:] = values_ms[:], []
    return {f"latency_ms.p{k}": round(float(np.percentile(taken, k)), 2) if taken else 0.0 for k in (50, 95, 99)}


def draw(notes: list[dict[str, float]], path: Path) -> None:
    """One curve per figure over the run, from zero to its maximum, which stands beside its name."""
    width, height = 900, 110
    names = [name for name in notes[0] if name != "minute"]
    picture = np.full((height * len(names), width, 3), 255, np.uint8)
    last = max(note["minute"] for note in notes)
    for row, name in enumerate(names):
        top = max(max(note[name] for note in notes), 1e-9)
        points = [(20 + 860 * n["minute"] / last, (row + 1) * height - 12 - 70 * n[name] / top) for n in notes]
        cv2.line(picture, (20, (row + 1) * height - 12), (880, (row + 1) * height - 12), (190, 190, 190), 1)
        cv2.polylines(picture, [np.round(points).astype(np.int32)], False, (160, 60, 20), 2, cv2.LINE_AA)
        text = f"{name}: {notes[0][name]:g} at first, {notes[-1][name]:g} at last, {top:g} at most; {last:.1f} minutes"
        cv2.putText(
            picture, text, (20, row * height + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA
        )
    cv2.imwrite(str(path), picture)


def soak(model: str, minutes: float, interval_s: float, picture: Path | None = None) -> dict[str, object]:
    """Run, and note."""
    options = BenchOptions(views=8)
    sets = stand_in_sets(options)
    counts = {"meshes": 0, "failed": 0, "superseded": 0}

    ages_ms: list[float] = []

    def deliver(outcome: Outcome[FrameSet, MeshFrame]) -> None:
        ages_ms.append((outcome.timing.end_ns - outcome.timing.submitted_ns) / 1e6)
        counts["meshes" if outcome.error is None else "failed"] += 1

    before = sample()
    with Reconstructor(load_model(model), stand_in_rig(options), precision="auto") as reconstructor:
        pipeline: Pipeline[FrameSet, MeshFrame] = Pipeline(reconstructor.stages, deliver, mode="latest")
        start = time.monotonic()
        number = 0
        notes: list[dict[str, float]] = []
        while (now := time.monotonic() - start) < 60 * minutes:
            if now >= interval_s * (len(notes) + 1):
                notes.append({"minute": now / 60, **sample(), **latency(ages_ms)})
            counts["superseded"] += pipeline.submit(sets[number % len(sets)]) is not None
            number += 1
            time.sleep(1 / 60)
        left = pipeline.close(drain=True)
        elapsed = time.monotonic() - start
    after = sample()
    early, late = notes[len(notes) // 4], notes[-1]
    grew = {key: late[key] - early[key] for key in early}
    if picture is not None:
        draw(notes, picture)
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
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the curves")
    args = parser.parse_args()
    result = soak(args.model, args.minutes, min(60.0, 60 * args.minutes / 12), args.picture)
    print(json.dumps(result))
    return 0 if result["ok"] and result["accounted"] else 1


if __name__ == "__main__":
    sys.exit(main())
