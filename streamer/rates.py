"""How often something may be asked for. Pure: time is an argument."""


class Allowance:
    """So many at once, and so many per second after that.

    Args:
        per_s: what is allowed for ever.
        burst: what is allowed at once, after a pause.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        """Allow a whole burst."""
        self._per_s, self._burst = per_s, float(burst)
        self._left, self._at_s = float(burst), 0.0

    def take(self, now_s: float) -> bool:
        """Return whether one more is allowed now, and count it if it is.

        Args:
            now_s: of a clock that does not go back, s.
        """
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
