"""Takes from takes: a part of one, or several joined. Sources stay as they are; the new one is whole or not there."""

import heapq
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamer.errors import TakeError
from streamer.takes.layout import LOCK, About, Marker, take_number
from streamer.takes.ledger import losses_of_take
from streamer.takes.moments import time_of_moment
from streamer.takes.reader import FRAME, Take, open_take
from streamer.takes.stored import topic_of
from streamer.takes.writer import TakeWriter
from streamer.types import Calibration, Camera, Frame, Health, MeshFrame
from streamer.wire import Message

Progress = Callable[[int, int], None]
Logged = tuple[str, int, Message]
CHANNELS = ("frame", "truth", "mesh", "topology", "calibration", "health")


def trim_take(
    source: Path, out: Path, first: str | None, last: str | None, *, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Write a part of a take as a new take. Nothing is renumbered; pictures and meshes keep every bit.

    Args:
        source: the take.
        out: folder of the new take; must not exist.
        first: the beginning: a frame id, seconds (`2.5s`), timecode or marker; None: that of the take.
        last: the end, included; None: that of the take.
        on_progress: called after each message with how many are read and how many there are.

    Returns:
        `take`, `messages`, `seconds`.

    Raises:
        TakeError: the take cannot be read, there is no such moment, nothing lies between them, or `out` exists.
        ConfigError: a timecode that cannot be.
    """
    with open_take(source) as take:
        low = take.first_ns if first is None else time_of_moment(take, first)
        high = take.last_ns if last is None else time_of_moment(take, last, latest=True)
        inside = _Inside(low, high)
        if high < low or not any(inside.frames(take, topic) for topic in take.topics):
            raise TakeError(f"{source}: nothing lies between {first or 'the beginning'} and {last or 'the end'}")
        info = take.info
        markers = [m for m in info.markers if low <= m.time_ns <= high or inside.frame_id(take, m.frame_id)]
        about = About("", info.notes, info.timecode)
        count = _write(out, take, about, take.calibration, inside.filter(take), markers, _total([take]), on_progress)
        return {"take": str(out), "messages": count, "seconds": round((high - low) / 1e9, 3)}


class _Inside:
    """What belongs to a part: by exposure time; what has none, by the log times of what has."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def frames(self, take: Take, topic: str) -> bool:
        if not topic.startswith(FRAME) and topic not in ("mesh", "truth"):
            return False
        times = take.keys(topic)[:, 1]
        return bool(((times >= self._low) & (times <= self._high)).any())

    def frame_id(self, take: Take, frame_id: int) -> bool:
        return frame_id >= 0 and self._low <= take.time_of_frame(frame_id) <= self._high

    def filter(self, take: Take) -> Iterator[Logged]:
        window: list[int] = []
        for channel, log_ns, message in take.messages(CHANNELS):
            if isinstance(message, Frame | MeshFrame):
                if not self._low <= message.exposure_time_ns <= self._high:
                    continue
                window = [window[0] if window else log_ns, log_ns]
            elif isinstance(message, Health) and not window:
                continue
            yield channel, log_ns, message


def merge_takes(sources: Sequence[Path], out: Path, *, on_progress: Progress | None = None) -> dict[str, Any]:
    """Join recordings of the same moment, such as those of several camera hosts, into one take.

    Of frames of one camera (or meshes of one channel) with the same frame id and exposure time, that of the take named
    first stays: name full pictures before proxies.

    Args:
        sources: the takes.
        out: folder of the new take; must not exist.
        on_progress: called after each message with how many are read and how many there are.

    Returns:
        `take`, `messages`, `equal` (left out, as they were there more than once).

    Raises:
        TakeError: a take cannot be read, takes match in different ways, or `out` exists.
        CalibrationError: one camera is calibrated differently in two takes.
    """
    with ExitStack() as stack:
        takes = [stack.enter_context(open_take(path)) for path in sources]
        first = takes[0]
        for take in takes[1:]:
            if take.info.match != first.info.match:
                raise TakeError(
                    f"{take.path} matches frames by {take.info.match}, {first.path} by {first.info.match}; they are "
                    "not of one rig"
                )
        calibration = _union(takes)
        equal = [0]
        logged = heapq.merge(*_without_equals(takes, equal), key=lambda item: item[1])
        notes = "; ".join(dict.fromkeys(take.info.notes for take in takes if take.info.notes))
        about = About("", notes, next((t.info.timecode for t in takes if t.info.timecode), None))
        markers = list(dict.fromkeys(marker for take in takes for marker in take.info.markers))
        count = _write(out, first, about, calibration, logged, markers, _total(takes), on_progress, takes)
        return {"take": str(out), "messages": count, "equal": equal[0]}


def _union(takes: Sequence[Take]) -> Calibration:
    cameras: dict[str, Camera] = {}
    for take in takes:
        for camera in take.calibration.cameras:
            known = cameras.setdefault(camera.id, camera)
            same = (known.width, known.height) == (camera.width, camera.height) and all(
                (getattr(known, name) == getattr(camera, name)).all()
                for name in ("K", "distortion", "camera_from_world")
            )
            if not same:
                raise TakeError(
                    f"{take.path}: camera '{camera.id}' is calibrated otherwise than in {takes[0].path}; join takes "
                    "of one calibration, or reprocess one of them"
                )
    return Calibration(tuple(cameras.values()), takes[0].calibration.source)


def _without_equals(takes: Sequence[Take], equal: list[int]) -> list[Iterator[Logged]]:
    streams, seen = [], set[tuple[str, int, int]]()
    for take in takes:
        before = frozenset(seen)
        streams.append(_others(take, before, equal))
        for topic in take.topics:
            if topic.startswith(FRAME) or topic in ("mesh", "truth"):
                seen |= {(topic, int(frame_id), int(time)) for frame_id, time in take.keys(topic)}
    return streams


def _others(take: Take, before: frozenset[tuple[str, int, int]], equal: list[int]) -> Iterator[Logged]:
    for channel, log_ns, message in take.messages(CHANNELS):
        if isinstance(message, Frame | MeshFrame):
            if (topic_of(channel, message).name, message.frame_id, message.exposure_time_ns) in before:
                equal[0] += 1
                continue
        elif isinstance(message, Calibration):
            continue  # the writer stores the joined one
        yield channel, log_ns, message


def _total(takes: Sequence[Take]) -> int:
    return sum(len(entries) for take in takes for entries in take.topics.values())


def _write(
    out: Path,
    like: Take,
    about: About,
    calibration: Calibration,
    logged: Iterator[Logged],
    markers: Sequence[Marker],
    total: int,
    on_progress: Progress | None,
    takes: Sequence[Take] = (),
) -> int:
    if out.exists():
        raise TakeError(f"{out} exists already; give another folder or remove it")
    scratch = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        with TakeWriter(
            scratch,
            calibration=calibration,
            config_text=like.config_text,
            show=like.info.show,
            slate=like.info.slate,
            take=take_number(out),
            sync=replace(like.sync),
            about=about,
        ) as writer:
            for take in takes or (like,):
                for loss in losses_of_take(take):
                    writer.lose(loss)
            for done, (channel, log_ns, message) in enumerate(logged, 1):
                writer.write(channel, message, log_ns)
                if on_progress is not None:
                    on_progress(done, total)
            for marker in markers:
                writer.mark(marker)
        scratch.rename(out)
        return sum(writer.messages.values())
    except OSError as error:
        raise TakeError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        if scratch.exists():
            (scratch / LOCK).unlink(missing_ok=True)
            shutil.rmtree(scratch)
