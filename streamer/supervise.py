"""Runs the processes of one machine: order, readiness, restarts with back-off, a clean stop, no orphans.

Each process is `python -m mien ...` in a process group of its own, so that Ctrl-C reaches the supervisor alone and
the stop has an order. Its output goes to one log file. A process that fails before it was ever ready has a wrong
configuration or a port that is taken: that is an error at once. One that fails later, or gives no more sign of life, is
started again; the others never notice but by what it no longer sends.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from streamer.children import Child
from streamer.errors import ProcessError
from streamer.leash import Leash
from streamer.process_logs import last_words, note, prepare
from streamer.restarts import Event, ProcessSpec, ProcessState, RestartPolicy

MIEN = (sys.executable, "-m", "mien")
HELD_UP_S = 1.0
"""A supervisor that was itself away for so long (frozen, a busy machine) judges nobody's silence from before."""
EVENTS_KEPT = 200


class StopFlag(Protocol):
    """What `threading.Event` and the `Stop` of `streamer.processes` have in common."""

    def is_set(self) -> bool:
        """Return whether to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds; return whether to stop."""


class Supervisor:
    """Starts, watches and stops a set of processes. Use as a context manager, from one thread.

    Args:
        specs: the processes, sinks first: they are stopped in reverse order, so that sources end before sinks.
        logs: folder for one log file per process and `events.jsonl`, made if absent.
        working_s: gives the monotonic time at which a process was last heard at work, s, 0 if it was not.
        heard_s: the same for any sign of life; None: as `working_s`.
        command: what starts a process; tests put another program here.
        policy: when to start again.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        logs: Path,
        working_s: Callable[[str], float] = lambda _name: 0.0,
        heard_s: Callable[[str], float] | None = None,
        command: Sequence[str] = MIEN,
        policy: RestartPolicy | None = None,
    ) -> None:
        """Prepare; nothing runs yet."""
        logs.mkdir(parents=True, exist_ok=True)
        self._children = {spec.name: Child(spec, logs / f"{spec.name}.log") for spec in specs}
        self._working_s, self._heard_s = working_s, heard_s or working_s
        self._journal = logs / "events.jsonl"
        self._looked_s = self._awake_s = time.monotonic()
        self._wishes: deque[str] = deque()
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        """What happened, the latest last."""
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

    def has(self, name: str) -> bool:
        """Return whether a process of this name is one of its own."""
        return name in self._children

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._children[name].log

    def pid(self, name: str) -> int | None:
        """Return the process id, or None while it does not run."""
        process = self._children[name].process
        return None if process is None or process.poll() is not None else process.pid

    def states(self) -> tuple[ProcessState, ...]:
        """Return how every process does, in the order of the start."""
        now_s = time.monotonic()
        return tuple(self._state(child, now_s) for child in self._children.values())

    def _state(self, child: Child, now_s: float) -> ProcessState:
        pid = self.pid(child.spec.name)
        if child.process is None and not child.done:
            state = "pause" if child.life else "waiting"
        elif child.done:
            state = "done" if pid is None else "stopping"
        else:
            state = "stopping" if child.asked else "ready" if child.ready else "starting"
        up_s = now_s - child.started_s if pid is not None else 0.0
        left_s = max(0.0, child.retry_at_s - now_s) if state == "pause" else 0.0
        return ProcessState(child.spec.name, state, pid, len(child.failures_s), up_s, left_s, child.why)

    def restart(self, name: str) -> None:
        """Ask, from any thread, that a process is started again: the next poll sees to it."""
        self._wishes.append(name)

    def _begin_again(self, child: Child, now_s: float) -> None:
        if child.asked and child.process is not None:
            return  # it is ending already
        self._tell(child, "asked", "somebody asked for a restart")
        child.why, child.retry_at_s = "", now_s
        if child.process is None or child.done:
            child.process, child.ready, child.done = None, False, False
        else:
            self._ask_to_end(child, child.process, now_s)

    def _ask_to_end(self, child: Child, process: "subprocess.Popen[bytes]", now_s: float) -> None:
        """Send SIGTERM, once: a second one would kill a recorder in the middle of closing its take."""
        if not child.asked:
            child.asked, child.kill_at_s = True, now_s + child.spec.stop_timeout_s
            process.send_signal(signal.SIGTERM)

    def poll(self) -> None:
        """Look at every process once: start what may start, notice what is ready or has ended. Does not block.

        Raises:
            ProcessError: a process failed or took too long before it was ever ready, or keeps failing.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s > HELD_UP_S:
            self._awake_s = now_s
        self._looked_s = now_s
        while self._wishes:
            self._begin_again(self._children[self._wishes.popleft()], now_s)
        for child in self._children.values():
            if child.done:
                continue
            code = None if child.process is None else child.process.poll()
            if code is not None:
                self._ended(child, code, now_s)
            if child.process is None:
                if now_s >= child.retry_at_s and all(self._settled(name) for name in child.spec.after):
                    self._start(child, now_s)
            elif code is not None:
                continue
            elif child.kill_at_s is not None and now_s > child.kill_at_s:
                child.process.kill()
            elif not child.ready:
                self._await_ready(child, now_s)
            else:
                self._await_sign(child, now_s)

    def _await_ready(self, child: Child, now_s: float) -> None:
        child.ready = not child.spec.beats or self._working_s(child.spec.name) > child.started_s
        if child.ready:
            child.ready_s = now_s
            self._tell(child, "ready", f"after {now_s - child.started_s:.1f} s")
        elif child.kill_at_s is None and now_s > max(child.started_s, self._awake_s) + child.spec.start_timeout_s:
            why = f"was not ready after {child.spec.start_timeout_s:g} s"
            if not child.ready_s:
                words = f"its last words: {last_words(child.log)} (log: {child.log})"
                raise ProcessError(f"{child.spec.name} {why}; {words}")
            self._kill(child, now_s, why)

    def _await_sign(self, child: Child, now_s: float) -> None:
        limit_s = child.spec.silence_s
        heard_s = max(child.ready_s, self._awake_s, self._heard_s(child.spec.name))
        if limit_s and child.kill_at_s is None and now_s - heard_s > limit_s:
            self._kill(child, now_s, f"gave no sign of life for {limit_s:g} s")

    def _kill(self, child: Child, now_s: float, why: str) -> None:
        """End a process that cannot be talked to; `poll` then sees it ended."""
        self._tell(child, "frozen", why)
        child.why, child.kill_at_s = why, now_s
        if child.process is not None:
            child.process.kill()

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
        """Stop one process for good: SIGTERM if it was not told to end before, SIGKILL when its grace is over.

        Returns:
            Its exit code; None if it never ran.

        A process that ended by SIGKILL gives -9: what it had not written is lost, and callers should say so.
        """
        child = self._children[name]
        child.done = True
        if child.process is None:
            return None
        if child.process.poll() is None:
            now_s = time.monotonic()
            self._ask_to_end(child, child.process, now_s)
            try:
                child.process.wait(max(0.0, (child.kill_at_s or now_s) - now_s))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        return child.process.returncode

    def close(self) -> None:
        """Stop all processes that still run, the last one first, and let the leash go. May be called again."""
        for name in self.stop_order:
            self.stop(name)
        self._leash.close()

    def note(self, line: str) -> None:
        """Put a line of somebody else's among the events."""
        self._keep(Event(time.time_ns(), "", line))

    def _keep(self, event: Event) -> None:
        self.events.append(event)
        with suppress(OSError), self._journal.open("a", encoding="utf-8") as file:  # a full disk must not end the run
            file.write(json.dumps(asdict(event)) + "\n")

    def _tell(self, child: Child, what: str, why: str = "") -> None:
        event = Event(time.time_ns(), child.spec.name, what, why)
        with suppress(OSError):
            note(child.log, f"{child.spec.name} {what}{f' ({why})' if why else ''}", event.time_ns / 1e9)
        self._keep(event)

    def _settled(self, name: str) -> bool:
        return self._children[name].ready or self._children[name].done

    def _start(self, child: Child, now_s: float) -> None:
        child.life += 1
        again = "" if child.life == 1 else f"_{child.life}"
        arguments = child.spec.arguments if child.life == 1 or child.spec.later is None else child.spec.later
        prepare(child.log)
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                [*self._command, *(text.replace("{again}", again) for text in arguments)],
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
        child.started_s, child.kill_at_s = now_s, None
        child.ready = child.asked = False
        self._tell(child, "started", f"life {child.life}, process {child.process.pid}")

    def _ended(self, child: Child, code: int, now_s: float) -> None:
        if child.obeyed(code):
            child.process, child.ready = None, False
            return
        if code == 0 and not child.spec.endless:
            child.done = True
            self._tell(child, "ended", "its work is done")
            return
        how = child.how(code, now_s)
        words = f"{child.spec.name} {how}: {last_words(child.log)} (log: {child.log})"
        if child.never_began(code, now_s):
            raise ProcessError(words)
        child.failures_s.append(now_s)
        delay_s = self._policy.delay_s(child.failures_s, now_s)
        if delay_s is None:
            raise ProcessError(f"{words}; it keeps failing, so it is not started again")
        child.why = f"{how}: {last_words(child.log)}"
        self._tell(child, "failed", f"{how}; it is started again {f'in {delay_s:g} s' if delay_s else 'at once'}")
        child.process, child.ready, child.retry_at_s = None, False, now_s + delay_s
