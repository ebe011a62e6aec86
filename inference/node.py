"""The inference process: frames from the bus, frame sets, the pipeline, meshes to the bus, and an exact account.

Three threads write: this one receives and assembles, the pipeline's last stream publishes meshes, the heartbeat sends
Health. A set that cannot be reconstructed is counted and told in Health; it never ends the process.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from inference.config import InferenceConfig
from inference.engines import Graph
from inference.ledger import Ledger
from inference.meter import Meter
from inference.model_store import ModelFiles, load_model
from inference.networks import NetworkFactory, compile_graphs, own_network
from inference.pipeline import Outcome, Pipeline
from inference.reconstruct import Reconstructor, stage_times
from inference.tempeh.tracking import Tracker
from streamer.assembler import Assembler
from streamer.config import BusConfig, SyncConfig
from streamer.processes import HealthBeat, Vitals
from streamer.transport import Publisher, Subscriber, endpoint_for, node_endpoints
from streamer.types import Calibration, Camera, Frame, FrameSet, Health, MeshFrame
from streamer.wire import Message

log = logging.getLogger(__name__)

CHANNELS = ("frame", "calibration", "health")
REPEAT_S = 1.0
"""Period of the topology: what a late joiner waits for at most."""
WAIT_S = 0.05
"""Longest wait for a message: bounds how late the end of the run is noticed."""
QUIET_S = 0.2
"""At the end the bus counts as empty once nothing came for this long."""
LAST_S = 2.0
"""Longest time spent at the end on counting what still comes."""
GOES_ON_S = 0.3
"""A frame published so long after inference was told to stop shows a node that goes on: the next life counts those."""
NO_CALIBRATION = "no calibration yet: waiting for a camera node"
TROUBLE_S = 5.0
"""How long an error stays in Health."""


def run_infer(
    config: InferenceConfig,
    bus: BusConfig,
    sync: SyncConfig,
    *,
    stop: threading.Event,
    seconds: float | None = None,
    network: NetworkFactory | None = None,
    bound: Callable[[str], object] | None = None,
) -> dict[str, int]:
    """Turn frames into meshes until told to stop, or for some time.

    Args:
        config: model and engine.
        bus: where frames come from and meshes go to.
        sync: how frames become sets.
        stop: ends the run cleanly: what is in the network is finished, what waits is counted, and a last Health holds
            the final counters.
        seconds: length of the run; None: no limit.
        network: makes the network; tests put a small one here. None: the model's own, which follows the head from set
            to set if `config` says so.
        bound: told the endpoint that was bound.

    Returns:
        The final counters.

    Raises:
        ModelError: the model is absent or damaged.
        EngineError: the engine cannot run here.
        MissingExtra: the engine's package is not installed.
        CalibrationError: the rig's calibration cannot be used with the model.
        ConfigError: `sync` does not fit the rig.
        TransportError: the port is in use or not safe to bind; or a camera with policy `stop` is missing.
    """
    end_s = math.inf if seconds is None else time.monotonic() + seconds
    with Publisher(endpoint_for(bus, "infer"), keys_dir=bus.keys_dir) as publisher:
        if bound is not None:
            bound(publisher.endpoint)
        model = load_model(config.model)
        node = _Node(model, config, sync, publisher, network, merge=len(node_endpoints(bus)) > 1)
        with HealthBeat(publisher, "infer", node.vitals):
            # A camera node that runs already tells of its cameras each second: the engine is not waited for first.
            with Subscriber(node_endpoints(bus), ("calibration",), keys_dir=bus.keys_dir) as early:
                graphs = compile_graphs(model, config.engine, config.precision, config.threads)
                known = early.drain()
            used = ", ".join(sorted({graph.precision for graph in graphs.values()}))
            log.info("model '%s' (%s) on %s in %s", model.name, model.id, config.engine, used or "no graph")
            with Subscriber(node_endpoints(bus), CHANNELS, keys_dir=bus.keys_dir) as subscriber:
                node.run(subscriber, graphs, stop, end_s, known)
        return dict(node.vitals().counters)


class _Node:
    """The state of one run. `run` belongs to one thread, `_deliver` to the pipeline's, `vitals` to the heartbeat's."""

    def __init__(
        self,
        model: ModelFiles,
        config: InferenceConfig,
        sync: SyncConfig,
        publisher: Publisher,
        network: NetworkFactory | None,
        *,
        merge: bool,
    ) -> None:
        self._model, self._config, self._sync, self._publisher = model, config, sync, publisher
        self._network, self._merge = network, merge
        self._tracker: Tracker | None = None
        self._followed: Counter[str] = Counter()
        self._graphs: dict[str, Graph] = {}
        self._ledger = Ledger()
        self._meter = Meter()
        self._counts: Counter[str] = Counter(meshes=0, errors=0)
        self._sets: Counter[str] = Counter()
        self._state = "starting"
        self._trouble = ("", -math.inf)
        self._cameras: dict[str, Camera] = {}
        self._assembler: Assembler | None = None
        self._reconstructor: Reconstructor | None = None
        self._pipeline: Pipeline[FrameSet, MeshFrame] | None = None

    def run(
        self,
        subscriber: Subscriber,
        graphs: dict[str, Graph],
        stop: threading.Event,
        end_s: float,
        known: Sequence[tuple[str, Message]] = (),
    ) -> None:
        self._graphs = graphs
        self._state = "running"
        try:
            for _, message in known:
                self._take(message)
            self._run_until_stopped(subscriber, stop, end_s)
        finally:
            self._state = "stopping"
            self._finish(subscriber)

    def vitals(self) -> Vitals:
        """What the heartbeat says."""
        assembler = self._assembler
        counters = self._ledger.counters({} if assembler is None else assembler.unused)
        sets = self._sets + Counter({} if assembler is None else assembler.sets)
        counters |= {f"sets.{kind}": sets[kind] for kind in ("assembled", "complete", "partial", "dropped")}
        counters |= {f"tracking.{kind}": count for kind, count in self._tracking().items()}
        message, since_s = self._trouble
        if time.monotonic() - since_s > TROUBLE_S:
            message = ""
        if not message and self._state == "running" and self._pipeline is None:
            known = list(self._cameras)
            message = f"so far only {', '.join(known)}: waiting for other camera nodes" if known else NO_CALIBRATION
        state = "degraded" if message and self._state == "running" and self._pipeline is not None else self._state
        return Vitals(state, counters | self._counts, self._meter.gauges(time.monotonic_ns()), message)

    def _run_until_stopped(self, subscriber: Subscriber, stop: threading.Event, end_s: float) -> None:
        repeat_s = -math.inf
        while not stop.is_set() and (now_s := time.monotonic()) < end_s:
            if now_s >= repeat_s:
                repeat_s = now_s + REPEAT_S
                self._publisher.send("topology", self._model.topology)
            first = subscriber.receive(self._patience_s())
            self._ledger.overwritten(subscriber.rejected.get("overwritten", 0))
            for _, message in [] if first is None else [first, *subscriber.drain()]:
                self._take(message)
            if self._assembler is not None:
                self._submit(self._assembler.poll(time.monotonic_ns()))

    def _patience_s(self) -> float:
        deadline_ns = None if self._assembler is None else self._assembler.next_deadline_ns
        if deadline_ns is None:
            return WAIT_S
        return min(WAIT_S, max(0.001, (deadline_ns - time.monotonic_ns()) / 1e9))

    def _take(self, message: Message) -> None:
        if isinstance(message, Frame):
            self._ledger.arrived(message.camera, message.sequence)
            if self._assembler is None:
                self._ledger.refuse("before-calibration")
            else:
                self._submit(self._assembler.push(message, time.monotonic_ns()))
        elif isinstance(message, Calibration):
            self._calibrate(message)
        elif isinstance(message, Health):
            self._ledger.announced(message.counters)

    def _submit(self, sets: list[FrameSet]) -> None:
        for frame_set in sets:
            if self._pipeline is None:
                self._ledger.waste(frame_set, "after-stop")
            elif (superseded := self._pipeline.submit(frame_set)) is not None:
                self._ledger.waste(superseded, "superseded")

    def _calibrate(self, calibration: Calibration) -> None:
        """Take a calibration; if it differs from the one in use, finish what belongs to that and begin anew."""
        cameras = {camera.id: camera for camera in calibration.cameras}
        if self._merge:  # each camera host tells of its own cameras
            cameras = self._cameras | cameras
        if cameras.keys() == self._cameras.keys() and all(_same(cameras[i], self._cameras[i]) for i in cameras):
            return
        if self._assembler is not None:
            log.warning("the calibration has changed: %d cameras", len(cameras))
            self._submit(self._assembler.flush(time.monotonic_ns()))
        self._retire(drain=True)
        self._cameras = cameras
        if self._merge and not self._enough():
            return
        whole = Calibration(tuple(cameras.values()), calibration.source)
        self._reconstructor = Reconstructor(
            self._model, whole, threads=self._config.threads, graphs=self._graphs, network=self._make_network()
        )
        self._assembler = Assembler(whole.ids, self._sync)
        self._pipeline = self._reconstructor.pipeline(self._deliver, mode="latest")

    def _make_network(self) -> NetworkFactory:
        """Return what makes the network; nothing that was known of the head before holds for another calibration."""
        if self._network is not None:
            return self._network
        self._followed, self._tracker = self._tracking(), Tracker() if self._config.track else None
        chosen = self._config
        return partial(
            own_network,
            tracker=self._tracker,
            threads=chosen.threads,
            engine=chosen.engine,
            precision=chosen.precision,
        )

    def _tracking(self) -> Counter[str]:
        """Sets so far that were tracked, localised and lost."""
        tracker = self._tracker
        return self._followed + Counter({} if tracker is None else tracker.counters)

    def _enough(self) -> bool:
        """Whether the camera hosts that have spoken make a rig; a host alone may have fewer cameras than that takes."""
        return len(self._cameras) >= max(2, self._sync.min_cameras) and self._cameras.keys() >= {*self._sync.per_camera}

    def _retire(self, *, drain: bool) -> None:
        """End pipeline, assembler and reconstructor; what was not started is counted as `after-stop`."""
        pipeline, self._pipeline = self._pipeline, None
        assembler, self._assembler = self._assembler, None
        reconstructor, self._reconstructor = self._reconstructor, None
        if assembler is not None:
            self._ledger.add(assembler.unused)
            self._sets.update(assembler.sets)
        try:
            if pipeline is not None:
                for frame_set in pipeline.close(drain=drain):
                    self._ledger.waste(frame_set, "after-stop")
        finally:
            if reconstructor is not None:
                reconstructor.close()

    def _deliver(self, outcome: Outcome[FrameSet, MeshFrame]) -> None:
        """Publish a mesh, or note why there is none; called by the pipeline in its last stream."""
        frame_set, mesh, timing = outcome.item, outcome.result, outcome.timing
        if mesh is None:
            self._counts["errors"] += 1
            self._ledger.waste(frame_set, "failed")
            self._trouble = (f"{self._counts['errors']} sets failed, the last: {outcome.error}", time.monotonic())
            return
        now_ns, publish_ns = time.monotonic_ns(), time.time_ns()
        times = stage_times(timing.spans)
        stages = {name: ns for name, ns in times.items() if "." not in name}
        stages |= {"wait": timing.wait_ns, "publish": now_ns - timing.end_ns}
        self._publisher.send("mesh", replace(mesh, publish_time_ns=publish_ns, stages_ns=stages))
        self._ledger.use(frame_set, mesh.views)
        self._counts["meshes"] += 1
        figures = {f"stage_ms.{name}": ns / 1e6 for name, ns in times.items() if "." in name}
        figures |= {
            "overhead_ms": (stages["prepare"] + stages["wait"] + stages["publish"]) / 1e6,
            "queue_ms": timing.queue_ns / 1e6,
            "network_ms": stages["network"] / 1e6,
            "latency_ms": (publish_ns - _began_ns(frame_set)) / 1e6,
            "skew_us": frame_set.skew_ns / 1e3,
            "views": float(len(mesh.views)),
        }
        self._meter.add(now_ns, figures)

    def _finish(self, subscriber: Subscriber) -> None:
        """Count what still comes, end the pipeline, close the account."""
        deadline_s, ends_ns = time.monotonic() + LAST_S, time.time_ns() + round(GOES_ON_S * 1e9)
        while (left_s := deadline_s - time.monotonic()) > 0:
            received = subscriber.receive(min(QUIET_S, left_s))
            if received is None:
                break
            self._ledger.overwritten(subscriber.rejected.get("overwritten", 0))
            if isinstance(received[1], Frame):
                self._ledger.arrived(received[1].camera, received[1].sequence)
                self._ledger.refuse("after-stop")
                if received[1].publish_time_ns > ends_ns:
                    break
            elif isinstance(received[1], Health):
                self._ledger.announced(received[1].counters)
        if self._assembler is not None:
            for frame_set in self._assembler.flush(time.monotonic_ns()):
                self._ledger.waste(frame_set, "after-stop")
        try:
            self._retire(drain=False)
        finally:
            self._ledger.overwritten(subscriber.rejected.get("overwritten", 0))
            self._ledger.close()


def _began_ns(frame_set: FrameSet) -> int:
    """When latency begins: the exposure, if this host's clock stamped it; else the arrival on the camera host."""
    first = next(iter(frame_set.members.values()))
    return frame_set.exposure_time_ns if first.clock == "host" else first.receive_time_ns


def _same(a: Camera, b: Camera) -> bool:
    arrays = ("K", "distortion", "camera_from_world")
    return (a.id, a.serial, a.width, a.height) == (b.id, b.serial, b.width, b.height) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays
    )
