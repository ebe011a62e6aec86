"""The web plugin: its decoder against the golden files, and the head in a real browser against the real gateway."""

import json
import os
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from streamer.config import ServeConfig
from tests.plugins.clients import SECRET, guarded, needs_openssl
from tests.plugins.golden import FOLDER, HEAD, LEFT_EAR, NOSE, TARGETS, target_stream
from tests.plugins.web_tools import MODULES, NODE, ROOT, bundle, demo_page, needs_chromium, needs_node
from tests.streamer.gateway_makers import Stage, head

OTHER = head("other", segments=16)
MM = 0.001


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[list[str]]]:
    made = bundle(ROOT / "tests/plugins/web_dump.ts", tmp_path_factory.mktemp("web") / "dump.mjs", "node")

    def run(step: int, *names: str) -> list[list[str]]:
        files = [str(FOLDER / name) for name in names]
        done = subprocess.run(
            [str(NODE), made, str(step), *files], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    return run


@needs_node
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_golden_streams_are_read_bit_by_bit(dump: Callable[..., list[list[str]]], step: int) -> None:
    names = ["head", *TARGETS]
    for name, lines in zip(names, dump(step, *(f"{name}.bin" for name in names)), strict=True):
        assert lines == (FOLDER / f"{name}.txt").read_text("utf-8").splitlines(), name


@needs_node
def test_every_fault_is_named(dump: Callable[..., list[list[str]]]) -> None:
    table = [line.split() for line in (FOLDER / "faults.txt").read_text().splitlines()]
    told = dump(1, *(f"faults/{name}.bin" for name, _, _ in table))
    for (name, fault, whole), lines in zip(table, told, strict=True):
        assert lines[-1] == f"error {fault}" and len(lines) == int(whole) + 1, name


@needs_node
def test_types_hold_and_the_package_builds(tmp_path: Path) -> None:
    web = tmp_path / "web"
    shutil.copytree(ROOT / "plugins/web", web, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (web / "node_modules").symlink_to(MODULES)
    done = subprocess.run([MODULES / ".bin/tsc"], cwd=web, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert {"index.js", "index.d.ts", "decoder.js", "client.js", "head.js"} <= set(os.listdir(web / "dist"))


def test_the_package_has_mien_version() -> None:
    package = json.loads((ROOT / "plugins/web/package.json").read_text())
    mien = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    tested = json.loads((ROOT / "requirements/node/package.json").read_text())["dependencies"]
    assert package["version"] == mien["version"]
    assert package["devDependencies"].items() <= tested.items(), "what is tested is what the package names"


@contextmanager
def playing(stage: Stage, topology: Any = HEAD) -> Iterator[dict[str, Any]]:
    """Publishes the topology in the dictionary, 60 times a second."""
    now, done = {"topology": topology}, threading.Event()

    def run() -> None:
        number = 0
        while not done.wait(1 / 60):
            still = now["topology"]
            weights = np.linspace(0.1, 0.9, len(still.units), dtype=np.float32)
            stage.publish(still, 0, weights=weights)
            number += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield now
    finally:
        done.set()
        thread.join()


@needs_node
@needs_chromium
def test_the_head_in_a_browser(tmp_path: Path) -> None:
    """The lopsided head stands as it should, by numbers and in the picture; topology changes; the gateway restarts."""
    with Stage() as first, demo_page(tmp_path, first.endpoints[1]) as page:
        with playing(first) as now:
            page.wait("mien.head.applied > 20 && mien.counts().drawn > 5")
            points = np.array(page.ask(do="eval", code="[...mien.head.geometry.attributes.position.array]")).reshape(
                -1, 3
            )
            source = np.array(page.ask(do="eval", code="[...mien.head.client.topology.source]"))
            np.testing.assert_array_equal(points.astype(np.float32), HEAD.template[source])
            assert source[np.argmax(points[:, 2])] == NOSE and source[np.argmax(points[:, 0])] == LEFT_EAR
            normals = np.array(page.ask(do="eval", code="[...mien.head.geometry.attributes.normal.array]")).reshape(
                -1, 3
            )
            assert (np.einsum("ij,ij->i", normals, points - points.mean(0)) > 0).all(), "normals point out"
            assert page.ask(do="eval", code="mien.head.weight('jawOpen')") == pytest.approx(0.1)
            assert page.ask(do="eval", code="mien.head.client.status") == f"live: {HEAD.name}, {len(source)} vertices"
            page.ask(do="shot", to=str(tmp_path / "head.png"))
            assert_pictured(cv2.imread(str(tmp_path / "head.png")))
            now["topology"] = OTHER
            page.wait("mien.head.client.topology?.name == 'other' && mien.head.visible")
            before = page.ask(do="eval", code="mien.head.applied")
        config = first.config
        first.close()
        page.wait("mien.head.client.status.includes('mien serve')")
        with Stage(config) as second, playing(second, OTHER):
            page.wait(f"mien.head.applied > {before} && mien.head.client.status.startsWith('live: other')")
            page.wait("mien.head.visible")


def assert_pictured(picture: np.ndarray) -> None:
    """Seen from the front: the head stands in the middle; its long left ear is on the right of the picture."""
    skin = (picture[:, :, 2].astype(int) - picture[:, :, 0]) > 12  # warmer than the background
    rows, columns = np.nonzero(skin)
    assert 0.1 < skin.mean() < 0.7
    crown, height_px = columns[rows == rows.min()].mean(), rows.max() - rows.min()
    right, left = columns.max() - crown, crown - columns.min()
    assert right > 1.08 * left, "the marked ear, 0.11 m from the middle and not 0.09, is on the person's left"
    assert 0.7 < (columns.max() - columns.min()) / height_px < 0.9, "0.2 m wide, 0.257 m high"


@needs_node
@needs_chromium
def test_faults_in_the_stream_are_told_and_survived(tmp_path: Path) -> None:
    """A later version, garbage and half a record have a line each; the page comes back by itself."""
    from websockets.sync.server import serve

    answers = [
        b"HCM2" + bytes(60),
        b"garbage, and more of it",
        target_stream("godot")[1][:200],
    ]
    said: list[str] = []

    def answer(client: Any) -> None:
        client.send(answers[len(said) % len(answers)])
        said.append("")
        for _ in client:
            pass

    with serve(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with demo_page(tmp_path, f"ws://127.0.0.1:{port}") as page:
            page.wait("mien.head.client.status.includes('use the package of your Mien')")
            page.wait("mien.head.client.status.includes('is not Mien')")
            page.wait("mien.head.client.status.includes('a record of 200 bytes should have')")
            server.shutdown()
            thread.join()
            config = ServeConfig(tcp_port=0, websocket_port=port)
            with Stage(config) as stage, playing(stage):
                page.wait("mien.head.applied > 3")


@needs_openssl
@needs_node
@needs_chromium
def test_a_gateway_beyond_loopback(tmp_path: Path) -> None:
    """It wants a secret and speaks TLS; who does not know the secret is told so."""
    page_folder = tmp_path / "page"
    page_folder.mkdir()
    with (
        Stage(guarded(tmp_path)) as stage,
        playing(stage),
        demo_page(page_folder, stage.endpoints[1], "&token=wrong%20and%20long%20enough") as page,
    ):
        page.wait("mien.head.client.status.includes('the token is not')")
        page.ask(do="eval", code=f"location.search = location.search.replace(/token=.*/, 'token={quote(SECRET)}')")
        page.wait("globalThis.mien?.head.applied > 3")
