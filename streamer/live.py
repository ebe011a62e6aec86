"""All processes of a configuration on this machine: which ones, in what order, until when.

Sinks start first, so that the first picture finds everybody listening; the camera node starts when inference can
answer. At the end the node stops first and the recorder last but for the viewer, so that the last count of every
process is in the take.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from streamer.config import BusConfig, ServeConfig
from streamer.errors import ProcessError
from streamer.processes import HealthBeat, Stop, Vitals
from streamer.report import add_beat
from streamer.supervise import ProcessSpec, Supervisor, last_words
from streamer.transport import Publisher, Subscriber, endpoint_for
from streamer.types import Health

NODE_NICE = 10
"""A simulated rig renders on the cores that inference needs: it gives way, as a real camera host would cost nothing."""
VIEW_NICE = 15
"""To look on must not slow what is looked at, where the viewer draws without a GPU."""
LAST_WORDS_S = 5.0
"""Longest wait for the final Health of a process that has ended."""
BOOT_S = 300.0
"""Longest start of inference: the first compilation of a network, on a slow machine."""

Say = Callable[[str], None]


class LiveSettings(Protocol):
    """What this room needs of the settings."""

    @property
    def bus(self) -> BusConfig:
        """Where processes meet."""

    @property
    def view(self) -> Any:
        """The viewer's section; only `web_port` is read here."""

    @property
    def serve(self) -> ServeConfig:
        """The gateway's section; only `live` is read here."""

    @property
    def text(self) -> str:
        """The effective configuration as TOML."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What `mien live` was asked for."""

    record: bool = False
    """Record a take from the start."""
    view: bool = True
    """Open the viewer."""
    web: bool = False
    """The viewer in a browser."""
    serve: bool = False
    """Run the gateway, also where `serve.live` is false."""
    seconds: float | None = None
    """Length of the run, s; None: until the viewer is closed, the source ends, or Ctrl-C."""


class HealthBoard:
    """The latest Health of every process, from the bus.

    Args:
        bus: where the processes publish.
        names: those with a port of their own: `node`, `infer`, `record`.
    """

    def __init__(self, bus: BusConfig, names: tuple[str, ...]) -> None:
        """Connect; who is not there yet is heard as soon as it is."""
        endpoints = [endpoint_for(bus, name) for name in names]  # type: ignore[arg-type]
        self._subscriber = Subscriber(endpoints, ["health"], keys_dir=bus.keys_dir)
        self.lives: dict[str, list[Health]] = {}
        """Process name to the last beat of each of its lives, as `streamer.report.add_beat` keeps them."""

    def update(self, wait_s: float = 0.0) -> None:
        """Take in what has arrived; wait for a first message at most `wait_s`."""
        first = self._subscriber.receive(wait_s) if wait_s > 0 else None
        for _channel, message in [*([first] if first else []), *self._subscriber.drain()]:
            if isinstance(message, Health):
                add_beat(self.lives.setdefault(message.process, []), message)

    def latest(self, name: str) -> Health | None:
        """Return the latest beat of a process, None if it has not been heard."""
        lives = self.lives.get(name)
        return lives[-1] if lives else None

    def ready_ns(self, name: str) -> int:
        """Return the time of the latest beat if it was sent at work, ns; else 0."""
        health = self.latest(name)
        return health.time_ns if health is not None and health.state in ("running", "degraded") else 0

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


def plan(
    bus: BusConfig,
    config: tuple[str, ...],
    *,
    node: tuple[str, ...] = (),
    record: tuple[str, ...] | None = None,
    view: tuple[str, ...] | None = None,
    serve: bool = False,
) -> list[ProcessSpec]:
    """Return the processes that this machine has to run, sinks first.

    Args:
        bus: remote nodes and a remote inference process are not started here.
        config: `--config` and `--set` for every process.
        node: further arguments of the node.
        record: further arguments of the recorder; None: no recorder.
        view: further arguments of the viewer; None: no viewer.
        serve: whether the gateway runs.
    """
    specs: list[ProcessSpec] = []
    if view is not None:
        specs.append(ProcessSpec("view", ("view", *config, *view), nice=VIEW_NICE, beats=False, stop_timeout_s=60.0))
    if record is not None:
        specs.append(ProcessSpec("record", ("record", *config, *record), stop_timeout_s=60.0))
    if serve:
        specs.append(ProcessSpec("serve", ("serve", *config)))
    if not bus.infer:
        specs.append(ProcessSpec("infer", ("infer", *config), start_timeout_s=BOOT_S))
    if not bus.nodes:
        sinks = tuple(spec.name for spec in specs)
        specs.append(ProcessSpec("node", ("node", *config, *node), after=sinks, nice=NODE_NICE))
    return specs


def conduct(
    bus: BusConfig, supervisor: Supervisor, board: HealthBoard, stop: Stop, *, seconds: float | None, say: Say
) -> list[str]:
    """Run until the end of the source, the viewer, the time, or a signal; then stop in order.

    Args:
        bus: where the supervisor publishes its own health.
        supervisor: with the processes of `plan`.
        board: hears them.
        stop: set by SIGINT and SIGTERM.
        seconds: time after which to stop, counted from when all are ready, s; None: no limit.
        say: told when all are ready.

    Returns:
        One line for each process that did not end cleanly.

    Raises:
        ProcessError: a process could not be kept running.
    """
    ready_s: list[float] = []

    def finished() -> bool:
        board.update()
        if not ready_s and supervisor.ready:
            ready_s.append(time.monotonic())
            say("all processes are ready")
        if supervisor.done & {"node", "view"}:
            return True
        return seconds is not None and bool(ready_s) and time.monotonic() - ready_s[0] >= seconds

    def vitals() -> Vitals:
        return Vitals(counters={f"restarts.{name}": count for name, count in supervisor.restarts.items()})

    with (
        Publisher(endpoint_for(bus, "demo"), keys_dir=bus.keys_dir) as publisher,
        HealthBeat(publisher, "demo", vitals),
    ):
        supervisor.run(stop, finished)
        return _stop_in_order(supervisor, board)


def _stop_in_order(supervisor: Supervisor, board: HealthBoard) -> list[str]:
    troubles = []
    for name in supervisor.stop_order:
        code = supervisor.stop(name)
        if code not in (0, None):
            log = supervisor.log(name)
            troubles.append(f"{name} did not end cleanly (exit code {code}): {last_words(log)} (log: {log})")
        if code is not None and name in ("node", "infer"):
            board.wait_for_last(name)
    return troubles


def run_live(settings: LiveSettings, options: LiveOptions, *, say: Say) -> dict[str, Any]:
    """Run `mien live`.

    Returns:
        `restarts` per process, and `health`: the last counters of each.

    Raises:
        ProcessError: see `conduct`; or a process did not end cleanly.
    """
    with tempfile.TemporaryDirectory(prefix="mien-live-") as folder:
        path = Path(folder) / "config.toml"
        path.write_text(settings.text, "utf-8")
        view = view_arguments(settings.view.web_port, web=options.web, say=say) if options.view else None
        serve = settings.serve.live or options.serve
        record = ("--armed", "--start") if options.record else None
        specs = plan(settings.bus, ("--config", str(path)), record=record, view=view, serve=serve)
        if not specs:
            raise ProcessError("nothing to run here: bus.nodes and bus.infer name other machines; run mien view")
        if serve:
            say(f"engines connect to port {settings.serve.tcp_port}, browsers to {settings.serve.websocket_port}")
        names = tuple(spec.name for spec in specs if spec.beats)
        with Stop() as stop, HealthBoard(settings.bus, names) as board:
            supervisor = Supervisor(specs, logs=Path("out/logs"), last_beat_ns=board.ready_ns)
            with supervisor:
                troubles = conduct(settings.bus, supervisor, board, stop, seconds=options.seconds, say=say)
            if troubles:
                raise ProcessError("; ".join(troubles))
            health = {name: dict(lives[-1].counters) for name, lives in board.lives.items()}
            return {"restarts": dict(supervisor.restarts), "health": health}


def view_arguments(web_port: int, *, web: bool, say: Say) -> tuple[str, ...]:
    """Return what the viewer is told: a window, or the browser view where no window can be.

    Args:
        web_port: port of the browser view.
        web: the browser view even where there is a display.
        say: told the address of the browser view.
    """
    has_display = sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if has_display and not web:
        return ()
    say(f"{'' if web else 'no display here; '}open the browser view at http://localhost:{web_port}")
    return ("--web",)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return different TCP ports that are free on `host` at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
