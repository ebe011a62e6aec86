"""Raw inputs to raw outputs: one set through a published network, in float32. The reference of every engine."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from inference.model_store import ModelFiles
from inference.tempeh.compiled.network import PublishedCameras, PublishedResult, placed, stage_pictures
from inference.tempeh.frames import MM
from inference.tempeh.published.coarse import CoarseStage
from inference.tempeh.published.inputs import Outputs, RunInputs, StageInputs, alone, checked, require_sight, sight
from inference.tempeh.published.refine import VERTEX_CHUNK, RefineStage
from inference.tempeh.published.store import load_coarse, load_refine
from inference.tempeh.published.visibility import visibility
from inference.tempeh.published.volumes import ViewTensors
from streamer.errors import EngineError
from streamer.types import F32, U8


class Modules:
    """Both stages of a published network, each loaded at its first use.

    Args:
        model: see `store`.
    """

    def __init__(self, model: ModelFiles) -> None:
        """Load nothing yet."""
        self.model = model

    @cached_property
    def coarse(self) -> CoarseStage:
        """The coarse stage."""
        return load_coarse(self.model)

    @cached_property
    def refine(self) -> RefineStage:
        """The refinement."""
        return load_refine(self.model)

    def coarse_outputs(self, given: StageInputs, camera_from_world: F32) -> Outputs:
        """Coarse vertices and the localiser's answer."""
        found = self.coarse(torch.from_numpy(given.images)[None], view_tensors(given, camera_from_world))
        return {
            "coarse_vertices": found.vertices[0].numpy(),
            "localiser_scale": found.warp.scale[0].numpy(),
            "localiser_rotation": found.warp.rotation[0].numpy(),
            "localiser_translation_mm": found.warp.translation_mm[0].numpy(),
        }

    def handed_over(self, coarse: F32) -> F32:
        """Coarse vertices as the refinement gets them."""
        entry = self.model.manifest.published
        if entry is not None and entry.quirks:
            return (coarse * np.float32(1 / MM)) * np.float32(MM)  # the release hands over by a file in metres
        return coarse

    def refine_outputs(
        self,
        given: StageInputs,
        camera_from_world: F32,
        start: F32,
        seen: U8,
        report: Callable[[int, int], None] = lambda done, total: None,
        chosen: NDArray[np.integer] | None = None,
    ) -> Outputs:
        """Refined vertices, of those chosen (all by default), and normals of all.

        Args:
            given: pictures.
            camera_from_world: (V, 3, 4) mm.
            start: (N, 3) mm.
            seen: (V, N) in {0, 1}.
            report: told chunks of vertices that are done, and how many there are.
            chosen: (M,) indices of vertices.
        """
        stage, views = self.refine, view_tensors(given, camera_from_world)
        vertices = torch.from_numpy(np.array(start))[None]  # a template is read-only, which torch cannot hold
        normals = stage.normals(vertices)
        maps = torch.cat([stage.features(image[None]) for image in torch.from_numpy(given.images)])[None]
        sees = torch.from_numpy(seen)[None].float()
        parts = []
        chunks = torch.split(torch.arange(len(start)) if chosen is None else torch.from_numpy(chosen), VERTEX_CHUNK)
        for done, some in enumerate(chunks):
            parts.append(stage.from_maps(maps, views, vertices, normals, sees, some)[0])
            report(done + 1, len(chunks))
        return {"vertices": torch.cat(parts).numpy(), "normals": normals[0].numpy()}


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
    modules = Modules(model)
    with torch.inference_mode():
        if inputs.coarse is None or inputs.coarse_vertices is not None:
            outputs = alone(np.asarray(inputs.coarse_vertices))
            start = outputs["coarse_vertices"]
        else:
            box = (modules.coarse.grid + modules.coarse.centre).numpy()
            require_sight(sight(box, inputs.coarse, inputs.camera_from_world), "the capture volume")
            outputs = modules.coarse_outputs(inputs.coarse, inputs.camera_from_world)
            start = modules.handed_over(outputs["coarse_vertices"])
        require_sight(sight(start, inputs.refine, inputs.camera_from_world), "the coarse vertices")
        seen = inputs.visibility
        if seen is None:
            seen = visibility(start, model.topology.triangles, inputs.refine.K, inputs.camera_from_world)
        refined = modules.refine_outputs(inputs.refine, inputs.camera_from_world, start, seen, report)
    return checked(outputs | {"visibility": seen} | refined)


class TorchPublished:
    """A published network of any size in a rig, by its modules in float32: the reference of the compiled path.

    Args:
        model: see `store`.
        cameras: of the pictures.
        threads: threads of a run.

    Raises:
        ModelError: the weights do not fit.
    """

    def __init__(self, model: ModelFiles, cameras: PublishedCameras, threads: int) -> None:
        """Load both stages."""
        self._modules, self._cameras, self._threads = Modules(model), cameras, threads
        _ = self._modules.coarse, self._modules.refine

    def run(self, pictures: U8, mask: F32) -> PublishedResult:
        """Reconstruct one set from pictures (V, H, W, 3) and their mask; see `PublishedNetwork.run`."""
        coarse, fine, there = stage_pictures(pictures, mask, len(self._cameras.K_refine))
        c, modules = self._cameras, self._modules
        poses = c.camera_from_world[there]
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            small = StageInputs(coarse, c.K_coarse[there], c.distortion_coarse[there])
            large = StageInputs(fine, c.K_refine[there], c.distortion_refine[there])
            start = modules.handed_over(modules.coarse_outputs(small, poses)["coarse_vertices"])
            if not np.isfinite(start).all():
                raise EngineError("the coarse vertices are not finite; the weights do not fit these pictures")
            seen = visibility(start, modules.model.topology.triangles, large.K, poses)
            refined = modules.refine_outputs(large, poses, start, seen)["vertices"]
        return placed(start, refined, seen)

    def close(self) -> None:
        """Nothing runs beside it."""


def view_tensors(stage_inputs: StageInputs, camera_from_world: F32) -> ViewTensors:
    """Cameras of a stage as one set."""
    arrays = (stage_inputs.K, stage_inputs.distortion, camera_from_world)
    return ViewTensors(*(torch.from_numpy(array)[None] for array in arrays))
