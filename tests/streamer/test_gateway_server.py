"""Real sockets: what every client gets, that none waits for another, and who is sent away."""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import websockets
from websockets.sync.client import connect

import mien
from streamer.config import ServeConfig
from streamer.errors import MissingExtra, TransportError, WireError
from streamer.gateway import server as gateway_server
from streamer.gateway.admission import address
from streamer.gateway.clients import Edition, Shown
from streamer.gateway.decoding import decode_record
from streamer.gateway.peers import MAX_INCOMING
from streamer.gateway.records import FrameRecord, Kind, Record, encode, encode_request
from streamer.gateway.server import GatewayServer
from streamer.gateway.variants import MAX_REQUEST
from streamer.live import free_ports
from tests.streamer.gateway_makers import ANY_PORT, PATIENCE_S, Stage, TcpClient, decoded, head, mesh, received

HEAD = head()
WIDE = head("wide", segments=120, rings=83)
"""9962 vertices: 120 kB a frame, as a fine head has."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


def test_a_client_of_either_kind_gets_hello_topology_and_frames_at_any_moment(stage: Stage) -> None:
    for round_ in range(2):
        with TcpClient(stage.tcp_port) as tcp, connect(stage.endpoints[1]) as web:
            assert web.protocol.extensions == [], "compression is off"
            assert tcp.expect(Kind.HELLO) == decoded(received(web))
            seen = threading.Event()
            player = threading.Thread(target=stage.play, args=(HEAD, seen.is_set, 100 * round_))
            player.start()
            try:
                kinds = [tcp.expect(Kind.TOPOLOGY), decoded(received(web))]
                frames = [tcp.expect(Kind.FRAME), decoded(received(web))]
            finally:
                seen.set()
                player.join()
            assert [topology.id for topology in kinds] == [HEAD.id, HEAD.id]
            for frame in frames:
                number = round((frame.capture_time_s - 1_700_000_000) / 0.016)
                assert number >= 100 * round_, "a late client gets no old frame"
                assert frame.positions.tobytes() == mesh(HEAD, number).vertices.tobytes()
                assert frame.weights.tolist() == [0.25, 0.5]


def test_a_topology_may_change_in_mid_stream(stage: Stage) -> None:
    other = head("other", segments=16)
    with TcpClient(stage.tcp_port) as client:
        for topology in (HEAD, other, HEAD):
            seen = threading.Event()
            player = threading.Thread(target=stage.play, args=(topology, seen.is_set))
            player.start()
            try:
                while client.until(Kind.TOPOLOGY).id != topology.id:
                    pass
                frame = client.expect(Kind.FRAME)
            finally:
                seen.set()
                player.join()
            assert len(frame.positions) == topology.vertex_count


def test_a_client_that_stalls_delays_nobody() -> None:
    """One never reads, another gets each frame before the next is sent; then the first wakes and is soon live."""
    count = 200
    shown = Shown(WIDE)
    frames = [Edition(shown, mesh(WIDE, number), number) for number in range(count)]
    delays_s = []
    with (
        GatewayServer(ANY_PORT) as server,
        TcpClient(server.tcp_port, buffer=1 << 16) as stalled,
        connect(server.endpoints[1], sock=_small(server.websocket_port), max_queue=1) as stalled_web,
        TcpClient(server.tcp_port) as live,
    ):
        live.expect(Kind.HELLO)
        _wait_for(lambda: server.counters()["clients.now"] == 3)
        server.announce(shown)
        live.expect(Kind.TOPOLOGY)
        for number, frame in enumerate(frames):
            begun_s = time.monotonic()
            server.offer(frame)
            assert live.expect(Kind.FRAME).sequence == number, "the live client missed a frame"
            delays_s.append(time.monotonic() - begun_s)
        assert server.counters()["frames.skipped"] > count, "this test has stalled nobody"
        assert sorted(delays_s)[count // 2] < 0.05

        def wake(receive: Callable[[], Record | None]) -> list[int]:
            woken: list[int] = []
            while not woken or woken[-1] != count - 1:
                record = receive()
                assert record is not None
                woken += [record.header.sequence] * (record.header.kind == Kind.FRAME)
            return woken

        for woken in (wake(stalled.next), wake(lambda: received(stalled_web))):
            assert woken == sorted(set(woken)) and len(woken) < 12, f"{len(woken)} frames have waited for a sleeper"


def test_of_twenty_clients_five_stall_and_fifteen_lose_nothing() -> None:
    """Each of the fifteen has every frame before the next one is offered, while the five hold what they were sent."""
    shown = Shown(WIDE)
    with GatewayServer(ANY_PORT) as server, contextlib.ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(TcpClient(server.tcp_port, buffer=1 << 16))
        live = [clients.enter_context(TcpClient(server.tcp_port)) for _ in range(15)]
        _wait_for(lambda: server.counters()["clients.now"] == 20)
        server.announce(shown)
        for client in live:
            client.expect(Kind.HELLO)
            client.expect(Kind.TOPOLOGY)
        for number in range(40):
            server.offer(Edition(shown, mesh(WIDE, number), number))
            assert [client.expect(Kind.FRAME).sequence for client in live] == [number] * 15
        skipped = [slot.skipped for slot in server._audience]
    assert sorted(skipped)[:15] == [0] * 15 and min(sorted(skipped)[15:]) > 10, "the five have stalled"


def _small(port: int) -> socket.socket:
    """A connected socket with a small buffer."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    made.connect(("127.0.0.1", port))
    return made


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.002)


def test_one_client_too_many_is_told_and_a_place_is_given_on() -> None:
    with GatewayServer(ServeConfig(tcp_port=0, websocket_port=0, max_clients=1)) as server:
        with TcpClient(server.tcp_port) as first:
            first.expect(Kind.HELLO)
            with TcpClient(server.tcp_port) as second:
                assert "serve.max_clients" in second.expect(Kind.END)
                assert second.next() is None
            with connect(server.endpoints[1]) as web:
                assert "serve.max_clients" in decoded(received(web))
                with pytest.raises(websockets.ConnectionClosedOK):
                    web.recv(PATIENCE_S)
        _wait_for(lambda: server.counters()["clients.now"] == 0)
        with connect(server.endpoints[1]) as web:
            assert received(web).header.kind == Kind.HELLO
    assert server.counters() == {
        "clients.now": 0, "clients.joined": 2, "clients.refused": 2, "frames.sent": 0, "frames.skipped": 0
    }  # fmt: skip


def test_the_end_comes_after_what_waits() -> None:
    with GatewayServer(ANY_PORT) as server:
        tcp, web = TcpClient(server.tcp_port), connect(server.endpoints[1])
        _wait_for(lambda: server.counters()["clients.now"] == 2)
        server.announce(Shown(HEAD))
        server.offer(Edition(Shown(HEAD), mesh(HEAD), 0))
    with tcp, web:
        kinds = [tcp.next() for _ in range(5)]
        assert [record and record.header.kind for record in kinds] == [
            Kind.HELLO,
            Kind.TOPOLOGY,
            Kind.FRAME,
            Kind.END,
            None,
        ]
        assert [decode_record(record).header.kind for record in web] == [0, 1, 2, 9]


def test_a_stalled_client_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_server, "PATIENCE_S", 0.2)
    frame = Edition(Shown(WIDE), mesh(WIDE), 0)
    with (
        GatewayServer(ANY_PORT) as server,
        TcpClient(server.tcp_port, buffer=1 << 12) as stalled,
        connect(server.endpoints[1], max_queue=1, close_timeout=0.1),
    ):
        _wait_for(lambda: server.counters()["clients.joined"] == 2)
        deadline_s = time.monotonic() + PATIENCE_S
        while server.counters()["clients.now"]:
            assert time.monotonic() < deadline_s, "the stalled clients keep their places"
            server.offer(frame)
            time.sleep(0.001)
        with pytest.raises((ConnectionResetError, WireError)):
            stalled.until(Kind.END)


def test_closing_does_not_wait_for_the_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_server, "FAREWELL_S", 0.1)
    frames = [Edition(Shown(WIDE), mesh(WIDE, number), number) for number in range(40)]
    with GatewayServer(ANY_PORT) as server:
        stalled = TcpClient(server.tcp_port, buffer=1 << 12)
        _wait_for(lambda: server.counters()["clients.now"] == 1)
        for number, frame in enumerate(frames):
            server.offer(frame)
            _wait_for(lambda n=number: sum(server.counters()[f"frames.{x}"] for x in ("sent", "skipped")) >= n)
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 5
    stalled.socket.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "serve.websocket_port"),
        (b"hello?", "begins no record"),
        (encode(Kind.FRAME), "requests .kind 8. only"),
        (encode(Kind.REQUEST, b"{"), "not JSON"),
        (encode(Kind.REQUEST, bytes(MAX_REQUEST + 1))[:40], "allowed"),
        (encode_request(target="maya"), "'maya' is unknown"),
    ],
    ids=["http", "garbage", "frame", "json", "size", "target"],
)
def test_what_is_no_request_ends_the_connection_with_a_reason(said: bytes, told: str) -> None:
    with GatewayServer(ANY_PORT) as server:
        with TcpClient(server.tcp_port) as talker:
            talker.expect(Kind.HELLO)
            talker.socket.sendall(said)
            assert re.search(told, talker.expect(Kind.END)) and talker.next() is None
        if not said.startswith((b"GET", b"hello")) and len(said) > 40:
            with connect(server.endpoints[1]) as web:
                web.send(said)
                records = [decode_record(message) for message in web]
                assert [record.header.kind for record in records] == [Kind.HELLO, Kind.END]
        _wait_for(lambda: server.counters()["clients.now"] == 0)


def test_who_talks_too_much_is_dropped() -> None:
    with GatewayServer(ANY_PORT) as server:
        with TcpClient(server.tcp_port) as talker, pytest.raises(OSError):
            for _ in range(1000):
                talker.socket.sendall(encode_request(target="unity"))
                time.sleep(0)
            while talker.next() is not None:
                pass
            raise OSError
        with connect(server.endpoints[1]) as web:
            web.send(bytes(MAX_INCOMING + 1))
            with pytest.raises(websockets.ConnectionClosedError):
                while True:
                    web.recv(PATIENCE_S)
        _wait_for(lambda: server.counters()["clients.now"] == 0)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
def test_pages_from_elsewhere_may_not_watch(origin: str) -> None:
    with GatewayServer(ANY_PORT) as server:
        with pytest.raises(websockets.InvalidStatus, match="403"):
            connect(server.endpoints[1], origin=origin)  # type: ignore[arg-type]
        with connect(server.endpoints[1], origin="http://localhost:8080") as page:  # type: ignore[arg-type]
            assert received(page).header.kind == Kind.HELLO


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "*"])
def test_nothing_but_loopback_is_served(host: str) -> None:
    with pytest.raises(TransportError, match=r"anybody on the network could watch.*serve\.token_file"):
        GatewayServer(ServeConfig(host=host, tcp_port=0, websocket_port=0))


def test_loopback_has_several_names() -> None:
    assert [address(ServeConfig(host=name)) for name in ("localhost", "127.0.0.1", "::1", "[::1]", "127.1.2.3")] == [
        "127.0.0.1", "127.0.0.1", "::1", "::1", "127.1.2.3"
    ]  # fmt: skip
    with GatewayServer(ServeConfig(host="::1", tcp_port=0, websocket_port=0)) as server:
        assert server.endpoints[1] == f"ws://[::1]:{server.websocket_port}"
        with connect(server.endpoints[1]) as web:
            assert received(web).header.kind == Kind.HELLO


@pytest.mark.parametrize("key", ["tcp_port", "websocket_port"])
def test_a_port_in_use_is_one_line_with_a_remedy(key: str) -> None:
    with GatewayServer(ANY_PORT) as server:
        ports = {"tcp_port": 0, "websocket_port": 0} | {key: server.tcp_port}
        with pytest.raises(TransportError, match=rf"port {server.tcp_port} is in use.*--set serve\.{key}=PORT"):
            GatewayServer(ServeConfig(**ports))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "websockets.server", None)
    with (
        pytest.raises(MissingExtra, match=r"'websockets' is not installed.*mien\[live\]"),
        GatewayServer(ANY_PORT),
    ):
        pass


def test_the_bus_may_go_away_and_come_back(stage: Stage) -> None:
    with TcpClient(stage.tcp_port) as client:
        client.expect(Kind.HELLO)
        before = client_plays(stage, client, 0)
        endpoint = stage.publisher.endpoint
        stage.publisher.close()
        stage.publisher = type(stage.publisher)(endpoint)
        assert client_plays(stage, client, 50).sequence > before.sequence
    counters = stage.close()
    assert counters["clients.joined"] == 1 and counters["frames.sent"] >= 2


def client_plays(stage: Stage, client: TcpClient, first: int) -> FrameRecord:
    """The first frame that the client gets with this number or a later one."""
    seen = threading.Event()
    player = threading.Thread(target=stage.play, args=(HEAD, seen.is_set, first))
    player.start()
    try:
        while (frame := client.until(Kind.FRAME)).capture_time_s < 1_700_000_000 + first * 0.016:
            pass
        assert isinstance(frame, FrameRecord)
        return frame
    finally:
        seen.set()
        player.join()


def test_the_truth_of_a_simulated_rig_can_be_served() -> None:
    with Stage(channel="truth") as stage, TcpClient(stage.tcp_port) as client:
        client.expect(Kind.HELLO)
        seen = threading.Event()

        def play() -> None:
            while not seen.wait(0.01):
                stage.publisher.send("topology", HEAD)
                stage.publisher.send("mesh", mesh(HEAD, 1))
                stage.publisher.send("truth", mesh(HEAD, 2))

        player = threading.Thread(target=play)
        player.start()
        try:
            client.expect(Kind.TOPOLOGY)
            assert client.expect(Kind.FRAME).positions.tobytes() == mesh(HEAD, 2).vertices.tobytes()
        finally:
            seen.set()
            player.join()


def test_the_verb_says_where_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with GatewayServer(ANY_PORT) as taken:
        free = [f"--set=serve.{key}={port}" for key, port in (("tcp_port", taken.tcp_port), ("websocket_port", 1))]
        assert mien.main(["serve", *free]) == 1
        assert f"mien serve: port {taken.tcp_port} is in use" in capsys.readouterr().err
        ports = taken.tcp_port, taken.websocket_port
    arguments = [f"--set=serve.tcp_port={ports[0]}", f"--set=serve.websocket_port={ports[1]}"]
    arguments.append(f"--set=bus.serve_port={free_ports(1)[0]}")
    assert mien.main(["serve", "--seconds", "0.1", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["clients.joined"] == 0
    assert err == f"the head is at tcp://127.0.0.1:{ports[0]} and ws://127.0.0.1:{ports[1]}\n"
