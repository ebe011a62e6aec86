"""What the viewer costs: 1280x720, one head, four camera pictures with the mesh over each, on OpenGL without a screen.

    python benchmarks/viewer.py [--size 1280x720] [--cameras 4] [--frames 60] [--live SECONDS] [--json]

`screens`: what one screen takes, for each view and for what can be added to it. The tiles are drawn only when the mesh
changes, so there are two figures: screens with a new mesh and new pictures each, and screens between two meshes while
the camera orbits. Decoding of the JPEG pictures, normals, figures and read-back are in them; the bus is not. The head
has about 4,300 vertices, like the default topology.

`page`: a picture for a page of `mien view --web`, 960x540, and its JPEG.

`live`: the whole viewer process behind a bus on which another process publishes 30 sets and meshes a second: rate,
publication of a mesh to the end of its drawing, and memory: mean of each third of the run and the trend over it.
With `--live 600`: ten minutes.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np

from renderer.config import ViewConfig
from renderer.viewer.app import ViewOptions, run_view
from renderer.viewer.context import headless_context
from renderer.viewer.controls import Look
from renderer.viewer.presenter import Presenter
from renderer.viewer.state import ViewState
from renderer.viewer.web_stage import Seat, Stage
from streamer.config import BusConfig
from streamer.geometry import look_at
from streamer.pixels import encode_pixels
from streamer.transport import Publisher
from streamer.types import F32, Calibration, Camera, Frame, MeshFrame, Topology

ROWS, COLUMNS = 65, 66
PERIOD_NS = 33_333_333


def vertices(phase: float) -> F32:
    """(4290, 3) an ellipsoid with a nose that breathes."""
    latitude, longitude = np.meshgrid(
        np.linspace(1.5, -1.2, ROWS), np.linspace(-np.pi, np.pi, COLUMNS, endpoint=False), indexing="ij"
    )
    out = np.stack([np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)], -1)
    nose = (0.025 + 0.005 * np.sin(phase)) * np.exp(-((longitude / 0.2) ** 2) - (latitude / 0.25) ** 2)
    return (out * [0.08, 0.13, 0.10] + out * nose[..., None]).reshape(-1, 3).astype(np.float32)


def topology() -> Topology:
    """The head's triangles, about 8,450."""
    index = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = index[:-1], np.roll(index[:-1], -1, 1), index[1:], np.roll(index[1:], -1, 1)
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return Topology("benchmark", faces, np.zeros((1, 2)), np.zeros_like(faces), vertices(0.0))


def rig(count: int) -> Calibration:
    """Cameras of 640x480 around the front, 0.9 m away."""
    K = np.array([[900.0, 0, 320], [0, 900, 240], [0, 0, 1]])
    lens = np.array([-0.2, 0.05, 0.001, -0.001, 0])
    places = [0.9 * np.array([np.sin(a), 0.1, np.cos(a)]) for a in np.linspace(-1.1, 1.1, count)]
    return Calibration(
        tuple(Camera(f"cam_{i}", f"{i}", 640, 480, K, lens, look_at(p, np.zeros(3))) for i, p in enumerate(places))
    )


def feed(state: ViewState, head: Topology, frame_id: int, pictures: list[np.ndarray]) -> None:
    """Let one frame set and its mesh arrive."""
    now = frame_id * PERIOD_NS
    for number, data in enumerate(pictures):
        ids = (frame_id, frame_id, frame_id, now, "host", now, now)
        state.apply(Frame(f"cam_{number}", *ids, 640, 480, "jpeg", data), now)
    pose = np.eye(4, dtype=np.float32)
    state.apply(MeshFrame(frame_id, now, now + 80_000_000, head.id, vertices(frame_id / 5), pose), now)


def spread(values_s: list[float]) -> dict[str, float]:
    """Median and 95th percentile in ms, and the rate that the median allows."""
    median, high = statistics.median(values_s), float(np.percentile(values_s, 95))
    return {"ms_p50": round(median * 1e3, 2), "ms_p95": round(high * 1e3, 2), "fps": round(1 / median, 1)}


def pictures_of(count: int) -> list[np.ndarray]:
    """JPEG pictures of 640x480."""
    y, x = np.mgrid[:480, :640]
    noise = np.random.default_rng(0).normal(0, 4, (480, 640, 1))
    grey = np.clip(np.stack([x / 4, y / 3, 90 + 0 * x], -1) + noise, 0, 255).astype(np.uint8)
    return [encode_pixels(np.roll(grey, 40 * i, 1), "jpeg")[1] for i in range(count)]


SCREENS: dict[str, Callable[[Look], Look]] = {
    "free": lambda look: look,
    "camera": lambda look: replace(look, view="camera"),
    "wall": lambda look: replace(look, view="wall"),
    "frusta": lambda look: replace(look, frusta="pictures"),
    "onion": lambda look: replace(look, onion=True),
    "edges": lambda look: replace(look, edges=True),
    "clay": lambda look: replace(look, material="clay"),
    "uv": lambda look: replace(look, material="uv"),
    "speed": lambda look: replace(look, material="speed"),
    "views": lambda look: replace(look, material="views"),
    "uncertainty": lambda look: replace(look, material="uncertainty"),
}


def measure(size: tuple[int, int], cameras: int, frames: int) -> dict[str, object]:
    """Draw and time."""
    context, head, pictures = headless_context(), topology(), pictures_of(cameras)
    result: dict[str, object] = {"renderer": context.info["GL_RENDERER"], "size": f"{size[0]}x{size[1]}"}
    result["cameras"] = cameras
    screens = {}
    for name, change in SCREENS.items():
        state = ViewState("bus")
        state.apply(rig(max(cameras, 1)), 0)
        state.apply(head, 0)
        presenter = Presenter(context, ViewConfig(cameras=cameras), size)
        presenter.look = change(presenter.look)
        screens[name] = run(presenter, state, head, pictures, frames if name == "free" else max(frames // 4, 5))
        presenter.release()
    context.release()
    return result | {"screens": screens, "page": page(head, pictures, max(frames // 4, 5))}


def page(head: Topology, pictures: list[np.ndarray], frames: int) -> dict[str, float]:
    """What a page of `--web` costs here: a picture of 960x540 with a new mesh each, and its JPEG."""
    state, stage, times = ViewState("bus"), Stage(None, None), []
    state.apply(rig(max(len(pictures), 1)), 0)
    state.apply(head, 0)
    try:
        for step in range(frames + 5):
            feed(state, head, 1000 + step, pictures)
            seat = Seat(np.array([0.3 + 0.002 * step, 0.1, 0.7]), np.zeros(3), 0.45, 960, 540)
            started = time.perf_counter()
            rgb = stage.draw(1, seat, Look(), state, (1000 + step) * PERIOD_NS, step / 30)
            if rgb is None:
                raise RuntimeError("a new mesh drew nothing")
            cv2.imencode(".jpg", rgb, (cv2.IMWRITE_JPEG_QUALITY, 88))
            if step >= 5:
                times.append(time.perf_counter() - started)
    finally:
        stage.close()
    return spread(times)


def run(
    presenter: Presenter, state: ViewState, head: Topology, pictures: list[np.ndarray], frames: int
) -> dict[str, object]:
    """Alternate screens with a new mesh and screens with a moved camera only."""
    with_mesh, between, cpu = [], [], []
    for step in range(frames + 5):
        feed(state, head, 1000 + step, pictures)
        for fresh, times in ((True, with_mesh), (False, between)):
            started, busy = time.perf_counter(), time.process_time()
            presenter.look = replace(presenter.look, camera=presenter.look.camera.orbit(0.002, 0.0))
            presenter.refresh(state, (1000 + step) * PERIOD_NS, step / 30)
            presenter.read()
            if step >= 5:
                times.append(time.perf_counter() - started)
                if fresh:
                    cpu.append(time.process_time() - busy)
    cpu_ms = round(statistics.median(cpu) * 1e3, 2)
    return {"new_mesh": spread(with_mesh) | {"cpu_ms": cpu_ms}, "same_mesh": spread(between)}


def publish(ports: "multiprocessing.Queue[tuple[int, int]]", cameras: int, seconds: float) -> None:
    """A node and an inference process in one, 30 sets a second."""
    head, pictures, calibration = topology(), pictures_of(cameras), rig(max(cameras, 1))
    pose = np.eye(4, dtype=np.float32)
    with Publisher("tcp://127.0.0.1:0") as node, Publisher("tcp://127.0.0.1:0") as infer:
        ports.put((int(node.endpoint.rsplit(":", 1)[1]), int(infer.endpoint.rsplit(":", 1)[1])))
        started, number = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            now = time.time_ns()
            frame_id = now // PERIOD_NS
            if number % 30 == 0:
                node.send("calibration", calibration)
                infer.send("topology", head)
            for index, data in enumerate(pictures):
                ids = (frame_id, frame_id, number, now, "host", now, now)
                node.send("frame", Frame(f"cam_{index}", *ids, 640, 480, "jpeg", data))
            shape = vertices(number / 5)
            infer.send("mesh", MeshFrame(frame_id, now, time.time_ns(), head.id, shape, pose))
            number += 1
            time.sleep(max(started + number / 30 - time.monotonic(), 0.0))


def rss_mb() -> float:
    """Memory of this process, MB."""
    fields = Path("/proc/self/statm").read_text("ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def live(size: tuple[int, int], cameras: int, seconds: float) -> dict[str, object]:
    """Run the viewer behind a bus; it draws into a window's place without a window."""
    context = multiprocessing.get_context("spawn")
    ports: multiprocessing.Queue[tuple[int, int]] = context.Queue()
    player = context.Process(target=publish, args=(ports, cameras, seconds + 20.0))
    player.start()
    node, infer = ports.get()
    bus = BusConfig(node_port=node, infer_port=infer, record_port=node, demo_port=infer)
    stop, memory = threading.Event(), []

    def watch() -> None:
        while not stop.wait(max(seconds / 60, 1.0)):
            memory.append(rss_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        view = ViewConfig(width=size[0], height=size[1], cameras=cameras)
        report = run_view(view, bus, ViewOptions(seconds=seconds, window="hidden"), stop=stop)
    finally:
        stop.set()
        watcher.join()
        player.terminate()
        player.join()
    settled = memory[len(memory) // 10 :] or memory
    thirds = [settled[len(settled) * k // 3 : max(len(settled) * (k + 1) // 3, 1)] for k in range(3)]
    slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0]) * len(settled) if len(settled) > 2 else 0.0
    shown = {
        "rss_first_mb": round(settled[0], 1),
        "rss_last_mb": round(settled[-1], 1),
        "rss_thirds_mb": [round(statistics.mean(third or settled), 2) for third in thirds],
        "rss_trend_mb": round(slope, 2),
    }
    return asdict(report) | shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--live", type=float, default=15.0, metavar="SECONDS", help="0: not at all")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    width, height = (int(part) for part in args.size.split("x"))
    result = measure((width, height), args.cameras, args.frames) if args.frames else {}
    if args.live:
        result["live"] = live((width, height), args.cameras, args.live)
    print(json.dumps(result) if args.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
