"""The soak notes the supervisor as well, and two hours are not lost to one question that nobody answered."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import Watch, judge
from streamer.errors import TransportError
from tests.mien.house import House

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads what processes hold in /proc")
GONE = 4_000_000 + os.getpid()
"""Beyond any process id that the kernel gives."""


class Told(House):
    """A house that is not running: this process stands for `mien live`, and for what the state names."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.states: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any] | TransportError] = []
        self.commands: list[str] = []

    @property
    def pid(self) -> int:
        return os.getpid()

    def state(self, *, patient: bool = True) -> dict[str, Any]:
        return self.states.pop(0)

    def take(self, command: str, **arguments: object) -> dict[str, Any]:
        self.commands.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, TransportError):
            raise answer
        return answer


def state(node: int) -> dict[str, Any]:
    flow = {"meshes_per_s": 16.0, "latency_ms": {"p50": 190.0}}
    return {"flow": flow, "cameras": [], "processes": [{"name": "node", "pid": node}, {"name": "view", "pid": None}]}


@pytest.mark.parametrize("missed", [{}, state(GONE)], ids=["no answer", "a process that has just ended"])
def test_one_minute_that_cannot_be_noted_is_left_out_and_a_second_one_told(
    missed: dict[str, Any], tmp_path: Path
) -> None:
    house, log = Told(tmp_path), tmp_path / "notes.jsonl"
    watch = Watch(house, log)
    house.states = [state(os.getpid()), missed, state(os.getpid()), missed]
    assert [watch.note(minute) for minute in (1.0, 2.0, 3.0)] == [True, False, True]
    assert watch.verdict() == [] and [note["minute"] for note in watch.notes] == [1.0, 3.0]
    assert [json.loads(line) for line in log.read_text().splitlines()] == watch.notes
    assert not watch.note(4.0)
    assert [line.split(":")[0] for line in watch.verdict()] == ["minute 2.0", "minute 4.0"]


def test_two_misses_of_hundreds_are_no_finding_and_nothing_noted_is_one(tmp_path: Path) -> None:
    house = Told(tmp_path)
    watch = Watch(house, None)
    house.states = [{}]
    watch.note(1.0)
    assert watch.verdict() == ["nothing could be noted"] and judge(watch.notes) == ({}, [])
    house.states = [{}, *[state(os.getpid())] * 198]
    assert [watch.note(2.0 + index) for index in range(199)].count(False) == 1
    assert watch.verdict() == []


def test_the_supervisor_is_judged_too(tmp_path: Path) -> None:
    house = Told(tmp_path)
    watch = Watch(house, None)
    house.states = [state(os.getpid())]
    watch.note(1.0)
    early, late = watch.notes[0], {**watch.notes[0], "live.rss_mb": 1.03 * watch.notes[0]["live.rss_mb"]}
    assert judge([early, early, late, late])[1] == [
        f"live.rss_mb: {early['live.rss_mb']:.1f} -> {late['live.rss_mb']:.1f}"
    ]
    assert {"live.threads", "live.files", "live.segments"} <= set(early)


def test_a_recorder_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    house = Told(tmp_path)
    watch = Watch(house, None)
    silent = TransportError("no answer")
    house.answers = [{"state": "recording"}, {}, silent, {"state": "armed"}, {"take": "takes/slate_T002"}]
    assert not watch.renew_take() and watch.takes == 1
    assert watch.renew_take() and watch.takes == 2
    assert house.commands == ["status", "stop", "start", "status", "start"], "what was stopped is not stopped again"
    house.states = [state(os.getpid())]
    watch.note(1.0)
    assert watch.verdict() == []
