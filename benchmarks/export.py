"""What exports cost, whether a long take fits into memory, and what the filters do to jitter and lag.

    python benchmarks/export.py
    python benchmarks/export.py --minutes 10 --formats usd abc gltf npz pc2 mdd csv

A simulated performance of the default head (4,283 vertices, 52 units) with measurement noise is the take. Memory is the
peak resident size of a process of its own for each export, of the long take and of a tenth of it: growth would show.
Jitter is the rms frame-to-frame change of the error against the true mesh; lag is the delay that explains the error
best (regression of the error on the true velocity).
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rig.simulation.head import head_topology, load_head
from rig.simulation.performance import Performance
from streamer.config import RecordConfig
from streamer.exports.export import export_take
from streamer.exports.options import ExportOptions
from streamer.geometry import look_at, transform
from streamer.takes import TakeWriter, open_take
from streamer.types import F32, F64, Calibration, Camera, MeshFrame

NAMES = {"usd": "a.usdc", "clips": "c.usdc", "abc": "a.abc", "gltf": "a.glb", "arkit": "r.glb", "npz": "a.npz",
         "pc2": "a.pc2", "mdd": "a.mdd", "csv": "a.csv", "obj": "obj"}  # fmt: skip
FORMATS = {"clips": "usd", "arkit": "gltf"}
OPTIONS: dict[str, dict[str, Any]] = {"clips": {"clip_frames": 600}, "arkit": {"morphs": "arkit"}}
NOISE_M, SHAKE_M, SHAKE_RAD = 3e-4, 2e-4, 2e-3
"""Per vertex, and of the whole head: as independent measurements of each frame."""


def performance(frames: int, fps: float, *, noisy: bool) -> Iterator[tuple[F32, F64, F32]]:
    """Yield vertices (world), pose and weights of each frame."""
    head, topology = load_head(), head_topology()
    count, acting = topology.vertex_count, Performance(3, head.units)
    neutral, shapes = topology.template, head.expression[:, :count].reshape(len(head.units), -1)
    rng = np.random.default_rng(5)
    for number in range(frames):
        moment = acting.at(number / fps)
        shape = neutral + (moment.weights @ shapes).reshape(-1, 3)
        vertices = transform(moment.world_from_head, shape)
        if noisy:
            turn = np.cross(vertices - vertices.mean(0), rng.normal(0, SHAKE_RAD, 3))
            vertices = vertices + turn + rng.normal(0, SHAKE_M, 3) + rng.normal(0, NOISE_M, vertices.shape)
        yield vertices.astype(np.float32), moment.world_from_head, moment.weights


def write_take(path: Path, frames: int, fps: float) -> None:
    """Write the noisy performance as a take without pictures."""
    pose = look_at(np.array([0.0, 0, 1]), np.zeros(3))
    camera = Camera("cam_0", "0", 640, 480, np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), np.zeros(5), pose)
    topology = head_topology()
    record = RecordConfig(meshes="lossless")
    with TakeWriter(
        path, calibration=Calibration((camera,)), config_text="", show="bench", slate="export", take=1, record=record
    ) as writer:
        writer.write("topology", topology, 0)
        for number, (vertices, pose, weights) in enumerate(performance(frames, fps, noisy=True)):
            now = round((number + 0.5) * 1e9 / fps)
            matrix = pose.astype(np.float32)
            writer.write("mesh", MeshFrame(number, now, 0, topology.id, vertices, matrix, (), weights), now)


def peak_mb() -> float:
    """Peak resident size of this process; `ru_maxrss` would begin with that of the parent."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def export_once(take: Path, what: str, out: Path) -> None:
    """The process that is measured: one export; prints peak memory and seconds."""
    began = time.perf_counter()
    with open_take(take) as opened:
        base = peak_mb()
        options = ExportOptions(**OPTIONS.get(what, {}))
        result = export_take(opened, FORMATS.get(what, what), out, options)  # type: ignore[arg-type]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    answer = {
        "peak_mb": round(peak_mb(), 1),
        "before_mb": round(base, 1),
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_ms_per_mesh": round(1e3 * (usage.ru_utime + usage.ru_stime) / result["frames"], 3),
    }
    if "error_mm" in result:
        answer |= {"shapes": result["shapes"], "error_max_mm": result["error_mm"]["max"]}
    print(json.dumps(answer))


def cost(take: Path, what: str, folder: Path) -> dict[str, Any]:
    """Run one export in a process of its own."""
    out = folder / NAMES[what]
    command = [sys.executable, __file__, "--once", what, str(take), str(out)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    written = [path for path in folder.rglob("*") if path.is_file()]
    answer = json.loads(run.stdout) | {"megabytes": round(sum(path.stat().st_size for path in written) / 1e6, 1)}
    shutil.rmtree(folder)
    folder.mkdir()
    return dict(answer)


def effect(take: Path, folder: Path, truth: F64, fps: float, **options: Any) -> dict[str, float]:
    """Export with a filter and compare with the true performance."""
    with open_take(take) as opened:
        export_take(opened, "npz", folder / "a.npz", ExportOptions(force=True, **options))
    with np.load(folder / "a.npz") as data:
        error = data["vertices"].astype(np.float64) - truth
    velocity = np.gradient(truth, 1 / fps, axis=0)
    inner = slice(5, -5)
    error, velocity = error[inner], velocity[inner]
    fast = np.linalg.norm(velocity, axis=2) > 0.1
    still = np.linalg.norm(velocity, axis=2) < 0.01
    change = np.diff(error, axis=0)

    def rms(values: F64) -> float:
        return round(1e3 * float(np.sqrt((values**2).sum(-1).mean())), 4)

    return {
        "error_rms_mm": rms(error),
        "error_in_motion_mm": rms(error[fast]),
        "error_at_rest_mm": rms(error[still]),
        "jitter_mm": rms(change),
        "lag_ms": round(-1e3 * float((error * velocity).sum() / (velocity**2).sum()), 3),
    }


def skull_motion(take: Path, folder: Path) -> dict[str, float]:
    """How far the skull still moves, rms: without the true pose, and with the stabilisation."""
    scalp = head_topology().regions["scalp"]
    with open_take(take) as opened:
        export_take(opened, "npz", folder / "a.npz", ExportOptions(force=True))
        export_take(opened, "npz", folder / "b.npz", ExportOptions(force=True, stabilise="rigid"))

    def residual(points: F64) -> float:
        # The mean over the skull's vertices moves with the skull; noise of single vertices averages out.
        left = points - points.mean(0)
        halves = np.stack([left[:, : len(scalp) // 2].mean(1), left[:, len(scalp) // 2 :].mean(1)])
        return round(1e3 * float(np.sqrt((halves**2).sum(-1).mean())), 4)

    with np.load(folder / "a.npz") as data:
        poses, points = data["world_from_head"].astype(np.float64), data["vertices"][:, scalp].astype(np.float64)
    by_pose = np.einsum("fji,fnj->fni", poses[:, :3, :3], points - poses[:, None, :3, 3])
    with np.load(folder / "b.npz") as data:
        by_fit = data["vertices"][:, scalp].astype(np.float64)
    return {"true_pose_out_mm": residual(by_pose), "stabilised_mm": residual(by_fit)}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="as every benchmark; this one prints nothing else")
    parser.add_argument("--minutes", type=float, default=1.0, help="length of the long take at 30 fps (default: 1)")
    parser.add_argument("--formats", nargs="*", choices=sorted(NAMES), default=["usd", "abc", "gltf", "npz", "csv"])
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        export_once(Path(args.once[1]), args.once[0], Path(args.once[2]))
        return 0
    answer: dict[str, Any] = {"minutes": args.minutes, "cost": {}, "filters": {}}
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as name:
        folder, out = Path(name), Path(name) / "out"
        out.mkdir()
        frames = round(args.minutes * 60 * 30)
        for label, count in (("long", frames), ("tenth", max(frames // 10, 30))):
            write_take(folder / label, count, 30)
        for what in args.formats:
            long, tenth = (cost(folder / label, what, out) for label in ("long", "tenth"))
            answer["cost"][what] = long | {"peak_mb_tenth": tenth["peak_mb"]}
        write_take(folder / "acting", 600, 60)
        truth = np.stack([vertices for vertices, _, _ in performance(600, 60, noisy=False)]).astype(np.float64)
        for label, options in {
            "none": {},
            "zero-phase 12 Hz": {"filter": "zero-phase", "cutoff_hz": 12.0},
            "zero-phase 8 Hz": {"filter": "zero-phase"},
            "zero-phase 5 Hz": {"filter": "zero-phase", "cutoff_hz": 5.0},
            "one-euro": {"filter": "one-euro"},
        }.items():
            answer["filters"][label] = effect(folder / "acting", out, truth, 60, **options)
        answer["skull"] = skull_motion(folder / "acting", out)
    print(json.dumps(answer, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
