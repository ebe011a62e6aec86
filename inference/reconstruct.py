"""Frame set to mesh, in stages that overlap with those of other sets: pictures, the network's own, a last check."""

import queue
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from inference.engines import Graph, Precision
from inference.expressions import ExpressionSolver, unpack_basis
from inference.model_store import ModelFiles
from inference.networks import (
    Closing,
    NetworkFactory,
    NetworkResult,
    OnDevice,
    StagedNetwork,
    compile_graphs,
    own_network,
)
from inference.pictures import PictureMaker
from inference.pipeline import FEW, SLOTS, Mode, Outcome, Pipeline
from inference.precision import lowest
from inference.schedule import ITEM, PICTURES, RESULT, WHEN, Access, Stage, run_in_order
from streamer.errors import EngineError, ModelError
from streamer.types import Calibration, FrameSet, MeshFrame

PREPARE = "prepare"
"""Stage that makes pictures of a frame set, and its stream."""
NETWORK = "network"
"""Beginning of the names of the network's own times; and the stream of a network that is not in stages."""
CHECK = "check"
"""Last stage: what the network gave is held against the topology."""
VIEWS = "views"
"""Value of a slot: names of the cameras whose pictures the network sees."""


def stage_times(spans: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return what the stages of a set took.

    Args:
        spans: stage name to beginning and end, ns.

    Returns:
        `prepare`, `network` (ns in which any stage of the network ran), and `network.<stage>` for each.
    """
    inner = {name: span for name, span in spans.items() if name != PREPARE}
    busy = covered = 0
    for start, end in sorted(inner.values()):
        busy += max(0, end - max(start, covered))
        covered = max(covered, end)
    prepare_start, prepare_end = spans[PREPARE]
    times = {PREPARE: prepare_end - prepare_start, NETWORK: busy}
    return times | {f"{NETWORK}.{name}": end - start for name, (start, end) in inner.items()}


class Reconstructor:
    """Makes meshes from the frame sets of one calibration.

    Calling it runs one set's stages in order; `stages` in a `Pipeline` overlap. One or the other at a time. `close` it.

    Args:
        model: the model.
        calibration: the rig.
        engine: name of the engine.
        precision: of the model's `net` graphs.
        threads: threads of the engine and of decoding; 0: all cores.
        graphs: the model's graphs if they are compiled already, for this engine and precision.
        network: makes the network; None: the model's own.

    Raises:
        EngineError: the engine cannot run here.
        MissingExtra: its package is not installed.
        CalibrationError: the network cannot work with these cameras.
    """

    def __init__(
        self,
        model: ModelFiles,
        calibration: Calibration,
        engine: str = "openvino",
        precision: Precision = "f32",
        threads: int = 0,
        *,
        graphs: Mapping[str, Graph] | None = None,
        network: NetworkFactory | None = None,
    ) -> None:
        """Compile, and place the cameras."""
        self.model = model
        self.calibration = calibration
        self.graphs = compile_graphs(model, engine, precision, threads) if graphs is None else graphs
        self._single: Pipeline[FrameSet, MeshFrame] | None = None
        self._delivered: queue.SimpleQueue[Outcome[FrameSet, MeshFrame]] = queue.SimpleQueue()
        basis = unpack_basis(model.constants)
        self._solver = None if basis is None else ExpressionSolver(basis)
        self._pictures = PictureMaker(
            calibration, width=model.width, height=model.height, max_views=model.max_views, workers=threads
        )
        try:
            made = network or partial(own_network, threads=threads, engine=engine, precision=precision)
            self._network = made(model, self.graphs, self._pictures.cameras)
        except BaseException:
            self._pictures.close()
            raise

    @property
    def precision(self) -> str:
        """The lowest that any graph is computed in."""
        return lowest(graph.precision for graph in self.graphs.values())

    @property
    def views(self) -> frozenset[str]:
        """Cameras that the network looks through."""
        return self._pictures.views

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages that make a `MeshFrame` under `RESULT` from a `FrameSet` under `ITEM`; see `inference.schedule`."""
        network = self._network
        inner: tuple[Stage, ...]
        if isinstance(network, StagedNetwork):
            inner = network.stages()
        else:
            inner = (Stage("run", NETWORK, self._run, (PICTURES,), (RESULT,)),)
        heads = {stage.stream: stage.name for stage in reversed(inner)}
        fed = [
            replace(stage, after=(PREPARE,)) if heads[stage.stream] == stage.name and not stage.after else stage
            for stage in inner
        ]
        return (
            Stage(PREPARE, PREPARE, self._prepare, (ITEM,), (PICTURES, WHEN, VIEWS)),
            *fed,
            Stage(CHECK, inner[-1].stream, self._check, (ITEM, VIEWS, RESULT), (RESULT,)),
        )

    def pipeline(
        self, deliver: Callable[[Outcome[FrameSet, MeshFrame]], None], *, mode: Mode
    ) -> Pipeline[FrameSet, MeshFrame]:
        """Return a pipeline of these stages; see `inference.pipeline.Pipeline`. On a device there can be one only."""
        slots = SLOTS if self.model.manifest.published is None else FEW
        if not isinstance(self._network, OnDevice):
            return Pipeline(self.stages, deliver, mode=mode, slots=slots)
        on = self._network
        return Pipeline(
            self.stages, deliver, mode=mode, slots=slots, device=on.device, buffers=on.buffers, spaces=on.spaces
        )

    def _prepare(self, access: Access) -> None:
        """Decode and resize the pictures of a set."""
        frame_set: FrameSet = access[ITEM]
        pictures = self._pictures(frame_set)
        access[WHEN] = frame_set.exposure_time_ns
        access[PICTURES] = (pictures.values, pictures.mask)
        access[VIEWS] = pictures.views

    def _run(self, access: Access) -> None:
        access[RESULT] = self._network.run(*access[PICTURES])

    def _check(self, access: Access) -> None:
        """Make a mesh of the network's result, with its weights if the model knows units; or say why it is none."""
        frame_set: FrameSet = access[ITEM]
        result: NetworkResult = access[RESULT]
        vertices = np.ascontiguousarray(result.vertices, np.float32)
        pose = np.ascontiguousarray(result.world_from_head, np.float32)
        topology = self.model.topology
        if vertices.shape != (topology.vertex_count, 3):
            raise ModelError(
                f"model '{self.model.name}' gave vertices of shape {vertices.shape}, topology '{topology.name}' has "
                f"{topology.vertex_count}; export the model again"
            )
        if not (np.isfinite(vertices).all() and np.isfinite(pose).all()):
            raise EngineError(
                f"set {frame_set.frame_id}: model '{self.model.name}' gave vertices that are not finite; "
                "set inference.precision = 'f32', or check the calibration"
            )
        access[RESULT] = MeshFrame(
            frame_id=frame_set.frame_id,
            exposure_time_ns=frame_set.exposure_time_ns,
            publish_time_ns=0,
            topology_id=topology.id,
            vertices=vertices,
            world_from_head=pose,
            views=access[VIEWS],
            weights=None if self._solver is None else self._solver(vertices, pose, frame_set.exposure_time_ns),
        )

    def __call__(self, frame_set: FrameSet) -> MeshFrame:
        """Reconstruct one set, its stages one after the other.

        Returns:
            The mesh, with `stages_ns` as `stage_times` gives it.

        Raises:
            CalibrationError: a picture's size does not fit its calibration; names the camera.
            WireError: a picture is damaged; names the camera.
            EngineError: the engine failed, or the result is not finite.
            ModelError: the network's vertices are not those of the topology.
        """
        if isinstance(self._network, OnDevice):
            return self._through_pipeline(frame_set)
        slot = run_in_order(self.stages, {ITEM: frame_set})
        mesh: MeshFrame = slot.values[RESULT]
        return replace(mesh, stages_ns=stage_times(slot.spans_ns()))

    def _through_pipeline(self, frame_set: FrameSet) -> MeshFrame:
        """One set through a pipeline that is made at the first and ends with the reconstructor."""
        if self._single is None:
            self._single = self.pipeline(self._delivered.put, mode="every")
        self._single.submit(frame_set)
        outcome = self._delivered.get()
        if outcome.result is None:
            raise outcome.error or EngineError(f"set {frame_set.frame_id} gave nothing")
        return replace(outcome.result, stages_ns=stage_times(outcome.timing.spans))

    def close(self) -> None:
        """End the threads of decoding and of the network."""
        if self._single is not None:
            self._single.close(drain=False)
        self._pictures.close()
        if isinstance(self._network, Closing):
            self._network.close()

    def __enter__(self) -> "Reconstructor":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
