"""What the viewer tells about the running system, and the sliding windows behind it. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Connection = Literal["waiting", "live", "stale", "take"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles over a sliding window."""

    newest: float
    """Last value."""
    p50: float
    """Median."""
    p95: float
    """95th percentile."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything the screen says in words and numbers."""

    source: str
    """Where the data come from: `bus` or the name of a take."""
    connection: Connection
    """`waiting` for a first mesh, `live`, `stale` (no mesh for a second), or `take`."""
    silent_s: float
    """Since the last mesh arrived, s."""
    frame_id: int | None
    """Of the mesh on screen."""
    timecode: str
    """Of the pictures on screen, empty if they carry none."""
    mesh_rate: float
    """Meshes per second that arrived."""
    screen_rate: float
    """Pictures per second drawn here."""
    exposure_to_mesh_ms: Spread | None
    """Exposure of the set to publication of its mesh."""
    mesh_to_screen_ms: Spread | None
    """Publication of a mesh to the end of its drawing; None for takes."""
    trace_ms: tuple[tuple[float, float], ...]
    """(age in s, exposure to mesh in ms) of recent meshes, oldest first."""
    skew_us: float | None
    """Spread of exposure times within the set on screen, us."""
    views: int
    """Cameras whose pictures made the mesh."""
    cameras: int
    """Cameras of the rig."""
    sets: Mapping[str, int] = field(default_factory=dict)
    """Frame sets of the inference process by outcome."""
    unused: Mapping[str, int] = field(default_factory=dict)
    """Frames that made no mesh, by reason."""
    dropped: int = 0
    """Pictures that cameras or their links lost."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Messages this viewer could not use, by reason."""
    processes: tuple[tuple[str, str], ...] = ()
    """(process, state); state `silent` when the heartbeat stopped."""
    message: str = ""
    """One line for the operator."""
    take: str = ""
    """Name of the take that is being recorded; empty: none is."""
    recorded_s: float = 0.0
    """For how long it has been, s."""


class Window:
    """Values of the last seconds.

    Args:
        length_s: how far back it reaches.
    """

    def __init__(self, length_s: float) -> None:
        """Start empty."""
        self._length_ns = int(length_s * 1e9)
        self._items: deque[tuple[int, float]] = deque()

    def push(self, time_ns: int, value: float = 0.0) -> None:
        """Add a value; times do not go back."""
        self._items.append((time_ns, value))
        self._expire(time_ns)

    def _expire(self, now_ns: int) -> None:
        while self._items and self._items[0][0] < now_ns - self._length_ns:
            self._items.popleft()

    def rate(self, now_ns: int) -> float:
        """Events per second: intervals over the time they span, and over the silence since when it has grown long."""
        self._expire(now_ns)
        if len(self._items) < 2:
            return 0.0
        intervals = len(self._items) - 1
        span_ns = self._items[-1][0] - self._items[0][0]
        silence_ns = now_ns - self._items[-1][0]
        if silence_ns > 2 * span_ns / intervals:
            span_ns += silence_ns
        return intervals * 1e9 / max(span_ns, 1)

    def spread(self, now_ns: int) -> Spread | None:
        """Quantiles of the values; None if there are none."""
        self._expire(now_ns)
        if not self._items:
            return None
        median, high = np.percentile([value for _, value in self._items], (50, 95))
        return Spread(self._items[-1][1], float(median), float(high))

    def trace(self, now_ns: int) -> tuple[tuple[float, float], ...]:
        """(age in s, value), oldest first."""
        self._expire(now_ns)
        return tuple(((now_ns - time_ns) / 1e9, value) for time_ns, value in self._items)
