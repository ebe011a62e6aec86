"""What a mesh of a published network costs on a CUDA device: `mien bench model full --engine tensorrt`. Needs torch."""

import queue
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from inference.model_export import ExportOptions, export_model
from inference.model_store import ModelFiles
from inference.pipeline import SLOTS, Outcome
from inference.published import published_cameras
from inference.published_graphs import gpu_graphs_folder
from inference.stand_in import stand_in_rig, stand_in_sets
from inference.tempeh.compiled.network import PublishedResult
from inference.tempeh.gpu.network import CudaPublishedNetwork
from inference.tempeh.gpu.run import Item, open_cuda_network, open_pipeline
from streamer.errors import ConfigError, EngineError

Done = Outcome[Item, PublishedResult]


def exported_for(model: ModelFiles, precision: str, views: int) -> Path:
    """Return the folder of a model's graphs for a number of views; made at its first use."""
    folder = gpu_graphs_folder(model, precision, views)
    if not folder.is_dir():
        export_model(model, folder, ExportOptions("f16" if precision == "f16" else "f32", views), lambda *_: None)
    return folder


def bench_on_device(
    model: ModelFiles, *, precision: str, views: int, meshes: int, from_template: bool
) -> dict[str, Any]:
    """Measure a published network; keys as those of `inference.bench.bench_model`.

    Args:
        model: a published model.
        precision: of the refinement's nets, `f32` or `f16`; `auto` is f32.
        views: cameras.
        meshes: per figure.
        from_template: see `CudaPublishedNetwork`.

    Raises:
        ConfigError: fewer than two views, no mesh, or a precision that a GPU path does not have.
        EngineError: there is no device, or a set fails.
        MissingExtra: tensorrt or pycuda is not installed.
    """
    if views < 2 or meshes < 1 or precision == "bf16":
        raise ConfigError(
            f"--views {views} --meshes {meshes} --precision {precision}: views must be 2 or more, meshes 1 or more, "
            "and a GPU computes in f32 or f16"
        )
    kind = "f16" if precision == "f16" else "f32"
    calibration = stand_in_rig(views, model.width, model.height)
    (shown,) = stand_in_sets(model.topology, calibration, 1)
    pictures = np.stack([shown.members[camera.id].data for camera in calibration.cameras])
    folder = exported_for(model, kind, views)
    network = open_cuda_network(model, folder, published_cameras(calibration.cameras), from_template=from_template)
    alone, together, figures = timed(network, (pictures, np.ones(views, np.float32)), meshes)
    failed = [outcome.error for outcome in (*alone, *together) if outcome.error is not None]
    if failed:
        raise EngineError(f"{len(failed)} sets failed, the first: {failed[0]}") from failed[0]
    latencies = [(o.timing.end_ns - o.timing.eligible_ns) / 1e6 for o in together]
    return {
        "model": model.name,
        "engine": "tensorrt",
        "precision": kind,
        "device": network.device.identity,
        "views": views,
        **figures,
        "latency_ms": {f"p{k}": round(float(np.percentile(latencies, k)), 2) for k in (50, 95, 99)},
        "stages_ms": {
            name: round(float(np.median([np.ptp(o.timing.spans[name]) for o in together])) / 1e6, 3)
            for name in together[0].timing.spans
        },
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def timed(network: CudaPublishedNetwork, item: Item, meshes: int) -> tuple[list[Done], list[Done], dict[str, float]]:
    """Run sets one by one, then as fast as they go; outcomes of both, and what a mesh took."""
    outcomes: queue.SimpleQueue[Done] = queue.SimpleQueue()
    pipeline = open_pipeline(network, outcomes.put)
    try:
        for _ in range(2 * SLOTS):  # every slot once plainly, once captured
            pipeline.submit(item)
        alone = [outcomes.get() for _ in range(2 * SLOTS)]
        cpu_s, walls = time.process_time(), []
        for _ in range(meshes):
            start = time.perf_counter()
            pipeline.submit(item)
            alone.append(outcomes.get())
            walls.append(time.perf_counter() - start)
        cpu_s = time.process_time() - cpu_s
        start = time.perf_counter()
        for _ in range(meshes + SLOTS):
            pipeline.submit(item)
        together = [outcomes.get() for _ in range(meshes + SLOTS)]
        rate = len(together) / (time.perf_counter() - start)
    finally:
        pipeline.close(drain=True)
    figures = {
        "cpu_s_per_mesh": round(cpu_s / meshes, 4),
        "wall_s_per_mesh": round(float(np.median(walls)), 5),
        "meshes_per_s": round(rate, 3),
        "overlap_gain": round(rate * float(np.mean(walls)), 3),
    }
    return alone, together, figures
