"""Takes by command: pre-roll, markers, names, a disk that fails while live goes on; over the bus and by OSC."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import zmq
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket

from streamer.config import BusConfig, RecordConfig, SyncConfig
from streamer.control import ControlServer, ask, control_endpoint
from streamer.errors import ConfigError, MienError, TakeError, TransportError
from streamer.live import free_ports
from streamer.takes import open_take
from streamer.takes.disk import AppendFile
from streamer.takes.intake import PreRoll
from streamer.takes.layout import JOURNAL, read_info, read_journal
from streamer.takes.osc import OscServer
from streamer.takes.recorder import run_armed
from streamer.takes.recover import recover_take
from streamer.takes.session import Session
from streamer.takes.space import free_bytes
from streamer.takes.verify import verify_take
from streamer.transport import Publisher, endpoint_for
from tests.streamer.take_makers import PERIOD_NS, START_NS, calibration, frame, mesh, topology

DEADLINE_S = 30.0


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        return self.now_ns


def session(tmp_path: Path, clock: Clock, **settings: Any) -> Session:
    record = RecordConfig(directory=str(tmp_path / "takes"), min_free_gb=0.0, preroll_s=0.5, **settings)
    return Session(record, SyncConfig(), "schema = 1\n", clock_ns=clock)


def play(recorder: Session, clock: Clock, numbers: range) -> None:
    for number in numbers:
        clock.now_ns = START_NS + number * PERIOD_NS
        recorder.put("frame", frame("left", number))
        recorder.put("mesh", mesh(number))


def greet(recorder: Session) -> None:
    recorder.put("calibration", calibration())
    recorder.put("topology", topology())


def test_a_take_begins_with_its_preroll_and_knows_its_markers(tmp_path: Path) -> None:
    clock = Clock()
    recorder = session(tmp_path, clock)
    with pytest.raises(TakeError, match="no calibration came"):
        recorder.command("start", {})
    greet(recorder)
    play(recorder, clock, range(60))  # two seconds, of which half a second is kept
    status = recorder.command("start", {"slate": "s12", "notes": "angry"})
    assert (status["state"], Path(status["take"]).name, status["next_take"]) == ("recording", "s12_T001", 2)
    assert status["preroll_s"] == pytest.approx(0.5, abs=0.04)
    with pytest.raises(TakeError, match="recorded already"):
        recorder.command("start", {})
    play(recorder, clock, range(60, 75))
    assert recorder.command("mark", {"text": "smile"})["markers"] == 1
    play(recorder, clock, range(75, 80))
    done = recorder.command("stop", {})
    assert (done["state"], Path(done["last"]).name, done["alarm"]) == ("armed", "s12_T001", "")
    with pytest.raises(TakeError, match="nothing is being recorded"):
        recorder.command("mark", {})
    path = Path(done["last"])
    assert verify_take(path).ok
    with open_take(path) as take:
        first = next(take.frames("left")).sequence
        assert [got.sequence for got in take.frames("left")] == list(range(first, 80))
        assert 60 - 16 <= first <= 60 - 14
        assert topology().id in take.topologies
        assert (take.info.notes, take.info.slate, take.info.take) == ("angry", "s12", 1)
        assert [(m.frame_id, m.text) for m in take.info.markers] == [(74, "smile")]
        assert take.info.timecode is not None
        assert take.info.timecode.time_ns == START_NS + 59 * PERIOD_NS
        assert (path / "metadata.cptake").exists()
    cptake = json.loads((path / "metadata.cptake").read_text())
    assert (cptake["Slate"], cptake["TakeNumber"], cptake["UniqueId"]) == ("s12", 1, read_info(path).unique_id)
    assert cptake["Device"] == {
        "Type": "Mien",
        "Model": "Mien",
        "Name": "demo",
        "Software": [{"Name": "Mien", "Version": version("mien")}],
    }
    moment = datetime.fromisoformat(cptake["DateTime"])
    with open_take(path) as take:
        assert abs(moment.timestamp() * 1e9 - take.first_ns) < 2000
    assert recorder.command("start", {})["take"].endswith("s12_T002")  # the slate stays, the number goes on
    recorder.close()
    assert len(recorder.closed) == 2
    assert read_info(recorder.closed[1]).unique_id != read_info(path).unique_id


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("dance", {}, "no command 'dance'"), ("start", {"path": "/tmp"}, "takes no 'path'"),
        ("start", {"slate": "../x"}, "use 1 to 64 letters"), ("start", {"take": 0}, "from 1 to 999999"),
        ("start", {"take": True}, "from 1 to 999999"), ("start", {"notes": 7}, "expected printable text"),
        ("set", {"show": ""}, "use 1 to 64 letters"), ("mark", {"text": "x" * 501}, "at most 500"),
        ("stop", {}, "nothing is being recorded"),
    ],
)  # fmt: skip
def test_commands_that_cannot_be_obeyed_change_nothing(
    tmp_path: Path, command: str, arguments: dict[str, Any], says: str
) -> None:
    recorder = session(tmp_path, Clock())
    greet(recorder)
    before = recorder.command("status", {})
    with pytest.raises((ConfigError, TakeError), match=says):
        recorder.command(command, arguments)
    after = recorder.command("status", {})
    assert {**after, "disk_free_gb": 0} == {**before, "disk_free_gb": 0}
    assert not (tmp_path / "takes").exists()


def test_a_take_number_may_be_given_once_and_is_never_overwritten(tmp_path: Path) -> None:
    recorder = session(tmp_path, Clock())
    greet(recorder)
    assert recorder.command("set", {"slate": "a", "take": 7})["next_take"] == 7
    assert recorder.command("start", {})["take"].endswith("a_T007")
    recorder.command("stop", {})
    assert recorder.command("status", {})["next_take"] == 8
    with pytest.raises(TakeError, match="a_T007 exists already"):
        recorder.command("start", {"take": 7})
    recorder.close()


def test_a_disk_that_breaks_ends_the_take_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    recorder = session(tmp_path, clock, chunk_mb=0.01)
    greet(recorder)
    original, full = AppendFile._write_some, [True]

    def limited(file: AppendFile, data: memoryview) -> int:
        if full[0] and file.size + len(data) > 30_000:
            raise OSError(28, "No space left on device")
        return original(file, data)

    monkeypatch.setattr(AppendFile, "_write_some", limited)
    recorder.command("start", {})
    play(recorder, clock, range(200))
    until(lambda: recorder.broken, "the disk fails")
    recorder.check()
    until(lambda: bool(recorder.alarm), "the alarm")
    status = recorder.command("status", {})
    assert status["state"] == "armed"
    assert "No space left on device; the take is closed and holds all" in status["alarm"]
    assert recorder.vitals().state == "degraded"
    assert verify_take(recorder.closed[0]).ok
    with open_take(recorder.closed[0]) as take:
        lost = take.info.drops["frame/left"]
        assert take.frame_count + sum(lost.values()) == 200
    full[0] = False  # somebody made room: the next take is as any other
    play(recorder, clock, range(200, 210))
    assert recorder.command("start", {})["alarm"] == ""
    assert [name for name in recorder.vitals().gauges if name.startswith("take_begun_s.")] == [
        f"take_begun_s.{Path(recorder.command('status', {})['take']).name}"
    ]
    play(recorder, clock, range(210, 220))
    recorder.close()
    assert not any(name.startswith("take_begun_s.") for name in recorder.vitals().gauges)
    assert recorder.vitals().state == "running"
    assert verify_take(recorder.closed[1]).ok


def test_too_little_space_ends_a_take_with_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = session(tmp_path, Clock())
    greet(recorder)
    recorder.command("start", {})
    recorder._record = replace(recorder._record, min_free_gb=1.0)
    monkeypatch.setattr("streamer.takes.session.free_bytes", lambda path: 5)
    recorder.check()
    recorder.close()
    assert "less than record.min_free_gb = 1 GB free; the take is closed and whole" in recorder.alarm
    assert "min_free_gb" in read_info(recorder.closed[0]).stopped


def test_a_folder_that_vanishes_is_an_alarm_and_the_next_take_is_as_any_other(tmp_path: Path) -> None:
    clock = Clock()
    recorder = session(tmp_path, clock)
    greet(recorder)
    path = Path(recorder.command("start", {})["take"])
    play(recorder, clock, range(40))
    shutil.rmtree(path)
    recorder.check()
    until(lambda: bool(recorder.alarm), "the alarm")
    status = recorder.command("status", {})
    assert status["state"] == "armed" and "No such file or directory" in status["alarm"], status["alarm"]
    assert recorder.vitals().state == "degraded"
    path = Path(recorder.command("start", {})["take"])
    play(recorder, clock, range(40, 50))
    recorder.close()
    assert verify_take(path).ok


def test_a_disk_that_does_not_answer_counts_as_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("streamer.takes.space.shutil.disk_usage", broken)
    assert free_bytes(tmp_path / "x" / "y") == 0


def test_a_folder_that_cannot_be_made_is_an_alarm(tmp_path: Path) -> None:
    recorder = session(tmp_path, Clock())
    path = recorder.begin(None)
    path.parent.mkdir(parents=True)
    path.write_text("in the way")
    greet(recorder)
    assert not recorder.recording
    assert "exists already" in recorder.alarm
    assert recorder.command("start", {})["take"].endswith("slate_T002")
    recorder.close()


def test_markers_of_a_killed_recorder_come_back(tmp_path: Path) -> None:
    clock = Clock()
    recorder = session(tmp_path, clock)
    greet(recorder)
    path = Path(recorder.command("start", {})["take"])
    play(recorder, clock, range(3))
    recorder.command("mark", {"text": "one"})
    recorder.command("mark", {"text": "two\nlines"})
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in path.iterdir():  # what a power cut leaves: the take as it lies on the disk now
        if file.name not in (".lock", ".reserve"):
            (copy / file.name).write_bytes(file.read_bytes())
    with (copy / JOURNAL).open("a") as journal:
        journal.write('{"time_ns": 5, "frame')  # torn
    recorder.close()
    assert [m.text for m in read_journal(copy)] == ["one", "two\nlines"]
    assert recover_take(copy).ok
    assert [m.text for m in read_info(copy).markers] == ["one", "two\nlines"]
    assert not (copy / JOURNAL).exists()
    assert [m.text for m in read_info(path).markers] == ["one", "two\nlines"]


def test_the_preroll_is_bounded_in_time_and_bytes() -> None:
    roll = PreRoll(1.0, 10_000)
    for number in range(100):
        roll.add(("frame", frame("left", number, 500), number * 10**8))
    assert [item[2] // 10**8 for item in roll.items()] == [97, 98, 99]  # 2548 bytes each
    assert roll.seconds == pytest.approx(0.2)
    small = PreRoll(1.0, 1 << 20)
    for number in range(100):
        small.add(("frame", frame("left", number, 500), number * 10**8))
    assert len(small.items()) == 11
    none = PreRoll(0.0, 1 << 20)
    none.add(("frame", frame("left", 0), 0))
    assert none.items() == []


# Over the bus


def until(condition: Callable[[], bool], what: str, act: Callable[[], object] = lambda: None) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        act()
        time.sleep(0.01)


@contextmanager
def armed(tmp_path: Path, start: bool = False) -> Iterator[tuple[BusConfig, list[Path]]]:
    node, infer, record, demo, control = free_ports(5)
    bus = BusConfig(node_port=node, infer_port=infer, record_port=record, demo_port=demo, control_port=control)
    settings = RecordConfig(directory=str(tmp_path / "takes"), min_free_gb=0.0, sync_s=0.1)
    stop, takes = threading.Event(), list[Path]()
    thread = threading.Thread(
        target=lambda: takes.extend(run_armed(settings, bus, SyncConfig(), stop=stop, start=start))
    )
    thread.start()
    try:
        yield bus, takes
    finally:
        stop.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_commands_over_the_bus_make_takes(tmp_path: Path) -> None:
    with armed(tmp_path) as (bus, takes):

        def tell(command: str, **arguments: Any) -> dict[str, Any]:
            return ask(control_endpoint(bus), command, arguments, timeout_s=DEADLINE_S)

        with Publisher(endpoint_for(bus, "node")) as node:
            assert tell("status")["state"] == "armed"
            with pytest.raises(TransportError, match="no calibration came"):
                tell("start")

            def begun() -> bool:
                try:
                    return tell("start", slate="one")["state"] == "recording"
                except TransportError as error:
                    assert "no calibration" in str(error)
                    return False

            until(begun, "the take begins", lambda: node.send("calibration", calibration()))
            for number in range(20):
                node.send("frame", frame("left", number))
            until(lambda: tell("status")["messages"] >= 21, "the frames are written")
            tell("mark", text="here")
            assert tell("stop")["state"] in ("armed", "closing")
            until(lambda: tell("status")["state"] == "armed", "the take is closed")
            with pytest.raises(TransportError, match="no command 'quit'"):
                tell("quit")
            tell("start", slate="two")
    assert [path.name for path in takes] == ["one_T001", "two_T001"]  # the one that was on is closed at the end
    with open_take(takes[0]) as take:
        assert [got.sequence for got in take.frames("left")] == list(range(20))
        assert [m.text for m in take.info.markers] == ["here"]
    assert verify_take(takes[1]).ok


def test_an_armed_recorder_may_begin_by_itself(tmp_path: Path) -> None:
    with armed(tmp_path, start=True) as (bus, takes), Publisher(endpoint_for(bus, "node")) as node:
        until(
            lambda: bool(list((tmp_path / "takes").glob("*/*/take.json"))),
            "the take begins",
            lambda: node.send("calibration", calibration()),
        )
    assert [path.name for path in takes] == ["slate_T001"]


@pytest.mark.parametrize(
    "sent",
    [[b""], [b"{"], [b"[]"], [b'{"mien": 2, "command": "x"}'], [b'{"mien": 1}'], [b'{"mien": 1, "command": 5}'],
     [b'{"mien": 1, "command": "x"}', b"more"], [b"\xff" * 100], [b"[" * 50_000]],
)  # fmt: skip
def test_requests_that_are_none_are_answered_and_change_nothing(sent: list[bytes]) -> None:
    obeyed: list[str] = []

    def handler(name: str, _: Any) -> dict[str, Any]:
        obeyed.append(name)
        return {}

    with (
        ControlServer("tcp://127.0.0.1:0", handler) as server,
        zmq.Context() as context,
        context.socket(zmq.REQ) as client,
    ):
        client.setsockopt(zmq.LINGER, 0)
        client.connect(server.endpoint)
        client.send_multipart(sent)
        assert client.poll(DEADLINE_S * 1000)
        assert json.loads(client.recv())["ok"] is False
        assert ask(server.endpoint, "go", {}, timeout_s=DEADLINE_S) == {}
    assert obeyed == ["go"]


def test_commands_are_taken_on_loopback_or_with_keys_only() -> None:
    with pytest.raises(TransportError, match="refusing to take commands"):
        ControlServer("tcp://0.0.0.0:5999", lambda name, arguments: {})
    with ControlServer("tcp://127.0.0.1:0", lambda name, arguments: {}) as server:
        port = int(server.endpoint.rsplit(":", 1)[1])
        with pytest.raises(TransportError, match="is in use"):
            ControlServer(f"tcp://127.0.0.1:{port}", lambda name, arguments: {})
    with pytest.raises(TransportError, match=r"no answer .* does mien live, or mien record --armed, run there"):
        ask(f"tcp://127.0.0.1:{port}", "status", {}, timeout_s=0.05)


# By OSC


def _packet(address: str, *values: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    return bytes(builder.build().dgram)


def test_osc_starts_marks_and_stops(tmp_path: Path) -> None:
    clock = Clock()
    recorder = session(tmp_path, clock)
    greet(recorder)
    with OscServer(0, recorder.command) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE_S)

        def tell(packet: bytes) -> tuple[str, list[Any]]:
            client.sendto(packet, ("127.0.0.1", server.port))
            message = OscPacket(client.recv(65536)).messages[0].message
            return message.address, list(message.params)

        assert tell(_packet("/Slate", "osc"))[0] == "/mien/status"
        address, values = tell(_packet("/RecordStart"))
        assert (address, Path(values[0]).name) == ("/RecordStartConfirm", "osc_T001")
        play(recorder, clock, range(3))
        assert tell(_packet("/Marker", "now"))[1][0] == "recording"
        assert tell(_packet("/RecordStart"))[0] == "/mien/error"
        assert tell(_packet("/Dance"))[0] == "/mien/error"
        assert tell(_packet("/RecordStop", 1))[0] == "/mien/error"
        assert tell(_packet("/RecordStop")) == ("/RecordStopConfirm", values)
        address, values = tell(_packet("/RecordStart", "other", 5, "notes"))
        assert Path(values[0]).name == "other_T005"
        for junk in (b"", b"x", b"/RecordStop", b"#bundle\0" + bytes(8) + b"\xff" * 8, b"/\xff\xff\0,s\0\0\xff\0\0\0"):
            client.sendto(junk, ("127.0.0.1", server.port))
        assert tell(_packet("/mien/status"))[1][0] == "recording"  # junk ended nothing
        assert server.refused >= 4
    recorder.close()
    assert [path.name for path in recorder.closed] == ["osc_T001", "other_T005"]
    assert [m.text for m in read_info(recorder.closed[0]).markers] == ["now"]
    with OscServer(0, recorder.command) as server, pytest.raises(TransportError, match="UDP port"):
        OscServer(server.port, recorder.command)


def test_a_refused_command_is_one_line() -> None:
    def handler(name: str, _: Any) -> dict[str, Any]:
        raise MienError("two\nlines")

    with ControlServer("tcp://127.0.0.1:0", handler) as server, pytest.raises(TransportError, match=r"^two lines$"):
        ask(server.endpoint, "go", {}, timeout_s=DEADLINE_S)


def test_cameras_of_several_hosts_are_all_calibrated(tmp_path: Path) -> None:
    """Each camera host publishes the calibration of its own cameras; a take holds them all, killed or not."""
    clock = Clock()
    recorder = session(tmp_path, clock)
    one, two = calibration(("left", "mid")), calibration(("right",))
    recorder.put("calibration", one)
    path = Path(recorder.command("start", {})["take"])
    for number in range(40):
        clock.now_ns = START_NS + number * PERIOD_NS
        recorder.put("calibration", (one, two)[number % 2])
        for camera in ("left", "right"):
            recorder.put("frame", frame(camera, number))
    recorder.command("stop", {})
    assert verify_take(path).ok
    with open_take(path) as take:
        assert take.calibration.ids == ("left", "mid", "right")
        assert take.info.messages["calibration"] == 2
        assert len(take.sets) == 40
    (path / "calibration.toml").unlink()
    assert recover_take(path).ok
    with open_take(path) as take:
        assert take.calibration.ids == ("left", "mid", "right")
    assert recorder.command("start", {})["state"] == "recording"  # both are known now
    recorder.close()
    with open_take(recorder.closed[1]) as take:
        assert take.calibration.ids == ("left", "mid", "right")
