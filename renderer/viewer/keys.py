"""Every key of the window, as one table: help, screen and documents are made from it. Pure."""

from dataclasses import dataclass
from typing import Literal

Group = Literal["View", "Head", "Pictures", "Time", "Files"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key, or keys that belong together."""

    names: tuple[str, ...]
    """As `Look.press`, the time line or the window know them."""
    shown: str
    """As it stands on the screen."""
    does: str
    """What it does, in a few words."""
    group: Group
    """Where it stands in the help."""


KEYS: tuple[Key, ...] = (
    Key((), "drag", "orbit; with the right button pan; wheel zoom", "View"),
    Key((), "middle click", "focus on that point of the head", "View"),
    Key(("1", "2", "3"), "1 2 3", "free view, one camera, all cameras", "View"),
    Key(("c", "v"), "C V", "next, previous camera", "View"),
    Key(("z",), "Z", "perspective or orthographic", "View"),
    Key(("r",), "R", "frame the head", "View"),
    Key(("t",), "T", "turntable: round, to and fro, none", "View"),
    Key(("f",), "F", "cameras in space: with pictures, outlines, none", "View"),
    Key(("h",), "H", "figures", "View"),
    Key(("?",), "?", "this help", "View"),
    Key(("m", "n"), "M N", "next, previous material", "Head"),
    Key(("x",), "X", "edges of the mesh", "Head"),
    Key(("e",), "E", "eyes", "Head"),
    Key(("s",), "S", "raw scan: beside the head, alone, none", "Head"),
    Key(("k",), "K", "onion skin: the last meshes", "Head"),
    Key(("g",), "G", "second layer: ghost, none", "Head"),
    Key(("b",), "B", "A or B: the other layer is the head", "Head"),
    Key(("o",), "O", "mesh over pictures: solid, wire, silhouette, difference, off", "Pictures"),
    Key(("[", "]"), "[ ]", "opacity of the mesh over pictures", "Pictures"),
    Key(("space",), "Space", "hold; in a take: pause and play", "Time"),
    Key(("left", "right"), "← →", "one mesh back, on", "Time"),
    Key(("home", "end"), "Home End", "first, last mesh", "Time"),
    Key(("i", "u"), "I U", "loop begins, ends here", "Time"),
    Key(("l",), "L", "loop on or off", "Time"),
    Key(("-", "="), "- =", "slower, faster", "Time"),
    Key((), "drag the bar", "scrub", "Time"),
    Key(("p",), "P", "screenshot into view.captures", "Files"),
    Key(("w",), "W", "record the screen into view.captures, and stop", "Files"),
    Key(("escape",), "Esc", "close", "Files"),
)
"""In reading order."""

HINT = "? keys   ·   1 2 3 views   ·   M material   ·   O overlay   ·   F cameras   ·   Space hold"
"""Line at the foot of the window."""


def help_lines() -> str:
    """The table for `mien view --help`."""
    width = max(len(key.shown) for key in KEYS)
    return "\n".join(f"  {key.shown:<{width}}  {key.does}" for key in KEYS)


def groups() -> dict[Group, list[Key]]:
    """Keys by group, in order."""
    found: dict[Group, list[Key]] = {}
    for key in KEYS:
        found.setdefault(key.group, []).append(key)
    return found
