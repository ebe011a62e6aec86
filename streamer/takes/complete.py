"""The ledger of a take that was recovered: completed from what is there, and what is not there is named."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from streamer.takes.chronicle import (
    Event,
    Loss,
    Name,
    Timing,
    encode_events,
    encode_lost,
    encode_sets,
    encode_timing,
    timing_of,
)
from streamer.takes.layout import TakeInfo, read_info, write_info
from streamer.takes.ledger import DAMAGED, Difference, Key, by_topic
from streamer.takes.ledger_file import write_ledger_file
from streamer.takes.reader import Take
from streamer.takes.tables import EVENTS, LOST, SETS, TIMING, UNKNOWN
from streamer.types import Frame, MeshFrame


def complete_ledger(path: Path) -> Counter[str]:
    """Enter into the ledger what the recorder had no time to, and what it had named and damage took.

    Args:
        path: of a take whose files are whole and whose take.json names them.

    Returns:
        Channel to number of messages that the ledger names and that are gone.

    Raises:
        OSError: there is no room for it.
        TakeError: a message cannot be read.
    """
    with Take(path) as take:
        difference, info = take.ledger.compare(), take.info
        last_ns = max((int(entries["log_time"][-1]) for entries in take.topics.values()), default=0)
        rows = _unnamed(take, difference)
        losses = _absent(take, difference)
        told = "; ".join(by_topic(difference.absent)) or "nothing that the ledger names is gone"
        tables = [
            (SETS, encode_sets(difference.unset)),
            (TIMING, encode_timing(rows)),
            (LOST, encode_lost(losses)),
            (EVENTS, encode_events([Event(last_ns, UNKNOWN, "recovered", told)])),
        ]
        drops = _drops(info, take.ledger.losses())
    file = write_ledger_file(path, tables, last_ns)
    write_info(path, replace(read_info(path), files=(*info.files, file), drops=drops, ledger=True))
    return Counter(loss.name.topic.partition("/")[0] for loss in losses)


def _unnamed(take: Take, difference: Difference) -> list[Timing]:
    left: Counter[Key] = Counter(difference.unnamed)
    rows = []
    for topic in sorted({topic for topic, _, _ in left}):
        entries = take.topics[topic]
        for number in range(len(entries) - 1, -1, -1):  # of equal ones the last: the ledger ends before the content
            entry = entries[number]
            key = (topic, int(entry["frame_id"]), int(entry["time"]))
            if left[key] <= 0:
                continue
            left[key] -= 1
            message = take.read(entry)
            if isinstance(message, Frame | MeshFrame):
                rows.append(timing_of(topic, message, int(entry["log_time"])))
    return sorted(rows, key=lambda row: row.log_time_ns)


def _absent(take: Take, difference: Difference) -> list[Loss]:
    if not difference.absent:
        return []
    table = take.ledger.timing
    columns = [table[name].tolist() for name in ("topic", "frame_id", "time_ns")]
    numbers = dict(zip(zip(*columns, strict=True), table["sequence"].tolist(), strict=True))
    return [
        Loss(Name(topic, frame_id, numbers.get((topic, frame_id, time_ns), UNKNOWN), time_ns), DAMAGED)
        for topic, frame_id, time_ns in difference.absent
    ]


def _drops(info: TakeInfo, losses: list[Loss]) -> Mapping[str, Mapping[str, int]]:
    """Join the losses that take.json counts and those that the ledger names: after a crash only the ledger has them."""
    found: dict[str, Counter[str]] = {}
    for loss in losses:
        if loss.reason != DAMAGED:
            found.setdefault(loss.name.topic, Counter())[loss.reason] += loss.number
    for topic, reasons in info.drops.items():
        found[topic] = found.get(topic, Counter()) | Counter(reasons)
    return {topic: dict(reasons) for topic, reasons in sorted(found.items())}
