"""The CPU as a device: streams are threads, both sides of a buffer are one array."""

import queue
import threading
import time
from collections.abc import Callable, Hashable

from inference.devices.base import Buffer, BufferSpec, Event, Space, Stream, zeros


class CpuEvent:
    """See `inference.devices.base.Event`."""

    def __init__(self) -> None:
        """Start unrecorded."""
        self._changed = threading.Condition()
        self._issued = 0
        self._reached = 0

    def issue(self) -> int:
        """Note a record; returns its number. Called by the host thread that gives work."""
        self._issued += 1
        return self._issued

    @property
    def issued(self) -> int:
        """Number of the latest record."""
        return self._issued

    def reach(self, number: int) -> None:
        """Tell that record `number` is reached."""
        with self._changed:
            self._reached = number
            self._changed.notify_all()

    def block(self, number: int) -> None:
        """Block until record `number` is reached."""
        if self._reached >= number:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._reached >= number)

    def synchronize(self) -> None:
        """See `Event.synchronize`."""
        self.block(self._issued)


def own(event: Event) -> CpuEvent:
    """Return an event of this device.

    Raises:
        TypeError: it was made by another device.
    """
    if not isinstance(event, CpuEvent):
        raise TypeError(f"{type(event).__name__} was not made by this device")
    return event


class CpuStream:
    """A thread that takes its work from a queue; see `inference.devices.base.Stream`."""

    handle = 0

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self.name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"pipeline {name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def enqueue(self, work: Callable[[], None]) -> None:
        """See `Stream.enqueue`."""
        self._work.put(work)

    def record(self, event: Event) -> None:
        """See `Stream.record`."""
        point = own(event)
        number = point.issue()
        self._work.put(lambda: point.reach(number))

    def wait(self, event: Event) -> None:
        """See `Stream.wait`."""
        point = own(event)
        number = point.issued
        self._work.put(lambda: point.block(number))

    def stamp(self) -> Callable[[], int]:
        """See `Stream.stamp`."""
        now_ns = time.monotonic_ns()
        return lambda: now_ns

    def replay(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run it: there are no graphs to replay."""
        work()

    def upload(self, buffer: Buffer) -> None:
        """Nothing: both sides are one."""

    def download(self, buffer: Buffer) -> None:
        """Nothing: both sides are one."""

    def close(self) -> None:
        """End the thread after what it was given."""
        self._work.put(None)
        self._thread.join()


class Inline(CpuStream):
    """No stream at all: work runs at once in the calling thread."""

    def __init__(self) -> None:
        """Start nothing."""
        self.name = "inline"

    def enqueue(self, work: Callable[[], None]) -> None:
        """Run it."""
        work()

    def record(self, event: Event) -> None:
        """Reach the event: everything before is done."""
        point = own(event)
        point.reach(point.issue())

    def wait(self, event: Event) -> None:
        """Block the calling thread."""
        event.synchronize()

    def close(self) -> None:
        """Nothing to end."""


class CpuDevice:
    """See `inference.devices.base.Device`."""

    name = "cpu"

    def __init__(self) -> None:
        """Start without streams."""
        self._streams: list[CpuStream] = []

    def stream(self, name: str, space: Space) -> Stream:
        """Start a thread; see `Device.stream`."""
        self._streams.append(CpuStream(name))
        return self._streams[-1]

    def event(self) -> CpuEvent:
        """See `Device.event`."""
        return CpuEvent()

    def buffer(self, spec: BufferSpec) -> Buffer:
        """See `Device.buffer`."""
        array = zeros(spec)
        return Buffer(array, array)

    def close(self) -> None:
        """See `Device.close`."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.close()
