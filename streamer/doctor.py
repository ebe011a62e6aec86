"""Checks of the machine, each with a remedy. What only one room knows (engine, graphics) the command line adds."""

import dataclasses
import errno
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, Literal

from streamer.config import BusConfig, LiveConfig, RecordConfig, ServeConfig

WRITE_MB = 64
NEEDED_MB_PER_S = 50.0
"""Eight JPEG cameras of 640x480 at 30 fps write less than a third of this."""
REQUIREMENT = re.compile(r"([\w.-]+)==([\w.+]+)(?:\s*;\s*extra\s*==\s*[\"']([\w-]+)[\"'])?")
"""All that pyproject.toml of Mien writes; its test holds that."""
RING_MB = 64.0
"""Shared memory that a default rig takes, with room."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor."""

    name: str
    """What was looked at."""
    state: Literal["ok", "warn", "fail"]
    """`fail`: the demo cannot run; `warn`: something less than all works."""
    found: str
    """What is the case."""
    remedy: str = ""
    """What to do, empty if all is well."""


def python() -> Check:
    """Name the Python that runs; pip refuses one that is too old."""
    return Check("python", "ok", f"Python {sys.version.split()[0]} at {sys.executable}")


def packages() -> list[Check]:
    """Check that every package stands at the version that Mien names; extras only warn."""
    try:
        wanted = [match.groups("") for text in requires("mien") or () if (match := REQUIREMENT.fullmatch(text))]
    except PackageNotFoundError:
        return [Check("packages", "fail", "Mien itself is not installed", "run: pip install -e . (or make demo)")]
    checks = []
    for extra in ("", "view", "train"):
        trouble = [line for name, pin, its in wanted if its == extra for line in _package(name, pin)]
        name = f"packages[{extra}]" if extra else "packages"
        what = f"mien[{extra}]" if extra else "mien"
        remedy = f"run: pip install '{what}', or make {'test' if extra == 'train' else 'demo'}" if trouble else ""
        state: Literal["ok", "warn", "fail"] = ("warn" if extra else "fail") if trouble else "ok"
        checks.append(Check(name, state, "; ".join(trouble) or "all at their pinned versions", remedy))
    return checks


def _package(name: str, pin: str) -> list[str]:
    try:
        found = version(name)
    except PackageNotFoundError:
        return [f"{name} is missing"]
    return [] if found.partition("+")[0] == pin else [f"{name} {found} instead of {pin}"]


def ports(bus: BusConfig, serve: ServeConfig, live: LiveConfig, web_port: int) -> Check:
    """Check that every port that `mien live` takes can be bound; 0 is none.

    Args:
        bus: `[bus]`.
        serve: `[serve]`.
        live: `[live]`.
        web_port: of the browser view, on loopback.
    """
    names = ("node_port", "infer_port", "record_port", "demo_port", "serve_port", "control_port")
    wanted = [(f"bus.{name}", bus.host, int(getattr(bus, name))) for name in names]
    wanted += [(f"serve.{name}", serve.host, int(getattr(serve, name))) for name in ("tcp_port", "websocket_port")]
    wanted += [("live.http_port", live.host, live.http_port), ("view.web_port", "127.0.0.1", web_port)]
    taken, holders = [], dict[tuple[str, int], str]()
    for name, place, port in wanted:
        host = "127.0.0.1" if place == "localhost" else place.strip("[]")
        if not port:
            continue
        if other := holders.get((host, port)):
            taken.append(f"{name} = {port} is that of {other}")
            continue
        holders[host, port] = name
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                why = "in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
                taken.append(f"{name} = {port} is {why}")
    if taken:
        name = taken[0].partition(" ")[0]
        remedy = f"stop the program that holds it, or move it: --set {name}=PORT (mien demo finds free ports)"
        return Check("ports", "warn", "; ".join(taken), remedy)
    return Check("ports", "ok", f"all that mien live takes are free on {bus.host}")


def space(record: RecordConfig) -> tuple[Check, Path]:
    """Check the space where takes go; also return the folder that was looked at."""
    folder = Path(record.directory).absolute()
    while not folder.is_dir():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    found = Check("disk space", "ok", f"{free_gb:.1f} GB free at {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        remedy = "work in a folder of your own, or set record.directory (mien demo: --out) to one"
        found = Check("disk space", "fail", f"you may not write to {folder}", remedy)
    elif free_gb < record.min_free_gb:
        remedy = f"free some: recording needs record.min_free_gb = {record.min_free_gb:g}"
        found = dataclasses.replace(found, state="fail", remedy=remedy)
    return found, folder


def disk(record: RecordConfig) -> list[Check]:
    """Check space and speed of the disk that takes go to. Writes and removes a file of 64 MB."""
    room, folder = space(record)
    if room.state != "ok":
        return [room]
    try:
        rate = _write_rate(folder)
    except OSError as error:
        remedy = "set record.directory to another folder"
        return [room, Check("disk speed", "fail", f"{folder}: {error.strerror}", remedy)]
    speed = Check("disk speed", "ok", f"{rate:.0f} MB/s written and synchronised at {folder}")
    if rate < NEEDED_MB_PER_S:
        remedy = "set record.directory to a faster disk, or record.queue_mb higher"
        speed = dataclasses.replace(speed, state="warn", remedy=remedy)
    return [room, speed]


def _write_rate(folder: Path) -> float:
    block = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".mien-doctor-") as file:
        begin = time.perf_counter()
        for _ in range(WRITE_MB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return WRITE_MB * len(block) / 1e6 / (time.perf_counter() - begin)


def memory(bus: BusConfig) -> Check:
    """Check that shared memory works and has room for the rings."""
    if not bus.shared_memory:
        return Check("shared memory", "ok", "not used (bus.shared_memory = false)")
    try:
        segment = shared_memory.SharedMemory(create=True, size=1 << 20)
    except OSError as error:
        return Check("shared memory", "fail", f"cannot be made: {error.strerror}", "set bus.shared_memory = false")
    segment.close()
    segment.unlink()
    pool = Path("/dev/shm")
    if pool.is_dir() and (free_mb := shutil.disk_usage(pool).free / 1e6) < RING_MB:
        remedy = "make /dev/shm larger (docker run --shm-size=1g), or set bus.shared_memory = false"
        return Check("shared memory", "warn", f"only {free_mb:.0f} MB free in {pool}", remedy)
    return Check("shared memory", "ok", "works")


def examine(bus: BusConfig, record: RecordConfig, serve: ServeConfig, live: LiveConfig, web_port: int) -> list[Check]:
    """Run every check of this file."""
    return [python(), *packages(), ports(bus, serve, live, web_port), *disk(record), memory(bus)]


def first_look(bus: BusConfig, record: RecordConfig) -> list[Check]:
    """Return what would stop a demo, in a moment and without writing anything; empty if nothing would."""
    needed = [check for check in packages() if check.name in ("packages", "packages[view]")]
    return [check for check in (*needed, space(record)[0], memory(bus)) if check.state != "ok"]


def as_text(checks: Sequence[Check]) -> str:
    """Return one line per check, and the remedy below it."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<4}  {check.name:<{width}}  {check.found}")
        if check.remedy:
            lines.append(f"      {'':<{width}}  -> {check.remedy}")
    return "\n".join(lines)


def as_json(checks: Iterable[Check]) -> dict[str, Any]:
    """Return `ok` and the checks, for `--json`."""
    listed = [dataclasses.asdict(check) for check in checks]
    return {"ok": all(check["state"] != "fail" for check in listed), "checks": listed}
