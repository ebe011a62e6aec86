"""A lopsided head, the golden stream, a client, and a gateway on a bus that the test plays."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from websockets.sync.client import ClientConnection

from streamer.config import BusConfig, ServeConfig
from streamer.errors import MienError
from streamer.gateway.decoding import (
    Splitter,
    decode_end,
    decode_frame,
    decode_health,
    decode_hello,
    decode_record,
    decode_topology,
)
from streamer.gateway.encoding import encode_frame, encode_topology
from streamer.gateway.records import Kind, Record, encode_end, encode_hello
from streamer.gateway.serve import run_serve
from streamer.transport import Publisher
from streamer.types import F32, MeshFrame, Topology

PATIENCE_S = 20.0
ANY_PORT = ServeConfig(tcp_port=0, websocket_port=0)
DECODERS = {
    Kind.HELLO: decode_hello,
    Kind.TOPOLOGY: decode_topology,
    Kind.FRAME: decode_frame,
    Kind.WEIGHTS: decode_frame,
    Kind.HEALTH: decode_health,
    Kind.END: decode_end,
}
NOSE, LEFT_EAR = 40, 37
"""Vertices of `head`."""


def head(name: str = "lopsided", segments: int = 12, rings: int = 7) -> Topology:
    """0.25 m high; the nose reaches 0.13 m towards +Z, the left ear 0.11 m towards +X; faces look outwards."""
    up = np.pi * np.arange(1, rings + 1) / (rings + 1)
    round_ = 2 * np.pi * np.arange(segments) / segments
    sphere = [[0, 1, 0]]
    sphere += [[np.sin(t) * np.cos(p), np.cos(t), np.sin(t) * np.sin(p)] for t in up for p in round_]
    points = np.array([*sphere, [0, -1, 0]]) * [0.08, 0.125, 0.1]
    middle = 1 + segments * (rings // 2)
    nose, ear = middle + segments // 4, middle
    points[nose], points[ear] = (0, 0, 0.13), (0.11, 0, 0)
    triangles = []
    for row in range(rings - 1):
        for k in range(segments):
            a, b = 1 + row * segments + k, 1 + row * segments + (k + 1) % segments
            triangles += [[a, b, b + segments], [a, b + segments, a + segments]]
    last = len(points) - 1
    for k in range(segments):
        following = (k + 1) % segments
        triangles += [[0, 1 + following, 1 + k], [last, last - segments + k, last - segments + following]]
    uv = np.stack([points[:, 0] / 0.25 + 0.5, points[:, 1] / 0.25 + 0.5], 1)
    return Topology(name, np.array(triangles), uv, np.array(triangles), points, ("jawOpen", "mouthClose"))


def mesh(topology: Topology, number: int = 0, **fields: Any) -> MeshFrame:
    """The template, shifted by 1 mm a frame along +Y; weights and pose are set."""
    vertices = topology.template + np.array([0, 0.001 * (number % 100), 0], np.float32)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 3] = (0.0, 0.001 * (number % 100), 0.0)
    values: dict[str, Any] = {"weights": np.array([0.25, 0.5], np.float32)} | fields
    time_ns = 1_700_000_000_000_000_000 + number * 16_000_000
    return MeshFrame(number, time_ns, time_ns, topology.id, vertices.astype(np.float32), pose, **values)


def golden_records() -> list[bytes]:
    """The four records of plugins/golden/stream.bin: a tetrahedron that says something in every block."""
    points = np.array([[0, 0.125, 0], [0.0625, -0.125, 0], [0, -0.125, 0.25], [-0.125, -0.125, -0.5]], np.float32)
    triangles = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    uv = np.array([[0, 0], [1, 0], [0.5, 1]], np.float32)
    corners = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1]])
    topology = Topology("golden", triangles, uv, corners, points, ("jawOpen", "cheekPuff"))
    pose = np.array([[0, 0, 1, 0.5], [0, 1, 0, 1.5], [-1, 0, 0, -0.25], [0, 0, 0, 1]], np.float32)
    weights = np.array([0.25, 1.0], np.float32)
    frame = MeshFrame(7, 1_700_000_000_250_000_000, 0, topology.id, points, pose, weights=weights)
    body = [encode_topology(topology), encode_frame(frame, 5, topology)]
    return [encode_hello(), *body, encode_end("the gateway was stopped")]


def decoded(record: Record) -> Any:
    """What a record holds."""
    return DECODERS[Kind(record.header.kind)](record)  # type: ignore[operator]


def received(web: ClientConnection) -> Record:
    """The next record of a WebSocket client that is no health."""
    while (record := decode_record(web.recv(PATIENCE_S, decode=False))).header.kind == Kind.HEALTH:
        pass
    return record


class TcpClient:
    """A client of the raw port that reads when it is told to.

    Args:
        port: of the gateway on 127.0.0.1.
        buffer: bytes of its kernel buffer, None: the system's.
    """

    def __init__(self, port: int, buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))
        self._splitter = Splitter()
        self._ready: list[Record] = []
        self.healthy = False
        """Whether `next` returns health too."""

    def next(self) -> Record | None:
        """The next record that is no health; None: the gateway has hung up."""
        while True:
            while not self._ready:
                data = self.socket.recv(1 << 16)
                if not data:
                    self._splitter.close()
                    return None
                self._ready = self._splitter.feed(data)
            record = self._ready.pop(0)
            if record.header.kind != Kind.HEALTH or self.healthy:
                return record

    def expect(self, kind: Kind) -> Any:
        """The content of the next record, which must be of this kind."""
        record = self.next()
        assert record is not None and record.header.kind == kind, f"{record} is no {kind.name}"
        return decoded(record)

    def until(self, kind: Kind) -> Any:
        """The content of the first record of this kind among the next ones."""
        while (record := self.next()) is not None:
            if record.header.kind == kind:
                return decoded(record)
        raise AssertionError(f"the gateway hung up before a {kind.name} came")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Stage:
    """`run_serve` in a thread, on a bus whose inference is the test's publisher.

    Args:
        config: of the gateway.
        endpoint: of the publisher; port 0: a free one.
    """

    def __init__(self, config: ServeConfig = ANY_PORT, endpoint: str = "tcp://127.0.0.1:0", **options: Any) -> None:
        self.publisher = Publisher(endpoint)
        address = self.publisher.endpoint
        self.stop = threading.Event()
        self.counters: dict[str, int] = {}
        self.endpoints: tuple[str, str] = ("", "")
        self._failure: MienError | None = None
        bound = threading.Event()

        def tell(endpoints: tuple[str, str]) -> None:
            self.endpoints = endpoints
            bound.set()

        def run() -> None:
            try:
                bus = BusConfig(infer=address, nodes=(address,), serve_port=0)
                self.counters = run_serve(config, bus, stop=self.stop, bound=tell, **options)
            except MienError as error:
                self._failure = error
            finally:
                bound.set()

        self._thread = threading.Thread(target=run, name="gateway under test")
        self._thread.start()
        assert bound.wait(PATIENCE_S)

    @property
    def tcp_port(self) -> int:
        return int(self.endpoints[0].rpartition(":")[2])

    @property
    def config(self) -> ServeConfig:
        """To start another gateway where this one is."""
        return ServeConfig(tcp_port=self.tcp_port, websocket_port=int(self.endpoints[1].rpartition(":")[2]))

    def publish(self, topology: Topology, number: int, **fields: Any) -> None:
        """Send the topology and a mesh."""
        self.publisher.send("topology", topology)
        self.publisher.send("mesh", mesh(topology, number, **fields))

    def play(self, topology: Topology, until: Callable[[], bool], first: int = 0) -> int:
        """Publish meshes until something is the case; return the number after the last one."""
        deadline_s, number = time.monotonic() + PATIENCE_S, first
        while not until():
            assert time.monotonic() < deadline_s, "it never came to be"
            self.publish(topology, number)
            number += 1
            time.sleep(0.01)  # a rate, not a wait: the condition above decides
        return number

    def close(self) -> dict[str, int]:
        """Stop; raise what the gateway raised; return its counters."""
        self.stop.set()
        self._thread.join(PATIENCE_S)
        self.publisher.close()
        if self._failure is not None:
            raise self._failure
        return self.counters

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def outward(vertices: F32, triangles: Any) -> bool:
    """Whether every face of a star-shaped body looks away from its middle."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    middle = np.asarray(vertices).mean(0)
    return bool((np.einsum("ij,ij->i", np.cross(b - a, c - a), (a + b + c) / 3 - middle) > 0).all())
