"""Workers that die, disks that fill, memory that ends: the job goes on, and its curve is the unbroken one."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from renderer.fitter import checkpoint, jobs, run
from renderer.fitter.fit import Fit
from renderer.fitter.jobs import Job
from renderer.fitter.presets import preset_of
from renderer.fitter.run import CURVE, Outcome, Pulse, Task, Verdict, run_fit
from renderer.fitter.store import Store
from renderer.fitter.worker import Worker
from streamer.errors import FitError
from tests.renderer.fit_takes import write_take

ROOT = Path(__file__).parents[2]
SMALL = {
    "steps": 200, "samples": 1024, "rays": 64, "step_mm": 15.0, "occupancy": 10, "shape.tables": 2,
    "shape.grid.levels": 3, "shape.grid.log2_rows": 9, "shape.deform_width": 16, "shape.hidden": 16,
}  # fmt: skip
DEADLINE_S = 100


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # dozens of checkpoints; none of these tests cuts the power


def add(tmp_path: Path, **values: Any) -> Path:
    take = tmp_path / "take"
    if not take.exists():
        write_take(take)
    with Store(tmp_path / "q") as store:
        store.add(Job(0, str(take), "ci", {**SMALL, **values}, hold_out=("cam_4",), mesh_channel="truth"), time.time())
    return take


def work(tmp_path: Path, runs: str = "runs", **options: Any) -> Job:
    torch.set_num_threads(1)
    Worker(tmp_path / "q", tmp_path / runs, threading.Event(), **options).work(once=True, poll_s=0.02)
    with Store(tmp_path / "q") as store:
        return max(store.jobs(), key=lambda job: job.id)


def losses(folder: Path) -> list[dict[str, Any]]:
    """The curve without its clock, and without the glances, which come by the clock."""
    lines = [json.loads(line) for line in (folder / CURVE).read_text("utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines if "loss" in line]


def test_a_worker_killed_at_twenty_moments_leaves_the_unbroken_curve(tmp_path: Path) -> None:
    add(tmp_path, prior=False, encoder="torch", steps=800)
    arguments = [str(tmp_path / "q"), str(tmp_path / "runs"), "20", "5"]
    command = [sys.executable, "-m", "tests.renderer.fit_lives", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["state"] == "done" and told["kills"] >= 8, told  # twenty, where there is time
    add(tmp_path, prior=False, encoder="torch", steps=800)
    assert work(tmp_path).state == "done"
    broken, whole = (losses(tmp_path / "runs" / name) for name in ("job_0001", "job_0002"))
    assert len(whole) == 80 and broken == whole, "bit for bit"
    ends = [load_file(checkpoint.checkpoints(tmp_path / "runs" / name)[-1]) for name in ("job_0001", "job_0002")]
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_sigterm_leaves_a_checkpoint_and_says_try_again(tmp_path: Path) -> None:
    """The exit code that render farms know as temporary: 75; then the job goes on where it was."""
    add(tmp_path, steps=100_000)
    values = [f"fitter.queue={tmp_path / 'q'}", f"fitter.runs={tmp_path / 'runs'}", "fitter.threads=1"]
    command = [sys.executable, "-m", "mien", "fit", "work", "--job", "1", *(w for v in values for w in ("--set", v))]
    worker = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        curve, end = tmp_path / "runs" / "job_0001" / CURVE, time.monotonic() + DEADLINE_S
        while not (curve.exists() and curve.stat().st_size) and time.monotonic() < end and worker.poll() is None:
            time.sleep(0.05)
        worker.send_signal(signal.SIGTERM)
        _, told = worker.communicate(timeout=DEADLINE_S)
    finally:
        worker.kill()
    assert worker.returncode == 75, told
    with Store(tmp_path / "q") as store:
        job = store.get(1)
    assert job.state == "queued" and job.step >= 10
    assert checkpoint.checkpoints(tmp_path / "runs" / "job_0001")[-1].stem.endswith(f"{job.step:08d}")


def test_a_run_stops_wherever_it_is_when_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it reads the take, at a glance at held-out pictures, while it is judged; then it goes on from there."""
    monkeypatch.setattr(run, "LOOK_EVERY_S", 0.0)
    write_take(tmp_path / "take")
    preset = preset_of("ci", {**SMALL, "steps": 30, "prior": False})
    task = Task(tmp_path / "take", preset, hold_out=("cam_4",), mesh_channel="truth")

    def sit(name: str, phase: str = "", step: int = 0) -> tuple[Outcome, int]:
        """Pause when a phase is told a third time at one step, so within it; return how often it was told."""
        told: list[tuple[str, int]] = []

        def control(pulse: Pulse) -> Verdict:
            told.append((pulse.phase, pulse.step))
            return "pause" if told.count((phase, step)) == 3 else "go"

        return run_fit(task, tmp_path / name, control, beat_every_s=0.0), told.count((phase, step))

    assert sit("whole")[0].state == "done"
    for phase, step in (("preparing", 0), ("refining", 20), ("evaluating", 30)):
        outcome, told = sit("broken", phase, step)
        assert (outcome.state, outcome.step, told) == ("paused", step, 3), phase
        assert not (tmp_path / "broken" / run.MANIFEST).exists()
    assert sit("broken")[0].state == "done"
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole"), "bit for bit"


def test_a_lack_of_memory_halves_the_samples_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = Fit.advance

    def greedy(fit: Fit) -> Any:
        if fit.preset.samples > 600 and fit.step >= 25:
            raise torch.OutOfMemoryError("planted")
        return advance(fit)

    monkeypatch.setattr(Fit, "advance", greedy)
    add(tmp_path, steps=40)
    job = work(tmp_path, checkpoint_every_s=0.0)
    assert (job.state, job.tries, job.overrides["samples"]) == ("done", {"memory": 1}, 512), job.message
    assert [line["step"] for line in losses(tmp_path / "runs" / "job_0001")] == [10, 20, 30, 40]


def test_a_loss_that_is_not_finite_goes_back_and_lowers_the_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, kept = Fit.advance, []

    def wild(fit: Fit) -> Any:
        if fit.step == 25 and fit.rate_scale == 1.0:
            fit.field.tint[0].weight.data[:] = torch.nan
        if fit.rate_scale != 1.0:
            kept.append((fit.step, fit.rate_scale, bool(torch.isfinite(fit.field.tint[0].weight).all())))
        return advance(fit)

    monkeypatch.setattr(Fit, "advance", wild)
    add(tmp_path, steps=40)
    job = work(tmp_path, checkpoint_every_s=0.0)
    assert (job.state, job.tries) == ("done", {"diverged": 1})
    assert kept[0] == (25, jobs.LOWER_RATE, True), "from the last checkpoint, which knows no NaN"


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the system's own refusal."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_disk_that_fills_up_costs_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, full = checkpoint.save, iter([False, False, True])
    monkeypatch.setattr(jobs, "BACK_OFF_S", 0.01)

    def refused(fit: Fit, folder: Path) -> Path:
        if not next(full, False):
            return save(fit, folder)
        before = [path.read_bytes() for path in checkpoint.checkpoints(folder)]
        try:
            with full_disk(20_000):
                return save(fit, folder)
        finally:
            assert [path.read_bytes() for path in checkpoint.checkpoints(folder)] == before
            assert not list(folder.glob("*.part"))

    monkeypatch.setattr(checkpoint, "save", refused)
    add(tmp_path, steps=40)
    job = work(tmp_path, checkpoint_every_s=0.0)
    assert (job.state, job.tries) == ("done", {"disk": 1})
    with Store(tmp_path / "q") as store:
        told = [event["reason"] for event in store.events(1)]
    assert any("cannot write" in reason and "goes on from the last checkpoint" in reason for reason in told), told
    add(tmp_path, steps=40)
    assert work(tmp_path).state == "done"
    assert losses(tmp_path / "runs" / "job_0001") == losses(tmp_path / "runs" / "job_0002")


def test_a_queue_on_a_full_disk_is_told(tmp_path: Path) -> None:
    add(tmp_path)
    job = Job(0, "/takes/a", "ci", {"text": "x" * 100_000})
    size = os.path.getsize(tmp_path / "q")
    with (
        Store(tmp_path / "q") as store,
        full_disk(size),
        pytest.raises(FitError, match="cannot write the queue"),
    ):
        for _ in range(20):
            store.add(job, 0.0)
