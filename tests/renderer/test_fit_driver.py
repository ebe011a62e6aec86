"""The driver of a cluster: what it places, leaves and takes back. The real cluster: test_fit_cluster.py."""

import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mien import main
from renderer.fitter.cluster import Driver
from renderer.fitter.jobs import MOST
from renderer.fitter.run import Pulse
from renderer.fitter.store import Store
from streamer.processes import Stop
from tests.renderer.fake_ray import RayError, install
from tests.renderer.test_fit_queue import job

DONE = {"state": "done", "step": 9, "scores": None}
CPUS = {"CPU": 2.0}


def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: Mapping[str, float] = CPUS) -> Any:
    ray, told = install(monkeypatch, resources), []  # type: ignore[var-annotated]
    return Driver(tmp_path / "q", tmp_path, threading.Event(), say=lambda _, text: told.append(text)), ray, told


def test_jobs_of_a_driver_that_died_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "q") as store:
        lapsed, dead = store.add(job(), 0.0), store.add(job(), 1.0)
        assert store.lease("elsewhere:1:1", 2.0, 10.0, lapsed) is not None
        chief, ray, _ = driver(tmp_path, monkeypatch)
        gone = chief.owner.rpartition(":")[0] + ":0"  # this process's number, begun at another time
        assert store.lease(gone, time.time(), 1e6, dead) is not None
        ray.ends += [DONE, DONE]
        assert chief.work(once=True) == 2
        assert {one.state for one in store.jobs()} == {"done"}


def test_what_the_cluster_cannot_do_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "q") as store:
        large, wrong, small = (store.add(job(preset=name), 0.0) for name in ("gpu-24", "nonsense", "ci"))
        chief, ray, told = driver(tmp_path, monkeypatch)
        ray.ends.append(DONE)
        assert chief.work(once=True) == 1
        assert [store.get(number).state for number in (large, wrong, small)] == ["queued", "failed", "done"]
        assert "no preset 'nonsense'" in store.get(wrong).message
        assert sum("1 GPU" in text for text in told) == 1, told


@pytest.mark.parametrize("kept", [0, 1], ids=["nothing kept", "a checkpoint in each"])
def test_losses_count_only_without_a_checkpoint_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """All runs are lost. The first has kept something: what it told says nothing of those that follow."""
    chief, ray, _ = driver(tmp_path, monkeypatch)
    with Store(tmp_path / "q") as store:
        number = store.add(job(), 0.0)
        for run in range(MOST["lost"] + 2):
            ray.ends.append(RayError("node"))
            chief._place(store)
            if not ray.begun:
                break
            ray.begun.clear()
            if kept or not run:
                ray.desk.tell(number, Pulse(3, 9, "refining", kept=1))
            chief._renew(store)
            chief._settle_ended(store)
            store._db.execute("UPDATE jobs SET not_before_s = 0")
        failed = store.get(number).state == "failed"
        assert failed == (not kept), store.events(number)


def test_a_signal_is_the_drivers_and_not_rays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining a cluster puts a handler of Ray's in place, which would end the process and lose what runs learned."""
    ray, found = install(monkeypatch, CPUS), []

    def work(self: Driver, *, once: bool) -> int:
        found.append(signal.getsignal(signal.SIGTERM))
        return 0

    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, lambda *_: sys.exit()))
    monkeypatch.setattr(Driver, "work", work)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert (
            main(["fit", "work", "--once", "--set", "fitter.cluster=ray", "--set", f"fitter.queue={tmp_path / 'q'}"])
            == 0
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(getattr(found[0], "__self__", None), Stop)
