"""Bus -> take -> bus: everything that arrives is in the take or in its ledger, and comes out as it went in."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamer.channels import CHANNELS
from streamer.config import BusConfig, RecordConfig, SyncConfig
from streamer.errors import TakeError, TransportError
from streamer.live import free_ports
from streamer.takes import open_take
from streamer.takes.carve import Found, carve
from streamer.takes.disk import AppendFile
from streamer.takes.intake import Intake, Losses
from streamer.takes.recorder import run_record
from streamer.takes.recover import recover_take
from streamer.takes.replay import Shift, run_replay
from streamer.takes.stored import channel_of
from streamer.takes.verify import verify_take
from streamer.transport import Publisher, Subscriber, endpoint_for
from streamer.types import Frame, Health
from tests.streamer.take_makers import (
    CAMERAS,
    START_NS,
    calibration,
    frame,
    mesh,
    open_writer,
    same_frame,
    topology,
    write_take,
)

RECORD = RecordConfig(min_free_gb=0.0, chunk_mb=0.02, sync_s=0.1, meshes="lossless")


def _bus() -> BusConfig:
    node, infer, record, demo = free_ports(4)
    return BusConfig(node_port=node, infer_port=infer, record_port=record, demo_port=demo, control_port=0)


def _until(condition: Callable[[], bool], what: str, act: Callable[[], object] = lambda: None) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        act()
        time.sleep(0.01)


class _Background:
    """A call in a thread, with its result or its error."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.result: object = None
        self.error: Exception | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except (TakeError, TransportError) as error:
            self.error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(30)
        assert not self.running


@contextmanager
def _recording(path: Path, bus: BusConfig, record: RecordConfig = RECORD) -> Iterator[_Background]:
    stop = threading.Event()
    call = _Background(lambda: run_record(record, bus, SyncConfig(), stop=stop, path=path, config_text="schema = 1\n"))
    try:
        yield call
    finally:
        stop.set()
        call.join()


def _greet(path: Path, node: Publisher) -> None:
    """Send the calibration until the recorder has opened its take."""
    _until((path / "take.json").exists, "the take begins", lambda: node.send("calibration", calibration()))


def _on_file(path: Path, channel: str) -> int:
    """Whole messages of a channel in a take that is being written."""
    items = [item for file in path.glob("*.mcap") for item in carve(file)]
    return sum(channel_of(item.parts) == channel for item in items if isinstance(item, Found))


def test_all_channels_of_all_processes_are_recorded(tmp_path: Path) -> None:
    path, bus = tmp_path / "take", _bus()
    with (
        Publisher(endpoint_for(bus, "node"), ring_slots=64) as node,
        Publisher(endpoint_for(bus, "infer")) as infer,
        Subscriber([endpoint_for(bus, "record")], ["health"]) as listener,
    ):
        with _recording(path, bus) as call:
            _greet(path, node)
            heard: list[Health] = []
            beat = Health("infer", 5, "running", {"used.left": 3})
            _until(lambda: bool(_processes(listener, heard)), "the recorder's heartbeat")
            for number in range(20):
                for camera in CAMERAS:
                    node.send("frame", frame(camera, number))
                node.send("truth", mesh(number))
            node.send("topology", topology())
            for number in range(20):
                infer.send("mesh", mesh(number))
            infer.send("health", beat)
            _until(lambda: _recorded(listener, heard) >= 20 * 5 + 3, "all messages are taken")
        assert call.error is None
        assert call.result == path
    with open_take(path) as take:
        assert take.config_text == "schema = 1\n"
        for camera in CAMERAS:
            frames = list(take.frames(camera))
            assert len(frames) == 20
            assert all(same_frame(frame(camera, number), got) for number, got in enumerate(frames))
        assert len(take.meshes()) == len(take.meshes("truth")) == 20
        assert beat in [message for _, _, message in take.messages(["health"])]
        assert take.info.drops == {}
    assert heard[0].process == "record"
    assert heard[-1].state == "running"


def _processes(listener: Subscriber, heard: list[Health]) -> set[str]:
    heard += [message for _, message in listener.drain() if isinstance(message, Health)]
    return {health.process for health in heard}


def _recorded(listener: Subscriber, heard: list[Health]) -> int:
    _processes(listener, heard)
    return heard[-1].counters["recorded"]


def test_gaps_on_the_bus_are_in_the_ledger(tmp_path: Path) -> None:
    path, bus = tmp_path / "take", _bus()
    with Publisher(endpoint_for(bus, "node")) as node, _recording(path, bus):
        _greet(path, node)
        for number in (0, 1, 4, 5, 9):
            node.send("frame", frame("left", number))
        for number in (7, 8):  # joined late: what was before is not a gap
            node.send("frame", frame("mid", number))
        for number in (50, 51, 0, 1, 3):  # the node was started again
            node.send("frame", frame("right", number))
        _until(lambda: _on_file(path, "frame") == 12, "all frames are on file")
    with open_take(path) as take:
        assert {topic: dict(reasons) for topic, reasons in take.info.drops.items()} == {
            "frame/left": {"lost-on-bus": 5},
            "frame/right": {"lost-on-bus": 1},
        }
        named = [(loss.name.topic, loss.name.frame_id, loss.name.sequence) for loss in take.ledger.losses()]
        assert named == [*(("frame/left", n, n) for n in (2, 3, 6, 7, 8)), ("frame/right", 2, 2)]
        assert take.frame_count == 12


def test_what_does_not_fit_the_queue_is_counted_and_nothing_else_changes() -> None:
    intake, losses = Intake(10_000), Losses()
    taken = []
    for number in range(20):
        item = ("frame", frame("left", number, 1000), number)
        if intake.put(item):
            taken.append(number)
        else:
            losses.lose("frame/left", item[1], "queue-full")
        if number == 9:
            assert [intake.get(0)[2] for _ in range(2)] == [0, 1]  # type: ignore[index]
    assert taken == [0, 1, 2, 10, 11]  # 3048 bytes each, room for three
    assert losses.total == {"queue-full": 15}
    assert [loss.name.frame_id for loss in losses.take()] == [n for n in range(20) if n not in taken]
    assert intake.waiting_bytes == 3 * 3048
    intake.close()
    assert not intake.put(("frame", frame("left", 1), 0))
    assert [intake.get(0)[2] for _ in range(3)] == [2, 10, 11]  # type: ignore[index]
    assert intake.done
    assert intake.get(0) is None


def test_frames_before_the_calibration_are_kept(tmp_path: Path) -> None:
    path, bus = tmp_path / "take", _bus()
    with Publisher(endpoint_for(bus, "node")) as node, _recording(path, bus) as call:
        with Subscriber([endpoint_for(bus, "record")], ["health"]) as listener:
            _until(lambda: bool(_processes(listener, [])), "the recorder listens", lambda: node.send("truth", mesh(0)))
        for number in range(5):
            node.send("frame", frame("left", number))
        _greet(path, node)
        assert call.running
    assert [got.sequence for got in open_take(path).frames("left")] == list(range(5))


def test_a_recording_without_calibration_leaves_nothing(tmp_path: Path) -> None:
    bus = _bus()
    with Publisher(endpoint_for(bus, "node")) as node, _recording(tmp_path / "take", bus) as call:
        node.send("frame", frame("left", 0))
    assert call.error is not None
    assert f"no calibration came from tcp://127.0.0.1:{bus.node_port}; start mien node" in str(call.error)
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_and_a_taken_port_are_refused_at_once(tmp_path: Path) -> None:
    bus, stop = _bus(), threading.Event()
    with pytest.raises(TakeError, match=r"GB free, record\.min_free_gb = 1e\+09"):
        run_record(replace(RECORD, min_free_gb=1e9), bus, SyncConfig(), stop=stop, path=tmp_path / "t")
    with Publisher(endpoint_for(bus, "record")), pytest.raises(TransportError, match="in use"):
        run_record(RECORD, bus, SyncConfig(), stop=stop, path=tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_ends_the_take_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, bus = tmp_path / "take", _bus()
    free = [10_000_000_000]
    monkeypatch.setattr("streamer.takes.session.free_bytes", lambda path: free[0])
    monkeypatch.setattr("streamer.takes.recorder.CHECK_S", 0.05)
    with (
        Publisher(endpoint_for(bus, "node")) as node,
        _recording(path, bus, replace(RECORD, min_free_gb=1.0)) as call,
    ):
        _greet(path, node)
        node.send("frame", frame("left", 0))
        _until(lambda: _on_file(path, "frame") == 1, "the frame is on file")
        free[0] = 5
        _until(lambda: not call.running, "the recorder stops by itself")
    assert "less than record.min_free_gb = 1 GB free; the take is closed and whole" in str(call.error)
    with open_take(path) as take:
        assert "min_free_gb" in take.info.stopped


def test_a_disk_that_breaks_is_reported_and_every_message_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, bus = tmp_path / "take", _bus()
    original = AppendFile._write_some

    def limited(file: AppendFile, data: memoryview) -> int:
        if file.size + len(data) > 30_000:
            raise OSError(28, "No space left on device")
        return original(file, data)

    monkeypatch.setattr(AppendFile, "_write_some", limited)
    with Publisher(endpoint_for(bus, "node"), ring_slots=64) as node, _recording(path, bus) as call:
        _greet(path, node)
        sent = 0
        for number in range(200):
            node.send("frame", frame("left", number, 3000))
            sent += 1
            if number % 10 == 9:
                time.sleep(0.005)
            if not call.running:
                break
        _until(lambda: not call.running, "the recorder stops by itself")
    assert "No space left on device; the take is closed" in str(call.error)
    assert verify_take(path).ok
    with open_take(path) as take:
        lost = take.info.drops["frame/left"]
        assert 0 < take.frame_count < 12
        # What was sent after the disk broke may have stayed in the socket; all that was received is accounted for.
        assert take.frame_count + sum(lost.values()) <= sent
        assert take.info.ledger
        named = sorted(loss.name.frame_id for loss in take.ledger.losses() if loss.name.topic == "frame/left")
        assert named == list(range(take.frame_count, take.frame_count + sum(lost.values())))
        assert [got.sequence for got in take.frames("left")] == list(range(take.frame_count))


def test_record_replay_record_is_identical(tmp_path: Path) -> None:
    first = write_take(tmp_path / "first", 25)
    second, bus = tmp_path / "second", _bus()
    stop, listening = threading.Event(), threading.Event()
    with _recording(second, bus):
        replay = _Background(
            lambda: run_replay(
                first, bus, speed=8.0, loop=False, stop=stop, meshes=True, lead_s=50.0, listening=listening
            )
        )
        try:
            _until((second / "take.json").exists, "the recorder listens")
        finally:
            listening.set()
            replay.join()
        _until(lambda: (_on_file(second, "frame"), _on_file(second, "mesh")) == (75, 25), "everything is on file")
    assert replay.result == {"frame": 75, "mesh": 25}
    with open_take(first) as a, open_take(second) as b:
        for camera in CAMERAS:
            pairs = list(zip(a.frames(camera), b.frames(camera), strict=True))
            assert len(pairs) == 25
            assert all(same_frame(replace(y, publish_time_ns=x.publish_time_ns), x) for x, y in pairs)
            assert all(y.publish_time_ns > x.publish_time_ns for x, y in pairs)
        for x, y in zip(a.meshes(), b.meshes(), strict=True):
            assert x.vertices.tobytes() == y.vertices.tobytes()
            assert (x.frame_id, x.exposure_time_ns, x.views) == (y.frame_id, y.exposure_time_ns, y.views)
        assert a.topologies.keys() == b.topologies.keys()
        assert np.array_equal(a.calibration["mid"].K, b.calibration["mid"].K)
        assert b.info.drops == {}


def test_looping_goes_on_counting(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 10)
    with open_take(path) as take:
        shift = Shift(take)
        rounds = [[shift.apply(message, turn) for message in take.frames("mid")] for turn in range(3)]
    flat = [message for messages in rounds for message in messages if isinstance(message, Frame)]
    assert [m.frame_id for m in flat] == list(range(30))
    assert [m.sequence for m in flat][:10] == list(range(10))
    for name in ("sequence", "counter", "exposure_time_ns"):
        assert all(getattr(b, name) > getattr(a, name) for a, b in pairwise(flat))
    assert {b.exposure_time_ns - a.exposure_time_ns for a, b in pairwise(flat)} == {33_333_333}


def test_a_take_without_frames_is_not_replayed(tmp_path: Path) -> None:
    with open_writer(tmp_path / "take") as writer:
        writer.write("mesh", mesh(0), START_NS)
    with pytest.raises(TakeError, match="no frames to replay"):
        run_replay(tmp_path / "take", _bus(), speed=1, loop=False, stop=threading.Event())


RECORDER = """
import json, sys, threading
from pathlib import Path
from streamer.config import BusConfig, RecordConfig, SyncConfig
from streamer.takes.recorder import run_record
record = RecordConfig(min_free_gb=0.0, chunk_mb=0.05, roll_s=1.0)
run_record(record, BusConfig(**json.loads(sys.argv[2])), SyncConfig(), stop=threading.Event(), path=Path(sys.argv[1]))
"""


@pytest.mark.parametrize("sets", [30, 75])
def test_a_killed_recorder_loses_nothing_that_reached_the_file(tmp_path: Path, sets: int) -> None:
    path, bus = tmp_path / "take", _bus()
    ports = {name: getattr(bus, f"{name}_port") for name in ("node", "infer", "record", "demo", "control")}
    ports = {f"{name}_port": port for name, port in ports.items()}
    command = [sys.executable, "-c", RECORDER, str(path), json.dumps(ports)]
    with (
        Publisher(endpoint_for(bus, "node"), ring_slots=64) as node,
        subprocess.Popen(command, cwd=Path(__file__).parents[2]) as child,
    ):
        try:
            _greet(path, node)
            for number in range(sets):
                for camera in CAMERAS:
                    node.send("frame", frame(camera, number, 6000))
                time.sleep(0.005)
        finally:
            os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    with pytest.raises(TakeError, match="mien recover"):
        open_take(path)
    on_file = sum(_on_file(path, channel) for channel in CHANNELS)
    report = recover_take(path)
    assert report.ok
    with open_take(path) as take:
        assert sum(take.info.messages.values()) == on_file
        frames = {camera: list(take.frames(camera)) for camera in take.cameras}
        for camera, got in frames.items():
            assert [f.sequence for f in got] == list(range(len(got)))  # no gap before the end
            assert all(same_frame(f, frame(camera, f.sequence, 6000)) for f in got)
        assert take.frame_count > 0
