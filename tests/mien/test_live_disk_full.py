"""The whole house on a disk that fills up or is torn off: recording ends with an alarm, the live head goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamer.config import BusConfig
from streamer.control import ask, control_endpoint
from streamer.errors import MienError
from streamer.live import free_ports
from streamer.takes import open_take
from streamer.takes.verify import verify_take
from streamer.transport import Subscriber, infer_endpoint

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 150.0
SETTINGS = {
    "rig.fps": 5,
    "rig.encoding": '"raw"',
    "rig.simulated.cameras": 4,
    "rig.simulated.width": 320,
    "rig.simulated.height": 240,
    "sync.deadline_ms": 2000,
    "inference.threads": 1,
    "record.min_free_gb": 0,
    "record.chunk_mb": 0.25,
    "record.roll_s": 2,
    "record.preroll_s": 0,
    "live.http_port": 0,
}


def mount(path: Path, megabytes: int) -> None:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip() or done.returncode}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 24 MB."""
    path = tmp_path / "disk"
    mount(path, 24)
    yield path
    subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)


@pytest.fixture
def bus() -> BusConfig:
    node, infer, record, demo, serve, control = free_ports(6)
    return BusConfig(
        node_port=node, infer_port=infer, record_port=record, demo_port=demo, serve_port=serve, control_port=control
    )


@pytest.fixture
def live(tmp_path: Path, disk: Path, bus: BusConfig) -> Iterator["subprocess.Popen[str]"]:
    """`mien live --record` with a small simulated rig whose takes go to the disk."""
    ports = {f"bus.{name}_port": getattr(bus, f"{name}_port") for name in ("node", "infer", "record", "demo", "serve")}
    values = {**SETTINGS, **ports, "bus.control_port": bus.control_port, "record.directory": f'"{disk}/takes"'}
    (tmp_path / "small.toml").write_text("schema = 1\n")
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    words = ["live", "--record", "--no-view", "--no-screen", "--config", str(tmp_path / "small.toml"), "--json", *sets]
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "mien", *words, "--set", f'live.logs="{tmp_path / "logs"}"'],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=told, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def until(what: str, found: Callable[[], object], process: "subprocess.Popen[str]", told: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not found():
        assert process.poll() is None, f"mien live ended before {what}: {told.read_text()}"
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:g} s for {what}: {told.read_text()}"
        time.sleep(0.1)


def status(bus: BusConfig) -> dict[str, object]:
    try:
        return dict(ask(control_endpoint(bus), "status", {}))
    except MienError:  # it is still starting
        return {"state": "", "alarm": "", "last": "", "messages": 0}


def meshes_go_on(bus: BusConfig, process: "subprocess.Popen[str]", told: Path) -> None:
    with Subscriber([infer_endpoint(bus)], ["mesh"]) as listener:
        heard = []
        until("two meshes after the alarm", lambda: heard.extend(listener.drain()) or len(heard) >= 2, process, told)


def end(process: "subprocess.Popen[str]", told: Path) -> dict[str, object]:
    process.send_signal(signal.SIGINT)
    answer, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told.read_text()
    found: dict[str, object] = json.loads(answer)
    return found


@pytest.mark.timeout(240)
def test_a_full_disk_ends_the_take_with_an_alarm_and_live_goes_on(
    tmp_path: Path, disk: Path, bus: BusConfig, live: "subprocess.Popen[str]"
) -> None:
    told = tmp_path / "told"
    until("the alarm", lambda: status(bus)["alarm"], live, told)
    found = status(bus)
    assert "No space left on device; the take is closed and holds all" in str(found["alarm"])
    assert found["state"] == "armed"
    meshes_go_on(bus, live, told)
    path = Path(str(found["last"]))
    report = verify_take(path)
    assert report.ok and report.frames > 8, report
    with open_take(path) as take:
        assert "No space left on device" in take.info.stopped
        named = sum(loss.number for loss in take.ledger.losses())
        counted = sum(sum(reasons.values()) for reasons in take.info.drops.values())
        assert named == counted > 0 or not take.info.ledger
        for camera in take.cameras:  # whole up to the end: no hole in what each camera gave
            sequences = [frame.sequence for frame in take.frames(camera)]
            assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    result = end(live, told)
    assert result["restarts"] == {"record": 0, "infer": 0, "node": 0}


@pytest.mark.timeout(240)
def test_a_disk_that_is_torn_off_ends_the_take_with_an_alarm_and_live_goes_on(
    tmp_path: Path, disk: Path, bus: BusConfig, live: "subprocess.Popen[str]"
) -> None:
    told = tmp_path / "told"
    until("messages on the disk", lambda: int(str(status(bus)["messages"])) > 8 or status(bus)["alarm"], live, told)
    subprocess.run(["umount", "-l", str(disk)], check=True)
    until("the alarm", lambda: status(bus)["alarm"], live, told)
    assert "No such file or directory" in str(status(bus)["alarm"]) or "No space" in str(status(bus)["alarm"])
    meshes_go_on(bus, live, told)
    started = ask(control_endpoint(bus), "start", {"slate": "again"})  # on what is under the mount point
    until("messages of the next take", lambda: int(str(status(bus)["messages"])) > 8, live, told)
    ask(control_endpoint(bus), "stop", {})
    until("its end", lambda: status(bus)["state"] == "armed", live, told)
    result = end(live, told)
    assert result["restarts"] == {"record": 0, "infer": 0, "node": 0}
    assert verify_take(Path(str(started["take"]))).ok
