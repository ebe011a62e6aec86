"""All processes of a configuration on this machine: which ones, in what order, until when.

Sinks start first, so that the first picture finds everybody listening; the camera node starts when inference can
answer. At the end the node stops first and the recorder last but for the viewer, so that the last count of every
process is in the take.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from streamer.board import HealthBoard
from streamer.channels import Role
from streamer.config import BusConfig, LiveConfig, RecordConfig, ServeConfig
from streamer.errors import MienError, ProcessError, ScreenError
from streamer.process_logs import last_words
from streamer.processes import HealthBeat, Stop, Vitals
from streamer.restarts import ProcessSpec, RestartPolicy
from streamer.running_config import running_config
from streamer.supervise import Supervisor
from streamer.transport import Publisher, endpoint_for

if TYPE_CHECKING:
    from streamer.console.desk import LiveDesk

NODE_NICE = 10
"""A simulated rig renders on the cores that inference needs: it gives way, as a real camera host would cost nothing."""
VIEW_NICE = 15
"""To look on must not slow what is looked at, where the viewer draws without a GPU."""
BOOT_S = 300.0
"""Longest start of inference: the first compilation of a network, on a slow machine."""

Say = Callable[[str], None]


class LiveSettings(Protocol):
    """What this room needs of the settings."""

    @property
    def bus(self) -> BusConfig:
        """Where processes meet."""

    @property
    def record(self) -> RecordConfig:
        """Where takes go."""

    @property
    def live(self) -> LiveConfig:
        """The console's section."""

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


def plan(
    bus: BusConfig,
    config: tuple[str, ...],
    *,
    node: tuple[str, ...] = (),
    record: tuple[str, ...] | None = None,
    view: tuple[str, ...] | None = None,
    serve: bool = False,
    silence_s: float = 0.0,
) -> list[ProcessSpec]:
    """Return the processes that this machine has to run, sinks first.

    Args:
        bus: remote nodes and a remote inference process are not started here.
        config: `--config` and `--set` for every process.
        node: further arguments of the node.
        record: further arguments of the recorder; None: no recorder. `--start` is for its first life only.
        view: further arguments of the viewer; None: no viewer.
        serve: whether the gateway runs.
        silence_s: so long without a heartbeat, and a process counts as frozen; 0: never.
    """
    specs: list[ProcessSpec] = []
    if view is not None:
        specs.append(ProcessSpec("view", ("view", *config, *view), nice=VIEW_NICE, beats=False, stop_timeout_s=60.0))
    if record is not None:
        later = ("record", *config, *(word for word in record if word != "--start"))
        words = ("record", *config, *record)
        specs.append(ProcessSpec("record", words, later=later, endless=True, stop_timeout_s=60.0, silence_s=silence_s))
    if serve:
        specs.append(ProcessSpec("serve", ("serve", *config), endless=True, silence_s=silence_s))
    if not bus.infer:
        specs.append(
            ProcessSpec("infer", ("infer", *config), endless=True, start_timeout_s=BOOT_S, silence_s=silence_s)
        )
    if not bus.nodes:
        sinks = tuple(spec.name for spec in specs)
        words = ("node", *config, *node)
        specs.append(ProcessSpec("node", words, after=sinks, nice=NODE_NICE, silence_s=silence_s))
    return specs


def conduct(
    bus: BusConfig,
    supervisor: Supervisor,
    board: HealthBoard,
    stop: Stop,
    *,
    seconds: float | None,
    say: Say,
    look: Callable[[], None] = lambda: None,
    vitals: Callable[[], Vitals] | None = None,
    ends: frozenset[str] = frozenset({"node", "view"}),
) -> list[str]:
    """Run until the end of the source, the viewer, the time, or a signal; then stop in order.

    Args:
        bus: where the supervisor publishes its own health.
        supervisor: with the processes of `plan`.
        board: hears them.
        stop: set by SIGINT and SIGTERM.
        seconds: time after which to stop, counted from when all are ready, s; None: no limit.
        say: told when all are ready.
        look: called often, in this thread.
        vitals: what the supervisor says of itself; None: how often each process was started again.
        ends: processes whose end is the end of the run.

    Returns:
        One line for each process that did not end cleanly.

    Raises:
        ProcessError: a process could not be kept running.
    """
    ready_s: list[float] = []

    def finished() -> bool:
        board.update()
        look()
        if not ready_s and supervisor.ready:
            ready_s.append(time.monotonic())
            say("all processes are ready")
        if supervisor.done & ends:
            return True
        return seconds is not None and bool(ready_s) and time.monotonic() - ready_s[0] >= seconds

    def restarts() -> Vitals:
        return Vitals(counters={f"restarts.{name}": count for name, count in supervisor.restarts.items()})

    with (
        Publisher(endpoint_for(bus, "demo"), keys_dir=bus.keys_dir) as publisher,
        HealthBeat(publisher, "demo", vitals or restarts),
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


def run_live(
    settings: LiveSettings,
    options: LiveOptions,
    *,
    say: Say,
    fits: Callable[[], Mapping[str, int]] = dict,
    show: "Callable[[LiveDesk], None] | None" = None,
) -> dict[str, Any]:
    """Run `mien live`.

    Args:
        settings: the configuration.
        options: what was asked for.
        say: told what an operator without a screen has to know.
        fits: counts the jobs of the fit queue by state.
        show: draws the screen until the operator quits; None: there is none.

    Returns:
        `restarts` per process, and `health`: the last counters of each.

    Raises:
        ProcessError: see `conduct`; or a process did not end cleanly.
        TransportError: a port is in use.
    """
    from streamer.console.desk import open_desk

    bus, live = settings.bus, settings.live
    with ExitStack() as stack:
        path = stack.enter_context(running_config(settings.text))
        view = view_arguments(settings.view.web_port, web=options.web, say=say) if options.view else None
        serve = settings.serve.live or options.serve
        # Armed, so that takes begin and end by the screen, by `mien take` and by OSC.
        record = ("--armed", *(["--start"] if options.record else [])) if options.record or bus.control_port else None
        specs = plan(bus, ("--config", str(path)), record=record, view=view, serve=serve, silence_s=live.silence_s)
        if not any(spec.name != "record" for spec in specs):
            raise ProcessError("nothing to run here: bus.nodes and bus.infer name other machines; run mien view")
        if serve:
            say(f"engines connect to port {settings.serve.tcp_port}, browsers to {settings.serve.websocket_port}")
        names: tuple[Role, ...] = ("node", "infer", *(("record",) if record else ()), *(("serve",) if serve else ()))
        stop, board = stack.enter_context(Stop()), stack.enter_context(HealthBoard(bus, names))
        supervisor = Supervisor(
            specs,
            logs=Path(live.logs),
            working_s=board.working_s,
            heard_s=board.heard_s,
            policy=RestartPolicy(most=None),
        )
        stack.enter_context(supervisor)
        desk = stack.enter_context(open_desk(settings, supervisor, board, fits, say=say))
        troubles = _conduct_with(show, settings, options, supervisor, board, stop, desk, say)
        if troubles:
            raise ProcessError("; ".join(troubles))
        health = {name: dict(lives[-1].counters) for name, lives in board.lives.items()}
        return {"restarts": dict(supervisor.restarts), "health": health}


def _conduct_with(
    show: "Callable[[LiveDesk], None] | None",
    settings: LiveSettings,
    options: LiveOptions,
    supervisor: Supervisor,
    board: HealthBoard,
    stop: Stop,
    desk: "LiveDesk",
    say: Say,
) -> list[str]:
    """Conduct the run; beside a screen in a thread of its own, for a terminal wants the main one.

    Without a screen, and after one that failed, events and alarms are said as lines.
    """
    from streamer.console.lines import Lines

    lines = Lines(say, quiet=show is not None)

    def look() -> None:
        desk.watch.look()
        lines.look(desk.watch.state, supervisor.events)

    def run() -> list[str]:
        return conduct(
            settings.bus,
            supervisor,
            board,
            stop,
            seconds=options.seconds,
            say=lambda line: desk.note(line) if lines.quiet else say(line),
            look=look,
            vitals=desk.watch.vitals,
            ends=frozenset({"node"} if show else {"node", "view"}),
        )

    def failed(error: ScreenError) -> None:
        lines.quiet = False
        say(f"{error}; the run goes on without it, in lines of text: Ctrl-C ends it")

    return run() if show is None else _beside(show, desk, run, stop, failed)


def _beside(
    show: "Callable[[LiveDesk], None]",
    desk: "LiveDesk",
    run: Callable[[], list[str]],
    stop: Stop,
    failed: Callable[[ScreenError], None],
) -> list[str]:
    """Run in a thread of its own beside a screen, until the operator quits; without the screen if that fails."""
    result: list[str] = []
    failure: list[MienError | OSError] = []

    def work() -> None:
        try:
            result.extend(run())
        except (MienError, OSError) as error:
            failure.append(error)
        finally:
            desk.ended.set()

    thread = threading.Thread(target=work, name="conduct")
    thread.start()
    try:
        show(desk)
    except ScreenError as error:
        failed(error)
        thread.join()
    finally:
        stop.set()
        thread.join()
    if failure:
        raise failure[0]
    return result


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
