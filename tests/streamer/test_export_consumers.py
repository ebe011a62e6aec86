"""Programs of others open what we write: Blender, three.js, Khronos' validator. Every vertex is compared."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.exports.export import export_take
from streamer.exports.options import ExportOptions, Format
from streamer.geometry import AXES
from streamer.takes import open_take
from tests.streamer.export_makers import head_mesh, write_head_take

HERE = Path(__file__).parent
VENV = HERE.parents[1] / ".venv"
NEAR_M = 1e-5
FRAMES = (0, 3, 9, 14, 19)
GAP = 10
"""The frame that has no mesh."""


@cache
def blender() -> str:
    """The Python of a Blender module, or skip."""
    wanted = os.environ.get("MIEN_BPY_PYTHON") or str(VENV / "bpy/bin/python")
    try:
        run = subprocess.run([wanted, "-c", "import bpy"], capture_output=True, timeout=140, check=False)
    except OSError:
        pytest.skip(f"no Blender at {wanted}: requirements/consumers.sh installs it, MIEN_BPY_PYTHON names another")
    if run.returncode:
        pytest.skip(f"{wanted} cannot import bpy: requirements/consumers.sh installs it")
    return wanted


@cache
def node() -> tuple[str, str]:
    """Node and the folder of its packages, or skip."""
    program, folder = shutil.which("node"), VENV / "node"
    if program is None or not (folder / "node_modules/gltf-validator").is_dir():
        pytest.skip("node with gltf-validator and three is not here: requirements/consumers.sh installs the packages")
    return program, str(folder)


def exports(folder: Path, wanted: dict[str, tuple[Format, str, ExportOptions]]) -> dict[str, dict[str, Any]]:
    with open_take(write_head_take(folder / "take", [*range(GAP), *range(GAP + 1, 20)])) as take:
        return {key: export_take(take, form, folder / name, options) for key, (form, name, options) in wanted.items()}


@pytest.mark.timeout(300)  # Blender is a gigabyte to load, and a cold disk is no defect
def test_blender_has_every_vertex_where_it_was_recorded(tmp_path: Path) -> None:
    python = blender()
    arkit = ExportOptions(morphs="arkit")
    wanted: dict[str, tuple[Format, str, ExportOptions]] = {
        "usd": ("usd", "a.usdc", ExportOptions()),
        "usd-z": ("usd", "z.usda", ExportOptions(target="blender")),
        "usd-cm": ("usd", "cm.usd", ExportOptions(target="maya")),
        "usd-clips": ("usd", "clips.usdc", ExportOptions(clip_frames=4)),
        "usd-skel": ("usd", "skel.usdc", arkit),
        "usd-skel-z": ("usd", "skelz.usdc", ExportOptions(morphs="arkit", target="unreal")),
        "abc": ("abc", "a.abc", ExportOptions()),
        "gltf": ("gltf", "a.glb", ExportOptions(tolerance_mm=0.005)),
        "gltf-arkit": ("gltf", "b.gltf", arkit),
        "pc2": ("pc2", "p.pc2", ExportOptions(target="blender")),
        "mdd": ("mdd", "m.mdd", ExportOptions()),
    }
    results = exports(tmp_path, wanted)
    jobs = [
        {"key": key, "kind": form, "path": str(tmp_path / name), "fps": 30, "frames": [*FRAMES, GAP]}
        for key, (form, name, _) in wanted.items()
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [python, str(HERE / "blender_read.py"), str(tmp_path / "jobs.json"), str(tmp_path / "got.npz")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=140, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    truth = np.stack([head_mesh(0, frame / 30).vertices @ AXES["blender"].matrix.T for frame in FRAMES])
    around = np.stack([head_mesh(0, (GAP + step) / 30).vertices @ AXES["blender"].matrix.T for step in (-1, 1)])
    with np.load(tmp_path / "got.npz") as got:
        for key, result in results.items():
            vertex = got[f"{key}/ids"].astype(int) if f"{key}/ids" in got else np.arange(truth.shape[1])
            allowed = NEAR_M
            if "error_mm" in result:  # shapes say themselves how far they are off
                allowed = result["error_mm"]["max"] / 1000 + 1e-6
                assert allowed < 5e-5
            off = np.linalg.norm(got[key][:-1] - truth[:, vertex], axis=2).max()
            assert off < allowed, f"{key}: {off} m"
            assert off < NEAR_M or "arkit" in key or "skel" in key
            between = np.linalg.norm(got[key][-1] - around.mean(0)[vertex], axis=1).max()
            assert between < allowed + 5e-5, f"{key}: the gap is {between} m off a straight line"
            assert got[f"{key}/outward"] == 1.0, f"{key}: faces point in"
            assert got[f"{key}/uv"] == 1, f"{key}: no texture coordinates"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("morphs", ["pca", "arkit"])
def test_gltf_is_valid_and_three_js_moves_it_right(tmp_path: Path, morphs: Any) -> None:
    program, packages = node()
    times = [frame / 30 for frame in FRAMES]
    options = ExportOptions(morphs=morphs, tolerance_mm=0.002)
    results = exports(tmp_path, {"glb": ("gltf", "a.glb", options), "gltf": ("gltf", "b.gltf", options)})
    for name in ("a.glb", "b.gltf"):
        command = [program, str(HERE / "gltf_read.mjs"), packages, str(tmp_path / name), *map(str, times)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=140, check=False)
        assert run.returncode == 0, run.stderr[-2000:]
        answer = json.loads(run.stdout)
        assert (answer["errors"], answer["warnings"]) == (0, 0), answer["messages"]
        if name == "a.glb":
            seen = answer
    ids = np.array(seen["ids"]).astype(int)
    truth = np.stack([head_mesh(0, time).vertices[ids] for time in times])
    off = np.linalg.norm(np.array(seen["positions"]).reshape(truth.shape) - truth, axis=2).max()
    assert off < results["glb"]["error_mm"]["max"] / 1000 + 1e-6
    assert off < (NEAR_M if morphs == "pca" else 5 * NEAR_M)  # linear shapes of three units cannot hold all of it
    if morphs == "arkit":
        assert seen["names"] == ["eyeBlinkLeft", "jawOpen", "cheekPuff"]
