"""How the stream does, for clients and for the health of the process: rate, age, and whether heads come. No clock."""

from collections import deque

PERIOD_S = 1.0
"""Time between two reports to clients."""
SILENCE_S = 1.0
"""So long without a head, and the stream counts as waiting."""
WINDOW_S = 2.0
"""Over how long rates are measured."""
OLDEST_NS = 60_000_000_000
"""An age beyond this is that of another clock, and not told."""


class Pulse:
    """Counts heads. All times are arguments."""

    def __init__(self) -> None:
        """Have seen no head."""
        self._beats_s: deque[float] = deque()
        self._last_s: float | None = None
        self._age_ns = -1
        self._told_s: float | None = None

    def beat(self, now_s: float, age_ns: int) -> None:
        """Note a head, and its age from capture to now by the clocks of both."""
        self._beats_s.append(now_s)
        self._last_s, self._age_ns = now_s, age_ns
        while now_s - self._beats_s[0] > WINDOW_S:
            self._beats_s.popleft()

    def due(self, now_s: float) -> bool:
        """Return whether it is time for a report to clients, once per period."""
        if self._told_s is not None and now_s - self._told_s < PERIOD_S:
            return False
        self._told_s = now_s
        return True

    def report(self, now_s: float) -> tuple[str, dict[str, float], str]:
        """Return the state, numbers by name, and a line for people if something is missing."""
        count = sum(now_s - beat_s <= WINDOW_S for beat_s in list(self._beats_s))  # a copy: two threads ask
        silent_s = None if self._last_s is None else now_s - self._last_s
        numbers: dict[str, float] = {"meshes_per_s": round(count / WINDOW_S, 1)}
        if silent_s is None:
            return "waiting", numbers, "no head has come yet; is inference running?"
        if silent_s > SILENCE_S:
            return "waiting", numbers, f"no head came for {silent_s:.0f} s"
        if 0 <= self._age_ns < OLDEST_NS:
            numbers["age_ms"] = round(self._age_ns / 1e6, 1)
        return "live", numbers, ""
