"""Which instant a person wants to see, typed line by line: to and fro in time while `mien fit play` shows it."""

import os
import re
import select
from collections.abc import Iterator

WAIT_S = 0.2
HELP = "Enter or + next, - back, +5 or -5 so many, 12 that frame, q ends"
_MOVE = re.compile(r"([+-]?)(\d*)")


def moved(text: str, at: int, count: int) -> int | None:
    """Return the frame that a line asks for, within 0 .. count - 1; None: no such wish, nothing moves.

    Args:
        text: without its end of line.
        at: the frame now.
        count: frames there are.
    """
    found = _MOVE.fullmatch(text.strip())
    if found is None:
        return None
    sign, digits = found.groups()
    far = int(digits or 1)
    wanted = far if not sign and digits else at + (-far if sign == "-" else far)
    return min(max(wanted, 0), count - 1)


def frames_by_hand(descriptor: int, count: int, wait_s: float = WAIT_S) -> Iterator[int | None]:
    """Yield frames as they are asked for, the first at once; None from time to time while nothing is typed.

    It ends with `q`, or when the input does.

    Args:
        descriptor: open for reading: a terminal, a pipe.
        count: frames there are.
        wait_s: seconds between two None.
    """
    at, rest = 0, b""
    yield at
    while True:
        if b"\n" not in rest:
            if not select.select([descriptor], [], [], wait_s)[0]:
                yield None
                continue
            data = os.read(descriptor, 4096)
            if not data:
                return
            rest += data
            continue
        line, _, rest = rest.partition(b"\n")
        text = line.decode("utf-8", "replace").strip()
        if text == "q":
            return
        wanted = moved(text, at, count)
        if wanted is not None:
            at = wanted
            yield at
