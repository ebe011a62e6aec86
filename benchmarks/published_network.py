"""The published network's coarse stage at full size: memory and time, with heat maps never made and with all of them.

    python benchmarks/published_network.py --views 16

Each way runs in a process of its own, so that the peak of its memory is its own: interpreter, torch and weights
included. The weights are seeded and hardened (heat maps of few voxels), the pictures smooth noise from cameras on an
arc of 270 degrees. `materialised` is how the release computes it: 5023 heat maps of 32768 voxels, softmax, and their
product with the warped grid.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inference.tempeh.published.coarse import CoarseStage, features_of
from inference.tempeh.published.sizes import FULL
from inference.tempeh.published.volumes import ViewTensors
from inference.tempeh.published.weights import initial_coarse, stir
from streamer.geometry import look_at

WIDTH, HEIGHT = 200, 150
PEAK = 400.0


def rig(views: int) -> ViewTensors:
    """Cameras 1 m from the volume's centre, on an arc of 270 degrees."""
    centre = np.array(FULL.centre_mm) / 1000
    cameras = []
    for k in range(views):
        angle = np.radians(270) * (k / max(1, views - 1) - 0.5)
        camera = look_at(centre + np.array([np.sin(angle), 0.1 * np.cos(3 * angle), np.cos(angle)]), centre)[:3]
        camera[:, 3] *= 1000
        cameras.append(camera)
    K = np.array([[375.0, 0, WIDTH / 2], [0, 375.0, HEIGHT / 2], [0, 0, 1]])
    distortion = np.array([-0.05, 0.02])
    arrays = (np.tile(K, (views, 1, 1)), np.tile(distortion, (views, 1)), np.stack(cameras))
    return ViewTensors(*(torch.from_numpy(array.astype(np.float32))[None] for array in arrays))


def pictures(views: int) -> torch.Tensor:
    """(1, V, 3, H, W) smooth noise."""
    rng = torch.Generator().manual_seed(7)
    small = torch.randn(views, 3, HEIGHT // 8, WIDTH // 8, generator=rng)
    return functional.interpolate(small, (HEIGHT, WIDTH), mode="bicubic", align_corners=False)[None]


def materialised(stage: CoarseStage, images: torch.Tensor, views: ViewTensors) -> torch.Tensor:
    """The coarse stage with all heat maps."""
    maps = features_of(stage.features, images)
    warp = stage.localiser(stage.volume(maps, views, (stage.grid + stage.centre)[None]))
    grid = warp.apply(stage.grid) + stage.centre
    logits = stage.net.output(stage.net(stage.volume(maps, views, grid))).flatten(2)
    return torch.softmax(logits, -1) @ grid


def sharpness(stage: CoarseStage, images: torch.Tensor, views: ViewTensors) -> float:
    """Median number of voxels that a heat map really uses: exp of its entropy."""
    maps = features_of(stage.features, images)
    warp = stage.localiser(stage.volume(maps, views, (stage.grid + stage.centre)[None]))
    keys = stage.net(stage.volume(maps, views, warp.apply(stage.grid) + stage.centre)).flatten(2)
    shares = torch.softmax(stage.net.output.weight.flatten(1)[::25] @ keys[0], -1)
    return float(torch.exp(-(shares * shares.clamp(min=1e-30).log()).sum(-1)).median())


def child(way: str, views: int, repeats: int, out: Path) -> None:
    """Run one way and print its figures."""
    stage = initial_coarse(FULL, seed=0, quirks=True)
    stir(stage, seed=1, peak=PEAK)
    images, cameras = pictures(views), rig(views)
    with torch.inference_mode():
        if way == "sharpness":
            print(json.dumps({"voxels": sharpness(stage, images, cameras)}))
            return
        ready_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        best_cpu = best_wall = np.inf
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            vertices = stage(images, cameras).vertices if way == "chunked" else materialised(stage, images, cameras)
            best_wall = min(best_wall, time.perf_counter() - wall)
            best_cpu = min(best_cpu, time.process_time() - cpu)
        np.save(out, vertices.numpy())
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"peak_memory_mb": peak_mb, "before_mb": ready_mb, "wall_s": best_wall, "cpu_s": best_cpu}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("WAY", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], arguments.views, arguments.repeats, Path(arguments.child[1]))
        return
    results: dict[str, object] = {"views": arguments.views}
    with tempfile.TemporaryDirectory() as work:
        for way in ("chunked", "materialised", "sharpness"):
            options = ["--views", str(arguments.views), "--repeats", str(arguments.repeats)]
            command = [sys.executable, __file__, *options, "--child", way, f"{work}/{way}.npy"]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            results[way] = json.loads(answer.stdout)
        one, other = (np.load(f"{work}/{way}.npy") for way in ("chunked", "materialised"))
    results["max_difference_mm"] = float(np.linalg.norm(one - other, axis=-1).max())
    results["spread_mm"] = float(one[0].std(0).mean())
    print(json.dumps(results) if arguments.json else "\n".join(f"{k}: {v}" for k, v in results.items()))


if __name__ == "__main__":
    main()
