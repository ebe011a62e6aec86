"""The add-on for Godot 3 in a real Godot: golden files bit by bit and every fault without a window, then a picture.

Restarts, faults on the line, the secret and TLS: tests/plugins/test_clients.py.
"""

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

from tests.plugins.clients import assert_pictured, godot3_project, sections
from tests.plugins.golden import FOLDER, HEAD, TARGETS
from tests.streamer.gateway_makers import Stage

SERVER, WINDOWED = shutil.which("godot3-server"), shutil.which("godot3")
needs_server = pytest.mark.skipif(
    not SERVER, reason="no godot3-server: run requirements/consumers.sh .venv/bin/python as root on Debian"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return godot3_project(tmp_path_factory.mktemp("godot"))


def dumped(project: Path, step: int, *names: str) -> list[list[str]]:
    files = [str(FOLDER / name) for name in names]
    done = subprocess.run(
        [str(SERVER), "--path", str(project), "-s", "godot_dump.gd", "--do", "dump", str(step), *files],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=55,
        check=False,
    )
    told = done.stdout.decode("utf-8")
    assert done.returncode == 0 and "SCRIPT ERROR" not in told, told[-2000:]
    return sections(told)


@needs_server
@pytest.mark.parametrize("step", [7, 1 << 20])
def test_golden_streams_are_read_bit_by_bit(project: Path, step: int) -> None:
    names = ["head", *TARGETS]
    told = dumped(project, step, *(f"{name}.bin" for name in names))
    for name, lines in zip(names, told, strict=True):
        assert lines == (FOLDER / f"{name}.txt").read_text("utf-8").splitlines(), name


@needs_server
def test_every_fault_is_named_and_said(project: Path) -> None:
    table = [line.split() for line in (FOLDER / "faults.txt").read_text().splitlines()]
    told = dumped(project, 1, *(f"faults/{name}.bin" for name, _, _ in table))
    for (name, fault, whole), lines in zip(table, told, strict=True):
        assert lines[-2] == f"error {fault}" and len(lines) == int(whole) + 2, name
        assert len(lines[-1]) > len("said ") + 20, name


@pytest.mark.skipif(
    not (WINDOWED and shutil.which("xvfb-run")),
    reason="no godot3 or xvfb-run: run requirements/consumers.sh as root",
)
def test_the_head_stands_in_the_picture_as_it_should(project: Path, tmp_path: Path) -> None:
    """Drawn by Mesa without a GPU, on a screen that is none."""
    picture = tmp_path / "head.png"
    drivers = ["--video-driver", "GLES2", "--audio-driver", "Dummy", "--resolution", "480x480"]
    with Stage() as stage:
        words = [*drivers, "-s", "godot_dump.gd", "--do", "picture", str(stage.tcp_port), str(picture)]
        command = ["xvfb-run", "-a", "-s", "-screen 0 640x640x24", str(WINDOWED), "--path", str(project), *words]
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # a session of its own: xvfb-run leaves the screen to whoever ends it
        with subprocess.Popen(command, env=os.environ | {"LIBGL_ALWAYS_SOFTWARE": "1"}, **silent) as godot:  # type: ignore[call-overload]
            try:
                stage.play(HEAD, lambda: godot.poll() is not None)
                assert godot.returncode == 0
            finally:
                godot.terminate()
    assert_pictured(cv2.imread(str(picture)))
