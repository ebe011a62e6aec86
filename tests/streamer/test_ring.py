"""Shared-memory rings: whole pictures or none, and no segment left behind."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamer import ring as ring_module
from streamer.errors import TransportError
from streamer.ring import DIRECTORY, PREFIX, RingReader, RingReaders, RingWriter, remove_stale_segments
from streamer.types import U8
from streamer.wire import Descriptor

ROOT = Path(__file__).parents[2]


def picture(value: int, nbytes: int = 1000) -> U8:
    return np.full(nbytes, value % 256, np.uint8)


@pytest.fixture
def writer() -> Iterator[RingWriter]:
    with RingWriter(slots=3, capacity=1000) as made:
        yield made


def test_pictures_come_back_until_their_slot_is_taken_again(writer: RingWriter) -> None:
    reader = RingReader(writer.name)
    places = [writer.write(picture(value, 1000 - value)) for value in range(5)]
    read = [reader.read(place) for place in places]
    assert [place.slot for place in places] == [0, 1, 2, 0, 1]
    assert read[:2] == [None, None]
    for value in (2, 3, 4):
        np.testing.assert_array_equal(read[value], picture(value, 1000 - value))
    reader.close()


def test_a_picture_that_was_read_stays_as_it_was(writer: RingWriter) -> None:
    reader = RingReader(writer.name)
    first = reader.read(writer.write(picture(1)))
    for value in range(2, 9):
        writer.write(picture(value))
    reader.close()
    np.testing.assert_array_equal(first, picture(1))


class _Overtaken(RingReader):
    """A reader that is overtaken by the writer in the middle of its copy."""

    writer: RingWriter

    def _copy(self, start: int, nbytes: int) -> U8:
        half = super()._copy(start, nbytes // 2)
        for value in range(7, 7 + self.writer.slots):
            self.writer.write(picture(value))
        return np.concatenate([half, super()._copy(start + nbytes // 2, nbytes - nbytes // 2)])


def test_overwriting_during_the_copy_is_noticed(writer: RingWriter) -> None:
    reader = _Overtaken(writer.name)
    reader.writer = writer
    torn = reader._copy(64 + 64, 1000)
    assert len(set(torn.tolist())) == 2, "the planted race must tear, or the test shows nothing"
    assert reader.read(writer.write(picture(1))) is None
    reader.close()


def test_a_slot_that_is_being_written_is_refused(writer: RingWriter) -> None:
    reader = RingReader(writer.name)
    place = writer.write(picture(1))
    writer._words[(64 + place.slot * writer._stride) // 8] = 2 * place.sequence - 1
    assert reader.read(place) is None
    reader.close()


def test_where_stores_are_not_ordered_a_checksum_finds_torn_pictures(
    writer: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "_ORDERED_STORES", False)
    reader = RingReader(writer.name)
    whole, torn = writer.write(picture(1)), writer.write(picture(2))
    writer._bytes[64 + torn.slot * writer._stride + 64 + 500] = 77
    assert reader.read(whole) is not None
    assert reader.read(torn) is None
    reader.close()


RACER = """
import sys, threading
import numpy as np
from streamer.ring import RingWriter
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
with RingWriter(2, 200_000) as writer:
    print(writer.name, flush=True)
    value = 0
    while not stop.is_set():
        value += 1
        writer.write(np.full(200_000, value % 256, np.uint8))
"""


def test_a_second_process_that_races_never_gets_a_torn_picture_through() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as racer:
        assert racer.stdout is not None
        assert racer.stdin is not None
        reader = RingReader(racer.stdout.readline().strip())
        whole = raced = 0
        deadline = time.monotonic() + 20
        while (whole < 50 or raced < 50) and time.monotonic() < deadline:
            word = int(reader._words[64 // 8])
            if word % 2 or not word:
                continue
            sequence = word // 2
            read = reader.read(Descriptor(reader.name, 0, sequence, 200_000))
            if read is None:
                raced += 1
                continue
            whole += 1
            assert (read == sequence % 256).all(), "a torn picture was delivered"
        racer.stdin.close()
        assert racer.wait(10) == 0
        reader.close()
    assert whole >= 50
    assert raced >= 50
    assert not (DIRECTORY / reader.name).exists()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_segments_of_dead_writers_are_removed_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "DIRECTORY", tmp_path)
    dead, old, strangers = f"{PREFIX}{dead_pid()}-ab-0", f"{PREFIX}{os.getpid()}-cd-0", ("mien-notes", "other-1-ab-0")
    for name in (dead, old, f"{PREFIX}{os.getpid()}-ef-0", *strangers):
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / old, (1, 1))
    with RingWriter(2, 100) as writer:
        os.utime(tmp_path / writer.name, (1, 1))
        assert remove_stale_segments() == sorted([dead, old])
        assert (tmp_path / writer.name).exists(), "the lock of a living writer protects its segment, however old"
        assert remove_stale_segments() == []
    assert {path.name for path in tmp_path.iterdir()} == {f"{PREFIX}{os.getpid()}-ef-0", *strangers}


def test_a_killed_writer_leaves_a_segment_that_the_next_start_removes() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as racer:
        assert racer.stdout is not None
        name = racer.stdout.readline().decode().strip()
        assert name not in remove_stale_segments()
        racer.send_signal(signal.SIGKILL)
        racer.wait(10)
    assert (DIRECTORY / name).exists()
    remove_stale_segments()
    assert not (DIRECTORY / name).exists()


def test_a_reader_keeps_what_it_mapped_when_the_writer_ends() -> None:
    readers = RingReaders()
    with RingWriter(2, 100) as writer:
        first, second = writer.write(picture(1, 100)), writer.write(picture(2, 100))
        assert readers.read(first) is not None
    np.testing.assert_array_equal(readers.read(second), picture(2, 100))
    with RingWriter(2, 100) as another:
        assert readers.read(another.write(picture(3, 100))) is not None
        with pytest.raises(TransportError, match="cannot be opened"):
            readers.read(second)  # let go of when the new segment was mapped
    readers.close()


@pytest.mark.parametrize(
    "change",
    [{"slot": 3}, {"slot": -1}, {"nbytes": 1001}, {"nbytes": -1}],
)
def test_descriptors_beyond_the_ring_are_refused(writer: RingWriter, change: dict[str, int]) -> None:
    place = writer.write(picture(1))
    reader = RingReader(writer.name)
    with pytest.raises(TransportError, match="does not fit a ring of 3 slots of 1000 bytes"):
        reader.read(dataclasses.replace(place, **change))
    assert reader.read(dataclasses.replace(place, nbytes=999)) is None
    reader.close()


def test_what_is_no_ring_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "DIRECTORY", tmp_path)
    name = f"{PREFIX}1-ab-0"
    for content in (b"", b"short", bytes(64), b"MIENRING" + bytes(200)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TransportError, match="ring"):
            RingReader(name)
    (tmp_path / name).unlink()
    with pytest.raises(TransportError, match="another host"):
        RingReader(name)
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TransportError, match="cannot be opened"):
        RingReader(name)
    with pytest.raises(TransportError, match="not the name"):
        RingReader("../etc/passwd")


def test_no_room_is_an_error_with_a_remedy_and_leaves_nothing() -> None:
    before = set(DIRECTORY.glob(f"{PREFIX}{os.getpid()}-*"))
    with pytest.raises(TransportError, match=r"no room for .* MB of shared memory.*bus.shared_memory=false"):
        RingWriter(1024, 2**40)
    assert set(DIRECTORY.glob(f"{PREFIX}{os.getpid()}-*")) == before


def test_a_picture_larger_than_a_slot_is_refused(writer: RingWriter) -> None:
    with pytest.raises(TransportError, match="1001 bytes"):
        writer.write(picture(1, 1001))
