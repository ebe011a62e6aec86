"""The add-on inside a real Blender: the lopsided head is the right way round, follows, and survives what users do.

Needs `bpy`, which wants an older numpy than Mien, so it has a Python of its own: requirements/consumers.sh puts it into
.venv/bpy; MIEN_BPY_PYTHON names another.
"""

import json
import os
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from plugins.blender import mien_live
from tests.streamer.gateway_makers import LEFT_EAR, NOSE, Stage, head

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv/bpy/bin/python"
PYTHON = os.environ.get("MIEN_BPY_PYTHON") or (str(VENV) if VENV.exists() else "")
HEAD, OTHER = head(), head("other", segments=16)


class Player:
    """Publishes a head at about 100 a second on a stage that may be exchanged."""

    def __init__(self, stage: Stage) -> None:
        self.stage: Stage | None = stage
        self.topology = HEAD
        self._number = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(0.01):
            with self._lock:
                if self.stage is not None:
                    self.stage.publish(self.topology, self._number)
            self._number += 1

    def restart(self) -> None:
        """Exchange the gateway for one on the same port."""
        with self._lock:
            assert self.stage is not None
            config = self.stage.config
            self.stage.close()
            self.stage = None
            self.restarted = threading.Timer(1.0, self._begin, (config,))
            self.restarted.start()

    def _begin(self, config: Any) -> None:
        with self._lock:
            self.stage = Stage(config)

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        with self._lock:
            if self.stage is not None:
                self.stage.close()


def run_in_blender(port: int, folder: Path, react: dict[str, Callable[[], object]]) -> dict[str, Any]:
    """Run the script; answer its steps; return what it told, by step."""
    times_ns = np.array([0, 250_000_000, 1_000_000_000], np.int64)
    vertices = np.stack([HEAD.template, np.add(HEAD.template, [0, 0.1, 0]), HEAD.template]).astype(np.float32)
    weights, units = np.array([[0, 0], [0.5, 0], [1, 0]], np.float32), np.array(HEAD.units)
    arrays = {
        "vertices": vertices,
        "triangles": HEAD.triangles,
        "times_ns": times_ns,
        "weights": weights,
        "units": units,
    }
    np.savez(folder / "take.npz", **arrays, uv=HEAD.uv, uv_triangles=HEAD.uv_triangles)  # as `mien export` writes it
    command = [PYTHON, str(ROOT / "tests/plugins/blender_script.py"), str(ROOT / "plugins/blender"), str(port)]
    command += [str(folder / "take.npz"), str(folder / "picture.png")]
    told: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as blender:
        noise = []
        try:
            assert blender.stdout is not None
            for line in blender.stdout:
                if not line.startswith("{"):
                    noise.append(line)
                    continue
                step = json.loads(line)
                told[step["step"]] = step
                react.get(step["step"], lambda: None)()
        finally:
            blender.kill()
        assert "done" in told, f"Blender stopped after {list(told)}:\n{''.join(noise[-30:])}"
    return told


@pytest.mark.skipif(not PYTHON, reason="no bpy: see the top of this file, and set MIEN_BPY_PYTHON")
def test_the_head_in_blender(tmp_path: Path) -> None:
    player = Player(Stage())
    assert player.stage is not None

    def change() -> None:
        player.topology = OTHER

    try:
        told = run_in_blender(player.stage.tcp_port, tmp_path, {"live": change, "restart": player.restart})
    finally:
        player.close()
    live = told["live"]
    positions, normals, centres = (np.array(live[key]) for key in ("positions", "normals", "centres"))
    lift = positions[NOSE, 2]
    assert positions[NOSE] == pytest.approx([0, -0.13, lift], abs=1e-6), "the nose looks along -Y"
    assert positions[LEFT_EAR] == pytest.approx([0.11, 0, lift], abs=1e-6), "the left ear is the one towards +X"
    assert np.argmin(positions[:, 1]) == NOSE and np.argmax(positions[:, 0]) == LEFT_EAR
    assert live["dimensions"] == pytest.approx([0.19, 0.23, 0.25], abs=1e-6), "metres, +Z up"
    assert (np.einsum("ij,ij->i", normals, centres - positions.mean(0)) > 0).all(), "every face looks outwards"
    expected = np.stack([HEAD.template[:, 0], -HEAD.template[:, 2], HEAD.template[:, 1] + lift], 1)
    np.testing.assert_allclose(positions, expected, atol=1e-6)
    assert live["triangles"] == HEAD.triangles.tolist() and live["smooth"]
    np.testing.assert_allclose(live["uv"], HEAD.uv[HEAD.uv_triangles.ravel()], atol=1e-6)
    assert live["objects"] == ["Mien Head"] and live["status"] == f"live: lopsided, {HEAD.vertex_count} vertices"

    changed = told["other topology"]
    assert changed["objects"] == ["Renamed"] and changed["materials"] == ["Skin"]
    assert changed["triangles"] == OTHER.triangles.tolist()
    assert told["after editing"]["objects"] == ["Renamed"]
    assert told["after deleting"]["objects"] == ["Mien Head"], "a head deleted by hand comes back as a new one"
    assert told["after a restart"]["applied"] > told["after deleting"]["applied"]
    assert told["after a restart"]["status"] == f"live: other, {OTHER.vertex_count} vertices"
    assert_performed(told)
    assert_pictured(cv2.imread(str(tmp_path / "picture.png"), cv2.IMREAD_UNCHANGED))


def assert_performed(told: dict[str, Any]) -> None:
    """Shape keys follow; a recording is what was live; a take is what was recorded."""
    keys = told["shape keys"]
    assert keys["values"] == {"Basis": 0, "JawOpen": 0.25, "mouthClose": 0.5, "smile": 0} and keys["following"] == 2
    assert keys["properties"] == [0.25, 0.5]
    recorded = told["recorded"]
    assert recorded["frames"] > 10 and recorded["worst"] < 1e-6 and recorded["curves"] == 2
    assert recorded["jaw"] == pytest.approx(0.25) and recorded["pose"] == pytest.approx(
        recorded["expected pose"], abs=1e-6
    )
    imported, (x, y, z) = told["imported"], HEAD.template.T
    np.testing.assert_allclose(imported["first"], np.stack([x, -z, y], 1), atol=1e-6)
    np.testing.assert_allclose(imported["second"], np.stack([x, -z, y + 0.1 * 2 / 3], 1), atol=1e-6, err_msg="at 0.5 s")
    assert imported["jaw"] == [pytest.approx(2 / 3)] and imported["end"] == 250 and imported["uv"] == 1
    assert "is no NPZ file" in told["refused t.py"]["told"]
    assert "set Mien's command" in told["refused json"]["told"] or "no such" in told["refused json"]["told"].lower()


def assert_pictured(picture: np.ndarray) -> None:
    """From the front: 0.19 m wide of 0.25 m high, the marked left ear on the right of the picture."""
    rows, columns = np.nonzero(picture[:, :, 3] > 127)
    assert rows.size > 1000
    crown, height_px = columns[rows <= rows.min() + 1].mean(), np.ptp(rows)
    right, left = columns.max() - crown, crown - columns.min()
    assert right > 1.2 * left, "0.11 m against 0.08 m"
    assert np.ptp(columns) / height_px == pytest.approx(0.19 / 0.25, abs=0.06)


INSTALL = """
import sys
import bpy
import addon_utils  # lies in a folder that bpy adds
addon_utils.enable("bl_pkg")
result = bpy.ops.extensions.package_install_files(filepath=sys.argv[1], repo="user_default", enable_on_install=True)
name = "bl_ext.user_default.mien_live"
assert result == {"FINISHED"} and name in bpy.context.preferences.addons and bpy.context.scene.mien.port == 5750
bpy.ops.preferences.addon_disable(module=name)
assert not hasattr(bpy.types.Scene, "mien")
"""


@pytest.mark.skipif(not PYTHON, reason="no bpy: see the top of this file, and set MIEN_BPY_PYTHON")
def test_the_zip_installs_as_an_extension(tmp_path: Path) -> None:
    folder = tmp_path / "plugin" / "mien_live"
    shutil.copytree(ROOT / "plugins/blender/mien_live", folder, ignore=shutil.ignore_patterns("__pycache__"))
    package = shutil.make_archive(str(tmp_path / "mien_live"), "zip", folder.parent, folder.name)
    environment = os.environ | {"BLENDER_USER_RESOURCES": str(tmp_path / "user")}
    run = subprocess.run(
        [PYTHON, "-c", INSTALL, package], env=environment, capture_output=True, text=True, timeout=55, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_manifest_and_the_add_on_agree() -> None:
    """Blender 4.2+ reads the manifest, other tools the dictionary."""
    manifest = tomllib.loads((ROOT / "plugins/blender/mien_live/blender_manifest.toml").read_text("utf-8"))
    mien = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert manifest["version"] == ".".join(map(str, mien_live.bl_info["version"])) == mien["version"]  # type: ignore[arg-type]
    assert manifest["blender_version_min"] == ".".join(map(str, mien_live.bl_info["blender"]))  # type: ignore[arg-type]
    assert (manifest["name"], manifest["tagline"]) == (mien_live.bl_info["name"], mien_live.bl_info["description"])
