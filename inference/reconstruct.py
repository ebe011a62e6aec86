"""Frame set to mesh, in stages that overlap with those of other sets: pictures, the network's own, a last check."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from inference.engines import Graph, Precision, open_engine
from inference.expressions import ExpressionSolver, unpack_basis
from inference.model_store import ModelFiles
from inference.pictures import PictureMaker
from inference.precision import decision_file, harmless, keep_decision, kept_decision, lowest, plan_folder
from inference.schedule import ITEM, PICTURES, RESULT, WHEN, Access, Stage, run_in_order
from streamer.errors import EngineError, ModelError
from streamer.types import F32, U8, Calibration, Camera, FrameSet, MeshFrame

if TYPE_CHECKING:
    from inference.tempeh.tracking import Tracker


class NetworkResult(Protocol):
    """What a network makes of one set of pictures."""

    @property
    def vertices(self) -> F32:
        """(N, 3) metres, world."""

    @property
    def world_from_head(self) -> F32:
        """(4, 4) rigid, metres."""


class Network(Protocol):
    """The core that a model's graphs are run by, for fixed cameras."""

    def run(self, pictures: U8, mask: F32) -> NetworkResult:
        """Reconstruct one head.

        Args:
            pictures: (V, H, W, 3) RGB, the k-th camera in slot k; slots without a picture are zero.
            mask: (V,) 1 where there is a picture, else 0.
        """


@runtime_checkable
class StagedNetwork(Network, Protocol):
    """A network in stages that may overlap with those of other sets."""

    def stages(self) -> tuple[Stage, ...]:
        """Return stages that make a `NetworkResult` under `RESULT` from `PICTURES`, a pair as `run` takes it."""


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


NetworkFactory = Callable[[ModelFiles, Mapping[str, Graph], Sequence[Camera]], Network]
"""Makes a network of a model, its compiled graphs, and the cameras of the pictures (at most `max_views`, by slot)."""


def live_network(
    model: ModelFiles,
    graphs: Mapping[str, Graph],
    cameras: Sequence[Camera],
    without: str = "",
    tracker: "Tracker | None" = None,
) -> Network:
    """Make a network that Mien ships: TEMPEH at its live size, with the second stage if the model has one.

    Args:
        model: the model.
        graphs: its compiled graphs.
        cameras: of the pictures.
        without: part of the method that is left out (`inference.tempeh.live.PARTS`), for ablations.
        tracker: follows the head from set to set; None: every set is looked at for itself.

    Raises:
        ModelError: the graphs are for another number of views.
    """
    from inference.tempeh.close_ups import GRAPHS, CloseUpNetwork
    from inference.tempeh.layout import unpack_constants
    from inference.tempeh.live import LiveNetwork
    from inference.tempeh.second_stage import SecondStageNetwork

    slots = graphs["thumbs"].inputs["thumbs"].shape[0] if "thumbs" in graphs else 0
    if slots != model.max_views:
        raise ModelError(
            f"model '{model.name}': its graphs are made for {slots} views, its model.toml says {model.max_views}; "
            "export the model again"
        )
    constants = unpack_constants(model.constants, model.topology)
    network: LiveNetwork | SecondStageNetwork
    if "detail" in graphs:
        network = SecondStageNetwork(
            constants, graphs, cameras, model.max_views, model.topology, without=without, tracker=tracker
        )
    else:
        network = LiveNetwork(constants, graphs, cameras, model.max_views, without=without, tracker=tracker)
    if without == "close-ups" or not graphs.keys() >= set(GRAPHS):
        return network
    return CloseUpNetwork(network, graphs, cameras, model.max_views, model.topology)


def compile_graphs(model: ModelFiles, engine: str, precision: Precision, threads: int) -> dict[str, Graph]:
    """Compile all graphs of a model.

    Args:
        model: the model.
        engine: name of the engine.
        precision: for its `net` graphs; `geometry` graphs are always float32. `auto`: see `inference.precision`.
        threads: threads of a run; 0: half of all cores, since stages of two sets overlap: that gives more meshes than
            all cores for each stage in turn.

    Raises:
        EngineError: the engine cannot run here, or cannot compile a graph.
        MissingExtra: its package is not installed.
    """
    threads = threads or max(1, len(os.sched_getaffinity(0)) // 2)
    runtime = open_engine(engine, threads=threads, cache_dir=plan_folder(engine))
    nets = {name for name, graph in model.graphs.items() if graph.precision == "net"}
    wanted: dict[str, Precision] = {name: precision if name in nets else "f32" for name in model.graphs}
    path, open_question = None, frozenset(nets & harmless(engine))
    if precision == "auto":
        wanted |= dict.fromkeys(nets - open_question, "f32")
        path = decision_file(model.id, engine, runtime.version, threads)
        for name, kept in (kept_decision(path, open_question) or {}).items():
            wanted[name] = kept
    graphs = {name: runtime.compile(graph.path, precision=wanted[name]) for name, graph in model.graphs.items()}
    if path is not None and any(wanted[name] == "auto" for name in open_question):
        keep_decision(path, {name: graphs[name].precision for name in open_question})
    return graphs


class Reconstructor:
    """Makes meshes from the frame sets of one calibration.

    Calling it runs one set's stages in order; `stages` in a `Pipeline` overlap. One or the other at a time. `close` it.

    Args:
        model: the model.
        calibration: the rig.
        engine: name of the engine.
        precision: of the model's `net` graphs.
        threads: threads of the engine and of decoding; 0: all cores.
        graphs: the model's graphs if they are compiled already; engine and precision then say nothing.
        network: makes the network.

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
        network: NetworkFactory = live_network,
    ) -> None:
        """Compile, and place the cameras."""
        self.model = model
        self.calibration = calibration
        self.graphs = compile_graphs(model, engine, precision, threads) if graphs is None else graphs
        basis = unpack_basis(model.constants)
        self._solver = None if basis is None else ExpressionSolver(basis)
        self._pictures = PictureMaker(
            calibration, width=model.width, height=model.height, max_views=model.max_views, workers=threads
        )
        try:
            self._network = network(model, self.graphs, self._pictures.cameras)
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
        slot = run_in_order(self.stages, {ITEM: frame_set})
        mesh: MeshFrame = slot.values[RESULT]
        return replace(mesh, stages_ns=stage_times(slot.spans_ns()))

    def close(self) -> None:
        """End the decoding threads."""
        self._pictures.close()

    def __enter__(self) -> "Reconstructor":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
