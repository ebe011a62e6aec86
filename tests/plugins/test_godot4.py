"""The add-on for Godot 4 in a real Godot 4.6, in Chromium: golden files bit by bit, every fault, then a picture.

Restarts, faults on the line and the secret: tests/plugins/test_clients.py.
"""

from pathlib import Path

import cv2

from tests.plugins.clients import assert_pictured, sections
from tests.plugins.godot4_tools import godot4, needs_godot4
from tests.plugins.golden import FOLDER, HEAD, TARGETS
from tests.plugins.web_tools import PageLines
from tests.streamer.gateway_makers import Stage

pytestmark = needs_godot4


def test_golden_streams_bit_by_bit_and_every_fault_named_and_said(tmp_path: Path) -> None:
    names = ["head", *TARGETS]
    table = [line.split() for line in (FOLDER / "faults.txt").read_text().splitlines()]
    files = [*(f"{name}.bin" for name in names), *(f"faults/{name}.bin" for name, _, _ in table)]
    with godot4(tmp_path, "dump", "7", *files) as page:
        PageLines(page).wait("done")
        told = sections("\n".join(page.ask(do="eval", code="lines")))
    for name, lines in zip(names, told, strict=False):
        assert lines == (FOLDER / f"{name}.txt").read_text("utf-8").splitlines(), name
    for (name, fault, whole), lines in zip(table, told[len(names) :], strict=True):
        assert lines[-2] == f"error {fault}" and len(lines) == int(whole) + 2, name
        assert len(lines[-1]) > len("said ") + 20, name


def test_the_head_stands_in_the_picture_as_it_should(tmp_path: Path) -> None:
    with Stage() as stage, godot4(tmp_path, "live", stage.endpoints[1]) as page:
        stage.play(HEAD, lambda: bool(page.ask(do="eval", code="godot.applied > 20")))
        page.ask(do="shot", to=str(tmp_path / "head.png"))
    assert_pictured(cv2.imread(str(tmp_path / "head.png")))
