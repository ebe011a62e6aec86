"""Gives up smooth edges when drawing eats the machine, and takes them back when there is time. Pure."""

from collections import deque

SMOOTH, FAST = 4, 0
"""Samples of anti-aliasing: software OpenGL pays about twice as much for four as for none."""

_WINDOW_S = 2.0
_TOO_BUSY = 0.75
_IDLE = 0.30
"""Less than half of the other limit, because smooth edges double the cost: the choice must not swing."""


class Governor:
    """Watches which share of the time is spent drawing."""

    def __init__(self) -> None:
        """Start smooth."""
        self.samples = SMOOTH
        self._spent: deque[tuple[float, float]] = deque()
        self._since_s: float | None = None

    def note(self, now_s: float, spent_s: float) -> int:
        """Take in one round of the loop, drawn or not.

        Args:
            now_s: a monotonic clock.
            spent_s: time spent drawing in this round.

        Returns:
            Samples to draw with from now on. They change at most every two seconds.
        """
        if self._since_s is None:
            self._since_s = now_s
        self._spent.append((now_s, spent_s))
        while self._spent[0][0] < now_s - _WINDOW_S:
            self._spent.popleft()
        if now_s - self._since_s < _WINDOW_S:
            return self.samples
        share = sum(spent for _, spent in self._spent) / _WINDOW_S
        wanted = FAST if share > _TOO_BUSY else SMOOTH if share < _IDLE else self.samples
        if wanted != self.samples:
            self.samples, self._since_s = wanted, now_s
            self._spent.clear()
        return self.samples
