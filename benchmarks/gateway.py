"""What the gateway costs per client and frame, how old a head is when a client has it, and whether sleepers matter.

    python benchmarks/gateway.py --clients 20 --stalled 5

A `mien serve` of its own, fed over a real bus with heads of 4,283 vertices. Clients are threads of this process, half
of them WebSocket; stalled ones connect and never read. Ages are from hand-over to the bus to the whole record in the
client; the reading side's Python is in them, and its share of the machine.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streamer.gateway.decoding import Splitter, decode_record
from streamer.gateway.live_link import NAMES
from streamer.gateway.osc import bundles, plain
from streamer.gateway.records import Kind, Record
from streamer.transport import Publisher
from streamer.types import MeshFrame, Topology

ROOT = Path(__file__).resolve().parents[1]
VERTICES, TRIANGLES = 4283, 8500


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20, help="all of them, stalled ones too")
    parser.add_argument("--stalled", type=int, default=5)
    parser.add_argument("--fps", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--osc", action="store_true", help="instead: the packets of one mesh, ours and by python-osc")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.osc:
        result = measure_osc()
    else:
        result = measure(arguments.clients, arguments.stalled, arguments.fps, arguments.seconds)
    if arguments.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:30} {value}" for name, value in result.items()))


def measure(clients: int, stalled: int, fps: float, seconds: float) -> dict[str, Any]:
    """Run once and return the figures."""
    rng = np.random.default_rng(1)
    points = rng.normal(0, 0.1, (VERTICES, 3)).astype(np.float32)
    triangles = rng.integers(0, VERTICES, (TRIANGLES, 3))
    topology = Topology("benchmark", triangles, np.zeros((1, 2)), np.zeros_like(triangles), points)
    ports = free_ports(3)
    ages: list[list[float]] = [[] for _ in range(clients - stalled)]
    begin, done = threading.Event(), threading.Event()
    with Publisher("tcp://127.0.0.1:0") as publisher, tempfile.TemporaryFile("w+") as out:
        command = [sys.executable, str(ROOT / "mien.py"), "serve", "--json"]
        values = {
            "bus.infer": publisher.endpoint, "serve.tcp_port": ports[0], "serve.websocket_port": ports[1],
            "serve.max_clients": clients, "bus.serve_port": ports[2],
        }  # fmt: skip
        command += [f"--set={key}={value}" for key, value in values.items()]
        with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT) as gateway:
            line = gateway.stderr.readline() if gateway.stderr is not None else ""
            if "the head is at" not in line:
                raise SystemExit(f"the gateway did not start: {line}")
            try:
                sleepers = [socket.create_connection(("127.0.0.1", ports[0])) for _ in range(stalled)]
                readers = [
                    threading.Thread(target=read, args=(ports[k % 2], k % 2 == 1, ages[k], begin, done), daemon=True)
                    for k in range(len(ages))
                ]
                for reader in readers:
                    reader.start()
                mesh = MeshFrame(0, 0, 0, topology.id, points, np.eye(4, dtype=np.float32))
                publish(publisher, topology, mesh, fps, 1.5)  # everybody has joined and the sleepers' buffers are full
                cpu_s = process_cpu_s(gateway.pid)
                begin.set()
                sent = publish(publisher, topology, mesh, fps, seconds)
                time.sleep(0.2)
                cpu_s = process_cpu_s(gateway.pid) - cpu_s
                done.set()
                for sleeper in sleepers:
                    sleeper.close()
            finally:
                gateway.terminate()
        out.seek(0)
        counters = json.loads(out.read())
    received = [len(one) for one in ages]
    every = np.concatenate(ages) * 1e3
    return {
        "clients": clients,
        "stalled": stalled,
        "published": sent,
        "received_least": min(received),
        "age_ms_p50": round(float(np.percentile(every, 50)), 2),
        "age_ms_p95": round(float(np.percentile(every, 95)), 2),
        "cpu_ms_per_client_frame": round(1e3 * cpu_s / sum(received), 4),
        "frames_skipped": counters["frames.skipped"],
    }


def measure_osc(rounds: int = 300) -> dict[str, Any]:
    """Return how long the OSC bundles of 52 weights and a pose take to build, by our encoder and by python-osc."""
    from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
    from pythonosc.osc_message_builder import OscMessageBuilder

    weights, pose = {name: k / 52 for k, name in enumerate(NAMES)}, np.eye(4, dtype=np.float32)

    def ours() -> None:
        list(bundles(plain("mien", weights, pose, 0.5)))

    def theirs() -> None:
        bundle = OscBundleBuilder(IMMEDIATELY)  # type: ignore[arg-type] # a number, as its documentation has it
        values = {f"/mien/{name}": (value,) for name, value in weights.items()}
        values |= {"/mien/head/position": (0.0,) * 3, "/mien/head/rotation": (0.0,) * 4, "/mien/time": (0, 0.5)}
        for address, arguments in values.items():
            message = OscMessageBuilder(address)
            for value in arguments:
                message.add_arg(value)
            bundle.add_content(message.build())
        bundle.build()

    times_ms = {}
    for name, act in (("ours", ours), ("python_osc", theirs)):
        begun_s = time.perf_counter()
        for _ in range(rounds):
            act()
        times_ms[f"{name}_ms_per_mesh"] = round(1e3 * (time.perf_counter() - begun_s) / rounds, 3)
    return times_ms


def publish(publisher: Publisher, topology: Topology, mesh: MeshFrame, fps: float, seconds: float) -> int:
    """Send heads at a rate, stamped with the time; return how many."""
    begun_s, count = time.monotonic(), 0
    while count < seconds * fps:
        time.sleep(max(0.0, begun_s + count / fps - time.monotonic()))
        if count % round(fps) == 0:
            publisher.send("topology", topology)
        publisher.send("mesh", replace(mesh, exposure_time_ns=time.time_ns()))
        count += 1
    return count


def read(port: int, web: bool, ages: list[float], begin: threading.Event, done: threading.Event) -> None:
    """Note the age of each frame between two events."""
    for record in records(port, web):
        if done.is_set():
            break
        if begin.is_set() and record.header.kind == Kind.FRAME:
            ages.append(time.time() - record.header.capture_time_s)


def records(port: int, web: bool) -> Iterator[Record]:
    """Yield what the gateway sends, until it ends."""
    if web:
        from websockets.sync.client import connect

        with connect(f"ws://127.0.0.1:{port}", compression=None) as client:
            yield from map(decode_record, client)
        return
    splitter = Splitter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while data := connection.recv(1 << 18):
            yield from splitter.feed(data)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def process_cpu_s(pid: int) -> float:
    """Return the processor time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
