"""The verbs of the streamer: what they print, and how they fail."""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mien import main
from streamer.cli import add_verbs
from streamer.config import BusConfig, RecordConfig
from streamer.live import free_ports
from streamer.progress import progress
from streamer.takes import open_take
from streamer.takes.layout import read_info, write_info
from tests.streamer.take_makers import write_take

VERBS = ("record", "replay", "recover", "verify", "export", "import video", "import nersemble")
KEYS = {"ok", "sets", "meshes", "frames", "missing", "damaged"}


@dataclass
class _Settings:
    bus: BusConfig
    record: RecordConfig


def run(*words: object) -> int:
    """One verb through the parser of this room, as mien.py runs it."""
    parser, common = argparse.ArgumentParser(prog="mien"), argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true")
    add_verbs(parser.add_subparsers(dest="verb", required=True), common)
    args = parser.parse_args([str(word) for word in words])
    args.load = lambda: _Settings(BusConfig(node_port=free_ports(1)[0]), RecordConfig())
    return int(args.handler(args))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*verb.split(), "--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: mien {verb} " in text


@pytest.mark.parametrize(
    "words",
    [
        ("export", "x", "--format", "fbx", "--out", "y"),
        ("export", "x", "--format", "npz"),
        ("record", "--seconds", "-1"),
        ("record", "--seconds", "nan"),
        ("replay", "x", "--speed", "-2"),
        ("import", "nersemble", "d", "--sequence", "s", "--out", "t", "--calibrated-size", "12"),
        ("import", "nersemble", "d", "--sequence", "s", "--out", "t", "--fps", "0"),
        ("import", "video", "--videos", "d", "--out", "t"),
        ("import",),
    ],
)
def test_wrong_usage_is_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*words)
    assert stop.value.code == 2
    assert "usage: mien" in capsys.readouterr().err


def test_verify_and_recover_print_their_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_take(tmp_path / "take", 10)
    assert run("verify", path, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report.keys() >= KEYS
    assert (report["ok"], report["sets"], report["meshes"], report["frames"]) == (True, 10, 10, 30)
    file = path / "main_0000.mcap"
    file.write_bytes(file.read_bytes()[:-12000])
    assert run("verify", path, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], len(report["damaged"])) == (False, 1)
    assert run("recover", path, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report.keys() >= {*KEYS, "lost"}
    assert 30 - report["frames"] + 10 - report["meshes"] == sum(report["lost"].values()) > 0
    assert run("verify", path) == 0
    assert "whole; " in capsys.readouterr().out


def test_failures_are_one_line_and_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.ROOMS", ("streamer",))
    path = write_take(tmp_path / "take", 3)
    info = read_info(path)
    write_info(path, replace(info, state="recording"))
    for words in (
        ("verify", path),
        ("export", path, "--format", "npz", "--out", tmp_path / "x.npz"),
        ("replay", path),
        ("recover", tmp_path / "nothing"),
        ("import", "video", "--videos", tmp_path, "--calibration", tmp_path / "none.toml", "--out", tmp_path / "t"),
        ("import", "nersemble", tmp_path, "--sequence", "S", "--out", tmp_path / "t"),
        ("record", "--slate", "a/b"),
    ):
        assert main([str(word) for word in words]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith(f"mien {words[0]}: ")
    assert [item.name for item in tmp_path.iterdir()] == ["take"]


def test_export_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_take(tmp_path / "take", 4)
    assert run("export", path, "--format", "npz", "--out", tmp_path / "a.npz", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 4
    assert run("export", path, "--format", "obj", "--out", tmp_path / "b") == 0
    assert "4 meshes of 4 vertices" in capsys.readouterr().out


def test_replay_says_what_it_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_take(tmp_path / "take", 4)
    assert run("replay", path, "--speed", "0", "--lead", "0", "--meshes", "--json") == 0
    assert json.loads(capsys.readouterr().out)["published"] == {"frame": 12, "mesh": 4}
    assert open_take(path).info.state == "closed"


def test_progress_appears_late_and_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(quiet: bool) -> str:
        with progress("counting sheep", quiet=quiet) as report:
            report(1, 3)
            monkeypatch.setattr("streamer.progress.DELAY_S", 0.0)
            report(3, 3)
        monkeypatch.setattr("streamer.progress.DELAY_S", 2.0)
        return capsys.readouterr().err

    assert work(quiet=False) == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert work(quiet=True) == ""
    assert "counting sheep" in work(quiet=False)
