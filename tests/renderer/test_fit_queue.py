"""The queue: legal moves only, one holder a job, nothing lost when workers die."""

import dataclasses
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from renderer.fitter.evaluate import Scores
from renderer.fitter.fit import DivergedError
from renderer.fitter.jobs import ENDED, FOLLOWS, HELD, MOST, Job, after_failure
from renderer.fitter.owners import dead_owners, owner_name
from renderer.fitter.run import Outcome, Pulse
from renderer.fitter.store import Store, _row
from renderer.fitter.worker import Worker, cause_of
from streamer.errors import FitError, TakeError
from tests.renderer.fit_grab import grab


def job(**changes: Any) -> Job:
    return dataclasses.replace(Job(0, "/takes/a", "ci", {"steps": 5}), **changes)


def test_every_state_has_a_way_on_or_is_an_end() -> None:
    assert set(FOLLOWS) >= HELD | ENDED
    for state, followers in FOLLOWS.items():
        assert followers <= set(FOLLOWS)
        assert followers or state == "done"


def test_jobs_come_by_priority_then_age_and_are_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "queue.sqlite"
    with Store(path) as store:
        first = store.add(job(frames=(3, None), hold_out=("a", "b")), 1.0)
        urgent = store.add(job(priority=5), 2.0)
    with Store(path) as store:
        assert [one.id for one in store.jobs()] == [urgent, first]
        assert store.get(first).frames == (3, None) and store.get(first).hold_out == ("a", "b")
        assert store.get(first).overrides == {"steps": 5}
        one, two = store.lease("w1", 3.0, 60), store.lease("w2", 3.0, 60)
        assert one is not None and two is not None and (one.id, two.id) == (urgent, first)
        assert store.lease("w3", 3.0, 60) is None
        assert [event["is_now"] for event in store.events(first)] == ["queued", "running"]
        with pytest.raises(FitError, match="no job 99"):
            store.get(99)


def test_only_the_token_may_write(tmp_path: Path) -> None:
    with Store(tmp_path / "q") as store:
        store.add(job(), 0.0)
        old = store.lease("w1", 0.0, 10)
        assert old is not None
        assert store.renew(old, 5.0, 10, {"step": 3}) == "running"
        new = store.lease("w2", 16.0, 10)
        assert new is not None and new.id == old.id and new.step == 3 and new.tries == {"lost": 1}
        assert store.renew(old, 31.0, 10, {"step": 99}) is None
        assert not store.end(old, "done", 31.0, {})
        assert not store.fail(old, after_failure(old, "input", "x", 31.0, 1), 31.0)
        assert store.get(old.id).step == 3
        assert store.end(new, "done", 32.0, {"psnr_db": 30.0})
        assert store.get(old.id).state == "done"


def test_what_a_person_asks_for(tmp_path: Path) -> None:
    with Store(tmp_path / "q") as store:
        number = store.add(job(), 0.0)
        assert store.ask(number, "paused", 1.0).state == "paused"
        assert store.lease("w", 1.0, 10) is None
        assert store.ask(number, "queued", 2.0).state == "queued"
        held = store.lease("w", 3.0, 10)
        assert held is not None
        assert store.ask(number, "paused", 4.0).state == "pause-requested"
        assert store.renew(held, 4.0, 10, {}) == "pause-requested"
        assert store.ask(number, "cancelled", 5.0).state == "cancel-requested"
        assert store.end(held, "paused", 6.0, {})
        assert store.get(number).state == "cancelled"
        assert store.ask(number, "queued", 7.0).state == "queued"
        again = store.lease("w", 8.0, 10)
        assert again is not None
        store.end(again, "done", 9.0, {})
        with pytest.raises(FitError, match="done and cannot be paused"):
            store.ask(number, "paused", 10.0)


@pytest.mark.parametrize("cause", ["lost", "memory", "diverged", "disk", "input"])
def test_causes_are_tried_again_as_often_as_said(cause: Any) -> None:
    one, tried = job(), 0
    while True:
        verdict = after_failure(one, cause, "why", 100.0, 4096)
        one = dataclasses.replace(one, tries=verdict.tries, overrides=verdict.overrides, rate_scale=verdict.rate_scale)
        if verdict.state == "failed":
            break
        tried += 1
        assert verdict.not_before_s >= 100.0
    assert tried == MOST[cause]
    assert (one.overrides.get("samples") == 2048) == (cause == "memory")
    assert (one.rate_scale < 1) == (cause == "diverged")


def test_errors_have_causes() -> None:
    assert cause_of(MemoryError()) == "memory" and cause_of(torch.OutOfMemoryError("x")) == "memory"
    assert cause_of(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")) == "memory"
    assert cause_of(DivergedError("x")) == "diverged"
    assert cause_of(OSError(28, "No space left on device")) == "disk"
    assert cause_of(TakeError("x")) == "input" and cause_of(FileNotFoundError(2, "x")) == "input"


def runner(plan: list[Any]) -> Any:
    """A run that does what is planned, one entry a sitting."""

    def run(task: Any, folder: Path, control: Any, **_: Any) -> Outcome:
        what = plan.pop(0)
        verdict = control(Pulse(len(plan), 9, "refining"))
        if isinstance(what, Exception):
            raise what
        if verdict != "go":
            return Outcome("paused" if verdict == "pause" else "cancelled", 4)
        return Outcome("done", 9, Scores(31.0, 0.9, {}, True, 4))

    return run


def work(tmp_path: Path, plan: list[Any]) -> Job:
    stop = threading.Event()
    with Store(tmp_path / "q") as store:
        number = store.add(job(preset="ci"), time.time())
        Worker(tmp_path / "q", tmp_path, stop, runner=runner(plan)).work(once=True)
        return store.get(number)


def test_a_worker_does_what_each_failure_asks_for(tmp_path: Path) -> None:
    done = work(tmp_path / "a", ["go"])
    assert (done.state, done.psnr_db, done.ssim, done.owner) == ("done", 31.0, 0.9, "")
    healed = work(tmp_path / "b", [DivergedError("nan at step 3"), MemoryError(), "go"])
    assert healed.state == "done" and healed.tries == {"diverged": 1, "memory": 1} and healed.rate_scale < 1
    bad = work(tmp_path / "c", [TakeError("all pictures are black")])
    assert (bad.state, bad.message) == ("failed", "all pictures are black")
    assert work(tmp_path / "d", [ValueError("odd"), "go"]).message == "ValueError: odd"


def test_a_bad_job_does_not_stop_the_next(tmp_path: Path) -> None:
    with Store(tmp_path / "q") as store:
        bad, good = store.add(job(preset="nonsense"), 0.0), store.add(job(), 1.0)
        ended = Worker(tmp_path / "q", tmp_path, threading.Event(), runner=runner(["go"])).work(once=True)
        assert ended == 2
        assert store.get(bad).state == "failed" and "no preset 'nonsense'" in store.get(bad).message
        assert store.get(good).state == "done"


def test_two_processes_never_hold_one_job(tmp_path: Path) -> None:
    with Store(tmp_path / "q") as store:
        numbers = [store.add(job(), 0.0) for _ in range(40)]
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        workers = [context.Process(target=grab, args=(str(tmp_path / "q"), answers)) for _ in range(2)]
        for worker in workers:
            worker.start()
        found = [answers.get(timeout=50) for _ in workers]
        for worker in workers:
            worker.join(50)
        answers.close()
        answers.join_thread()
        assert sorted(found[0] + found[1]) == numbers
        gone = dead_owners(store.held())
        assert gone == {one.owner for one in store.held()}, "both processes have ended"
        assert owner_name() not in gone
        assert store.give_back(gone, time.time()) == 40
        assert {one.state for one in store.jobs()} == {"retry-wait"}


def test_a_file_that_is_no_queue_is_told(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"no database, but long enough to be looked at by the library" * 20)
    with pytest.raises(FitError, match="cannot open the queue"):
        Store(tmp_path / "q")


def test_a_thousand_jobs_are_listed_while_work_goes_on(tmp_path: Path) -> None:
    """One statement, no matter how many jobs: the figure is benchmarks/fitter_queue.py's, here its cause is held."""
    with Store(tmp_path / "q") as store, Store(tmp_path / "q") as other:
        store._db.execute("BEGIN IMMEDIATE")
        row = _row(job())
        del row["id"]
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        store._db.executemany(f"INSERT INTO jobs ({names}) VALUES ({marks})", [tuple(row.values())] * 1000)
        store._db.execute("COMMIT")
        asked: list[str] = []
        other._db.set_trace_callback(asked.append)
        store._db.execute("BEGIN IMMEDIATE")  # a worker that writes keeps nobody from reading
        found = other.jobs()
        store._db.execute("ROLLBACK")
    assert len(found) == 1000 and len(asked) == 1
