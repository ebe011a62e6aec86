"""The ledger in the files of a take: it names what is there and what is not, survives what the take survives, and every
word of it is compared with the content."""

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import SyncConfig
from streamer.errors import TakeError, WireError
from streamer.takes import open_take
from streamer.takes.carve import Found, carve
from streamer.takes.catalogue import describe
from streamer.takes.chronicle import Chronicle, Loss, Name, encode_sets, name_of
from streamer.takes.disk import AppendFile
from streamer.takes.editing import trim_take
from streamer.takes.layout import FileInfo, read_info, write_info
from streamer.takes.mcap_file import McapFile
from streamer.takes.recording import Plan, Recording
from streamer.takes.recover import recover_take
from streamer.takes.stored import Topic, channel_of
from streamer.takes.tables import LOST, TOPICS, decode_table, encode_table
from streamer.takes.verify import verify_take
from tests.streamer.take_makers import (
    CAMERAS,
    PERIOD_NS,
    START_NS,
    TINY,
    calibration,
    fill,
    frame,
    mesh,
    open_writer,
    topology,
    write_take,
)

DATA = Path(__file__).parent / "data"
INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(INTEGERS, st.text(max_size=5), INTEGERS), min_size=1), st.data())
def test_tables_survive_and_others_are_refused(rows: list[tuple[int, str, int]], data: st.DataObject) -> None:
    columns = {"a": [row[0] for row in rows], "word": [row[1] for row in rows], "b": [row[2] for row in rows]}
    parts = encode_table(LOST, columns)
    topic, back = decode_table(parts)
    assert topic == LOST
    # numpy drops zeros at the end of a text: no name of ours holds one
    assert {name: column.tolist() for name, column in back.items()} == {
        name: [value.rstrip("\0") if isinstance(value, str) else value for value in values]
        for name, values in columns.items()
    }
    head = data.draw(st.binary(max_size=20) | st.sampled_from([b"[]", b'{"rows":-1,"columns":[],"words":{}}', b"{}"]))
    for wrong in ([b"mesh\0", *parts[1:]], parts[:2], [parts[0], head, parts[2]], [*parts[:2], parts[2] + b"x"], []):
        with pytest.raises(WireError, match="table"):
            decode_table(wrong)
    with pytest.raises(WireError, match="beyond its words"):
        decode_table([parts[0], parts[1], b"\x7f" * len(parts[2])])


def test_a_recorder_writes_down_what_it_does(tmp_path: Path) -> None:
    path = tmp_path / "take"
    with open_writer(path, record=replace(TINY, roll_s=1.0)) as writer:
        fill(writer, 70)
    with open_take(path) as take:
        assert len(take.info.files) > 2
        ledger, timing = take.ledger, take.ledger.timing
        assert not ledger.compare()
        left = timing["topic"] == "frame/left"
        for number, wanted in enumerate(frame("left", n) for n in range(70)):
            row = {name: column[left][number] for name, column in timing.items()}
            assert (row["frame_id"], row["sequence"], row["counter"]) == (number, wanted.sequence, wanted.counter)
            assert (row["time_ns"], row["receive_time_ns"]) == (wanted.exposure_time_ns, wanted.receive_time_ns)
            assert (row["publish_time_ns"], row["log_time_ns"]) == (wanted.publish_time_ns, wanted.exposure_time_ns)
        assert timing["frame_id"][timing["topic"] == "mesh"].tolist() == list(range(70))
        content = take.sets.ledger()
        for name in ("frame_id", "time_ns", "skew_ns", "cameras", *(f"time_ns.{camera}" for camera in CAMERAS)):
            assert ledger.sets[name].tolist() == content[name].tolist(), name
        assert not any(ledger.sets["absent"])
        assert ledger.events["kind"].tolist() == ["begin", "end"]
        assert ledger.latency_ms()["frame"] == {"p50": 0.0, "p95": 0.0}
        assert verify_take(path).ledger
    every = {channel_of(item.parts) for item in carve(path / "main_0001.mcap") if isinstance(item, Found)}
    assert every >= {"sets", "timing"}  # in each of the rolled files


def test_what_is_lost_has_a_name_and_its_set_says_why(tmp_path: Path) -> None:
    path = tmp_path / "take"
    with open_writer(path) as writer:
        for number in range(60):
            log = START_NS + number * PERIOD_NS
            for camera in CAMERAS:
                if camera == "mid" and number % 20 == 7:
                    writer.lose(Loss(name_of("frame/mid", frame("mid", number)), "queue-full"))
                elif camera != "right" or number != 9:
                    writer.write("frame", frame(camera, number), log)
        writer.count_drop("refused", "wrong-checksum", 4)
    with open_take(path) as take:
        assert take.info.drops == {"frame/mid": {"queue-full": 3}, "refused": {"wrong-checksum": 4}}
        absent = {
            int(n): str(why) for n, why in zip(take.ledger.sets["frame_id"], take.ledger.sets["absent"], strict=True)
        }
        assert {n: why for n, why in absent.items() if why} == {
            7: "mid=queue-full", 27: "mid=queue-full", 47: "mid=queue-full", 9: "right=missing",
        }  # fmt: skip
    found = describe(path)["ledger"]
    assert found["lost"] == ["frame/mid queue-full: 7, 27, 47", "refused wrong-checksum: 4 without a frame id"]
    assert found["sets"] == {"complete": 56, "partial": 4}
    trim_take(path, tmp_path / "part", "5", "30")
    with open_take(tmp_path / "part") as take:
        assert [loss.name.frame_id for loss in take.ledger.losses()] == [7, 27, 47, -1]
        assert not take.ledger.compare()


def test_sets_of_free_running_cameras_and_late_frames_are_covered(tmp_path: Path) -> None:
    for match in ("time", "frame_id"):
        path = tmp_path / match
        with open_writer(path, sync=SyncConfig(match=match)) as writer:  # type: ignore[arg-type]
            for number in range(50):
                log = START_NS + number * PERIOD_NS
                for offset, camera in enumerate(CAMERAS):
                    if camera == "right" and number >= 45:
                        continue
                    made = frame(camera, number)
                    writer.write("frame", replace(made, exposure_time_ns=made.exposure_time_ns + offset * 900_000), log)
                if number == 5:
                    writer.write("frame", frame("left", 5), log)  # twice
            for number in range(45, 50):  # two seconds late: their sets are long written
                made = replace(frame("right", number), exposure_time_ns=START_NS + number * PERIOD_NS + 1_800_000)
                writer.write("frame", made, START_NS + (50 + number) * PERIOD_NS)
        with open_take(path) as take:
            assert not take.ledger.compare()
            assert (take.ledger.sets["cameras"] == 3).sum() == 50
            assert take.ledger.sets["skew_ns"].max() == 1_800_000
        assert verify_take(path).ok


def _rewrite(path: Path, file: str, keep: object) -> None:
    """Leave messages out of a file without any trace."""
    items = [item for item in carve(path / file) if isinstance(item, Found) and keep(item)]  # type: ignore[operator]
    fresh = AppendFile(path / "fresh")
    mcap = McapFile(fresh, 10_000)
    counts: dict[str, int] = {}
    for item in items:
        channel = channel_of(item.parts)
        camera = next((c for c in CAMERAS if channel == "frame" and f"{c}".encode() in bytes(item.parts[1])), "")
        topic = f"frame/{camera}" if camera else channel
        counts[topic] = counts.get(topic, 0) + (channel not in TOPICS)
        mcap.add(Topic(topic, "x"), item.keys, 0, item.parts, item.packed)
    mcap.finish()
    fresh.close()
    (path / "fresh").rename(path / file)
    info = read_info(path)
    files = tuple(
        FileInfo(file, fresh.size, sum(counts.values())) if known.name == file else known for known in info.files
    )
    write_info(path, replace(info, files=files, messages={topic: n for topic, n in counts.items() if n}))


def test_verify_names_what_vanished_without_a_trace(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 12)
    assert verify_take(path).ok

    def mid_5(item: Found) -> bool:
        return channel_of(item.parts) == "frame" and item.keys.frame_id == 5 and b"mid" in bytes(item.parts[1])

    _rewrite(path, "main_0000.mcap", lambda item: not mid_5(item))
    report = verify_take(path)
    assert (report.ok, report.missing) == (False, ("frame/mid: frame id 5: the ledger names it",))
    report = recover_take(path)
    assert (report.ok, dict(report.lost)) == (True, {"frame": 1})
    with open_take(path) as take:
        assert take.ledger.losses() == [Loss(Name("frame/mid", 5, 5, START_NS + 5 * PERIOD_NS), "damaged")]
    assert recover_take(path) == report

    _rewrite(path, "main_0000.mcap", lambda item: channel_of(item.parts) not in ("sets", "timing"))
    report = verify_take(path)
    assert not report.ok
    assert any("frame/left: frame id 0, 1, 2, 3, 4 and 7 more: it is here and the ledger does not name it" in line
               for line in report.damaged)  # fmt: skip
    assert any("the ledger lacks 12 frame sets" in line for line in report.damaged)
    assert recover_take(path).ok
    with open_take(path) as take:
        assert take.ledger.timing["frame_id"][take.ledger.timing["topic"] == "mesh"].tolist() == list(range(12))

    info = read_info(path)
    write_info(path, replace(info, state="closed", drops={"mesh": {"queue-full": 2}}))
    assert "mesh: the ledger counts 0 queue-full, take.json 2" in verify_take(path).damaged


def test_a_crash_keeps_the_names_of_what_was_lost(tmp_path: Path) -> None:
    """take.json is written at the end only: after a crash losses and events are known from the files."""
    path = tmp_path / "take"
    writer = open_writer(path)
    for number in range(70):
        writer.write("frame", frame("left", number), START_NS + number * PERIOD_NS)
        if number in (10, 11):
            writer.lose(Loss(name_of("frame/right", frame("right", number)), "queue-full"))
    writer.flush()
    copy = tmp_path / "copy"
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns(".lock"))
    writer.close()
    (copy / "take.json").unlink()
    assert recover_take(copy).ok
    with open_take(copy) as take:
        assert take.info.drops == {"frame/right": {"queue-full": 2}}
        assert [loss.name.frame_id for loss in take.ledger.losses()] == [10, 11]
        assert take.ledger.events["kind"].tolist() == ["begin", "recovered"]


def test_a_disk_that_cannot_keep_up_costs_messages_with_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, go_on = tmp_path / "s" / "a_T001", threading.Event()
    original = AppendFile._write_some

    def slow(file: AppendFile, data: memoryview) -> int:
        assert go_on.wait(60)
        return original(file, data)

    recording = Recording(Plan(path, "s", "a"), replace(TINY, queue_mb=1.0), SyncConfig())
    recording.put("calibration", calibration(), START_NS)
    recording.put("topology", topology(), START_NS)
    monkeypatch.setattr(AppendFile, "_write_some", slow)
    for number in range(120):
        for camera in CAMERAS:
            recording.put("frame", frame(camera, number, 20_000), START_NS + number * PERIOD_NS)
        recording.put("mesh", mesh(number), START_NS + number * PERIOD_NS)
    go_on.set()
    recording.close("", {})
    assert verify_take(path).ok
    with open_take(path) as take:
        losses = take.ledger.losses()
        assert losses and {loss.reason for loss in losses} == {"queue-full"}
        for topic in ("mesh", *(f"frame/{camera}" for camera in CAMERAS)):
            here = take.keys(topic)[:, 0].tolist()
            named = [loss.name.frame_id for loss in losses if loss.name.topic == topic]
            assert sorted([*here, *named]) == list(range(120)), topic
        assert sum(sum(reasons.values()) for reasons in take.info.drops.values()) == len(losses)


def test_takes_without_a_ledger_open_verify_and_get_one_by_recovery(tmp_path: Path) -> None:
    path = tmp_path / "old"
    shutil.copytree(DATA / "take_schema_2", path)
    report = verify_take(path)
    assert (report.ok, report.ledger, report.sets, report.meshes, report.frames) == (True, False, 4, 4, 12)
    with open_take(path) as take:
        assert [len(table["frame_id"]) for table in (take.ledger.sets, take.ledger.timing, take.ledger.lost)] == [0] * 3
        assert np.abs(take.meshes()[3].vertices - mesh(3).vertices).max() < 1e-5
    assert describe(path)["ledger"] == {}
    write_info(path, replace(read_info(path), state="recording", files=(), messages={}))
    (path / "main_0000.mcap").write_bytes((path / "main_0000.mcap").read_bytes()[:-300])
    report = recover_take(path)
    assert (report.ok, report.ledger, report.frames) == (True, True, 12)
    with open_take(path) as take:
        assert len(take.ledger.timing["frame_id"]) == 16 and take.ledger.sets["frame_id"].tolist() == [0, 1, 2, 3]


def test_a_damaged_table_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 5)
    file = path / "main_0000.mcap"
    data = bytearray(file.read_bytes())
    item = next(i for i in carve(file) if isinstance(i, Found) and channel_of(i.parts) == "timing")
    data[item.offset + item.size - 1] ^= 1
    file.write_bytes(data)
    with open_take(path) as take:
        assert take.frame_count == 15  # the take itself is readable
        with pytest.raises(TakeError, match="checksum mismatch"):
            _ = take.ledger.timing
    assert not verify_take(path).ok
    assert recover_take(path).ok


def test_rows_that_did_not_reach_the_file_are_due_again() -> None:
    chronicle = Chronicle(SyncConfig(), 1.0)
    chronicle.cameras = CAMERAS
    for number in range(40):
        chronicle.note("frame/left", frame("left", number), START_NS + number * PERIOD_NS)
    first = dict(chronicle.take())
    chronicle.restore(first)
    chronicle.withdraw([Name("frame/left", 39, time_ns=START_NS + 39 * PERIOD_NS)], "disk-full")
    again = dict(chronicle.take(everything=True))
    assert len(decode_table(again["timing"])[1]["frame_id"]) == 39
    assert decode_table(again["lost"])[1]["sequence"].tolist() == [39]
    assert decode_table(again["sets"])[1]["frame_id"].tolist() == list(range(39))
    assert decode_table(encode_sets([]))[1]["frame_id"].tolist() == []


READ = """
import sys
import pandas, pyarrow
from streamer.takes import open_take
with open_take(sys.argv[1]) as take:
    for table in (take.ledger.timing, take.ledger.sets, take.ledger.lost, take.ledger.events, take.sets.ledger()):
        assert pandas.DataFrame(table).shape == (len(next(iter(table.values()))), len(table))
        assert pyarrow.table(table).num_columns == len(table)
    print(pandas.DataFrame(take.ledger.timing).groupby("topic").size()["frame/mid"])
"""
FRAMES = Path(sys.prefix) / "dataframes"
"""Where requirements/consumers.sh puts pandas and pyarrow."""


@pytest.mark.skipif(
    not (FRAMES / ".whole").exists(), reason="no pandas and pyarrow: sh requirements/consumers.sh python"
)
def test_data_frames_and_arrow_take_the_ledger_as_it_is(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 20)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        env={**os.environ, "PYTHONPATH": f"{FRAMES}{os.pathsep}{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "20\n"), done.stderr
