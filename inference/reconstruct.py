"""Frame set to mesh, in two halves that can overlap: `prepare` (pictures) and `infer` (network)."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inference.engines import Graph, Precision, open_engine
from inference.model_store import ModelFiles
from inference.pictures import PictureMaker, Pictures
from streamer.errors import EngineError, ModelError
from streamer.types import F32, U8, Calibration, Camera, FrameSet, MeshFrame


class NetworkResult(Protocol):
    """What a network makes of one set of pictures."""

    @property
    def vertices(self) -> F32:
        """(N, 3) metres, world."""

    @property
    def world_from_head(self) -> F32:
        """(4, 4) rigid, metres."""

    @property
    def stages_ns(self) -> Mapping[str, int]:
        """Stage of the network to ns."""


class Network(Protocol):
    """The core that a model's graphs are run by, for fixed cameras."""

    def run(self, pictures: U8, mask: F32) -> NetworkResult:
        """Reconstruct one head.

        Args:
            pictures: (V, H, W, 3) RGB, the k-th camera in slot k; slots without a picture are zero.
            mask: (V,) 1 where there is a picture, else 0.
        """


NetworkFactory = Callable[[ModelFiles, Mapping[str, Graph], Sequence[Camera]], Network]
"""Makes a network of a model, its compiled graphs, and the cameras of the pictures (at most `max_views`, by slot)."""


def live_network(model: ModelFiles, graphs: Mapping[str, Graph], cameras: Sequence[Camera]) -> Network:
    """Make the network that Mien ships: TEMPEH at its live size."""
    from inference.tempeh.layout import unpack_constants
    from inference.tempeh.live import LiveNetwork

    slots = graphs["thumbs"].inputs["thumbs"].shape[0] if "thumbs" in graphs else 0
    if slots != model.max_views:
        raise ModelError(
            f"model '{model.name}': its graphs are made for {slots} views, its model.toml says {model.max_views}; "
            "export the model again"
        )
    return LiveNetwork(unpack_constants(model.constants, model.topology), graphs, cameras, model.max_views)


def compile_graphs(model: ModelFiles, engine: str, precision: Precision, threads: int) -> dict[str, Graph]:
    """Compile all graphs of a model.

    Args:
        model: the model.
        engine: name of the engine.
        precision: for its `net` graphs; `geometry` graphs are always float32.
        threads: threads of a run; 0: all cores.

    Raises:
        EngineError: the engine cannot run here, or cannot compile a graph.
        MissingExtra: its package is not installed.
    """
    runtime = open_engine(engine, threads=threads)
    return {
        name: runtime.compile(graph.path, precision=precision if graph.precision == "net" else "f32")
        for name, graph in model.graphs.items()
    }


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame set whose pictures are ready for the network."""

    frame_id: int
    """Rig frame id of the set."""
    exposure_time_ns: int
    """Exposure time of the set, ns."""
    pictures: Pictures
    """What the network eats."""
    prepare_ns: int
    """What that took."""


class Reconstructor:
    """Makes meshes from the frame sets of one calibration.

    `prepare` and `infer` may run in two threads at once; each of them in one thread at a time. `close` it.

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
        """`bf16` if any graph is computed in it, else `f32`."""
        return "bf16" if any(graph.precision == "bf16" for graph in self.graphs.values()) else "f32"

    @property
    def views(self) -> frozenset[str]:
        """Cameras that the network looks through."""
        return self._pictures.views

    def prepare(self, frame_set: FrameSet) -> Prepared:
        """Decode and resize the pictures of a set.

        Raises:
            CalibrationError: a picture's size does not fit its calibration; names the camera.
            WireError: a picture is damaged; names the camera.
        """
        start = time.perf_counter_ns()
        pictures = self._pictures(frame_set)
        spent = time.perf_counter_ns() - start
        return Prepared(frame_set.frame_id, frame_set.exposure_time_ns, pictures, spent)

    def infer(self, prepared: Prepared) -> MeshFrame:
        """Run the network.

        Returns:
            The mesh. `stages_ns` has `prepare`, `network`, and each stage of the network as `network.<stage>`.

        Raises:
            EngineError: the engine failed, or the result is not finite.
            ModelError: the network's vertices are not those of the topology.
        """
        start = time.perf_counter_ns()
        result = self._network.run(prepared.pictures.values, prepared.pictures.mask)
        spent = time.perf_counter_ns() - start
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
                f"set {prepared.frame_id}: model '{self.model.name}' gave vertices that are not finite; "
                "set inference.precision = 'f32', or check the calibration"
            )
        stages = {f"network.{name}": int(ns) for name, ns in result.stages_ns.items()}
        return MeshFrame(
            frame_id=prepared.frame_id,
            exposure_time_ns=prepared.exposure_time_ns,
            publish_time_ns=0,
            topology_id=topology.id,
            vertices=vertices,
            world_from_head=pose,
            views=prepared.pictures.views,
            stages_ns={"prepare": prepared.prepare_ns, "network": spent, **stages},
        )

    def __call__(self, frame_set: FrameSet) -> MeshFrame:
        """Reconstruct one set; see `prepare` and `infer`."""
        return self.infer(self.prepare(frame_set))

    def close(self) -> None:
        """End the decoding threads."""
        self._pictures.close()

    def __enter__(self) -> "Reconstructor":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
