"""A worker beside others: what it leaves to them, and what it does while the queue cannot be written."""

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from renderer.fitter import worker
from renderer.fitter.jobs import BACK_OFF_S, Job
from renderer.fitter.run import Outcome, Pulse
from renderer.fitter.store import QueueError, Store
from renderer.fitter.worker import Worker, folder_lock
from tests.renderer.test_fit_queue import job, runner


def laborer(tmp_path: Path, run: Any, told: list[str] | None = None, **more: Any) -> Worker:
    lines = [] if told is None else told
    return Worker(
        tmp_path / "q", tmp_path, threading.Event(), runner=run, say=lambda _, text: lines.append(text), **more
    )


def test_a_folder_in_which_another_still_works_costs_no_job(tmp_path: Path) -> None:
    """After a suspend, the other process does not know yet that its lease has lapsed."""
    with Store(tmp_path / "q") as store:
        number = store.add(job(), 0.0)
        one = laborer(tmp_path, runner(["go", "go"]))
        with folder_lock(one.folder(number)):
            taken = one.take_next(store)
            assert taken is not None
            assert one.do(store, taken) == "retry-wait"
        waiting = store.get(number)
        assert "another process works in" in waiting.message
        assert 0 < waiting.not_before_s - time.time() <= BACK_OFF_S
        store._db.execute("UPDATE jobs SET not_before_s = 0")
        assert one.work(once=True) == 1
        assert store.get(number).state == "done"


def test_jobs_for_a_larger_machine_are_left_to_it(tmp_path: Path) -> None:
    told: list[str] = []
    with Store(tmp_path / "q") as store:
        large, small = store.add(job(preset="gpu-48", priority=9), 0.0), store.add(job(), 1.0)
        assert laborer(tmp_path, runner(["go"]), told).work(once=True) == 1
        assert [store.get(number).state for number in (large, small)] == ["queued", "done"]
        assert "is left for a worker with 44 GB on its GPU" in told


def test_auto_stays_what_the_first_worker_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job begun on a GPU is not taken by a worker without one, whose fit would be another."""

    def begin(task: Any, folder: Path, control: Any, **_: Any) -> Outcome:
        beat = control.__self__
        control(Pulse(3, 9, "refining", preset=task.preset.name))
        while not beat.written.wait(0.01):
            pass
        return Outcome("paused", 3)

    class Beat(worker._Beat):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.written = threading.Event()

        def _renew(self, store: Store) -> bool:
            told = self.pulse is not None
            held = super()._renew(store)
            if told:
                self.written.set()
            return held

    monkeypatch.setattr(worker, "_Beat", Beat)
    monkeypatch.setattr(worker, "gpu_memory_gb", lambda device: 24.0)
    with Store(tmp_path / "q") as store:
        number = store.add(job(preset="auto", overrides={}), 0.0)
        one = laborer(tmp_path, begin, beat_s=0.01)
        taken = one.take_next(store)
        assert taken is not None
        one.do(store, taken)
        begun = store.get(number)
        assert (begun.state, begun.preset, begun.step) == ("queued", "gpu-24", 3)
        monkeypatch.setattr(worker, "gpu_memory_gb", lambda device: 0.0)
        assert laborer(tmp_path, runner([])).take_next(store) is None


def test_an_end_is_written_once_the_queue_can_be(tmp_path: Path) -> None:
    """The disk is full when the run ends; the worker waits and does not forget."""
    told: list[str] = []
    with Store(tmp_path / "q") as store:
        number = store.add(job(), 0.0)
        one = laborer(tmp_path, runner(["go"]), told, beat_s=0.01)
        taken = one.take_next(store)
        assert taken is not None
        end, tries = store.end, []

        def full(*arguments: Any) -> bool:
            tries.append(1)
            if len(tries) < 4:
                raise QueueError("cannot write the queue: disk full")
            return end(*arguments)

        store.end = full  # type: ignore[method-assign]
        assert one.do(store, taken) == "done"
        assert len(tries) == 4 and sum("tries again" in text for text in told) == 3
        assert store.get(number).state == "done"


def test_a_worker_outlives_a_queue_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "q") as store:
        store.add(job(), 0.0)
        one, tries = laborer(tmp_path, runner(["go"])), []
        take_next = one.take_next

        def broken(opened: Store) -> Job | None:
            tries.append(1)
            if len(tries) < 3:
                raise QueueError("cannot read the queue")
            return take_next(opened)

        monkeypatch.setattr(one, "take_next", broken)
        assert one.work(once=True, poll_s=0.01) == 1


def test_a_damaged_queue_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "q"
    with Store(path) as store:
        for _ in range(200):
            store.add(job(overrides={"note": "x" * 200}), 0.0)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with Store(path) as store, pytest.raises(QueueError, match="cannot read the queue"):
        store.jobs()


def test_farms_are_told_what_to_try_again(capsys: pytest.CaptureFixture[str]) -> None:
    from argparse import Namespace

    from renderer.fitter.cli import BAD_INPUT, FAILED, TRY_AGAIN, _told_to_farm

    codes = {
        ("done", ()): 0,
        ("paused", ()): TRY_AGAIN,
        ("running", ()): TRY_AGAIN,
        ("cancelled", ()): FAILED,
        ("failed", ("lost",)): FAILED,
        ("failed", ("lost", "input")): BAD_INPUT,
    }
    for (state, causes), code in codes.items():
        ended = job(state=state, tries=dict.fromkeys(causes, 1), message="why")
        assert _told_to_farm(Namespace(json=True), ended) == code, (state, causes)
        assert json.loads(capsys.readouterr().out)["state"] == state
