"""The published network on a CUDA device from a folder of exported graphs, for the bench and for comparisons."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from inference.engines.tensorrt import TensorRtEngine
from inference.model_store import ModelFiles
from inference.pipeline import Outcome, Pipeline
from inference.precision import plan_folder
from inference.published import published_parts
from inference.schedule import ITEM, PICTURES, Access, Stage
from inference.tempeh.compiled.network import PublishedCameras, PublishedResult
from inference.tempeh.gpu.network import GRAPHS, CudaPublishedNetwork
from streamer.errors import EngineError, ModelError
from streamer.types import F32, U8

Item = tuple[U8, F32]
"""Pictures (V, H, W, 3) RGB and mask (V,)."""


def open_cuda_network(
    model: ModelFiles, exported: Path, cameras: PublishedCameras, *, from_template: bool = False
) -> CudaPublishedNetwork:
    """Put a published network on the first CUDA device.

    Args:
        model: a published model.
        exported: folder that `mien model export` wrote.
        cameras: of the pictures.
        from_template: see `CudaPublishedNetwork`.

    Raises:
        MissingExtra: tensorrt or pycuda is not installed.
        EngineError: there is no device, or it refuses.
        ModelError: the graphs are of another model.
    """
    engine = TensorRtEngine(cache_dir=plan_folder("tensorrt"))
    manifest = json.loads((exported / "export.json").read_text("utf-8"))
    if manifest["model_id"] != model.id:
        raise ModelError(f"{exported}: graphs of model {manifest['model_id']}, not of {model.id}; export them again")
    plans = {name: engine.compile(exported / f"{name}.onnx").plan for name in GRAPHS}
    size = (int(manifest["width"]), int(manifest["height"]))
    return CudaPublishedNetwork(
        published_parts(model), plans, cameras, size, engine.device, from_template=from_template
    )


def open_pipeline(
    network: CudaPublishedNetwork, deliver: Callable[[Outcome[Item, PublishedResult]], None]
) -> Pipeline[Item, PublishedResult]:
    """Return a pipeline of pictures and masks through a network; `deliver` takes what comes out, in order."""

    def supply(access: Access) -> None:
        access[PICTURES] = access[ITEM]

    first, *rest = network.stages()
    stages = (Stage("supply", first.stream, supply, (ITEM,), (PICTURES,)), first, *rest)
    return Pipeline(
        stages, deliver, mode="every", device=network.device, buffers=network.buffers, spaces=network.spaces
    )


def run_on_device(network: CudaPublishedNetwork, pictures: U8, mask: F32) -> PublishedResult:
    """Reconstruct one set.

    Raises:
        EngineError: the device failed, or the result is not finite.
        CalibrationError: fewer than two views have a picture.
    """
    outcomes: list[Outcome[Item, PublishedResult]] = []
    pipeline = open_pipeline(network, outcomes.append)
    try:
        pipeline.submit((pictures, np.asarray(mask, np.float32)))
    finally:
        pipeline.close(drain=True)
    (outcome,) = outcomes
    if outcome.result is None:
        raise outcome.error or EngineError("the set gave nothing")
    return outcome.result
