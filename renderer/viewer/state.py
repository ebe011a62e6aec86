"""What the viewer knows, built from messages alone. Pure: no socket, no clock, no OpenGL; time is an argument."""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from renderer.viewer.figures import Connection, Figures, Window
from renderer.viewer.history import PictureHistory
from streamer.types import Calibration, Frame, Health, MeshFrame, Topology


@dataclass(frozen=True, slots=True)
class Truth:
    """The true mesh of the simulated rig."""

    mesh: MeshFrame
    """Of one frame set."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """A take was wound back: heartbeats of later moments do not count any more."""


Number = TypeVar("Number", int, float)
Message = Frame | Calibration | Topology | MeshFrame | Health | Truth | Rewind

STALE_NS = 1_000_000_000
"""A live mesh older than this is shown as stale."""
_HEARTBEAT_NS = 3_500_000_000
_TOPOLOGIES = 8
_SETS = 96
_TRUTHS = 48
_EARLIER = 10
_TAKE = "take_begun_s."
_LOSSES = ("dropped-by-camera.", "dropped-in-queue.")


class ViewState:
    """The newest of everything, and counts.

    Meshes whose topology has not arrived wait for it; the last drawable mesh stays on screen meanwhile. Nothing that
    arrives can put the viewer into a state it does not leave when good messages come again.

    Args:
        source: name shown on screen.
        live: whether arrival times mean anything; False for a recorded take.
    """

    def __init__(self, source: str, *, live: bool = True) -> None:
        """Start with nothing known."""
        self.source = source
        self.live = live
        self.calibration: Calibration | None = None
        self.topology: Topology | None = None
        self.mesh: MeshFrame | None = None
        self.meshes = 0
        self.refused: Counter[str] = Counter()
        self.notice = ""
        """What this viewer itself has to say, for the screen; what a process says comes first."""
        self._topologies: OrderedDict[str, Topology] = OrderedDict()
        self._pending: MeshFrame | None = None
        self._pictures: dict[str, PictureHistory] = {}
        self._exposures: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._health: dict[str, tuple[int, Health]] = {}
        self._last_mesh_ns: int | None = None
        self._arrivals = Window(2.0)
        self._latency = Window(10.0)
        self._screen = Window(5.0)
        self._draws = Window(2.0)
        self._drawn: MeshFrame | None = None
        self._truths: OrderedDict[int, MeshFrame] = OrderedDict()
        self._rewound = False
        self.earlier: deque[MeshFrame] = deque(maxlen=_EARLIER)
        """Meshes that were shown before the one that is, the newest last; all of its topology."""

    def apply(self, message: Message, now_ns: int) -> None:
        """Take in one message at CLOCK_REALTIME `now_ns`."""
        match message:
            case Frame():
                self._take_frame(message)
            case MeshFrame():
                self._take_mesh(message, now_ns)
            case Topology():
                self._take_topology(message)
            case Calibration():
                self._take_calibration(message)
            case Health():
                self._health[message.process] = (now_ns, message)
            case Truth():
                self._truths[message.mesh.frame_id] = message.mesh
                while len(self._truths) > _TRUTHS:
                    self._truths.popitem(last=False)
            case Rewind():
                self._health.clear()
                self.earlier.clear()
                self._rewound = True
                self._arrivals, self._latency = Window(2.0), Window(10.0)

    def _take_frame(self, frame: Frame) -> None:
        history = self._pictures.setdefault(frame.camera, PictureHistory())
        history.push(frame)
        first, last = self._exposures.get(frame.frame_id, (frame.exposure_time_ns, frame.exposure_time_ns))
        self._exposures[frame.frame_id] = (min(first, frame.exposure_time_ns), max(last, frame.exposure_time_ns))
        while len(self._exposures) > _SETS:
            self._exposures.popitem(last=False)

    def _take_calibration(self, calibration: Calibration) -> None:
        self.calibration = calibration
        for camera in set(self._pictures) - set(calibration.ids):
            del self._pictures[camera]

    def _take_topology(self, topology: Topology) -> None:
        self._topologies[topology.id] = topology
        self._topologies.move_to_end(topology.id)
        while len(self._topologies) > _TOPOLOGIES:
            self._topologies.popitem(last=False)
        if self._pending is not None and self._pending.topology_id == topology.id:
            pending, self._pending = self._pending, None
            self._show(pending, topology)

    def _take_mesh(self, mesh: MeshFrame, now_ns: int) -> None:
        self._last_mesh_ns = now_ns
        moment_ns = now_ns if self.live else mesh.exposure_time_ns  # a take has its own time
        self._arrivals.push(moment_ns)
        if mesh.publish_time_ns > 0 and mesh.exposure_time_ns > 0:
            self._latency.push(moment_ns, (mesh.publish_time_ns - mesh.exposure_time_ns) / 1e6)
        topology = self._topologies.get(mesh.topology_id)
        if topology is None:
            self._pending = mesh
        else:
            self._pending = None
            self._show(mesh, topology)

    def _show(self, mesh: MeshFrame, topology: Topology) -> None:
        if mesh.vertices.shape != (topology.vertex_count, 3):
            self.refused["mesh-of-wrong-size"] += 1
        elif not np.isfinite(mesh.vertices).all():
            self.refused["mesh-not-finite"] += 1
        else:
            if self.mesh is not None and self.mesh.topology_id != mesh.topology_id:
                self.earlier.clear()
            elif self.mesh is not None and self.mesh.frame_id != mesh.frame_id and not self._rewound:
                self.earlier.append(self.mesh)
            self._rewound = False
            self.mesh, self.topology = mesh, topology
            self.meshes += 1

    def truth(self, mesh: MeshFrame) -> MeshFrame | None:
        """Return the true mesh of the same frame set and topology, where there is one."""
        found = self._truths.get(mesh.frame_id)
        return found if found is not None and found.topology_id == mesh.topology_id else None

    def picture(self, camera: str) -> Frame | None:
        """Return the frame to show for a camera: that of the mesh on screen, or the newest while there is no mesh."""
        history = self._pictures.get(camera)
        if history is None:
            return None
        if self.mesh is None:
            return history.newest
        return history.match(self.mesh.frame_id, self.mesh.exposure_time_ns)

    def refuse(self, reason: str) -> None:
        """Count a message that turned out to be unusable."""
        self.refused[reason] += 1

    def mark_drawn(self, now_ns: int) -> None:
        """Note that what is known now has been put on the screen."""
        self._draws.push(now_ns)
        if self.mesh is not None and self.mesh is not self._drawn:
            self._drawn = self.mesh
            if self.live and self.mesh.publish_time_ns > 0:
                self._screen.push(now_ns, (now_ns - self.mesh.publish_time_ns) / 1e6)

    def figures(self, now_ns: int) -> Figures:
        """Sum up for the screen."""
        mesh = self.mesh
        moment_ns = now_ns if self.live or mesh is None else mesh.exposure_time_ns
        counters = {name: health.counters for name, (_, health) in self._health.items()}
        take, begun_s = self._recording(now_ns)
        return Figures(
            source=self.source,
            connection=self.connection(now_ns),
            silent_s=0.0 if self._last_mesh_ns is None else max(now_ns - self._last_mesh_ns, 0) / 1e9,
            frame_id=None if mesh is None else mesh.frame_id,
            timecode=self._timecode(),
            mesh_rate=self._arrivals.rate(moment_ns),
            screen_rate=self._draws.rate(now_ns),
            exposure_to_mesh_ms=self._latency.spread(moment_ns),
            mesh_to_screen_ms=self._screen.spread(now_ns),
            trace_ms=self._latency.trace(moment_ns),
            skew_us=self._skew_us(),
            views=0 if mesh is None else len(mesh.views),
            cameras=0 if self.calibration is None else len(self.calibration.cameras),
            sets=_with_prefix(counters.get("infer", {}), "sets."),
            unused=_with_prefix(counters.get("infer", {}), "unused."),
            dropped=sum(n for name, n in counters.get("node", {}).items() if name.startswith(_LOSSES)),
            refused=dict(self.refused),
            processes=tuple(self._processes(now_ns)),
            message=self._message(now_ns),
            take=take,
            recorded_s=max(now_ns / 1e9 - begun_s, 0.0) if take else 0.0,
        )

    def _recording(self, now_ns: int) -> tuple[str, float]:
        """Name of the take that the recorder writes and when it began, CLOCK_REALTIME s; "" where it writes none."""
        seen_ns, health = self._health.get("record", (0, None))
        if health is None or not self.live or now_ns - seen_ns > _HEARTBEAT_NS:
            return "", 0.0
        named = _with_prefix(health.gauges, _TAKE)
        return next(iter(named.items()), ("", 0.0))

    def title(self, now_ns: int) -> str:
        """For the frame of a window: what is shown, and whether it is being recorded."""
        take, _ = self._recording(now_ns)
        shown = f"{take} ● REC" if take else "live" if self.live else self.source
        return f"{shown} · Mien"

    def connection(self, now_ns: int) -> Connection:
        """Say whether meshes come."""
        if self.mesh is None:
            return "waiting"
        if not self.live:
            return "take"
        return "live" if self._last_mesh_ns is not None and now_ns - self._last_mesh_ns <= STALE_NS else "stale"

    def _timecode(self) -> str:
        for camera in self._pictures:
            frame = self.picture(camera)
            if frame is not None and frame.timecode is not None:
                return frame.timecode.text
        return ""

    def _skew_us(self) -> float | None:
        """Measured here from the frames of the set; the inference process's own figure where ids do not tell sets."""
        if self.mesh is None:
            return None
        first, last = self._exposures.get(self.mesh.frame_id, (0, 0))
        if last > first:
            return (last - first) / 1e3
        _, health = self._health.get("infer", (0, None))
        if health is not None and "skew_us" in health.gauges:
            return health.gauges["skew_us"]
        return 0.0 if self.mesh.frame_id in self._exposures else None

    def _processes(self, now_ns: int) -> list[tuple[str, str]]:
        rows = []
        for name, (seen_ns, health) in sorted(self._health.items()):
            rows.append((name, health.state if now_ns - seen_ns <= _HEARTBEAT_NS or not self.live else "silent"))
        return rows

    def _message(self, now_ns: int) -> str:
        if self._pending is not None:
            return f"mesh of unknown topology {self._pending.topology_id[:8]}: waiting for its topology message"
        for name, (seen_ns, health) in sorted(self._health.items()):
            if health.message and (now_ns - seen_ns <= _HEARTBEAT_NS or not self.live):
                return f"{name}: {health.message}"
        if self.mesh is None and self.live:
            alive = {name for name, (seen_ns, _) in self._health.items() if now_ns - seen_ns <= _HEARTBEAT_NS}
            return _first_step(alive, pictures=bool(self._pictures))
        return self.notice


def _first_step(alive: set[str], *, pictures: bool) -> str:
    """What somebody who sees no head yet does next."""
    if "infer" in alive and not pictures:
        return "inference runs, but no picture comes: start mien node, or look at its cameras with mien cameras list"
    if "infer" in alive:
        return "pictures come and inference runs: waiting for its first mesh"
    if "node" in alive or pictures:
        return "pictures come, nothing makes meshes of them: start mien infer"
    return "waiting for meshes: start mien live, or mien node and mien infer; without cameras: mien demo"


def _with_prefix(counters: Mapping[str, Number], prefix: str) -> dict[str, Number]:
    return {name.removeprefix(prefix): value for name, value in counters.items() if name.startswith(prefix)}
