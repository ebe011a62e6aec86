"""The add-on for Godot 3 in a real Godot without a window: golden files, faults, and the head from the real gateway."""

import base64
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from streamer.gateway.records import encode_hello
from streamer.gateway.variants import for_target
from tests.plugins.golden import FOLDER, HEAD, LEFT_EAR, NOSE, TARGETS, digits, target_stream
from tests.plugins.test_blender_client import impostor
from tests.streamer.gateway_makers import PATIENCE_S, Stage, head

ROOT = Path(__file__).resolve().parents[2]
GODOT = shutil.which("godot3-server")
OTHER = head("other", segments=16)

pytestmark = pytest.mark.skipif(
    not GODOT, reason="no godot3-server: run requirements/consumers.sh .venv/bin/python as root on Debian"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("godot")
    shutil.copytree(ROOT / "plugins/godot/godot3", folder, dirs_exist_ok=True)
    shutil.copy(ROOT / "tests/plugins/godot_dump.gd", folder)
    (folder / "project.godot").write_text('config_version=4\n[application]\nconfig/name="test"\n')
    return folder


def command(project: Path, *words: str) -> list[str]:
    return [str(GODOT), "--path", str(project), "-s", "godot_dump.gd", "--do", *words]


def plain(line: str) -> str:
    """Base64 in a line of godot_dump.gd as the digits of the golden files."""

    def block(found: re.Match[str]) -> str:
        if found[3] == "-":
            return f" {found[1]}=-"
        return f" {found[1]}={digits(np.frombuffer(base64.b64decode(found[3]), '<f4' if found[2] == 'f' else '<u4'))}"

    names = "triangles|uv|corners|source|positions|pose|weights|normals"
    words = re.sub(rf" ({names})=([fi])(\S*)", block, line)
    if words.startswith(("frame ", "weights ")):
        parts = words.split(" ")
        parts[3] = base64.b64decode(parts[3]).hex()
        words = " ".join(parts)
    return words


def sections(project: Path, step: int, *names: str) -> list[list[str]]:
    files = [str(FOLDER / name) for name in names]
    done = subprocess.run(
        command(project, "dump", str(step), *files),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=55,
        check=False,
    )
    told = done.stdout.decode("utf-8")
    assert done.returncode == 0 and "SCRIPT ERROR" not in told, told[-2000:]
    parts = re.split(r"^(?=# )", told, flags=re.MULTILINE)[1:]
    kinds = ("hello ", "health ", "topology ", "frame ", "weights ", "end ", "error ", "said ")
    return [[plain(line) for line in part.splitlines() if line.startswith(kinds)] for part in parts]


@pytest.mark.parametrize("step", [7, 1 << 20])
def test_golden_streams_are_read_bit_by_bit(project: Path, step: int) -> None:
    names = ["head", *TARGETS]
    told = sections(project, step, *(f"{name}.bin" for name in names))
    for name, lines in zip(names, told, strict=True):
        assert lines == (FOLDER / f"{name}.txt").read_text("utf-8").splitlines(), name


def test_every_fault_is_named_and_said(project: Path) -> None:
    table = [line.split() for line in (FOLDER / "faults.txt").read_text().splitlines()]
    told = sections(project, 1, *(f"faults/{name}.bin" for name, _, _ in table))
    for (name, fault, whole), lines in zip(table, told, strict=True):
        assert lines[-2] == f"error {fault}" and len(lines) == int(whole) + 2, name
        assert len(lines[-1]) > len("said ") + 20, name


class Live:
    """A head node in Godot; its lines as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()

    def seen(self, begin: str, since: int = 0) -> list[str]:
        """Lines with such a beginning."""
        with self._news:
            return [line for line in self.lines[since:] if line.startswith(begin)]

    def wait(self, begin: str, since: int = 0) -> str:
        """The first line with this beginning, once it is there."""
        with self._news:
            there = self._news.wait_for(lambda: any(x.startswith(begin) for x in self.lines[since:]), PATIENCE_S)
            assert there, self.lines[-3:]
        return self.seen(begin, since)[0]


@contextmanager
def live(project: Path, port: int) -> Iterator[Live]:
    words = command(project, "live", str(port))
    # a terminal's line buffering: Godot flushes its lines only when it is told to, by stdbuf
    with subprocess.Popen(
        ["stdbuf", "-oL", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    ) as process:
        client = Live(process)
        try:
            yield client
            assert process.poll() is None, "Godot has ended"
            assert not client.seen("SCRIPT ERROR"), client.lines[-20:]
        finally:
            process.kill()
            client.thread.join()


def shown(line: str, name: str, kind: str) -> np.ndarray:
    found = re.search(rf" {name}=(\S+)", line)
    assert found is not None
    return np.frombuffer(base64.b64decode(found[1]), kind)


def test_the_head_from_the_gateway_a_new_topology_and_a_restart(project: Path) -> None:
    """The mesh that Godot holds: the way round, the size, its faces and normals; then another; then another gateway."""
    first = Stage()
    config = first.config
    with live(project, first.tcp_port) as client:
        try:
            number = first.play(HEAD, lambda: bool(client.seen("head ")))
            line = client.wait("head ")
            points = shown(line, "vertices", "<f4").reshape(-1, 3).astype(float)
            source, triangles = shown(line, "source", "<i4"), shown(line, "index", "<i4").reshape(-1, 3)
            assert source[np.argmax(points[:, 2])] == NOSE and source[np.argmax(points[:, 0])] == LEFT_EAR
            assert np.ptp(points[:, 1]) == pytest.approx(0.257, rel=1e-5)
            a, b, c = (points[triangles[:, k]] for k in range(3))
            out = np.einsum("ij,ij->i", np.cross(c - a, b - a), (a + b + c) / 3 - points.mean(0))
            assert (out > 0).all(), "clockwise in a right-handed space: (c - a) x (b - a) points out"
            normals = shown(line, "normals", "<f4").reshape(-1, 3)
            assert (np.einsum("ij,ij->i", normals, points - points.mean(0)) > 0).all()
            assert line.endswith(" jaw=0.25")
            first.play(OTHER, lambda: bool(client.seen("head other")), number)
            since = len(client.lines)
        finally:
            first.close()
        client.wait("status nobody answers", since)
        with Stage(config) as second:
            second.play(OTHER, lambda: bool(client.seen("head other", since)))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HCM2" + bytes(60), "the server speaks another version: use the add-on"),
        (b"".join(target_stream("godot"))[:4000], "the stream ended inside a record"),
        ((FOLDER / "faults/vertices_too_many.bin").read_bytes(), "a frame came before its topology"),
    ],
    ids=["newer", "half", "garbage"],
)
def test_faults_in_the_stream_are_told_and_survived(project: Path, answer: bytes, told: str) -> None:
    good = b"".join(target_stream("godot"))
    greeting = encode_hello(for_target("godot"))
    with impostor(greeting + answer, greeting + answer, good) as port, live(project, port) as client:
        client.wait(f"status {told}")
        client.wait("status the server says: the gateway was stopped")
