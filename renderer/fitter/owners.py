"""Who holds a job: a process, told apart from all others, and whether it is still there."""

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from renderer.fitter.jobs import Job


def owner_name() -> str:
    """Return who we are: host, process and when it started, which together never repeat."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def dead_owners(jobs: Iterable[Job]) -> frozenset[str]:
    """Return the owners among these jobs' that are processes of this host and no longer there."""
    dead = set()
    for owner in {job.owner for job in jobs}:
        host, _, rest = owner.partition(":")
        pid, _, started = rest.partition(":")
        if host == socket.gethostname() and pid.isdigit() and _started(int(pid)) != started:
            dead.add(owner)
    return frozenset(dead)


def _started(pid: int) -> str:
    """Return when a process of this host started, in the kernel's ticks; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""
