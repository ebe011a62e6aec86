"""Puts the state of a run together, from the thread that supervises it; others read `state`."""

import time
from collections import deque
from dataclasses import replace

from streamer.board import HealthBoard
from streamer.config import RecordConfig
from streamer.console import compose
from streamer.console.alarms import JUMP_S, find
from streamer.console.lines import as_line
from streamer.console.metrics import for_the_bus
from streamer.console.recorder_link import RecorderLink
from streamer.console.state import ConsoleState
from streamer.console.usage import Usage
from streamer.processes import Vitals
from streamer.supervise import Supervisor

PERIOD_S = 0.5
JUMP_KEPT_S = 60.0
"""How long a jump of the clock is told."""
EVENTS = 50


class Watch:
    """Looks twice a second.

    Args:
        supervisor: of the processes.
        board: hears them.
        record: where takes go.
        link: to the recorder; None: there is none here.
    """

    def __init__(
        self, supervisor: Supervisor, board: HealthBoard, record: RecordConfig, link: RecorderLink | None
    ) -> None:
        """Have seen nothing."""
        self._supervisor, self._board, self._record, self._link = supervisor, board, record, link
        self._begun_s = time.monotonic()
        self._next_s = 0.0
        self._recent = compose.Recent()
        self._usage = Usage()
        self._offsets: deque[tuple[float, float]] = deque()
        self._recorder_failures = 0
        self._told = ""
        self._offset_s = time.time() - self._begun_s
        self.state = ConsoleState(time.time_ns(), 0.0)
        """The latest; replaced, never changed."""

    def look(self) -> None:
        """Look, if it is time to. Call it often."""
        now_s = time.monotonic()
        failures = self._supervisor.restarts.get("record", 0)
        if self._link is not None and failures > self._recorder_failures:
            self._link.rescue()
        self._recorder_failures = failures
        if self._link is not None and self._link.told != self._told:
            self._told = self._link.told
            self._supervisor.note(self._told)
        self._mind_the_clock(now_s)
        if now_s >= self._next_s:
            self._next_s = now_s + PERIOD_S
            self.state = self._compose(now_s)

    def _mind_the_clock(self, now_s: float) -> None:
        """Start the cameras again when the clock was set back: within a life of theirs ids of frames never go back."""
        before, self._offset_s = self._offset_s, time.time() - now_s
        if self._offset_s < before - JUMP_S and self._supervisor.has("node"):
            self._supervisor.restart("node")

    def vitals(self) -> Vitals:
        """What the supervisor says on the bus: the state as numbers, the worst alarm as its line."""
        state = self.state
        counters, gauges = for_the_bus(state)
        counters |= {f"restarts.{name}": count for name, count in self._supervisor.restarts.items()}
        alarm = state.alarms[0] if state.alarms else None
        message = f"{alarm.what}: {alarm.cause}; {alarm.remedy}" if alarm else ""
        return Vitals("degraded" if alarm and alarm.level == "alarm" else "running", counters, gauges, message)

    def _compose(self, now_s: float) -> ConsoleState:
        heard = {
            name: compose.Heard(lives[-1], now_s - self._board.heard_s(name))
            for name, lives in self._board.lives.items()
            if lives
        }
        lately = {name: self._recent.lately(name, each, now_s) for name, each in heard.items()}
        nodes = {name: each for name, each in heard.items() if name.partition("@")[0] == "node"}
        still_s: dict[str, float] = {}
        for name, each in nodes.items():
            still_s |= self._recent.still_s(name, each, now_s)
        states = self._supervisor.states()
        usage = {each.name: self._usage.look(each.pid) for each in states}
        link = self._link
        status = link.status if link else None
        self._recent.growth.add(status["take"] if status else "", now_s, link.take_bytes if link else 0)
        state = ConsoleState(
            time_ns=time.time_ns(),
            up_s=now_s - self._begun_s,
            ready=self._supervisor.ready,
            processes=compose.process_views(states, heard, usage),
            cameras=compose.camera_views([(each, lately[name]) for name, each in nodes.items()], still_s),
            flow=compose.flow_view(heard.get("infer"), lately.get("infer", {})),
            take=compose.take_view(
                status,
                self._recent.growth.mb_per_s,
                self._record.min_free_gb,
                now_s - link.answered_s if link else None,
            ),
            fits=link.fits if link else {},
            events=self.events(),
        )
        return replace(state, alarms=find(state, jump_s=self._jump_s(now_s)))

    def events(self) -> tuple[str, ...]:
        """Return what happened of late, one line each, in the order in which it did."""
        return tuple(as_line(event) for event in list(self._supervisor.events)[-EVENTS:])

    def _jump_s(self, now_s: float) -> float:
        """By how much CLOCK_REALTIME went another way than the monotonic clock of late."""
        self._offsets.append((now_s, time.time() - now_s))
        while self._offsets[0][0] < now_s - JUMP_KEPT_S:
            self._offsets.popleft()
        return self._offsets[-1][1] - self._offsets[0][1]
