"""What meets somebody new: a first look before the demo, completion, and a page of all commands that is current."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mien

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_commands_is_what_the_parsers_say() -> None:
    script = "import sys; sys.path.insert(0, 'requirements'); import commands; sys.stdout.write(commands.page())"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    assert run.stdout == (ROOT / "docs/commands.md").read_text("utf-8"), "run: python requirements/commands.py"
    assert "## mien keys rotate" in run.stdout and "| `--slate NAME` |" in run.stdout


@pytest.mark.parametrize(
    ("line", "wanted"),
    [("mien de", {"demo"}), ("mien take st", {"start", "stop", "status"}), ("mien live --no-s", {"--no-screen"})],
)
def test_a_shell_completes_commands_and_options(line: str, wanted: set[str], tmp_path: Path) -> None:
    """As bash asks: by environment, the answer on file descriptor 8."""
    script = f"exec 8>{tmp_path}/answer 9>/dev/null; exec {sys.executable} -m mien"
    told = {"_ARGCOMPLETE": "3", "_ARGCOMPLETE_IFS": " ", "COMP_LINE": f"{sys.executable} -m {line}"}
    told |= {"COMP_POINT": str(len(told["COMP_LINE"])), "COMP_TYPE": "9"}
    subprocess.run(["bash", "-c", script], cwd=ROOT, env={**os.environ, **told}, timeout=100, check=True)
    assert {word.strip() for word in (tmp_path / "answer").read_text().split()} == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_needs_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert mien.main(["completion", shell]) == 0
    assert "_ARGCOMPLETE" in capsys.readouterr().out


def test_a_demo_that_cannot_run_says_so_before_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert mien.main(["demo", "--headless", "--out", str(out), "--set", "record.min_free_gb=1e6"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("fail  disk space") and "->" in told[1], "what, and what to do"
    assert told[-1].startswith("mien demo: ") and "mien doctor looks at more" in told[-1]
    assert not out.exists(), "nothing was started"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "to begin with: mien demo; see: mien --help"),
        (["demoo"], "did you mean 'demo'?; see: mien --help"),
        (["take", "statuss"], "did you mean 'status'?; see: mien take --help"),
        (["view", "takes/demo/slate_T001"], "not understood: takes/demo/slate_T001; see: mien view --help"),
        (["demo", "--secnds", "3"], "not understood: --secnds 3; see: mien demo --help"),
        (["verify"], "see: mien verify --help"),
    ],
)
def test_who_is_not_understood_is_told_where_to_read(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        mien.main(words)
    assert ended.value.code == 2 and capsys.readouterr().err.splitlines()[-1].endswith(told)


def test_a_wrong_value_is_blamed_on_who_gave_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is sound: it is the option that is wrong; and the other way round."""
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("schema = 1\n[rig]\nfps = 25.0\n")
    bad.write_text("schema = 1\n[rig]\nfsp = 25.0\n")
    assert mien.main(["node", "--config", str(good), "--set", "rig.fps=fast"]) == 1
    assert capsys.readouterr().err.startswith("mien node: --set: rig.fps = 'fast'")
    assert mien.main(["node", "--config", str(bad), "--set", "rig.fps=25"]) == 1
    told = capsys.readouterr().err
    assert str(bad) in told and "did you mean 'fps'?" in told
