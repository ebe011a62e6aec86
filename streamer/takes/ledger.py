"""The ledger of a take as tables, and how it compares with what is in the take."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamer.takes import sets
from streamer.takes.chronicle import Event, Loss, Name, SetRow, Timing
from streamer.takes.stored import TIMED
from streamer.takes.tables import EVENTS, LOST, SETS, TIMING, UNKNOWN, Columns, join

if TYPE_CHECKING:
    from streamer.takes.reader import Take

DAMAGED = "damaged"
"""Why a message is not in a take that was recovered: it had been there."""
WORDS = frozenset({"topic", "reason", "kind", "text", "absent"})
FIXED: Mapping[str, tuple[str, ...]] = {
    SETS: ("frame_id", "time_ns", "cameras", "skew_ns", "absent"),
    TIMING: Timing._fields,
    LOST: (*Name._fields, "reason", "count"),
    EVENTS: Event._fields,
}
"""Columns that each table has at least."""
NAMED_AT_MOST = 5
"""Messages that one line names."""

Key = tuple[str, int, int]
"""Topic, rig frame id, exposure time in ns."""


def by_topic(keys: Iterable[Key]) -> list[str]:
    """Return a line for each topic that names frame ids: `frame/cam_3: frame ids 12, 13`."""
    ids: dict[str, list[int]] = {}
    for topic, frame_id, _ in sorted(keys):
        ids.setdefault(topic, []).append(frame_id)
    lines = []
    for topic, found in ids.items():
        more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
        lines.append(f"{topic}: frame id {', '.join(map(str, found[:NAMED_AT_MOST]))}{more}")
    return lines


def by_loss(losses: Iterable[Loss]) -> list[str]:
    """Return a line for each topic and reason that names what was lost: `frame/cam_3 queue-full: 12-14, 20`."""
    numbers: dict[tuple[str, str], list[int]] = {}
    nameless: Counter[tuple[str, str]] = Counter()
    for name, reason, number in losses:
        if name.frame_id >= 0:
            numbers.setdefault((name.topic, reason), []).append(name.frame_id)
        else:
            nameless[name.topic, reason] += number
    lines = []
    for place in sorted({*numbers, *nameless}):
        words = _ranges(sorted(numbers.get(place, ())))
        words += [f"{nameless[place]} without a frame id"] if nameless[place] else []
        lines.append(f"{place[0]} {place[1]}: {', '.join(words)}")
    return lines


def _ranges(numbers: Sequence[int]) -> list[str]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number <= runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]


@dataclass(frozen=True, slots=True)
class Difference:
    """What ledger and content do not agree in."""

    absent: tuple[Key, ...] = ()
    """Messages that the ledger names and that are not there."""
    unnamed: tuple[Key, ...] = ()
    """Messages that are there and that the ledger does not name."""
    unset: tuple[SetRow, ...] = ()
    """Frame sets of the content that the ledger does not have, or not with all of their frames."""
    drops: tuple[str, ...] = ()
    """Losses that the ledger counts otherwise than take.json, a line each."""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.absent or self.unnamed or self.unset or self.drops)

    def lines(self) -> list[str]:
        """Return what to say of it, besides what is absent."""
        return [
            *(f"{line}: it is here and the ledger does not name it" for line in by_topic(self.unnamed)),
            *([f"the ledger lacks {len(self.unset)} frame sets"] if self.unset else []),
            *self.drops,
        ]


class Ledger:
    """What the recorder wrote down, as columns: `pandas.DataFrame(take.ledger.timing)`, `pyarrow.table(...)`.

    Takes made before schema 3 have none: every table is empty.
    """

    def __init__(self, take: "Take") -> None:
        """Read nothing yet."""
        self._take = take

    @cached_property
    def sets(self) -> Columns:
        """One row per frame set, rising in frame id.

        `frame_id`, `time_ns` (median), `cameras` (how many), `skew_ns`; `absent`: cameras that are not in it and why,
        `cam_3=queue-full cam_5=missing`; for each camera `time_ns.<camera>`, -1 where it is absent.
        """
        return _merged(self._read(SETS))

    @cached_property
    def timing(self) -> Columns:
        """One row per frame and mesh, the fields of `streamer.takes.chronicle.Timing`, in order of recording."""
        return self._read(TIMING)

    @cached_property
    def lost(self) -> Columns:
        """One row per message that is not in the take.

        `topic`, `frame_id`, `sequence`, `time_ns` (-1: not known), `reason`, `count` (of those without a name).
        """
        return self._read(LOST)

    @cached_property
    def events(self) -> Columns:
        """What happened: `time_ns`, `frame_id`, `kind` (`begin`, `marker`, `cameras`, `end`, `recovered`), `text`."""
        return self._read(EVENTS)

    def losses(self) -> list[Loss]:
        """Return the rows of `lost`."""
        return losses_of(self.lost)

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Return channel to `p50` and `p95` of the time from exposure to recording, ms; live messages only."""
        table = self.timing
        delays = (table["log_time_ns"] - table["time_ns"]) / 1e6
        live = table["publish_time_ns"] > 0
        channels = np.array([topic.partition("/")[0] for topic in table["topic"].tolist()], np.str_)
        found: dict[str, dict[str, float]] = {}
        for channel in np.unique(channels[live]).tolist():
            p50, p95 = np.percentile(delays[live & (channels == channel)], (50, 95))
            found[channel] = {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}
        return found

    def compare(self) -> Difference:
        """Compare the ledger with what the take holds; no picture is read.

        Raises:
            TakeError: a table is damaged.
        """
        here = {topic: self._take.keys(topic) for topic in self._take.topics if topic.partition("/")[0] in TIMED}
        losses = self.losses()
        absent, unnamed = compare_names(self.timing, losses, here)
        drops = _uneven(losses, self._take.info.drops, exact=self._take.info.state == "closed")
        return Difference(tuple(absent), tuple(unnamed), self._unset(), drops)

    def _unset(self) -> tuple[SetRow, ...]:
        """Return the sets of the content whose frames are in no set of the ledger."""
        table, content = self.sets, self._take.table()
        known = {camera: table.get(f"time_ns.{camera}", np.empty(0, np.int64)) for camera in content}
        lacking = {
            camera: set(keys[~np.isin(keys[:, 1], known[camera]), 1].tolist()) for camera, keys in content.items()
        }
        if not any(lacking.values()):
            return ()
        rows = []
        for match in sets.match_frames(content, self._take.sync):
            times = {camera: int(content[camera][row, 1]) for camera, row in match.rows.items()}
            if any(time in lacking[camera] for camera, time in times.items()):
                absent = {camera: DAMAGED for camera in self._take.calibration.ids if camera not in times}
                rows.append(SetRow(match.frame_id, times, absent))
        return tuple(rows)

    def _read(self, topic: str) -> Columns:
        tables = [self._take.read_table(entry) for entry in self._take.tables.get(topic, ())]
        return whole_table(topic, tables)


def compare_names(
    timing: Columns, losses: Sequence[Loss], here: Mapping[str, NDArray[np.int64]]
) -> tuple[list[Key], list[Key]]:
    """Compare what is named with what is there.

    Args:
        timing: the table.
        losses: what the ledger says is not there.
        here: topic to (M, 2) frame ids and exposure times in ns.

    Returns:
        What is named and is not there, and what is there and is not named.
    """
    absent: list[Key] = []
    unnamed: list[Key] = []
    for topic in sorted({*np.unique(timing["topic"]).tolist(), *here}):
        rows = timing["topic"] == topic
        named = np.stack([timing["frame_id"][rows], timing["time_ns"][rows]], 1)
        found = here.get(topic, np.empty((0, 2), np.int64))
        if _same(named, found):
            continue
        known = Counter((loss.name.frame_id, loss.name.time_ns) for loss in losses if loss.name.topic == topic)
        ours, theirs = Counter(map(tuple, named.tolist())), Counter(map(tuple, found.tolist()))
        absent += [(topic, *key) for key in (ours - theirs - known).elements()]
        unnamed += [(topic, *key) for key in (theirs - ours).elements()]
    return absent, unnamed


def losses_of(table: Columns) -> list[Loss]:
    """Return the rows of a table of losses."""
    columns = [table[name].tolist() for name in (*Name._fields, "reason", "count")]
    return [Loss(Name(*row[:4]), *row[4:]) for row in zip(*columns, strict=True)]


def losses_of_take(take: "Take") -> list[Loss]:
    """Return what a take lost, by name where its ledger has names, and all of it in any case."""
    losses = take.ledger.losses()
    left = {(topic, reason): count for topic, reasons in take.info.drops.items() for reason, count in reasons.items()}
    for loss in losses:
        place = (loss.name.topic, loss.reason)
        left[place] = left.get(place, 0) - loss.number
    return [*losses, *(Loss(Name(topic), reason, count) for (topic, reason), count in left.items() if count > 0)]


def whole_table(topic: str, tables: Sequence[Columns]) -> Columns:
    """Join the tables of one topic, with all columns that it has."""
    return join(tables, FIXED[topic], WORDS)


def _same(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Whether the rows of two (M, 2) arrays are the same in any order."""
    return len(one) == len(other) and bool((_sorted(one) == _sorted(other)).all())


def _sorted(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _uneven(losses: Iterable[Loss], drops: Mapping[str, Mapping[str, int]], *, exact: bool) -> tuple[str, ...]:
    """Compare losses with those that take.json counts; the ledger of a recovered take may lack some."""
    counted: Counter[tuple[str, str]] = Counter()
    for loss in losses:
        if loss.reason != DAMAGED:
            counted[loss.name.topic, loss.reason] += loss.number
    told = {(topic, reason): count for topic, reasons in drops.items() for reason, count in reasons.items()}
    lines = []
    for place in sorted({*counted, *told}):
        ours, theirs = counted[place], told.get(place, 0)
        if ours > theirs or (exact and ours != theirs):
            lines.append(f"{place[0]}: the ledger counts {ours} {place[1]}, take.json {theirs}")
    return tuple(lines)


def _merged(table: Columns) -> Columns:
    """Put rows of one set together: it was entered again when a frame came late, or where files meet."""
    ids = table["frame_id"]
    unique, first, group = np.unique(ids, return_index=True, return_inverse=True)
    order = np.lexsort((np.arange(len(ids)), group))
    starts = np.searchsorted(group[order], np.arange(len(unique)))
    times = [name for name in table if name.startswith("time_ns.")]
    out: Columns = {name: column[first] for name, column in table.items()}
    if not len(unique):
        return out
    for name in times:
        out[name] = np.maximum.reduceat(table[name][order], starts)
    if len(unique) == len(ids):
        return out
    stack = np.stack([out[name] for name in times])
    out["cameras"] = (stack != UNKNOWN).sum(0)
    for row in np.flatnonzero(np.bincount(group) > 1).tolist():
        members = np.sort(stack[:, row][stack[:, row] != UNKNOWN])
        out["time_ns"][row], out["skew_ns"][row] = members[len(members) // 2], members[-1] - members[0]
        words = [word.partition("=") for word in str(out["absent"][row]).split()]
        left = [(camera, why) for camera, _, why in words if out.get(f"time_ns.{camera}", stack[0])[row] == UNKNOWN]
        out["absent"][row] = " ".join(f"{camera}={why}" for camera, why in left)
    return out
