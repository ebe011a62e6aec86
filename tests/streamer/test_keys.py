"""Keys of a rig: who may subscribe before and after they are made, added, rotated; no secret is ever told."""

import json
import time
from pathlib import Path

import pytest

import mien
from streamer.config_text import without_secrets
from streamer.errors import TransportError
from streamer.keys import add_client, create_keys, list_keys, rotate_keys
from streamer.transport import Publisher, Subscriber
from streamer.types import Health


def hears(publisher_keys: Path, subscriber_keys: Path, seconds: float) -> bool:
    """Whether a message comes through within the time."""
    with (
        Publisher("tcp://127.0.0.1:0", keys_dir=str(publisher_keys)) as publisher,
        Subscriber([publisher.endpoint], ["health"], keys_dir=str(subscriber_keys)) as subscriber,
    ):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            publisher.send("health", Health("node", 1, "running"))
            if subscriber.receive(0.05) is not None:
                return True
    return False


def test_a_further_host_is_admitted_and_after_a_rotation_only_with_its_new_copy(tmp_path: Path) -> None:
    rig, stranger = tmp_path / "rig", tmp_path / "stranger"
    create_keys(rig)
    create_keys(stranger)
    old = add_client(rig, "stage_2")
    assert hears(rig, rig, 30.0) and hears(rig, old, 30.0)
    (stranger / "server.key").write_bytes((rig / "server.key").read_bytes())
    assert not hears(rig, stranger, 1.0), "knows the server's public key, and is not admitted"
    retired = rotate_keys(rig, time.time())
    assert hears(rig, rig, 30.0) and hears(rig, rig / "hosts" / "stage_2", 30.0)
    assert not hears(rig, retired / "hosts" / "stage_2", 1.0), "the old copy opens nothing"
    assert {path.stat().st_mode & 0o077 for path in rig.rglob("*.key_secret")} == {0}


def test_what_is_told_of_keys_is_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig = tmp_path / "rig"
    assert mien.main(["keys", "make", str(rig)]) == 0
    assert mien.main(["keys", "make", str(rig), "--client", "b"]) == 0
    assert mien.main(["keys", "rotate", str(rig)]) == 0
    assert mien.main(["keys", "list", str(rig)]) == 0
    assert mien.main(["keys", "list", str(rig), "--json"]) == 0
    told = capsys.readouterr().out
    assert {key["role"] for key in json.loads(told.splitlines()[-1])["keys"]} == {"server", "client", "admitted"}
    for path in tmp_path.rglob("*.key_secret"):
        secret = next(line for line in path.read_text().splitlines() if "secret-key" in line).split('"')[1]
        assert len(secret) == 40 and secret not in told


def test_refusals_lead_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wanted in (["list"], ["rotate"], ["make", "--client", "b"]):
        assert mien.main(["keys", wanted[0], str(tmp_path), *wanted[1:]]) == 1
        assert f"run: mien keys make {tmp_path}" in capsys.readouterr().err
    assert mien.main(["keys", "list"]) == 1 and "bus.keys_dir" in capsys.readouterr().err
    create_keys(tmp_path / "rig")
    with pytest.raises(TransportError, match="already holds keys"):
        create_keys(tmp_path / "rig")
    for name in ("../x", "client", ""):
        with pytest.raises(TransportError):
            add_client(tmp_path / "rig", name)
    (tmp_path / "rig/client.key_secret").chmod(0o644)
    assert [key.trouble != "" for key in list_keys(tmp_path / "rig", time.time())] == [True, False, False]


def test_addresses_lose_their_login() -> None:
    text = "cameras = { a = 'rtsp://admin:p@ss@10.0.0.7/1', b = 'rtsp://10.0.0.8/1' }"
    assert without_secrets(text) == "cameras = { a = 'rtsp://***@10.0.0.7/1', b = 'rtsp://10.0.0.8/1' }"
