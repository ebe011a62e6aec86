"""CUDA sources to cubins by nvcc: one per architecture, kept in the cache under the hash of what they were made from.

A cubin is loaded by the driver (`pycuda.driver.module_from_buffer`); the machine that compiles needs no GPU.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from inference.cache import cache_folder
from streamer.errors import EngineError

SOURCES = Path(__file__).parent
ARCHITECTURES = (75, 80, 86, 89, 90, 120)
"""Compute capabilities, times ten, that the tests compile for: Turing to Blackwell."""
Kernel = Literal["visibility", "local_volumes", "pictures"]
OPTIONS: dict[Kernel, tuple[str, ...]] = {
    "visibility": ("--fmad=false",),
    "local_volumes": (),
    "pictures": (),
}
"""What each source is compiled with beyond the common options; visibility compares floats for equality at edges."""
COMMON = ("-cubin", "-std=c++17", "-O3")


def find_nvcc() -> Path | None:
    """Return nvcc of the PATH, of `$CUDA_HOME` or of /usr/local/cuda; None where there is none."""
    found = shutil.which("nvcc")
    if found:
        return Path(found)
    for root in (os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"):
        if root and os.access(nvcc := Path(root) / "bin" / "nvcc", os.X_OK):
            return nvcc
    return None


def cubin(kernel: Kernel, architecture: int, cache: Path | None = None) -> bytes:
    """Compile a source for an architecture, or take the result of the last time.

    Args:
        kernel: name of a source in this folder.
        architecture: compute capability times ten, 89 for 8.9.
        cache: folder for the results; None: "kernels" in Mien's cache.

    Raises:
        EngineError: there is no nvcc, or it refuses; names its first complaint.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise EngineError("nvcc is not on the PATH, in $CUDA_HOME or /usr/local/cuda; install the CUDA toolkit")
    source = SOURCES / f"{kernel}.cu"
    options = (*COMMON, f"-arch=sm_{architecture}", *OPTIONS[kernel])
    release = _run([str(nvcc), "--version"], "nvcc --version")
    key = hashlib.sha256("\0".join([release, *options, source.read_text("utf-8")]).encode()).hexdigest()
    folder = cache_folder() / "kernels" if cache is None else cache
    target = folder / f"{kernel}-sm{architecture}-{key[:32]}.cubin"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".cubin.", dir=folder) as work:
            made = Path(work) / "cubin"
            _run([str(nvcc), *options, "-o", str(made), str(source)], f"{source.name} for sm_{architecture}")
            os.replace(made, target)
    return target.read_bytes()


def _run(command: list[str], what: str) -> str:
    """Run a compiler and return what it says.

    Raises:
        EngineError: it cannot be run or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineError(
            f"{what}: {command[0]} cannot be run: {error.strerror}; reinstall the CUDA toolkit"
        ) from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line] or ["no message"]
        raise EngineError(f"{what}: nvcc refuses: {lines[0].strip()}; compare docs/gpu.md for the releases that work")
    return done.stdout
