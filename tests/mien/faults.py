"""Faults done to a running house, each with what was seen. Used by the tests (a few) and benchmarks/chaos.py (all)."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.mien.house import ROOT, Fault, House

LIMIT_S = 2.0
ENGINE_S = 5.0
NORMAL_GAP_S = 1.0
"""Longest silence of the mesh stream that a loaded machine has without any fault."""

CLOCK = """
import os, time
_real, _real_ns, _path = time.time, time.time_ns, os.environ["MIEN_TEST_CLOCK"]
def _offset():
    with open(_path) as file:
        return int(file.read() or 0)
time.time_ns = lambda: _real_ns() + _offset()
time.time = lambda: _real() + _offset() / 1e9
"""
"""`sitecustomize` of processes whose clock of the day can be set: the machine's own must not be touched."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A row of the table."""

    fault: str
    """What was done."""
    seen: str
    """What happened."""
    back_s: float | None
    """From the cause going away until meshes came again; None: they never stopped."""
    ok: bool
    """Whether that is as it should be."""


def _others(before: Mapping[str, int], after: Mapping[str, int], name: str) -> list[str]:
    return [other for other in before if other != name and before[other] != after.get(other)]


def kill(house: House, name: str, number: signal.Signals = signal.SIGKILL) -> Seen:
    """SIGKILL, or SIGTERM as an operator's restart sends it; the cause goes away at once."""
    before = house.pids()
    restarts = house.process(name)["restarts"]
    at = house.kill(name, number)
    house.wait(f"the restart of {name}", lambda: house.process(name).get("restarts", 0) > restarts)
    house.wait(f"{name} ready", lambda: house.process(name).get("state") == "ready")
    if name == "infer":
        house.wait("meshes of the new engine", lambda: house.meshes and house.meshes[-1][0] > at + 0.5)
    gap = _gap_after(house, at)
    touched = _others(before, house.pids(), name)
    limit = {"infer": ENGINE_S}.get(name, LIMIT_S)
    seen = f"started again; longest silence of the meshes {gap:.1f} s; " + (
        f"also touched: {', '.join(touched)}" if touched else "the others untouched"
    )
    how = "kill -9" if number == signal.SIGKILL else "ended and started again"
    stopped = gap if name in ("node", "infer") else None
    return Seen(f"{name}: {how}", seen, stopped, gap < limit and not touched)


def _gap_after(house: House, at: float) -> float:
    """The silence around a moment: from the last mesh before it to the stream after it."""
    house.back_s(max(at, house.meshes[-1][0] if house.meshes else at) - 0.3)
    return house.longest_gap_s(at - 0.5, time.monotonic() - 0.2)


def freeze(house: House, name: str, seconds: float) -> Seen:
    """SIGSTOP, and SIGCONT after a while that is shorter than `live.silence_s`."""
    before = house.pids()
    house.kill(name, signal.SIGSTOP)
    threading.Event().wait(seconds)
    alarms = [alarm for alarm in house.alarms() if alarm.startswith(name)]
    os.kill(before[name], signal.SIGCONT)
    at = time.monotonic()
    back = house.back_s(at)
    touched = _others(before, house.pids(), "")
    told = "told" if alarms or name == "view" else "NOT told"
    seen = f"{told}; meshes {back:.1f} s after it went on; " + ("nothing restarted" if not touched else f"{touched}")
    stopped = back if name in ("node", "infer") else None
    return Seen(f"{name}: frozen for {seconds:g} s", seen, stopped, back < LIMIT_S and not touched and told == "told")


def freeze_for_good(house: House, name: str, silence_s: float) -> Seen:
    """SIGSTOP and nothing more: the supervisor has to notice. The cause goes away when it kills the process."""
    before, restarts = house.pids(), house.process(name)["restarts"]
    at = house.kill(name, signal.SIGSTOP)
    house.wait(f"the restart of {name}", lambda: house.process(name).get("restarts", 0) > restarts)
    killed = house.told_s(name, "frozen")
    house.wait(f"{name} ready", lambda: house.process(name).get("state") == "ready")
    back = house.back_s(killed) if name in ("node", "infer") else None
    gap = house.longest_gap_s(at, time.monotonic())
    touched = _others(before, house.pids(), name)
    seen = f"killed {killed - at:.1f} s after it froze and started again; "
    seen += "the meshes never stopped" if back is None else f"meshes {back:.1f} s after that"
    ok = gap < LIMIT_S if back is None else back < (ENGINE_S if name == "infer" else LIMIT_S)
    return Seen(f"{name}: frozen for good", seen, back, ok and not touched and killed - at < silence_s + LIMIT_S)


def camera(folder: Path, fault: str, settings: Mapping[str, object], expect: str) -> Seen:
    """A run with a fault of a simulated camera."""
    with House(folder, {f"rig.simulated.faults.{key}": value for key, value in settings.items()}) as house:
        house.wait_ready()
        told: set[str] = set()
        views: set[int] = set()

        def noticed() -> bool:
            told.update(house.alarms())
            views.update(count for _, _, count in house.meshes[-20:])
            return expect in " ".join(told)

        house.wait(f"the alarm: {expect}", noticed, 30.0)
        begin = time.monotonic()
        if "stall_camera" in settings:
            house.wait("all views again", lambda: house.meshes and house.meshes[-1][2] == 4, 30.0)
        gap = house.longest_gap_s(begin - 1.0, time.monotonic())
        house.end()
        trouble = closing(house)
    line = next(alarm for alarm in sorted(told) if expect in alarm)
    seen = f"meshes from {min(views)} to {max(views)} views, longest silence {gap:.1f} s; told: “{line}”{trouble}"
    return Seen(fault, seen, None, gap < LIMIT_S and not trouble)


def full_disk(folder: Path) -> Seen:
    """A tmpfs of 48 MB fills up while a take is recorded."""
    takes = folder / "takes"
    takes.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(takes)], check=True)
    try:
        with House(folder) as house:
            house.wait_ready()
            house.wait("a take", lambda: house.state()["take"]["state"] == "recording")
            at, ballast = time.monotonic(), takes / "ballast"
            with ballast.open("wb") as file, _NoSpace():
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            house.wait("the alarm", lambda: any("record" in alarm for alarm in house.alarms()))
            house.wait("the take closed", lambda: house.state()["take"]["state"] == "armed")
            alarm = next(alarm for alarm in house.alarms() if alarm.startswith("record")).replace(f"{takes}/", "")
            ballast.unlink()
            freed = time.monotonic()
            house.wait("recording again", lambda: _try_start(house), 20.0)
            again = time.monotonic() - freed
            threading.Event().wait(2.0)
            gap = house.longest_gap_s(at, time.monotonic())
            house.end()
            trouble, count = closing(house), len(house.takes())
        seen = f"the take ends whole, told: “{alarm[:90]}”; meshes go on (longest silence {gap:.1f} s); "
        seen += f"after space was freed the next take began; {count} takes, all sound{trouble}"
        return Seen("the disk fills up", seen, None, again < LIMIT_S and gap < LIMIT_S and count == 2 and not trouble)
    finally:
        subprocess.run(["umount", str(takes)], check=False)


class _NoSpace:
    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, OSError)


def _try_start(house: House) -> bool:
    from streamer.errors import TransportError

    try:
        house.take("start")
    except TransportError:
        return False
    return True


def clock_jump(folder: Path, jump_s: int) -> Seen:
    """The clock of the day is set forward or back under every process."""
    (folder / "python").mkdir(parents=True)
    (folder / "python/sitecustomize.py").write_text(CLOCK)
    clock = folder / "clock"
    clock.write_text("0")
    path = os.pathsep.join([str(folder / "python"), os.environ.get("PYTHONPATH", "")])
    environment = {"MIEN_TEST_CLOCK": str(clock), "PYTHONPATH": path}
    with House(folder, {"live.silence_s": 6}, environment=environment) as house:
        house.wait_ready()
        before = house.pids()
        fresh = folder / "clock.new"
        fresh.write_text(str(jump_s * 10**9))
        fresh.replace(clock)
        at = time.monotonic()
        if jump_s < 0:
            house.wait("the restart", lambda: _others(before, house.pids(), ""))
            house.wait("all ready again", lambda: house.state().get("ready"))
        back = house.back_s(at + 0.3) + 0.3
        told = any("jumped" in alarm for alarm in house.alarms()) or house.wait(
            "the alarm", lambda: any("jumped" in alarm for alarm in house.alarms()), 10.0
        )
        threading.Event().wait(2.0)
        touched = _others(before, house.pids(), "")
        gap = house.longest_gap_s(at, time.monotonic())
        house.end()
        trouble = closing(house)
    seen = f"{'told' if told else 'NOT told'}; longest silence of the meshes {gap:.1f} s; "
    seen += f"{'nothing restarted' if not touched else 'started again: ' + ', '.join(touched)}{trouble}"
    allowed = {"node"} if jump_s < 0 else set()
    ok = max(back, gap) < LIMIT_S and {*touched} <= allowed and bool(told) and not trouble
    return Seen(f"the clock jumps by {jump_s:+d} s", seen, gap if touched else None, ok)


def garbage(house: House, seed: int = 7) -> Seen:
    """Random bytes at every port of the house."""
    rng = random.Random(seed)
    before, at = house.pids(), time.monotonic()
    for _ in range(5):
        for port in (*house.ports.values(), house.http):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2) as peer:
                    peer.sendall(rng.randbytes(rng.choice((1, 64, 4096))))
            except OSError:
                continue
    threading.Event().wait(2.0)
    gap, touched = house.longest_gap_s(at, time.monotonic()), _others(before, house.pids(), "")
    answers = house.take("status")["state"]
    ok = gap < LIMIT_S and not touched and answers in ("armed", "recording")
    return Seen("random bytes at every port", f"refused; longest silence {gap:.1f} s; nothing restarted", None, ok)


CORRUPTER = """
import random, sys, zmq
rng, share = random.Random(7), float(sys.argv[3])
context = zmq.Context()
source, sink = context.socket(zmq.SUB), context.socket(zmq.PUB)
source.connect(sys.argv[1]); source.setsockopt(zmq.SUBSCRIBE, b""); sink.bind(sys.argv[2])
while True:
    parts = source.recv_multipart()
    if rng.random() < share:
        index = rng.randrange(1, len(parts))
        part = bytearray(parts[index])
        for _ in range(rng.randint(1, 8)):
            if part:
                part[rng.randrange(len(part))] ^= rng.randint(1, 255)
        parts[index] = bytes(part[: rng.randint(0, len(part))] if rng.random() < 0.3 else part)
        if rng.random() < 0.1:
            parts.append(rng.randbytes(9))
    sink.send_multipart(parts)
"""


def corruption(folder: Path, share: float) -> Seen:
    """Between node and consumers somebody flips bytes, cuts and adds parts."""
    from streamer.live import free_ports

    node, relay = free_ports(2)
    words = [f"--set={key}={value}" for key, value in _small().items()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.toml").write_text("schema = 1\n")
    command = [
        sys.executable,
        "-m",
        "mien",
        "node",
        "--config",
        str(folder / "empty.toml"),
        f"--set=bus.node_port={node}",
    ]
    ends = (f"tcp://127.0.0.1:{node}", f"tcp://127.0.0.1:{relay}", str(share))
    helpers = [
        subprocess.Popen([*command, *words, "--set=bus.shared_memory=false"], cwd=ROOT, stderr=subprocess.DEVNULL),
        subprocess.Popen([sys.executable, "-c", CORRUPTER, *ends]),
    ]
    try:
        with House(folder / "house", {"bus.nodes": [ends[1]]}) as house:
            house.wait_ready()
            at, before = time.monotonic(), house.pids()
            threading.Event().wait(6.0)
            touched = _others(before, house.pids(), "")
            gap = house.longest_gap_s(at, time.monotonic())
            unused = house.state()["flow"]["unused"]
            house.end()
            refused = house.lives["record"][-1].counters.get("refused.invalid", 0)
            broken, left = house.damaged(), house.left_behind()
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
    lost = unused.get("lost-on-bus", 0)
    seen = f"{refused} messages refused by the recorder, {lost} frames booked as lost-on-bus by inference; "
    seen += f"longest silence of the meshes {gap:.1f} s; nothing restarted; the take names what it lacks"
    ok = gap < LIMIT_S and not touched and refused > 0 and not broken and not left
    return Seen(f"{100 * share:.0f} % of a node's messages corrupted on the way", seen, None, ok)


def _small() -> Mapping[str, object]:
    from tests.mien.house import SMALL

    return SMALL


def grown(house: House, before: Mapping[str, Counter[str]]) -> str:
    """Before the end: who holds more threads, files or segments than when all was ready, empty if nobody does."""

    def found() -> list[str]:
        now = house.held()
        return [
            f"{name} holds {count} {kind}, {before[name][kind]} before"
            for name in before.keys() & now.keys()
            for kind, count in now[name].items()
            if count > before[name][kind]
        ]

    for _ in range(50):  # a thread or a file may be on its way out
        if not found():
            return ""
        threading.Event().wait(0.1)
    return "".join(f"; {line}" for line in found())


def closing(house: House) -> str:
    """After the end: what is not as it should be, empty if all is."""
    troubles = [f"damaged: {line}" for line in house.damaged()]
    troubles += [f"left behind: {line}" for line in house.left_behind()]
    frames = house.account()
    booked = frames["used"] + sum(frames["unused"].values())
    if booked != frames["published"]:
        troubles.append(f"{frames['published']} frames published, {booked} accounted for: {frames}")
    return "".join(f"; {line}" for line in troubles)


__all__ = ["Fault", "Seen", "camera", "clock_jump", "closing", "corruption", "freeze", "freeze_for_good", "full_disk",
           "garbage", "grown", "kill"]  # fmt: skip
