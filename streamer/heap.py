"""Free memory goes back to the system: what a process holds then follows what it uses, not the worst moment it had.

glibc keeps freed pictures in its heaps unless they lie at the end. A process that was held up for half a second and had
twenty pictures in hand instead of four keeps their room for the rest of the day: in two hours of soak the camera node
grew by steps of 4 and 8 MB with nothing between them, and a publisher that is held up on purpose makes such steps.
"""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _find() -> Callable[[int], int] | None:
    """Return glibc's `malloc_trim`, None where there is none: other systems, other C libraries."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None


_malloc_trim = _find()


def give_back() -> bool:
    """Give free memory back to the system; takes a process of 300 MB some 10 ms, other threads go on meanwhile.

    Returns:
        Whether there was any. Always False where the C library cannot do it.
    """
    return _malloc_trim is not None and bool(_malloc_trim(0))


@contextmanager
def given_back(every_s: float = 60.0) -> Iterator[None]:
    """Give free memory back now and then, from a thread of its own, as long as the block lasts.

    For processes without a heartbeat (`streamer.processes.HealthBeat` sees to it too).
    """
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            give_back()

    thread = threading.Thread(target=run, name="free memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
