"""CUDA kernels without a GPU: they compile for every architecture, and as C++ they compute what they should."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from inference.kernels import compile as compiler
from inference.kernels.compile import ARCHITECTURES, OPTIONS, SOURCES, cubin, find_nvcc
from streamer.errors import EngineError
from tests.inference import kernel_checks as checks
from tests.inference.kernels_on_cpu import ENTRY, NAMES, Kernels, shipped

Check = Callable[[Kernels], None]
CHECKS: dict[str, Check] = {
    "outline": checks.check_outline,
    "depth": checks.check_depth,
    "visibility": checks.check_visibility,
    "normals": checks.check_normals,
    "volumes_published": partial(checks.check_volumes, quirks=True),
    "volumes_own": partial(checks.check_volumes, quirks=False),
    "pictures": checks.check_pictures,
}
FAULTS = [
    ("visibility", "depth", "py >= high_y", "py > high_y"),
    ("visibility", "depth", "~ordered(height)", "ordered(height)"),
    ("visibility", "outline", "if (!good) continue;", "(void)good;"),
    ("visibility", "normals", "- m[l] * n[j]", "+ m[l] * n[j]"),
    ("local_volumes", "volumes_published", "x + i < width", "x + i < width - 1"),
    ("local_volumes", "volumes_published", "weighted * f[k]", "f[k] * f[k]"),
    ("local_volumes", "volumes_own", "z < NEAR_MM", "fabsf(z) < NEAR_MM"),
    ("local_volumes", "volumes_own", "if (!mask[view]) continue;", ""),
    ("pictures", "pictures", "2 * size - 2 - i", "size - 1"),
    ("pictures", "pictures", "rgb[0] = red_row ? beside : above", "rgb[0] = red_row ? above : beside"),
]
"""Source, check that notices, and what is put in the place of what."""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return Kernels(tmp_path_factory.mktemp("kernels"), shipped())


@pytest.mark.parametrize("check", CHECKS)
def test_arithmetic(check: str, kernels: Kernels) -> None:
    kernels.threads, kernels.step = 2, -1
    CHECKS[check](kernels)


@pytest.mark.parametrize(("source", "check", "right", "wrong"), FAULTS)
def test_planted_faults_are_noticed(source: str, check: str, right: str, wrong: str, tmp_path: Path) -> None:
    text = shipped()[source]
    assert right in text
    faulty = Kernels(tmp_path, {source: text.replace(right, wrong)})
    with pytest.raises(AssertionError):
        CHECKS[check](faulty)


@pytest.mark.skipif(find_nvcc() is None, reason="nvcc is not installed: kernels cannot be compiled for GPUs")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_compiles(architecture: int, tmp_path: Path) -> None:
    for kernel in OPTIONS:
        made = cubin(kernel, architecture, tmp_path)
        assert made[:4] == b"\x7fELF"
        for entry in ENTRY.findall((SOURCES / f"{kernel}.cu").read_text()):
            assert f".text.{entry}\0".encode() in made
    files = sorted(tmp_path.iterdir())
    stamps = [path.stat().st_mtime_ns for path in files]
    assert cubin("pictures", architecture, tmp_path)
    assert len(files) == len(OPTIONS) and [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())] == stamps


@pytest.mark.skipif(find_nvcc() is None, reason="nvcc is not installed: kernels cannot be compiled for GPUs")
def test_what_nvcc_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures.cu").write_text('extern "C" __global__ void pictures(float *out) { out[0] = nonsense; }')
    monkeypatch.setattr(compiler, "SOURCES", tmp_path)
    with pytest.raises(EngineError, match=r"pictures.cu for sm_75.*nonsense"):
        cubin("pictures", 75, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find_nvcc", lambda: None)
    with pytest.raises(EngineError, match="install the CUDA toolkit"):
        cubin("visibility", 89)


def test_every_source_is_tested() -> None:
    assert {path.stem for path in SOURCES.glob("*.cu")} == set(NAMES) == set(OPTIONS)
