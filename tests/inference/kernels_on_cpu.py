"""The sources of `inference/kernels` as a C++ library, called through ctypes like by cuLaunchKernel."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from inference.kernels.compile import SOURCES

SHIM = Path(__file__).with_name("kernel_shim.hpp")
ENTRY = re.compile(r'extern "C" __global__ void (\w+)\(')
NAMES = ("visibility", "local_volumes", "pictures")
Argument = np.ndarray | int


class Kernels:
    """The kernels of some sources.

    Args:
        folder: for what is compiled.
        sources: name to text.
    """

    def __init__(self, folder: Path, sources: dict[str, str]) -> None:
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("g++ is not installed: kernels cannot be compiled for the CPU")
        lines = [f'#include "{SHIM}"']
        for name, text in sources.items():
            (folder / f"{name}.cu").write_text(text)
            lines.append(f'namespace {name}_source {{\n#include "{folder / name}.cu"\n}}')
            lines += [
                f'extern "C" void launch_{entry}(const int *g, const int *b, void **a, int n, int s)'
                f" {{ launch({name}_source::{entry}, g, b, a, n, s); }}"
                for entry in ENTRY.findall(text)
            ]
        (folder / "all.cpp").write_text("\n".join(lines))
        options = ["-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-Wall", "-Werror"]
        command = [compiler, *options, "-o", str(folder / "all.so"), str(folder / "all.cpp")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.library = ctypes.CDLL(str(folder / "all.so"))
        self.threads, self.step = 1, 1

    def __call__(self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Argument) -> None:
        """Run a kernel; arrays are given by address, whole numbers by value."""
        held: list[ctypes.c_void_p | ctypes.c_int] = []
        for value in arguments:
            if isinstance(value, np.ndarray):
                assert value.flags.c_contiguous and value.dtype != np.float64
                held.append(ctypes.c_void_p(value.ctypes.data))
            else:
                held.append(ctypes.c_int(value))
        addresses = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
        sizes = [(ctypes.c_int * 3)(*size, *[1] * (3 - len(size))) for size in (grid, block)]
        getattr(self.library, f"launch_{name}")(*sizes, addresses, self.threads, self.step)


def shipped() -> dict[str, str]:
    """The sources as they are."""
    return {name: (SOURCES / f"{name}.cu").read_text("utf-8") for name in NAMES}


def blocks(count: int, size: int) -> int:
    """Blocks of `size` threads for `count` elements."""
    return -(-count // size)
