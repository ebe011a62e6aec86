"""The command line as a stranger meets it: help, wrong usage, wrong configuration, and how long it takes to start."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mien
from inference.config import InferenceConfig
from streamer.errors import TakeError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "openvino", "moderngl", "cv2", "zmq", "av", "viser", "rich", "mcap", "websockets")


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every leaf parser with the words that lead to it."""

    def walk(words: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not subs:
            yield words, parser
        for sub in subs:
            for name, inner in sub.choices.items():
                yield from walk(f"{words} {name}".strip(), inner)

    yield from walk("", mien.build_parser())


LEAVES = dict(parsers())


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io, mien\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    mien.main(['--help'])\n"
        "assert 'VERB' in out.getvalue()\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("words", sorted(LEAVES))
def test_every_verb_has_common_options_an_example_and_a_handler(words: str) -> None:
    parser = LEAVES[words]
    options = {option for action in parser._actions for option in action.option_strings}
    assert {"--config", "--set", "--json", "--help"} <= options
    assert "xample" in (parser.epilog or "") and f"mien {words}" in (parser.epilog or "")
    assert callable(parser.get_default("handler"))


def test_promised_verbs_are_there() -> None:
    promised = (
        "demo|live|doctor|node|infer|view|record|replay|serve|recover|verify|simulate|reprocess|export|train|evaluate|"
        "cameras list|cameras preview|sync check|import video|import nersemble"
    )
    assert set(promised.split("|")) <= set(LEAVES)


def test_wrong_usage_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        mien.main(["dmeo"])
    assert caught.value.code == 2
    assert "dmeo" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-3", "inf", "soon"])
def test_lengths_are_positive(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        mien.main(["demo", f"--seconds={seconds}"])
    assert caught.value.code == 2
    assert "--seconds" in capsys.readouterr().err


def test_wrong_configuration_is_one_line_and_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert mien.main(["doctor", "--set", "rig.fsp=3"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("mien doctor: ")
    assert "rig.fsp: unknown key; did you mean 'fps'?" in err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (TakeError("takes/x is damaged;\n run mien recover"), 1, "mien doctor: takes/x is damaged; run mien recover\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "mien doctor: [Errno 13] Permission denied: '/x'\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["ours", "system", "interrupt"],
)
def test_errors_become_one_line(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(mien, "_doctor", fail)
    assert mien.main(["doctor"]) == code
    assert capsys.readouterr().err == told


def test_defects_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(mien, "_doctor", fail)
    with pytest.raises(ZeroDivisionError):
        mien.main(["doctor"])


def test_doctor_answers_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mien.main(["doctor", "--json", "--set", f"record.directory={tmp_path}"])
    answer = json.loads(capsys.readouterr().out)
    names = {check["name"] for check in answer["checks"]}
    assert {"python", "packages", "ports", "disk space", "disk speed", "shared memory", "graphics", "model"} <= names
    assert all(check["remedy"] for check in answer["checks"] if check["state"] != "ok")
    assert answer["ok"] == all(check["state"] != "fail" for check in answer["checks"])


def test_a_graphics_driver_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mien, "PROBE_S", 0.2)
    monkeypatch.setattr(mien, "GL_PROBE", "import time; time.sleep(30)")
    graphics, model = mien._room_checks(InferenceConfig(model="none"))
    assert (graphics.state, graphics.found) == ("fail", "the driver does not answer within 0.2 s")
    assert (model.name, model.state) == ("model", "fail")


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("3", "3")])
def test_numpys_products_keep_to_one_thread_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", before)
    mien.calm_blas()
    assert os.environ["OPENBLAS_NUM_THREADS"] == after
