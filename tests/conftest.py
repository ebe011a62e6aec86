"""For all tests: no time limits that depend on the machine's load, and nothing left behind."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one test process per core: more threads would only get in their way

settings.register_profile("mien", deadline=None, print_blob=True)
settings.load_profile("mien")

SHARED_MEMORY = Path("/dev/shm")


def own_segments() -> set[str]:
    """Shared-memory rings that this process has made and not removed."""
    return {path.name for path in SHARED_MEMORY.glob(f"mien-{os.getpid()}-*")}


def own_threads() -> set[threading.Thread]:
    """Threads that keep the process alive."""
    return {thread for thread in threading.enumerate() if not thread.daemon and thread.is_alive()}


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    segments, threads = own_segments(), own_threads()
    yield
    for thread in own_threads() - threads:
        thread.join(2.0)
    left = {thread.name for thread in own_threads() - threads} | (own_segments() - segments)
    assert not left, f"the test left behind: {sorted(left)}"
