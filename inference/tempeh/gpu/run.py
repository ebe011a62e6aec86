"""The published network on a CUDA device from a folder of exported graphs, for the bench and for comparisons."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from inference.engines.tensorrt import TensorRtEngine
from inference.model_store import ModelFiles
from inference.pipeline import Outcome, Pipeline
from inference.precision import plan_folder
from inference.schedule import ITEM, PICTURES, Access, Stage
from inference.tempeh.compiled.network import PublishedCameras, PublishedParts, PublishedResult
from inference.tempeh.frames import MM
from inference.tempeh.gpu.network import GRAPHS, CudaPublishedNetwork
from inference.topology_file import read_arrays
from streamer.errors import CalibrationError, EngineError, ModelError
from streamer.types import F32, U8, Calibration

Item = tuple[U8, F32]
"""Pictures (V, H, W, 3) RGB and mask (V,)."""


def published_parts(model: ModelFiles) -> PublishedParts:
    """What a published network is made of, without torch.

    Raises:
        ModelError: the model is no published one.
    """
    entry = model.manifest.published
    if entry is None:
        raise ModelError(f"{model.folder}: '{model.name}' is not a published network")
    arrays = {stage: read_arrays(path) for stage, path in model.weights.items()}
    return PublishedParts(
        entry.sizes,
        entry.quirks,
        arrays["coarse"],
        arrays["refine"],
        model.constants["template_mm"],
        model.topology.triangles,
    )


def cameras_of(calibration: Calibration) -> PublishedCameras:
    """Cameras of a rig as both stages take them; the coarse stage's pictures are halves.

    Raises:
        CalibrationError: a lens that the published network does not know: it has k1 and k2 only.
    """
    K = np.array([camera.K for camera in calibration.cameras], np.float32)
    lens = np.array([camera.distortion for camera in calibration.cameras], np.float32)
    if lens[:, 2:].any():
        raise CalibrationError(
            "the published network knows radial distortion (k1, k2) only; calibrate without p1, p2, k3"
        )
    half = K.copy()
    half[:, :2] *= 0.5
    half[:, :2, 2] -= 0.25  # middles of pixels are at whole numbers in both
    pose = np.array([camera.camera_from_world[:3] for camera in calibration.cameras])
    pose[:, :, 3] *= MM
    two = np.ascontiguousarray(lens[:, :2])
    return PublishedCameras(half, two, K, two, pose.astype(np.float32))


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
