"""Reading by moment, and takes from takes: the same bits, nothing renumbered, nothing half-done."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mien
import streamer.takes
from streamer.errors import ConfigError, TakeError
from streamer.takes import TakeWriter, open_take
from streamer.takes.catalogue import describe, list_takes
from streamer.takes.editing import merge_takes, trim_take
from streamer.takes.layout import About, Anchor, Marker
from streamer.takes.verify import verify_take
from tests.streamer.take_makers import (
    CAMERAS,
    CONFIG_TEXT,
    PERIOD_NS,
    START_NS,
    TINY,
    calibration,
    fill,
    frame,
    mesh,
    same_frame,
    topology,
    write_take,
)

ANCHOR = Anchor("system", "10:00:00:00", "30", False, START_NS + 10 * PERIOD_NS)


def timed_take(path: Path, count: int = 60) -> Path:
    """A take whose label 10:00:00:00 is at frame 10, with a marker at frame 20."""
    with TakeWriter(
        path, calibration=calibration(), config_text=CONFIG_TEXT, show="show", slate="slate", take=1, record=TINY,
        about=About("", "happy", ANCHOR),
    ) as writer:  # fmt: skip
        fill(writer, count)
        writer.mark(Marker(START_NS + 20 * PERIOD_NS, 20, "smile"))
    return path


def test_meshes_and_sets_are_found_by_index_time_and_timecode(tmp_path: Path) -> None:
    take = streamer.takes.open(timed_take(tmp_path / "take"))
    heads, sets = take.meshes(), take.sets
    assert heads.at_frame(7) is not None
    assert heads.at_frame(7).frame_id == 7  # type: ignore[union-attr]
    assert heads.at_frame(999) is None
    for sequence in (heads, sets):
        assert sequence.at_time(START_NS + 30 * PERIOD_NS + PERIOD_NS // 3).frame_id == 30
        assert sequence.at_time(0).frame_id == 0
        assert sequence.at_timecode("10:00:00:05").frame_id == 15
        assert sequence.at_timecode("09:59:59:25").frame_id == 5  # before the anchor: pre-roll
        assert sequence.at_timecode("10:00:30:00").frame_id == 59
        with pytest.raises(ConfigError):
            sequence.at_timecode("10:00:00:30")
    assert (len(sets), sets[3].complete, [s.frame_id for s in sets[-2:]]) == (60, True, [58, 59])
    assert all(same_frame(sets[3].members[c], frame(c, 3)) for c in CAMERAS)
    table = sets.ledger()
    assert {len(column) for column in table.values()} == {60}
    assert np.array_equal(table["frame_id"], np.arange(60)) and table["complete"].all()
    assert np.array_equal(table["time_ns.mid"], START_NS + np.arange(60) * PERIOD_NS)
    plain = streamer.takes.open(write_take(tmp_path / "plain", 3))
    with pytest.raises(TakeError, match="has no timecode"):
        plain.meshes().at_timecode("10:00:00:00")


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [("12", "20", range(12, 21)), ("1.0s", "1.5s", range(31, 46)), ("10:00:00:05", "10:00:00:09", range(15, 20)),
     ("smile", None, range(20, 60)), (None, "smile", range(21)), ("5", "5", range(5, 6))],
)  # fmt: skip
def test_a_part_keeps_every_bit(tmp_path: Path, first: str | None, last: str | None, expected: range) -> None:
    source, out = timed_take(tmp_path / "take"), tmp_path / "cut_T009"
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    done = trim_take(source, out, first, last)
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before
    assert verify_take(out).ok
    with open_take(out) as take:
        for camera in CAMERAS:
            assert [got.frame_id for got in take.frames(camera)] == list(expected)
            assert all(same_frame(got, frame(camera, got.frame_id)) for got in take.frames(camera))
        assert take.meshes().frame_ids.tolist() == list(expected)
        assert np.abs(take.meshes()[0].vertices - mesh(expected[0]).vertices).max() < 5e-6
        assert topology().id in take.topologies
        assert (take.info.take, take.info.notes, take.info.timecode) == (9, "happy", ANCHOR)
        assert [m.text for m in take.info.markers] == (["smile"] if 20 in expected else [])
        assert done["messages"] == sum(take.info.messages.values())


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [("999", None, "no frame id 999"), ("20", "10", "nothing lies between"), ("frown", None, "markers here: 'smile'"),
     ("99.5s", None, "nothing lies between")],
)  # fmt: skip
def test_parts_that_are_none_leave_nothing(tmp_path: Path, first: str, last: str | None, says: str) -> None:
    source = timed_take(tmp_path / "take")
    with pytest.raises(TakeError, match=says):
        trim_take(source, tmp_path / "cut", first, last)
    with pytest.raises(TakeError, match="exists already"):
        trim_take(source, source, None, None)
    assert [item.name for item in tmp_path.iterdir()] == ["take"]


def _host(path: Path, cameras: tuple[str, ...], numbers: range, size: int) -> Path:
    rig = calibration()
    with TakeWriter(
        path, calibration=replace(rig, cameras=tuple(c for c in rig.cameras if c.id in cameras)),
        config_text="", show="s", slate=path.name, take=1, record=TINY,
    ) as writer:  # fmt: skip
        for number in numbers:
            for camera in cameras:
                writer.write("frame", frame(camera, number, size), START_NS + number * PERIOD_NS)
    return path


def test_recordings_of_several_hosts_become_one_take(tmp_path: Path) -> None:
    full = [_host(tmp_path / "a", ("left", "mid"), range(20), 900), _host(tmp_path / "b", ("right",), range(20), 900)]
    central = write_take(tmp_path / "central", 20, size=100)  # proxies of all cameras, and the meshes
    done = merge_takes([*full, central], tmp_path / "all")
    assert done["equal"] == 60
    assert verify_take(tmp_path / "all").ok
    with open_take(tmp_path / "all") as take:
        assert take.calibration.ids == CAMERAS
        for camera in CAMERAS:
            assert all(same_frame(got, frame(camera, n, 900)) for n, got in enumerate(take.frames(camera)))
        assert (take.frame_count, take.mesh_count, len(take.sets)) == (60, 20, 20)
    other = replace(calibration(), cameras=(replace(calibration()["left"], width=65),))
    with TakeWriter(tmp_path / "odd", calibration=other, config_text="", show="s", slate="o", take=1) as writer:
        writer.write("frame", frame("left", 0), START_NS)
    with pytest.raises(TakeError, match="camera 'left' is calibrated otherwise"):
        merge_takes([full[0], tmp_path / "odd"], tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_takes_are_listed_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shows = tmp_path / "takes"
    timed_take(shows / "demo" / "a_T001")
    broken = write_take(shows / "demo" / "b_T001", 3)
    (broken / "main_0000.mcap").unlink()
    (broken / "main_0000.mcap.txt").write_text("x")
    rows = list_takes(shows)
    assert [(Path(row["take"]).name, row["frames"], bool(row["problem"])) for row in rows] == [
        ("a_T001", 180, False), ("b_T001", 0, True),
    ]  # fmt: skip
    found = describe(shows / "demo" / "a_T001")
    assert (found["sets"], found["meshes"], found["notes"], found["timecode"]) == (60, 60, "happy", "10:00:00:00")
    assert mien.main(["take", "list", str(shows), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["takes"] == rows
    assert mien.main(["take", "info", str(shows / "demo" / "a_T001"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found))
    trimmed = ["take", "trim", str(shows / "demo" / "a_T001"), "--from", "smile", "--out", str(tmp_path / "c")]
    assert mien.main(trimmed) == 0
    assert mien.main(trimmed) == 1
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(TakeError, match="no such folder"):
        list_takes(tmp_path / "nowhere")


def test_layers_are_takes_of_their_own(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 4)
    with TakeWriter(
        path / "layers" / "other", calibration=calibration(), config_text="", show="s", slate="l", take=1, record=TINY
    ) as writer:
        writer.write("topology", topology(), START_NS)
        writer.write("mesh", mesh(2), START_NS)
    with open_take(path) as take:
        assert take.layers == ("other",)
        with take.layer("other") as layer:
            assert layer.meshes()[0].frame_id == 2
        with pytest.raises(TakeError, match="no layer 'x'; it has other"):
            take.layer("x")
    assert [Path(row["take"]).name for row in list_takes(tmp_path)] == ["take"]
