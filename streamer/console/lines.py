"""Events and alarms as lines of text, for an operator without a screen."""

import re
import time
from collections.abc import Callable, Iterable

from streamer.console.state import Alarm, ConsoleState
from streamer.restarts import Event

AGAIN_S = 60.0
"""An alarm is told again only when it comes back after so long."""
_NUMBERS = re.compile(r"[\d.]+")


class Lines:
    """Tells each event once, and each alarm when it rises.

    Args:
        say: takes a line.
        quiet: tell nothing as long as this is true: a screen shows it. What happens meanwhile is not told later.
    """

    def __init__(self, say: Callable[[str], None], *, quiet: bool = False) -> None:
        """Have told nothing."""
        self._say, self.quiet = say, quiet
        self._state: ConsoleState | None = None
        self._told: frozenset[Event] = frozenset()
        self._risen: dict[tuple[str, ...], float] = {}

    def look(self, state: ConsoleState, events: Iterable[Event]) -> None:
        """Tell what is new; call it often.

        Args:
            state: the latest; nothing is done while it is the one of the last call.
            events: those that are kept, the latest last.
        """
        if state is self._state:
            return
        self._state = state
        kept = tuple(events)
        new = [event for event in kept if event not in self._told]
        self._told = frozenset(kept)
        if self.quiet:
            return
        for event in new:
            self._say(as_line(event))
        for alarm in state.alarms:
            self._tell(alarm, state)

    def _tell(self, alarm: Alarm, state: ConsoleState) -> None:
        kind = (alarm.level, alarm.what, _NUMBERS.sub("#", alarm.cause))
        last_s = self._risen.get(kind)
        self._risen[kind] = state.up_s
        if last_s is None or state.up_s - last_s > AGAIN_S:
            self._say(f"{_clock(state.time_ns)} {alarm.level}: {alarm.what}: {alarm.cause}; {alarm.remedy}")


def as_line(event: Event) -> str:
    """Return an event as one line that begins with the time of day."""
    words = (_clock(event.time_ns), event.process, event.what)
    return " ".join(word for word in words if word) + (f": {event.why}" if event.why else "")


def _clock(time_ns: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time_ns / 1e9))
