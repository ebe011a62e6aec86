"""Where messages come from: the bus, or a take played at its own pace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from renderer.viewer.state import Message
from streamer.config import BusConfig
from streamer.errors import MienError, TakeError, TransportError
from streamer.takes import Take, open_take
from streamer.transport import Subscriber, endpoint_for, infer_endpoint, node_endpoints

CHANNELS = ("mesh", "topology", "calibration", "frame", "health")


class Source(Protocol):
    """Delivers messages without waiting."""

    name: str
    """For people: `bus`, or the name of the take."""
    live: bool
    """Whether times of arrival mean anything."""

    def drain(self, now_s: float) -> list[Message]:
        """Return all that has come up to `now_s` of a monotonic clock, oldest first."""

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

    def drain(self, now_s: float) -> list[Message]:
        """Return all that waits."""
        return [message for _, message in self._subscriber.drain()]

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


class TakeSource:
    """A recorded take, played as it was logged.

    Args:
        path: folder of the take.
        loop: begin again at the end.

    Raises:
        TakeError: the take cannot be read, or holds no mesh.
    """

    live = False

    def __init__(self, path: Path, *, loop: bool) -> None:
        """Open the take."""
        self._take: Take = open_take(path)
        self.name = f"{path.resolve().parent.name} / {path.resolve().name}"
        self._loop = loop
        self._mesh = next((name for name in ("mesh", "truth") if len(self._take.meshes(name))), None)
        if self._mesh is None:
            self._take.close()
            raise TakeError(f"{path} holds no mesh; run: mien reprocess {path} --out TAKE2, and view that")
        self._started_s: float | None = None
        self._messages: Iterator[tuple[str, int, Message]] = iter(())
        self._next: tuple[str, int, Message] | None = None
        self._first_ns = 0

    def _begin(self, now_s: float) -> list[Message]:
        self._started_s = now_s
        self._messages = iter(self._take.messages([self._mesh or "mesh", "frame", "health"]))
        self._next = next(self._messages, None)
        self._first_ns = 0 if self._next is None else self._next[1]
        return [self._take.calibration, *self._take.topologies.values()]

    def drain(self, now_s: float) -> list[Message]:
        """Return what was logged up to this moment of the take."""
        due: list[Message] = []
        if self._started_s is None or (self._loop and self._next is None):
            due += self._begin(now_s)
        now_ns = self._first_ns + round((now_s - (self._started_s or 0.0)) * 1e9)
        while self._next is not None and self._next[1] <= now_ns:
            due.append(self._next[2])
            self._next = next(self._messages, None)
        return due

    @property
    def ended(self) -> bool:
        """Whether the take has been played once, and does not begin again."""
        return self._started_s is not None and self._next is None and not self._loop

    def nothing_came(self, waited_s: float) -> MienError:
        """Say so."""
        return TakeError(
            f"{self._take.path}: no mesh in its first {waited_s:.1f} s that could be shown; give more --seconds"
        )

    def close(self) -> None:
        """Close the take."""
        self._take.close()
