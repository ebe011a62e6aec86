"""The watch acts: on a clock that was set back, and on a recorder that was killed."""

import time
from collections import deque
from types import SimpleNamespace

import pytest

from streamer.config import RecordConfig
from streamer.console import watch as module
from streamer.console.desk import LiveDesk
from streamer.console.watch import Watch
from streamer.restarts import Event
from streamer.types import Health
from tests.streamer.console_makers import status


class Supervisor:
    """Notes what it is asked for."""

    def __init__(self, *names: str) -> None:
        self.names, self.asked = names, list[str]()
        self.restarts = dict.fromkeys(names, 0)
        self.events: deque[Event] = deque()
        self.ready = True

    def has(self, name: str) -> bool:
        return name in self.names

    def restart(self, name: str) -> None:
        self.asked.append(name)

    def note(self, line: str) -> None:
        self.events.append(Event(0, "", line))

    def states(self) -> tuple[()]:
        return ()


class Link:
    """A recorder that answers nothing."""

    def __init__(self) -> None:
        self.answered_s = 100.0
        self.status, self.take_bytes, self.fits, self.told, self.rescued = None, 0, dict[str, int](), "", 0

    def rescue(self) -> None:
        self.rescued += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clocks that the watch reads: monotonic and of the day, s."""
    now = SimpleNamespace(mono=100.0, day=1.8e9)
    fake = SimpleNamespace(
        monotonic=lambda: now.mono, time=lambda: now.day, time_ns=lambda: int(now.day * 1e9),
        strftime=time.strftime, localtime=time.localtime,
    )  # fmt: skip
    monkeypatch.setattr(module, "time", fake)
    return now


def made(supervisor: Supervisor, link: Link | None = None) -> Watch:
    board = SimpleNamespace(lives={}, heard_s=lambda _name: 0.0)
    return Watch(supervisor, board, RecordConfig(), link)  # type: ignore[arg-type]


def pass_time(clock: SimpleNamespace, watch: Watch, seconds: float, day: float | None = None) -> None:
    clock.mono += seconds
    clock.day += seconds if day is None else day
    watch.look()


@pytest.mark.parametrize("jump_s", [-3600.0, -0.6])
def test_a_clock_that_was_set_back_restarts_the_cameras_once_and_nobody_else(
    clock: SimpleNamespace, jump_s: float
) -> None:
    supervisor = Supervisor("record", "infer", "node")
    watch = made(supervisor)
    pass_time(clock, watch, 1.0)
    pass_time(clock, watch, 1.0, 1.0 + jump_s)
    for _ in range(5):
        pass_time(clock, watch, 1.0)
    assert supervisor.asked == ["node"]
    (alarm,) = watch.state.alarms
    assert alarm.what == "clock" and f"jumped by {jump_s:+.1f} s" in alarm.cause
    pass_time(clock, watch, module.JUMP_KEPT_S + 1.0)
    pass_time(clock, watch, 1.0)
    assert watch.state.alarms == (), "a minute later it is no news"


@pytest.mark.parametrize("jump_s", [3600.0, -0.4, 0.4])
def test_forward_and_in_small_steps_nobody_is_disturbed(clock: SimpleNamespace, jump_s: float) -> None:
    supervisor = Supervisor("infer", "node")
    watch = made(supervisor)
    pass_time(clock, watch, 1.0)
    pass_time(clock, watch, 1.0, 1.0 + jump_s)
    assert supervisor.asked == []
    assert [alarm.what for alarm in watch.state.alarms] == (["clock"] if jump_s > 1 else [])


def test_without_cameras_here_a_clock_set_back_restarts_nothing(clock: SimpleNamespace) -> None:
    supervisor = Supervisor("infer")
    pass_time(clock, made(supervisor), 1.0, -5.0)
    assert supervisor.asked == []


def test_a_recorder_that_failed_is_rescued_once_for_each_time(clock: SimpleNamespace) -> None:
    supervisor, link = Supervisor("record"), Link()
    watch = made(supervisor, link)
    pass_time(clock, watch, 1.0)
    supervisor.restarts["record"] = 1
    for _ in range(3):
        pass_time(clock, watch, 0.1)
    assert link.rescued == 1


def test_a_recorder_that_does_not_answer_is_told_by_the_time_since_it_did(clock: SimpleNamespace) -> None:
    link = Link()
    watch = made(Supervisor("record"), link)
    pass_time(clock, watch, 7.0)
    assert watch.state.take.silent_s == 7.0
    link.status = status()  # type: ignore[assignment]
    pass_time(clock, watch, 1.0)
    assert watch.state.take.silent_s is None
    without = made(Supervisor("record"))
    pass_time(clock, without, 1.0)
    assert without.state.take.silent_s is None, "there is none to ask"


def test_cameras_stand_still_since_the_number_of_their_pictures_did_not_change(clock: SimpleNamespace) -> None:
    watch = made(Supervisor("node"))

    def still(count: int) -> float | None:
        health = Health("node", 1, "running", {"published.cam_0": count})
        watch._board.lives["node"] = [health]  # type: ignore[index]
        pass_time(clock, watch, 1.0)
        return watch.state.cameras[0].still_s

    assert [still(count) for count in (0, 0, 0, 5, 5, 2)] == [0.0, 1.0, 2.0, 0.0, 1.0, 0.0]


def test_events_stand_in_the_order_in_which_they_happened_also_past_midnight(clock: SimpleNamespace) -> None:
    supervisor, link = Supervisor("record"), Link()
    midnight_ns = int(time.mktime((2026, 3, 2, 0, 0, 0, 0, 0, -1))) * 10**9
    watch = made(supervisor, link)
    supervisor.events.append(Event(midnight_ns - 10**9, "record", "failed", "was killed"))
    supervisor.events.append(Event(midnight_ns + 10**9, "record", "started"))
    supervisor.note("all processes are ready")
    desk = LiveDesk(supervisor, watch, None)  # type: ignore[arg-type]
    link.told = "/takes/t was cut short and is repaired"
    for _ in range(3):
        pass_time(clock, watch, 1.0)
    assert [line.split(" ", 1)[1] for line in desk.state().events] == [
        "record failed: was killed", "record started", "all processes are ready", link.told,
    ]  # fmt: skip
    assert [line[:8] for line in watch.state.events][:2] == ["23:59:59", "00:00:01"]
