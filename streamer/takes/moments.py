"""Moments of a take: by frame id, seconds, timecode or marker. Pure but for the take that is asked."""

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamer import timecode
from streamer.errors import TakeError
from streamer.takes.anchors import label_of
from streamer.types import Timecode

if TYPE_CHECKING:
    from streamer.takes.reader import Take

_SECONDS = re.compile(r"\d+(\.\d+)?s")
_LABEL = re.compile(r"\d{2}:\d{2}:\d{2}[:;]\d{2,3}")


def nearest(times_ns: NDArray[np.int64], time_ns: int) -> int:
    """Return the row of the time nearest to `time_ns`; times need not rise (a clock may have jumped).

    Raises:
        IndexError: there are none.
    """
    if not len(times_ns):
        raise IndexError("there is nothing in this sequence")
    return int(np.argmin(np.abs(times_ns - time_ns)))


def time_of_timecode(take: "Take", text: str) -> int:
    """Return when a timecode label began in a take, ns.

    Raises:
        TakeError: the take has no timecode.
        ConfigError: it is no label at the take's rate.
    """
    anchor = take.info.timecode
    if anchor is None:
        raise TakeError(f"{take.path} has no timecode; ask by frame id or time")
    start = label_of(anchor)
    first_ns = take.first_ns
    begin = timecode.at(start, anchor.time_ns, first_ns)
    wanted = Timecode(text.replace(";", ":") if not start.drop_frame else text, start.rate, start.drop_frame)
    # Counted from the label at the first picture, so that pictures before the anchor (pre-roll) are found too.
    passed = timecode.frame_number(begin) - timecode.frame_number(start)
    begin_ns = anchor.time_ns + -(-passed * 10**9 // start.rate) if abs(passed) < start.rate * 43_200 else first_ns
    return timecode.time_of(begin, begin_ns, wanted)


def timecode_at(take: "Take", time_ns: int) -> Timecode | None:
    """Return the label of a moment, None if the take has no timecode."""
    anchor = take.info.timecode
    return None if anchor is None else timecode.at(label_of(anchor), anchor.time_ns, time_ns)


def time_of_moment(take: "Take", moment: str, *, latest: bool = False) -> int:
    """Return the time that somebody means, ns.

    Args:
        take: the take.
        moment: a frame id (`1234`), seconds from the beginning (`2.5s`), a timecode (the picture nearest to its
            beginning), or the text of a marker.
        latest: of the exposures of one frame id the last, not the first.

    Raises:
        TakeError: there is no such moment.
        ConfigError: a timecode that cannot be.
    """
    if moment.isascii() and moment.isdigit():
        return take.time_of_frame(int(moment), latest=latest)
    if _SECONDS.fullmatch(moment):
        return take.first_ns + round(float(moment[:-1]) * 1e9)
    if _LABEL.fullmatch(moment):
        sets = take.sets if len(take.sets) else take.meshes()
        row = nearest(sets.times_ns, time_of_timecode(take, moment))
        return take.time_of_frame(int(sets.frame_ids[row]), latest=latest)
    found = [marker for marker in take.info.markers if marker.text == moment]
    if len(found) == 1:
        frame_id, time_ns = found[0].frame_id, found[0].time_ns
        return take.time_of_frame(frame_id, latest=latest) if frame_id >= 0 else time_ns
    known = ", ".join(repr(marker.text) for marker in take.info.markers) or "none"
    raise TakeError(
        f"{moment!r} is no moment of {take.path}: give a frame id, seconds such as 2.5s, a timecode, or the text "
        f"of one marker; markers here: {known}"
    )
