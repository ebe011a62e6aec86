"""The verbs of the rig, as the command line calls them."""

import argparse
import json
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rig.cameras import contact_sheet, preview_cameras
from rig.cli import add_verbs, effective_rig
from rig.config import RigConfig
from streamer.config import BusConfig
from streamer.errors import ConfigError, DriverError
from tests.rig import makers
from tests.rig.makers import SMALL, pattern_rig, playback_of, write_take


def run(words: Sequence[str], rig: RigConfig) -> int:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true")
    parser = argparse.ArgumentParser(prog="mien")
    add_verbs(parser.add_subparsers(dest="verb", required=True), common)
    args = parser.parse_args(words)
    args.load = lambda: types.SimpleNamespace(rig=rig, bus=BusConfig(node_port=0))
    return int(args.handler(args))


def simulate_args(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_verbs(parser.add_subparsers(), argparse.ArgumentParser(add_help=False))
    return parser.parse_args(["simulate", "--out", "x", *words])


def test_node_plays_a_take_to_its_end_and_prints_its_counters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_take(tmp_path / "take", sets=5)
    assert run(["node", "--json"], playback_of(tmp_path / "take")) == 0
    counters = json.loads(capsys.readouterr().out)["counters"]
    assert [counters[f"published.cam_{k}"] for k in range(3)] == [5, 5, 5]


def test_node_counts_a_damaged_picture_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, made = makers.encode_pixels, iter(range(15))
    monkeypatch.setattr(makers, "encode_pixels", lambda *a: ("jpeg", whole(*a)[1][: 40 if next(made) == 7 else None]))
    write_take(tmp_path / "take", sets=5)
    assert run(["node", "--json"], replace(playback_of(tmp_path / "take"), encoding="raw")) == 0
    counters = json.loads(capsys.readouterr().out)["counters"]
    assert [counters[f"published.cam_{k}"] for k in range(3)] == [5, 4, 5]
    assert counters["damaged.cam_1"] == 1


def test_node_stops_after_its_time(tmp_path: Path) -> None:
    write_take(tmp_path / "take", sets=5)
    assert run(["node", "--seconds", "0.3"], playback_of(tmp_path / "take", speed=1.0, loop=True)) == 0


def test_cameras_list_describes_what_the_driver_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_take(tmp_path / "take", sets=2)
    rig = playback_of(tmp_path / "take")
    assert run(["cameras", "list", "--json"], rig) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["driver"], found["triggers"]) == ("playback", ["recorded"])
    camera = {"id": "cam_1", "serial": "PATTERN0001", "width": 64, "height": 48, "firmware": "", "calibrated": True}
    assert found["cameras"][1] == camera
    assert run(["cameras", "list"], rig) == 0
    assert "cam_2" in capsys.readouterr().out


def test_cameras_preview_writes_a_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_take(tmp_path / "take", sets=2)
    out = tmp_path / "new" / "sheet.png"
    assert run(["cameras", "preview", "--json", "--out", str(out)], playback_of(tmp_path / "take")) == 0
    assert json.loads(capsys.readouterr().out)["cameras"] == ["cam_0", "cam_1", "cam_2"]
    sheet = cv2.imread(str(out))
    assert sheet is not None
    assert sheet.shape == (96, 128, 3)
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"], "nothing half-written stays behind"


def test_preview_names_silent_cameras_and_fails_when_all_are(tmp_path: Path) -> None:
    rig = RigConfig(fps=50.0, simulated=SMALL)
    stalled = replace(SMALL.faults, stall_camera=1, stall_after_s=0.0, stall_for_s=1e6)
    driver = pattern_rig(replace(rig, simulated=replace(SMALL, faults=stalled)))
    shown = preview_cameras(rig, tmp_path / "a.png", wait_s=1.0, driver=driver)
    assert (shown["cameras"], shown["silent"]) == (["cam_0", "cam_2"], ["cam_1"])
    deaf = pattern_rig(replace(rig, simulated=replace(SMALL, faults=replace(SMALL.faults, drop_probability=1.0))))
    with pytest.raises(DriverError, match=r"no camera delivered a picture within 0\.2 s"):
        preview_cameras(rig, tmp_path / "b.png", wait_s=0.2, driver=deaf)
    assert not (tmp_path / "b.png").exists()


def test_the_contact_sheet_keeps_rows_and_columns() -> None:
    tiles = [np.full((2, 3, 3), 10 * (k + 1), np.uint8) for k in range(5)]
    sheet = contact_sheet(tiles)
    assert sheet.shape == (4, 9, 3)
    assert [int(sheet[2 * (k // 3), 3 * (k % 3), 0]) for k in range(6)] == [10, 20, 30, 40, 50, 0]


def test_simulate_changes_only_what_was_asked() -> None:
    rig = RigConfig(simulated=SMALL)
    assert effective_rig(simulate_args(), rig) == rig
    changed = effective_rig(simulate_args("--cameras", "5", "--size", "320x240", "--seed", "9", "--fps", "12.5"), rig)
    assert changed.fps == 12.5
    assert changed.simulated == replace(SMALL, cameras=5, width=320, height=240, seed=9)


def test_simulate_obeys_the_limits_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"simulate: rig\.simulated\.cameras = 65 is out of range"):
        effective_rig(simulate_args("--cameras", "65"), RigConfig())


def test_simulate_writes_the_takes_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}

    def simulate_takes(out: Path, rig: RigConfig, **rest: object) -> list[Path]:
        asked.update(rest, out=out, rig=rig)
        return [out / "take_00000", out / "take_00001"]

    monkeypatch.setattr("rig.simulation.takes.simulate_takes", simulate_takes)
    words = ["simulate", "--json", "--out", str(tmp_path), "--takes", "2", "--seconds", "1.5", "--fps", "20"]
    assert run([*words, "--world", "wide", "--jobs", "2"], RigConfig(simulated=SMALL)) == 0
    assert asked["rig"] == RigConfig(simulated=SMALL, fps=20.0)
    assert [asked[key] for key in ("takes", "frames", "world", "jobs")] == [2, 30, "wide", 2]
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"takes": [str(tmp_path / "take_00000"), str(tmp_path / "take_00001")], "frames": 30}


@pytest.mark.parametrize(
    "words",
    [
        ["--size", "640"],
        ["--size", "0x4"],
        ["--takes", "0"],
        ["--seconds", "nan"],
        ["--frames", "3", "--seconds", "1"],
    ],
)
def test_simulate_refuses_wrong_usage_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        simulate_args(*words)
    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err
