"""Faults of the line between the camera host and the others: cut, slow, lossy. Needs root."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streamer.keys import create_keys
from tests.mien.faults import LIMIT_S, Seen, closing
from tests.mien.house import ROOT, SMALL, House
from tests.streamer.hosts import ADDRESSES, Hosts, Line, two_hosts

GOOD = Line(delay_ms=1.0, jitter_ms=0.2, loss=0.0)
SLOW = Line(delay_ms=300.0, jitter_ms=100.0, loss=0.0)
LOSSY = Line(delay_ms=20.0, jitter_ms=8.0, loss=0.04)
LASTS_S = 8.0
CUTS_S = (1.5, 3.5, 11.0)
"""A connection that is silent for 3 s is given up."""
NODE_PORT = 5700


@contextmanager
def apart(folder: Path, settings: Mapping[str, object]) -> Iterator[tuple[House, Hosts, Callable[[], None]]]:
    """A camera host and, on another machine, everything else; and what ends them in order."""
    folder.mkdir(parents=True)
    keys = folder / "keys"
    create_keys(keys)
    (folder / "node.toml").write_text("schema = 1\n")
    bus = {"host": ADDRESSES[0], "node_port": NODE_PORT, "shared_memory": "false", "keys_dir": keys}
    words = [f"--set={key}={value}" for key, value in {**SMALL, **{f"bus.{k}": v for k, v in bus.items()}}.items()]
    command = [sys.executable, "-m", "mien", "node", "--config", str(folder / "node.toml"), *words]
    with two_hosts(GOOD) as hosts:
        node = subprocess.Popen(hosts.command(0, *command), cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            nodes = [f"tcp://{ADDRESSES[0]}:{NODE_PORT}"]
            chosen = {"bus.nodes": nodes, "bus.keys_dir": keys, **settings}
            with House(folder / "house", chosen, namespace=hosts.names[1]) as house:

                def end() -> None:
                    node.terminate()
                    node.wait(30)
                    house.wait("the node's last word", lambda: house.lives["node"][-1].state == "stopping")
                    house.end()

                yield house, hosts, end
        finally:
            node.kill()
            node.wait()


def network(folder: Path) -> list[Seen]:
    """The cable is pulled, the line is slow, the line loses packets: one after the other."""
    rows = []
    with apart(folder, {}) as (house, hosts, end):
        house.wait_ready()
        before = house.pids()
        rows.append(_cut(house, hosts))
        rows.append(
            _bad(house, hosts, f"the line is slow ({SLOW.delay_ms:g} \u00b1 {SLOW.jitter_ms:g} ms each way)", SLOW)
        )
        rows.append(_bad(house, hosts, f"the line loses {100 * LOSSY.loss:g} % of all packets each way", LOSSY))
        touched = [name for name, pid in before.items() if house.pids().get(name) != pid]
        end()
        trouble = closing(house) + (f"; started again: {touched}" if touched else "")
    account = house.account()
    lost = ", ".join(f"{count} {why}" for why, count in account["unused"].items())
    seen = trouble or f"{account['published']} frames published, {account['used']} used, {lost}; nothing restarted"
    return [*rows, Seen(f"after these on the line (by {hosts.by})", seen, None, not trouble)]


def _cut(house: House, hosts: Hosts) -> Seen:
    """Short: the connection lives and sends again. Long: it has been given up and is made anew."""
    backs, told = [], ""
    for seconds in CUTS_S:
        hosts.plug(in_=False)
        threading.Event().wait(seconds)
        told = next((alarm for alarm in house.alarms() if "not heard" in alarm), "")
        hosts.plug(in_=True)
        backs.append(house.back_s(time.monotonic()))
    silences = ", ".join(f"{back:.1f}" for back in backs)
    lengths = ", ".join(f"{seconds:g}" for seconds in CUTS_S)
    seen = f"told: \u201c{told}\u201d; meshes {silences} s after it was put back"
    return Seen(
        f"the cable to the camera host is out for {lengths} s", seen, max(backs), max(backs) < LIMIT_S and bool(told)
    )


def _bad(house: House, hosts: Hosts, fault: str, line: Line) -> Seen:
    latency: Callable[[], float] = lambda: house.state()["flow"]["latency_ms"].get("p50", 0.0)  # noqa: E731
    usual, at = latency(), time.monotonic()
    hosts.change(line)
    threading.Event().wait(LASTS_S)
    gap, worse = house.longest_gap_s(at, time.monotonic()), latency()
    hosts.change(GOOD)
    back = house.back_s(time.monotonic())
    seen = (
        f"longest silence {gap:.1f} s; latency p50 {usual:.0f} -> {worse:.0f} ms; meshes {back:.1f} s after it was well"
    )
    return Seen(fault, seen, back, max(gap, back) < LIMIT_S)
