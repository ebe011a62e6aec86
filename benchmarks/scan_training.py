"""What an iteration of learning from raw scans costs, and where it goes: samples, forward, point-to-surface, backward.

    python benchmarks/scan_training.py --size medium --views 8

Two scans per step of the default head with smooth noise for pictures, in memory: what is timed is the arithmetic, not
the disk. CPU milliseconds per step, the best of several; `register` is one scan of `mien register`.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inference.meshes import SurfaceMesh
from inference.model_store import load_model
from inference.training.register import Registrar
from inference.training.scan_corpus import NetworkView, ScanCorpus, ScanSet
from inference.training.scan_tasks import CoarseScanTask, RefineScanTask, ScanSettings
from inference.training.scan_training import PICTURES, SIZES
from inference.training.surface import surface_distance
from streamer.geometry import look_at
from streamer.types import U8

BATCH = 2
PARTS = ("sample", "forward_and_loss", "backward_and_step", "surface")


class Noise:
    """A camera on an arc of 240 degrees that sees smooth noise."""

    def __init__(self, number: int, views: int) -> None:
        """Place it."""
        angle = np.radians(240) * (number / max(1, views - 1) - 0.5)
        self.outer = look_at(np.array([np.sin(angle), 0.1, np.cos(angle)]), np.zeros(3))[:3]
        self.outer[:, 3] *= 1000
        self.noise: U8 = np.random.default_rng(number).integers(0, 255, (15, 20, 3), np.uint8)
        self.name = f"cam_{number}"

    def view(self, size: tuple[int, int]) -> NetworkView:
        """Enlarge the noise."""
        picture = np.asarray(cv2.resize(self.noise, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        K = np.array([[1.9 * size[0], 0, size[0] / 2], [0, 1.9 * size[0], size[1] / 2], [0, 0, 1]])
        return NetworkView(picture, K, np.zeros(2), self.outer)


def one_scan(views: int) -> ScanCorpus:
    """The default head as its own scan and registration."""
    topology = load_model("live").topology
    vertices = topology.template * np.float32(1000)
    scan = SurfaceMesh(vertices, topology.triangles)
    sources = tuple(Noise(k, views) for k in range(views))
    return ScanCorpus(topology, (ScanSet("noise", sources, lambda: scan, lambda: vertices),))


def timed(task: CoarseScanTask | RefineScanTask, repeats: int) -> dict[str, float]:
    """Best CPU milliseconds of each part of a step."""
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=1e-6)
    task.model.train()
    best: dict[str, float] = {}
    for number in range(repeats):
        marks = [time.process_time()]
        rows = [task.sample(0, np.random.default_rng([number, row])) for row in range(BATCH)]
        marks.append(time.process_time())
        batch = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        loss, _ = task.loss(batch, 0.0)
        marks.append(time.process_time())
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        marks.append(time.process_time())
        triangles = torch.from_numpy(task.corpus.topology.triangles.copy())
        for row in range(BATCH):
            surface_distance(batch["scan"][row], batch["registration"][row], triangles)
        marks.append(time.process_time())
        for name, span in zip(PARTS, np.diff(marks), strict=True):
            best[name] = min(best.get(name, np.inf), 1000 * float(span))
    if isinstance(task, CoarseScanTask):  # at the beginning it learns vertices alone; later the surface comes on top
        best["step_with_surface"] = best["sample"] + sum(best[name] for name in PARTS[1:])
    else:
        best["step_with_surface"] = best["sample"] + best["forward_and_loss"] + best["backward_and_step"]
    return {name: round(value, 1) for name, value in best.items()}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(SIZES), default="medium")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    corpus = one_scan(arguments.views)
    width, height = PICTURES[arguments.size]
    sizes = replace(SIZES[arguments.size], vertices=corpus.topology.vertex_count, centre_mm=(0.0, 0.0, 0.0))
    settings = ScanSettings(
        sizes, (width, height), (2 * width, 2 * height), min_views=arguments.views, scan_points=5000, refined=512
    )
    vertices = corpus.topology.template * np.float32(1000)
    results: dict[str, object] = {"size": arguments.size, "views": arguments.views}
    results["coarse_cpu_ms"] = timed(CoarseScanTask(corpus, settings), arguments.repeats)
    results["refine_cpu_ms"] = timed(RefineScanTask(corpus, settings, vertices[None]), arguments.repeats)
    begin = time.process_time()
    Registrar(corpus.topology)(corpus.entries[0].scan(), vertices * np.float32(1.02), np.random.default_rng(0))
    results["register_cpu_ms"] = round(1000 * (time.process_time() - begin), 1)
    print(json.dumps(results) if arguments.json else "\n".join(f"{key}: {value}" for key, value in results.items()))


if __name__ == "__main__":
    main()
