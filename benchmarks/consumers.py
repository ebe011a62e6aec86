"""Heads that reach the vertex buffers of other programs, and how old they are there: Chromium, Blender, Godot 3 and 4.

    python benchmarks/consumers.py --fps 60 --seconds 10

The real `mien serve` on a real bus with heads of 4,292 vertices and 52 weights; one program at a time. Ages are from
the hand-over to the bus (stamped as exposure) to the vertices in the buffer, by one clock. A program that is not
installed is left out with the reason (requirements/consumers.sh installs them).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gateway import free_ports
from streamer.transport import Publisher
from streamer.types import MeshFrame, Topology
from tests.plugins.clients import godot3_project
from tests.plugins.godot4_tools import ENGINE, godot4
from tests.plugins.web_tools import CHROMIUM, ESBUILD, NODE, demo_page
from tests.streamer.gateway_makers import head

ROOT = Path(__file__).resolve().parents[1]
BLENDER = ROOT / ".venv/bpy/bin/python"
GODOT3 = shutil.which("godot3-server")
GODOT3_FPS = 240
PROGRAMS = ("web", "web_20_pictures", "blender", "godot3", "godot4")
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
    parser.add_argument("--only", choices=PROGRAMS, nargs="+", default=PROGRAMS, help="these programs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    browser = "" if NODE and ESBUILD.exists() and CHROMIUM else "no node, its packages or Chromium"
    for name, missing, run in (
        ("web", browser, web),
        ("web_20_pictures", browser, web_20),
        ("blender", "" if BLENDER.exists() else f"no {BLENDER}", blender),
        ("godot3", "" if GODOT3 else "no godot3-server", godot3),
        ("godot4", browser or ("" if ENGINE.is_dir() else f"no {ENGINE}"), godot4_page),
    ):
        if name in arguments.only:
            result[name] = {"skipped": missing} if missing else measure(run, arguments.fps, arguments.seconds)
            print(name, json.dumps(result[name]), file=sys.stderr, flush=True)
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


def measure(run: Callable[[int, int, float], list[float]], fps: float, seconds: float) -> dict[str, Any]:
    """Let one program follow a stream and return what it saw.

    Args:
        run: given both ports and the time, s; returns the age of each head that it applied, ms.
        fps: heads per second.
        seconds: time measured.
    """
    shape = head(segments=66, rings=65)  # a closed surface: what overlaps itself is drawn many times
    units = tuple(f"unit{k}" for k in range(52))
    topology = Topology("benchmark", shape.triangles, shape.uv, shape.uv_triangles, shape.template, units)
    weights = np.linspace(0, 1, 52, dtype=np.float32)
    mesh = MeshFrame(0, 0, 0, topology.id, shape.template, np.eye(4, dtype=np.float32), weights=weights)
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
                begun_s, count = time.monotonic(), 0
                while not done.wait(max(0.0, begun_s + count / fps - time.monotonic())):
                    if count % round(fps) == 0:
                        publisher.send("topology", topology)
                    publisher.send("mesh", replace(mesh, exposure_time_ns=time.time_ns()))
                    count += 1

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
    """Follow in the demo page, which draws as often as the browser can."""
    return web_drawing(websocket, seconds, "")


def web_20(_: int, websocket: int, seconds: float) -> list[float]:
    """The same with 20 pictures a second: without a GPU they are drawn on the cores that the heads need."""
    return web_drawing(websocket, seconds, "&fps=20")


def web_drawing(websocket: int, seconds: float, query: str) -> list[float]:
    """Follow in the demo page with these words in its address."""
    address = f"ws://127.0.0.1:{websocket}"
    with tempfile.TemporaryDirectory() as folder, demo_page(Path(folder), address, query) as page:
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


def godot3(tcp: int, _: int, seconds: float) -> list[float]:
    """Follow in Godot 3 without a window, whose loop turns `GODOT3_FPS` times a second."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--path", str(godot3_project(Path(folder))), "-s", "godot_dump.gd", "--do", "ages"]
        command = [str(GODOT3), *words, str(tcp), str(seconds), str(GODOT3_FPS)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=seconds + 60
        )
    return [float(line.partition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("age ")]


def godot4_page(_: int, websocket: int, seconds: float) -> list[float]:
    """Follow in the engine's web build, which draws too: a head is applied once per picture at most."""
    with tempfile.TemporaryDirectory() as folder, godot4(Path(folder), "live", f"ws://127.0.0.1:{websocket}") as page:
        page.wait("godot.applied > 60")
        page.ask(do="eval", code="godot.ages.splice(0)")
        time.sleep(seconds)
        return list(page.ask(do="eval", code="[...godot.ages]"))


if __name__ == "__main__":
    main()
