"""The Blender add-on's connection, without Blender, against the real gateway and against servers that are none."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from plugins.blender.mien_live import client as blender_client
from plugins.blender.mien_live.client import Client
from plugins.blender.mien_live.records import Frame, Topology, to_blender
from streamer.config import ServeConfig
from streamer.gateway.encoding import encode_frame, encode_topology
from streamer.gateway.records import encode_hello
from tests.plugins.clients import impostor
from tests.streamer.gateway_makers import PATIENCE_S, Stage, TcpClient, golden_records, head, mesh

HEAD, OTHER = head(), head("other", segments=16)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blender_client, "RETRY_S", 0.02)
    monkeypatch.setattr(blender_client, "REFUSED_S", 0.02)


@contextmanager
def connected(port: int) -> Iterator[Client]:
    client = Client("127.0.0.1", port)
    try:
        yield client
    finally:
        client.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.002)


class Taken:
    """What a client has given out so far."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.topologies: list[Topology] = []
        self.frames: list[Frame] = []

    def frame_of(self, vertices: int) -> bool:
        """Take; whether the last frame has so many vertices."""
        topology, frame = self._client.take()
        self.topologies += [] if topology is None else [topology]
        self.frames += [] if frame is None else [frame]
        return frame is not None and len(frame.positions) == vertices


def test_the_newest_head_arrives_and_a_new_topology_in_mid_stream() -> None:
    with Stage() as stage, connected(stage.tcp_port) as client:
        taken = Taken(client)
        number = stage.play(HEAD, lambda: taken.frame_of(HEAD.vertex_count))
        assert client.status == f"live: lopsided, {HEAD.vertex_count} vertices"
        last = round((taken.frames[-1].capture_time_s - 1_700_000_000) / 0.016)
        np.testing.assert_array_equal(taken.frames[-1].positions, to_blender(mesh(HEAD, last).vertices))
        stage.play(OTHER, lambda: taken.frame_of(OTHER.vertex_count), number)
        assert [topology.name for topology in taken.topologies] == ["lopsided", "other"]
        stage.play(OTHER, lambda: client.counts[0] > 20, number)
        received, skipped = client.counts
        assert taken.frame_of(OTHER.vertex_count), "one frame waits, the newest"
        assert not taken.frame_of(OTHER.vertex_count) and received == len(taken.frames) + skipped


def test_what_waits_is_the_newest() -> None:
    frames = [encode_frame(mesh(HEAD, number), number, HEAD) for number in range(5)]
    stream = b"".join([encode_hello(), encode_topology(HEAD), *frames])
    with impostor(stream, b"") as port, connected(port) as client:
        wait_for(lambda: "hung up" in client.status)
        topology, frame = client.take()
        assert topology is not None and frame is not None and frame.sequence == 4
        assert client.take() == (None, None) and client.counts == (5, 4)


def test_a_head_of_the_old_topology_is_not_given_out_with_the_new_one() -> None:
    stream = b"".join([encode_topology(HEAD), encode_frame(mesh(HEAD), 0, HEAD), encode_topology(OTHER)])
    with impostor(stream, b"") as port, connected(port) as client:
        wait_for(lambda: "hung up" in client.status)
        topology, frame = client.take()
        assert topology is not None and topology.name == "other" and frame is None


def test_it_comes_back_after_a_restart_of_the_gateway() -> None:
    first = Stage()
    config = first.config
    with connected(first.tcp_port) as client:
        taken = Taken(client)
        first.play(HEAD, lambda: taken.frame_of(HEAD.vertex_count))
        first.close()
        wait_for(lambda: "mien serve" in client.status)
        with Stage(config) as second:
            second.play(OTHER, lambda: taken.frame_of(OTHER.vertex_count))
        assert "live" not in client.status


def test_a_full_house_is_told_and_tried_again() -> None:
    config = ServeConfig(tcp_port=0, websocket_port=0, max_clients=1)
    with Stage(config) as stage, TcpClient(stage.tcp_port) as other:
        assert other.next() is not None
        with connected(stage.tcp_port) as client:
            wait_for(lambda: "the server says: 1 clients are connected" in client.status)
            other.socket.close()
            taken = Taken(client)
            stage.play(HEAD, lambda: taken.frame_of(HEAD.vertex_count))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 426 Upgrade Required\r\n", "not Mien"),
        (b"HCM2" + bytes(60), "use the add-on of your Mien's version"),
        (golden_records()[2], "before its topology"),
        (golden_records()[1][:100], "ended inside a record"),
        (golden_records()[1][:32] + b"\xff" * 208, "cut short"),
    ],
    ids=["http", "version", "no topology", "half", "garbage"],
)
def test_what_is_no_gateway_is_named_and_the_next_try_may_succeed(answer: bytes, told: str) -> None:
    with impostor(answer) as port, connected(port) as client:
        wait_for(lambda: told in client.status)
    with impostor(answer, b"".join(golden_records())) as port, connected(port) as client:
        taken = Taken(client)
        wait_for(lambda: taken.frame_of(4))


def test_the_secret_is_said(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("correct horse battery")
    path.chmod(0o600)
    with Stage(ServeConfig(tcp_port=0, websocket_port=0, token_file=str(path))) as stage:
        with connected(stage.tcp_port) as client:
            wait_for(lambda: "asks for a token" in client.status)
        knowing = Client("127.0.0.1", stage.tcp_port, "correct horse battery")
        try:
            taken = Taken(knowing)
            stage.play(HEAD, lambda: taken.frame_of(HEAD.vertex_count))
        finally:
            knowing.close()


def test_a_server_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blender_client, "SILENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener, connected(listener.getsockname()[1]) as client:
        wait_for(lambda: "fallen silent" in client.status)


def test_nobody_there_says_what_to_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with connected(port) as client:
        wait_for(lambda: f"nobody answers at 127.0.0.1:{port}" in client.status)
        assert "mien serve" in client.status and client.take() == (None, None)
