"""Events and alarms as lines of text: each once, and an alarm again only when it has been away."""

from dataclasses import replace

from streamer.console.lines import Lines
from streamer.console.state import Alarm, ConsoleState
from streamer.restarts import Event

SILENT = Alarm("alarm", "node", "no sign of life for 4 s", "wait")


def moment(up_s: float, *alarms: Alarm) -> ConsoleState:
    return ConsoleState(0, up_s, alarms=alarms)


def test_an_alarm_is_told_when_it_rises_and_not_again_for_another_number() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    lines.look(moment(1.0, SILENT), ())
    lines.look(moment(2.0, replace(SILENT, cause="no sign of life for 5.5 s")), ())
    lines.look(moment(3.0), ())
    lines.look(moment(20.0, SILENT), ())  # it flickers
    assert [line.split(" ", 1)[1] for line in said] == ["alarm: node: no sign of life for 4 s; wait"]
    lines.look(moment(21.0, SILENT, replace(SILENT, what="infer")), ())
    lines.look(moment(90.0, SILENT), ())
    assert [line.split(": ")[1] for line in said] == ["node", "infer", "node"]


def test_events_are_told_once_and_what_a_screen_showed_is_not_told() -> None:
    said: list[str] = []
    lines = Lines(said.append, quiet=True)
    first, second, third = (Event(k, "node", "failed", f"reason {k}") for k in range(3))
    lines.look(moment(1.0), (first,))
    lines.quiet = False
    lines.look(moment(2.0), (first, second))
    lines.look(moment(3.0), (second, third))
    assert [line.split(" ", 1)[1] for line in said] == ["node failed: reason 1", "node failed: reason 2"]
