"""The schedule: which stage runs on which stream, what it reads and writes, and what it must wait for.

A `Plan` says it once for all sets; the `Scheduler` gives the work of every set to the streams of a device. Several sets
are in flight, each in a slot of its own, so stages of one set run beside stages of the next. All order comes from three
rules, and nothing else orders anything:

- a stream runs its stages in the order of the sets and, within a set, in the order of the plan;
- a stage waits for the stages of the same set that it names in `after`;
- a slot is taken again only once the last stage of its set is done.

A stage sees the values that it declares and no others, so the declarations are true; the race detector in
tests/inference/race_detector.py holds them against the waits, with this very scheduler.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.devices import BufferSpec, Device, Event, Space, Stream
from inference.devices.cpu import Inline

ITEM = "item"
"""Value of a slot that `Scheduler.start` sets: what the set is made of."""
PICTURES = "pictures"
"""Value from which a network's stages start: pictures and mask."""
WHEN = "when"
"""Value beside `PICTURES`: when they were exposed, ns."""
RESULT = "result"
"""Value that a network's stages leave."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step from item to result."""

    name: str
    """Its name; no other stage has it."""
    stream: str
    """Name of the stream that it runs on."""
    work: Callable[["Access"], None]
    """What it does."""
    reads: tuple[str, ...] = ()
    """Values of the slot that it reads."""
    writes: tuple[str, ...] = ()
    """Values of the slot that it sets or writes into."""
    after: tuple[str, ...] = ()
    """Stages on other streams, earlier in the plan, that must be done for the same set."""
    always: bool = False
    """Runs even if an earlier stage of the set failed."""
    capture: bool = False
    """Issues the same to the same addresses for every set in a slot: a device with graphs may capture and replay it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All stages in an order in which they could run one after the other; the last one needs all others."""

    stages: tuple[Stage, ...]
    """The stages."""
    buffers: Mapping[str, BufferSpec] = field(default_factory=dict)
    """Value name to the buffer that every slot holds under it."""
    spaces: Mapping[str, Space] = field(default_factory=dict)
    """Stream name to where its work runs; a stream that is not named runs host work."""

    def __post_init__(self) -> None:
        """Check the plan.

        Raises:
            ValueError: a stage stands in it twice, waits for what comes later or on its own stream, reads what nothing
                wrote, or is one that the last stage does not wait for, directly or not.
        """
        streams: dict[str, str] = {}
        known = {ITEM, *self.buffers}
        needed: dict[str, set[str]] = {}
        latest: dict[str, str] = {}
        for stage in self.stages:
            if stage.name in streams:
                raise ValueError(f"stage '{stage.name}' stands in the plan twice")
            for other in stage.after:
                if streams.get(other, stage.stream) == stage.stream:
                    raise ValueError(f"stage '{stage.name}' cannot wait for '{other}': not an earlier one elsewhere")
            if unknown := set(stage.reads) - known:
                raise ValueError(f"stage '{stage.name}' reads {sorted(unknown)}, which no earlier stage writes")
            before = {*stage.after, *([latest[stage.stream]] if stage.stream in latest else [])}
            needed[stage.name] = before.union(*(needed[name] for name in before))
            streams[stage.name] = stage.stream
            latest[stage.stream] = stage.name
            known |= set(stage.writes)
        if not self.stages:
            raise ValueError("a plan needs a stage")
        last = self.stages[-1].name
        if left := streams.keys() - needed[last] - {last}:
            raise ValueError(f"the last stage '{last}' does not wait for {sorted(left)}: slots would be reused early")


@dataclass(slots=True)
class Slot:
    """What belongs to one set in flight."""

    index: int
    """Its number."""
    events: dict[str, Event]
    """Stage name to the event of its end."""
    values: dict[str, Any]
    """Value name to value."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Of the error: stages on several streams may fail at once."""
    error: BaseException | None = None
    """What the first stage that failed raised."""
    ticket: Any = None
    """What the starter of the set wants to find again in the last stage."""
    stamps: dict[str, tuple[Callable[[], int], Callable[[], int]]] = field(default_factory=dict)
    """Stage name to the stamps of its beginning and end."""
    kept: frozenset[str] = frozenset()
    """Values that stay from set to set: the buffers."""

    def forget(self) -> None:
        """Let go of what belongs to the set: pictures may be views of shared memory."""
        self.values = {name: self.values[name] for name in self.kept}
        self.ticket = None

    def spans_ns(self) -> dict[str, tuple[int, int]]:
        """Return stage name to beginning and end, monotonic ns; in the last stage of the set."""
        return {name: (start(), end()) for name, (start, end) in self.stamps.items()}


class Access:
    """The values of a slot as one stage may see them.

    Args:
        slot: the slot.
        stage: the stage.
        stream: the stream that it runs on.
    """

    __slots__ = ("_allowed", "_slot", "_stage", "stream")

    def __init__(self, slot: Slot, stage: Stage, stream: Stream) -> None:
        """Allow what the stage declares."""
        self._slot, self._stage, self.stream = slot, stage, stream
        self._allowed = frozenset((*stage.reads, *stage.writes))

    def __getitem__(self, name: str) -> Any:
        """Return a value.

        Raises:
            KeyError: the stage does not declare it.
        """
        if name not in self._allowed:
            raise KeyError(f"stage '{self._stage.name}' does not declare that it reads '{name}'")
        return self._slot.values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a value.

        Raises:
            KeyError: the stage does not declare that it writes it.
        """
        if name not in self._stage.writes:
            raise KeyError(f"stage '{self._stage.name}' does not declare that it writes '{name}'")
        self._slot.values[name] = value

    @property
    def slot(self) -> Slot:
        """The slot itself, for the last stage: error and spans."""
        return self._slot


def run_stage(stage: Stage, slot: Slot, stream: Stream) -> None:
    """Run a stage for the set in a slot; what it raises is kept in the slot."""
    if slot.error is not None and not stage.always:
        return
    start = stream.stamp()
    access = Access(slot, stage, stream)
    try:
        if stage.capture:
            stream.replay((slot.index, stage.name), lambda: stage.work(access))
        else:
            stage.work(access)
    except BaseException as error:  # noqa: BLE001 - handed to whoever takes the result
        with slot.lock:
            slot.error = slot.error or error
    slot.stamps[stage.name] = (start, stream.stamp())


class Scheduler:
    """Gives the work of sets to the streams of a device. Used by one host thread.

    Args:
        plan: the stages.
        device: where they run; the scheduler's from now on, and closed with it.
        slots: sets in flight.
    """

    def __init__(self, plan: Plan, device: Device, slots: int) -> None:
        """Make streams, events and buffers."""
        self._plan, self._device = plan, device
        try:
            names = dict.fromkeys(stage.stream for stage in plan.stages)
            self._streams = {name: device.stream(name, plan.spaces.get(name, "host")) for name in names}
            self._slots = [
                Slot(
                    index,
                    {stage.name: device.event() for stage in plan.stages},
                    {name: device.buffer(spec) for name, spec in plan.buffers.items()},
                    kept=frozenset(plan.buffers),
                )
                for index in range(slots)
            ]
        except BaseException:
            device.close()
            raise
        self._next = 0
        last = plan.stages[-1].name
        awaited = {name for stage in plan.stages for name in stage.after} | {last}
        self._recorded = [stage.name in awaited for stage in plan.stages]
        self._last = last

    def acquire(self) -> Slot:
        """Wait until the next slot is free, and return it: the last stage of the set that was in it is done."""
        slot = self._slots[self._next]
        slot.events[self._last].synchronize()
        return slot

    def start(self, slot: Slot, item: Any, ticket: Any = None) -> None:
        """Give a set to the streams.

        Args:
            slot: from `acquire`.
            item: what the set is made of.
            ticket: what the last stage finds in `Slot.ticket`.
        """
        self._next = (slot.index + 1) % len(self._slots)
        slot.error = None
        slot.stamps = {}
        slot.ticket = ticket
        slot.values[ITEM] = item
        for stage, recorded in zip(self._plan.stages, self._recorded, strict=True):
            stream = self._streams[stage.stream]
            for name in stage.after:
                stream.wait(slot.events[name])
            stream.enqueue(Run(stage, slot, stream, stage.name == self._last))
            if recorded:
                stream.record(slot.events[stage.name])

    def close(self) -> None:
        """Wait for everything that was started, and close the device."""
        for slot in self._slots:
            slot.events[self._last].synchronize()
        self._device.close()


@dataclass(frozen=True, slots=True)
class Run:
    """The work of one stage for one set, as a stream takes it; the race detector reads its fields."""

    stage: Stage
    """The stage."""
    slot: Slot
    """The slot of the set."""
    stream: Stream
    """The stream that runs it."""
    last: bool
    """Whether it is the last stage of the plan: afterwards nothing of the set is kept."""

    def __call__(self) -> None:
        """Run the stage."""
        run_stage(self.stage, self.slot, self.stream)
        if self.last:
            self.slot.forget()


def ends(stages: Sequence[Stage]) -> tuple[str, ...]:
    """Return the stages that nothing comes after: what a last stage has to wait for."""
    awaited = {name for stage in stages for name in stage.after}
    last = {stage.stream: stage.name for stage in stages}
    return tuple(stage.name for stage in stages if last[stage.stream] == stage.name and stage.name not in awaited)


def run_in_order(stages: Sequence[Stage], values: Mapping[str, Any]) -> Slot:
    """Run stages that need no buffers one after the other in the calling thread, for one set.

    Args:
        stages: the stages.
        values: what they start from.

    Returns:
        The slot, with what they left.

    Raises:
        BaseException: what the first stage that failed raised.
    """
    slot = Slot(0, {}, dict(values))
    stream = Inline()
    for stage in stages:
        run_stage(stage, slot, stream)
    if slot.error is not None:
        raise slot.error
    return slot
