"""What the operator's screen acts on, and the parts behind it: the watch, the recorder's link, the state over HTTP."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from streamer.board import HealthBoard
from streamer.config import BusConfig, LiveConfig, RecordConfig
from streamer.console.http import StateServer
from streamer.console.recorder_link import RecorderLink
from streamer.console.state import ConsoleState
from streamer.console.watch import Watch
from streamer.errors import TransportError
from streamer.supervise import Supervisor


class DeskSettings(Protocol):
    """What is read of the settings."""

    @property
    def bus(self) -> BusConfig:
        """Where the recorder takes commands."""

    @property
    def record(self) -> RecordConfig:
        """Where takes go."""

    @property
    def live(self) -> LiveConfig:
        """Where the state is told."""


class LiveDesk:
    """The desk of a run; see `streamer.console.screen.Desk`.

    Args:
        supervisor: of the processes.
        watch: puts the state together.
        link: to the recorder; None: there is none here.
    """

    def __init__(self, supervisor: Supervisor, watch: Watch, link: RecorderLink | None) -> None:
        """Join them."""
        self._supervisor, self.watch, self._link = supervisor, watch, link
        self.ended = threading.Event()
        """Set when the run is over."""

    def note(self, line: str) -> None:
        """Show a line among the events."""
        self._supervisor.note(line)

    def state(self) -> ConsoleState:
        """Return the latest state."""
        return replace(self.watch.state, events=self.watch.events())

    def command(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a command to the recorder.

        Raises:
            TransportError: there is none, it does not answer, or refuses.
        """
        if self._link is None:
            raise TransportError("no recorder takes commands here: bus.control_port = 0")
        return self._link.command(name, arguments)

    def restart(self, name: str) -> None:
        """Start a process again."""
        self._supervisor.restart(name)

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._supervisor.log(name)

    def over(self) -> bool:
        """Whether the run is over."""
        return self.ended.is_set()


@contextmanager
def open_desk(
    settings: DeskSettings,
    supervisor: Supervisor,
    board: HealthBoard,
    fits: Callable[[], Mapping[str, int]],
    *,
    say: Callable[[str], None],
) -> Iterator[LiveDesk]:
    """Open what a console needs, and close it at the end.

    Args:
        settings: the configuration.
        supervisor: of the processes.
        board: hears them.
        fits: counts the jobs of the fit queue by state.
        say: told where the state can be read.

    Raises:
        TransportError: `live.http_port` is in use or not safe to bind.
    """
    bus, live = settings.bus, settings.live
    with ExitStack() as stack:
        link = stack.enter_context(RecorderLink(bus, fits)) if bus.control_port else None
        watch = Watch(supervisor, board, settings.record, link)
        if live.http_port:
            server = stack.enter_context(StateServer(live, lambda: watch.state))
            say(f"state and metrics: http://{live.host}:{server.port}/state and /metrics")
        yield LiveDesk(supervisor, watch, link)
