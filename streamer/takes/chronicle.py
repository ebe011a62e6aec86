"""What a recorder writes down about what it writes: the ledger of a take, second by second. Pure: time comes in.

sets     which frames became a set, when each was exposed, and why a camera is not in it
timing   every frame and mesh: its numbers and times on the way from the exposure to the take
lost     every message that is not in the take, by name, and why
events   beginning, markers, cameras that came later, end

A row is kept until the file has it, so a chunk that a full disk swallowed costs no row.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from streamer.config import SyncConfig
from streamer.takes import sets
from streamer.takes.framing import Message
from streamer.takes.tables import EVENTS, LOST, SETS, TIMING, TOPICS, UNKNOWN, Column, encode_table
from streamer.types import Frame, MeshFrame

SETTLE_NS = 10**9
"""A set is entered when its newest member was recorded this long ago: nobody waits longer for a camera."""
MAX_PENDING = 20_000
"""Frames that may wait for their set when times do not advance."""
MAX_REASONS = 50_000
"""Losses that wait for their set."""
MISSING = "missing"

Item = TypeVar("Item")


class Name(NamedTuple):
    """Which message: the name that the ledger gives it."""

    topic: str
    """`frame/<camera>`, `mesh`, ..."""
    frame_id: int = UNKNOWN
    """Rig frame id."""
    sequence: int = UNKNOWN
    """Number that its publisher gave it."""
    time_ns: int = UNKNOWN
    """Exposure time, ns."""


class Loss(NamedTuple):
    """Messages that are not in the take: one with a name, or several of which only the number is known."""

    name: Name
    """Which."""
    reason: str
    """Why."""
    number: int = 1
    """How many."""


class Event(NamedTuple):
    """Something that happened."""

    time_ns: int
    """When, ns."""
    frame_id: int
    """Newest rig frame id then, -1 if there was none."""
    kind: str
    """`begin`, `marker`, `cameras`, `stopped`, `recovered`."""
    text: str
    """What."""


class Timing(NamedTuple):
    """One frame or mesh on its way."""

    topic: str
    """`frame/<camera>`, `mesh`, `truth`."""
    frame_id: int
    """Rig frame id."""
    time_ns: int
    """Exposure time, ns."""
    counter: int
    """Of the camera; -1 for meshes."""
    sequence: int
    """Of the node; -1 for meshes."""
    receive_time_ns: int
    """The picture was in the memory of its host, ns; -1 for meshes."""
    publish_time_ns: int
    """Hand-over to the bus, ns; 0: made offline."""
    log_time_ns: int
    """The recorder had it, ns."""


@dataclass(frozen=True, slots=True)
class SetRow:
    """One set of the ledger."""

    frame_id: int
    """Rig frame id."""
    times: Mapping[str, int]
    """Camera to exposure time, ns."""
    absent: Mapping[str, str]
    """Camera to why it is not in the set."""


def name_of(topic: str, message: Message) -> Name:
    """Return what a message is called in the ledger."""
    if isinstance(message, Frame):
        return Name(topic, message.frame_id, message.sequence, message.exposure_time_ns)
    if isinstance(message, MeshFrame):
        return Name(topic, message.frame_id, UNKNOWN, message.exposure_time_ns)
    return Name(topic)


def timing_of(topic: str, message: Frame | MeshFrame, log_time_ns: int) -> Timing:
    """Return the row of a message."""
    if isinstance(message, MeshFrame):
        counters = (UNKNOWN, UNKNOWN, UNKNOWN)
    else:
        counters = (message.counter, message.sequence, message.receive_time_ns)
    return Timing(topic, message.frame_id, message.exposure_time_ns, *counters, message.publish_time_ns, log_time_ns)


def encode_timing(rows: Sequence[Timing]) -> list[bytes]:
    """Return the parts of a table of rows."""
    return encode_table(TIMING, _columns(Timing._fields, rows))


def encode_lost(rows: Sequence[Loss]) -> list[bytes]:
    """Return the parts of a table of losses."""
    flat = [(*row.name, row.reason, row.number) for row in rows]
    return encode_table(LOST, _columns((*Name._fields, "reason", "count"), flat))


def encode_events(rows: Sequence[Event]) -> list[bytes]:
    """Return the parts of a table of events."""
    return encode_table(EVENTS, _columns(Event._fields, rows))


def encode_sets(rows: Sequence[SetRow]) -> list[bytes]:
    """Return the parts of a table of sets."""
    cameras = sorted({camera for row in rows for camera in (*row.times, *row.absent)})
    stamps = [sorted(row.times.values()) for row in rows]
    columns: dict[str, Column] = {
        "frame_id": [row.frame_id for row in rows],
        "time_ns": [times[len(times) // 2] for times in stamps],
        "cameras": [len(times) for times in stamps],
        "skew_ns": [times[-1] - times[0] for times in stamps],
        "absent": [" ".join(f"{camera}={why}" for camera, why in sorted(row.absent.items())) for row in rows],
    }
    for camera in cameras:
        columns[f"time_ns.{camera}"] = [row.times.get(camera, UNKNOWN) for row in rows]
    return encode_table(SETS, columns)


def _columns(fields: Sequence[str], rows: Sequence[Sequence[int | str]]) -> dict[str, Column]:
    return {name: [row[number] for row in rows] for number, name in enumerate(fields)}  # type: ignore[misc]


class Chronicle:
    """Collects rows; gives them out once a period. One thread notes and takes; `happened` may come from another."""

    def __init__(self, sync: SyncConfig, period_s: float) -> None:
        """Begin empty.

        Args:
            sync: how frames become sets.
            period_s: time between two entries in the file.
        """
        self._sync, self._period_ns = sync, round(period_s * 1e9)
        self._timing: list[Timing] = []
        self._lost: deque[Loss] = deque()
        self._events: deque[Event] = deque()
        self._sets: list[SetRow] = []
        self._pending: list[Timing] = []
        self._given: dict[str, list[Any]] = {}
        self._reasons: dict[tuple[str, int], str] = {}
        self._entered_ns = -1
        self.cameras: tuple[str, ...] = ()
        """Cameras of the rig: who is absent from a set."""
        self.drops: dict[str, dict[str, int]] = {}
        """Topic to reason to number: all that was lost."""
        self.frame_id = UNKNOWN
        """Newest rig frame id."""
        self.log_time_ns = 0
        """When the last message was recorded, ns."""

    def note(self, topic: str, message: Message, log_time_ns: int) -> None:
        """Enter a message that goes into the take."""
        self.log_time_ns = max(self.log_time_ns, log_time_ns)
        if not isinstance(message, Frame | MeshFrame):
            return
        row = timing_of(topic, message, log_time_ns)
        self._timing.append(row)
        if isinstance(message, Frame):
            self.frame_id = max(self.frame_id, message.frame_id)
            self._pending.append(row)

    def lose(self, loss: Loss) -> None:
        """Enter messages that are not in the take."""
        name = loss.name
        reasons = self.drops.setdefault(name.topic, {})
        reasons[loss.reason] = reasons.get(loss.reason, 0) + loss.number
        if name.frame_id >= 0:
            if len(self._reasons) >= MAX_REASONS:
                self._reasons.clear()
            self._reasons[name.topic, name.frame_id] = loss.reason
        self._lost.append(loss)

    def happened(self, kind: str, text: str = "", time_ns: int | None = None, frame_id: int | None = None) -> None:
        """Enter an event; now, in the time of the recording, unless a time is given."""
        when = self.log_time_ns if time_ns is None else time_ns
        self._events.append(Event(when, self.frame_id if frame_id is None else frame_id, kind, text))

    def withdraw(self, lost: Iterable[Name], reason: str) -> None:
        """Messages that were noted did not reach the file after all."""
        for name in lost:
            for rows in (self._timing, self._pending):
                for number in range(len(rows) - 1, -1, -1):
                    row = rows[number]
                    if (row.topic, row.frame_id, row.time_ns) == (name.topic, name.frame_id, name.time_ns):
                        name = name._replace(sequence=row.sequence)
                        del rows[number]
                        break
            self.lose(Loss(name, reason))

    def restore(self, topics: Iterable[str]) -> None:
        """Tables that were given last did not reach the file: their rows are due again."""
        for topic in topics:
            rows = self._given.pop(topic, [])
            stores: dict[str, Any] = {
                TIMING: self._timing,
                LOST: self._lost,
                EVENTS: self._events,
                SETS: self._sets,
            }
            later = list(stores[topic])
            stores[topic].clear()
            stores[topic].extend([*rows, *later])

    def due(self, log_time_ns: int) -> bool:
        """Whether it is time to enter what was collected, and begin the period."""
        if self._entered_ns < 0:
            self._entered_ns = log_time_ns
        late = log_time_ns - self._entered_ns >= self._period_ns
        return late or len(self._pending) >= MAX_PENDING

    def take(self, *, everything: bool = False) -> list[tuple[str, list[bytes]]]:
        """Return topic and parts of the tables that are due.

        Args:
            everything: also sets that cameras may still join: at the end.
        """
        self._entered_ns = self.log_time_ns
        self._sets += self._settled(everything)
        timing, self._timing = self._timing, []
        rows, self._sets = self._sets, []
        lost, events = _drain(self._lost), _drain(self._events)
        self._given = {SETS: list(rows), TIMING: list(timing), LOST: list(lost), EVENTS: list(events)}
        tables = {
            SETS: encode_sets(rows) if rows else [],
            TIMING: encode_timing(timing) if timing else [],
            LOST: encode_lost(lost) if lost else [],
            EVENTS: encode_events(events) if events else [],
        }
        return [(topic, tables[topic]) for topic in TOPICS if tables[topic]]

    def _settled(self, everything: bool) -> list[SetRow]:
        """Match what waits, and return the sets that nobody can join any more."""
        if not self._pending:
            return []
        everything = everything or len(self._pending) >= MAX_PENDING
        by_camera: dict[str, list[Timing]] = {}
        for row in self._pending:
            by_camera.setdefault(row.topic.partition("/")[2], []).append(row)
        table = {
            camera: np.array([(row.frame_id, row.time_ns) for row in rows], np.int64)
            for camera, rows in by_camera.items()
        }
        cameras = self.cameras or tuple(sorted(table))
        out, kept = [], set[int]()
        for match in sets.match_frames(table, self._sync):
            members = {camera: by_camera[camera][row] for camera, row in match.rows.items()}
            newest_ns = max(row.log_time_ns for row in members.values())
            if not everything and newest_ns > self.log_time_ns - SETTLE_NS:
                kept |= {id(row) for row in members.values()}
                continue
            absent = {
                camera: self._reasons.get((f"frame/{camera}", match.frame_id), MISSING)
                for camera in cameras
                if camera not in members
            }
            out.append(SetRow(match.frame_id, {camera: row.time_ns for camera, row in members.items()}, absent))
        self._pending = [row for row in self._pending if id(row) in kept]  # duplicates are in no set
        return out


def _drain(items: "deque[Item]") -> "list[Item]":
    out = []
    while items:
        out.append(items.popleft())
    return out
