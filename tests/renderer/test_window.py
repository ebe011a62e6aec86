"""A real window on a real X server without a screen."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from renderer.config import ViewConfig
from renderer.viewer.app import ViewOptions, run_view
from renderer.viewer.controls import Look
from renderer.viewer.events import Events, steer
from renderer.viewer.orbit import OrbitCamera
from renderer.viewer.window import has_display
from streamer.config import BusConfig
from streamer.errors import MissingExtra
from tests.renderer.makers import Troupe

SCRIPT = """
import sys, threading
from renderer.config import ViewConfig
from renderer.viewer.app import ViewOptions, run_view
from renderer.viewer.state import ViewState
from streamer.config import BusConfig
stop, drawn, mark = threading.Event(), [], ViewState.mark_drawn
def count(self, now_ns):
    mark(self, now_ns)
    drawn.append(self.meshes)
    if len(set(drawn)) > 3:  # screens of three meshes and more, however slow the machine
        stop.set()
ViewState.mark_drawn = count
ports = [int(port) for port in sys.argv[1:3]]
bus = BusConfig(node_port=ports[0], infer_port=ports[1], record_port=ports[0], demo_port=ports[1])
report = run_view(ViewConfig(width=400, height=300, cameras=2), bus, ViewOptions(seconds=90.0), stop=stop)
print(report.meshes, report.drawn)
"""


@pytest.fixture
def display() -> Iterator[str]:
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("no X server for a window: apt-get install xvfb")
    read, write = os.pipe()
    command = [server, "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        process.terminate()
        process.wait()


def test_the_window_shows_the_live_head(display: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "WAYLAND_DISPLAY"}
    with Troupe() as troupe:
        ports = [str(troupe.bus.node_port), str(troupe.bus.infer_port)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *ports],
            env=environment | {"DISPLAY": display},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    meshes, drawn = map(int, done.stdout.split())
    assert meshes > 0 and drawn > 3


def test_a_display_that_is_not_there_is_one_clear_line() -> None:
    script = (
        "import threading; from renderer.config import ViewConfig\n"
        "from renderer.viewer.app import ViewOptions, run_view\n"
        "from streamer.config import BusConfig; from streamer.errors import GraphicsError\n"
        "try: run_view(ViewConfig(), BusConfig(), ViewOptions(window='on'), stop=threading.Event())\n"
        "except GraphicsError as error: print(error)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "WAYLAND_DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"DISPLAY": ":987"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.startswith("no window on this display") and "--web" in done.stdout, done.stderr


def test_without_glfw_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "glfw", None)
    with pytest.raises(MissingExtra, match=r"mien\[view\]"):
        run_view(ViewConfig(), BusConfig(), ViewOptions(window="on"), stop=threading.Event())


def test_events_become_a_look() -> None:
    events = Events(keys=["m", "space"], zoom=2.0)
    look = steer(Look(), events)
    assert (look.material, look.held, look.steered) == ("clay", True, True)
    assert look.camera == Look().camera.zoom(2.0) and steer(look, Events()) == look
    assert steer(Look(), Events(orbit=(0.1, 0.0))).camera == OrbitCamera().orbit(0.1, 0.0)
    assert steer(Look(), Events(pan=(0.1, 0.0))).camera == OrbitCamera().pan(0.1, 0.0)
    assert steer(look, Events(keys=["r"])) == look.press("r")


def test_displays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_display()
    monkeypatch.delenv("WAYLAND_DISPLAY")
    assert not has_display()
