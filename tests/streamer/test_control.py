"""Commands to a recorder: what the disk or an address does wrong is answered, and the next command is heard."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket

from streamer.config import BusConfig
from streamer.control import ControlServer, ask, control_endpoint
from streamer.errors import TransportError
from streamer.keys import create_keys
from streamer.takes.osc import OscServer

DEADLINE_S = 20.0


def bad_disk(name: str, _: Mapping[str, Any]) -> dict[str, Any]:
    if name == "start":
        raise PermissionError(13, "Permission denied", "takes/atlas")
    return {"state": "armed", "take": ""}


def test_a_bad_disk_is_a_refusal_and_the_next_command_is_heard() -> None:
    with ControlServer("tcp://127.0.0.1:0", bad_disk) as server:
        with pytest.raises(TransportError, match=r"Permission denied: 'takes/atlas'; see that the disk"):
            ask(server.endpoint, "start", {}, timeout_s=DEADLINE_S)
        assert ask(server.endpoint, "status", {}, timeout_s=DEADLINE_S) == {"state": "armed", "take": ""}


def test_a_bad_disk_is_a_refusal_by_osc_too() -> None:
    with OscServer(0, bad_disk) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE_S)
        heard = []
        for address in ("/RecordStart", "/mien/status"):
            client.sendto(bytes(OscMessageBuilder(address).build().dgram), ("127.0.0.1", server.port))
            heard.append(OscPacket(client.recv(65536)).messages[0].message)
    assert [message.address for message in heard] == ["/mien/error", "/mien/status"]
    assert "Permission denied" in heard[0].params[0]


@pytest.mark.parametrize("host", ["*", "0.0.0.0"])
def test_a_recorder_on_every_address_is_asked_on_loopback(tmp_path: Path, host: str) -> None:
    keys = tmp_path / "keys"
    create_keys(keys)
    with ControlServer(f"tcp://{host}:0", bad_disk, keys_dir=str(keys)) as server:
        bus = BusConfig(host=host, control_port=int(server.endpoint.rsplit(":", 1)[1]), keys_dir=str(keys))
        answer = ask(control_endpoint(bus), "status", {}, keys_dir=bus.keys_dir, timeout_s=DEADLINE_S)
    assert answer["state"] == "armed"


def test_an_address_that_cannot_be_asked_is_an_error_with_a_remedy() -> None:
    with pytest.raises(TransportError, match=r"tcp://%:5721 cannot be asked: .*; correct bus\.host"):
        ask("tcp://%:5721", "status", {}, timeout_s=0.05)
