"""The browser view, in a real browser where there is one."""

import base64
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from renderer.config import ViewConfig
from renderer.viewer.app import ViewOptions, ViewReport, run_view
from renderer.viewer.state import ViewState
from renderer.viewer.web import figures_markdown, quaternion
from streamer.config import BusConfig
from streamer.errors import TransportError
from tests.renderer.makers import PERIOD_NS, Troupe, head_topology, mesh

viser = pytest.importorskip("viser", reason="no viser: pip install 'mien[view]'")

NOBODY = BusConfig(node_port=1, infer_port=1, record_port=1, demo_port=1)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
    "--window-size=900,600",
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def poll(condition: Callable[[], Any], timeout_s: float) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)
    return result


class Page:
    """A page of a browser, over the DevTools protocol."""

    def __init__(self, socket_url: str) -> None:
        from websockets.sync.client import connect

        self._socket = connect(socket_url, max_size=None)
        self._count = 0

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=30))
            if answer.get("id") == self._count:
                return dict(answer["result"])

    def text(self) -> str:
        """What the page says; nothing while it is (re)loading and has no body, or its context has just gone."""
        answer = self.call("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return str(answer["result"].get("value", ""))

    def screenshot(self) -> np.ndarray:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium: apt-get install chromium")
    profile, processes, pages = tmp_path / "profile", [], []

    def open_url(url: str) -> Page:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", url]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        processes.append(process)
        file = profile / "DevToolsActivePort"
        poll(lambda: file.exists() and file.read_text().strip(), 30)
        port = file.read_text().splitlines()[0]

        def find() -> str | None:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                found = [page for page in json.load(answer) if page["type"] == "page" and url in page["url"]]
            return found[0]["webSocketDebuggerUrl"] if found else None

        pages.append(Page(poll(find, 20)))
        return pages[-1]

    try:
        yield open_url
    finally:
        for page in pages:
            page.close()
        for process in processes:
            process.terminate()
            process.wait()


@pytest.mark.timeout(150)  # a browser with software WebGL on a busy machine
def test_a_browser_shows_the_live_head_and_the_figures(
    open_page: Callable[[str], Page], capfd: pytest.CaptureFixture[str]
) -> None:
    port, stop = free_port(), threading.Event()
    result: list[ViewReport] = []
    with Troupe() as troupe:
        view = ViewConfig(web_port=port, cameras=2)
        runner = threading.Thread(
            target=lambda: result.append(run_view(view, troupe.bus, ViewOptions(web=True), stop=stop))
        )
        runner.start()
        try:
            page = open_page(f"http://127.0.0.1:{port}")
            poll(lambda: "LIVE" in page.text() and "6 of 7" in page.text(), 40)

            def skin() -> bool:
                rgb = page.screenshot()[100:500, 100:560]
                warm = (rgb[..., 0] - rgb[..., 2] > 20) & (rgb[..., 0] > 90)
                return bool(warm.mean() > 0.03)

            poll(skin, 40)
        finally:
            stop.set()
            runner.join()
    assert result[0].meshes > 0 and result[0].drawn > 0 and result[0].refused == {}
    assert capfd.readouterr().out == "", "standard output belongs to --json"


def test_a_port_in_use_is_refused_not_dodged() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match=f"port {port} is in use.*view.web_port"):
            run_view(ViewConfig(web_port=port), NOBODY, ViewOptions(seconds=1.0, web=True), stop=threading.Event())


def test_quaternions_are_those_of_the_rotation() -> None:
    rng = np.random.default_rng(3)
    for axis in (*rng.normal(size=(20, 3)), np.array([np.pi, 0, 0]), np.array([0, 1e-9, 0])):
        rotation = np.asarray(cv2.Rodrigues(axis)[0])
        w, x, y, z = quaternion(rotation)
        assert w * w + x * x + y * y + z * z == pytest.approx(1.0)
        half = [
            [0.5 - y * y - z * z, x * y - w * z, x * z + w * y],
            [x * y + w * z, 0.5 - x * x - z * z, y * z - w * x],
            [x * z - w * y, y * z + w * x, 0.5 - x * x - y * y],
        ]
        np.testing.assert_allclose(2 * np.array(half), rotation, atol=1e-9)


def test_the_page_tells_the_same_figures() -> None:
    state, topology = ViewState("bus"), head_topology()
    state.apply(topology, 0)
    state.apply(mesh(9, topology, publish_ns=9 * PERIOD_NS + 70_000_000), 0)
    text = figures_markdown(state.figures(0))
    assert "LIVE" in text and "| Exposure → mesh | 70 ms |" in text and "frame 9" in text
