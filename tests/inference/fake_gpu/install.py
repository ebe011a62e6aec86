"""Puts the machine that is not there in the place of pycuda, cuda-bindings, tensorrt and nvcc."""

import ctypes
import hashlib
import os
import shutil
import stat
import struct
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from inference.kernels import compile as compiler
from tests.inference.fake_gpu.driver import make_bindings, make_driver
from tests.inference.fake_gpu.machine import Machine
from tests.inference.fake_gpu.trt import VERSION, make_tensorrt
from tests.inference.kernels_on_cpu import SHIM, Kernels

CACHE = Path(__file__).parents[3] / ".pytest_cache" / "kernels"

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
    """Source texts to C libraries, kept beside pytest's own cache: compiling takes seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, ctypes.CDLL] = {}

    def _library(self, source: str) -> ctypes.CDLL:
        key = hashlib.sha256((source + SHIM.read_text()).encode()).hexdigest()
        kept = CACHE / f"{key}.so"
        if not kept.exists():
            work = self._folder / key[:16]
            work.mkdir(exist_ok=True)
            Kernels(work, {"kernels": source})
            CACHE.mkdir(parents=True, exist_ok=True)
            partial = CACHE / f"{key}.{os.getpid()}.partial"
            shutil.copyfile(work / "all.so", partial)
            partial.replace(kept)
        return ctypes.CDLL(str(kept))

    def __call__(self, source: str) -> Launch:
        if source not in self._held:
            self._held[source] = self._library(source)
        library = self._held[source]

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
        module.__spec__ = ModuleSpec(name, None)  # torch asks for it
        monkeypatch.setitem(sys.modules, name, module)
    nvcc = folder / "nvcc"
    nvcc.write_text(NVCC)
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(compiler, "find_nvcc", lambda: nvcc)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
