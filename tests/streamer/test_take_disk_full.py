"""A full disk ends a take, and never hurts it."""

import errno
import resource
import time
from pathlib import Path

import pytest

from streamer.config import RecordConfig
from streamer.errors import TakeError
from streamer.takes import TakeWriter, open_take
from streamer.takes.disk import AppendFile, Reserve, Syncer
from streamer.takes.verify import verify_take
from tests.streamer.take_makers import CAMERAS, CONFIG_TEXT, TINY, calibration, fill, frame, same_frame


class Quota:
    """A disk for MCAP files with so much room."""

    def __init__(self, room: int, extra: int) -> None:
        self.room, self.extra = room, extra
        """Bytes left, and bytes that appear when somebody gives up a reserve (the first failure)."""

    def open(self, path: Path) -> AppendFile:
        return _QuotaFile(path, self)


class _QuotaFile(AppendFile):
    def __init__(self, path: Path, quota: Quota) -> None:
        super().__init__(path)
        self._quota = quota

    def _write_some(self, data: memoryview) -> int:
        part = data[: min(len(data), self._quota.room, 1000)]
        if not part:
            self._quota.room += self._quota.extra
            self._quota.extra = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        self._quota.room -= len(part)
        return super()._write_some(part)


def _writer(path: Path, quota: Quota) -> TakeWriter:
    return TakeWriter(
        path,
        calibration=calibration(),
        config_text=CONFIG_TEXT,
        show="s",
        slate="a",
        take=1,
        record=TINY,
        open_file=quota.open,
    )


@pytest.mark.parametrize("extra", [0, 3000, 100_000])
def test_every_message_is_whole_or_in_the_ledger(tmp_path: Path, extra: int) -> None:
    for room in range(100, 60_000, 3733):
        path = tmp_path / f"{extra}-{room}"
        writer = _writer(path, Quota(room, extra))
        with pytest.raises(TakeError, match="No space left on device; the take is closed and holds all"):
            fill(writer, 60)
        handed_over = dict(writer.messages)
        report = verify_take(path)
        assert report.ok, report
        with open_take(path) as take:
            assert "No space left" in take.info.stopped
            lost = {topic: reasons["disk-full"] for topic, reasons in take.info.drops.items()}
            assert sum(lost.values()) > 0 or extra == 100_000
            for camera in CAMERAS:
                frames = list(take.frames(camera)) if f"frame/{camera}" in take.topics else []
                assert all(same_frame(got, frame(camera, n)) for n, got in enumerate(frames))
                assert len(frames) == handed_over.get(f"frame/{camera}", 0)
        assert sorted(p.name for p in path.iterdir() if p.suffix != ".mcap") == [
            "calibration.toml",
            "config.toml",
            "take.json",
        ]
        with pytest.raises(TakeError, match="closed"):
            writer.write("frame", frame("left", 0), 0)


def test_the_counts_close_exactly(tmp_path: Path) -> None:
    """Of what was handed over, what is in the take and what the ledger names make the whole."""
    for room in (5000, 21_000, 33_333):
        writer = _writer(tmp_path / str(room), Quota(room, 0))
        sent = 0
        with pytest.raises(TakeError):
            for number in range(60):
                sent += 1
                writer.write("frame", frame("left", number), number)
        with open_take(tmp_path / str(room)) as take:
            lost = take.info.drops["frame/left"]["disk-full"]
            assert take.frame_count + lost == sent


def test_the_limit_of_the_system_is_met_without_damage(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    record = RecordConfig(chunk_mb=0.5)
    writer = TakeWriter(
        tmp_path / "take", calibration=calibration(), config_text="", show="s", slate="a", take=1, record=record
    )
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
        with pytest.raises(TakeError, match="File too large"):
            fill(writer, 100, size=30_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    report = verify_take(tmp_path / "take")
    assert report.ok
    assert 40 <= report.frames <= 70


def test_a_take_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TakeError, match="cannot begin a take: No space left"):
        _writer(tmp_path / "take", Quota(10, 0))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    quota = Quota(2500, 0)
    file = quota.open(tmp_path / "f")
    file.write(b"a" * 1200)
    with pytest.raises(OSError, match="No space"):
        file.write(b"b" * 2000)
    quota.room = 5000
    file.write(b"c" * 10)
    file.close()
    assert (tmp_path / "f").read_bytes() == b"a" * 1200 + b"c" * 10


def test_a_reserve_takes_real_space_and_gives_it_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, 1 << 20)
    assert (tmp_path / ".reserve").stat().st_blocks * 512 >= 1 << 20
    reserve.release()
    reserve.release()
    assert list(tmp_path.iterdir()) == []


def test_a_medium_that_stops_taking_is_reported(tmp_path: Path) -> None:
    class Bad(AppendFile):
        def sync(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

    file = Bad(tmp_path / "f")
    syncer = Syncer(0.001)
    syncer.watch(file)
    deadline = time.monotonic() + 10
    while syncer.failure is None and time.monotonic() < deadline:
        time.sleep(0.001)
    syncer.close()
    file.close()
    assert syncer.failure is not None
    assert syncer.failure.errno == errno.EIO
