"""What `make` installs: the locks agree with pyproject.toml, and what the system lacks is named."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def stale(wanted: list[str], locked: dict[str, str]) -> list[str]:
    """Requirements that a lock does not hold at the same version."""
    return [text for text in wanted if locked.get(text.split("==")[0].lower()) != text.split("==")[1]]


@pytest.mark.parametrize(("name", "extras"), [("live.txt", ["view"]), ("dev.txt", ["view", "export", "train", "dev"])])
def test_locks_are_not_stale(name: str, extras: list[str]) -> None:
    optional = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]
    wanted += [text for extra in extras for text in optional[extra]]
    assert stale(wanted, pins(name)) == [], "run: make lock"


def test_a_stale_lock_is_noticed() -> None:
    assert stale(["numpy==2.0.0", "rich==1.0"], {"numpy": "2.0.1"}) == ["numpy==2.0.0", "rich==1.0"]


def test_the_locks_agree_with_each_other() -> None:
    live, dev = pins("live.txt"), pins("dev.txt")
    assert {name: dev.get(name) for name in live} == live


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs/dependencies.md").read_text("utf-8")
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    names = [requirement.split("==")[0] for group in groups for requirement in group]
    assert [name for name in names if name not in text] == []


def test_missing_graphics_names_the_packages(tmp_path: Path) -> None:
    """As an ordinary user nothing is installed: the message says what to install, and make stops."""
    for name, script in (("python", "exit 1"), ("id", "echo 1000"), ("uname", "echo Linux")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    run = subprocess.run(
        ["sh", str(ROOT / "requirements/system.sh"), str(tmp_path / "python")],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 1
    assert "sudo apt-get install --no-install-recommends libegl1" in run.stderr
