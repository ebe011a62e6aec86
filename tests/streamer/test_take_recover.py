"""Killed, cut, damaged: every whole message comes back, nothing wrong with it, and what was lost is said."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import streamer.takes.recover as recover_module
from streamer.errors import TakeError
from streamer.takes import open_take
from streamer.takes.carve import Broken, Found, carve
from streamer.takes.index import TakeFile
from streamer.takes.layout import LOCK, FileInfo, read_info, write_info
from streamer.takes.recover import recover_take
from streamer.takes.stored import channel_of
from streamer.takes.tables import EVENTS, TOPICS
from streamer.takes.verify import check_file, verify_take
from streamer.types import Frame
from tests.streamer.take_makers import (
    CAMERAS,
    START_NS,
    calibration,
    fill,
    frame,
    mesh,
    open_writer,
    same_frame,
    topology,
    write_take,
)

LEDGER = "ledger_0000.mcap"


def _spans(file: Path) -> list[tuple[int, int]]:
    """Begin and end of every message of a whole file."""
    return [(item.offset, item.offset + item.size) for item in _found(file)]


def _found(file: Path) -> list[Found]:
    return [item for item in carve(file) if isinstance(item, Found)]


def _check_content(path: Path) -> dict[str, list[int]]:
    """Compare every message with what was written; return the numbers that are there, by camera and `mesh`."""
    numbers: dict[str, list[int]] = {}
    with open_take(path) as take:
        for _, _, message in take.messages(["frame"]):
            assert isinstance(message, Frame)
            assert same_frame(message, frame(message.camera, message.sequence, len(message.data)))
            numbers.setdefault(message.camera, []).append(message.sequence)
        for got in take.meshes():
            assert np.array_equal(got.vertices, mesh(got.frame_id).vertices)
            numbers.setdefault("mesh", []).append(got.frame_id)
    return numbers


def _unclose(path: Path) -> None:
    """Make a closed take look like one whose recorder was killed."""
    (path / LEDGER).unlink(missing_ok=True)
    write_info(
        path, replace(read_info(path), state="recording", files=(), messages={}, drops={}, lost={}, ledger=False)
    )


def test_a_file_cut_anywhere_yields_exactly_the_messages_before_the_cut(tmp_path: Path) -> None:
    file = write_take(tmp_path / "take", 6) / "main_0000.mcap"
    data, spans = file.read_bytes(), _spans(file)
    rng = np.random.default_rng(5)
    cuts = [*range(len(data) - 2500, len(data)), *rng.integers(0, len(data) - 2500, 150).tolist()]
    torn = tmp_path / "torn.mcap"
    for cut in cuts:
        torn.write_bytes(data[:cut])
        found = [(item.offset, item.offset + item.size) for item in carve(torn) if isinstance(item, Found)]
        assert found == [span for span in spans if span[1] <= cut]
        if cut % 9 == 0:
            assert check_file(torn), f"a cut at {cut} was not noticed"
    assert not check_file(file)


def test_an_index_cut_or_changed_at_any_byte_of_the_tail_never_crashes_a_reader(tmp_path: Path) -> None:
    file = write_take(tmp_path / "take", 6) / "main_0000.mcap"
    data = file.read_bytes()
    torn = tmp_path / "torn.mcap"
    whole = TakeFile(file, FileInfo(file.name, len(data), 0)).index(0)
    torn.write_bytes(data)

    def read(size: int) -> None:
        reader = TakeFile(torn, FileInfo(torn.name, size, 0))  # as if take.json had known
        try:
            found = reader.index(0)
        except TakeError as error:
            assert "mien recover" in str(error)
        else:  # the table of messages itself is whole
            assert {topic: len(rows) for topic, rows in found.items()} == {t: len(r) for t, r in whole.items()}
        finally:
            reader.close()

    with torn.open("r+b", buffering=0) as changing:
        for place in range(len(data) - 3000, len(data), 3):
            os.pwrite(changing.fileno(), bytes([data[place] ^ 0x41]), place)
            read(len(data))
            os.pwrite(changing.fileno(), data[place : place + 1], place)
        for size in range(len(data) - 1, len(data) - 3000, -1):
            changing.truncate(size)
            read(size)


@pytest.mark.parametrize("part", range(4))
def test_a_take_cut_anywhere_is_made_whole(tmp_path: Path, part: int) -> None:
    path = write_take(tmp_path / "take", 12)
    _unclose(path)
    file = path / "main_0000.mcap"
    data, spans = file.read_bytes(), _spans(file)
    tables = [(item.offset, item.offset + item.size) for item in _found(file) if channel_of(item.parts) in TOPICS]
    events = [(item.offset, item.offset + item.size) for item in _found(file) if channel_of(item.parts) == EVENTS]
    edges = [spans[20][0], spans[20][1], spans[-1][1], len(data) - 8, len(data) - 37, 0, 8, 40]
    cuts = [edge + step for edge in edges for step in (-1, 0, 1) if 0 <= edge + step <= len(data)]
    for cut in cuts[part::4]:
        file.write_bytes(data[:cut])
        _unclose(path)
        report = recover_take(path)
        assert report.ok
        whole = [span for span in spans if span[1] <= cut]
        with open_take(path) as take:
            assert take.info.state == "recovered"
            assert sum(take.info.messages.values()) == len([span for span in whole if span not in tables])
            assert take.info.ledger and not take.ledger.compare()
            assert take.ledger.events["kind"].tolist()[-1] == "recovered"
        partial = sum(begin + 8 <= cut < end for begin, end in spans if (begin, end) not in tables)
        assert sum(report.lost.values()) == partial + sum(begin + 50 <= cut < end for begin, end in events)
        numbers = _check_content(path)
        assert report.frames == sum(len(numbers.get(camera, [])) for camera in CAMERAS)
        assert all(found == list(range(len(found))) for found in numbers.values())
        left = sorted(item.name for item in path.iterdir())
        assert left == ["calibration.toml", "config.toml", LEDGER, "main_0000.mcap", "metadata.cptake", "take.json"]
    assert recover_take(path) == report  # a whole take is left alone


def test_every_changed_byte_of_a_file_is_noticed(tmp_path: Path) -> None:
    file = write_take(tmp_path / "take", 3) / "main_0000.mcap"
    data = bytearray(file.read_bytes())
    rng = np.random.default_rng(11)
    places = {*rng.integers(0, len(data), 500).tolist(), *range(120), *range(len(data) - 600, len(data))}
    for place in places:
        data[place] ^= 1 << (place % 8)
        file.write_bytes(data)
        assert check_file(file), f"byte {place} of {len(data)} changed and nobody noticed"
        data[place] ^= 1 << (place % 8)
    file.write_bytes(data)
    assert not check_file(file)


@pytest.mark.parametrize("name", ["take.json", "calibration.toml", "config.toml"])
def test_every_changed_byte_of_a_text_is_noticed(tmp_path: Path, name: str) -> None:
    path = write_take(tmp_path / "take", 2)
    assert verify_take(path).ok
    file = path / name
    data = bytearray(file.read_bytes())
    for place in range(0, len(data), 7):
        if chr(data[place]) in " \n" and name == "take.json":
            continue  # white space between JSON tokens means nothing
        data[place] ^= 1
        file.write_bytes(data)
        try:
            noticed = not verify_take(path).ok
        except TakeError as error:
            noticed = "schema" in str(error)
        assert noticed, f"byte {place} of {name}"
        data[place] ^= 1
    file.write_bytes(data)
    assert verify_take(path).ok


def test_a_changed_message_costs_itself_only(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 12)
    file = path / "main_0000.mcap"
    data = bytearray(file.read_bytes())
    data[data.find(bytes(frame("mid", 5).data[:16])) + 3] ^= 4
    file.write_bytes(data)
    report = verify_take(path)
    assert (report.ok, report.frames, report.sets, report.meshes) == (False, 35, 12, 12)
    assert len(report.damaged) == 1
    assert "main_0000.mcap at byte" in report.damaged[0]
    report = recover_take(path)
    assert (report.ok, report.frames, dict(report.lost)) == (True, 35, {"frame": 1})
    assert _check_content(path)["mid"] == [n for n in range(12) if n != 5]
    with open_take(path) as take:
        assert [dict(s.absent) for s in take.frame_sets() if s.absent] == [{"mid": "missing"}]


def test_a_hole_is_counted_by_what_the_take_knew(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 12)
    file = path / "main_0000.mcap"
    data, spans = bytearray(file.read_bytes()), _spans(file)
    data[spans[10][0] : spans[14][1]] = bytes(spans[14][1] - spans[10][0])
    file.write_bytes(data)
    report = recover_take(path)
    assert (report.ok, dict(report.lost)) == (True, {"frame": 4, "mesh": 1})
    _check_content(path)


def test_files_that_are_gone_are_counted_and_the_rest_stays(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 75)
    with open_take(path) as take:
        gone = take.info.files[1].messages
    (path / "main_0001.mcap").unlink()
    (path / "config.toml").unlink()
    report = verify_take(path)
    assert not report.ok
    assert any("main_0001.mcap" in item for item in report.missing)
    assert "config.toml" in report.missing
    report = recover_take(path)
    assert (report.ok, dict(report.lost)) == (True, {"config.toml": 1, "file": 1, "message": gone})
    _check_content(path)


def test_calibration_and_header_are_rebuilt_from_the_messages(tmp_path: Path) -> None:
    path = write_take(tmp_path / "show" / "slate_T007", 5)
    (path / "take.json").unlink()
    (path / "calibration.toml").unlink()
    report = recover_take(path)
    assert (report.ok, report.frames, report.lost) == (True, 15, {})
    with open_take(path) as take:
        assert (take.info.show, take.info.slate, take.info.take) == ("show", "slate", 7)
        assert take.calibration.ids == calibration().ids
        assert np.array_equal(take.calibration["mid"].K, calibration()["mid"].K)
    (path / "calibration.toml").unlink()
    (path / "main_0000.mcap").write_bytes(b"")
    with pytest.raises(TakeError, match="no calibration any more"):
        recover_take(path)


def test_recovery_that_fails_leaves_everything_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_take(tmp_path / "take", 12)
    _unclose(path)
    file = path / "main_0000.mcap"
    file.write_bytes(file.read_bytes()[:-500])
    before = {item.name: item.read_bytes() for item in path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recover_module.McapFile, "finish", full)
        with pytest.raises(TakeError, match="No space left on device; nothing was lost"):
            recover_take(path)
    with monkeypatch.context() as patch:
        patch.setattr(recover_module.os, "replace", full)
        with pytest.raises(TakeError, match="No space left"):
            recover_take(path)
    assert {item.name: item.read_bytes() for item in path.iterdir()} == before
    assert recover_take(path).ok


def test_what_is_no_take_is_refused(tmp_path: Path) -> None:
    for tool in (recover_take, verify_take):
        with pytest.raises(TakeError, match="no such folder"):
            tool(tmp_path / "x")
    (tmp_path / "note").write_text("mine")
    for tool in (recover_take, verify_take):
        with pytest.raises(TakeError, match="is not a take: it holds neither"):
            tool(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["note"]


WRITER = """
import sys
from pathlib import Path
from tests.streamer.take_makers import CAMERAS, START_NS, PERIOD_NS, frame, mesh, open_writer, topology
writer = open_writer(Path(sys.argv[1]))
writer.write("topology", topology(), START_NS)
number = 0
while True:
    for camera in CAMERAS:
        writer.write("frame", frame(camera, number, 3000), START_NS + number * PERIOD_NS)
    writer.write("mesh", mesh(number), START_NS + number * PERIOD_NS)
    number += 1
    sys.stdout.write(f"{writer.on_disk}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("moment", [3, 41, 97])
def test_a_killed_writer_loses_nothing_that_it_handed_over(tmp_path: Path, moment: int) -> None:
    path = tmp_path / "take"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        for _ in range(moment):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        said = [int(line) for line in child.stdout.read().splitlines() if line]
    handed_over = said[-2] if len(said) > 1 else 0  # the last line may be torn
    assert child.returncode == -signal.SIGKILL
    assert json.loads((path / "take.json").read_text())["state"] == "recording"
    with pytest.raises(TakeError, match="mien recover"):
        open_take(path)
    on_file = sum(channel_of(item.parts) not in TOPICS for file in path.glob("*.mcap") for item in _found(file))
    report = recover_take(path)
    assert report.ok
    numbers = _check_content(path)
    with open_take(path) as take:
        assert sum(take.info.messages.values()) == on_file >= handed_over
        assert take.info.ledger and not take.ledger.compare()
        assert not (path / LOCK).exists()
        assert not (path / ".reserve").exists()
    assert all(found == list(range(len(found))) for found in numbers.values())
    assert max(map(len, numbers.values())) - min(map(len, numbers.values())) <= 1


def test_a_damaged_message_says_its_channel(tmp_path: Path) -> None:
    with open_writer(tmp_path / "take") as writer:
        fill(writer, 3)
        writer.write("topology", topology(), START_NS)
    file = tmp_path / "take" / "main_0000.mcap"
    data = file.read_bytes()
    for item in carve(file):
        assert isinstance(item, Found)
        channel = channel_of(item.parts)
        torn = bytearray(data)
        torn[item.offset + item.size - 1] ^= 1
        (tmp_path / "torn").write_bytes(torn)
        broken = [found for found in carve(tmp_path / "torn") if isinstance(found, Broken)]
        assert [(found.offset, found.channel) for found in broken] == [(item.offset, channel)]
