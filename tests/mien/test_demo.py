"""The whole house, small: simulated cameras to report, with inference killed on the way."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mien import load_settings
from streamer import demo
from streamer.config import BusConfig
from streamer.errors import ProcessError
from streamer.gateway.records import Kind
from streamer.live import free_ports, plan
from streamer.report import require_closed
from streamer.restarts import ProcessSpec
from streamer.takes.reader import open_take
from streamer.takes.verify import verify_take
from streamer.types import Health
from tests.streamer.gateway_makers import TcpClient

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "rig.fps": 5,
    "rig.simulated.cameras": 4,
    "rig.simulated.width": 320,
    "rig.simulated.height": 240,
    "sync.deadline_ms": 2000,
    "view.width": 320,
    "view.height": 240,
    "view.max_fps": 2,
    "inference.threads": 1,
    "record.min_free_gb": 0.1,
}
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds its grandchildren in /proc")


PLANTED = "rtsp://operator:planted-password@10.0.0.7/1"


def find(verb: str, temporary: Path) -> int | None:
    """Process id of `python -m mien VERB` of the demo whose temporary files lie there."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[1:4] == ["-m", "mien", verb] and any(word.startswith(f"{temporary}/mien-live-") for word in words):
            return int(path.parent.name)
    return None


def wait_for(
    what: str, condition: Callable[[], int | bool | None], process: subprocess.Popen[str], seconds: float = 45.0
) -> int:
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert process.poll() is None, f"the demo ended before {what}: {process.communicate()}"
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        threading.Event().wait(0.05)


@pytest.mark.timeout(120)
def test_demo_leaves_a_whole_take_and_a_closed_account_though_inference_is_killed(tmp_path: Path) -> None:
    out, temporary = tmp_path / "demo", tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "small.toml").write_text(f"schema = 1\n[rig.rtsp.cameras]\ncam_0 = '{PLANTED}'\n")
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "mien", "demo", "--headless", "--serve", "--seconds", "8", "--out", str(out)]
    tcp, websocket = free_ports(2, "127.0.0.1")
    sets += ["--set", f"serve.tcp_port={tcp}", "--set", f"serve.websocket_port={websocket}", "--json"]
    process = subprocess.Popen(
        [*command, "--config", str(tmp_path / "small.toml"), *sets],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(temporary)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        told = process.stderr
        wait_for("all are ready", lambda: "all processes are ready" in told.readline(), process)
        with TcpClient(tcp) as engine:
            engine.expect(Kind.HELLO)
        first = wait_for("inference", lambda: find("infer", temporary), process)
        os.kill(first, signal.SIGKILL)
        second = wait_for("its restart", lambda: (pid := find("infer", temporary)) != first and pid, process)
        answer, errors = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    report = json.loads(answer)
    assert report == json.loads((out / "report.json").read_text())
    assert report["restarts"] == {"view": 0, "record": 0, "serve": 0, "infer": 1, "node": 0}
    require_closed(report["frames"])
    assert report["frames"]["published"] >= 4 * 5 and report["frames"]["used"] > 0 and report["meshes"] > 0
    assert report["truth_error_mm"]["meshes"] > 0
    assert (out / "snapshot.png").stat().st_size > 0 and (out / "demo.mp4").stat().st_size > 0
    assert verify_take(out / "take").ok
    with open_take(out / "take") as take:
        assert take.mesh_count == report["meshes"]
        beats = [message for _, _, message in take.messages(["health"])]
        assert {"node", "infer", "record", "serve"} <= {beat.process for beat in beats if isinstance(beat, Health)}
    left = [verb for verb in ("node", "infer", "record", "view", "serve") if find(verb, temporary)]
    assert left == [], f"still running: {left} (inference was {second})"
    assert list(temporary.glob("mien-live-*")) == []
    require_no_secret(out)


def require_no_secret(out: Path) -> None:
    files = [path for path in out.rglob("*") if path.is_file()]
    assert files and [path for path in files if b"planted" in path.read_bytes()] == []
    assert "rtsp://***@10.0.0.7/1" in (out / "config.toml").read_text(), "the address itself is kept"


def test_the_folder_of_a_demo_holds_no_password_its_processes_read_one_for_their_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, temporary = tmp_path / "demo", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (tmp_path / "one.toml").write_text(f"schema = 1\n[rig.rtsp.cameras]\ncam_0 = '{PLANTED}'\n")
    read: list[Path] = []

    def planned(bus: BusConfig, config: tuple[str, ...], **others: Any) -> list[ProcessSpec]:
        read.append(Path(config[config.index("--config") + 1]))
        return plan(bus, config, **others)

    def stop_at_once(*_: object, **__: object) -> list[str]:
        assert PLANTED in read[0].read_text() and read[0].stat().st_mode & 0o777 == 0o600
        raise ProcessError("far enough")

    monkeypatch.setattr(demo, "plan", planned)
    monkeypatch.setattr(demo, "conduct", stop_at_once)
    settings = load_settings(tmp_path / "one.toml", [])
    with pytest.raises(ProcessError, match="far enough"):
        demo.run_demo(settings, demo.DemoOptions(out=out, headless=True), say=lambda _: None)
    assert read[0].parent == temporary and not read[0].exists()
    require_no_secret(out)
