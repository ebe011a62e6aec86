"""Sets through the stages of a network, several at a time: what comes in, what is dropped, what comes out.

Bounded everywhere: one item waits, the rest is in the slots of the schedule. In mode `latest` a newer item takes the
place of the one that waits; in mode `every` the source waits. Results leave in the order in which items came. An error
belongs to its item and ends nothing else.

Starting as early as possible would make pictures old: a set that is started long before the busiest stream is free for
it only waits inside. So in mode `latest` starts are spaced by the time that the busiest stream needs (`Pace`).
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from inference.devices import BufferSpec, Device, Space
from inference.devices.cpu import CpuDevice
from inference.schedule import RESULT, Access, Plan, Scheduler, Stage, ends
from streamer.errors import MienError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Mode = Literal["latest", "every"]
Spans = Mapping[str, tuple[int, int]]
"""Stage name to beginning and end, monotonic ns."""

DELIVER = "deliver"
"""Name of the last stage, and of its stream."""
SLOTS = 4
"""Sets in flight: one per stream of the live network that has much to do. The fourth brought 5 to 10 % on two cores."""
FEW = 3
"""Sets in flight of a published network, each of which holds feature maps of hundreds of MB."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When an item went through; monotonic ns."""

    submitted_ns: int
    """It was handed in."""
    eligible_ns: int
    """It could start: there was a slot, and it was not held back any more."""
    spans: Spans
    """Its stages."""
    end_ns: int
    """Its delivery began."""
    wait_ns: int
    """Time lost to hand-overs: no stage of it ran, though the stream of the next one was free."""
    queue_ns: int
    """Time it waited for slots and streams that were busy with items before."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Result]):
    """What became of an item."""

    item: Item
    """The item."""
    result: Result | None
    """What came out; None if it failed."""
    error: Exception | None
    """Why it failed; None if it did not."""
    timing: Timing
    """When it went through."""


def idle_times(
    spans: Spans, streams: Mapping[str, str], free_ns: Mapping[str, int], since_ns: int, end_ns: int
) -> tuple[int, int]:
    """Split the time in which no stage of an item ran into lost time and waiting for others. Pure.

    Args:
        spans: its stages.
        streams: stage name to stream.
        free_ns: stream to when it was done with the items before.
        since_ns: when it could start.
        end_ns: when its delivery began.

    Returns:
        Lost ns, and ns that it waited for busy streams; with the time in which any stage ran they add up to
        end_ns - since_ns.
    """
    lost = queued = 0
    covered_ns = since_ns
    for name, (start, end) in sorted(spans.items(), key=lambda span: span[1]):
        if start > covered_ns:
            busy = min(max(free_ns.get(streams[name], 0) - covered_ns, 0), start - covered_ns)
            queued += busy
            lost += start - covered_ns - busy
        covered_ns = max(covered_ns, end)
    return lost + max(0, end_ns - covered_ns), queued


class Pace:
    """Says when to start the next item: not before the busiest stream can be free for it. Pure: times are arguments.

    Args:
        early: share of the busiest stream's time after which the next item starts; below 1, since a stream that waits
            costs throughput, and an item that waits only costs its own age.
    """

    def __init__(self, early: float = 0.95) -> None:
        """Know nothing yet."""
        self._early = early
        self._busy_ns: dict[str, float] = {}

    def observe(self, spans: Spans, streams: Mapping[str, str]) -> None:
        """Learn from an item that is through.

        Args:
            spans: its stages.
            streams: stage name to stream.
        """
        busy: dict[str, int] = {}
        for name, (start, end) in spans.items():
            busy[streams[name]] = busy.get(streams[name], 0) + end - start
        for stream, ns in busy.items():
            before = self._busy_ns.setdefault(stream, ns)
            self._busy_ns[stream] = before + 0.2 * (ns - before)

    def start_ns(self, last_start_ns: int) -> int:
        """Return when the next item should start, if the one before started at `last_start_ns`."""
        return last_start_ns + round(self._early * max(self._busy_ns.values(), default=0.0))


@dataclass(slots=True)
class _Flight(Generic[Item]):
    item: Item
    submitted_ns: int
    eligible_ns: int = 0


class Pipeline(Generic[Item, Result]):
    """Runs items through stages. Submit from one thread; `close` it.

    Args:
        stages: stages that make `inference.schedule.RESULT` of `inference.schedule.ITEM`.
        deliver: takes every outcome in order, in a thread of its own. What it raises ends the pipeline and comes out of
            the next `submit` or of `close`.
        mode: `latest` or `every`.
        device: where stages run; the pipeline's from now on. None: the CPU.
        buffers: buffers of a slot.
        spaces: stream name to where its work runs.
        slots: items in flight.
        clock_ns: monotonic ns.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        deliver: Callable[[Outcome[Item, Result]], None],
        *,
        mode: Mode,
        device: Device | None = None,
        buffers: Mapping[str, BufferSpec] | None = None,
        spaces: Mapping[str, Space] | None = None,
        slots: int = SLOTS,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start the streams."""
        self._deliver, self._mode, self._clock_ns = deliver, mode, clock_ns
        self._streams = {stage.name: stage.stream for stage in stages}
        self._pace = Pace()
        self._free_ns: dict[str, int] = {}
        self._changed = threading.Condition()
        self._inbox: deque[_Flight[Item]] = deque()
        self._closing = False
        self._fault: BaseException | None = None
        plan = Plan((*stages, delivery(stages, self._hand_out)), buffers or {}, spaces or {})
        self._scheduler = Scheduler(plan, device or CpuDevice(), slots)
        self._thread = threading.Thread(target=self._feed, name="pipeline feed", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Item | None:
        """Hand in an item.

        Returns:
            In mode `latest` the item whose place it took, which was not started and never will be; else None.

        Raises:
            BaseException: what `deliver` raised.
            RuntimeError: the pipeline is closed.
        """
        with self._changed:
            if self._mode == "every":
                self._changed.wait_for(lambda: not self._inbox or self._fault or self._closing)
            self._raise_fault()
            if self._closing:
                raise RuntimeError("the pipeline is closed")
            superseded = self._inbox.popleft().item if self._inbox else None
            self._inbox.append(_Flight(item, self._clock_ns()))
            self._changed.notify_all()
            return superseded

    def close(self, *, drain: bool) -> list[Item]:
        """Finish what was started, and with `drain` also what waits; end the threads.

        Returns:
            Items that were not started.

        Raises:
            BaseException: what `deliver` raised, once.
        """
        with self._changed:
            left = [] if drain and self._fault is None else [flight.item for flight in self._inbox]
            if left:
                self._inbox.clear()
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._scheduler.close()
        self._raise_fault()
        return left

    def _raise_fault(self) -> None:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            self._closing = True
            raise fault

    def _fail(self, fault: BaseException) -> None:
        with self._changed:
            self._fault = self._fault or fault
            self._closing = True
            self._inbox.clear()
            self._changed.notify_all()

    def _feed(self) -> None:
        """Give items to the schedule, each as soon as it has a slot and its time has come."""
        last_start_ns: int | None = None
        try:
            while True:
                slot = self._scheduler.acquire()
                flight = self._take(self._clock_ns(), last_start_ns)
                if flight is None:
                    return
                last_start_ns = self._clock_ns()
                self._scheduler.start(slot, flight.item, flight)
        except BaseException as fault:  # noqa: BLE001 - carried over to the thread that owns the pipeline
            self._fail(fault)

    def _take(self, slot_ns: int, last_start_ns: int | None) -> _Flight[Item] | None:
        """Wait until an item should start; None at the end.

        Args:
            slot_ns: since when there is a slot.
            last_start_ns: when the item before was started; None: there was none.
        """
        hold = self._mode == "latest" and last_start_ns is not None
        with self._changed:
            while True:
                if self._closing and not self._inbox:
                    return None
                timeout_s = None
                if self._inbox:
                    start_ns = self._pace.start_ns(last_start_ns) if hold and last_start_ns is not None else 0
                    early_ns = start_ns - self._clock_ns()
                    if early_ns <= 0 or self._closing:
                        flight = self._inbox.popleft()
                        flight.eligible_ns = max(flight.submitted_ns, slot_ns, start_ns if early_ns <= 0 else 0)
                        self._changed.notify_all()
                        return flight
                    timeout_s = early_ns / 1e9
                self._changed.wait(timeout_s)

    def _hand_out(self, access: Access) -> None:
        """The last stage: make the outcome and deliver it."""
        slot, end_ns = access.slot, self._clock_ns()
        flight: _Flight[Item] = slot.ticket
        spans = slot.spans_ns()
        lost, queued = idle_times(spans, self._streams, self._free_ns, flight.eligible_ns, end_ns)
        queued += flight.eligible_ns - flight.submitted_ns
        for name, (_, end) in spans.items():
            self._free_ns[self._streams[name]] = max(end, self._free_ns.get(self._streams[name], 0))
        timing = Timing(flight.submitted_ns, flight.eligible_ns, spans, end_ns, lost, queued)
        error = slot.error
        if self._fault is not None:
            return
        if error is not None and not isinstance(error, Exception):
            self._fail(error)
            return
        if error is None:
            with self._changed:
                self._pace.observe(spans, self._streams)
        elif not isinstance(error, MienError):
            log.error("a set failed by a defect", exc_info=error)
        try:
            self._deliver(Outcome(flight.item, None if error else access[RESULT], error, timing))
        except BaseException as fault:  # noqa: BLE001 - carried over to the thread that owns the pipeline
            self._fail(fault)


def delivery(stages: Sequence[Stage], hand_out: Callable[[Access], Any]) -> Stage:
    """Return the last stage of a pipeline with these stages."""
    return Stage(DELIVER, DELIVER, hand_out, reads=(RESULT,), after=ends(stages), always=True)
