"""What a camera node costs: 16 simulated cameras, 640x480 grey, 73 fps, through shared memory to one subscriber.

    python benchmarks/node.py [--seconds S] [--cameras N] [--fps F] [--json]

Node and subscriber are two processes. The stage is one of test patterns made beforehand, so no rendering is measured.
A picture is copied twice on its way, into the ring and out of it; beside the CPU time per GB stands that of a bare copy
of the same pictures between the same amount of memory. Every picture is accounted for.
"""

import argparse
import json
import multiprocessing
import threading
import time
from multiprocessing.connection import Connection

import numpy as np

from rig.config import RigConfig, SimulatedConfig
from rig.drivers.simulated import SimulatedDriver
from rig.node import run_node
from rig.patterns import PatternStage
from streamer.config import BusConfig
from streamer.transport import Subscriber
from streamer.types import U8, Frame, Health, MeshFrame

BUS = BusConfig(node_port=0, ring_slots=32)
WARM_UP_S = 1.0


class TimedStage(PatternStage):
    """Notes the CPU time when the warm-up (rings are allocated, pages are touched) is over."""

    def __init__(self, config: SimulatedConfig) -> None:
        """Begin with the warm-up."""
        super().__init__(config)
        self.pulses_before = 0
        self.start: tuple[float, float] | None = None

    def render(self, time_s: float) -> tuple[dict[str, U8], MeshFrame]:
        """Return the pattern."""
        if time_s < WARM_UP_S:
            self.pulses_before += 1
        elif self.start is None:
            self.start = time.process_time(), time.monotonic()
        return super().render(time_s)


def publish(rig: RigConfig, seconds: float, told: Connection) -> None:
    """Run the node; tells its endpoint, then its counters, the pulses of the warm-up, CPU and wall time after it."""
    stage = TimedStage(rig.simulated)
    driver = SimulatedDriver(rig.simulated, rig.fps, lambda _: stage)
    whole_s = seconds + WARM_UP_S
    counters = run_node(rig, BUS, stop=threading.Event(), seconds=whole_s, driver=driver, bound=told.send)
    if stage.start is None:
        raise SystemExit("nothing was published after the warm-up")
    cpu_s, wall_s = time.process_time() - stage.start[0], time.monotonic() - stage.start[1]
    told.send((dict(counters), stage.pulses_before, cpu_s, wall_s))


class Followed:
    """What one subscriber got of each camera, by the numbers that the node gave."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.received: dict[str, int] = {}
        self.before_join = 0
        """Published before the subscription took hold: first numbers."""
        self.gaps = 0
        """Numbers that are missing in between."""
        self._next: dict[str, int] = {}

    def take(self, frame: Frame) -> None:
        """Follow a frame."""
        if frame.camera not in self._next:
            self.before_join += frame.sequence
        else:
            self.gaps += frame.sequence - self._next[frame.camera]
        self._next[frame.camera] = frame.sequence + 1
        self.received[frame.camera] = self.received.get(frame.camera, 0) + 1


def receive(endpoint: str) -> tuple[Followed, float, list[float], dict[str, int]]:
    """Receive until the node ends: frames, CPU time in s, exposure-to-receipt times in ms, refused messages."""
    followed = Followed()
    latencies_ms: list[float] = []
    cpu_s, warm_ns = time.process_time(), time.time_ns() + round(WARM_UP_S * 1e9)
    with Subscriber([endpoint], ["frame", "health"], depth=2000) as subscriber:
        while True:
            found = subscriber.receive(5.0)
            if found is None:
                raise SystemExit("the node fell silent")
            message = found[1]
            if isinstance(message, Frame):
                followed.take(message)
                if message.exposure_time_ns >= warm_ns:
                    latencies_ms.append((time.time_ns() - message.exposure_time_ns) / 1e6)
            elif isinstance(message, Health) and message.state == "stopping":
                return followed, time.process_time() - cpu_s, latencies_ms, dict(subscriber.rejected)


def copy_cpu_s_per_gb(config: SimulatedConfig, gigabytes: float = 4.0) -> float:
    """CPU time of a bare copy of such pictures, through as much memory as rings and patterns occupy."""
    picture = np.zeros((config.height, config.width), np.uint8)
    sources = [picture + np.uint8(k % 7) for k in range(config.cameras * 8)]
    targets = [picture + np.uint8(k % 5) for k in range(config.cameras * BUS.ring_slots)]
    count = int(gigabytes * 1e9 / picture.nbytes)
    start = time.process_time()
    for k in range(count):
        np.copyto(targets[k % len(targets)], sources[k % len(sources)])
    return (time.process_time() - start) / (count * picture.nbytes / 1e9)


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--fps", type=float, default=73.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    config = SimulatedConfig(cameras=args.cameras, width=640, height=480)
    rig = RigConfig(fps=args.fps, encoding="raw", simulated=config)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    node = context.Process(target=publish, args=(rig, args.seconds, there), daemon=True)
    node.start()
    followed, subscriber_cpu_s, latencies_ms, rejected = receive(here.recv())
    received = followed.received
    counters, pulses_before, node_cpu_s, wall_s = here.recv()
    node.join()
    published = sum(count for name, count in counters.items() if name.startswith("published."))
    picture_gb = config.width * config.height / 1e9
    measured_gb = (published - pulses_before * args.cameras) * picture_gb
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    result = {
        "cameras": args.cameras,
        "fps_asked": args.fps,
        "fps": round(measured_gb / picture_gb / args.cameras / wall_s, 2),
        "published": published,
        "received": sum(received.values()),
        "before_join": followed.before_join,
        "lost_on_bus": followed.gaps,
        "overwritten_in_ring": rejected.get("overwritten", 0),
        "unexplained": published - sum(received.values()) - followed.before_join - followed.gaps,
        "dropped_in_queue": sum(n for name, n in counters.items() if name.startswith("dropped-in-queue.")),
        "dropped_by_camera": sum(n for name, n in counters.items() if name.startswith("dropped-by-camera.")),
        "skipped_pulses": counters["skipped-pulses"],
        "gb_per_s": round(measured_gb / wall_s, 3),
        "node_cpu_s_per_gb": round(node_cpu_s / measured_gb, 3),
        "subscriber_cpu_s_per_gb": round(subscriber_cpu_s / (sum(received.values()) * picture_gb), 3),
        "copy_cpu_s_per_gb": round(copy_cpu_s_per_gb(config), 3),
        "node_cores": round(node_cpu_s / wall_s, 3),
        "exposure_to_receipt_ms": {"p50": round(float(p50), 2), "p99": round(float(p99), 2)},
    }
    result["cpu_over_two_copies"] = round(
        (result["node_cpu_s_per_gb"] + result["subscriber_cpu_s_per_gb"]) / (2 * result["copy_cpu_s_per_gb"]), 2
    )
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:28} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
