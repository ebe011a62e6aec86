"""Workers that are killed: one process imports torch once and forks workers, each a real process that gets SIGKILL.

    python -m tests.renderer.fit_lives QUEUE RUNS KILLS SEED

Kills come at random moments: some while a job is prepared, most once the run has gained something that a checkpoint
holds.
Writes what happened as JSON.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from renderer.fitter import jobs
from renderer.fitter.store import Store
from renderer.fitter.worker import Worker

DEADLINE_S = 100.0


def live(queue: Path, runs: Path) -> int:
    """One worker's life; returns its process id."""
    child = os.fork()
    if child:
        return child
    torch.set_num_threads(1)
    worker = Worker(queue, runs, threading.Event(), beat_s=0.03, checkpoint_every_s=0.02)
    try:
        worker.work(once=True, poll_s=0.02)
    finally:
        os._exit(0)


def safe(queue: Path, child: int) -> bool:
    """Whether the table knows of a checkpoint of this life: no loss in a row is counted then."""
    with Store(queue) as store:
        job = store.get(1)
        own = job.state == "running" and job.owner.split(":")[1:2] == [str(child)]
        return job.state == "done" or (own and job.step > 0 and "lost" not in job.tries)


def main() -> None:
    queue, runs = Path(sys.argv[1]), Path(sys.argv[2])
    os.fsync = lambda file: None  # type: ignore[assignment] # killed processes lose nothing that the system has
    draw = random.Random(int(sys.argv[4]))
    jobs.BACK_OFF_S = 0.01
    end, kills = time.monotonic() + DEADLINE_S, 0
    for number in range(int(sys.argv[3])):
        if time.monotonic() > end:  # a slow machine: the kills so far have to do
            break
        child = live(queue, runs)
        wait_for_progress = number % 3 != 2
        while wait_for_progress and not safe(queue, child):
            if os.waitpid(child, os.WNOHANG)[0]:
                break
            time.sleep(0.01)
        else:
            time.sleep(draw.uniform(0, 0.05 if wait_for_progress else 0.15))
            os.kill(child, signal.SIGKILL)
            kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    os.waitpid(live(queue, runs), 0)
    with Store(queue) as store:
        job, events = store.get(1), store.events(1)
    leases = sum(event["reason"] == "leased" for event in events)
    told = {"state": job.state, "message": job.message, "kills": kills, "leases": leases}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
