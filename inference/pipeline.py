"""Two stages, two threads: while the network works on set t, the pictures of set t+1 are prepared.

Bounded everywhere: one item waits, one is being prepared or is prepared, one is in the network. In mode `latest` a
newer item takes the place of the one that waits; in mode `every` the source waits. Results leave in the order in which
items came. An error belongs to its item and ends nothing else.

Preparing as early as possible would make the pictures old: a set prepared at the start of an inference is an inference
older at its end. So in mode `latest` the start is held back until it will be done just in time (`Pace`).
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, cast

from streamer.errors import MienError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Half = TypeVar("Half")
Result = TypeVar("Result")
Mode = Literal["latest", "every"]


@dataclass(frozen=True, slots=True)
class Timing:
    """When an item went through; monotonic ns."""

    submitted_ns: int
    """It was handed in."""
    prepare_start_ns: int
    """The first stage began."""
    prepare_end_ns: int
    """The first stage was done."""
    infer_start_ns: int
    """The second stage began."""
    infer_end_ns: int
    """The second stage was done."""
    free_ns: int
    """The second stage had been done with the item before; 0 for the first."""

    @property
    def wait_ns(self) -> int:
        """Time lost to the hand-over: the item was here, the network was idle, and nothing was prepared for it."""
        since = max(self.submitted_ns, self.free_ns)
        preparing = max(0, self.prepare_end_ns - max(self.prepare_start_ns, since))
        return max(0, self.infer_start_ns - since - preparing)

    @property
    def queue_ns(self) -> int:
        """Time it waited because the network was busy with the item before, without what was prepared meanwhile."""
        before = self.infer_start_ns - self.submitted_ns
        return max(0, before - (self.prepare_end_ns - self.prepare_start_ns) - self.wait_ns)


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


class Pace:
    """Says when to start preparing, so that it is done when the network is. Pure: times are arguments.

    Args:
        early: share of the expected inference time after which the next set should be ready; below 1, since a network
            that waits costs throughput, and a set that waits only costs its own age.
    """

    def __init__(self, early: float = 0.9) -> None:
        """Know nothing yet."""
        self._early = early
        self._prepare_ns = 0.0
        self._infer_ns = 0.0

    def observe(self, prepare_ns: int, infer_ns: int) -> None:
        """Learn from an item that is through."""
        rate = 0.2 if self._infer_ns else 1.0
        self._prepare_ns += rate * (prepare_ns - self._prepare_ns)
        self._infer_ns += rate * (infer_ns - self._infer_ns)

    def start_ns(self, infer_start_ns: int) -> int:
        """Return when to start preparing while an inference runs that began at `infer_start_ns`."""
        return infer_start_ns + max(0, round(self._early * self._infer_ns - 1.2 * self._prepare_ns))


@dataclass(slots=True)
class _Flight(Generic[Item, Half]):
    item: Item
    submitted_ns: int
    prepare_start_ns: int = 0
    prepare_end_ns: int = 0
    half: Half | None = None
    error: Exception | None = None


class Pipeline(Generic[Item, Half, Result]):
    """Runs items through `prepare` and `infer` in two threads. Submit from one thread; `close` it.

    Args:
        prepare: first stage, called in the first thread.
        infer: second stage, called in the second thread.
        deliver: takes every outcome in order, in the second thread. What it raises ends the pipeline and comes out of
            the next `submit` or of `close`.
        mode: `latest` or `every`.
        clock_ns: monotonic ns.
    """

    def __init__(
        self,
        prepare: Callable[[Item], Half],
        infer: Callable[[Half], Result],
        deliver: Callable[[Outcome[Item, Result]], None],
        *,
        mode: Mode,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start the threads."""
        self._prepare, self._infer, self._deliver = prepare, infer, deliver
        self._mode = mode
        self._clock_ns = clock_ns
        self._pace = Pace()
        self._changed = threading.Condition()
        self._inbox: deque[_Flight[Item, Half]] = deque()
        self._between: _Flight[Item, Half] | None = None
        self._preparing = False
        self._busy_since_ns: int | None = None
        self._closing = False
        self._fault: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(stage,), name=f"pipeline {name}", daemon=True)
            for name, stage in (("prepare", self._prepare_all), ("infer", self._infer_all))
        ]
        for thread in self._threads:
            thread.start()

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
        for thread in self._threads:
            thread.join()
        self._raise_fault()
        return left

    def _raise_fault(self) -> None:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            self._closing = True
            raise fault

    def _run(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as fault:  # noqa: BLE001 - carried over to the thread that owns the pipeline
            with self._changed:
                self._fault = fault
                self._closing = True
                self._inbox.clear()
                self._changed.notify_all()

    def _next_item(self) -> _Flight[Item, Half] | None:
        """Wait until an item should be prepared; None at the end."""
        with self._changed:
            while True:
                if self._closing and not self._inbox:
                    return None
                timeout_s = None
                if self._inbox and self._between is None:
                    early_ns = self._hold_ns()
                    if early_ns <= 0:
                        self._preparing = True
                        flight = self._inbox.popleft()
                        self._changed.notify_all()
                        return flight
                    timeout_s = early_ns / 1e9
                self._changed.wait(timeout_s)

    def _hold_ns(self) -> int:
        """How long to hold the next item back: newer pictures may come before the network is free."""
        if self._mode == "every" or self._closing or self._busy_since_ns is None:
            return 0
        return self._pace.start_ns(self._busy_since_ns) - self._clock_ns()

    def _prepare_all(self) -> None:
        while (flight := self._next_item()) is not None:
            flight.prepare_start_ns = self._clock_ns()
            flight.half, flight.error = _attempt(self._prepare, flight.item)
            flight.prepare_end_ns = self._clock_ns()
            with self._changed:
                self._between = flight
                self._preparing = False
                self._changed.notify_all()

    def _infer_all(self) -> None:
        free_ns = 0
        while (flight := self._next_prepared()) is not None:
            start_ns = self._clock_ns()
            result, error = None, flight.error
            if flight.error is None:
                result, error = _attempt(self._infer, cast("Half", flight.half))
            end_ns = self._clock_ns()
            timing = Timing(
                flight.submitted_ns, flight.prepare_start_ns, flight.prepare_end_ns, start_ns, end_ns, free_ns
            )
            free_ns = end_ns
            with self._changed:
                self._busy_since_ns = None
                if error is None:
                    self._pace.observe(flight.prepare_end_ns - flight.prepare_start_ns, end_ns - start_ns)
                self._changed.notify_all()
            self._deliver(Outcome(flight.item, result, error, timing))

    def _next_prepared(self) -> _Flight[Item, Half] | None:
        """Wait for a prepared item; None at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._between is not None or (self._closing and not self._inbox and not self._preparing)
            )
            flight, self._between = self._between, None
            if flight is not None:
                self._busy_since_ns = self._clock_ns()
            self._changed.notify_all()
            return flight


Given = TypeVar("Given")
Made = TypeVar("Made")


def _attempt(stage: Callable[[Given], Made], value: Given) -> tuple[Made | None, Exception | None]:
    """Run a stage; an error becomes a value, so that one bad set cannot end the process."""
    try:
        return stage(value), None
    except MienError as error:
        return None, error
    except Exception as error:
        log.exception("a set failed by a defect")
        return None, error
