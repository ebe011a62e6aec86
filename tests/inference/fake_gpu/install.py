"""Puts the machine that is not there in the place of pycuda, cuda-bindings, tensorrt and nvcc."""

import ctypes
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from inference.kernels import compile as compiler
from tests.inference.fake_gpu.driver import make_bindings, make_driver
from tests.inference.fake_gpu.machine import Machine
from tests.inference.fake_gpu.trt import VERSION, make_tensorrt
from tests.inference.kernels_on_cpu import Kernels

NVCC = """#!/bin/sh
# nvcc that wraps its source instead of compiling it
[ "$1" = --version ] && { echo "fake nvcc"; exit 0; }
while [ $# -gt 1 ]; do
    case $1 in -arch=*) arch=${1#-arch=} ;; -o) out=$2; shift ;; esac
    shift
done
{ echo "cubin $arch"; cat "$1"; } >"$out"
"""
Launch = Callable[[str, tuple[int, ...], tuple[int, ...], str, tuple[Any, ...]], None]


class Libraries:
    """Source texts to C libraries, kept as long as the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, Kernels] = {}

    def __call__(self, source: str) -> Launch:
        if source not in self._held:
            folder = self._folder / str(len(self._held))
            folder.mkdir()
            self._held[source] = Kernels(folder, {"kernels": source})
        library = self._held[source].library

        def launch(name: str, grid: tuple[int, ...], block: tuple[int, ...], kinds: str, values: Any) -> None:
            held = [ctypes.c_void_p(v) if k == "P" else ctypes.c_int(v) for k, v in zip(kinds, values, strict=True)]
            addresses = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
            sizes = [(ctypes.c_int * 3)(*size) for size in (grid, block)]
            getattr(library, f"launch_{name}")(*sizes, addresses, 1, -1)

        return launch


def install(
    machine: Machine, libraries: Libraries, folder: Path, monkeypatch: pytest.MonkeyPatch, *, version: str = VERSION
) -> None:
    """Install for one test."""
    assert struct.calcsize("P") == 8
    driver, bindings = make_driver(machine, libraries), make_bindings(machine)
    pycuda, cuda, middle = ModuleType("pycuda"), ModuleType("cuda"), ModuleType("cuda.bindings")
    pycuda.VERSION_TEXT, pycuda.driver, middle.driver, cuda.bindings = "2026.1", driver, bindings, middle  # type: ignore[attr-defined]
    modules = {"pycuda": pycuda, "pycuda.driver": driver, "cuda": cuda, "cuda.bindings": middle}
    modules |= {"cuda.bindings.driver": bindings, "tensorrt": make_tensorrt(machine, version)}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    nvcc = folder / "nvcc"
    nvcc.write_text(NVCC)
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(compiler, "find_nvcc", lambda: nvcc)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
