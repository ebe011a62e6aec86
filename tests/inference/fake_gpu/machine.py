"""A GPU that is not there: memory, streams and events that behave as CUDA promises and no better.

Device memory is ordinary memory behind real addresses, so that kernels compiled as C++ run on it. Work on a stream is
done as late as anything allows (`late`), at once (`early`) or in between (`random`): with `late`, whoever reads
without having waited reads poison or the set before. Misuse is an error at the call and is kept in `faults`.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

GUARD = 256
ALIGNMENT = 256
POISON, FENCE = 0xA5, 0x5C


class Fault(AssertionError):
    """The program did what CUDA forbids."""


@dataclass
class Op:
    """Work on a stream."""

    run: Callable[[], None]


class Stream:
    """Work in order; `done` of `issued` pieces are done."""

    def __init__(self, machine: "Machine", number: int) -> None:
        self.machine = machine
        self.handle = 0x5000 + 16 * number
        self.queue: deque[Op] = deque()
        self.issued = self.done = 0
        self.capturing: list[Op] | None = None
        self.capturer = 0
        self.alive = True


@dataclass
class Block:
    """An allocation."""

    array: np.ndarray
    start: int
    size: int


@dataclass
class Machine:
    """The device.

    Args:
        when: when work on streams is done.
        seed: of `random`.
        name: of the GPU.
        capability: major and minor.
        capacity: bytes of its memory.
    """

    when: Literal["late", "early", "random"] = "late"
    seed: int = 0
    name: str = "Fake RTX"
    capability: tuple[int, int] = (8, 9)
    driver_version: int = 13000
    capacity: int = 1 << 30
    faults: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.streams: dict[int, Stream] = {}
        self.blocks: dict[int, Block] = {}
        self.pinned: list[np.ndarray] = []
        self.used = 0
        self.ticks = 0
        self._contexts = threading.local()
        self._random = random.Random(self.seed)
        self.activation: dict[int, tuple[Stream, int]] = {}
        self.refuse: set[str] = set()
        """What fails from now on: `build`, `context`, `enqueue`, `launch`, `capture`; `kernels` while they run."""
        self.broken: Exception | None = None
        """What every call raises, once a kernel has failed."""

    def fault(self, message: str) -> Fault:
        """Keep a misuse, and return it to be raised."""
        self.faults.append(message)
        return Fault(message)

    def count(self, what: str) -> None:
        """Count a call."""
        self.counts[what] = self.counts.get(what, 0) + 1

    # contexts

    @property
    def stack(self) -> list[object]:
        """Contexts of the calling thread."""
        if not hasattr(self._contexts, "stack"):
            self._contexts.stack = []
        stack: list[object] = self._contexts.stack
        return stack

    def require_context(self, what: str) -> None:
        """Every call but a few needs a current context."""
        if not self.stack:
            raise self.fault(f"{what} without a current context in {threading.current_thread().name}")

    def refuse_in_capture(self, what: str) -> None:
        """Calls that a thread-local capture forbids."""
        me = threading.get_ident()
        if any(stream.capturing is not None and stream.capturer == me for stream in self.streams.values()):
            raise self.fault(f"{what} in a thread that captures")

    # memory

    def allocate(self, size: int) -> int:
        """Return an address; -1 if memory is short."""
        self.require_context("mem_alloc")
        with self.lock:
            if size < 1:
                raise self.fault(f"mem_alloc of {size} bytes")
            if self.used + size > self.capacity:
                return -1
            array = np.full(size + 2 * GUARD + ALIGNMENT, FENCE, np.uint8)
            start = -(-(array.ctypes.data + GUARD) // ALIGNMENT) * ALIGNMENT
            first = start - array.ctypes.data
            array[first : first + size] = POISON
            self.blocks[start] = Block(array, start, size)
            self.used += size
            return start

    def free(self, start: int) -> None:
        """Give back; waits for the device as cuMemFree does."""
        with self.lock:
            if self.broken is None:
                self.drain_all()
            block = self.blocks.pop(start, None)
            if block is None:
                raise self.fault(f"free of {start:#x}, which is not allocated")
            self.used -= block.size
            self.check_fence(block)
            block.array[:] = POISON

    def check_fence(self, block: Block) -> None:
        """Nothing was written beside a block."""
        first = block.start - block.array.ctypes.data
        if (block.array[:first] != FENCE).any() or (block.array[first + block.size :] != FENCE).any():
            self.fault(f"something wrote beside the block of {block.size} bytes")

    def check_fences(self) -> None:
        """As `check_fence`, for all blocks."""
        with self.lock:
            for block in self.blocks.values():
                self.check_fence(block)

    def view(self, address: int, size: int, what: str) -> np.ndarray:
        """Bytes of the device; they have to be allocated."""
        for block in self.blocks.values():
            if block.start <= address and address + size <= block.start + block.size:
                first = address - block.array.ctypes.data
                return block.array[first : first + size]
        raise self.fault(f"{what}: {size} bytes at {address:#x} are not allocated on the device")

    def require_pinned(self, array: np.ndarray, what: str) -> None:
        """Asynchronous copies need page-locked memory, in one piece."""
        low, size = array.ctypes.data, array.nbytes
        if not array.flags.c_contiguous:
            raise self.fault(f"{what}: the host array is not contiguous")
        if not any(p.ctypes.data <= low and low + size <= p.ctypes.data + p.nbytes for p in self.pinned):
            raise self.fault(f"{what}: the host array is not page-locked")

    # streams

    def make_stream(self) -> Stream:
        """A stream that waits for no other by itself."""
        self.require_context("Stream")
        with self.lock:
            stream = Stream(self, len(self.streams) + 1)
            self.streams[stream.handle] = stream
            return stream

    def stream(self, handle: int, what: str) -> Stream:
        """Find a stream by its handle."""
        found = self.streams.get(handle)
        if found is None or not found.alive:
            raise self.fault(f"{what}: {handle:#x} is no stream")
        return found

    def issue(self, stream: Stream, run: Callable[[], None], what: str) -> int:
        """Put work on a stream; returns its number."""
        self.require_context(what)
        with self.lock:
            self.require_whole()
            self.count(what)
            if stream.capturing is not None:
                stream.capturing.append(Op(run))
                return 0
            stream.queue.append(Op(run))
            stream.issued += 1
            number = stream.issued
            if self.when == "early":
                self.drain_all()
            elif self.when == "random":
                one = self._random.choice(list(self.streams.values()))
                self.drain(one, one.done + self._random.randint(0, 3))
            return number

    def drain(self, stream: Stream, upto: int | None = None) -> None:
        """Do a stream's work up to a number."""
        with self.lock:
            self.require_whole()
            target = stream.issued if upto is None else min(upto, stream.issued)
            while stream.done < target and stream.queue:
                op = stream.queue.popleft()
                with suppress(Fault):  # it is kept, and the thread that happens to wait is not to blame
                    op.run()
                self.ticks += 1
                stream.done += 1
            self.require_whole()

    def require_whole(self) -> None:
        """An error of a kernel shows itself at any later call."""
        if self.broken is not None:
            raise self.broken

    def drain_all(self) -> None:
        """Do all work."""
        with self.lock:
            for stream in list(self.streams.values()):
                self.drain(stream)

    @contextmanager
    def held(self, context: object) -> Iterator[None]:
        """A current context, for tests."""
        self.stack.append(context)
        try:
            yield
        finally:
            self.stack.pop()
