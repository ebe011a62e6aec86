"""What every long-running process shares: a stop that signals set, and a heartbeat."""

import _thread
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Self

from streamer.heap import give_back
from streamer.transport import Publisher
from streamer.types import Health

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop(threading.Event):
    """An event that SIGINT or SIGTERM sets while it is entered; a second signal acts as it would without.

    Enter it in the main thread (only there can signals be caught); elsewhere it is a plain event.
    """

    def __init__(self) -> None:
        """Start unset."""
        super().__init__()
        self._before: dict[signal.Signals, Any] = {}
        self.signal: signal.Signals | None = None
        """What stopped the process, None if it was not a signal."""

    def __enter__(self) -> Self:
        """Catch the signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._caught) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Put the signal handlers back that were there before."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _caught(self, number: int, _: FrameType | None) -> None:
        self._restore()
        self.signal = signal.Signals(number)
        # Event.set takes a lock that the interrupted code may hold (Event.wait holds it for a moment), and would wait
        # for itself here. A thread of its own waits for the interrupted code instead.
        _thread.start_new_thread(self.set, ())


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process says about itself; fields as in `Health`."""

    state: str = "running"
    """`starting`, `running`, `degraded`, `stopping`."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Monotonic counts."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    """Momentary values."""
    message: str = ""
    """One line for the operator."""


class HealthBeat:
    """Publishes `Health` each second from a thread of its own, at once when entered and once more when left.

    The same thread keeps the process small: once a minute it gives free memory back to the system.

    Each beat has a counter `life`, the same in all beats of one life of the process and greater in a later one.

    Args:
        publisher: the process's publisher.
        process: name of the process.
        vitals: called for each beat, in the beat's thread; at the last one the state is made `stopping`.
        period_s: time between beats.
        tidy_s: time between gifts of free memory to the system, see `streamer.heap`.
    """

    def __init__(
        self,
        publisher: Publisher,
        process: str,
        vitals: Callable[[], Vitals] = Vitals,
        *,
        period_s: float = 1.0,
        tidy_s: float = 60.0,
    ) -> None:
        """Prepare; nothing is sent before it is entered."""
        self._publisher = publisher
        self._process = process
        self._vitals = vitals
        self._period_s, self._tidy_s = period_s, tidy_s
        self._life = time.monotonic_ns() // 1_000_000
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"health of {process}", daemon=True)

    def __enter__(self) -> Self:
        """Begin to beat."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send the last beat, with the final counters, and end the thread."""
        self.close()

    def close(self) -> None:
        """Send the last beat, with the final counters, and end the thread."""
        if not self._done.is_set():
            self._done.set()
            self._thread.join()
            self._beat("stopping")

    def _run(self) -> None:
        self._beat()
        tidied_s = time.monotonic()
        while not self._done.wait(self._period_s):
            self._beat()
            if time.monotonic() - tidied_s >= self._tidy_s:
                give_back()
                tidied_s = time.monotonic()

    def _beat(self, state: str = "") -> None:
        now = self._vitals()
        counters, gauges = {"life": self._life, **now.counters}, dict(now.gauges)
        health = Health(self._process, time.time_ns(), state or now.state, counters, gauges, now.message)
        self._publisher.send("health", health)
