"""A worker: leases jobs, fits them, and hands them back whatever happens.

The run itself is `renderer.fitter.run`; here are the lease and its heartbeat (a thread, so that no slow step loses the
job), the lock on the run's folder, and what each kind of failure means for the job.
"""

import dataclasses
import errno
import fcntl
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from renderer.fitter.fit import DivergedError
from renderer.fitter.jobs import ENDED, Cause, Job, State, after_failure
from renderer.fitter.owners import dead_owners, owner_name
from renderer.fitter.presets import PRESETS, beyond, preset_for_memory, preset_of
from renderer.fitter.run import Outcome, Pulse, Task, Verdict, run_fit
from renderer.fitter.store import QueueError, Store
from streamer.errors import FitError, MienError

LEASE_S = 60.0
"""A worker that says nothing for this long has lost its job."""
BEAT_S = 2.0
"""Seconds between renewals."""


T = TypeVar("T")
WISHES: Mapping[str, Verdict] = {"pause-requested": "pause", "cancel-requested": "cancel"}
"""State of a job to what its run is told."""


class Told(Protocol):
    """What is told about a worker's jobs, for people."""

    def __call__(self, job: Job | None, text: str) -> None:
        """Tell one line about a job, or about the queue."""


def task_of(job: Job, gpu_gb: float) -> Task:
    """Return what a job's run is to fit.

    Args:
        job: `auto` as its preset is the largest that the worker can do.
        gpu_gb: memory of the worker's GPU, GB; 0: it has none.

    Raises:
        ConfigError: its preset or a value of it does not exist (any more).
        FitError: the worker has too little memory for the preset.
    """
    preset = preset_of(preset_for_memory(gpu_gb) if job.preset == "auto" else job.preset, job.overrides)
    if preset.name in beyond(gpu_gb):
        raise FitError(
            f"preset '{preset.name}' needs a GPU with {preset.memory_gb:g} GB, this worker has {gpu_gb:g}; "
            "add the job again with --preset auto or preview"
        )
    return Task(Path(job.take), preset, job.frames, job.hold_out, job.mesh_channel)


def gpu_memory_gb(device: torch.device | None) -> float:
    """Return the memory of the GPU that a worker fits on, GB; 0 on a CPU."""
    if device is None or device.type != "cuda":
        return 0.0
    return float(torch.cuda.get_device_properties(device).total_memory) / 1e9


class _Beat:
    """Renews the lease from a thread of its own and remembers what is wanted."""

    def __init__(self, path: Path, job: Job, lease_s: float, stop: threading.Event, beat_s: float) -> None:
        self.pulse: Pulse | None = None
        self.wanted: Verdict = "go"
        self.lost = False
        self._path, self._job, self._lease_s, self._stop, self._beat_s = path, job, lease_s, stop, beat_s
        self._over, self._until_s = threading.Event(), job.lease_until_s
        self._thread = threading.Thread(target=self._run, name=f"lease of job {job.id}")

    def __enter__(self) -> "_Beat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def control(self, pulse: Pulse) -> Verdict:
        """What `run_fit` calls."""
        self.pulse = pulse
        if self.lost:
            raise _LeaseLost
        return "pause" if self._stop.is_set() else self.wanted

    def _run(self) -> None:
        while not self.lost and not self._over.is_set():
            try:
                with Store(self._path) as store:
                    while self._renew(store) and not self._over.wait(self._beat_s):
                        pass
            except QueueError:  # who has told nothing until the lease lapses has lost the job
                self.lost = time.time() > self._until_s
                self._over.wait(self._beat_s)

    def _renew(self, store: Store) -> bool:
        """Renew once; return whether the job is still ours."""
        now_s, pulse = time.time(), self.pulse
        advanced = pulse is not None and pulse.kept > 0
        state = store.renew(self._job, now_s, self._lease_s, told(pulse), advanced=advanced)
        self.lost = state is None
        self.wanted = WISHES.get(state or "", "go")
        self._until_s = now_s + self._lease_s
        return not self.lost


class _LeaseLost(Exception):
    pass


class FolderBusyError(FitError):
    """Another process works in a run's folder: one that does not know yet that it has lost the job."""


def told(pulse: Pulse | None) -> dict[str, Any]:
    """Return the columns of the queue that a pulse fills."""
    if pulse is None:
        return {}
    found = dataclasses.asdict(pulse)
    return {name: value for name, value in found.items() if name != "kept" and (value is not None or name == "eta_s")}


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the run's folder: one process at a time, whatever the queue says.

    Raises:
        FolderBusyError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderBusyError(f"another process works in {folder}") from error
        yield


Runner = Callable[..., Outcome]


class Worker:
    """Takes one job after the other.

    Args:
        queue: the SQLite file.
        runs: folder of the runs; job 7 works in `runs/job_0007`.
        stop: set it to hand back the job at the next step, with a checkpoint.
        device: where fits run.
        lease_s: see `LEASE_S`.
        beat_s: see `BEAT_S`.
        checkpoint_every_s: seconds between checkpoints.
        say: told what happens.
        runner: `run_fit`, or what stands in for it.
    """

    def __init__(
        self,
        queue: Path,
        runs: Path,
        stop: threading.Event,
        *,
        device: torch.device | None = None,
        lease_s: float = LEASE_S,
        beat_s: float = BEAT_S,
        checkpoint_every_s: float = 120.0,
        say: Told = lambda job, text: None,
        runner: Runner = run_fit,
    ) -> None:
        """Open nothing yet."""
        self._queue, self._runs, self._stop = queue, runs, stop
        self._device, self._lease_s, self._checkpoint_every_s = device, lease_s, checkpoint_every_s
        self._say, self._run, self._beat_s = say, runner, beat_s
        self._beyond = beyond(gpu_memory_gb(device))
        self.owner = owner_name()

    def folder(self, number: int) -> Path:
        """Return the folder of a job's run."""
        return run_folder(self._runs, number)

    def work_on(self, number: int, poll_s: float = 2.0) -> Job:
        """Work on one job until it ends, is paused, or this worker is stopped; for farms that place jobs themselves.

        Returns:
            The job as it is then.

        Raises:
            FitError: there is no such job.
        """
        with Store(self._queue) as store:
            while True:
                store.give_back(dead_owners(store.held()), time.time())
                job = store.lease(self.owner, time.time(), self._lease_s, number)
                if job is not None:
                    self.do(store, job)
                waiting = store.get(number)
                if self._stop.is_set() or waiting.state not in ("queued", "retry-wait"):
                    return waiting
                self._stop.wait(min(max(waiting.not_before_s - time.time(), 0.05), poll_s))

    def work(self, *, once: bool, poll_s: float = 2.0) -> int:
        """Work until stopped, or with `once` until nothing is queued and nothing waits to be tried again.

        Returns:
            Jobs that came to their end here, well or badly.
        """
        ended = 0
        with Store(self._queue) as store:
            while not self._stop.is_set():
                try:
                    job = self.take_next(store)
                    if job is not None:
                        ended += self.do(store, job) in ENDED
                        continue
                    until_s = store.waiting_until_s(self._beyond)
                except QueueError as error:
                    self._say(None, f"{error}; tries again")
                    self._stop.wait(poll_s)
                    continue
                if once and until_s is None:
                    self._say_left(store)
                    break
                wait_s = poll_s if until_s is None else min(max(until_s - time.time(), 0.05), poll_s)
                self._stop.wait(wait_s)
        return ended

    def take_next(self, store: Store) -> Job | None:
        """Lease the next job that this worker has the memory for; those of workers that died here come back at once."""
        store.give_back(dead_owners(store.held()), time.time())
        return store.lease(self.owner, time.time(), self._lease_s, beyond=self._beyond)

    def _say_left(self, store: Store) -> None:
        for job in store.waiting(math.inf):
            if job.preset in self._beyond:  # others came just now
                self._say(job, f"is left for a worker with {PRESETS[job.preset].memory_gb:g} GB on its GPU")

    def do(self, store: Store, job: Job) -> State:
        """Run a leased job until it ends, is paused, or fails; return the state it is left in."""
        self._say(job, f"begins with {job.take}" if job.step == 0 else f"goes on at step {job.step} of {job.steps}")
        samples = 0
        try:
            task = task_of(job, gpu_memory_gb(self._device))
            samples = task.preset.samples
            with (
                _Beat(self._queue, job, self._lease_s, self._stop, self._beat_s) as beat,
                folder_lock(self.folder(job.id)),
            ):
                outcome = self._run(
                    task,
                    self.folder(job.id),
                    beat.control,
                    device=self._device,
                    checkpoint_every_s=self._checkpoint_every_s,
                    rate_scale=job.rate_scale,
                )
        except _LeaseLost:
            self._say(job, "was given to another worker; left alone")
        except Exception as error:  # noqa: BLE001 - whatever it was, the job must not be left in the air
            self._fail(store, job, error, samples)
        else:
            self._end(store, job, outcome, beat.pulse)
        return store.get(job.id).state

    def _end(self, store: Store, job: Job, outcome: Outcome, pulse: Pulse | None) -> None:
        states: Mapping[str, State] = {"done": "done", "paused": "paused", "cancelled": "cancelled"}
        columns: dict[str, Any] = {**told(pulse), "step": outcome.step, "message": ""}
        if outcome.scores is not None:
            columns |= {"psnr_db": outcome.scores.psnr_db, "ssim": outcome.scores.ssim}
        self._insist(lambda: store.end(job, states[outcome.state], time.time(), columns))
        text = f", {outcome.scores.psnr_db:.2f} dB" if outcome.scores else ""
        self._say(job, f"is {store.get(job.id).state} at step {outcome.step}{text}")

    def _fail(self, store: Store, job: Job, error: Exception, samples: int) -> None:
        def write() -> str:  # the job as the lease's heartbeat left it
            verdict = after_failure(store.get(job.id), cause_of(error), line_of(error), time.time(), samples)
            store.fail(job, verdict, time.time())
            return verdict.message

        self._say(job, self._insist(write))

    def _insist(self, write: Callable[[], T]) -> T:
        """Write down how a job ended; while the queue cannot be written, as on a full disk, try again until stopped."""
        while True:
            try:
                return write()
            except QueueError as error:
                if self._stop.wait(self._beat_s):
                    raise
                self._say(None, f"{error}; tries again")


def cause_of(error: Exception) -> Cause:
    """Say what kind of failure an exception is; what nobody foresaw is taken for bad input, which is not retried."""
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return "memory"
    if isinstance(error, DivergedError):
        return "diverged"
    if isinstance(error, FolderBusyError):
        return "busy"
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG) or "cannot write" in text
        return "disk" if full else "input"
    return "input"


def line_of(error: Exception) -> str:
    """Return what an exception says in one line, with its kind where it is none of ours."""
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return why if isinstance(error, MienError | OSError | MemoryError) else f"{type(error).__name__}: {why}"


def run_folder(runs: Path, number: int) -> Path:
    """Return the folder of a job's run."""
    return runs / f"job_{number:04d}"
