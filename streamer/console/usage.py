"""What processes take of the machine, from /proc; on systems without it, nothing."""

import os
import time
from pathlib import Path


class Usage:
    """CPU between two looks, and memory now. Not for several threads."""

    def __init__(self) -> None:
        """Have looked at nothing."""
        self._before: dict[int, tuple[float, float]] = {}
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01

    def look(self, pid: int | None) -> tuple[float | None, float | None]:
        """Return CPU since the last look at this process, % of a core, and resident memory, MB; None: not known.

        Args:
            pid: process id; None: it does not run.
        """
        if pid is None:
            return None, None
        try:
            words = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            self._before.pop(pid, None)
            return None, None
        now_s, spent_s = time.monotonic(), (int(words[11]) + int(words[12])) * self._tick_s
        rss_mb = int(words[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        before_s, before = self._before.get(pid, (now_s, spent_s))
        self._before[pid] = now_s, spent_s
        cpu = 100 * (spent_s - before) / (now_s - before_s) if now_s > before_s else None
        return cpu, rss_mb
