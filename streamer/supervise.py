"""Runs the processes of one machine: order, readiness, restarts with back-off, a clean stop, no orphans.

Each process is `python -m mien ...` in a process group of its own, so that Ctrl-C reaches the supervisor alone and
the stop has an order. Its output goes to one log file. A process that fails before it was ever ready has a wrong
configuration or a port that is taken: that is an error at once. One that fails later is started again.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from streamer.errors import ProcessError
from streamer.leash import Leash

MIEN = (sys.executable, "-m", "mien")


class StopFlag(Protocol):
    """What `threading.Event` and the `Stop` of `streamer.processes` have in common."""

    def is_set(self) -> bool:
        """Return whether to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds; return whether to stop."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to run."""

    name: str
    """Name in messages, of the log file and of its Health."""
    arguments: tuple[str, ...]
    """What follows `python -m mien`; `{again}` in it becomes nothing at the first start, then `_2`, `_3`."""
    after: tuple[str, ...] = ()
    """Names of processes that must be ready before this one starts."""
    nice: int = 0
    """Added to the niceness of the supervisor: larger gives way to the others."""
    beats: bool = True
    """Whether it publishes Health: it is ready at its first beat; otherwise as soon as it runs."""
    start_timeout_s: float = 60.0
    """Longest time from start to ready, s."""
    stop_timeout_s: float = 15.0
    """Longest time from SIGTERM to its end, s; then it is killed."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a process that failed is started again. Pure: times are arguments."""

    first_s: float = 0.5
    """Delay before the first restart, s; doubled for each further failure inside the window."""
    longest_s: float = 8.0
    """Upper bound of the delay, s."""
    window_s: float = 60.0
    """Failures older than this are forgotten, s."""
    most: int = 5
    """So many failures inside the window end the run."""

    def delay_s(self, failures_s: Sequence[float], now_s: float) -> float | None:
        """Return the delay before the next start, or None when it is time to give up.

        Args:
            failures_s: times of all failures so far, the latest included, s.
            now_s: the present on the same clock, s.
        """
        recent = sum(now_s - failure <= self.window_s for failure in failures_s)
        if recent > self.most:
            return None
        return float(min(self.longest_s, self.first_s * 2 ** max(0, recent - 1)))


@dataclass(slots=True)
class _Child:
    spec: ProcessSpec
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_ns: int = 0
    deadline_s: float = 0.0
    life: int = 0
    ready: bool = False
    done: bool = False
    retry_at_s: float = 0.0
    failures_s: list[float] = field(default_factory=list)


class Supervisor:
    """Starts, watches and stops a set of processes. Use as a context manager, from one thread.

    Args:
        specs: the processes, sinks first: they are stopped in reverse order, so that sources end before sinks.
        logs: folder for one log file per process, made if absent.
        last_beat_ns: gives the CLOCK_REALTIME of a process's latest Health, ns, 0 if it has not been heard.
        command: what starts a process; tests put another program here.
        policy: when to start again.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        logs: Path,
        last_beat_ns: Callable[[str], int] = lambda _name: 0,
        command: Sequence[str] = MIEN,
        policy: RestartPolicy | None = None,
    ) -> None:
        """Prepare; nothing runs yet."""
        logs.mkdir(parents=True, exist_ok=True)
        self._children = {spec.name: _Child(spec, logs / f"{spec.name}.log") for spec in specs}
        self._last_beat_ns = last_beat_ns
        self._command = tuple(command)
        self._policy = policy or RestartPolicy()
        self._leash = Leash()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.close()

    @property
    def ready(self) -> bool:
        """Whether every process is ready or has done its work."""
        return all(child.ready or child.done for child in self._children.values())

    @property
    def done(self) -> frozenset[str]:
        """Names of processes that have ended by themselves with exit code 0."""
        return frozenset(name for name, child in self._children.items() if child.done)

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often each process failed after it had been ready."""
        return {name: len(child.failures_s) for name, child in self._children.items()}

    @property
    def stop_order(self) -> tuple[str, ...]:
        """Names in the order of the stop: sources before sinks."""
        return tuple(reversed(self._children))

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._children[name].log

    def pid(self, name: str) -> int | None:
        """Return the process id, or None while it does not run."""
        process = self._children[name].process
        return None if process is None or process.poll() is not None else process.pid

    def poll(self) -> None:
        """Look at every process once: start what may start, notice what is ready or has ended. Does not block.

        Raises:
            ProcessError: a process failed before it was ready, took too long, or keeps failing.
        """
        now_s = time.monotonic()
        for child in self._children.values():
            if child.done:
                continue
            if child.process is None:
                if now_s >= child.retry_at_s and all(self._settled(name) for name in child.spec.after):
                    self._start(child, now_s)
                continue
            code = child.process.poll()
            if code is not None:
                self._ended(child, code, now_s)
            elif not child.ready:
                child.ready = not child.spec.beats or self._last_beat_ns(child.spec.name) > child.started_ns
                if not child.ready and now_s > child.deadline_s:
                    raise ProcessError(
                        f"{child.spec.name} was not ready after {child.spec.start_timeout_s:g} s; "
                        f"its last words: {last_words(child.log)} (log: {child.log})"
                    )

    def run(self, stop: StopFlag, tick: Callable[[], bool], period_s: float = 0.05) -> None:
        """Poll until asked to stop or until `tick`, called after each poll, returns True.

        Raises:
            ProcessError: see `poll`.
        """
        while not stop.is_set():
            self.poll()
            if tick():
                return
            stop.wait(period_s)

    def stop(self, name: str) -> int | None:
        """Stop one process for good: SIGTERM, then SIGKILL after its grace.

        Returns:
            Its exit code; None if it never ran.

        A process that ended by SIGKILL gives -9: what it had not written is lost, and callers should say so.
        """
        child = self._children[name]
        child.done = True
        if child.process is None:
            return None
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
            try:
                child.process.wait(child.spec.stop_timeout_s)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        return child.process.returncode

    def close(self) -> None:
        """Stop all processes that still run, the last one first, and let the leash go. May be called again."""
        for name in self.stop_order:
            self.stop(name)
        self._leash.close()

    def _settled(self, name: str) -> bool:
        return self._children[name].ready or self._children[name].done

    def _start(self, child: _Child, now_s: float) -> None:
        child.life += 1
        again = "" if child.life == 1 else f"_{child.life}"
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                [*self._command, *(text.replace("{again}", again) for text in child.spec.arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._leash.environment(os.environ),
                pass_fds=(self._leash.child_fd,),
                process_group=0,
            )
        if child.spec.nice:
            with suppress(ProcessLookupError):  # it may have ended already; poll() will see that
                os.setpriority(os.PRIO_PROCESS, child.process.pid, os.getpriority(os.PRIO_PROCESS, 0) + child.spec.nice)
        child.started_ns = time.time_ns()
        child.deadline_s = now_s + child.spec.start_timeout_s
        child.ready = False

    def _ended(self, child: _Child, code: int, now_s: float) -> None:
        if code == 0:
            child.done = True
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        words = f"{child.spec.name} {how}: {last_words(child.log)} (log: {child.log})"
        if not child.ready and not child.failures_s:
            raise ProcessError(words)
        child.failures_s.append(now_s)
        delay_s = self._policy.delay_s(child.failures_s, now_s)
        if delay_s is None:
            raise ProcessError(f"{words}; it keeps failing, so it is not started again")
        child.process, child.ready, child.retry_at_s = None, False, now_s + delay_s


def last_words(log: Path) -> str:
    """Return the last line of a log that says something, without terminal colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text("utf-8", "replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"
