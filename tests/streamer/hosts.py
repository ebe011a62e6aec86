"""Two hosts in one machine: network namespaces with a bad line between them.

Where the kernel has netem, a veth pair with `tc qdisc ... netem` is the line. Where it has not, packets are carried
between two TUN devices by this process, which delays, jitters and drops them by the same numbers.
"""

import ctypes
import errno
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
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path
from select import select

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000
ADDRESSES = ("10.77.0.1", "10.77.0.2")
VETH = ("mien-va", "mien-vb")


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
    devices: tuple[str, str]
    """Ends of the line."""
    line: list[Line] = field(default_factory=list)
    """What the relay goes by: the last one."""

    def change(self, line: Line) -> None:
        """Make the line better or worse."""
        self.line.append(line)
        if self.by == "netem":
            for name, end in zip(self.names, self.devices, strict=True):
                _run("tc", "-n", name, "qdisc", "change", "dev", end, "root", *_netem(line))

    def plug(self, *, in_: bool) -> None:
        """Pull the cable of the first host, or put it back."""
        _run("ip", "-n", self.names[0], "link", "set", self.devices[0], "up" if in_ else "down")

    def command(self, host: int, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[host], *words]


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a network namespace with this thread, and with those that it starts; an empty name: stay."""
    if not namespace:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{namespace}") as other:
        for_network = 0x40000000
        if libc.setns(other.fileno(), for_network):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        try:
            yield
        finally:
            libc.setns(own.fileno(), for_network)


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
            yield Hosts(names, "netem", VETH)
            return
        if not Path("/dev/net/tun").exists():
            raise RuntimeError("the kernel has neither netem nor TUN")
        made = [
            _tun(name, address, other) for name, address, other in zip(names, ADDRESSES, ADDRESSES[::-1], strict=True)
        ]
        fds, stop, lines = [fd for fd, _ in made], threading.Event(), [line]
        relay = threading.Thread(target=_relay, args=(fds, lines, stop), daemon=True)
        relay.start()
        try:
            yield Hosts(names, "relay", (made[0][1], made[1][1]), lines)
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
    made = ["ip", "-n", names[0], "link", "add", VETH[0], "type", "veth", "peer", "name", VETH[1], "netns", names[1]]
    if shutil.which("tc") is None or not _run(*made, check=False):
        return False
    for name, end, address in zip(names, VETH, ADDRESSES, strict=True):
        _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", end)
        _run("ip", "-n", name, "link", "set", end, "up")
        if not _run("tc", "-n", name, "qdisc", "add", "dev", end, "root", *_netem(line), check=False):
            _run("ip", "-n", names[0], "link", "del", VETH[0])
            return False
    return True


def _netem(line: Line) -> list[str]:
    return ["netem", "delay", f"{line.delay_ms}ms", f"{line.jitter_ms}ms", "loss", f"{100 * line.loss}%"]


def _tun(name: str, address: str, other: str) -> tuple[int, str]:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    device = f"mien{os.getpid() % 10**6}{name[5]}"
    ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    _run("ip", "link", "set", device, "netns", name)
    _run("ip", "-n", name, "addr", "add", address, "peer", other, "dev", device)
    _run("ip", "-n", name, "link", "set", device, "up")
    return fd, device


def _relay(fds: list[int], lines: list[Line], stop: threading.Event) -> None:
    """Carry packets both ways; each direction keeps its order, as a queue does."""
    rng = random.Random(7)
    waiting: list[tuple[float, int, int, bytes]] = []
    last_s = [0.0, 0.0]
    number = 0
    while not stop.is_set():
        now_s, line = time.monotonic(), lines[-1]
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
            except OSError as error:
                if error.errno != errno.EIO:  # the cable is out
                    raise
