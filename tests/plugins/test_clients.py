"""What every client has to do, each as the program that people run: the head the right way round, a new topology in
mid-stream, a gateway that restarts, answers that are none, and a gateway that asks for a secret over TLS.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from streamer.config import ServeConfig
from streamer.gateway.records import encode_hello
from streamer.gateway.variants import for_target
from tests.plugins.clients import (
    ROOT,
    SECRET,
    Lines,
    array,
    godot3_project,
    guarded,
    impostor,
    needs_openssl,
    program,
    web_impostor,
)
from tests.plugins.godot4_tools import godot4, needs_godot4
from tests.plugins.golden import FOLDER, HEAD, LEFT_EAR, NOSE, target_stream
from tests.plugins.web_tools import PageLines
from tests.streamer.gateway_makers import Stage, head

OTHER = head("other", segments=16)
GODOT3, PLUGIN = shutil.which("godot3-server"), ROOT / "plugins/unreal/MienLive/Source/MienLive/Public"
Opened = AbstractContextManager[Lines]
Client = Callable[..., Opened]


@pytest.fixture(scope="module")
def godot3(tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = godot3_project(tmp_path_factory.mktemp("godot"))
    # a terminal's line buffering: Godot flushes its lines only when it is told to, by stdbuf
    words = ["stdbuf", "-oL", GODOT3, "--path", folder, "-s", "godot_dump.gd", "--do", "live"]
    return lambda port, *secret: program(*words, "localhost" if secret else "127.0.0.1", port, *secret)


@pytest.fixture(scope="module")
def unity(tmp_path_factory: pytest.TempPathFactory) -> Client:
    made = tmp_path_factory.mktemp("unity") / "live.exe"
    package, ours = ROOT / "plugins/unity", ROOT / "tests/plugins"
    sources = [*(package / "Runtime").glob("*.cs"), *(package / "Samples~").rglob("*.cs")]
    command = ["mcs", "-langversion:7", "-warn:4", "-warnaserror", f"-out:{made}", *sources]
    subprocess.run([*command, ours / "unity_stubs.cs", ours / "unity_live.cs"], check=True, timeout=55)
    return lambda port, *secret: program("mono", made, port, *secret)


@pytest.fixture(scope="module")
def unreal(tmp_path_factory: pytest.TempPathFactory) -> Client:
    made = tmp_path_factory.mktemp("unreal") / "live"
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-fsanitize=address,undefined"]
    command = ["g++", *strict, f"-I{PLUGIN}", ROOT / "tests/plugins/unreal_live.cpp", "-o", made]
    subprocess.run(command, check=True, capture_output=True, timeout=55)
    return lambda port, *secret: program(made, port, *secret[:1])


@pytest.fixture(scope="module")
def blender() -> Client:
    script = ROOT / "tests/plugins/blender_live.py"
    return lambda port, *secret: program(sys.executable, script, ROOT / "plugins/blender", port, *secret)


@pytest.fixture
def godot4_page(tmp_path: Path) -> Client:
    @contextmanager
    def run(port: int, *secret: str) -> Iterator[Lines]:
        address = f"wss://127.0.0.1:{port}" if secret else f"ws://127.0.0.1:{port}"
        with godot4(tmp_path, "live", address, *secret[:1]) as page:
            lines = PageLines(page)
            yield lines
            assert not lines.seen("SCRIPT ERROR")

    return run


CLIENTS = [
    pytest.param("godot3", "godot", marks=pytest.mark.skipif(not GODOT3, reason="no godot3-server")),
    pytest.param("godot4_page", "godot", marks=needs_godot4),
    pytest.param("unity", "unity", marks=pytest.mark.skipif(not shutil.which("mcs"), reason="no Mono")),
    pytest.param("unreal", "unreal", marks=pytest.mark.skipif(not shutil.which("g++"), reason="no g++")),
    pytest.param("blender", "blender"),
]
each_client = pytest.mark.parametrize(("name", "target"), CLIENTS)


def port_of(stage: Stage, name: str) -> int:
    return int(stage.endpoints[name == "godot4_page"].rpartition(":")[2])


def assert_right(line: str, target: str) -> None:
    """Where nose and left ear are, how high the head is, and where its faces look, by the target's own rules."""
    space = for_target(target).space
    points = array(line, "vertices", "<f4").reshape(-1, 3).astype(float)
    source = array(line, "source", "<u4") if " source=" in line else np.arange(len(points))
    forward, left, up = (space.matrix @ axis for axis in np.eye(3)[[2, 0, 1]])
    assert source[np.argmax(points @ forward)] == NOSE and source[np.argmax(points @ left)] == LEFT_EAR
    assert np.ptp(points @ up) == pytest.approx(0.257 * np.abs(space.matrix).max() ** 2, rel=1e-4)
    a, b, c = (points[array(line, "triangles", "<u4").reshape(-1, 3)[:, k]] for k in range(3))
    out = np.einsum("ij,ij->i", np.cross(b - a, c - a), (a + b + c) / 3 - points.mean(0))
    clockwise = {"godot": True, "unity": False, "unreal": True, "blender": False}[target]
    assert ((out < 0) == clockwise).all(), "cross products as that program's renderer takes them"
    if " normals=" in line:
        normals = array(line, "normals", "<f4").reshape(-1, 3)
        assert (np.einsum("ij,ij->i", normals, points - points.mean(0)) > 0).all()
    assert line.endswith(" jaw=0.25")


@each_client
def test_the_head_a_new_topology_and_a_restart(name: str, target: str, request: pytest.FixtureRequest) -> None:
    client: Client = request.getfixturevalue(name)
    first = Stage()
    config = first.config
    with client(port_of(first, name)) as lines:
        try:
            number = first.play(HEAD, lambda: lines.seen("head "))
            assert_right(lines.wait("head schief"), target)
            first.play(OTHER, lambda: lines.seen("head other"), number)
            since = lines.count()
        finally:
            first.close()
        lines.wait("status nobody answers", since)
        with Stage(config) as second:
            second.play(HEAD, lambda: lines.seen("head schief", since))


@each_client
def test_what_is_no_gateway_is_told_and_outlived(name: str, target: str, request: pytest.FixtureRequest) -> None:
    """A later version, garbage, half a record, a frame out of order; then one that is all right."""
    client: Client = request.getfixturevalue(name)
    good = b"".join(target_stream(target))
    greeting = encode_hello(for_target(target))
    garbage = b"HTTP/1.1 426 Upgrade Required\r\n"
    lost = (FOLDER / "faults/vertices_too_many.bin").read_bytes()
    answers = [greeting + b"HCM2" + bytes(60), garbage, greeting + good[:4000], greeting + lost, good]
    web = name == "godot4_page"
    with (web_impostor if web else impostor)(*answers) as port, client(port) as lines:
        for told in ("the server speaks another version", "what answers there is not Mien"):
            lines.wait(f"status {told}" if name != "blender" else "status ")
        if not web:  # a message that is cut short is no record at all
            lines.wait("status the stream ended inside a record")
        lines.wait("status the server says: the gateway was stopped")
        assert lines.seen("head schief")


@needs_openssl
@each_client
def test_a_gateway_beyond_loopback(name: str, target: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """It wants a secret, over TLS where the client has it; who does not know it is told what is missing."""
    client: Client = request.getfixturevalue(name)
    config = guarded(tmp_path)
    speaks_tls = name != "unreal"
    if not speaks_tls:
        config = ServeConfig(tcp_port=0, websocket_port=0, token_file=config.token_file)
    with Stage(config) as stage:
        secret = (SECRET, str(tmp_path / "cert.pem")) if speaks_tls else (SECRET,)
        with client(port_of(stage, name), *secret) as lines:
            stage.play(HEAD, lambda: lines.seen("head schief"))
            assert_right(lines.wait("head schief"), target)
