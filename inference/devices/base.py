"""What a device is: streams that run work in order, events between them, memory that they share with the host.

The schedule (`inference.schedule`) is written against this and never knows which device it drives. A stream runs what
it is given one after the other and beside the other streams; `record` and `wait` order streams against each other, and
`Event.synchronize` orders the host. On the CPU a stream is a thread. On a CUDA device a stream is a thread that issues
to a CUDA stream, so that stages of both kinds, kernels and host arithmetic, stand in one schedule.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.errors import EngineError

Space = Literal["host", "device"]
"""Where a stream's work runs: `host` work is Python and numpy on any device, `device` work is issued to the device."""


@dataclass(frozen=True, slots=True)
class BufferSpec:
    """A buffer that every slot owns one of."""

    shape: tuple[int, ...]
    """Its fixed shape."""
    dtype: str = "float32"
    """Its numpy element type."""
    device_only: bool = False
    """The host never looks at it: a device with memory of its own gives it no host side."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer with two sides. On the CPU both are one array, and copies between them are nothing."""

    host: NDArray[Any]
    """Page-locked on a device with memory of its own: what the host reads and writes."""
    device: Any
    """What device work reads and writes: the same array on the CPU, an allocation with an address on CUDA."""


class Event(Protocol):
    """A point in a stream. May be recorded again and again; who waits, waits for the latest record before the call."""

    def synchronize(self) -> None:
        """Block the host until the latest record is reached; returns at once if there was none."""


class Stream(Protocol):
    """Runs work in the order in which it was given. Given to by one host thread."""

    @property
    def name(self) -> str:
        """Its name in the schedule."""

    @property
    def handle(self) -> int:
        """Address of the native stream for engines and kernels; 0 where there is none."""

    def enqueue(self, work: Callable[[], None]) -> None:
        """Run `work` after everything before. It must not raise."""

    def record(self, event: Event) -> None:
        """Let `event` be reached when everything before is done."""

    def wait(self, event: Event) -> None:
        """Let everything after wait until the latest record of `event` is reached."""

    def stamp(self) -> Callable[[], int]:
        """Take the time in the stream; call it inside work.

        Returns:
            Gives monotonic ns. To be called once an event recorded later was synchronized with.
        """

    def replay(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run work that issues the same to the same addresses every time; call it inside work.

        A device with graphs captures it on its second run and replays the capture from then on.
        """

    def upload(self, buffer: Buffer) -> None:
        """Copy the buffer's host side to its device side, in the stream; call it inside work."""

    def download(self, buffer: Buffer) -> None:
        """Copy the buffer's device side to its host side, in the stream; call it inside work."""


class Device(Protocol):
    """A place where streams run. `close` it once."""

    @property
    def name(self) -> str:
        """Its name in `inference.devices.DEVICES`."""

    def stream(self, name: str, space: Space) -> Stream:
        """Make a stream.

        Args:
            name: for people and thread lists.
            space: what its work is. `device` streams may also run host work, which the device does not wait for.
        """

    def event(self) -> Event:
        """Make an event."""

    def buffer(self, spec: BufferSpec) -> Buffer:
        """Allocate a buffer, zero on both sides.

        Raises:
            EngineError: there is not enough memory.
        """

    def close(self) -> None:
        """End the streams once they are empty, and give memory back."""


def zeros(spec: BufferSpec) -> NDArray[Any]:
    """Return an ordinary array for a buffer.

    Raises:
        EngineError: there is not enough memory.
    """
    try:
        return np.zeros(spec.shape, np.dtype(spec.dtype))
    except MemoryError as error:
        raise EngineError(f"no memory for a buffer of {spec.dtype} {spec.shape}; use fewer views or slots") from error
