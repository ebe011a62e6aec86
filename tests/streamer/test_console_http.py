"""State and metrics over HTTP: what is answered, and what is refused."""

import http.client
import json
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


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
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
    with pytest.raises(TransportError, match="chmod 600"):
        StateServer(config, trouble)
    token.chmod(0o600)
    with StateServer(config, trouble) as server:
        assert get(server.port, "/state")[0] == 401
        assert get(server.port, "/state", Authorization="Bearer wrong-\xe9")[0] == 401
        assert get(server.port, "/state", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_port_in_use_is_one_line(server: StateServer) -> None:
    with pytest.raises(TransportError, match=r"live\.http_port"):
        StateServer(LiveConfig(http_port=server.port), trouble)


def test_who_asks_without_end_is_told_to_ask_less(server: StateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.console.http.time.monotonic", lambda: 1000.0)  # no time goes by
    answers = [get(server.port, "/state")[0] for _ in range(AT_ONCE + 3)]
    assert answers[: AT_ONCE - 1] == [200] * (AT_ONCE - 1) and answers[-1] == 429
    monkeypatch.setattr("streamer.console.http.time.monotonic", lambda: 1001.0)
    assert get(server.port, "/metrics")[0] == 200, "a second later it is answered again"
