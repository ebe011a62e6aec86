"""Engines and precisions of a published network against its torch modules in float32. Needs torch and onnx."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.engines import open_engine
from inference.model_export import ExportOptions, export_model
from inference.model_store import ModelFiles
from inference.precision import plan_folder
from inference.published import published_cameras, published_parts
from inference.published_graphs import FULL, GRAPHS, prepared
from inference.stand_in import stand_in_rig, stand_in_sets
from inference.tempeh.compiled.depth import visibility
from inference.tempeh.compiled.network import PublishedNetwork, stage_pictures
from inference.tempeh.frames import MM
from inference.tempeh.gpu.run import open_cuda_network, run_on_device
from inference.tempeh.published.inputs import StageInputs
from inference.tempeh.published.refine import RefineStage
from inference.tempeh.published.run import Modules, view_tensors
from inference.tempeh.published.store import load_refine
from inference.tempeh.torch_engine import TorchEngine
from streamer.errors import EngineError
from streamer.types import F32, U8

VIEWS = 4
"""Enough to compare; the reference takes seconds a view at full size."""
COMPARED = 628
"""Vertices that torch refines for the comparison: an eighth of the release's, which take it half a minute."""


class PublishedCases:
    """One set through a published network, by every engine: refined and coarse vertices.

    Seeded weights know no heads: their coarse vertices lie anywhere, and refining them would be dear and tell nothing.
    Then the template is refined in their place. Of a large network some vertices are refined by torch, evenly chosen.

    Args:
        model: the model.
        folder: for graphs that are exported.
        progress: told chunks of the reference that are done, and how many there are.
    """

    def __init__(
        self, model: ModelFiles, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Draw the set, and run the reference."""
        self._model, self._folder = model, folder
        calibration = stand_in_rig(VIEWS, model.width, model.height)
        (shown,) = stand_in_sets(model.topology, calibration, 1)
        self._pictures: U8 = np.stack([shown.members[camera.id].data for camera in calibration.cameras])
        self.cameras = published_cameras(calibration.cameras)
        """Of the set."""
        self._from_template = model.name == FULL
        count = model.topology.vertex_count
        self._chosen = np.unique(np.linspace(0, count - 1, min(count, COMPARED)).round().astype(np.int64))
        self._refer(progress)

    def _refer(self, progress: Callable[[int, int], None]) -> None:
        """Run torch in float32."""
        coarse, fine, _ = stage_pictures(self._pictures, np.ones(VIEWS, np.float32), VIEWS)
        c, modules = self.cameras, Modules(self._model)
        self._coarse = StageInputs(coarse, c.K_coarse, c.distortion_coarse)
        self._fine = StageInputs(fine, c.K_refine, c.distortion_refine)
        with torch.inference_mode():
            self._coarse_mm = modules.coarse_outputs(self._coarse, c.camera_from_world)["coarse_vertices"]
            template: F32 = self._model.constants["template_mm"]
            self._start = template if self._from_template else modules.handed_over(self._coarse_mm)
            triangles = self._model.topology.triangles
            self._seen = visibility(self._start, triangles, c.K_refine, c.camera_from_world)
            self._refined = modules.refine_outputs(
                self._fine, c.camera_from_world, self._start, self._seen, progress, self._chosen
            )

    @property
    def compared(self) -> int:
        """Vertices that are refined and compared."""
        return len(self._chosen)

    @property
    def reference(self) -> list[F32]:
        """Refined (M, 3) and coarse (N, 3) vertices of torch in float32, metres."""
        return [_metres(self._refined["vertices"]), _metres(self._coarse_mm)]

    def run(self, engine: str, precision: str) -> list[F32]:
        """Refined vertices of an engine in a precision, and coarse ones where it computes them, metres.

        Raises:
            EngineError: the engine cannot run here, or not in this precision.
            MissingExtra: its package is not installed.
        """
        if engine == "openvino":
            if precision != "f32":
                raise EngineError("published networks run in f32 on the CPU")
            return self._compiled()
        if engine == "torch":
            return [self._rounded()]
        open_engine(engine)  # not after a network was exported
        network = open_cuda_network(
            self._model, self._exported(precision), self.cameras, from_template=self._from_template
        )
        found = run_on_device(network, self._pictures, np.ones(VIEWS, np.float32))
        refined = _metres(found.vertices_mm[self._chosen])
        return [refined] if self._from_template else [refined, _metres(found.coarse_mm)]

    def _compiled(self) -> list[F32]:
        """The CPU path."""
        _, folder = prepared(str(self._model.folder))
        runtime = open_engine("openvino", cache_dir=plan_folder("openvino"))
        graphs = {name: runtime.compile(folder / f"{name}.onnx") for name in GRAPHS}
        threads = len(os.sched_getaffinity(0))
        network = PublishedNetwork(published_parts(self._model), graphs, self.cameras, threads)
        try:
            start = self._start if self._from_template else None
            values = network.run_raw(self._coarse.images, self._fine.images, start=start)
        finally:
            network.close()
        return [_metres(values["refined"][self._chosen]), _metres(values["coarse"])]

    def _exported(self, precision: str) -> Path:
        """Folder of the graphs in a precision."""
        out = self._folder / precision
        if not out.exists():
            options = ExportOptions("f16" if precision == "f16" else "f32", VIEWS)
            export_model(self._model, out, options, lambda done, total: None)
        return out

    def _rounded(self) -> F32:
        """The refinement in float16 as a GPU rounds, from the reference's start; the rest in float32."""
        folder, engine = self._exported("f16"), TorchEngine()
        features, net = (engine.compile(folder / f"{name}.onnx") for name in ("refine_features", "local_net"))
        maps = features.run({"pictures": self._fine.images})["maps"].transpose(0, 3, 1, 2)
        full = maps.repeat(2, 2).repeat(2, 3)[:, :, : self._model.height, : self._model.width]
        stage, start = load_refine(self._model), self._start
        batch = net.inputs["volumes"].shape[0]
        volumes = np.zeros(net.inputs["volumes"].shape, np.float32)
        moved = []
        for first in range(0, len(self._chosen), batch):
            some = self._chosen[first : first + batch]
            volumes[: len(some)] = self._volumes(stage, full, start, torch.from_numpy(some))
            moved.append(start[some] + net.run({"volumes": volumes})["offsets"][: len(some)])
        return _metres(np.concatenate(moved))

    def _volumes(self, stage: RefineStage, maps: F32, start: F32, some: torch.Tensor) -> F32:
        with torch.inference_mode():
            vertices = torch.from_numpy(np.array(start))[None]
            points = stage.local_grids(vertices[:, some]).points
            seen = torch.from_numpy(self._seen)[None].float()[:, :, some]
            views = view_tensors(self._fine, self.cameras.camera_from_world)
            normals = torch.from_numpy(self._refined["normals"])[None][:, some]
            held = torch.from_numpy(np.ascontiguousarray(maps))[None]
            made: F32 = stage.volumes(held, views, points, normals, seen, stage.embedding[some])[0].numpy()
            return made


def _metres(vertices_mm: NDArray[Any]) -> F32:
    return np.asarray(vertices_mm / np.float32(MM), np.float32)
