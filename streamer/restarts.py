"""What a supervisor is told about a process, and when a process that failed is started again. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to run."""

    name: str
    """Name in messages, of the log file and of its Health."""
    arguments: tuple[str, ...]
    """What follows `python -m mien`; `{again}` in it becomes nothing at the first start, then `_2`, `_3`."""
    later: tuple[str, ...] | None = None
    """The same for every start but the first; None: as `arguments`."""
    after: tuple[str, ...] = ()
    """Names of processes that must be ready before this one starts."""
    nice: int = 0
    """Added to the niceness of the supervisor: larger gives way to the others."""
    beats: bool = True
    """Whether it publishes Health: it is ready at its first beat at work; otherwise as soon as it runs."""
    endless: bool = False
    """Its work is never done: an end that nobody asked for counts as a failure, also with exit code 0."""
    start_timeout_s: float = 60.0
    """Longest time from start to ready, s."""
    stop_timeout_s: float = 15.0
    """Longest time from SIGTERM to its end, s; then it is killed."""
    silence_s: float = 0.0
    """So long without a heartbeat, once it was ready, and it counts as frozen: killed and started again; 0: never."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a process that failed is started again. Times are arguments."""

    first_s: float = 0.1
    """Delay before the second restart inside the window, s, doubled for each further one; the first is not delayed."""
    longest_s: float = 8.0
    """Upper bound of the delay, s."""
    window_s: float = 60.0
    """Failures older than this are forgotten, s."""
    most: int | None = 5
    """So many failures inside the window end the run; None: none do."""

    def delay_s(self, failures_s: Sequence[float], now_s: float) -> float | None:
        """Return the delay before the next start, or None when it is time to give up.

        Args:
            failures_s: times of all failures so far, the latest included, s.
            now_s: the present on the same clock, s.
        """
        recent = sum(now_s - failure <= self.window_s for failure in failures_s)
        if self.most is not None and recent > self.most:
            return None
        return float(min(self.longest_s, self.first_s * 2 ** min(30, recent - 2))) if recent > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, most often to a process."""

    time_ns: int
    """CLOCK_REALTIME, ns."""
    process: str
    """Its name; empty: `what` is a whole line, of no process."""
    what: str
    """`started`, `ready`, `failed`, `frozen`, `ended`, `asked` (to start again)."""
    why: str = ""
    """One line for people."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process at one moment, for a screen."""

    name: str
    """Its name."""
    state: str
    """`waiting` (for others), `starting`, `ready`, `stopping`, `pause` (before it is started again), `done`."""
    pid: int | None
    """Its id, None while it does not run."""
    restarts: int
    """How often it failed after it had been ready."""
    up_s: float
    """Since its latest start, s."""
    retry_in_s: float = 0.0
    """Until it is started again, s."""
    why: str = ""
    """What ended its last life, one line."""
