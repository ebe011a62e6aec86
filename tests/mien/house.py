"""`mien live` with simulated cameras as its users run it, and what can be seen of it from outside."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streamer.config import BusConfig
from streamer.control import ask
from streamer.live import free_ports
from streamer.report import add_beat, frames_account
from streamer.takes.verify import verify_take
from streamer.types import Health
from tests.streamer.hosts import inside

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path("/dev/shm")
SMALL: Mapping[str, object] = {
    "rig.fps": 10,
    "rig.simulated.cameras": 4,
    "rig.simulated.width": 320,
    "rig.simulated.height": 240,
    "sync.deadline_ms": 1000,
    "inference.threads": 1,
    "record.min_free_gb": 0.005,
    "record.roll_s": 5,
}
PORTS = ("node_port", "infer_port", "record_port", "demo_port", "serve_port", "control_port")

# Listens as any consumer would, in a process of its own: also in another network, and never held up by the test.
WATCHER = """
import json, sys, time
from streamer.transport import Subscriber
from streamer.types import Health, MeshFrame
with Subscriber(sys.argv[2:], ["mesh", "health"], keys_dir=sys.argv[1]) as subscriber:
    while True:
        received = subscriber.receive(0.2)
        if received is None:
            continue
        now, message = time.monotonic(), received[1]
        if isinstance(message, MeshFrame):
            row = ["mesh", now, message.frame_id, len(message.views)]
        else:
            row = ["health", now, message.process, message.time_ns, message.state, dict(message.counters)]
        print(json.dumps(row), flush=True)
"""


class Fault(AssertionError):
    """The house did not do what it should."""


class House:
    """A running `mien live`.

    Args:
        folder: for takes, logs and configuration.
        settings: further `--set`.
        arguments: further arguments of `mien live`.
        environment: further variables.
        namespace: the network namespace that it runs in; empty: this process's.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, object] | None = None,
        *,
        arguments: Sequence[str] = ("--no-view", "--record"),
        environment: Mapping[str, str] | None = None,
        namespace: str = "",
    ) -> None:
        self.folder, self._namespace = folder, namespace
        self._within = ["ip", "netns", "exec", namespace] if namespace else []
        ports = free_ports(len(PORTS) + 4)
        self.ports = dict(zip(PORTS, ports, strict=False))
        self.http = ports[-1]
        chosen = {f"bus.{name}": port for name, port in self.ports.items()}
        chosen |= {"serve.tcp_port": ports[-2], "serve.websocket_port": ports[-3], "live.http_port": self.http}
        chosen["view.web_port"] = ports[-4]
        chosen |= {"record.directory": folder / "takes", "live.logs": folder / "logs", **SMALL, **(settings or {})}
        self.settings = chosen
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "empty.toml").write_text("schema = 1\n")
        words = [word for key, value in chosen.items() for word in ("--set", f"{key}={_toml(value)}")]
        self.command = [sys.executable, "-m", "mien", "live", "--no-screen", "--json", *arguments]
        self.command += ["--config", str(folder / "empty.toml"), *words]
        self.environment = {**os.environ, **(environment or {})}
        self.meshes: list[tuple[float, int, int]] = []
        """Arrival on the monotonic clock, frame id, views."""
        self.lives: dict[str, list[Health]] = {}
        self._process: subprocess.Popen[str] | None = None
        self._watcher: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        with (self.folder / "live.err").open("w") as errors:
            self._process = subprocess.Popen(
                [*self._within, *self.command], cwd=ROOT, env=self.environment, text=True,
                stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        endpoints = [str(self.settings.get("bus.infer_seen", f"tcp://127.0.0.1:{self.ports['infer_port']}"))]
        endpoints += self.settings.get("bus.nodes") or [f"tcp://127.0.0.1:{self.ports['node_port']}"]  # type: ignore[operator]
        endpoints += [f"tcp://127.0.0.1:{self.ports[name]}" for name in ("record_port", "demo_port")]
        command = [sys.executable, "-c", WATCHER, str(self.settings.get("bus.keys_dir", "")), *endpoints]
        self._watcher = subprocess.Popen([*self._within, *command], cwd=ROOT, text=True, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, args=(self._watcher,), daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self._process, self._watcher):
            if process is not None:
                process.kill()
                process.wait()
        if self._reader is not None:
            self._reader.join()
        for process in (self._process, self._watcher):
            if process is not None and process.stdout is not None:
                process.stdout.close()

    def _read(self, watcher: "subprocess.Popen[str]") -> None:
        assert watcher.stdout is not None
        for line in watcher.stdout:
            if not line.endswith("\n"):
                return  # it was cut off in the middle of a line
            kind, now, *rest = json.loads(line)
            if kind == "mesh":
                self.meshes.append((now, rest[0], rest[1]))
            else:
                process, time_ns, state, counters = rest
                lives = self.lives.setdefault(process, [])
                add_beat(lives, Health(process, time_ns, state, counters))

    @property
    def pid(self) -> int:
        """Of `mien live` itself: the supervisor and console."""
        assert self._process is not None
        return self._process.pid

    def died(self) -> str:
        """Why `mien live` is no more; empty while it runs."""
        if self._process is None or self._process.poll() is None:
            return ""
        return f"mien live ended with {self._process.returncode}: {_text(self.folder / 'live.err')}"

    def wait(self, what: str, condition: Callable[[], object], seconds: float = 60.0) -> float:
        """Wait until something is so, and return how long that took, s."""
        begin = time.monotonic()
        while not condition():
            if self._process is not None and self._process.poll() is not None:
                raise Fault(f"mien live ended before {what}: {(self.folder / 'live.err').read_text()}")
            if time.monotonic() - begin > seconds:
                raise Fault(f"waited {seconds:g} s for {what}; {self.state(patient=False).get('events', [])[-8:]}")
            threading.Event().wait(0.05)
        return time.monotonic() - begin

    def wait_ready(self) -> None:
        self.wait("all processes are ready", lambda: self.state().get("ready"), 120.0)
        self.wait("meshes", lambda: len(self.meshes) > 5)

    def state(self, *, patient: bool = True) -> dict[str, Any]:
        """What `/state` says; empty while nobody answers."""
        address = f"http://127.0.0.1:{self.http}/state"
        try:
            with inside(self._namespace), urllib.request.urlopen(address, timeout=10 if patient else 1) as answer:
                return dict(json.load(answer))
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError):
            return {}

    def process(self, name: str) -> dict[str, Any]:
        return next((each for each in self.state().get("processes", []) if each["name"] == name), {})

    def pids(self) -> dict[str, int]:
        return {each["name"]: each["pid"] for each in self.state()["processes"] if each["pid"]}

    def alarms(self) -> list[str]:
        return [f"{each['what']}: {each['cause']}" for each in self.state().get("alarms", [])]

    def take(self, command: str, **arguments: object) -> dict[str, Any]:
        """Send a command to the recorder."""
        bus = BusConfig(control_port=self.ports["control_port"])
        keys = str(self.settings.get("bus.keys_dir", ""))
        with inside(self._namespace):
            return ask(f"tcp://{bus.host}:{bus.control_port}", command, arguments, keys_dir=keys, timeout_s=20)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> float:
        """Signal a process and return when, on the monotonic clock."""
        os.kill(self.pids()[name], number)
        return time.monotonic()

    def told_s(self, name: str, what: str) -> float:
        """When, on the monotonic clock, the supervisor last told an event of a process."""
        events = [json.loads(line) for line in _text(self.folder / "logs/events.jsonl").splitlines()]
        times = [each["time_ns"] for each in events if (each["process"], each["what"]) == (name, what)]
        if not times:
            raise Fault(f"the supervisor never told that {name} was {what}")
        return float(times[-1] / 1e9 - time.time() + time.monotonic())

    def back_s(self, since_s: float, seconds: float = 60.0) -> float:
        """Return how long after a moment the stream of meshes ran again: three in a row within a second."""

        def first() -> float | None:
            times = [now for now, _, _ in list(self.meshes) if now > since_s]
            runs = zip(times, times[2:], strict=False)
            return next((begin for begin, end in runs if end - begin < 1.0), None)

        self.wait("meshes again", lambda: first() is not None, seconds)
        begin = first()
        assert begin is not None
        return begin - since_s

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """Return the longest silence of the mesh stream between two moments."""
        times = [since_s, *(now for now, _, _ in list(self.meshes) if since_s < now < until_s), until_s]
        return max(b - a for a, b in pairwise(times))

    def end(self) -> dict[str, Any]:
        """Stop as an operator would, and return what `mien live` printed."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            answer = self._process.communicate(timeout=90)[0]
        except subprocess.TimeoutExpired as error:
            raise Fault("mien live did not end within 90 s of SIGTERM") from error
        if self._process.returncode:
            raise Fault(f"mien live ended with {self._process.returncode}: {(self.folder / 'live.err').read_text()}")
        told = dict(json.loads(answer))
        for name, counters in told["health"].items():  # the last word of a process may not have reached the watcher yet
            add_beat(self.lives.setdefault(name, []), Health(name, 0, "stopping", counters))
        return told

    def account(self) -> dict[str, Any]:
        """Where every published frame went, by the heartbeats that were heard."""
        return frames_account(self.lives.get("node", []), self.lives.get("infer", []))

    def takes(self) -> list[Path]:
        return sorted(path.parent for path in (self.folder / "takes").rglob("take.json"))

    def damaged(self) -> list[str]:
        """Takes that `mien verify` would not pass."""
        checked = [(path, verify_take(path)) for path in self.takes()]
        return [f"{path.name}: {found.as_json()}" for path, found in checked if not found.ok]

    def left_behind(self) -> list[str]:
        """What is still there of this house: processes, shared memory of its processes, ports."""
        mark = str(self.folder / "takes")
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode("utf-8", "replace").split("\0")
                config = words[words.index("--config") + 1] if "--config" in words else ""
                mine = mark in " ".join(words) or (config and mark in _text(Path(config)))
                if mine and path.parent.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found.append(" ".join(words[:5]))
            except (FileNotFoundError, ProcessLookupError):
                continue
        found += [f"/dev/shm/{path.name}" for pid in self.all_pids() for path in SHARED.glob(f"mien-{pid}-*")]
        return found + self._ports_in_use()

    def bound(self) -> set[str]:
        """Addresses, as the kernel writes them, that processes of the house listen at."""
        assert self._process is not None
        found = set()
        for pid in (self._process.pid, *self.pids().values()):
            links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
            sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
            for kind, listens in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
                for words in map(str.split, _text(Path(f"/proc/{pid}/net/{kind}")).splitlines()[1:]):
                    if words[3] == listens and words[9] in sockets:
                        found.add(words[1].partition(":")[0])
        return found

    def all_pids(self) -> set[int]:
        """Every process that the supervisor ever started, by its journal."""
        journal = self.folder / "logs/events.jsonl"
        events = [json.loads(line) for line in _text(journal).splitlines()]
        return {int(each["why"].rpartition(" ")[2]) for each in events if each["what"] == "started"}

    def _ports_in_use(self) -> list[str]:
        found = []
        with inside(self._namespace):
            for port in (*self.ports.values(), self.http):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        found.append(f"port {port}")
        return found

    def held(self) -> dict[str, Counter[str]]:
        """What the supervisor and each of its processes hold now: threads, open files, segments that are mapped."""
        assert self._process is not None
        found = {}
        for name, pid in {"live": self._process.pid, **self.pids()}.items():
            place = Path("/proc") / str(pid)
            maps = {line.split(None, 5)[5] for line in _text(place / "maps").splitlines() if "/dev/shm/" in line}
            files, threads = len(os.listdir(place / "fd")), len(os.listdir(place / "task"))
            found[name] = Counter(files=files, threads=threads, segments=len(maps))
        return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f"'{item}'" for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
