"""One supervised process from its first start on: what is known of it, and what its end means."""

import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from streamer.restarts import ProcessSpec

PROVEN_S = 15.0
"""A process without heartbeats that fails so soon in its first life cannot start: nobody else would say so."""


@dataclass(slots=True)
class Child:
    """A process of a supervisor. Times are monotonic, s; 0: never."""

    spec: ProcessSpec
    """What was asked for."""
    log: Path
    """Where it writes."""
    process: subprocess.Popen[bytes] | None = None
    """Its present life."""
    started_s: float = 0.0
    """When that began."""
    ready_s: float = 0.0
    """When it was last found ready, also in an earlier life."""
    life: int = 0
    """How often it was started."""
    ready: bool = False
    """Whether this life is."""
    done: bool = False
    """Whether it is to run no more."""
    asked: bool = False
    """Whether this life was told to end."""
    why: str = ""
    """What ended its last life."""
    kill_at_s: float | None = None
    """When to kill it."""
    retry_at_s: float = 0.0
    """When to start it again."""
    failures_s: list[float] = field(default_factory=list)
    """When it failed."""

    def obeyed(self, code: int) -> bool:
        """Return whether it was told to end and did so as it should; before it is at work it may know no SIGTERM."""
        excused = not self.ready or (code == -signal.SIGTERM and not self.spec.beats)
        return self.asked and (code == 0 or excused)

    def never_began(self, code: int, now_s: float) -> bool:
        """Return whether it was never ready, going by an end that nobody asked for.

        One without heartbeats counts as ready at once: it is its early end that tells, unless somebody killed it.
        """
        early = self.life == 1 and now_s - self.started_s < PROVEN_S and not self.spec.beats
        by_itself = not self.asked and code not in (0, -signal.SIGKILL, -signal.SIGTERM)
        return not self.ready_s or (early and by_itself)

    def how(self, code: int, now_s: float) -> str:
        """Return what is said of its end."""
        late = self.kill_at_s is not None and now_s >= self.kill_at_s
        if self.asked and late and code == -signal.SIGKILL:
            return f"did not end in {self.spec.stop_timeout_s:g} s when told to, and was killed"
        if self.kill_at_s is not None and not self.asked:
            return self.why
        told = "was told to end and " if self.asked else ""
        if code < 0:
            return f"{told}was killed by {signal.Signals(-code).name}"
        return f"{told}ended with exit code {code}" if code else "ended though nobody here asked it to"
