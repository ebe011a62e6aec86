"""Jobs on several machines: the table is the queue's, Ray places and runs the work. The only file that imports ray.

One driver holds the leases of all jobs that run on the cluster, so the table stays a file of one machine; runs are on
storage that all machines share. A run tells its pulses to an actor beside the driver and is told there what is wanted.
When a node is lost, Ray says so, and the job goes on from its last checkpoint wherever there is room.
"""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from renderer.fitter.jobs import ENDED, Job, after_failure
from renderer.fitter.owners import dead_owners, owner_name
from renderer.fitter.presets import preset_of
from renderer.fitter.run import Pulse, Verdict, run_fit
from renderer.fitter.store import QueueError, Store
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
from streamer.errors import ConfigError, FitError, MienError, MissingExtra

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

    def clear(self, number: int) -> None:
        """Forget what an earlier run of this job told and was told."""
        self._pulses.pop(number, None)
        self._wishes.pop(number, None)

    def wish(self, number: int, verdict: Verdict) -> None:
        """Want something of a run."""
        self._wishes[number] = verdict


def run_on_node(job: Job, folder: str, desk: Any, checkpoint_every_s: float, threads: int) -> Mapping[str, Any]:
    """Fit a job on this node; the body of the Ray task. Failures come back as values: `cause`, `why`, `samples`."""
    import ray

    torch.set_num_threads(threads or PREVIEW_CPUS)
    device = torch.device("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")
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
        self._told: set[int] = set()
        """Jobs that the cluster has no room for even when it is idle; told once."""

    def work(self, *, once: bool) -> int:
        """Work until stopped, or with `once` until nothing runs, and nothing waits that the cluster could do.

        Returns:
            Jobs that came to their end, well or badly.
        """
        ended = 0
        with Store(self._queue) as store:
            while self._placed or not self._stop.is_set():
                try:
                    self._renew(store)
                    if not self._stop.is_set() and self._place(store) and once and not self._placed:
                        break
                    ended += self._settle_ended(store)
                except QueueError as error:  # runs go on without it until the leases lapse
                    self._say(None, f"{error}; tries again")
                    self._stop.wait(POLL_S)
        return ended

    def _settle_ended(self, store: Store) -> int:
        """Wait a little for runs to end, and write down how; returns the jobs that have come to their end."""
        references = [placed.reference for placed in self._placed.values()]
        if not references:
            self._stop.wait(POLL_S)
            return 0
        done = self._ray.wait(references, timeout=POLL_S)[0]
        ended = 0
        for placed in [one for one in self._placed.values() if one.reference in done]:
            ended += self._settle(store, placed)
            del self._placed[placed.job.id]
        return ended

    def _place(self, store: Store) -> bool:
        """Lease what there is room for, in the queue's order; jobs that no node is free for stay in the table.

        Returns:
            Whether nothing waits that the cluster could do, now or later.
        """
        store.give_back(dead_owners(store.held()), time.time())
        capacity, free = self._ray.cluster_resources(), self._free()
        for job in store.waiting(time.time()):
            try:
                needs = needs_of(job, self._threads, capacity.get("GPU", 0.0))
            except ConfigError as error:
                self._refuse(store, job, error)
                continue
            if all(free.get(name, 0.0) >= amount for name, amount in needs.items()):
                self._start(store, job, needs)
                free = self._free()
            elif any(capacity.get(name, 0.0) < amount for name, amount in needs.items()) and job.id not in self._told:
                self._told.add(job.id)
                wanted = ", ".join(f"{amount:g} {name}" for name, amount in needs.items())
                self._say(job, f"is left in the queue: it asks for {wanted}, which no node of the cluster has")
        return all(job.id in self._told for job in store.waiting(math.inf))

    def _free(self) -> Mapping[str, float]:
        """Return what the cluster has left, less what was placed so lately that it may not be counted yet."""
        free = dict(self._ray.available_resources())
        for placed in self._placed.values():
            if time.time() - placed.began_s < 2.0:
                for name, amount in placed.needs.items():
                    free[name] = free.get(name, 0.0) - amount
        return free

    def _start(self, store: Store, job: Job, needs: Mapping[str, float]) -> None:
        leased = store.lease(self.owner, time.time(), LEASE_S, job.id)
        if leased is None:
            return
        self._told.discard(job.id)
        self._ray.get(self._desk.clear.remote(leased.id))
        task = self._ray.remote(max_retries=0, num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0.0))(run_on_node)
        folder = str(run_folder(self._runs, leased.id))
        reference = task.remote(leased, folder, self._desk, self._every_s, self._threads)
        self._placed[leased.id] = _Placed(leased, reference, needs)
        self._say(leased, f"placed, at step {leased.step}")

    def _refuse(self, store: Store, job: Job, error: MienError) -> None:
        leased = store.lease(self.owner, time.time(), LEASE_S, job.id)
        if leased is not None:
            store.fail(leased, after_failure(leased, "input", line_of(error), time.time(), 0), time.time())
            self._say(leased, line_of(error))

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
            now = store.get(job.id)  # as `_renew` left it
            verdict = after_failure(now, result["cause"], result["why"], time.time(), result["samples"])
            store.fail(job, verdict, time.time())
            self._say(job, verdict.message)
        else:
            columns: dict[str, Any] = {"step": result["step"], "message": ""}
            if result["scores"] is not None:
                columns |= {"psnr_db": result["scores"].psnr_db, "ssim": result["scores"].ssim}
            store.end(job, result["state"], time.time(), columns)
            self._say(job, f"is {store.get(job.id).state} at step {result['step']}")
        return store.get(job.id).state in ENDED
