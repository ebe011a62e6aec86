"""The simulated rig as a camera driver: real pulses in real time, rendered pictures, true meshes."""

import dataclasses
import heapq
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ClassVar, Protocol, Self

from rig.clock import NS, Pacer, Pulses
from rig.config import RigConfig, SimulatedConfig
from rig.driver import RawFrame, TriggerMode, choose_trigger
from rig.faults import Delivery, SimulatedCameras, check_faults
from streamer.errors import DriverError
from streamer.types import U8, Calibration, MeshFrame, Topology

BUFFERED_PULSES = 8
"""Pulses that the simulated device keeps for a host which does not fetch; older pictures are lost, as in a real one."""
KEPT_TRUTHS = 64


class RenderingStage(Protocol):
    """What the driver needs of `rig.simulation.Stage`; used in the thread that made it, and only there."""

    @property
    def calibration(self) -> Calibration:
        """The cameras."""

    @property
    def topology(self) -> Topology | None:
        """Topology of the true mesh; None where there is no head."""

    def render(self, time_s: float) -> tuple[dict[str, U8], MeshFrame | None]:
        """Return the pictures of all cameras at one instant and the true head of that instant, if there is one."""

    def close(self) -> None:
        """Release the GL context."""


def gl_stage(config: SimulatedConfig) -> RenderingStage:
    """Make the real stage; imported here so that reading a configuration needs no GL."""
    from rig.simulation.board_stage import BoardStage
    from rig.simulation.lamp import LampStage
    from rig.simulation.stage import Stage

    stage = BoardStage(config) if config.board else Stage(config)
    return LampStage(stage) if config.lamp else stage


class SimulatedDriver:
    """All cameras of the simulated rig, triggered at the pulses of the host clock.

    A thread of its own holds the stage. It waits for each pulse, renders all cameras of that instant, and lets the
    simulated cameras deliver. Pulses that find it still rendering are skipped for all cameras together and counted in
    `skipped-pulses`; camera counters do not advance for them, since nothing was exposed.

    Args:
        config: the simulated rig.
        fps: trigger rate asked for.
        stage: makes the stage, called in the rendering thread.
    """

    triggers: ClassVar[tuple[TriggerMode, ...]] = ("clock",)
    can_wait: ClassVar[bool] = False

    def __init__(
        self, config: SimulatedConfig, fps: float, stage: Callable[[SimulatedConfig], RenderingStage] = gl_stage
    ) -> None:
        """Check the settings.

        Raises:
            DriverError: a fault for a camera that is not there.
        """
        check_faults(config.faults, config.cameras)
        self._config = config
        self._fps = fps
        self._pulses = Pulses.at(fps)
        self._make_stage = stage
        self._executor: ThreadPoolExecutor | None = None
        self._stage: RenderingStage | None = None
        self._pacing: Future[None] | None = None
        self._stop = threading.Event()
        self._ready = threading.Condition()
        self._arrivals: list[tuple[int, int, Delivery]] = []
        self._order = itertools.count()
        self._truths: deque[MeshFrame] = deque(maxlen=KEPT_TRUTHS)
        self._counters: Counter[str] = Counter()

    @classmethod
    def from_config(cls, rig: RigConfig) -> Self:
        """Build the driver of `[rig.simulated]`."""
        return cls(rig.simulated, rig.fps)

    @property
    def calibration(self) -> Calibration:
        """The cameras of the stage."""
        return self._opened().calibration

    @property
    def topologies(self) -> Sequence[Topology]:
        """The topology of the simulated head, if there is one."""
        topology = self._opened().topology
        return () if topology is None else (topology,)

    @property
    def fps(self) -> float:
        """The rate asked for: pulses that are skipped leave gaps in the numbers."""
        return self._fps

    @property
    def counters(self) -> Mapping[str, int]:
        """`skipped-pulses`, `device-overruns`, and the injected faults."""
        with self._ready:
            return dict(self._counters)

    def open(self) -> None:
        """Make the stage in the rendering thread; what it raises is raised here."""
        if self._executor is not None:
            raise DriverError("the simulated rig is open already; close it first")
        executor = ThreadPoolExecutor(1, thread_name_prefix="stage")
        try:
            self._stage = executor.submit(self._make_stage, self._config).result()
        except BaseException:
            executor.shutdown()
            raise
        self._executor = executor

    def arm(self, trigger: TriggerMode) -> None:
        """Expose from the next pulse on."""
        stage = self._opened()
        choose_trigger("simulated", self.triggers, trigger)
        if self._pacing is not None or self._executor is None:
            raise DriverError("the simulated rig is armed already; close it first")
        cameras = SimulatedCameras(stage.calibration.ids, self._config.faults, self._config.seed, time.time_ns())
        self._stop.clear()
        self._pacing = self._executor.submit(self._pace, stage, cameras)
        self._pacing.add_done_callback(self._wake)

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        """Return the picture that arrived longest ago; what the rendering thread raises is raised here."""
        if self._pacing is None:
            raise DriverError("the simulated rig is not armed; call arm first")
        deadline = time.monotonic() + timeout_s
        with self._ready:
            while True:
                if self._arrivals and self._arrivals[0][0] <= time.time_ns():
                    return heapq.heappop(self._arrivals)[2].frame
                if self._pacing.done():
                    self._pacing.result()
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    return None
                due_s = (self._arrivals[0][0] - time.time_ns()) / NS if self._arrivals else remaining_s
                self._ready.wait(max(min(remaining_s, due_s), 0.0))

    def take_truths(self) -> list[MeshFrame]:
        """Return the true heads of the pulses rendered since the last call."""
        with self._ready:
            truths = list(self._truths)
            self._truths.clear()
        return truths

    def close(self) -> None:
        """Stop, and release the stage in its own thread; pictures that were not fetched are gone."""
        if self._executor is None:
            return
        self._stop.set()
        try:
            if self._stage is not None:
                self._executor.submit(self._stage.close).result()
        finally:
            self._executor.shutdown()
            self._executor = self._stage = self._pacing = None
            self._arrivals.clear()

    def _opened(self) -> RenderingStage:
        if self._stage is None:
            raise DriverError("the simulated rig is not open; call open first")
        return self._stage

    def _wake(self, _: Future[None]) -> None:
        with self._ready:
            self._ready.notify_all()

    def _pace(self, stage: RenderingStage, cameras: SimulatedCameras) -> None:
        pacer = Pacer(self._pulses, time.time_ns())
        first: int | None = None
        while True:
            now_ns = time.time_ns()
            pulse = pacer.next(now_ns)
            if self._stop.wait(max(pulse.exposure_ns - now_ns, 0) / NS):
                return
            first = pulse.number if first is None else first
            time_s = float((pulse.number - first) / self._pulses.rate)
            pictures, truth = stage.render(time_s)
            late = stage.render(time_s + cameras.skew_ns / NS)[0] if cameras.skew_ns else pictures
            deliveries = cameras.expose(pulse, pictures, late)
            if truth is not None:
                truth = dataclasses.replace(truth, frame_id=pulse.number, exposure_time_ns=pulse.exposure_ns)
            self._deliver(deliveries, truth, pulse.skipped, cameras)

    def _deliver(
        self, deliveries: Sequence[Delivery], truth: MeshFrame | None, skipped: int, cameras: SimulatedCameras
    ) -> None:
        with self._ready:
            for delivery in deliveries:
                heapq.heappush(self._arrivals, (delivery.due_ns, next(self._order), delivery))
            limit, now_ns = BUFFERED_PULSES * self._config.cameras, time.time_ns()
            while len(self._arrivals) > limit and self._arrivals[0][0] <= now_ns:
                heapq.heappop(self._arrivals)
                self._counters["device-overruns"] += 1
            if truth is not None:
                self._truths.append(truth)
            self._counters["skipped-pulses"] += skipped
            self._counters.update(cameras.counters)
            cameras.counters.clear()
            self._ready.notify_all()
