"""A device that runs nothing in parallel and sees every race: vector clocks over reads, writes and waits.

It takes the place of the CPU or a GPU under the production scheduler. Streams are queues; every step executes the head
of a random queue that may go on, so each seed is another legal timing. A clock per stream and one for the host tell
which accesses are ordered by records and waits alone; two accesses to one value of one slot, one of them a write, that
are not ordered are a race, whether or not this timing made it visible.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np

from inference.devices import Buffer, BufferSpec, Space
from inference.schedule import ITEM, Run

HOST = "host"
STATE = "(state of the slot)"
Clock = dict[str, int]


@dataclass
class TracedEvent:
    """An event with the clock of each of its records."""

    device: TracingDevice
    issued: int = 0
    reached: dict[int, Clock] = field(default_factory=dict)

    def synchronize(self) -> None:
        """The host waits: the streams run, in some order, until it is reached."""
        if self.issued and not self.device.without_reuse_wait:
            while self.issued not in self.reached:
                self.device.step()
            self.device.join(HOST, self.reached[self.issued])


@dataclass
class TracedStream:
    """A queue of runs, records and waits, each with the host's clock at the time it was given."""

    device: TracingDevice
    name: str
    handle: int = 0
    queue: deque[tuple[Callable[[], bool], Clock]] = field(default_factory=deque)

    def _put(self, operation: Callable[[], bool]) -> None:
        self.device.tick(HOST)
        self.queue.append((operation, dict(self.device.clocks[HOST])))

    def enqueue(self, work: Callable[[], None]) -> None:
        assert isinstance(work, Run)
        self.device.begin(work)

        def execute() -> bool:
            self.device.access(self.name, work)
            work()
            return True

        self._put(execute)

    def record(self, event: TracedEvent) -> None:
        event.issued += 1
        number = event.issued

        def reach() -> bool:
            event.reached[number] = dict(self.device.clocks[self.name])
            return True

        self._put(reach)

    def wait(self, event: TracedEvent) -> None:
        self.device.waits += 1
        if self.device.waits_per_set and (self.device.waits - 1) % self.device.waits_per_set == self.device.skip:
            return
        number = event.issued

        def block() -> bool:
            if number and number not in event.reached:
                return False
            if number:
                self.device.join(self.name, event.reached[number])
            return True

        self._put(block)

    def stamp(self) -> Callable[[], int]:
        return lambda: 0

    def replay(self, key: Hashable, work: Callable[[], None]) -> None:
        work()

    def upload(self, buffer: Buffer) -> None:
        """Copies are told by the stage's declarations."""

    def download(self, buffer: Buffer) -> None:
        """Copies are told by the stage's declarations."""


class TracingDevice:
    """See the module.

    Args:
        seed: chooses the timing.
        skip: index of a stream wait to leave out of every set; needs `waits_per_set`.
        waits_per_set: how many stream waits a set has.
        without_reuse_wait: the host does not wait for events.
    """

    name = "tracing"

    def __init__(self, seed: int, *, skip: int = -1, waits_per_set: int = 0, without_reuse_wait: bool = False) -> None:
        self._random = random.Random(seed)
        self.skip, self.waits_per_set, self.without_reuse_wait = skip, waits_per_set, without_reuse_wait
        self.waits = 0
        self.clocks: dict[str, Clock] = {HOST: {}}
        self.races: list[str] = []
        self._streams: list[TracedStream] = []
        self._writes: dict[tuple[int, str], tuple[str, int, str]] = {}
        self._reads: dict[tuple[int, str], dict[str, tuple[int, str]]] = {}
        self._set_of_slot: set[tuple[int, int]] = set()

    def stream(self, name: str, space: Space) -> TracedStream:
        self._streams.append(TracedStream(self, name))
        self.clocks[name] = {}
        return self._streams[-1]

    def event(self) -> TracedEvent:
        return TracedEvent(self)

    def buffer(self, spec: BufferSpec) -> Buffer:
        array = np.zeros(spec.shape, spec.dtype)
        return Buffer(array, array)

    def close(self) -> None:
        while any(stream.queue for stream in self._streams):
            self.step()

    def step(self) -> None:
        """Execute one operation of one stream."""
        ready = [stream for stream in self._streams if stream.queue]
        assert ready, "the host waits for an event that nobody will reach"
        self._random.shuffle(ready)
        for stream in ready:
            operation, given = stream.queue[0]
            self.join(stream.name, given)
            if operation():
                stream.queue.popleft()
                self.tick(stream.name)
                return
        raise AssertionError("deadlock: every stream waits")

    def wander(self, steps: int) -> None:
        """Execute up to so many operations, as the streams do while the host is busy elsewhere."""
        for _ in range(self._random.randint(0, steps)):
            if any(stream.queue for stream in self._streams):
                self.step()

    def tick(self, thread: str) -> None:
        clock = self.clocks[thread]
        clock[thread] = clock.get(thread, 0) + 1

    def join(self, thread: str, other: Clock) -> None:
        clock = self.clocks[thread]
        for name, time in other.items():
            clock[name] = max(clock.get(name, 0), time)

    def begin(self, run: Run) -> None:
        """The host has put a new set into the slot: it wrote the item and the state."""
        key = (id(run.slot), id(run.slot.ticket))
        if key not in self._set_of_slot:
            self._set_of_slot.add(key)
            for value in (ITEM, STATE):
                self._access(HOST, run.slot.index, value, "start", write=True)

    def access(self, thread: str, run: Run) -> None:
        """What a stage does: it reads the state and its inputs, writes its outputs; the last one clears the slot."""
        stage, index = run.stage, run.slot.index
        self._access(thread, index, STATE, stage.name, write=False)
        for value in stage.reads:
            self._access(thread, index, value, stage.name, write=False)
        for value in stage.writes:
            self._access(thread, index, value, stage.name, write=True)
        if run.last:
            for slot, value in [key for key in self._writes if key[0] == index]:
                self._access(thread, slot, value, "forget", write=True)

    def _access(self, thread: str, index: int, value: str, who: str, *, write: bool) -> None:
        key, clock = (index, value), self.clocks[thread]
        earlier = [self._writes[key]] if key in self._writes else []
        if write:
            earlier += [(other, time, name) for other, (time, name) in self._reads.get(key, {}).items()]
        for other, time, name in earlier:
            if other != thread and clock.get(other, 0) <= time:
                self.races.append(f"'{value}' of slot {index}: '{name}' on {other} and '{who}' on {thread}")
        now = clock.get(thread, 0)
        if write:
            self._writes[key], self._reads[key] = (thread, now, who), {}
        else:
            self._reads.setdefault(key, {})[thread] = (now, who)
