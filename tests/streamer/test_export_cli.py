"""`mien export` from the command line: every flag arrives, wrong ones are usage, results are one object."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from mien import build_parser, main
from streamer.exports.options import FILTERS, FORMATS, MORPHS, STABILISE, ExportOptions
from tests.streamer.export_makers import write_head_take


def test_the_flags_are_the_options() -> None:
    """What argparse allows is what the options know, and no option is out of reach."""
    args = build_parser().parse_args(["export", "t", "--format", "usd", "--out", "x"])
    options = ExportOptions(**{field.name: getattr(args, field.name) for field in fields(ExportOptions)})
    assert options == ExportOptions()
    verbs = next(action.choices for action in build_parser()._actions if action.dest == "verb")
    assert verbs is not None
    choices = {action.dest: action.choices for action in verbs["export"]._actions}  # type: ignore[index]
    for flag, known in (("format", FORMATS), ("filter", FILTERS), ("morphs", MORPHS), ("stabilise", STABILISE)):
        assert tuple(choices[flag]) == known


def test_an_export_with_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take = write_head_take(tmp_path / "take", range(12))
    words = ["export", take, "--format", "npz", "--out", tmp_path / "a.npz", "--target", "unreal", "--frames", "2-9"]
    words += ["--fps", "30000/1001", "--speed", "0.5", "--filter", "zero-phase", "--cutoff-hz", "9", "--json"]
    assert main([*map(str, words), "--stabilise", "rigid"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["frames"], answer["format"], answer["fps"]) == (14, "npz", pytest.approx(29.97003))
    with np.load(tmp_path / "a.npz") as data:
        assert data["vertices"].shape == (14, 142, 3)
    assert main(["export", str(take), "--format", "pc2", "--out", str(tmp_path / "b.pc2")]) == 0
    said = capsys.readouterr().out
    assert "12 meshes of 142 vertices" in said and "note: PC2 holds vertices only" in said


@pytest.mark.parametrize(
    "words", [("--frames", "9-2"), ("--frames", "x"), ("--fps", "0"), ("--speed", "0"), ("--clip-frames", "-1")]
)
def test_wrong_numbers_are_usage(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", "t", "--format", "npz", "--out", "x", *words])
    assert stop.value.code == 2
    assert words[1] in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--frames", "3-99"), ("--target", "maia"), ("--name", "1 head")])
def test_wrong_wishes_are_one_line_and_1(
    tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    take = write_head_take(tmp_path / "take", range(4))
    assert main(["export", str(take), "--format", "npz", "--out", str(tmp_path / "a.npz"), *words]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert [item.name for item in tmp_path.iterdir()] == ["take"]
