"""Two jobs on a real Ray cluster of two nodes on this machine, one of which is killed while both are fitted.

    python -m tests.renderer.fit_cluster QUEUE RUNS

The driver runs here, as `mien fit work --once` runs it. Writes what happened as JSON.
"""

import json
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from renderer.fitter.cluster import Driver
from renderer.fitter.store import Store

DEADLINE_S = 150.0


def kill_when_both_learn(cluster: Cluster, victim: object, queue: Path, killed: list[float]) -> None:
    """Kill a node once every job has a step behind it."""
    end = time.monotonic() + DEADLINE_S
    with Store(queue) as store:
        while time.monotonic() < end:
            jobs = store.jobs()
            if all(job.state == "running" and job.step > 0 for job in jobs):
                cluster.remove_node(victim, allow_graceful=False)
                killed.append(time.monotonic())
                return
            if any(job.state in ("done", "failed") for job in jobs):
                return
            time.sleep(0.05)


def main() -> None:
    queue, runs = Path(sys.argv[1]), Path(sys.argv[2])
    head = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    told: list[str] = []
    killed: list[float] = []
    try:
        victim = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        cluster.wait_for_nodes()
        driver = Driver(
            queue,
            runs,
            threading.Event(),
            address=cluster.address,
            checkpoint_every_s=0.2,
            say=lambda job, text: told.append(f"{job.id} {text}"),
        )
        nodes = sum(node["Alive"] for node in ray.nodes())
        watch = threading.Thread(target=kill_when_both_learn, args=(cluster, victim, queue, killed))
        watch.start()
        ended = driver.work(once=True)
        watch.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    with Store(queue) as store:
        jobs = {job.id: (job.state, job.tries, job.step) for job in store.jobs()}
    found = {"nodes": nodes, "killed": len(killed), "ended": ended, "jobs": jobs, "told": told}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
