"""Engines and precisions of a published network against its torch modules in float32. Needs torch and onnx."""

import os
from pathlib import Path

import cv2
import numpy as np
import torch

from inference.bench_published import prepared
from inference.engines import open_engine
from inference.model_export import ExportOptions, export_model
from inference.model_store import ModelFiles
from inference.stand_in import stand_in_rig, stand_in_sets
from inference.tempeh.compiled.network import PublishedNetwork
from inference.tempeh.frames import MM
from inference.tempeh.gpu.run import cameras_of, open_cuda_network, published_parts, run_on_device
from inference.tempeh.published.inputs import RunInputs, StageInputs
from inference.tempeh.published.pictures import normalised
from inference.tempeh.published.refine import RefineStage
from inference.tempeh.published.run import run_published, view_tensors
from inference.tempeh.published.store import load_refine
from inference.tempeh.torch_engine import TorchEngine
from streamer.errors import EngineError
from streamer.types import F32, U8

CPU_GRAPHS = ("coarse_features", "localise", "coarse_net", "refine_features")
"""Of `published.export.cpu_graphs`."""
VIEWS = 4
"""Enough to compare; the reference takes seconds a view at full size."""


class PublishedCases:
    """One set through a published network, by every engine.

    Args:
        model: the model.
        folder: for graphs that are exported.
    """

    def __init__(self, model: ModelFiles, folder: Path) -> None:
        """Draw the set, and run the reference."""
        self._model, self._folder = model, folder
        calibration = stand_in_rig(VIEWS, model.width, model.height)
        (shown,) = stand_in_sets(model.topology, calibration, 1)
        self._pictures: U8 = np.stack([shown.members[camera.id].data for camera in calibration.cameras])
        self.cameras = cameras_of(calibration)
        """Of the set."""
        self._inputs = self._raw()
        self._reference = run_published(model, self._inputs, lambda done, total: None)

    def _raw(self) -> RunInputs:
        size = (self._model.width // 2, self._model.height // 2)
        small = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in self._pictures])
        fine, coarse = (normalised(p.astype(np.float32) / np.float32(255)) for p in (self._pictures, small))
        c = self.cameras
        return RunInputs(
            StageInputs(coarse, c.K_coarse, c.distortion_coarse),
            StageInputs(fine, c.K_refine, c.distortion_refine),
            c.camera_from_world,
            None,
            None,
            (),
        )

    @property
    def reference(self) -> F32:
        """(N, 3) vertices of torch in float32, metres."""
        return np.asarray(self._reference["vertices"] / np.float32(MM), np.float32)

    def run(self, engine: str, precision: str) -> F32:
        """Vertices (N, 3) of an engine in a precision, metres.

        Raises:
            EngineError: the engine cannot run here, or not in this precision.
            MissingExtra: its package is not installed.
        """
        if engine == "openvino":
            if precision != "f32":
                raise EngineError("published networks run in f32 on the CPU")
            return self._compiled()
        if engine == "torch":
            return self._rounded()
        open_engine(engine)  # not after a network was exported
        network = open_cuda_network(self._model, self._exported(precision), self.cameras)
        return run_on_device(network, self._pictures, np.ones(VIEWS, np.float32)).vertices

    def _compiled(self) -> F32:
        """The CPU path."""
        _, folder = prepared(str(self._model.folder))
        runtime = open_engine("openvino")
        graphs = {name: runtime.compile(folder / f"{name}.onnx") for name in CPU_GRAPHS}
        threads = len(os.sched_getaffinity(0))
        network = PublishedNetwork(published_parts(self._model), graphs, self.cameras, threads)
        try:
            images = [stage.images for stage in (self._inputs.coarse, self._inputs.refine) if stage is not None]
            return network.run_raw(*images).vertices
        finally:
            network.close()

    def _exported(self, precision: str) -> Path:
        """Folder of the graphs in a precision."""
        out = self._folder / precision
        if not out.exists():
            options = ExportOptions("f16" if precision == "f16" else "f32", VIEWS)
            export_model(self._model, out, options, lambda done, total: None)
        return out

    def _rounded(self) -> F32:
        """The refinement in float16 as a GPU rounds, from the reference's coarse vertices; the rest in float32."""
        folder, engine = self._exported("f16"), TorchEngine()
        features, net = (engine.compile(folder / f"{name}.onnx") for name in ("refine_features", "local_net"))
        maps = features.run({"pictures": self._inputs.refine.images})["maps"].transpose(0, 3, 1, 2)
        full = maps.repeat(2, 2).repeat(2, 3)[:, :, : self._model.height, : self._model.width]
        stage, start = load_refine(self._model), self._reference["coarse_vertices"]
        batch = net.inputs["volumes"].shape[0]
        volumes = np.zeros(net.inputs["volumes"].shape, np.float32)
        moved = [start[:0]]
        for first in range(0, len(start), batch):
            some = torch.arange(first, min(first + batch, len(start)))
            volumes[: len(some)] = self._volumes(stage, full, start, some)
            moved.append(start[some.numpy()] + net.run({"volumes": volumes})["offsets"][: len(some)])
        return np.asarray(np.concatenate(moved) / np.float32(MM), np.float32)

    def _volumes(self, stage: RefineStage, maps: F32, start: F32, some: torch.Tensor) -> F32:
        with torch.inference_mode():
            vertices = torch.from_numpy(start)[None]
            points = stage.local_grids(vertices[:, some]).points
            seen = torch.from_numpy(self._reference["visibility"])[None].float()[:, :, some]
            views = view_tensors(self._inputs.refine, self._inputs.camera_from_world)
            normals = torch.from_numpy(self._reference["normals"])[None][:, some]
            held = torch.from_numpy(np.ascontiguousarray(maps))[None]
            made: F32 = stage.volumes(held, views, points, normals, seen, stage.embedding[some])[0].numpy()
            return made
