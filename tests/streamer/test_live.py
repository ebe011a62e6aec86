"""What `mien live` and `mien demo` start, hear and stop; the processes are stand-ins, the bus is real."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamer.board import HealthBoard
from streamer.config import BusConfig, RecordConfig
from streamer.console.desk import LiveDesk
from streamer.console.watch import Watch
from streamer.demo import DemoOptions, film, prepare, run_demo
from streamer.errors import ProcessError, ScreenError, TransportError
from streamer.live import LiveOptions, _conduct_with, conduct, free_ports, plan, view_arguments
from streamer.processes import Stop
from streamer.supervise import Supervisor
from streamer.transport import Publisher
from streamer.types import Health

# A stand-in for `mien VERB --port P`: beats until SIGTERM or until the file of --until is there.
CHILD = """
import os, pathlib, sys
from streamer.leash import follow
from streamer.processes import HealthBeat, Stop, Vitals
from streamer.transport import Publisher
follow(os.environ)
verb, port = sys.argv[1], int(sys.argv[sys.argv.index("--port") + 1])
until = pathlib.Path(sys.argv[sys.argv.index("--until") + 1]) if "--until" in sys.argv else pathlib.Path("/nowhere")
with Stop() as stop, Publisher(f"tcp://127.0.0.1:{port}") as publisher:
    with HealthBeat(publisher, verb, lambda: Vitals(counters={"end": int(stop.is_set())}), period_s=0.05):
        while not until.exists() and not stop.wait(0.02):
            pass
"""


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        threading.Event().wait(0.02)


@pytest.fixture
def bus() -> BusConfig:
    node, infer, record, demo = free_ports(4)
    return BusConfig(node_port=node, infer_port=infer, record_port=record, demo_port=demo)


def run(
    bus: BusConfig,
    folder: Path,
    *,
    when_ready: Callable[[], None] = lambda: None,
    until: Path | None = None,
    seconds: float | None = None,
    stop: Stop | None = None,
) -> HealthBoard:
    ports = {"node": bus.node_port, "infer": bus.infer_port, "record": bus.record_port}
    specs = [
        replace(spec, arguments=(*spec.arguments, "--port", str(ports[spec.name])))
        for spec in plan(bus, (), record=(), node=("--until", str(until)) if until else ())
    ]
    board = HealthBoard(bus, ("node", "infer", "record"))
    command = (sys.executable, "-c", CHILD)
    with (
        board,
        Supervisor(specs, logs=folder, working_s=board.working_s, heard_s=board.heard_s, command=command) as supervisor,
    ):
        conduct(bus, supervisor, board, stop or Stop(), seconds=seconds, say=lambda _: when_ready())
    return board


def test_end_of_the_source_ends_the_run_in_order(bus: BusConfig, tmp_path: Path) -> None:
    until = tmp_path / "over"
    board = run(bus, tmp_path, when_ready=until.touch, until=until)
    last = {name: board.latest(name) for name in ("node", "infer")}
    assert all(health is not None and health.state == "stopping" for health in last.values())
    node, infer = last["node"], last["infer"]
    assert node is not None and infer is not None
    assert node.time_ns < infer.time_ns, "the source ends first"
    assert (node.counters["end"], infer.counters["end"]) == (0, 1), "the node ended by itself, inference was asked to"


def test_time_and_signals_end_the_run(bus: BusConfig, tmp_path: Path) -> None:
    stop = Stop()
    run(bus, tmp_path / "a", when_ready=stop.set, stop=stop)
    ready: list[float] = []
    run(bus, tmp_path / "b", when_ready=lambda: ready.append(time.monotonic()), seconds=0.1)
    assert len(ready) == 1 and time.monotonic() - ready[0] >= 0.1


def test_sinks_stand_before_sources_and_give_way_in_priority(bus: BusConfig) -> None:
    specs = plan(bus, ("--config", "c.toml"), record=("--out", "t"), view=("--web",), node=("--seconds", "1"))
    assert [spec.name for spec in specs] == ["view", "record", "infer", "node"]
    assert specs[-1].after == ("view", "record", "infer")
    assert specs[0].nice > specs[-1].nice > specs[2].nice == 0, "inference before cameras before the viewer"
    assert specs[1].arguments == ("record", "--config", "c.toml", "--out", "t")
    elsewhere = replace(bus, nodes=("tcp://10.0.0.1:5700",), infer="tcp://10.0.0.2:5710")
    assert [spec.name for spec in plan(elsewhere, (), view=())] == ["view"]
    assert [spec.name for spec in plan(elsewhere, (), serve=True)] == ["serve"]
    with_gateway = plan(bus, ("--config", "c.toml"), serve=True)
    assert [spec.name for spec in with_gateway] == ["serve", "infer", "node"] and "serve" in with_gateway[-1].after


def test_beside_a_screen_the_run_goes_on_until_the_operator_quits(bus: BusConfig, tmp_path: Path) -> None:
    """The processes are conducted in a thread of their own; quitting stops them, and a failure ends the screen."""
    board = HealthBoard(bus, ("node", "infer"))
    ports = {"node": bus.node_port, "infer": bus.infer_port}
    specs = [replace(spec, arguments=(*spec.arguments, "--port", str(ports[spec.name]))) for spec in plan(bus, ())]
    supervisor = Supervisor(
        specs, logs=tmp_path, working_s=board.working_s, heard_s=board.heard_s, command=(sys.executable, "-c", CHILD)
    )
    settings, shown = SimpleNamespace(bus=bus), []

    def operate(desk: LiveDesk) -> None:
        deadline = time.monotonic() + 60.0
        while not desk.state().ready and not desk.over():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        shown.extend(each.name for each in desk.state().processes if each.pid)

    with board, supervisor, Stop() as stop:
        desk = LiveDesk(supervisor, Watch(supervisor, board, RecordConfig(), None), None)
        troubles = _conduct_with(operate, settings, LiveOptions(), supervisor, board, stop, desk, print)  # type: ignore[arg-type]
        assert troubles == [] and sorted(shown) == ["infer", "node"]
        assert any("all processes are ready" in line for line in desk.state().events)
        assert [supervisor.pid(name) for name in ports] == [None, None]
        with pytest.raises(TransportError, match=r"bus\.control_port"):
            desk.command("start", {})
    refusing = replace(specs[0], arguments=("infer",))  # without a port it ends at once
    with HealthBoard(bus, ("infer",)) as board, Stop() as stop:
        failing = Supervisor(
            [refusing], logs=tmp_path / "b", working_s=board.working_s, command=(sys.executable, "-c", CHILD)
        )
        with failing, pytest.raises(ProcessError, match="infer ended with exit code 1"):
            desk = LiveDesk(failing, Watch(failing, board, RecordConfig(), None), None)
            _conduct_with(operate, settings, LiveOptions(), failing, board, stop, desk, print)  # type: ignore[arg-type]


@contextmanager
def conducted(bus: BusConfig, folder: Path) -> Iterator[tuple[LiveDesk, Callable[..., list[str]]]]:
    """Yield a desk, and what runs stand-ins of node and inference: told what shows them and who hears lines."""
    board = HealthBoard(bus, ("node", "infer"))
    ports = {"node": bus.node_port, "infer": bus.infer_port}
    specs = [replace(spec, arguments=(*spec.arguments, "--port", str(ports[spec.name]))) for spec in plan(bus, ())]
    supervisor = Supervisor(
        specs, logs=folder, working_s=board.working_s, heard_s=board.heard_s, command=(sys.executable, "-c", CHILD)
    )
    with board, supervisor, Stop() as stop:
        desk = LiveDesk(supervisor, Watch(supervisor, board, RecordConfig(), None), None)

        def run(show: Callable[[LiveDesk], None] | None, say: Callable[[str], None]) -> list[str]:
            def hear(line: str) -> None:
                say(line)
                if "infer ready" in line and supervisor.restarts["infer"]:
                    stop.set()

            settings: Any = SimpleNamespace(bus=bus)
            return _conduct_with(show, settings, LiveOptions(), supervisor, board, stop, desk, hear)

        yield desk, run


def test_a_run_goes_on_without_a_screen_that_failed(bus: BusConfig, tmp_path: Path) -> None:
    """It is said why the screen failed; what happens from then on is said in lines, what was shown before is not."""
    said: list[str] = []

    def fail(desk: LiveDesk) -> None:
        until(lambda: any("are ready" in event for event in desk.watch.state.events), "all processes")
        shown = desk.watch.state
        until(lambda: desk.watch.state is not shown, "the next look: what was shown has then been taken note of")
        raise ScreenError("the screen failed (ValueError: no column)")

    with conducted(bus, tmp_path) as (desk, run_it):

        def say(line: str) -> None:
            if not said:
                os.kill(next(each.pid for each in desk.state().processes if each.name == "infer") or 0, signal.SIGKILL)
            said.append(line)

        assert run_it(fail, say) == []
    assert said[0].startswith("the screen failed (ValueError: no column); the run goes on without it")
    assert "infer failed: was killed by SIGKILL" in " ".join(said[1:])
    assert not any("life 1," in line or "are ready" in line for line in said), "that was on the screen"


def test_without_a_screen_events_and_alarms_are_lines(bus: BusConfig, tmp_path: Path) -> None:
    said: list[str] = []
    with conducted(bus, tmp_path) as (desk, run_it):

        def say(line: str) -> None:
            said.append(line)
            if line == "all processes are ready":
                os.kill(next(each.pid for each in desk.state().processes if each.name == "infer") or 0, signal.SIGKILL)

        assert run_it(None, say) == []
    events = [line.split(" ", 1)[1] for line in said if line != "all processes are ready"]
    assert events[0].startswith("infer started: life 1") and any(line.startswith("infer ready") for line in events)
    assert sum(line.startswith("infer started: life 1") for line in events) == 1, "each event once"
    assert any(line.startswith("infer failed: was killed by SIGKILL") for line in events)


def test_board_tells_ready_from_starting(bus: BusConfig) -> None:
    with Publisher(f"tcp://127.0.0.1:{bus.node_port}") as publisher, HealthBoard(bus, ("node",)) as board:
        sent = 0
        deadline = time.monotonic() + 10
        while board.latest("node") is None and time.monotonic() < deadline:
            sent += 1
            publisher.send("health", Health("node", sent, "starting"))
            board.update(0.05)
        assert board.working_s("node") == 0.0 < board.heard_s("node")
        publisher.send("health", Health("node", 10_000, "degraded"))
        while board.working_s("node") == 0.0 and time.monotonic() < deadline:
            board.update(0.05)
        assert 0.0 < board.working_s("node") <= time.monotonic()
        publisher.send("health", Health("node", 5, "running", {"published.cam_0": 3}))  # the clock was set back
        while board.latest("node").time_ns != 5 and time.monotonic() < deadline:  # type: ignore[union-attr]
            board.update(0.05)
        assert board.latest("node").counters == {"published.cam_0": 3}  # type: ignore[union-attr]
        assert not board.wait_for_last("node", timeout_s=0.05)


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return iter(())


@pytest.mark.usefixtures("no_display")
def test_without_a_display_the_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert view_arguments(8123, web=False, say=said.append) == ("--web",)
    assert "http://localhost:8123" in said[0]
    monkeypatch.setenv("DISPLAY", ":0")
    assert view_arguments(8123, web=False, say=said.append) == ()
    assert view_arguments(8123, web=True, say=said.append) == ("--web",)


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_demo_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ProcessError, match="is not empty"):
        run_demo(None, DemoOptions(out=tmp_path), say=lambda _: None)  # type: ignore[arg-type]


def test_a_demo_that_failed_to_start_may_be_tried_again_in_its_folder(tmp_path: Path) -> None:
    out = prepare(tmp_path / "demo")
    (out / "logs").mkdir()
    assert prepare(out) == out
    (out / "take").mkdir()
    with pytest.raises(ProcessError, match="is not empty"):
        prepare(out)


def test_a_film_on_few_cores_is_no_larger_than_was_asked_for_and_keeps_its_shape() -> None:
    assert film(1280, 720, 60.0) == {"width": 960, "height": 540, "max_fps": 8.0}
    assert film(320, 240, 2.0) == {"width": 320, "height": 240, "max_fps": 2.0}
    odd = film(1001, 999, 30.0)  # encoders want even sizes
    assert odd["width"] % 2 == odd["height"] % 2 == 0 and abs(odd["width"] / odd["height"] - 1001 / 999) < 0.005
