"""Two hosts in one machine: network namespaces with a bad line between them.

Where the kernel has netem, a veth pair with `tc qdisc ... netem` is the line. Where it has not, packets are carried
between two TUN devices by this process, which delays, jitters and drops them by the same numbers.
"""

import heapq
import os
import random
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from select import select

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000
ADDRESSES = ("10.77.0.1", "10.77.0.2")


@dataclass(frozen=True)
class Line:
    """How bad the line is, each way."""

    delay_ms: float
    jitter_ms: float
    loss: float


@dataclass(frozen=True)
class Hosts:
    """What a test needs of the two."""

    names: tuple[str, str]
    """Of the namespaces."""
    by: str
    """`netem` or `relay`."""

    def command(self, host: int, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[host], *words]


def why_not() -> str:
    """Why hosts cannot be made here, empty if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed (requirements/consumers.sh)"
    name = f"mien-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


@contextmanager
def two_hosts(line: Line) -> Iterator[Hosts]:
    names = (f"mien-a-{os.getpid()}", f"mien-b-{os.getpid()}")
    with ExitStack() as stack:
        for name in names:
            _run("ip", "netns", "add", name)
            stack.callback(_run, "ip", "netns", "del", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        if _veth(names, line):
            yield Hosts(names, "netem")
            return
        if not Path("/dev/net/tun").exists():
            raise RuntimeError("the kernel has neither netem nor TUN")
        fds = [
            _tun(name, address, other) for name, address, other in zip(names, ADDRESSES, ADDRESSES[::-1], strict=True)
        ]
        stop = threading.Event()
        relay = threading.Thread(target=_relay, args=(fds, line, stop), daemon=True)
        relay.start()
        try:
            yield Hosts(names, "relay")
        finally:
            stop.set()
            relay.join()
            for fd in fds:
                os.close(fd)


def _run(*words: str, check: bool = True) -> bool:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.returncode == 0


def _veth(names: tuple[str, str], line: Line) -> bool:
    """Join the hosts by a veth pair with netem; returns False, and leaves nothing, where the kernel lacks either."""
    ends = ("mien-va", "mien-vb")
    made = ["ip", "-n", names[0], "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", names[1]]
    if shutil.which("tc") is None or not _run(*made, check=False):
        return False
    for name, end, address in zip(names, ends, ADDRESSES, strict=True):
        _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", end)
        _run("ip", "-n", name, "link", "set", end, "up")
        shape = ["netem", "delay", f"{line.delay_ms}ms", f"{line.jitter_ms}ms", "loss", f"{100 * line.loss}%"]
        if not _run("tc", "-n", name, "qdisc", "add", "dev", end, "root", *shape, check=False):
            _run("ip", "-n", names[0], "link", "del", ends[0])
            return False
    return True


def _tun(name: str, address: str, other: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    device = f"mien{os.getpid() % 10**6}{name[5]}"
    ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    _run("ip", "link", "set", device, "netns", name)
    _run("ip", "-n", name, "addr", "add", address, "peer", other, "dev", device)
    _run("ip", "-n", name, "link", "set", device, "up")
    return fd


def _relay(fds: list[int], line: Line, stop: threading.Event) -> None:
    """Carry packets both ways; each direction keeps its order, as a queue does."""
    rng = random.Random(7)
    waiting: list[tuple[float, int, int, bytes]] = []
    last_s = [0.0, 0.0]
    number = 0
    while not stop.is_set():
        now_s = time.monotonic()
        wait_s = min(0.05, max(0.0, waiting[0][0] - now_s)) if waiting else 0.05
        for fd in select(fds, [], [], wait_s)[0]:
            side = fds.index(fd)
            for _ in range(64):
                try:
                    packet = os.read(fd, 65536)
                except BlockingIOError:
                    break
                if rng.random() >= line.loss:
                    delay_s = (line.delay_ms + rng.uniform(-line.jitter_ms, line.jitter_ms)) / 1000
                    last_s[side] = max(last_s[side], time.monotonic() + delay_s)
                    number += 1
                    heapq.heappush(waiting, (last_s[side], number, fds[1 - side], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, fd, packet = heapq.heappop(waiting)
            try:
                os.write(fd, packet)
            except BlockingIOError:
                continue  # a full device drops, as a switch does
