"""The log file of a supervised process: what it said, between lines of the supervisor that say when and why it ran."""

import re
import time
from pathlib import Path

LARGEST_BYTES = 8_000_000
"""A log beyond this is set aside (`.1`) when its process is started again: two such files per process at most."""
TAIL_BYTES = 65_536
"""How far back a tail looks; a line longer than this is cut."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
MARK = "===="
"""Lines of the supervisor begin with this."""


def prepare(log: Path) -> None:
    """Set a log aside that has grown too large."""
    if log.exists() and log.stat().st_size > LARGEST_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def note(log: Path, text: str, now_s: float) -> None:
    """Write a line of the supervisor.

    Args:
        log: the file.
        text: one line.
        now_s: CLOCK_REALTIME, s.
    """
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{MARK} {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now_s))} {text}\n")


def tail(log: Path, count: int) -> list[str]:
    """Return the last lines of a log that say something, oldest first, without terminal colours.

    Args:
        log: the file; one that does not exist says nothing.
        count: at most so many lines.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = [_COLOURS.sub("", line).rstrip() for line in text.splitlines()]
    return [line for line in lines if line.strip()][-count:]


def last_words(log: Path) -> str:
    """Return the last line of a log that its process wrote, `nothing` if there is none."""
    words = [line.strip() for line in tail(log, 200) if not line.startswith(MARK)]
    return words[-1] if words else "nothing"
