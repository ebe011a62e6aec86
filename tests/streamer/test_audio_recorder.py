"""Sound beside pictures, through a fake at the edge of the sound card: in sync, with pre-roll, whole after a crash.

No sound card is here: what is tested is everything behind `sounddevice`'s callback, and its absence.
"""

import json
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streamer import timecode
from streamer.audio.ltc import write_ltc
from streamer.audio.recorder import AudioInput, Callback, open_stream
from streamer.audio.wav import HEAD, SOUND, TIMES, SoundFile, read_sound, repair
from streamer.config import RecordConfig, SyncConfig
from streamer.errors import ConfigError, DriverError, MissingExtra
from streamer.takes import open_take
from streamer.takes.anchors import label_of
from streamer.takes.layout import read_info
from streamer.takes.recover import recover_take
from streamer.takes.session import Session
from streamer.takes.verify import verify_take
from streamer.types import Timecode
from tests.streamer.take_makers import calibration

RATE_HZ, BLOCK = 48_000, 480
LTC = write_ltc(Timecode("10:00:00:00", Fraction(25)), 100, RATE_HZ)
DELAY_S = 0.004
"""How long the fake card takes from the microphone to the callback."""


class Card:
    """A sound card that plays timecode when told, on a clock that stands where it is put."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1_700_000_000_000_000_000
        self.begun_ns = self.now_ns
        self.place = 0
        self.closed = False
        monkeypatch.setattr("streamer.audio.recorder.time", SimpleNamespace(time_ns=lambda: self.now_ns))

    def open(self, device: str, rate_hz: int, channels: int, callback: Callback) -> "Card":
        assert (device, rate_hz, channels) == ("fake", RATE_HZ, 2)
        self.callback = callback
        return self

    def start(self) -> None:
        self.begun_ns = self.now_ns

    def close(self) -> None:
        self.closed = True

    def play(self, blocks: int, status: Any = None) -> None:
        for _ in range(blocks):
            mono = (LTC[self.place : self.place + BLOCK] * 32_000).astype(np.int16)
            self.place += BLOCK
            self.now_ns = self.begun_ns + round((self.place / RATE_HZ + DELAY_S) * 1e9)
            info = SimpleNamespace(currentTime=5.0 + DELAY_S, inputBufferAdcTime=5.0 - BLOCK / RATE_HZ)
            self.callback(np.stack([np.zeros_like(mono), mono], 1), BLOCK, info, status)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    yield Card(monkeypatch)


def settings(tmp_path: Path) -> RecordConfig:
    return RecordConfig(
        directory=str(tmp_path / "takes"), min_free_gb=0.0, preroll_s=0.5, audio="fake", audio_channels=2,
        timecode="ltc", timecode_rate="25",
    )  # fmt: skip


def test_a_take_has_its_sound_from_the_preroll_on_and_timecode_from_it(tmp_path: Path, card: Card) -> None:
    record = settings(tmp_path)
    audio = AudioInput("fake", RATE_HZ, 2, record.preroll_s, card.open)
    session = Session(record, SyncConfig(), clock_ns=lambda: card.now_ns, audio=audio)
    session.put("calibration", calibration())
    card.play(100)  # a second, of which half is kept
    session.command("start", {})
    card.play(200)
    session.command("stop", {})
    card.play(10)
    session.close()
    audio.close()
    assert card.closed
    path = session.closed[0]
    assert verify_take(path).ok
    assert read_info(path).drops == {}
    with wave.open(str(path / SOUND)) as file:  # any reader of WAV opens it
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, RATE_HZ, 2)
        count = file.getnframes()
    with open_take(path) as take:
        assert take.sound is not None
        assert take.sound.samples.shape == (count, 2)
        assert 250 * BLOCK <= count <= 252 * BLOCK
        first = 300 * BLOCK - count  # where the sound begins in what was played
        assert np.array_equal(take.sound.samples[:, 1], (LTC[first : 300 * BLOCK] * 32_000).astype(np.int16))
        # Sample k was at the microphone k / rate after the card began: to a tenth of a sample.
        for sample in (0, 1000, count - 1):
            truth = card.begun_ns + (first + sample) / RATE_HZ * 1e9
            assert abs(take.sound.time_of(sample) - truth) < 0.1 / RATE_HZ * 1e9 + 1000
        anchor = take.info.timecode
        assert anchor is not None
        assert anchor.source == "ltc"
        sound = json.loads((path / "metadata.cptake").read_text())["Audio"]
        begins = timecode.at(label_of(anchor), anchor.time_ns, take.sound.time_of(0)).text
        assert sound == [
            {"Name": "audio", "Path": SOUND, "Duration": count / RATE_HZ, "TimecodeStart": begins, "TimecodeRate": 25.0}
        ]
        for label in ("10:00:01:00", "10:00:02:12"):  # label n begins n frames after the card began
            wanted = Timecode(label, Fraction(25))
            frames = timecode.frame_number(wanted) - timecode.frame_number(Timecode("10:00:00:00", Fraction(25)))
            found = timecode.time_of(label_of(anchor), anchor.time_ns, wanted)
            assert abs(found - (card.begun_ns + frames * 40_000_000)) < 2 / RATE_HZ * 1e9


def test_blocks_that_the_card_lost_are_in_the_ledger(tmp_path: Path, card: Card) -> None:
    record = settings(tmp_path)
    audio = AudioInput("fake", RATE_HZ, 2, 0.0, card.open)
    session = Session(record, SyncConfig(), clock_ns=lambda: card.now_ns, audio=audio)
    session.put("calibration", calibration())
    session.command("start", {})
    card.play(5)
    card.play(2, status="input overflow")
    session.close()
    audio.close()
    assert read_info(session.closed[0]).drops == {"audio": {"not-written": 2}}


def test_sound_is_whole_again_after_a_crash(tmp_path: Path, card: Card) -> None:
    record = settings(tmp_path)
    audio = AudioInput("fake", RATE_HZ, 2, 0.0, card.open)
    session = Session(record, SyncConfig(), clock_ns=lambda: card.now_ns, audio=audio)
    session.put("calibration", calibration())
    path = Path(session.command("start", {})["take"])
    card.play(150)
    audio.end()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in path.iterdir():
        if file.name not in (".lock", ".reserve"):
            (copy / file.name).write_bytes(file.read_bytes())
    data = (copy / SOUND).read_bytes()
    (copy / SOUND).write_bytes(HEAD.pack(*[*HEAD.unpack(data[: HEAD.size])[:-1], 0]) + data[HEAD.size : -3])
    with (copy / TIMES).open("a") as file:
        file.write("99999,17")
    session.close()
    audio.close()
    assert recover_take(copy).ok
    with open_take(copy) as take:
        assert take.sound is not None
        assert take.sound.samples.shape == (150 * BLOCK - 1, 2)
        assert take.sound.marks[:, 0].max() < 150 * BLOCK
    for size in range(HEAD.size + 3):  # nothing but a head: no sound
        (copy / SOUND).write_bytes(data[:size])
        assert repair(copy) == 0
        assert read_sound(copy) is None
        (copy / TIMES).write_text("sample,time_ns\n")


def test_a_file_at_its_limit_ends_the_sound_and_not_the_take(
    tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.audio.wav.LARGEST", 5000)
    audio = AudioInput("fake", RATE_HZ, 2, 0.0, card.open)
    session = Session(settings(tmp_path), SyncConfig(), clock_ns=lambda: card.now_ns, audio=audio)
    session.put("calibration", calibration())
    session.command("start", {})
    card.play(10)
    session.close()
    audio.close()
    assert verify_take(session.closed[0]).ok
    assert read_info(session.closed[0]).drops == {"audio": {"disk-full": 1}}
    with open_take(session.closed[0]) as take:
        assert take.sound is not None
        assert take.sound.samples.shape == (2 * BLOCK, 2)


def test_an_input_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises((MissingExtra, DriverError), match="audio"):
        open_stream("no such input", RATE_HZ, 1, lambda *_: None)
    with pytest.raises(ConfigError, match="needs an audio input"):
        Session(RecordConfig(timecode="ltc"), SyncConfig())
    sound = SoundFile(tmp_path, RATE_HZ, 1)
    with pytest.raises(FileExistsError):
        SoundFile(tmp_path, RATE_HZ, 1)
    sound.close()
