"""Free memory goes back to the system, and a process that beats sees to it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamer import heap, processes
from streamer.heap import given_back
from streamer.processes import HealthBeat
from streamer.transport import Publisher

ROOT = Path(__file__).parents[2]
FREE_ALL_BUT_THE_LAST = """
from streamer.heap import give_back

def rss_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

before = rss_mb()
kept = [bytearray(100_000) for _ in range(500)]
for one in kept:
    one[::4096] = b"x" * len(one[::4096])
del kept[:-1]
held = rss_mb()
give_back()
print(held - before, rss_mb() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the heap of glibc")
def test_what_the_heap_keeps_after_a_bad_moment_goes_back() -> None:
    """50 MB in pieces that are freed but for the last, which keeps the end of the heap where it is."""
    command = [sys.executable, "-c", FREE_ALL_BUT_THE_LAST]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    held_mb, left_mb = map(float, done.stdout.split())
    assert held_mb > 40, "without being asked the heap keeps it: else there is nothing to show here"
    assert left_mb < 5


def test_a_process_that_beats_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given = threading.Semaphore(0)
    monkeypatch.setattr(processes, "give_back", given.release)
    with Publisher("tcp://127.0.0.1:0") as publisher, HealthBeat(publisher, "test", period_s=0.01, tidy_s=0.02):
        assert given.acquire(timeout=30) and given.acquire(timeout=30), "again and again"


def test_a_block_gives_back_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    given = threading.Semaphore(0)
    monkeypatch.setattr(heap, "give_back", given.release)
    with given_back(every_s=0.01):
        assert given.acquire(timeout=30) and given.acquire(timeout=30), "again and again"
    assert not [thread for thread in threading.enumerate() if thread.name == "free memory"]
