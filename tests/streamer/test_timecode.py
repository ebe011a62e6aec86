"""Labels and frame numbers: every frame of a day has one label, and dropped labels do not exist."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import timecode
from streamer.errors import ConfigError
from streamer.types import Timecode

NTSC, NTSC_60 = Fraction(30000, 1001), Fraction(60000, 1001)
RATES = [(Fraction(n), False) for n in (24, 25, 30)] + [(NTSC, False), (NTSC, True), (NTSC_60, True)]


@given(st.sampled_from(RATES), st.integers(0, 24 * 3600 * 60))
def test_a_frame_number_survives_its_label(rate_and_drop: tuple[Fraction, bool], frames: int) -> None:
    rate, drop = rate_and_drop
    day = timecode.frame_number(timecode.label(-1, rate, drop)) + 1
    label = timecode.label(frames, rate, drop)
    assert timecode.frame_number(label) == frames % day
    assert timecode.label(frames + day, rate, drop) == label


def test_labels_that_the_standard_fixes() -> None:
    # SMPTE ST 12-1: labels 00 and 01 are left out at the start of each minute but every tenth.
    assert timecode.label(1799, NTSC, True).text == "00:00:59;29"
    assert timecode.label(1800, NTSC, True).text == "00:01:00;02"
    assert timecode.label(17982, NTSC, True).text == "00:10:00;00"
    assert timecode.label(107892, NTSC, True).text == "01:00:00;00"
    assert timecode.label(3600, NTSC_60, True).text == "00:01:00;04"
    assert timecode.label(1800, NTSC).text == "00:01:00:00"
    assert timecode.of_day(3_723_500_000_000, Fraction(25)).text == "01:02:03:12"


@pytest.mark.parametrize(
    ("text", "rate", "drop"),
    [("00:01:00;01", NTSC, True), ("24:00:00:00", Fraction(25), False), ("00:00:00:25", Fraction(25), False),
     ("soon", Fraction(25), False), ("00:00:00:00", Fraction(25), True), ("00:00:00:00", Fraction(1000), False)],
)  # fmt: skip
def test_labels_that_do_not_exist_are_refused(text: str, rate: Fraction, drop: bool) -> None:
    with pytest.raises(ConfigError):
        timecode.frame_number(Timecode(text, rate, drop))


@given(st.sampled_from(RATES), st.integers(0, 10**6), st.integers(0, 10**15), st.integers(0, 30 * 3600))
def test_the_time_of_a_label_has_that_label(
    rate_and_drop: tuple[Fraction, bool], first: int, start_ns: int, frames: int
) -> None:
    rate, drop = rate_and_drop
    start = timecode.label(first, rate, drop)
    wanted = timecode.label(first + frames, rate, drop)
    begin = timecode.time_of(start, start_ns, wanted)
    assert timecode.at(start, start_ns, begin) == wanted
    assert begin == start_ns or timecode.at(start, start_ns, begin - 1) != wanted
    with pytest.raises(ConfigError):
        timecode.time_of(start, start_ns, Timecode(wanted.text, Fraction(48), False))
