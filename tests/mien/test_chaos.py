"""A few of the faults of benchmarks/chaos.py on one running house; nothing here depends on how fast the machine is."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from streamer.keys import create_keys
from streamer.report import require_closed
from tests.mien.faults import garbage
from tests.mien.house import House

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")


@pytest.mark.timeout(240)
def test_a_house_stays_up(tmp_path: Path) -> None:
    """The recorder is killed in the middle of a take, the node frozen and let go, every port is fed random bytes.

    All of it with keys and secrets: none is in what the house leaves or tells.
    """
    settings, secrets = with_secrets(tmp_path)
    with House(
        tmp_path / "house", {"live.silence_s": 120, **settings}, arguments=("--no-view", "--serve", "--record")
    ) as house:
        house.wait_ready()
        before = house.pids()
        assert house.bound() == {"0100007F"}, "nobody listens but on 127.0.0.1"

        house.wait("a take", lambda: house.state()["take"]["messages"] > 20)
        house.take("mark", text="before the fault")
        house.kill("record")
        house.wait("the restart", lambda: house.process("record").get("restarts") == 1)
        house.wait("recording again", lambda: house.state()["take"]["state"] == "recording")
        house.wait("the repair", lambda: any("is repaired" in line for line in house.state()["events"]))
        took = house.state()["take"]["take"]
        assert Path(took).name == "slate_T002", "it went on in the next take"

        os.kill(before["node"], signal.SIGSTOP)
        house.wait("the alarm", lambda: any("node: no sign of life" in alarm for alarm in house.alarms()))
        os.kill(before["node"], signal.SIGCONT)
        house.wait("the alarm to end", lambda: not any("node: no sign" in alarm for alarm in house.alarms()))
        count = len(house.meshes)
        house.wait("meshes again", lambda: len(house.meshes) > count + 5)

        garbage(house)
        count = len(house.meshes)
        house.wait("meshes after garbage", lambda: len(house.meshes) > count + 5)
        after = house.pids()
        assert {name for name in before if before[name] != after[name]} == {"record"}, "the others were not touched"
        assert house.take("status")["state"] == "recording"
        house.wait("a while of the second take", lambda: house.state()["take"]["messages"] > 100)

        assert told_secrets(json.dumps(house.state()).encode(), secrets) == []
        result = house.end()
        assert result["restarts"] == {"record": 1, "serve": 0, "infer": 0, "node": 0}
        for _ in range(100):
            if not house.left_behind():
                break
            threading.Event().wait(0.1)
        assert house.left_behind() == []
    require_closed(house.account())
    assert house.damaged() == [] and len(house.takes()) == 2
    files = [path for path in (tmp_path / "house").rglob("*") if path.is_file()]
    assert {"infer.log", "events.jsonl", "take.json", "live.err"} <= {path.name for path in files}
    assert {path: found for path in files if (found := told_secrets(path.read_bytes(), secrets))} == {}
    assert b"rtsp://***@10.0.0.7" in b"".join(path.read_bytes() for path in files), "the address itself is kept"


def with_secrets(folder: Path) -> tuple[dict[str, object], list[bytes]]:
    """Settings with a secret of every kind that Mien knows, and the secrets."""
    create_keys(folder / "keys")
    token = folder / "token"
    token.touch(0o600)
    token.write_text("planted-token-of-the-gateway\n")
    pairs = [path.read_text().split('secret-key = "')[1][:40] for path in (folder / "keys").glob("*.key_secret")]
    assert len(pairs) == 2
    settings = {
        "bus.keys_dir": folder / "keys",
        "serve.token_file": token,
        "rig.rtsp.cameras.cam_0": "rtsp://operator:planted-password@10.0.0.7/1",
    }
    return settings, [secret.encode() for secret in (*pairs, "planted-token", "planted-password", "operator:")]


def told_secrets(data: bytes, secrets: list[bytes]) -> list[bytes]:
    return [secret for secret in secrets if secret in data]


def test_a_planted_secret_is_found(tmp_path: Path) -> None:
    """The search above finds what it looks for."""
    _, secrets = with_secrets(tmp_path)
    assert len(secrets) == 5
    for secret in secrets:
        assert told_secrets(b"error: " + secret + b" is wrong", secrets) == [secret]
