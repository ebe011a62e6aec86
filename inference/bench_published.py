"""`mien bench model full`: what a mesh of the published network costs on this machine."""

import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from inference.engines import open_engine
from inference.model_store import ModelFiles
from inference.pipeline import FEW, Outcome, Pipeline
from inference.precision import plan_folder
from inference.published import published_parts
from inference.published_graphs import FULL, GRAPHS
from inference.schedule import ITEM, PICTURES, Access, Stage, run_in_order
from inference.tempeh.compiled.network import PublishedCameras, PublishedNetwork, PublishedResult
from streamer.errors import ConfigError, EngineError
from streamer.geometry import look_at
from streamer.types import F32, U8

WIDTH, HEIGHT = 400, 300
CENTRE_MM = np.array([0.0, -50.0, 0.0])


class Rehearsal(PublishedNetwork):
    """A seeded network: its coarse vertices are no head, so the refinement starts from the template, which is one.

    All of the coarse stage is computed; a mesh of scattered vertices would make the visibility test absurdly dear.
    """

    def _attend(self, access: Access) -> None:
        super()._attend(access)
        access["coarse"] = (self._parts.template_mm, access["warp"][2])


def stand_in_cameras(views: int) -> PublishedCameras:
    """Cameras 1 m from the volume's centre, on an arc of 270 degrees."""
    poses = []
    for k in range(views):
        angle = np.radians(270) * (k / max(1, views - 1) - 0.5)
        place = np.array([np.sin(angle), 0.15 * np.cos(3 * angle), np.cos(angle)])
        pose = look_at(place + CENTRE_MM / 1000, CENTRE_MM / 1000)[:3]
        pose[:, 3] *= 1000
        poses.append(pose)
    intrinsics = {}
    for name, width, height in (("coarse", WIDTH // 2, HEIGHT // 2), ("refine", WIDTH, HEIGHT)):
        K = np.array([[1.875 * width, 0, width / 2], [0, 1.875 * width, height / 2], [0, 0, 1]], np.float32)
        intrinsics[name] = np.tile(K, (views, 1, 1))
    distortion = np.tile(np.array([-0.05, 0.02], np.float32), (views, 1))
    return PublishedCameras(
        intrinsics["coarse"], distortion, intrinsics["refine"], distortion, np.stack(poses).astype(np.float32)
    )


def open_network(
    model: ModelFiles, graphs: Path, cameras: PublishedCameras, engine: str, threads: int
) -> PublishedNetwork:
    """Compile a published network; see `PublishedNetwork`.

    Raises:
        ModelError: the model is no published one.
        EngineError: the engine cannot run here.
    """
    parts = published_parts(model)
    threads = threads or len(os.sched_getaffinity(0))
    runtime = open_engine(engine, threads=threads, cache_dir=plan_folder(engine))
    compiled = {name: runtime.compile(graphs / f"{name}.onnx", precision="f32") for name in GRAPHS}
    kind = Rehearsal if model.name == FULL else PublishedNetwork
    return kind(parts, compiled, cameras, threads)


def bench_published(
    model: ModelFiles, graphs: Path, *, engine: str, threads: int, views: int, meshes: int
) -> dict[str, Any]:
    """Measure a published network; keys as those of `inference.bench.bench_model`.

    Raises:
        ConfigError: fewer than two views, or no mesh.
        EngineError: the engine cannot run here, or a set fails.
    """
    if views < 2 or meshes < 1:
        raise ConfigError(f"--views {views} --meshes {meshes}: views must be 2 or more, meshes 1 or more")
    network = open_network(model, graphs, stand_in_cameras(views), engine, threads)
    try:
        pictures, mask = _pictures(views), np.ones(views, np.float32)
        stages = network.stages()
        run_in_order(stages, {PICTURES: (pictures, mask)})
        walls, spans = [], []
        cpu = time.process_time()
        for _ in range(meshes):
            start = time.perf_counter()
            spans.append(run_in_order(stages, {PICTURES: (pictures, mask)}).spans_ns())
            walls.append(time.perf_counter() - start)
        cpu_s = (time.process_time() - cpu) / meshes
        outcomes, elapsed_s = _overlapped(network, pictures, mask, meshes + FEW - 1)
    finally:
        network.close()
    latencies = [(o.timing.end_ns - o.timing.eligible_ns) / 1e6 for o in outcomes]
    rate = len(outcomes) / elapsed_s
    return {
        "model": model.name,
        "engine": engine,
        "precision": "f32",
        "views": views,
        "cpu_s_per_mesh": round(cpu_s, 4),
        "wall_s_per_mesh": round(float(np.median(walls)), 4),
        "meshes_per_s": round(rate, 4),
        "overlap_gain": round(rate * float(np.mean(walls)), 3),
        "latency_ms": {f"p{k}": round(float(np.percentile(latencies, k)), 1) for k in (50, 95, 99)},
        "stages_ms": {
            name: round(float(np.median([s[name][1] - s[name][0] for s in spans])) / 1e6, 2) for name in spans[0]
        },
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _overlapped(
    network: PublishedNetwork, pictures: U8, mask: F32, meshes: int
) -> tuple[list[Outcome[int, PublishedResult]], float]:
    """Run sets through the pipeline; returns outcomes and the time from the first submission to the end, s."""
    outcomes: list[Outcome[int, PublishedResult]] = []

    def supply(access: Access) -> None:
        access[PICTURES] = (pictures, mask)

    first, *rest = network.stages()
    stages = (Stage("supply", first.stream, supply, (ITEM,), (PICTURES,)), first, *rest)
    start = time.perf_counter()
    pipeline: Pipeline[int, PublishedResult] = Pipeline(stages, outcomes.append, mode="every", slots=FEW)
    try:
        for number in range(meshes):
            pipeline.submit(number)
    finally:
        pipeline.close(drain=True)
    elapsed_s = time.perf_counter() - start
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if failed:
        raise EngineError(f"{len(failed)} sets failed, the first: {failed[0]}") from failed[0]
    return outcomes, elapsed_s


def _pictures(views: int) -> U8:
    """(V, H, W, 3) smooth noise."""
    import cv2

    random = np.random.default_rng(0)
    size = (HEIGHT // 8, WIDTH // 8, 3)
    made = [cv2.resize(random.integers(0, 256, size, np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            for _ in range(views)]  # fmt: skip
    return np.asarray(np.stack(made), np.uint8)
