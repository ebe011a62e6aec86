"""The add-on inside a real Blender: the lopsided head is the right way round, follows, and survives what users do.

Needs `bpy`, which wants an older numpy than Mien, so it has a Python of its own:
    python3.11 -m venv FOLDER && FOLDER/bin/pip install bpy==4.5.15
    MIEN_BPY_PYTHON=FOLDER/bin/python pytest tests/plugins
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.blender import mien_live
from tests.streamer.gateway_makers import LEFT_EAR, NOSE, Stage, head

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("MIEN_BPY_PYTHON") or (sys.executable if importlib.util.find_spec("bpy") else "")
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


def run_in_blender(player: Player, port: int, react: dict[str, Callable[[], object]]) -> dict[str, Any]:
    """Run the script; answer its steps; return what it told, by step."""
    command = [PYTHON, str(ROOT / "tests/plugins/blender_script.py"), str(ROOT / "plugins/blender"), str(port)]
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
def test_the_head_in_blender() -> None:
    player = Player(Stage())
    assert player.stage is not None

    def change() -> None:
        player.topology = OTHER

    try:
        told = run_in_blender(player, player.stage.tcp_port, {"live": change, "restart": player.restart})
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
