"""The networks that models are of, made for a rig: what a reconstructor asks of one, and who compiles its graphs."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from inference.devices import BufferSpec, Device, Space
from inference.engines import Graph, Precision, open_engine
from inference.model_store import ModelFiles
from inference.precision import decision_file, harmless, keep_decision, kept_decision, plan_folder
from inference.schedule import Stage
from streamer.errors import ModelError
from streamer.types import F32, U8, Camera

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


@runtime_checkable
class Closing(Protocol):
    """A network that holds threads."""

    def close(self) -> None:
        """End them."""


@runtime_checkable
class OnDevice(StagedNetwork, Protocol):
    """A network whose stages run on a device of their own, and only in a `Pipeline` on it."""

    @property
    def device(self) -> Device:
        """The device; the pipeline's from its start on."""

    @property
    def buffers(self) -> Mapping[str, BufferSpec]:
        """What every slot holds."""

    @property
    def spaces(self) -> Mapping[str, Space]:
        """Where each stream's work runs."""


NetworkFactory = Callable[[ModelFiles, Mapping[str, Graph], Sequence[Camera]], Network]
"""Makes a network of a model, its compiled graphs, and the cameras of the pictures (at most `max_views`, by slot)."""


def own_network(
    model: ModelFiles,
    graphs: Mapping[str, Graph],
    cameras: Sequence[Camera],
    tracker: "Tracker | None" = None,
    threads: int = 0,
    engine: str = "openvino",
    precision: Precision = "f32",
) -> Network:
    """Make the network that a model is of: a live or a published one.

    Args:
        model: the model.
        graphs: of `compile_graphs`.
        cameras: of the pictures.
        tracker: see `live_network`; a published network looks at every set for itself.
        threads: threads of a published network's compiled code; 0: half of all cores.
        engine: what runs a published network.
        precision: of a published network's nets, where the engine has a choice.

    Raises:
        ModelError: the graphs are for another number of views, or the weights do not fit.
        CalibrationError: the network cannot work with these cameras.
        EngineError: the engine cannot run a network of these sizes.
    """
    if model.manifest.published is None:
        return live_network(model, graphs, cameras, tracker=tracker)
    from inference.published import published_network

    return published_network(model, graphs, cameras, engine, precision, share_of_cores(threads))


def share_of_cores(threads: int) -> int:
    """Return a number of threads: as asked for, or for 0 half of all cores, since stages of two sets overlap.

    That gives more meshes than all cores for each stage in turn.
    """
    return threads or max(1, len(os.sched_getaffinity(0)) // 2)


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
        threads: threads of a run; see `share_of_cores`.

    Raises:
        EngineError: the engine cannot run here, or cannot compile a graph.
        MissingExtra: its package is not installed.
    """
    threads = share_of_cores(threads)
    if model.manifest.published is not None:
        from inference.published import compile_published

        return compile_published(model, engine, precision, threads)
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
