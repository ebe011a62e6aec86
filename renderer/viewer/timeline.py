"""Where a take is played: position, pace, loop. Time is an argument. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """What the time line shows."""

    place: float
    """Position, 0..1 of the take."""
    seconds: float
    """Position, s from the first mesh."""
    length_s: float
    """From the first mesh to the last, s."""
    row: int
    """Number of the mesh, from 0."""
    rows: int
    """Number of meshes."""
    loop: tuple[float, float]
    """Begin and end of the loop, 0..1."""
    looping: bool
    """Whether it is played again and again."""
    playing: bool
    """Whether it runs."""
    speed: float
    """Times real time."""
    marks: tuple[tuple[float, str], ...] = ()
    """Place and text of the take's markers."""


class Timeline:
    """Plays a list of moments.

    Args:
        times_ns: of the moments, rising; at least one.
        looping: whether it begins again at the end.
        marks: time in ns and text of each marker.
    """

    def __init__(self, times_ns: Sequence[int], *, looping: bool, marks: Sequence[tuple[int, str]] = ()) -> None:
        """Stand at the beginning, ready to run."""
        times = np.asarray(times_ns, np.int64)
        self._at_s = (times - times[0]) / 1e9
        self._marks = tuple(((time - int(times[0])) / 1e9, text) for time, text in marks)
        self.looping = looping
        self.playing = True
        self.speed = 1.0
        self._loop = (0, len(times) - 1)
        self._position_s = 0.0
        self._then_s: float | None = None

    @property
    def row(self) -> int:
        """The moment that is shown: the last one that is not later than the position."""
        row = max(int(np.searchsorted(self._at_s, self._position_s + 1e-9, "right")) - 1, 0)
        return min(row, self._loop[1]) if self.playing and self.looping else row

    @property
    def ended(self) -> bool:
        """Whether it stands at the end and does not begin again."""
        return not self.looping and self._position_s >= float(self._at_s[self._loop[1]])

    def advance(self, now_s: float) -> int:
        """Move on to this moment of a monotonic clock; returns `row`."""
        elapsed = 0.0 if self._then_s is None else max(now_s - self._then_s, 0.0)
        self._then_s = now_s
        if self.playing:
            first, last = (float(self._at_s[row]) for row in self._loop)
            self._position_s += elapsed * self.speed
            if self._position_s > last + self._hold_s():
                self._position_s = first if self.looping else last
            elif self.looping and self._position_s < first:
                self._position_s = first
            self._position_s = self._position_s if self.looping else min(self._position_s, last)
        return self.row

    def _hold_s(self) -> float:
        """How long the last moment of a loop stays: as long as a moment does on average."""
        return float(self._at_s[-1]) / max(len(self._at_s) - 1, 1)

    def seek(self, place: float) -> None:
        """Go to a place, 0..1 of the take."""
        self._position_s = float(np.clip(place, 0.0, 1.0)) * float(self._at_s[-1])

    def start(self, at_s: float) -> None:
        """Go to a time, s from the first moment."""
        self._position_s = float(np.clip(at_s, 0.0, self._at_s[-1]))

    def set_loop(self, begin: float, end: float) -> None:
        """Play a part again and again, from one place to another, 0..1 of the take."""
        length = float(self._at_s[-1])
        rows = np.searchsorted(self._at_s, [begin * length - 1e-9, end * length + 1e-9], "left")
        first = min(int(rows[0]), len(self._at_s) - 1)
        self._loop = (first, max(int(rows[1]) - 1, first))
        self.looping = True

    def step(self, rows: int) -> None:
        """Go some moments on or back, and stand still."""
        self.playing = False
        self._position_s = float(self._at_s[min(max(self.row + rows, 0), len(self._at_s) - 1)])

    def press(self, key: str) -> bool:
        """Answer a key; returns whether it was one of the time line."""
        match key:
            case "space":
                if self.ended:
                    self._position_s = float(self._at_s[self._loop[0]])
                    self.playing = True
                else:
                    self.playing = not self.playing
            case "left" | "right":
                self.step(1 if key == "right" else -1)
            case "home" | "end":
                self.step(-len(self._at_s) if key == "home" else len(self._at_s))
            case "l":
                self.looping = not self.looping
                if not self.looping:
                    self._loop = (0, len(self._at_s) - 1)
            case "i" | "u":
                first, last = self._loop
                row, looping = self.row, self.looping
                self._loop = (row, max(last, row)) if key == "i" else (min(first, row), row)
                self.looping = True if self._loop[1] > self._loop[0] else looping
            case "-" | "=":
                place = SPEEDS.index(self.speed) + (1 if key == "=" else -1)
                self.speed = SPEEDS[min(max(place, 0), len(SPEEDS) - 1)]
            case _:
                return False
        return True

    def bar(self) -> Bar:
        """Sum up for the screen."""
        length = max(float(self._at_s[-1]), 1e-9)
        return Bar(
            place=min(self._position_s / length, 1.0),
            seconds=float(self._at_s[self.row]),
            length_s=float(self._at_s[-1]),
            row=self.row,
            rows=len(self._at_s),
            loop=(float(self._at_s[self._loop[0]]) / length, float(self._at_s[self._loop[1]]) / length),
            looping=self.looping,
            playing=self.playing and not self.ended,
            speed=self.speed,
            marks=tuple((min(max(at / length, 0.0), 1.0), text) for at, text in self._marks),
        )
