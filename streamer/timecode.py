"""SMPTE timecode: labels to frame numbers and back, and what label a moment has. Pure.

Drop-frame counting (29.97 and 59.94 fps) leaves out labels, never pictures: the first two (four) of every minute that
is not a multiple of ten. A label is ambiguous above 30 fps and repeats every day: it is never the only key.
"""

import re
from fractions import Fraction

from streamer.errors import ConfigError
from streamer.types import Timecode

_LABEL = re.compile(r"(\d{2}):(\d{2}):(\d{2})([:;])(\d{2,3})")
DAY_S = 86_400


def nominal(rate: Fraction) -> int:
    """Return how many labels a second has: 30 for 30000/1001."""
    return max(1, round(rate))


def _dropped(rate: Fraction) -> int:
    """Labels that a minute leaves out with drop-frame counting."""
    return nominal(rate) // 15


def check_rate(rate: Fraction, drop_frame: bool) -> None:
    """Refuse a rate that timecode cannot have.

    Raises:
        ConfigError: not between 1 and 120, or drop-frame at another rate than 29.97 or 59.94.
    """
    if not 1 <= rate <= 120:
        raise ConfigError(f"timecode rate {rate} is not between 1 and 120 frames per second")
    if drop_frame and rate not in (Fraction(30000, 1001), Fraction(60000, 1001)):
        raise ConfigError(
            f"drop-frame timecode at {rate} frames per second does not exist; use 30000/1001 or 60000/1001"
        )


def label(frames: int, rate: Fraction, drop_frame: bool = False) -> Timecode:
    """Return the label of a frame number of the day; numbers beyond a day begin again.

    Raises:
        ConfigError: see `check_rate`.
    """
    check_rate(rate, drop_frame)
    per_second = nominal(rate)
    if drop_frame:
        lost = _dropped(rate)
        per_ten, per_minute = 600 * per_second - 9 * lost, 60 * per_second - lost
        tens, rest = divmod(frames % (144 * per_ten), per_ten)
        extra = 0 if rest < 60 * per_second else lost * ((rest - 60 * per_second) // per_minute + 1)
        frames = 600 * per_second * tens + rest + extra
    seconds, frame = divmod(frames % (DAY_S * per_second), per_second)
    mark, width = ";" if drop_frame else ":", 2 if per_second <= 100 else 3
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return Timecode(f"{clock}{mark}{frame:0{width}d}", rate, drop_frame)


def frame_number(timecode: Timecode) -> int:
    """Return the frame number of the day that a label stands for.

    Raises:
        ConfigError: it is no label, or one that drop-frame counting leaves out.
    """
    check_rate(timecode.rate, timecode.drop_frame)
    match, per_second = _LABEL.fullmatch(timecode.text), nominal(timecode.rate)
    if match is None:
        raise ConfigError(f"timecode {timecode.text!r}: expected HH:MM:SS:FF")
    hours, minutes, seconds, frame = (int(match[i]) for i in (1, 2, 3, 5))
    if hours > 23 or minutes > 59 or seconds > 59 or frame >= per_second:
        raise ConfigError(f"timecode {timecode.text!r} does not exist at {timecode.rate} frames per second")
    number = (3600 * hours + 60 * minutes + seconds) * per_second + frame
    if not timecode.drop_frame:
        return number
    lost, all_minutes = _dropped(timecode.rate), 60 * hours + minutes
    if minutes % 10 and seconds == 0 and frame < lost:
        raise ConfigError(f"timecode {timecode.text!r} is left out by drop-frame counting; the next is {lost:02d}")
    return number - lost * (all_minutes - all_minutes // 10)


def of_day(time_ns: int, rate: Fraction, drop_frame: bool = False) -> Timecode:
    """Return the label of a time since midnight, ns."""
    return label(int(time_ns * rate // 10**9), rate, drop_frame)


def at(start: Timecode, start_ns: int, time_ns: int) -> Timecode:
    """Return the label at a time, where `start` is the label at `start_ns`; both ns of one clock."""
    passed = (time_ns - start_ns) * start.rate // 10**9
    return label(frame_number(start) + int(passed), start.rate, start.drop_frame)


def time_of(start: Timecode, start_ns: int, wanted: Timecode) -> int:
    """Return when a label began, ns: the first time at or after `start_ns`, so a take may run past midnight.

    Raises:
        ConfigError: labels of different rates, or none at all.
    """
    if (wanted.rate, wanted.drop_frame) != (start.rate, start.drop_frame):
        raise ConfigError(f"timecode {wanted.text} is at {wanted.rate} fps, the take at {start.rate}; give it at that")
    day = frame_number(label(-1, start.rate, start.drop_frame)) + 1
    frames = (frame_number(wanted) - frame_number(start)) % day
    return start_ns + -(-frames * 10**9 // start.rate)
