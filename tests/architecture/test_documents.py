"""Documents name only what exists, and everybody calls the same two commands."""

import re
import subprocess
from pathlib import Path

import pytest

import mien

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
TOPS = ("streamer", "rig", "inference", "renderer", "tests", "docs", "benchmarks", "plugins", "requirements")
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(TOPS)})/[\w./*-]*")
VERB = re.compile(r"`(?:\.venv/bin/)?mien ([a-z]+)")
LINK = re.compile(r"\]\(([^)#]+)\)")


def dead_paths(text: str) -> list[str]:
    """Paths below the rooms that do not exist; a `*` is a glob."""
    found = (match.rstrip(".") for match in PATH.findall(text))
    return [path for path in found if not (any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists())]


def unknown_verbs(text: str) -> set[str]:
    known = next(action.choices for action in mien.build_parser()._actions if action.dest == "verb")
    assert known is not None
    return set(VERB.findall(text)) - set(known)


@pytest.mark.parametrize("document", DOCUMENTS, ids=[d.relative_to(ROOT).as_posix() for d in DOCUMENTS])
def test_documents_tell_the_truth(document: Path) -> None:
    text = document.read_text("utf-8")
    assert dead_paths(text) == []
    assert unknown_verbs(text) == set()
    local = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_a_dead_path_and_an_unknown_verb_are_noticed() -> None:
    assert dead_paths("see `streamer/nothing.py`, streamer/types.py and `rig/sim*`.") == ["streamer/nothing.py"]
    assert unknown_verbs("run `mien levitate now` or `mien doctor`") == {"levitate"}


def test_readme_commands_are_the_makefile_s_and_ci_s() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"```sh\n(.+?)```", readme, re.DOTALL)
    assert block is not None
    commands = [line.partition("#")[0].strip() for line in block[1].splitlines()]
    assert commands == ["make demo", "make test"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {"demo", "test", "check", "bench"} <= set(targets)
    ci = [line for line in (ROOT / ".ci/run").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert ci[-1] == "exec make test"
    plan = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=50, check=True
    ).stdout
    assert "requirements/live.txt" in plan and "requirements/dev.txt" not in plan and "mien demo" in plan


def test_the_demo_does_not_install_torch() -> None:
    names = {line.partition("==")[0] for line in (ROOT / "requirements/live.txt").read_text("utf-8").splitlines()}
    assert "openvino" in names and "torch" not in names
    dev = (ROOT / "requirements/dev.txt").read_text("utf-8").splitlines()
    assert "torch==2.13.0" in dev


def test_architecture_stays_readable() -> None:
    assert len((ROOT / "docs/architecture.md").read_text("utf-8").splitlines()) <= 200
