"""Where messages come from: the bus, or a take played along a time line."""

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

import numpy as np

from renderer.viewer.state import Message, Rewind, Truth
from renderer.viewer.timeline import Timeline
from streamer.config import BusConfig
from streamer.errors import MienError, TakeError, TransportError
from streamer.takes import Take, open_take
from streamer.transport import Subscriber, endpoint_for, infer_endpoint, node_endpoints
from streamer.types import MeshFrame

CHANNELS = ("mesh", "topology", "calibration", "frame", "health", "truth")
_HEALTH_BACK = 12
_BEFORE = 8
_BEAT_NS = 1_100_000_000
"""A heartbeat tells of the second before it: those of the second after a moment are the ones that know of it."""


class Source(Protocol):
    """Delivers messages without waiting."""

    name: str
    """For people: `bus`, or the name of the take."""
    live: bool
    """Whether times of arrival mean anything."""

    def drain(self, now_s: float) -> list[Message]:
        """Return all that has come up to `now_s` of a monotonic clock, oldest first."""

    @property
    def timeline(self) -> Timeline | None:
        """Of a take; None for what cannot be wound back."""

    def wait(self, stop: Event, seconds: float) -> None:
        """Rest until something comes, but not longer than this."""

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""

    def nothing_came(self, waited_s: float) -> MienError:
        """Explain that there was no mesh."""

    def close(self) -> None:
        """Let go of it."""


class BusSource:
    """The live system. It may be absent, go away and come back: the sockets connect again by themselves.

    Args:
        bus: where to connect.
    """

    name = "bus"
    live = True
    ended = False

    def __init__(self, bus: BusConfig) -> None:
        """Connect."""
        endpoints = [*node_endpoints(bus), infer_endpoint(bus), endpoint_for(bus, "record"), endpoint_for(bus, "demo")]
        self._endpoints = list(dict.fromkeys(endpoints))
        self._infer = infer_endpoint(bus)
        self._subscriber = Subscriber(self._endpoints, CHANNELS, keys_dir=bus.keys_dir)
        self._first: tuple[str, Message] | None = None

    @property
    def timeline(self) -> Timeline | None:
        """None: live."""
        return None

    def wait(self, stop: Event, seconds: float) -> None:
        """Rest until a message comes."""
        if self._first is None:
            self._first = self._subscriber.receive(seconds)

    def drain(self, now_s: float) -> list[Message]:
        """Return all that waits."""
        first, self._first = self._first, None
        return [
            Truth(message) if channel == "truth" and isinstance(message, MeshFrame) else message
            for channel, message in [*([first] if first is not None else []), *self._subscriber.drain()]
        ]

    def nothing_came(self, waited_s: float) -> MienError:
        """Name the endpoint, and what to start."""
        refused = ", ".join(f"{count} {reason}" for reason, count in self._subscriber.rejected.items())
        note = f" ({refused}: {self._subscriber.last_rejection})" if refused else ""
        return TransportError(
            f"no mesh arrived from {self._infer} in {waited_s:.1f} s{note}; start `mien live`, or `mien node` "
            "and `mien infer`"
        )

    def close(self) -> None:
        """Disconnect."""
        self._subscriber.close()


@dataclass(slots=True)
class _Place:
    """What has been delivered of a take."""

    row: int = -1
    """Of the mesh."""
    health: int = 0
    """Entries of health."""


class TakeSource:
    """A recorded take, played along a time line from mesh to mesh, each with the pictures it was made from.

    Args:
        path: folder of the take.
        loop: begin again at the end. Where a person turns that off it stands at its end, and has not ended.

    Raises:
        TakeError: the take cannot be read, or holds no mesh.
    """

    live = False

    def __init__(self, path: Path, *, loop: bool) -> None:
        """Open the take."""
        self._take: Take = open_take(path)
        self.name = f"{path.resolve().parent.name} / {path.resolve().name}"
        channel = next((name for name in ("mesh", "truth") if len(self._take.meshes(name))), None)
        if channel is None:
            self._take.close()
            raise TakeError(f"{path} holds no mesh; run: mien reprocess {path} --out TAKE2, and view that")
        self._meshes = self._take.meshes(channel)
        self._truths = self._take.meshes("truth")
        order = np.argsort(self._meshes.times_ns, kind="stable")
        self._order = order
        marks = [(marker.time_ns, marker.text) for marker in self._take.info.markers]
        self.line = Timeline(self._meshes.times_ns[order].tolist(), looping=loop, marks=marks)
        self._once = not loop
        self._sets = {int(frame_id): row for row, frame_id in enumerate(self._take.sets.frame_ids)}
        health = self._take.topics.get("health")
        self._health = health if health is not None else np.empty(0, [("log_time", np.int64)])
        logged = self._take.topics[channel]
        self._logged = dict(zip(logged["frame_id"].tolist(), logged["log_time"].tolist(), strict=True))
        self._place = _Place()

    @property
    def timeline(self) -> Timeline | None:
        """Where it is played."""
        return self.line

    def drain(self, now_s: float) -> list[Message]:
        """Return the moment of the time line, when it is another one than before."""
        row = self.line.advance(now_s)
        if row == self._place.row:
            return []
        due: list[Message] = []
        if self._place.row < 0:
            due += [self._take.calibration, *self._take.topologies.values()]
        mesh = self._meshes[int(self._order[row])]
        jumped = not 0 <= row - self._place.row <= _BEFORE
        first = max(row - _BEFORE, 0) if jumped else self._place.row + 1
        if jumped:
            due.append(Rewind())
        # What was before it belongs to it: its speed, its onion skins.
        due += [self._meshes[int(self._order[earlier])] for earlier in range(first, row)]
        due += self._health_until(self._logged.get(mesh.frame_id, 0), anew=jumped)
        self._place.row = row
        number = self._sets.get(mesh.frame_id)
        if number is not None:
            due += self._take.sets[number].members.values()
        truth = self._truths.at_frame(mesh.frame_id)
        return [*due, *([Truth(truth)] if truth is not None else []), mesh]

    def wait(self, stop: Event, seconds: float) -> None:
        """Rest."""
        stop.wait(seconds)

    def _health_until(self, log_time_ns: int, *, anew: bool) -> list[Message]:
        """Heartbeats up to a moment: those since the moment before, or the last few after a jump."""
        until = int(np.searchsorted(self._health["log_time"], log_time_ns + _BEAT_NS, "right"))
        first = max(until - _HEALTH_BACK, 0)
        if not anew:
            first = max(first, self._place.health)
        self._place.health = until
        beats: list[Message] = [self._take.read(entry) for entry in self._health[first:until]]
        return beats

    @property
    def ended(self) -> bool:
        """Whether the take was opened to be played once, and has been."""
        return self._once and self._place.row >= 0 and self.line.ended

    def nothing_came(self, waited_s: float) -> MienError:
        """Say so."""
        return TakeError(
            f"{self._take.path}: no mesh in its first {waited_s:.1f} s that could be shown; give more --seconds"
        )

    def close(self) -> None:
        """Close the take."""
        self._take.close()
