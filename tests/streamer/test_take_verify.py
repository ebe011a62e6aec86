"""What ids and times say of a rig: gaps, duplicates, clocks that jump, skew. None of it is damage."""

from dataclasses import replace
from pathlib import Path

import pytest

from streamer.errors import TakeError
from streamer.takes import open_take
from streamer.takes.extras import write_extras
from streamer.takes.layout import read_info, write_info
from streamer.takes.verify import verify_take
from tests.streamer.take_makers import PERIOD_NS, START_NS, frame, open_writer, write_take


def test_gaps_duplicates_jumps_and_skew_are_told(tmp_path: Path) -> None:
    with open_writer(tmp_path / "take") as writer:
        for number in range(10):
            log = START_NS + number * PERIOD_NS
            writer.write("frame", frame("left", number), log)
            if number not in (3, 4):
                writer.write("frame", replace(frame("mid", number), exposure_time_ns=log + 50_000), log)
            jumped = replace(frame("right", number), exposure_time_ns=log - (10**9 if number > 6 else 0))
            writer.write("frame", jumped, log)
        writer.write("frame", frame("left", 5), START_NS + 10 * PERIOD_NS)
    report = verify_take(tmp_path / "take")
    assert report.ok
    assert (report.sets, report.frames, report.partial) == (10, 29, 2)
    assert (report.gaps, report.duplicates) == ({"mid": 2}, {"left": 1})
    assert report.jumps == {"left": 1, "right": 1}
    assert report.skew_us["p50"] == 50.0
    assert report.skew_us["max"] == 1_000_050.0
    with open_take(tmp_path / "take") as take:
        assert take.sets[5].members["left"].sequence == 5  # of equal ids the first counts


def test_thumbnails_and_metadata_belong_to_the_take(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take", 2)
    left_out = write_extras(path)  # the frames of this take are no pictures: it stands without thumbnails
    assert len(left_out) == 3 and all("thumbnail of camera" in line for line in left_out)
    assert verify_take(path).ok
    (path / "metadata.cptake").write_text("{}")
    assert verify_take(path).damaged == ("metadata.cptake: changed since the take was closed",)
    (path / "metadata.cptake").unlink()
    assert verify_take(path).missing == ("metadata.cptake",)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "layers/../../x"])
def test_a_take_names_nothing_outside_itself(tmp_path: Path, name: str) -> None:
    path = write_take(tmp_path / "take", 2)
    info = read_info(path)
    write_info(path, replace(info, checksums={**info.checksums, name: 0}))
    with pytest.raises(TakeError, match="which is not in the take"):
        open_take(path)
