"""Dead peers are noticed by the kernel; ZeroMQ's heartbeats abort a slow subscriber (libzmq issue 3596)."""

import subprocess
import sys
from pathlib import Path

import zmq

from streamer.transport import Publisher, Subscriber

ROOT = Path(__file__).resolve().parents[2]


def test_no_heartbeats_but_keepalive() -> None:
    with Publisher("tcp://127.0.0.1:0") as publisher, Subscriber([publisher.endpoint], ["health"]) as subscriber:
        for socket in (publisher._socket, subscriber._socket):
            assert socket.getsockopt(zmq.HEARTBEAT_IVL) == 0
            assert socket.getsockopt(zmq.TCP_KEEPALIVE) == 1


SLOW = """
import random, sys, threading, time
from streamer.transport import Publisher, Subscriber
from streamer.types import Health
publisher = Publisher("tcp://127.0.0.1:0", depth=8)
with publisher, Subscriber([publisher.endpoint], ["health"], depth=1) as slow:
    over = threading.Event()
    def publish():
        while not over.wait(0.0005):
            publisher.send("health", Health("node", 1, "running"))
    thread = threading.Thread(target=publish)
    thread.start()
    got, end = 0, time.monotonic() + 4
    while time.monotonic() < end:
        over.wait(random.Random(got).uniform(0.03, 0.2))
        got += slow.receive(0.0) is not None
    over.set()
    thread.join()
    print(got)
"""


def test_a_slow_subscriber_lives() -> None:
    command = [sys.executable, "-c", SLOW]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 5
