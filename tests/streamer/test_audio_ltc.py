"""Timecode in audio: every label of a clean signal, the right ones or none of a bad one."""

from fractions import Fraction

import numpy as np
import pytest

from streamer import timecode
from streamer.audio.ltc import read_ltc, write_ltc
from streamer.types import F32, Timecode

FIRST = {
    Fraction(24): Timecode("23:59:58:20", Fraction(24)),
    Fraction(25): Timecode("10:00:00:00", Fraction(25)),
    Fraction(30): Timecode("01:02:03:04", Fraction(30)),
    Fraction(30000, 1001): Timecode("00:09:59;28", Fraction(30000, 1001), True),
}


def labels(first: Timecode, count: int) -> list[Timecode]:
    number = timecode.frame_number(first)
    return [timecode.label(number + k, first.rate, first.drop_frame) for k in range(count)]


@pytest.mark.parametrize("rate", FIRST)
@pytest.mark.parametrize("sample_rate", [44_100, 48_000, 96_000])
def test_every_label_is_read_where_it_begins(rate: Fraction, sample_rate: int) -> None:
    first = FIRST[rate]
    found = read_ltc(write_ltc(first, 60, sample_rate), sample_rate, rate)
    # The very first crossing and the last one have no neighbour: one label at each end may be missing.
    wanted = labels(first, 60)
    assert wanted.index(found[0].timecode) <= 1
    assert [item.timecode for item in found] == wanted[wanted.index(found[0].timecode) :][: len(found)]
    assert len(found) >= 58
    for item in found:
        begin = wanted.index(item.timecode) * sample_rate / float(rate)
        assert abs(item.sample - begin) <= 1.0


def _noisy(samples: F32, rng: np.random.Generator) -> F32:
    return (samples + rng.normal(0, 0.05, len(samples))).astype(np.float32)


def _quiet_and_turned(samples: F32, rng: np.random.Generator) -> F32:
    return (-0.01 * samples + 0.3).astype(np.float32)


def _soft(samples: F32, rng: np.random.Generator) -> F32:
    return np.convolve(samples, np.hanning(9) / np.hanning(9).sum(), "same").astype(np.float32)


def _fast(samples: F32, rng: np.random.Generator) -> F32:
    """A tape that runs 4 % fast."""
    places = np.arange(0, len(samples) - 1, 1.04)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)


@pytest.mark.parametrize("change", [_noisy, _quiet_and_turned, _soft, _fast])
def test_level_polarity_noise_and_speed_do_not_matter(change: object) -> None:
    rng, rate = np.random.default_rng(3), Fraction(25)
    samples = change(write_ltc(FIRST[rate], 50, 48_000), rng)  # type: ignore[operator]
    found = read_ltc(samples, 48_000, rate)
    wanted = labels(FIRST[rate], 50)
    assert len(found) >= 47
    assert [item.timecode for item in found] == wanted[wanted.index(found[0].timecode) :][: len(found)]


def test_a_hole_costs_its_labels_and_silence_has_none() -> None:
    rate, rng = Fraction(30), np.random.default_rng(4)
    samples = write_ltc(FIRST[rate], 90, 48_000)
    samples[48_000 : 48_000 + 8_000] = 0  # five frames
    found = [item.timecode for item in read_ltc(samples, 48_000, rate)]
    wanted = labels(FIRST[rate], 90)
    assert set(found) <= set(wanted)
    assert len(found) >= 90 - 5 - 4
    assert read_ltc(np.zeros(48_000, np.float32), 48_000, rate) == []
    assert read_ltc(np.zeros(0, np.float32), 48_000, rate) == []
    assert read_ltc(rng.normal(0, 1, 96_000).astype(np.float32), 48_000, rate) == []
    tone = np.sin(np.arange(96_000) * 2 * np.pi * 1200 / 48_000).astype(np.float32)
    assert read_ltc(tone, 48_000, rate) == []
