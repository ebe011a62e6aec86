"""Jobs on several machines: the table is the queue's, Ray places and runs the work. The only file that imports ray.

One driver holds the leases of all jobs that run on the cluster, so the table stays a file of one machine; runs are on
storage that all machines share. A run tells its pulses to an actor beside the driver and is told there what is wanted.
When a node is lost, Ray says so, and the job goes on from its last checkpoint wherever there is room.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from renderer.fitter.jobs import Job, after_failure
from renderer.fitter.owners import owner_name
from renderer.fitter.presets import preset_of
from renderer.fitter.run import Pulse, Verdict, run_fit
from renderer.fitter.store import Store
from renderer.fitter.worker import (
    LEASE_S,
    WISHES,
    Told,
    cause_of,
    folder_lock,
    gpu_memory_gb,
    line_of,
    run_folder,
    task_of,
    told,
)
from streamer.errors import FitError, MissingExtra

POLL_S = 0.5
"""Seconds between looks at the runs."""
PREVIEW_CPUS = 1


def needs_of(job: Job, threads: int, gpus: float) -> Mapping[str, float]:
    """Return what a job asks of a node: whole GPUs for presets that want one, else CPUs.

    Args:
        job: `auto` wants a GPU where the cluster has any.
        threads: CPUs of a fit without a GPU; 0: one.
        gpus: of the whole cluster.

    Raises:
        ConfigError: its preset does not exist.
    """
    name = job.preset
    if name == "auto":
        name = "gpu-24" if gpus else "preview"
    if preset_of(name).name.startswith("gpu"):
        return {"CPU": 1.0, "GPU": 1.0}
    return {"CPU": float(threads or PREVIEW_CPUS)}


class Desk:
    """Where runs and the driver meet; an actor."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pulses: dict[int, Pulse] = {}
        self._wishes: dict[int, Verdict] = {}

    def tell(self, number: int, pulse: Pulse) -> Verdict:
        """Take a run's pulse; return what is wanted of it."""
        self._pulses[number] = pulse
        return self._wishes.get(number, "go")

    def pulses(self) -> Mapping[int, Pulse]:
        """Return the last pulse of each run."""
        return self._pulses

    def wish(self, number: int, verdict: Verdict) -> None:
        """Want something of a run."""
        self._wishes[number] = verdict


def run_on_node(job: Job, folder: str, desk: Any, checkpoint_every_s: float, threads: int) -> Mapping[str, Any]:
    """Fit a job on this node; the body of the Ray task. Failures come back as values: `cause`, `why`, `samples`."""
    import ray

    torch.set_num_threads(threads or PREVIEW_CPUS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    samples = 0

    def control(pulse: Pulse) -> Verdict:
        verdict: Verdict = ray.get(desk.tell.remote(job.id, pulse))
        return verdict

    try:
        task = task_of(job, gpu_memory_gb(device))
        samples = task.preset.samples
        with folder_lock(Path(folder)):
            outcome = run_fit(
                task,
                Path(folder),
                control,
                device=device,
                checkpoint_every_s=checkpoint_every_s,
                rate_scale=job.rate_scale,
            )
    except Exception as error:  # noqa: BLE001 - the driver decides by its cause
        return {"cause": cause_of(error), "why": line_of(error), "samples": samples}
    return {"state": outcome.state, "step": outcome.step, "scores": outcome.scores}


@dataclass
class _Placed:
    job: Job
    reference: Any
    needs: Mapping[str, float]
    began_s: float = field(default_factory=time.time)


class Driver:
    """Leases jobs while the cluster has room for them, and keeps the table true while they run.

    Args:
        queue: the SQLite file, on this machine.
        runs: folder of the runs, on storage that all nodes share.
        stop: set it to hand back all jobs, each with a checkpoint.
        address: of the cluster's head, or `auto`.
        threads: CPUs of a fit without a GPU; 0: one.
        checkpoint_every_s: seconds between checkpoints.
        say: told what happens.

    Raises:
        MissingExtra: ray is not installed.
        FitError: no cluster at the address.
    """

    def __init__(
        self,
        queue: Path,
        runs: Path,
        stop: threading.Event,
        *,
        address: str = "auto",
        threads: int = 0,
        checkpoint_every_s: float = 120.0,
        say: Told = lambda job, text: None,
    ) -> None:
        """Join the cluster."""
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("ray", "fit-cluster") from error
        self._queue, self._runs, self._stop, self._threads = queue, runs.resolve(), stop, threads
        self._every_s, self._say, self.owner = checkpoint_every_s, say, owner_name()
        try:
            ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise FitError(
                f"no Ray cluster at '{address}' ({line_of(error)}); run: ray start --head, or set fitter.ray_address"
            ) from error
        self._ray = ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # beside the driver: on another node it would be lost with that node, and all runs with it
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._desk = ray.remote(num_cpus=0, scheduling_strategy=here)(Desk).remote()
        self._placed: dict[int, _Placed] = {}

    def work(self, *, once: bool) -> int:
        """Work until stopped, or with `once` until nothing is queued, waits or runs.

        Returns:
            Jobs that came to their end, well or badly.
        """
        ended = 0
        with Store(self._queue) as store:
            while self._placed or not self._stop.is_set():
                if not self._stop.is_set():
                    self._place(store)
                    if once and not self._placed and store.waiting_until_s() is None:
                        break
                self._renew(store)
                references = [placed.reference for placed in self._placed.values()]
                done = self._ray.wait(references, timeout=POLL_S)[0] if references else []
                if not references:
                    self._stop.wait(POLL_S)
                for placed in [one for one in self._placed.values() if one.reference in done]:
                    del self._placed[placed.job.id]
                    ended += self._settle(store, placed)
        return ended

    def _place(self, store: Store) -> None:
        """Lease as many jobs as there is room for; a job that no node is free for stays in the table."""
        while True:
            job = store.peek(time.time())
            if job is None:
                return
            needs = needs_of(job, self._threads, self._ray.cluster_resources().get("GPU", 0.0))
            free = dict(self._ray.available_resources())
            for placed in self._placed.values():
                if time.time() - placed.began_s < 2.0:  # not yet counted as taken, perhaps
                    for name, amount in placed.needs.items():
                        free[name] = free.get(name, 0.0) - amount
            if any(free.get(name, 0.0) < amount for name, amount in needs.items()):
                return
            leased = store.lease(self.owner, time.time(), LEASE_S, job.id)
            if leased is None:
                return
            task = self._ray.remote(max_retries=0, num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0.0))(run_on_node)
            self._ray.get(self._desk.wish.remote(leased.id, "go"))
            folder = str(run_folder(self._runs, leased.id))
            reference = task.remote(leased, folder, self._desk, self._every_s, self._threads)
            self._placed[leased.id] = _Placed(leased, reference, needs)
            self._say(leased, f"placed, at step {leased.step}")

    def _renew(self, store: Store) -> None:
        pulses = self._ray.get(self._desk.pulses.remote())
        for number, placed in list(self._placed.items()):
            pulse = pulses.get(number)
            advanced = pulse is not None and pulse.kept > 0
            state = store.renew(placed.job, time.time(), LEASE_S, told(pulse), advanced=advanced)
            wanted: Verdict = "pause" if self._stop.is_set() or state is None else WISHES.get(state, "go")
            self._ray.get(self._desk.wish.remote(number, wanted))

    def _settle(self, store: Store, placed: _Placed) -> bool:
        """Write down how a run ended; return whether the job has come to its end."""
        job = placed.job
        try:
            result = self._ray.get(placed.reference)
        except self._ray.exceptions.RayError as error:
            result = {"cause": "lost", "why": f"its node was lost ({type(error).__name__})", "samples": 0}
        if "cause" in result:
            verdict = after_failure(job, result["cause"], result["why"], time.time(), result["samples"])
            store.fail(job, verdict, time.time())
            self._say(job, verdict.message)
        else:
            columns: dict[str, Any] = {"step": result["step"], "message": ""}
            if result["scores"] is not None:
                columns |= {"psnr_db": result["scores"].psnr_db, "ssim": result["scores"].ssim}
            store.end(job, result["state"], time.time(), columns)
            self._say(job, f"is {store.get(job.id).state} at step {result['step']}")
        return store.get(job.id).state in ("done", "failed", "cancelled")
