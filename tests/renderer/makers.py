"""An asymmetric head, a small rig around it, and a publisher that plays both: what the tests of this room share."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self, TypeVar

import moderngl
import numpy as np
import pytest

from renderer.viewer.context import headless_context
from streamer.config import BusConfig
from streamer.errors import GraphicsError
from streamer.geometry import look_at
from streamer.pixels import encode_pixels
from streamer.transport import Publisher
from streamer.types import F32, Calibration, Camera, Frame, Health, MeshFrame, Topology

Result = TypeVar("Result")
WIDTH, HEIGHT = 320, 240
PERIOD_NS = 33_333_333


def head_vertices(turn: float = 0.0) -> F32:
    """An ellipsoid 15 x 22 x 19 cm with a nose on +Z and one ear, on its left (+X); open at the neck. Metres."""
    latitude, longitude = np.meshgrid(
        np.linspace(1.5, -1.1, 22), np.linspace(-np.pi, np.pi, 32, endpoint=False), indexing="ij"
    )
    out = np.stack([np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)], -1)
    nose = 0.030 * np.exp(-((longitude / 0.20) ** 2) - ((latitude + 0.05) / 0.22) ** 2)
    ear = 0.028 * np.exp(-(((longitude - np.pi / 2) / 0.16) ** 2) - (latitude / 0.25) ** 2)
    points = out * np.array([0.075, 0.11, 0.095]) + out * (nose + ear)[..., None]
    c, s = np.cos(turn), np.sin(turn)
    return (points.reshape(-1, 3) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T).astype(np.float32)


def head_topology(name: str = "test head") -> Topology:
    rows, columns = 22, 32
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1], np.roll(index[:-1], -1, 1)
    c, d = index[1:], np.roll(index[1:], -1, 1)
    triangles = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    template = head_vertices()
    return Topology(name, triangles, template[:, :2], triangles, template)


def camera(name: str, azimuth: float, distortion: tuple[float, ...] = (-0.45, 0.11, 0.0015, -0.001, 0.0)) -> Camera:
    """A distorting camera 40 cm from the head, at an angle from the front, towards the head's left."""
    centre = 0.40 * np.array([np.sin(azimuth), 0.12, np.cos(azimuth)])
    K = np.array([[330.0, 0, WIDTH / 2 - 9.0], [0, 335.0, HEIGHT / 2 + 6.0], [0, 0, 1]])
    return Camera(name, f"S-{name}", WIDTH, HEIGHT, K, np.array(distortion), look_at(centre, np.zeros(3)))


def rig(count: int = 3) -> Calibration:
    return Calibration(tuple(camera(f"cam_{i}", azimuth) for i, azimuth in enumerate(np.linspace(-0.8, 0.8, count))))


def picture(seed: int = 0) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) RGB: a smooth pattern that no flip leaves as it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, np.full_like(x, 40 + 20 * seed)], -1).astype(np.uint8)


def frame(name: str, frame_id: int, *, exposure_ns: int | None = None, seed: int = 0) -> Frame:
    exposure = frame_id * PERIOD_NS if exposure_ns is None else exposure_ns
    encoding, data = encode_pixels(picture(seed), "jpeg")
    return Frame(name, frame_id, frame_id, 0, exposure, "host", exposure, exposure, WIDTH, HEIGHT, encoding, data)


def mesh(frame_id: int, topology: Topology, *, publish_ns: int | None = None, turn: float = 0.0) -> MeshFrame:
    exposure = frame_id * PERIOD_NS
    publish = exposure + 80_000_000 if publish_ns is None else publish_ns
    return MeshFrame(
        frame_id, exposure, publish, topology.id, head_vertices(turn), np.eye(4, dtype=np.float32), ("cam_0", "cam_1")
    )


def on_gl(work: Callable[[moderngl.Context], Result]) -> Result:
    """Run in a thread of its own, whose OpenGL context nobody else shares; skip where there is no EGL."""

    def run() -> Result:
        context = headless_context()
        try:
            return work(context)
        finally:
            context.release()

    with ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(run).result()
        except GraphicsError as error:
            pytest.skip(f"no headless OpenGL: {error}")


def in_thread(work: Callable[[], Result]) -> Result:
    """Run what opens a context of its own; skip where there is no EGL."""
    on_gl(lambda _: None)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


class Troupe:
    """A node and an inference process on free ports, which publish the test head 25 times a second until left."""

    def __init__(self, topology: Topology | None = None, *, node_port: int = 0, infer_port: int = 0) -> None:
        self.topology = topology or head_topology()
        self.calibration = rig()
        self._ports = node_port, infer_port
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._play, name="troupe")

    @property
    def bus(self) -> BusConfig:
        ports = [int(publisher.endpoint.rsplit(":", 1)[1]) for publisher in (self._node, self._infer)]
        # The ports of the recorder and of the supervisor stay silent; they are connected to all the same.
        return BusConfig(node_port=ports[0], infer_port=ports[1], record_port=ports[0], demo_port=ports[1])

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._node = stack.enter_context(Publisher(f"tcp://127.0.0.1:{self._ports[0]}"))
            self._infer = stack.enter_context(Publisher(f"tcp://127.0.0.1:{self._ports[1]}"))
            self._stack = stack.pop_all()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._stack.close()

    def _play(self) -> None:
        while not self._done.wait(0.04):
            now = time.time_ns()
            frame_id = now // PERIOD_NS
            self._node.send("calibration", self.calibration)
            self._infer.send("topology", self.topology)
            for seed, name in enumerate(self.calibration.ids):
                self._node.send("frame", frame(name, frame_id, exposure_ns=now, seed=seed))
            self._infer.send("mesh", mesh(frame_id, self.topology, publish_ns=time.time_ns()))
            self._infer.send("health", Health("infer", now, "running", {"sets.assembled": 7, "sets.complete": 6}))
