"""What the bus costs per gigabyte of pixels: sockets and shared memory beside a bare memcpy, in CPU seconds.

    python benchmarks/bus.py --mb 0.92 --gb 2

Publisher and subscriber are two processes. CPU time is that of both, all threads and the kernel included; it moves less
than wall time on a busy machine. The ring holds one copy in and one copy out: its floor is two memcpys.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from streamer.keys import create_keys
from streamer.transport import Publisher, Subscriber
from streamer.types import Frame, Health

WINDOW = 16
"""Frames under way at most, so that nothing is lost and nothing is overwritten."""
BATCH = 8
"""Frames per acknowledgement: a pipe costs as much as a message."""
WIDTH = 640


def cpu() -> float:
    """CPU seconds of this process so far, all threads, user and kernel."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def frame(pixels: np.ndarray, sequence: int) -> Frame:
    """A raw picture."""
    return Frame(
        "cam_0", sequence, sequence, sequence, 0, "host", 0, 0, pixels.shape[1], pixels.shape[0], "mono8", pixels
    )


def publish(pipe: Connection, nbytes: int, count: int, slots: int, keys_dir: str) -> None:
    """The publishing process: waits for the subscriber, then keeps `WINDOW` frames under way."""
    pixels = np.random.default_rng(0).integers(0, 255, (nbytes // WIDTH, WIDTH), np.uint8)
    with Publisher("tcp://127.0.0.1:0", ring_slots=slots, keys_dir=keys_dir) as publisher:
        pipe.send(publisher.endpoint)
        while not pipe.poll(0.01):
            publisher.send("health", Health("bench", 0, "running"))
        pipe.recv_bytes()
        began = cpu()
        for sequence in range(count):
            if sequence >= WINDOW and sequence % BATCH == 0:
                pipe.recv_bytes()
            publisher.send("frame", frame(pixels, sequence))
        while pipe.recv_bytes() != b"done":
            pass
        pipe.send(cpu() - began)


def transported(nbytes: int, count: int, slots: int, keys_dir: str) -> tuple[float, float]:
    """CPU and wall seconds of sending `count` frames through the bus, every page of each touched on arrival."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=publish, args=(far, nbytes, count, slots, keys_dir))
    process.start()
    far.close()
    with Subscriber([near.recv()], ["frame", "health"], keys_dir=keys_dir) as subscriber:
        while subscriber.receive(0.1) is None:
            pass
        near.send_bytes(b"go")
        received = 0
        began, wall = cpu(), time.perf_counter()
        while received < count:
            message = subscriber.receive(30)
            if message is None:
                raise SystemExit(f"nothing arrived any more after {received} frames; rejected {subscriber.rejected}")
            if isinstance(message[1], Frame):
                received += 1
                int(message[1].data.ravel()[::4096].sum())
                if received % BATCH == 0:
                    near.send_bytes(b"")
        near.send_bytes(b"done")
        wall = time.perf_counter() - wall
        used = cpu() - began + near.recv()
    process.join()
    return used, wall


def copied(nbytes: int, count: int) -> tuple[float, float]:
    """CPU and wall seconds of copying `count` frames between rotating buffers."""
    source = np.random.default_rng(0).integers(0, 255, (WINDOW, nbytes), np.uint8)
    target = np.zeros((WINDOW, nbytes), np.uint8)
    began, wall = cpu(), time.perf_counter()
    for n in range(count):
        np.copyto(target[n % WINDOW], source[n % WINDOW])
        int(target[n % WINDOW][::4096].sum())
    return cpu() - began, time.perf_counter() - wall


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=0.92, help="size of a picture, MB")
    parser.add_argument("--gb", type=float, default=1.0, help="amount sent per run, GB")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    nbytes = max(1, round(args.mb * 1e6) // WIDTH) * WIDTH
    count = max(2 * WINDOW, round(args.gb * 1e9 / nbytes) // BATCH * BATCH)
    with TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        create_keys(keys)
        ways = {
            "memcpy": lambda: copied(nbytes, count),
            "ring": lambda: transported(nbytes, count, 2 * WINDOW, ""),
            "socket": lambda: transported(nbytes, count, 0, ""),
            "socket_curve": lambda: transported(nbytes, count // 4 // BATCH * BATCH, 0, str(keys)),
        }
        result: dict[str, dict[str, float]] = {}
        for name, way in ways.items():
            runs = [way() for _ in range(args.repeats)]
            gigabytes = (count // 4 // BATCH * BATCH if name == "socket_curve" else count) * nbytes / 1e9
            result[name] = {
                "cpu_s_per_gb": round(statistics.median(used for used, _ in runs) / gigabytes, 3),
                "gb_per_s": round(gigabytes / statistics.median(wall for _, wall in runs), 2),
            }
    for values in result.values():
        values["times_memcpy"] = round(values["cpu_s_per_gb"] / result["memcpy"]["cpu_s_per_gb"], 1)
    if args.json:
        print(json.dumps({"mb": args.mb, "frames": count, "repeats": args.repeats, "ways": result}))
    else:
        print(f"{count} pictures of {args.mb:g} MB, median of {args.repeats}")
        print(f"{'way':14s} {'CPU s/GB':>9s} {'x memcpy':>9s} {'GB/s':>7s}")
        for name, values in result.items():
            print(f"{name:14s} {values['cpu_s_per_gb']:9.3f} {values['times_memcpy']:9.1f} {values['gb_per_s']:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
