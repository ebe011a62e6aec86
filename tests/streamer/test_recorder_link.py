"""What the console does about a recorder that does not answer, refuses, or was killed in the middle of a take."""

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from streamer.config import BusConfig
from streamer.console.recorder_link import RecorderLink, folder_bytes, recover
from streamer.errors import FitError, TransportError
from tests.streamer.console_makers import status
from tests.streamer.take_makers import fill, open_writer, write_take


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        threading.Event().wait(0.02)


class Recorder:
    """Answers as told."""

    def __init__(self, now: Mapping[str, Any] | None) -> None:
        self.now, self.asked = now, []  # type: ignore[var-annotated]

    def __call__(self, name: str, arguments: Mapping[str, Any], patience_s: float) -> Mapping[str, Any]:
        if name != "status":
            self.asked.append((name, dict(arguments)))
        if self.now is None:
            raise TransportError("no answer")
        if name == "start":
            self.now = status(take="takes/atlas/s12_T005")
        return self.now


def test_a_recorder_that_was_killed_goes_on_and_its_take_is_repaired(tmp_path: Path) -> None:
    take = tmp_path / "s12_T004"
    writer = open_writer(take)
    fill(writer, 40)
    recorder = Recorder(status(take=str(take)))
    with RecorderLink(BusConfig(), dict, recorder) as link:
        until(lambda: link.take_bytes > 0, "its size")
        writer.close()  # stands for the kill: what recover makes of a torn take has its own tests
        recorder.now = None
        until(lambda: link.status is None, "the silence")
        assert link.before is not None and link.before["state"] == "recording"
        link.rescue()
        recorder.now = status(state="armed", take="")
        until(lambda: recorder.asked, "the start")
        until(lambda: "is repaired" in link.told, "the repair")
    assert recorder.asked == [("start", {"show": "atlas", "slate": "s12", "notes": "angry, eyes open"})]


def test_a_recorder_that_was_not_recording_is_left_alone() -> None:
    recorder = Recorder(status(state="armed", take=""))
    with RecorderLink(BusConfig(), dict, recorder) as link:
        until(lambda: link.status, "an answer")
        link.rescue()
    assert recorder.asked == [] and link.told == ""


def test_a_refusal_reaches_the_operator_and_a_broken_queue_is_told() -> None:
    def broken() -> Mapping[str, int]:
        raise FitError("the queue is of another version")

    with RecorderLink(BusConfig(), broken, Recorder(None)) as link:
        with pytest.raises(TransportError, match="no answer"):
            link.command("stop", {})
        until(lambda: link.told, "the queue's trouble")
    assert link.told == "the queue is of another version" and link.fits == {}


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), sqlite3.OperationalError("I/O")])
def test_no_trouble_of_the_system_ends_the_asking(error: Exception) -> None:
    """The status is unknown meanwhile, not the one of before."""
    failing = threading.Event()

    def fail_or(answer: Any) -> Any:
        if failing.is_set():
            raise error
        return answer

    def ask(_name: str, _arguments: Mapping[str, Any], _patience_s: float) -> Mapping[str, Any]:
        return fail_or(status(state="armed", take=""))  # type: ignore[no-any-return]

    with RecorderLink(BusConfig(), lambda: fail_or({"queued": 1}), ask) as link:
        until(lambda: link.status and link.fits, "an answer")
        failing.set()
        until(lambda: link.status is None and not link.fits, "the trouble")
        assert "the fit queue cannot be read" in link.told
        failing.clear()
        until(lambda: link.status and link.fits == {"queued": 1}, "the next answer")


def test_an_asking_that_ended_leaves_no_status_behind() -> None:
    with RecorderLink(BusConfig(), dict, Recorder(status(state="armed", take=""))) as link:
        until(lambda: link.status, "an answer")
    assert link.status is None and link.before is not None


def test_what_cannot_be_repaired_is_told(tmp_path: Path) -> None:
    assert "could not be repaired" in recover(tmp_path / "nothing")
    assert folder_bytes(tmp_path / "nothing") == 0
    assert folder_bytes(write_take(tmp_path / "take", 3)) > 1000
