"""NVIDIA's own TensorRT 11.4 bindings, loaded with libraries that do nothing, in a process of their own."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = {
    "libnvinfer.so.11": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvonnxparser.so.11": (
        "createNvOnnxParserRefitter_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "getNvOnnxParserVersion",
    ),
    "libnvinfer_plugin.so.11": ("initLibNvInferPlugins",),
}
"""What the genuine bindings link to, as libraries that return null."""


def in_genuine(code: str, folder: Path, *arguments: str) -> Any:
    """Run code that imports `tensorrt_bindings` and prints JSON as its last line; what it printed."""
    compiler = shutil.which("g++")
    if importlib.util.find_spec("tensorrt_bindings") is None or compiler is None:
        pytest.skip("tensorrt-cu13-bindings or g++ is not installed; requirements/consumers.sh installs the first")
    for name, functions in LIBRARIES.items():
        source = folder / "null.cpp"
        source.write_text("".join(f'extern "C" void *{function}() {{ return nullptr; }}\n' for function in functions))
        subprocess.run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, source], check=True)
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), *arguments],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
