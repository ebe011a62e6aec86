"""The latest Health of every process, from the bus."""

import time
from types import TracebackType
from typing import Self

from streamer.channels import Role
from streamer.config import BusConfig
from streamer.report import add_beat
from streamer.transport import Subscriber, endpoint_for, infer_endpoint, node_endpoints
from streamer.types import Health

LAST_WORDS_S = 5.0
"""Longest wait for the final Health of a process that has ended."""


class HealthBoard:
    """Hears the heartbeats. Times are those of arrival on the monotonic clock: the clock may jump.

    Args:
        bus: where the processes publish.
        names: those to hear: `node`, `infer`, `record`, `serve`.
    """

    def __init__(self, bus: BusConfig, names: tuple[Role, ...]) -> None:
        """Connect; who is not there yet is heard as soon as it is."""
        endpoints = [endpoint for name in names for endpoint in _endpoints(bus, name)]
        self._subscriber = Subscriber(endpoints, ["health"], keys_dir=bus.keys_dir)
        self._several = len(bus.nodes) > 1
        self.lives: dict[str, list[Health]] = {}
        """Process name to the last beat of each of its lives, as `streamer.report.add_beat` keeps them. Of several
        camera hosts each is a process: `node@<first camera>`."""
        self._heard_s: dict[str, float] = {}
        self._working_s: dict[str, float] = {}

    @property
    def rejected(self) -> int:
        """Messages that came and were refused."""
        return sum(self._subscriber.rejected.values())

    def update(self, wait_s: float = 0.0) -> None:
        """Take in what has arrived; wait for a first message at most `wait_s`."""
        first = self._subscriber.receive(wait_s) if wait_s > 0 else None
        for _channel, message in [*([first] if first else []), *self._subscriber.drain()]:
            if isinstance(message, Health):
                who = self._who(message)
                add_beat(self.lives.setdefault(who, []), message)
                self._heard_s[who] = time.monotonic()
                if message.state in ("running", "degraded"):
                    self._working_s[who] = self._heard_s[who]

    def _who(self, health: Health) -> str:
        if not self._several or health.process != "node":
            return health.process
        cameras = [key.removeprefix("published.") for key in health.counters if key.startswith("published.")]
        return f"node@{min(cameras, default='')}"

    def latest(self, name: str) -> Health | None:
        """Return the latest beat of a process, None if it has not been heard."""
        lives = self.lives.get(name)
        return lives[-1] if lives else None

    def heard_s(self, name: str) -> float:
        """Return when a process was last heard, monotonic s; 0: never."""
        return self._heard_s.get(name, 0.0)

    def working_s(self, name: str) -> float:
        """Return when a process was last heard at work (neither starting nor stopping), monotonic s; 0: never."""
        return self._working_s.get(name, 0.0)

    def wait_for_last(self, name: str, timeout_s: float = LAST_WORDS_S) -> bool:
        """Wait for the `stopping` beat of a process; return whether it came."""
        deadline = time.monotonic() + timeout_s
        while (health := self.latest(name)) is None or health.state != "stopping":
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self.update(left_s)
        return True

    def close(self) -> None:
        """Disconnect."""
        self._subscriber.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()


def _endpoints(bus: BusConfig, name: Role) -> list[str]:
    if name == "node":
        return node_endpoints(bus)
    return [infer_endpoint(bus)] if name == "infer" else [endpoint_for(bus, name)]
