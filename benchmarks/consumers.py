"""Heads that reach the vertex buffers of other programs, and how old they are there: Chromium with three.js, Blender.

    python benchmarks/consumers.py --fps 60 --seconds 10

The real `mien serve` on a real bus with heads of 4,283 vertices and 52 weights; one program at a time. Ages are from
the hand-over to the bus (stamped as exposure) to the vertices in the buffer, by one clock. A program that is not
installed is left out with the reason (requirements/consumers.sh installs them).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gateway import TRIANGLES, VERTICES, free_ports, publish
from streamer.transport import Publisher
from streamer.types import MeshFrame, Topology
from tests.plugins.web_tools import CHROMIUM, ESBUILD, NODE, demo_page

ROOT = Path(__file__).resolve().parents[1]
BLENDER = ROOT / ".venv/bpy/bin/python"
BLENDER_SCRIPT = """
import sys, time, json, importlib
import bpy
sys.path.insert(0, sys.argv[1])
import mien_live
mien_live.register()
session = importlib.import_module("mien_live.addon").session
scene = bpy.context.scene
scene.mien.port = int(sys.argv[2])
bpy.ops.mien.connect()
begin, end = time.monotonic() + 2, time.monotonic() + 2 + float(sys.argv[3])
ages = []
while time.monotonic() < end:
    if session.pump(scene):
        bpy.context.view_layer.update()
        if time.monotonic() > begin:
            ages.append(1e3 * (time.time() - session.newest.capture_time_s))
    time.sleep(0.0005)
mien_live.unregister()  # bpy as a module does not end with classes left
print(json.dumps(ages))
"""


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fps", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--only", choices=("web", "blender"), help="one program")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    for name, missing, run in (
        ("web", "" if NODE and ESBUILD.exists() and CHROMIUM else "no node, its packages or Chromium", web),
        ("blender", "" if BLENDER.exists() else f"no {BLENDER}", blender),
    ):
        if arguments.only in (None, name):
            result[name] = {"skipped": missing} if missing else measure(run, arguments.fps, arguments.seconds)
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


def measure(run: Callable[[int, int, float], list[float]], fps: float, seconds: float) -> dict[str, Any]:
    """Let one program follow a stream and return what it saw.

    Args:
        run: given both ports and the time, s; returns the age of each head that it applied, ms.
        fps: heads per second.
        seconds: time measured.
    """
    rng = np.random.default_rng(1)
    points = rng.normal(0, 0.1, (VERTICES, 3)).astype(np.float32)
    triangles = rng.integers(0, VERTICES, (TRIANGLES, 3))
    units = tuple(f"unit{k}" for k in range(52))
    topology = Topology("benchmark", triangles, np.zeros((1, 2)), np.zeros_like(triangles), points, units)
    weights = np.linspace(0, 1, 52, dtype=np.float32)
    mesh = MeshFrame(0, 0, 0, topology.id, points, np.eye(4, dtype=np.float32), weights=weights)
    tcp, websocket, health = free_ports(3)
    with Publisher("tcp://127.0.0.1:0") as publisher:
        values = {
            "bus.infer": publisher.endpoint, "serve.tcp_port": tcp, "serve.websocket_port": websocket,
            "bus.serve_port": health,
        }  # fmt: skip
        command = [sys.executable, str(ROOT / "mien.py"), "serve", *(f"--set={k}={v}" for k, v in values.items())]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as gateway:
            line = gateway.stderr.readline() if gateway.stderr is not None else ""
            if "the head is at" not in line:
                raise SystemExit(f"the gateway did not start: {line}")
            done = threading.Event()

            def play() -> None:
                while not done.is_set():
                    publish(publisher, topology, mesh, fps, 0.5)

            player = threading.Thread(target=play)
            player.start()
            try:
                ages = run(tcp, websocket, seconds)
            finally:
                done.set()
                player.join()
                gateway.terminate()
    return {
        "sent_per_s": fps,
        "applied_per_s": round(len(ages) / seconds, 1),
        "age_ms_p50": round(float(np.percentile(ages, 50)), 2),
        "age_ms_p95": round(float(np.percentile(ages, 95)), 2),
    }


def web(_: int, websocket: int, seconds: float) -> list[float]:
    """Follow in the demo page."""
    with tempfile.TemporaryDirectory() as folder, demo_page(Path(folder), f"ws://127.0.0.1:{websocket}") as page:
        page.wait("mien.head.applied > 60")
        page.ask(do="eval", code="mien.ages.splice(0)")
        time.sleep(seconds)
        return list(page.ask(do="eval", code="[...mien.ages]"))


def blender(tcp: int, _: int, seconds: float) -> list[float]:
    """Follow in Blender without a window."""
    arguments = [str(BLENDER), "-c", BLENDER_SCRIPT, str(ROOT / "plugins/blender"), str(tcp), str(seconds)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=seconds + 60)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    return list(json.loads(lines[-1]))


if __name__ == "__main__":
    main()
