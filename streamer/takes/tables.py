"""Tables of a take's own book-keeping as the parts of a message: columns of integers and of words. Pure.

    0   topic and a zero byte, as all messages have it
    1   JSON: {"rows": R, "columns": [name, ...], "words": {name: [word, ...]}}
    2   one column behind the other, R little-endian i64 each; of a column in `words` they are indices into its words

Integers that are not known are -1.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import WireError
from streamer.takes.framing import Buffer

SETS, TIMING, LOST, EVENTS = "sets", "timing", "lost", "events"
TOPICS = (SETS, TIMING, LOST, EVENTS)
"""Topics of the ledger; none of them is a channel of the bus."""
SCHEMA_NAME = "mien.Table"
UNKNOWN = -1
MAX_ROWS = 1 << 24

Column = NDArray[np.int64] | Sequence[int] | Sequence[str]
Columns = dict[str, NDArray[Any]]
"""Name to (R,) int64, or (R,) words."""


def encode_table(topic: str, columns: Mapping[str, Column]) -> list[bytes]:
    """Return the parts of a table.

    Args:
        topic: one of `TOPICS`.
        columns: name to values, all of one length; a column whose first value is text is one of words.
    """
    words: dict[str, list[str]] = {}
    numbers: list[NDArray[np.int64]] = []
    for name, values in columns.items():
        if len(values) and isinstance(values[0], str):
            known = {str(word): number for number, word in enumerate(dict.fromkeys(values))}
            words[name] = list(known)
            numbers.append(np.array([known[str(word)] for word in values], np.int64))
        else:
            numbers.append(np.asarray(values, np.int64))
    rows = len(numbers[0]) if numbers else 0
    head = {"rows": rows, "columns": list(columns), "words": words}
    body = np.concatenate([np.empty(0, np.int64), *numbers]).astype("<i8").tobytes()
    return [topic.encode() + b"\0", json.dumps(head, separators=(",", ":")).encode(), body]


def decode_table(parts: Sequence[Buffer]) -> tuple[str, Columns]:
    """Return topic and columns.

    Raises:
        WireError: no sound table.
    """
    topic = bytes(parts[0][:-1]).decode("ascii", "replace") if parts else ""
    if topic not in TOPICS or len(parts) != 3:
        raise WireError(f"{topic!r} is no table of a take: topics are {', '.join(TOPICS)}, parts are 3")
    try:
        head = json.loads(bytes(parts[1]))
        rows, names, words = head["rows"], head["columns"], head["words"]
        sound = type(rows) is int and 0 <= rows <= MAX_ROWS and all(type(name) is str for name in names)
        if not sound or len({*names}) != len(names) or len(parts[2]) != 8 * rows * len(names):
            raise ValueError(f"{rows} rows of {len(names)} columns in {len(parts[2])} bytes")
        body = np.frombuffer(parts[2], "<i8").reshape(len(names), rows)
        columns: Columns = {name: body[number].astype(np.int64) for number, name in enumerate(names)}
        for name, known in words.items():
            if columns[name].size and not 0 <= columns[name].min() <= columns[name].max() < len(known):
                raise ValueError(f"column {name} points beyond its words")
            columns[name] = np.array([str(word) for word in known], np.str_)[columns[name]]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise WireError(f"a damaged table {topic}: {error}") from error
    return topic, columns


def join(tables: Sequence[Columns], names: Sequence[str], words: frozenset[str]) -> Columns:
    """Put tables one behind the other.

    Args:
        tables: some of them may lack columns; those are -1, or an empty word.
        names: columns that are there even if no table has them; others follow in order of appearance.
        words: which of them hold words.

    Returns:
        Name to (R,).
    """
    every = list(dict.fromkeys([*names, *(name for table in tables for name in table)]))
    out: Columns = {}
    for name in every:
        kind = np.str_ if name in words else np.int64
        parts = [np.empty(0, kind)]
        for table in tables:
            rows = len(next(iter(table.values()), ()))
            missing = np.full(rows, "") if name in words else np.full(rows, UNKNOWN, np.int64)
            parts.append(table.get(name, missing))
        out[name] = np.concatenate(parts)
    return out
