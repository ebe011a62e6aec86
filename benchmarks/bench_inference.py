"""What the inference process costs per mesh, on a real bus: the network, and everything else.

    python benchmarks/bench_inference.py --model live --views 8

Frame sets of JPEG pictures are published one at a time, the next when the mesh has come, so nothing waits for a busy
network. `network_ms` is the network's forward pass; `overhead_ms` all else between the arrival of the set and the
publication of its mesh (decoding, resizing, hand-over, publishing), `pipeline_ms` of it hand-over and publishing;
`bus_ms` the rest of the way from the first send to the mesh in a subscriber's hands. CPU time is that of this
process, publisher and subscriber included. Prints one JSON object with medians and the machine's load, without which
wall times say little.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `mien infer` does

from inference.bench import BenchOptions, stand_in_rig, stand_in_sets
from inference.config import InferenceConfig
from inference.node import run_infer
from streamer.config import BusConfig, SyncConfig
from streamer.errors import MienError
from streamer.transport import Publisher, Subscriber
from streamer.types import FrameSet, MeshFrame

PATIENCE_S = 60.0


def one_mesh(node: Publisher, listener: Subscriber, frame_set: FrameSet, number: int) -> tuple[MeshFrame, float]:
    """Publish a set and wait for its mesh; returns it and the time from the first send, s."""
    now_ns = time.time_ns()
    start = time.perf_counter()
    for frame in frame_set.members.values():
        stamped = replace(frame, frame_id=number, sequence=number, exposure_time_ns=now_ns, publish_time_ns=now_ns)
        node.send("frame", stamped)
    while time.perf_counter() - start < PATIENCE_S:
        received = listener.receive(0.1)
        if received is not None and isinstance(received[1], MeshFrame) and received[1].frame_id == number:
            return received[1], time.perf_counter() - start
    raise SystemExit(f"no mesh of set {number} within {PATIENCE_S:g} s")


def measure(model: str, precision: str, views: int, sets: int) -> dict[str, object]:
    """Run the process in a thread and feed it."""
    options = BenchOptions(views=views)
    calibration, pictures = stand_in_rig(options), stand_in_sets(options)
    stop, bound, errors = threading.Event(), [], []
    with Publisher("tcp://127.0.0.1:0", ring_slots=16) as node:
        config = InferenceConfig(model=model, precision=precision)  # type: ignore[arg-type]
        bus = BusConfig(nodes=(node.endpoint,), infer_port=0)
        sync = SyncConfig(min_cameras=1, deadline_ms=10_000, stall_ms=60_000)

        def work() -> None:
            try:
                run_infer(config, bus, sync, stop=stop, bound=bound.append)
            except MienError as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while not bound and not errors:
            time.sleep(0.01)
        if errors:
            raise errors[0]
        with Subscriber(bound, ["mesh", "health"]) as listener:
            ready = False
            while not ready and not errors:
                node.send("calibration", calibration)
                received = listener.receive(0.2)
                health = None if received is None else received[1]
                ready = getattr(health, "state", "") == "running" and not getattr(health, "message", "x")
            if errors:
                raise errors[0]
            for number in range(3):
                one_mesh(node, listener, pictures[number % len(pictures)], number)
            cpu = time.process_time()
            done = [one_mesh(node, listener, pictures[k % len(pictures)], k + 3) for k in range(sets)]
            cpu_s = (time.process_time() - cpu) / sets
        stop.set()
        thread.join(PATIENCE_S)
    stages = [mesh.stages_ns for mesh, _ in done]
    network = [s["network"] / 1e6 for s in stages]
    overhead = [(s["prepare"] + s["wait"] + s["publish"]) / 1e6 for s in stages]
    bus = [1e3 * way - n - o for (_, way), n, o in zip(done, network, overhead, strict=True)]
    return {
        "views": views,
        "sets": sets,
        "network_ms": round(statistics.median(network), 3),
        "overhead_ms": round(statistics.median(overhead), 3),
        "prepare_ms": round(statistics.median(s["prepare"] / 1e6 for s in stages), 3),
        "wait_ms": round(statistics.median(s["wait"] / 1e6 for s in stages), 3),
        "pipeline_ms": round(statistics.median((s["wait"] + s["publish"]) / 1e6 for s in stages), 3),
        "publish_ms": round(statistics.median(s["publish"] / 1e6 for s in stages), 3),
        "bus_ms": round(statistics.median(bus), 3),
        "cpu_s_per_mesh": round(cpu_s, 4),
        "fastest_network_ms": round(min(network), 3),
        "fastest_overhead_ms": round(min(overhead), 3),
        "load_average": round(os.getloadavg()[0], 2),
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="as every benchmark; this one prints nothing else")
    parser.add_argument("--model", default="live", help="name or folder")
    parser.add_argument("--precision", default="f32", choices=("auto", "f32", "bf16"))
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--sets", type=int, default=60)
    args = parser.parse_args()
    try:
        print(json.dumps(measure(args.model, args.precision, args.views, args.sets), indent=2))
    except MienError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
