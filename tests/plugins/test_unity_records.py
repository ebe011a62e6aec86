"""The Unity package without Unity: decoder and connection under Mono, against golden files, garbage and the gateway."""

import json
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from streamer.gateway.records import encode_hello
from streamer.gateway.variants import for_target
from tests.plugins.golden import FOLDER, HEAD, LEFT_EAR, NOSE, TARGETS, target_stream
from tests.plugins.test_blender_client import impostor
from tests.streamer.gateway_makers import PATIENCE_S, Stage, head

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins/unity"
ENGINE_FREE = ["Records.cs", "Json.cs", "MienClient.cs"]
OTHER = head("other", segments=16)
MUTATIONS = 3000

needs_mono = pytest.mark.skipif(
    not (shutil.which("mcs") and shutil.which("mono")),
    reason="no Mono: run requirements/consumers.sh .venv/bin/python",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("unity") / "dump.exe"
    sources = [*(PACKAGE / "Runtime" / name for name in ENGINE_FREE), ROOT / "tests/plugins/unity_dump.cs"]
    command = ["mcs", "-langversion:7", "-warn:4", "-warnaserror", f"-out:{made}", *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def run(program: Path, what: str, number: int, *names: str) -> str:
    files = [str(FOLDER / name) for name in names]
    command = ["mono", str(program), what, str(number), *files]
    done = subprocess.run(command, capture_output=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8")


def sections(told: str) -> list[list[str]]:
    return [part.splitlines()[1:] for part in re.split(r"^(?=# )", told, flags=re.MULTILINE)[1:]]


@needs_mono
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_golden_streams_are_read_bit_by_bit(program: Path, step: int) -> None:
    names = ["head", *TARGETS]
    told = sections(run(program, "dump", step, *(f"{name}.bin" for name in names)))
    for name, lines in zip(names, told, strict=True):
        assert lines == (FOLDER / f"{name}.txt").read_text("utf-8").splitlines(), name


@needs_mono
def test_every_fault_is_named_and_said(program: Path) -> None:
    table = [line.split() for line in (FOLDER / "faults.txt").read_text().splitlines()]
    told = sections(run(program, "dump", 1, *(f"faults/{name}.bin" for name, _, _ in table)))
    for (name, fault, whole), lines in zip(table, told, strict=True):
        assert lines[-2] == f"error {fault}" and len(lines) == int(whole) + 2, name
        assert len(lines[-1]) > len("said ") + 20, name


@needs_mono
def test_truncations_and_mutations_raise_nothing_but_their_own(program: Path) -> None:
    seeds = ["head.bin", "unity.bin", "stream.bin", *(f"faults/{path.name}" for path in (FOLDER / "faults").iterdir())]
    cuts, mutations, read = (int(number) for number in re.findall(r"\d+", run(program, "fuzz", MUTATIONS, *seeds)))
    assert cuts > 1000 and mutations == MUTATIONS and read > mutations / 4


@needs_mono
def test_frames_make_no_garbage(program: Path) -> None:
    """200,000 frames: had each left even 24 bytes, 4.8 MB, Mono's nursery of 4 MB would have been collected."""
    assert run(program, "garbage", 0, "stream.bin") == "collections 0\n"


class Live:
    """A client in Mono; its lines as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

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

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0
        self._thread.join()


@contextmanager
def live(program: Path, port: int) -> Iterator[Live]:
    command = ["mono", str(program), "live", str(port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            client = Live(process)
            yield client
            client.close()
        finally:
            process.kill()


def points(line: str) -> np.ndarray:
    fields = dict(word.partition("=")[::2] for word in line.split(" "))
    return np.frombuffer(bytes.fromhex(fields["positions"]), "<f4").reshape(-1, 3)


@needs_mono
def test_the_head_from_the_gateway_a_new_topology_and_a_restart(program: Path) -> None:
    """The way round, the size and the faces are as Unity wants them, from the first head on."""
    first = Stage()
    config = first.config
    with live(program, first.tcp_port) as client:
        try:
            number = first.play(HEAD, lambda: bool(client.seen("frame")))
            told = client.wait("topology").partition(" uv=")
            triangles = np.frombuffer(bytes.fromhex(told[0].partition("triangles=")[2]), "<u4").reshape(-1, 3)
            source = np.frombuffer(bytes.fromhex(told[2].partition("source=")[2].split(" ")[0]), "<u4")
            head_points = points(client.wait("frame")).astype(float)
            assert source[np.argmax(head_points[:, 2])] == NOSE and source[np.argmin(head_points[:, 0])] == LEFT_EAR
            assert np.ptp(head_points[:, 1]) == pytest.approx(0.257, rel=1e-5)
            a, b, c = (head_points[triangles[:, k]] for k in range(3))
            out = np.einsum("ij,ij->i", np.cross(b - a, c - a), (a + b + c) / 3 - head_points.mean(0))
            assert (out > 0).all(), "clockwise in a left-handed space: (b - a) x (c - a) points out"
            first.play(OTHER, lambda: bool(client.seen("status live: other")), number)
            since = len(client.lines)
        finally:
            first.close()
        client.wait("status nobody answers", since)
        with Stage(config) as second:
            second.play(OTHER, lambda: bool(client.seen("frame", since)))


@needs_mono
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 426 Upgrade Required\r\n", "what answers there is not Mien"),
        (b"HCM2" + bytes(60), "the server speaks another version: use the package"),
        (b"".join(target_stream("unity"))[:4000], "the stream ended inside a record"),
        ((FOLDER / "faults/vertices_too_many.bin").read_bytes(), "a frame came before its topology"),
    ],
    ids=["http", "newer", "half", "garbage"],
)
def test_faults_in_the_stream_are_told_and_survived(program: Path, answer: bytes, told: str) -> None:
    good = b"".join(target_stream("unity"))
    greeting = encode_hello(for_target("unity"))
    with impostor(*[greeting + answer] * 3, good) as port, live(program, port) as client:
        client.wait(f"status {told}")
        client.wait("status the server says: the gateway was stopped")


def test_engine_free_means_engine_free_and_the_package_has_mien_version() -> None:
    for name in ENGINE_FREE:
        assert "using UnityEngine" not in (PACKAGE / "Runtime" / name).read_text()
    package = json.loads((PACKAGE / "package.json").read_text())
    assert package["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert all((PACKAGE / sample["path"]).is_dir() for sample in package["samples"])
    assert json.loads((PACKAGE / "Runtime/Mien.Live.asmdef").read_text())["name"] == "Mien.Live"
