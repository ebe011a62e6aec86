"""Stopping and heartbeats, with real signals and real sockets."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamer.processes import HealthBeat, Stop, Vitals
from streamer.transport import Publisher, Subscriber
from streamer.types import Health

ROOT = Path(__file__).parents[2]


# Signals go to processes of their own: one that goes astray must not end the process that runs the other tests.
SELF_SIGNALLED = """
import os, signal, sys
from streamer.processes import Stop
number = signal.Signals(int(sys.argv[1]))
before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
with Stop() as stop:
    assert not stop.wait(0)
    os.kill(os.getpid(), number)
    assert stop.wait(30)
    assert stop.signal is number
    assert signal.getsignal(number) == before[number], "a second signal must act as usual"
assert {one: signal.getsignal(one) for one in before} == before
"""

# The handler runs in the waiting thread at any instruction; to set the event there could wait for itself.
SIGNALLED_IN_A_WAIT = """
import signal
from streamer.processes import Stop
with Stop() as stop:
    with stop._cond:  # what Event.wait holds for a moment
        signal.raise_signal(signal.SIGINT)
    assert stop.wait(30)
"""


def run(script: str, *arguments: str) -> None:
    """Run a script in a process of its own; it must end well."""
    command = [sys.executable, "-X", "faulthandler", "-c", script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_stop_and_handlers_are_put_back(number: signal.Signals) -> None:
    run(SELF_SIGNALLED, str(int(number)))


def test_a_signal_in_the_middle_of_a_wait_does_not_hang() -> None:
    run(SIGNALLED_IN_A_WAIT)


def test_outside_the_main_thread_it_is_a_plain_event() -> None:
    seen: list[bool] = []

    def work() -> None:
        with Stop() as stop:
            stop.set()
            seen.append(stop.wait(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert seen == [True]


LOOP = """
from streamer.processes import Stop
with Stop() as stop:
    print("ready", flush=True)
    while True:
        if stop.wait(0.05) and {polite}:
            break
print("done", stop.signal.name, flush=True)
"""


def test_a_process_ends_cleanly_at_the_first_signal_and_by_force_at_the_second() -> None:
    for polite, expected in ((True, 0), (False, -signal.SIGTERM)):
        with subprocess.Popen(
            [sys.executable, "-c", LOOP.format(polite=polite)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            deadline = time.monotonic() + 20
            while not polite and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
                process.terminate()
            assert process.wait(20) == expected
            assert process.stdout.read() == ("done SIGTERM\n" if polite else "")


def beats(vitals: Callable[[], Vitals], count: int) -> list[Any]:
    with Publisher("tcp://127.0.0.1:0") as publisher, Subscriber([publisher.endpoint], ["health"]) as subscriber:
        received: list[Any] = []
        with HealthBeat(publisher, "node", vitals, period_s=0.02):
            while len(received) < count:
                message = subscriber.receive(20)
                assert message is not None
                received.append(message[1])
        while not received or received[-1].state != "stopping":
            message = subscriber.receive(20)
            assert message is not None
            received.append(message[1])
        return received


def test_the_heart_beats_with_what_the_process_says_and_ends_with_the_last_word() -> None:
    counts = iter(range(10**6))

    def vitals() -> Vitals:
        return Vitals("degraded", {"published.cam_0": next(counts)}, {"fps": 29.5}, "cam_1 is silent")

    received = beats(vitals, 3)
    assert all(isinstance(one, Health) and one.process == "node" for one in received)
    published = [one.counters["published.cam_0"] for one in received]
    assert published == list(range(published[0], published[0] + len(published)))
    assert [one.state for one in received] == ["degraded"] * (len(received) - 1) + ["stopping"]
    assert received[0].gauges == {"fps": 29.5}
    assert received[0].message == "cam_1 is silent"
    times = [one.time_ns for one in received]
    assert times == sorted(times)
    assert abs(times[-1] - time.time_ns()) < 60e9


def test_the_beat_thread_ends_with_its_block() -> None:
    before = set(threading.enumerate())
    with Publisher("tcp://127.0.0.1:0") as publisher:
        beat = HealthBeat(publisher, "infer")
        with beat:
            assert set(threading.enumerate()) - before
        beat.close()
        assert set(threading.enumerate()) == before
