"""What judges the chaos suite finds what is planted: leftovers of each kind, growth, a row that fails once in three."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.chaos import page, worst
from tests.mien.faults import Seen, grown
from tests.mien.house import SHARED, House

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="looks for processes in /proc and segments in /dev/shm")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Not running: what it looks for can be planted."""
    return House(tmp_path / "house")


def test_a_process_a_segment_and_a_port_that_are_left_are_found(house: House) -> None:
    assert house.left_behind() == []
    pid = 4_000_000 + os.getpid()  # beyond any that the kernel gives
    journal = house.folder / "logs/events.jsonl"
    journal.parent.mkdir()
    event = {"time_ns": 1, "process": "node", "what": "started", "why": f"life 2, process {pid}"}
    journal.write_text(json.dumps(event) + "\n")
    segment = SHARED / f"mien-{pid}-abcdef12-0"
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", str(house.folder / "takes")]
    with socket.socket() as listener, subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            segment.touch()
            listener.bind(("127.0.0.1", house.ports["infer_port"]))
            listener.listen()
            deadline = time.monotonic() + 30  # a process has no command line for a moment after it was made
            while sys.executable not in (found := " ".join(house.left_behind())) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert sys.executable in found and segment.name in found
            assert f"port {house.ports['infer_port']}" in found
        finally:
            segment.unlink()
            process.communicate()
    deadline = time.monotonic() + 30
    while house.left_behind() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert house.left_behind() == []


class Held(House):
    """A house that holds what it is told to."""

    def held(self) -> dict[str, Counter[str]]:
        return {"live": Counter(files=20, threads=5), "node": Counter(files=9, threads=4, segments=4)}


def test_growth_is_found(tmp_path: Path) -> None:
    house = Held(tmp_path)
    assert grown(house, house.held()) == "" == grown(house, {"gone": Counter(files=1)})
    before = {"live": Counter(files=20, threads=4), "node": Counter(files=9, threads=4, segments=4)}
    assert grown(house, before) == "; live holds 5 threads, 4 before"


def test_the_worst_of_three_is_told() -> None:
    rows = [Seen("node: kill -9", "fine", 1.2, True), Seen("node: kill -9", "slow", 2.3, False)]
    rows += [Seen("node: kill -9", "best", 1.1, True), Seen("view: kill -9", "never stopped", None, True)]
    assert worst(rows) == [(rows[1], 3, 2), (rows[3], 1, 1)]
    assert "| node: kill -9 | slow | 2.3 | 2 of 3 |\n| view: kill -9 | never stopped | - | 1 of 1 |\n" in page(rows)
