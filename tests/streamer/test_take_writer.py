"""What is written is what is read, by us and by any other reader of MCAP."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader

from streamer.config import RecordConfig, SyncConfig
from streamer.errors import ConfigError, TakeError, WireError
from streamer.takes import TakeWriter, new_take_path, open_take
from streamer.takes.framing import Keys, blob_size, extent, read_blob, write_blob
from streamer.takes.layout import read_info, write_info
from streamer.takes.recover import recover_take
from streamer.takes.verify import verify_take
from tests.streamer.take_makers import (
    CAMERAS,
    CONFIG_TEXT,
    PERIOD_NS,
    START_NS,
    calibration,
    frame,
    mesh,
    open_writer,
    same_frame,
    topology,
    write_take,
)


def _blob(keys: Keys, parts: list[bytes], before: int = 3) -> bytes:
    buffer = bytearray(before + blob_size(parts) + 5)
    end = write_blob(buffer, before, keys, parts)
    return bytes(buffer[before:end])


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    st.builds(Keys, *[st.integers(0, 2**63 - 1)] * 3),
    st.data(),
)
def test_a_blob_survives_and_any_changed_byte_is_noticed(parts: list[bytes], keys: Keys, data: st.DataObject) -> None:
    blob = _blob(keys, parts)
    assert extent(blob + b"more") == len(blob)
    assert read_blob(blob, "x") == (keys, parts)
    place, value = data.draw(st.integers(0, len(blob) - 1)), data.draw(st.integers(1, 255))
    changed = blob[:place] + bytes([blob[place] ^ value]) + blob[place + 1 :]
    with pytest.raises(WireError, match="place-name"):
        read_blob(changed, "place-name")
    with pytest.raises(WireError):
        read_blob(blob[:place], "cut")


def test_everything_comes_back(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 75)
    with open_take(path) as take:
        assert len(take.info.files) == 3  # 2.5 s rolled each second
        assert (take.info.state, take.config_text, take.calibration.ids) == ("closed", CONFIG_TEXT, CAMERAS)
        for camera in CAMERAS:
            frames = list(take.frames(camera))
            assert len(frames) == 75
            assert all(same_frame(frame(camera, number), got) for number, got in enumerate(frames))
        assert list(take.topologies) == [topology().id]
        meshes = take.meshes()
        assert (len(meshes), take.mesh_count, take.frame_count) == (75, 75, 225)
        assert np.array_equal(meshes[40].vertices, mesh(40).vertices)
        assert [m.frame_id for m in meshes[-2:]] == [73, 74]
        times = [log for _, log, _ in take.messages(["frame", "mesh"])]
        assert times == sorted(times)
        assert len(times) == 300
        sets = list(take.frame_sets())
        assert [s.frame_id for s in sets] == list(range(75))
        assert all(s.complete and list(s.members) == list(CAMERAS) for s in sets)


def test_a_file_rolls_before_its_index_outgrows_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.takes.rolling.MAX_MESSAGES", 40)
    path = write_take(tmp_path / "take", 30)  # of a second that one file could hold
    with open_take(path) as take:
        assert [file.messages for file in take.info.files] == [38, 39, 39, 12]  # and tables of the ledger
        assert all(same_frame(frame("mid", n), got) for n, got in enumerate(take.frames("mid")))
        assert len(take.meshes()) == 30


def test_files_are_plain_mcap_and_each_stands_alone(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 75)
    for file in sorted(path.glob("*.mcap")):
        with file.open("rb") as stream:
            reader = make_reader(stream, validate_crcs=True)
            summary = reader.get_summary()
            assert summary is not None
            assert summary.statistics is not None
            topics = [channel.topic for _, channel, _ in reader.iter_messages()]
            assert len(topics) == summary.statistics.message_count
            assert {"calibration", "topology", "frame/left", "mesh"} <= set(topics[:6])
        with file.open("rb") as stream:  # checks the sum over the whole data section
            assert sum(1 for _ in StreamReader(stream, validate_crcs=True).records) > len(topics)


def test_the_same_messages_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_take(tmp_path / name, 40) for name in ("a", "b"))
    names = sorted(file.name for file in first.iterdir())
    assert names == ["calibration.toml", "config.toml", "main_0000.mcap", "main_0001.mcap", "take.json"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_a_message_may_change_after_it_was_written(tmp_path: Path) -> None:
    with open_writer(tmp_path / "take") as writer:
        sent = frame("left", 0)
        writer.write("frame", sent, START_NS)
        sent.data[:] = 0
    assert same_frame(frame("left", 0), next(open_take(tmp_path / "take").frames()))


def test_states_are_kept_once_until_they_change(tmp_path: Path) -> None:
    with open_writer(tmp_path / "take") as writer:
        for number in range(5):
            writer.write("calibration", calibration(), START_NS + number)
            writer.write("topology", topology(), START_NS + number)
        writer.write("calibration", calibration(width=128), START_NS + 9)
        assert dict(writer.messages) == {"calibration": 2, "topology": 1}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-x", "ä", "a\n", "x" * 65, "a.b"])
def test_names_that_are_no_folder_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"record\.slate"):
        new_take_path(RecordConfig(directory=str(tmp_path), slate=name))
    with pytest.raises(ConfigError, match=r"record\.show"):
        new_take_path(RecordConfig(directory=str(tmp_path), show=name))
    with pytest.raises(ConfigError, match="slate"):
        TakeWriter(tmp_path / "t", calibration=calibration(), config_text="", show="s", slate=name, take=1)
    assert list(tmp_path.iterdir()) == []


def test_takes_are_numbered_on(tmp_path: Path) -> None:
    config = RecordConfig(directory=str(tmp_path), show="s", slate="a")
    assert new_take_path(config) == tmp_path / "s" / "a_T001"
    for name in ("a_T001", "a_T041", "a_Tx", "b_T099", "xa_T050"):
        (tmp_path / "s" / name).mkdir(parents=True)
    assert new_take_path(config) == tmp_path / "s" / "a_T042"


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(TakeError, match="exists already"):
        write_take(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["note"]


def test_a_take_that_is_not_closed_is_recognised(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "take")
    try:
        writer.write("frame", frame("left", 0), START_NS)
        with pytest.raises(TakeError, match=r"not closed.*mien recover"):
            open_take(tmp_path / "take")
        with pytest.raises(TakeError, match="being written by another process"):
            recover_take(tmp_path / "take")
    finally:
        writer.close()
    assert open_take(tmp_path / "take").frame_count == 1


def test_wrong_messages_are_refused_and_leave_the_take_whole(tmp_path: Path) -> None:
    with open_writer(tmp_path / "take") as writer:
        writer.write("frame", frame("left", 0), START_NS)
        with pytest.raises(WireError):
            writer.write("mesh", frame("left", 1), START_NS)  # type: ignore[arg-type]
        with pytest.raises(TakeError, match="log time -1"):
            writer.write("frame", frame("left", 1), -1)
    with pytest.raises(TakeError, match="closed"):
        writer.write("frame", frame("left", 1), START_NS)
    assert open_take(tmp_path / "take").frame_count == 1


def test_another_schema_and_a_changed_header_are_refused(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 2)
    file = path / "take.json"
    text = file.read_text()
    file.write_text(text.replace('"schema": 3', '"schema": 9'))
    for tool in (open_take, verify_take, recover_take):
        with pytest.raises(TakeError, match="schema = 9, this Mien reads 1, 2, 3"):
            tool(path)
    for wrong in ("[1]", "{}", "{", ""):
        file.write_text(wrong)
        with pytest.raises(TakeError, match=r"take\.json.*run: mien recover"):
            open_take(path)
        assert [line.count("mien recover") for line in verify_take(path).damaged] == [0]
    file.write_text(text.replace('"take": 1', '"take": 2'))
    with pytest.raises(TakeError, match="checksum"):
        open_take(path)


def test_missing_and_cut_files_are_named(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 40)
    last = path / "main_0001.mcap"
    whole = last.read_bytes()
    last.write_bytes(whole[:-1])
    with pytest.raises(TakeError, match=rf"main_0001\.mcap has {len(whole) - 1} bytes, take.json says {len(whole)}"):
        open_take(path)
    last.unlink()
    with pytest.raises(TakeError, match=r"main_0001\.mcap: No such file.*mien recover"):
        open_take(path)
    for name in ("config.toml", "calibration.toml"):
        (path / name).write_text((path / name).read_text() + "# changed\n")
        with pytest.raises(TakeError, match=f"{name} has changed"):
            open_take(path)
    with pytest.raises(TakeError, match="no such folder"):
        open_take(tmp_path / "nothing")


def test_a_damaged_message_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 3)
    file = path / "main_0000.mcap"
    data = bytearray(file.read_bytes())
    place = data.find(bytes(frame("mid", 1).data[:16]))
    data[place + 5] ^= 1
    file.write_bytes(data)
    take = open_take(path)
    assert len(list(take.frames("left"))) == 3
    with pytest.raises(TakeError, match=r"main_0000\.mcap at byte \d+: checksum mismatch.*mien recover"):
        list(take.frames("mid"))


def test_rolling_follows_the_log_time_only(tmp_path: Path) -> None:
    with open_writer(tmp_path / "take", record=RecordConfig(roll_s=2.0)) as writer:
        for number in (0, 29, 61, 200):
            writer.write("frame", frame("left", number), START_NS + number * PERIOD_NS)
    counts = [file.messages for file in open_take(tmp_path / "take").info.files]
    assert counts == [3, 2, 2]  # each file begins with the calibration


def test_the_policy_for_missing_cameras_is_applied_offline(tmp_path: Path) -> None:
    with open_writer(tmp_path / "take") as writer:
        for number in range(6):
            for camera in CAMERAS:
                if (camera, number) != ("mid", 3):
                    writer.write("frame", frame(camera, number), START_NS + number)
    take = open_take(tmp_path / "take")
    assert [dict(s.absent) for s in take.frame_sets()][3] == {"mid": "missing"}
    assert [s.frame_id for s in take.frame_sets(SyncConfig(on_missing="drop"))] == [0, 1, 2, 4, 5]
    assert [s.frame_id for s in take.frame_sets(SyncConfig(min_cameras=3))] == [0, 1, 2, 4, 5]
    frozen = list(take.frame_sets(SyncConfig(on_missing="freeze")))[3]
    assert (frozen.frozen, frozen.members["mid"].frame_id) == ({"mid"}, 2)
    with pytest.raises(TakeError, match="frame 3: camera 'mid' is missing"):
        list(take.frame_sets(SyncConfig(per_camera={"mid": "stop"})))


def test_take_json_round_trips(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 2)
    info = read_info(path)
    write_info(path, info)
    assert read_info(path) == info
