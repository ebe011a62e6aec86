"""State and metrics over HTTP: what is answered, and what is refused."""

import contextlib
import http.client
import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.config import LiveConfig
from streamer.console.http import AT_ONCE, StateServer
from streamer.errors import TransportError
from tests.streamer.console_makers import trouble

TOKEN = "a-secret-of-thirty-two-characters"


@pytest.fixture
def server() -> Iterator[StateServer]:
    state = trouble()
    with StateServer(LiveConfig(http_port=0), lambda: state) as running:
        yield running


def get(port: int, path: str, method: str = "GET", *, host: str = "127.0.0.1", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_state_and_metrics(server: StateServer) -> None:
    code, text = get(server.port, "/state")
    assert code == 200 and json.loads(text)["take"]["slate"] == "s12"
    code, text = get(server.port, "/metrics")
    assert code == 200 and 'mien_camera_fps{camera="cam_5"} 0.0' in text and "# TYPE mien_meshes_total counter" in text


def test_only_reading_and_only_these(server: StateServer) -> None:
    assert get(server.port, "/etc/passwd")[0] == 404
    assert get(server.port, "/state", "POST")[0] == 501
    assert get(server.port, "/state", Host="evil.example:80")[0] == 403, "a page whose name points here"


def test_beyond_loopback_only_with_a_secret(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="refusing to tell the state"):
        StateServer(LiveConfig(host="0.0.0.0", http_port=0), trouble)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o644)
    config = LiveConfig(host="0.0.0.0", http_port=0, token_file=str(token))
    with pytest.raises(TransportError, match=r"live\.token_file.*chmod 600"):
        StateServer(config, trouble)
    with pytest.raises(TransportError, match=r"^live\.token_file = .*No such file"):
        StateServer(LiveConfig(host="0.0.0.0", http_port=0, token_file=str(tmp_path / "absent")), trouble)
    token.chmod(0o600)
    with StateServer(config, trouble) as server:
        assert get(server.port, "/state")[0] == 401
        assert get(server.port, "/state", Authorization="Bearer wrong-\xe9")[0] == 401
        assert get(server.port, "/state", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_the_loopback_of_ipv6_is_served_too() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    for host in ("::1", "[::1]"):
        with StateServer(LiveConfig(host=host, http_port=0), trouble) as server:
            assert get(server.port, "/state", host="::1")[0] == 200
            assert get(server.port, "/state", host="::1", Host="evil.example:80")[0] == 403


def test_a_request_that_trickles_in_is_not_waited_for(server: StateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then held a place for ever; 16 such clients held them all."""
    monkeypatch.setattr("streamer.console.http.PATIENCE_S", 0.5)
    deadline = time.monotonic() + 15
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"GET /state HTTP/1.0\r\nX-Slow: ")
        while not select.select([client], [], [], 0.05)[0]:
            assert time.monotonic() < deadline, "it still waits"
            with contextlib.suppress(ConnectionError):  # it is closing
                client.sendall(b"x")
        with contextlib.suppress(ConnectionError):
            assert client.recv(100) == b"", "closed without an answer"


def test_a_port_in_use_is_one_line(server: StateServer) -> None:
    with pytest.raises(TransportError, match=r"live\.http_port"):
        StateServer(LiveConfig(http_port=server.port), trouble)


def test_an_address_of_another_machine_is_not_told_as_a_port_in_use(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    with pytest.raises(TransportError, match=r"^live\.host = '192\.0\.2\.1'"):
        StateServer(LiveConfig(host="192.0.2.1", http_port=0, token_file=str(token)), trouble)


def test_who_asks_without_end_is_told_to_ask_less(server: StateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.console.http.time.monotonic", lambda: 1000.0)  # no time goes by
    answers = [get(server.port, "/state")[0] for _ in range(AT_ONCE + 3)]
    assert answers[: AT_ONCE - 1] == [200] * (AT_ONCE - 1) and answers[-1] == 429
    monkeypatch.setattr("streamer.console.http.time.monotonic", lambda: 1001.0)
    assert get(server.port, "/metrics")[0] == 200, "a second later it is answered again"
