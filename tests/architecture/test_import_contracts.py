"""The contracts of `[tool.importlinter]` hold, and every one of them breaks when its rule is broken."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("streamer", "rig", "inference", "renderer")
LINT = (
    sys.executable,
    "-c",
    "import sys; from importlinter.cli import lint_imports_command as run; sys.argv = ['', '--no-cache']; run()",
)

PLANTED = {
    "Rooms stand on the streamer and never import one another": ("renderer/config.py", "import rig.config"),
    "The streamer's core knows no socket, no codec and no network": ("streamer/wire.py", "import zmq"),
    "moderngl is known to the viewer and the simulated rig only": ("rig/config.py", "import moderngl"),
    "torch is known to the network, its training and the fitter only": ("rig/driver.py", "import torch"),
    "The live path never reaches torch, by any way": ("inference/pipeline.py", "import torch"),
    "The viewer never reaches torch, by any way": ("renderer/viewer/layout.py", "import torch"),
    "openvino is imported in one file": ("inference/config.py", "import openvino"),
    "pycuda and cuda-bindings are imported in one file": ("inference/config.py", "import pycuda"),
    "TensorRT and TensorRT-RTX are imported in one file": (
        "inference/tensorrt/half.py",
        "import tensorrt\nimport tensorrt_rtx",
    ),
    "harvesters is imported in one file": ("rig/node.py", "import harvesters"),
    "zmq is known to the transport, its keys and commands only": ("rig/node.py", "import zmq"),
    "sounddevice is imported in one file": ("streamer/takes/session.py", "import sounddevice"),
    "ray is imported in one file": ("renderer/fitter/run.py", "import ray"),
    "pxr is imported in one file": ("streamer/exports/usd/points.py", "import pxr"),
    "alembic3d and imath are imported in one file": ("streamer/exports/glb.py", "import alembic3d\nimport imath"),
    "textual is known to the console's screen only": ("streamer/console/panels.py", "import textual"),
    "prometheus_client is imported in one file": ("streamer/console/http.py", "import prometheus_client"),
    "websockets is imported in one file": ("streamer/gateway/serve.py", "import websockets"),
}
"""Contract to a file and the line that breaks it."""


def lint(folder: Path) -> dict[str, bool]:
    """Contract name to whether it is kept, for the tree in `folder`."""
    run = subprocess.run(LINT, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    found = re.findall(r"^(.+?) (KEPT|BROKEN)", run.stdout, re.MULTILINE)
    assert found, f"no contract was checked:\n{run.stdout}{run.stderr}"
    return {name: state == "KEPT" for name, state in found}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources that may be spoilt."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        for source in (ROOT / package).rglob("*.py"):
            target = tmp_path / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return tmp_path


def test_contracts_hold(tree: Path) -> None:
    kept = lint(tree)
    assert set(kept) == set(PLANTED), "every contract needs a planted violation here"
    assert all(kept.values()), f"broken: {[name for name, state in kept.items() if not state]}; run lint-imports"


def test_every_contract_breaks_on_its_planted_violation(tree: Path) -> None:
    for path, line in PLANTED.values():
        source = tree / path
        source.write_text(f"{source.read_text('utf-8')}\n{line}\n", "utf-8")
    kept = lint(tree)
    assert not any(kept.values()), f"these contracts guard nothing: {[name for name, state in kept.items() if state]}"
