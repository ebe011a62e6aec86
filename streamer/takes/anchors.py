"""How timecode is tied to the time of a take."""

from datetime import datetime
from fractions import Fraction

from streamer import timecode
from streamer.config import RecordConfig
from streamer.errors import ConfigError
from streamer.takes.layout import Anchor
from streamer.types import Timecode


def anchor_for(record: RecordConfig, now_ns: int) -> Anchor | None:
    """Return how timecode runs in a take that begins now: the time of day of this machine, if it is asked for."""
    if record.timecode != "system":
        return None
    rate = rate_of(record)
    day = datetime.fromtimestamp(now_ns // 10**9).replace(hour=0, minute=0, second=0)
    label = timecode.of_day(now_ns - round(day.timestamp()) * 10**9, rate, record.drop_frame)
    return Anchor("system", label.text, record.timecode_rate, record.drop_frame, now_ns)


def rate_of(record: RecordConfig) -> Fraction:
    """Return the rate of timecode.

    Raises:
        ConfigError: record.timecode_rate is no rate.
    """
    try:
        return Fraction(record.timecode_rate)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"record.timecode_rate = {record.timecode_rate!r}: use 25 or 30000/1001") from error


def label_of(anchor: Anchor) -> Timecode:
    """Return the label that an anchor ties to its time."""
    return Timecode(anchor.text, Fraction(anchor.rate), anchor.drop_frame)
