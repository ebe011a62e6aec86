"""The browser view, in a real browser where there is one."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import moderngl
import numpy as np
import pytest

from renderer.config import ViewConfig
from renderer.viewer.app import ViewOptions, ViewReport, run_view
from renderer.viewer.controls import Look
from renderer.viewer.layout import arrange
from renderer.viewer.scene import Scene
from renderer.viewer.state import ViewState
from renderer.viewer.timeline import Timeline
from renderer.viewer.web import WebView, figures_markdown
from renderer.viewer.web_panel import LookPanel, TimePanel
from renderer.viewer.web_stage import MOST_PAGES, Seat, Stage
from streamer.config import BusConfig
from streamer.errors import TransportError
from tests.renderer.makers import PERIOD_NS, Troupe, frame, head_topology, in_thread, mesh, on_gl, rig

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

    def choose(self, now: str, then: str) -> bool:
        """Click a list that shows `now`, and its entry `then`; returns whether both were there."""
        script = (
            "(async () => { const field = [...document.querySelectorAll('input')].find(i => i.value === NOW);"
            " if (!field) return false; field.click(); await new Promise(done => setTimeout(done, 500));"
            " const entry = [...document.querySelectorAll('[role=option]')].find(o => o.innerText.trim() === THEN);"
            " if (!entry) return false; entry.click(); return true; })()"
        )
        script = script.replace("NOW", json.dumps(now)).replace("THEN", json.dumps(then))
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True)
        return bool(answer["result"].get("value", False))

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


def head_of(page: Page) -> tuple[float, float]:
    """Share of the picture that is warm as skin is, and of blue as normals towards the viewer are."""
    rgb = page.screenshot()[100:500, 100:560]
    warm = (rgb[..., 0] - rgb[..., 2] > 20) & (rgb[..., 0] > 90)
    blue = (rgb[..., 2] > 190) & (rgb[..., 2] - rgb[..., 0] > 40)
    return float(warm.mean()), float(blue.mean())


@pytest.mark.timeout(240)  # a browser with software WebGL on a busy machine
def test_a_browser_shows_the_live_head_in_any_material_and_the_figures(
    open_page: Callable[[str], Page], capfd: pytest.CaptureFixture[str]
) -> None:
    in_thread(lambda: None)  # skips where nothing can be drawn here
    port, stop = free_port(), threading.Event()
    result: list[ViewReport] = []
    options = ViewOptions(web=True, keys=("n", "n", "n", "n", "n", "n"))
    with Troupe() as troupe:
        view = ViewConfig(web_port=port, cameras=2)
        runner = threading.Thread(target=lambda: result.append(run_view(view, troupe.bus, options, stop=stop)))
        runner.start()
        try:
            page = open_page(f"http://127.0.0.1:{port}")
            poll(lambda: "LIVE" in page.text() and "6 of 7" in page.text(), 90)
            poll(lambda: head_of(page)[1] > 0.03, 60)  # normals: drawn here, as the window does
            poll(lambda: page.choose("normals", "skin"), 30)
            poll(lambda: head_of(page)[0] > 0.03 and head_of(page)[1] == 0.0, 30)
            poll(lambda: page.choose("here, all of it", "in the browser"), 30)
            poll(lambda: head_of(page)[0] > 0.03, 30)
        finally:
            stop.set()
            runner.join()
    assert result[0].meshes > 0 and result[0].drawn > 0 and result[0].refused == {}
    assert capfd.readouterr().out == "", "standard output belongs to --json"


def test_a_page_gets_the_picture_that_a_window_has_and_only_when_it_changed() -> None:
    in_thread(lambda: None)
    state, topology = ViewState("bus"), head_topology()
    state.apply(topology, 0)
    state.apply(mesh(9, topology), 0)
    seat = Seat(np.array([0.3, 0.1, 0.6]), np.array([0.0, 0.01, 0.0]), 0.45, 640, 360)
    camera = seat.camera(orthographic=False)
    np.testing.assert_allclose(camera.eye, seat.position, atol=1e-9)
    assert Seat(seat.position, seat.look_at, 0.45, 3000, 1500).size == (960, 480)
    wanted = on_gl(lambda context: window_picture(context, Look(camera, material="clay"), state))
    stage = Stage(None, None)
    try:
        look = Look(material="clay")
        first = stage.draw(1, seat, look, state, 0, 1.0)
        assert first is not None
        np.testing.assert_allclose(first.astype(int), wanted, atol=3)
        assert stage.draw(1, seat, look, state, 0, 1.01) is None, "nothing changed"
        normals = stage.draw(1, seat, replace(look, material="normals"), state, 0, 1.02)
        assert normals is not None and np.abs(normals.astype(int) - first).mean() > 2
        for page in range(2, MOST_PAGES + 1):
            assert stage.draw(page, seat, look, state, 0, 1.0) is not None
        assert stage.draw(99, seat, look, state, 0, 1.0) is None, "no room for one more"
        stage.keep({99})
        assert stage.draw(99, seat, look, state, 0, 1.0) is not None
    finally:
        stage.close()


def window_picture(context: moderngl.Context, look: Look, state: ViewState) -> np.ndarray:
    scene = Scene(context, arrange(640, 360, (), figures=False))
    assert state.topology is not None and state.mesh is not None
    scene.set_topology(state.topology)
    scene.set_mesh(state.mesh.vertices, state.mesh.weights)
    scene.draw(look)
    rgb = scene.read().astype(int)
    scene.release()
    return rgb


def test_pages_come_and_go_and_one_saves_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    in_thread(lambda: None)
    sent: list[np.ndarray] = []
    files: list[tuple[str, bytes]] = []
    eye = SimpleNamespace(
        position=(0.3, 0.1, 0.6), look_at=(0.0, 0.0, 0.0), fov=0.45, image_width=320, image_height=180
    )
    page = SimpleNamespace(
        camera=eye,
        scene=SimpleNamespace(set_background_image=lambda rgb, **_: sent.append(rgb)),
        send_file_download=lambda name, data: files.append((name, data)),
    )
    state, topology = ViewState("bus"), head_topology()
    for message in (topology, rig(2), frame("cam_0", 9), mesh(9, topology)):
        state.apply(message, 0)
    web = WebView(ViewConfig(web_port=free_port(), cameras=2))
    try:
        clients: dict[int, object] = {}
        monkeypatch.setattr(web._server, "get_clients", lambda: clients)
        assert web.update(state, 0, 1.0) and sent == [], "a mesh, and nobody looks"
        clients[7] = page
        web.update(state, 0, 2.0)
        assert sent[-1].shape == (180, 320, 3) and sent[-1].std() > 8
        web._wanted.add(7)
        web.update(state, 0, 2.1)
        assert len(sent) == 1, "nothing changed"
        name, data = files[0]
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], sent[0])
        assert name == "mien.png" and not web._wanted
        clients.clear()
        web.update(state, 0, 3.0)
        clients[8] = page
        web.update(state, 0, 4.0)
        assert len(sent) == 2, "a new page begins anew"
    finally:
        web.close()


class Widget:
    """What a panel knows of a widget."""

    def __init__(self, value: object) -> None:
        self.value = value


class Gui:
    """Keeps the widgets that a panel makes, by label."""

    def __init__(self) -> None:
        self.made: dict[str, Widget] = {}

    def add_folder(self, _: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _keep(self, label: str, value: object) -> Widget:
        return self.made.setdefault(label, Widget(value))

    def add_checkbox(self, label: str, value: bool, **_: object) -> Widget:
        return self._keep(label, value)

    def add_dropdown(self, label: str, options: tuple[str, ...], *, initial_value: str, **_: object) -> Widget:
        assert initial_value in options
        return self._keep(label, initial_value)

    def add_slider(self, label: str, low: float, high: float, step: float, value: float) -> Widget:
        assert low <= value <= high and step > 0
        return self._keep(label, value)

    def add_multi_slider(self, label: str, *_: float, initial_value: tuple[float, float]) -> Widget:
        return self._keep(label, initial_value)


def test_the_panel_begins_with_a_look_and_changes_it() -> None:
    gui = Gui()
    begin = Look(
        material="views",
        overlay="difference",
        opacity=0.3,
        frusta="pictures",
        view="wall",
        first_camera=2,
        scan="alone",
    )
    panel = LookPanel(gui, begin, layered=True, scanned=True, live=True)
    assert panel.look() == begin
    changes: dict[str, object] = {"View": "one camera", "Material": "clay", "Edges": True, "Eyes": False, "Camera": 3}
    changes |= {"Onion skin": True, "Orthographic": True, "Cameras": "none", "Hold": True, "Second layer": False}
    changes |= {"B is the head": True, "Overlay": "wire", "Opacity": 0.8}
    for label, value in changes.items():
        gui.made[label].value = value
    look = panel.look()
    assert (look.view, look.material, look.first_camera, look.overlay, look.opacity) == (
        "camera",
        "clay",
        3,
        "wire",
        0.8,
    )
    assert (look.edges, look.eyes, look.onion, look.held, look.ghost, look.swapped) == (
        True,
        False,
        True,
        True,
        False,
        True,
    )
    assert look.camera.orthographic and look.frusta == "none"


def test_the_time_line_of_the_page_scrubs_loops_and_follows() -> None:
    gui, line = Gui(), Timeline([k * 100_000_000 for k in range(11)], looping=True)
    panel = TimePanel(gui, line)
    line.advance(0.0)
    line.advance(0.3)
    panel.update()
    assert gui.made["Seconds"].value == pytest.approx(0.3), "the knob follows the take"
    gui.made["Seconds"].value = 0.8
    panel.update()
    assert line.row == 8 and gui.made["Seconds"].value == 0.8, "and a hand moves it"
    gui.made["Play"].value = False
    panel.update()
    assert not line.playing
    gui.made["Play"].value, gui.made["Pace"].value, gui.made["From, to"].value = True, "0.5", (0.2, 0.5)
    panel.update()
    assert line.playing and line.speed == 0.5 and line.bar().loop == pytest.approx((0.2, 0.5))
    rows = {line.advance(0.3 + 0.1 * step) for step in range(1, 40)}
    assert rows == {2, 3, 4, 5}
    gui.made["Loop"].value = False
    panel.update()
    assert not line.looping


def test_a_port_in_use_is_refused_not_dodged() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match=f"port {port} is in use.*view.web_port"):
            run_view(ViewConfig(web_port=port), NOBODY, ViewOptions(seconds=1.0, web=True), stop=threading.Event())


def test_the_page_tells_the_same_figures() -> None:
    state, topology = ViewState("bus"), head_topology()
    state.apply(topology, 0)
    state.apply(mesh(9, topology, publish_ns=9 * PERIOD_NS + 70_000_000), 0)
    text = figures_markdown(state.figures(0))
    assert "LIVE" in text and "| Exposure → mesh | 70 ms |" in text and "frame 9" in text
