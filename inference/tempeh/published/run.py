"""Raw inputs to raw outputs: one set through a published network, in float32. The reference of every engine."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.model_store import ModelFiles
from inference.tempeh.frames import MM
from inference.tempeh.published.inputs import RunInputs, StageInputs, require_sight
from inference.tempeh.published.refine import VERTEX_CHUNK, RefineStage
from inference.tempeh.published.store import load_coarse, load_refine
from inference.tempeh.published.visibility import visibility
from inference.tempeh.published.volumes import ViewTensors
from streamer.errors import ModelError
from streamer.types import F32, U8

Outputs = dict[str, NDArray[Any]]


def run_published(model: ModelFiles, inputs: RunInputs, report: Callable[[int, int], None]) -> Outputs:
    """Run a published network on one set.

    Args:
        model: see `store`.
        inputs: checked ones.
        report: called with what is done and what there is in all.

    Returns:
        `coarse_vertices`, `vertices` (N, 3) mm; `visibility` (V, N) uint8; `normals` (N, 3) of the coarse mesh;
        `localiser_scale` (3), `localiser_rotation` (3, 3), `localiser_translation_mm` (3), NaN if the refinement ran
        alone.

    Raises:
        ModelError: the weights do not fit, or what comes out is not finite.
        CalibrationError: a view sees nothing.
    """
    chunks = -(-model.topology.vertex_count // VERTEX_CHUNK)
    with torch.inference_mode():
        if inputs.coarse is None or inputs.coarse_vertices is not None:
            nothing = np.full((3, 3), np.nan, np.float32)
            outputs: Outputs = {"coarse_vertices": np.asarray(inputs.coarse_vertices)}
            outputs |= {"localiser_scale": nothing[0], "localiser_rotation": nothing}
            outputs |= {"localiser_translation_mm": nothing[0]}
            start = outputs["coarse_vertices"]
        else:
            outputs = _coarse(model, inputs.coarse, inputs.camera_from_world)
            start = outputs["coarse_vertices"]
            if model.manifest.published and model.manifest.published.quirks:
                start = (start * np.float32(1 / MM)) * np.float32(MM)  # the release hands over by a file in metres
        report(1, chunks + 1)
        stage = load_refine(model)
        require_sight(sight(start, inputs.refine, inputs.camera_from_world), "the coarse vertices")
        seen = inputs.visibility
        if seen is None:
            seen = visibility(start, model.topology.triangles, inputs.refine.K, inputs.camera_from_world)
        outputs |= {"visibility": seen} | _refine(stage, inputs, start, seen, report)
    for name in ("coarse_vertices", "vertices"):
        if not np.isfinite(outputs[name]).all():
            raise ModelError(f"{name} are not finite; the weights do not fit these inputs")
    return outputs


def _coarse(model: ModelFiles, stage_inputs: StageInputs, camera_from_world: F32) -> Outputs:
    stage = load_coarse(model)
    box = (stage.grid + stage.centre).numpy()
    require_sight(sight(box, stage_inputs, camera_from_world), "the capture volume")
    found = stage(torch.from_numpy(stage_inputs.images)[None], view_tensors(stage_inputs, camera_from_world))
    return {
        "coarse_vertices": found.vertices[0].numpy(),
        "localiser_scale": found.warp.scale[0].numpy(),
        "localiser_rotation": found.warp.rotation[0].numpy(),
        "localiser_translation_mm": found.warp.translation_mm[0].numpy(),
    }


def _refine(stage: RefineStage, inputs: RunInputs, start: F32, seen: U8, report: Callable[[int, int], None]) -> Outputs:
    views = view_tensors(inputs.refine, inputs.camera_from_world)
    vertices = torch.from_numpy(start)[None]
    normals = stage.normals(vertices)
    maps = torch.cat([stage.features(image[None]) for image in torch.from_numpy(inputs.refine.images)])[None]
    sees = torch.from_numpy(seen)[None].float()
    parts = []
    chunks = torch.split(torch.arange(len(start)), VERTEX_CHUNK)
    for done, some in enumerate(chunks):
        parts.append(stage.from_maps(maps, views, vertices, normals, sees, some)[0])
        report(done + 2, len(chunks) + 1)
    return {"vertices": torch.cat(parts).numpy(), "normals": normals[0].numpy()}


def view_tensors(stage_inputs: StageInputs, camera_from_world: F32) -> ViewTensors:
    """Cameras of a stage as one set."""
    arrays = (stage_inputs.K, stage_inputs.distortion, camera_from_world)
    return ViewTensors(*(torch.from_numpy(array)[None] for array in arrays))


def sight(points: F32, stage_inputs: StageInputs, camera_from_world: F32) -> F32:
    """(V,) share of points (P, 3) that lie in front of a camera and, without distortion, inside its picture."""
    local = points @ camera_from_world[:, :, :3].transpose(0, 2, 1) + camera_from_world[:, None, :, 3]
    ahead = local[..., 2] > 1.0
    flat = local / np.where(ahead, local[..., 2], np.float32(1))[..., None]
    pixel = (flat @ stage_inputs.K.transpose(0, 2, 1))[..., :2]
    height, width = stage_inputs.images.shape[2:]
    within = ((pixel > -0.5) & (pixel < np.array([width, height], np.float32) - 0.5)).all(-1)
    return np.asarray((ahead & within).mean(1), np.float32)
