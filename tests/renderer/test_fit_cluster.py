"""`[fitter] cluster = "ray"`: the same table, on a real cluster of two nodes of which one is killed mid-fit."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.renderer.test_fit_lives import ROOT, add, losses, work

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'mien[fit-cluster]'"
)


STEPS = 300
ATTEMPTS = 2
"""A machine may be done with a job before the other has begun; then nothing was killed, and it is tried again."""


def attempt(folder: Path) -> Any:
    folder.mkdir()
    for _ in range(2):
        add(folder, prior=False, encoder="torch", steps=STEPS)
    command = [sys.executable, "-m", "tests.renderer.fit_cluster", str(folder / "q"), str(folder / "runs")]
    quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=220, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.strip().splitlines()[-1])


def test_a_node_is_killed_and_its_job_goes_on_elsewhere(tmp_path: Path) -> None:
    for number in range(ATTEMPTS):
        folder = tmp_path / str(number)
        told = attempt(folder)
        if told["killed"]:
            break
    assert (told["nodes"], told["killed"], told["ended"]) == (2, 1, 2), told
    assert {number: state for number, (state, _, _) in told["jobs"].items()} == {"1": "done", "2": "done"}
    assert any("node was lost" in text for text in told["told"]), told
    add(folder, prior=False, encoder="torch", steps=STEPS)
    assert work(folder).state == "done"
    curves = [losses(folder / "runs" / f"job_{number:04d}") for number in (1, 2, 3)]
    assert curves[0] == curves[2] and curves[1] == curves[2], "the curves are the unbroken one of this machine"
