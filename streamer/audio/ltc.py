"""Linear timecode (SMPTE ST 12-1): 80 bits a frame as biphase mark, read from samples and written for tests. Pure.

A cell of biphase mark begins with a change of sign, and has another one in its middle if the bit is 1. So the signal
carries its own clock: only times between crossings of zero are looked at; neither level nor polarity nor a few percent
of speed matter. It is read forwards only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from streamer import timecode
from streamer.errors import ConfigError
from streamer.types import F32, Timecode

SYNC = 0b0011_1111_1111_1101
"""The last 16 bits of a frame in the order in which they are sent."""
BITS = 80
BCD = ((0, 4), (8, 2), (16, 4), (24, 3), (32, 4), (40, 3), (48, 4), (56, 2))
"""First bit and number of bits of frames, tens of frames, seconds, ... hours, tens of hours; lowest bit first."""
DROP_BIT = 10


@dataclass(frozen=True, slots=True)
class Label:
    """A frame of timecode found in audio."""

    timecode: Timecode
    """What it says."""
    sample: float
    """Where its first bit begins, in samples from the start; between samples."""


def read_ltc(samples: F32, sample_rate: int, rate: Fraction) -> list[Label]:
    """Find every whole frame of timecode.

    Args:
        samples: (S,) mono, any level.
        sample_rate: Hz.
        rate: frames per second that labels count at.

    Returns:
        Labels in order of time. Frames whose digits cannot be (damage) are left out.
    """
    crossings = _crossings(np.asarray(samples, np.float64))
    if len(crossings) < 2 * BITS:
        return []
    bits, starts = _bits(crossings, sample_rate / (float(rate) * BITS))
    found: list[Label] = []
    word = 0
    for number, bit in enumerate(bits):
        word = (word << 1 | bit) & 0xFFFF if bit >= 0 else 0
        if word == SYNC and number >= BITS - 1 and min(bits[number - BITS + 1 : number + 1]) >= 0:
            label = _label(bits[number - BITS + 1 : number + 1], rate)
            if label is not None:
                found.append(Label(label, starts[number - BITS + 1]))
    return found


def _crossings(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the signal changes its sign, between samples; small wiggles around zero do not count."""
    centred = samples - samples.mean() if len(samples) else samples
    level = 0.2 * np.abs(centred).max(initial=0.0)
    loud = np.flatnonzero(np.abs(centred) > level)
    change = np.flatnonzero(np.diff(np.sign(centred[loud])))
    before, after = loud[change], loud[change + 1]
    low, high = centred[before], centred[after]
    return np.asarray(before + (after - before) * low / (low - high), np.float64)


def _bits(crossings: NDArray[np.float64], cell: float) -> tuple[list[int], list[float]]:
    """Return bits (-1: neither) and where each begins. The length of a cell is followed as it drifts."""
    bits: list[int] = []
    starts: list[float] = []
    times, place = crossings.tolist(), 0
    while place + 2 < len(times):
        gap, following = times[place + 1] - times[place], times[place + 2] - times[place + 1]
        starts.append(times[place])
        if 0.75 * cell < gap < 1.4 * cell:
            bits.append(0)
            cell += 0.1 * (gap - cell)
            place += 1
        elif 0.3 * cell < gap <= 0.75 * cell and 0.3 * cell < following <= 0.75 * cell:
            bits.append(1)
            cell += 0.1 * (gap + following - cell)
            place += 2
        else:
            bits.append(-1)
            place += 1
    return bits, starts


def _label(bits: Sequence[int], rate: Fraction) -> Timecode | None:
    ones = [sum(bits[first + i] << i for i in range(count)) for first, count in BCD]
    frames, seconds, minutes, hours = (ones[i] + 10 * ones[i + 1] for i in (0, 2, 4, 6))
    drop = bool(bits[DROP_BIT])
    label = Timecode(f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if drop else ':'}{frames:02d}", rate, drop)
    try:
        timecode.frame_number(label)
    except ConfigError:
        return None
    return label


def write_ltc(first: Timecode, count: int, sample_rate: int, level: float = 0.5) -> F32:
    """Return the samples of successive frames of timecode, for tests and for a slate without hardware.

    Args:
        first: label of the first frame; its rate is that of the signal, at most 30.
        count: frames.
        sample_rate: Hz.
        level: amplitude.
    """
    number, changes = timecode.frame_number(first), []
    for frame in range(count):
        label = timecode.label(number + frame, first.rate, first.drop_frame)
        begin = Fraction(frame * sample_rate) / first.rate
        cell = Fraction(sample_rate, BITS) / first.rate
        for place, bit in enumerate(_word(label)):
            changes.append(float(begin + place * cell))
            if bit:
                changes.append(float(begin + place * cell + cell / 2))
    length = int(Fraction(count * sample_rate) / first.rate)
    signs = np.searchsorted(np.array(changes), np.arange(length), side="right") % 2
    return (level * (2.0 * signs - 1.0)).astype(np.float32)


def _word(label: Timecode) -> list[int]:
    hours, minutes, seconds, frames = (int(label.text[i : i + 2]) for i in (0, 3, 6, 9))
    bits = [0] * 64
    digits = (
        frames % 10,
        frames // 10,
        seconds % 10,
        seconds // 10,
        minutes % 10,
        minutes // 10,
        hours % 10,
        hours // 10,
    )
    for (first, count), digit in zip(BCD, digits, strict=True):
        for i in range(count):
            bits[first + i] = digit >> i & 1
    bits[DROP_BIT] = int(label.drop_frame)
    bits += [SYNC >> (15 - i) & 1 for i in range(16)]
    bits[27] ^= sum(bits) % 2  # an even number of ones: every frame begins with the same polarity
    return bits
