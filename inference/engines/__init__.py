"""Engines by name; each imports its own runtime, lazily, in its one file."""

from collections.abc import Callable
from pathlib import Path

from inference.engines.base import Engine, Graph, Precision, TensorSpec
from streamer.errors import EngineError, MissingExtra

__all__ = ["ENGINES", "Engine", "Graph", "Precision", "TensorSpec", "open_engine"]


def _openvino(threads: int, cache_dir: Path | None) -> Engine:
    from inference.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(threads=threads, cache_dir=cache_dir)


def _tensorrt(threads: int, cache_dir: Path | None) -> Engine:
    from inference.engines.tensorrt import TensorRtEngine

    return TensorRtEngine(cache_dir=cache_dir)


def _torch(threads: int, cache_dir: Path | None) -> Engine:
    try:
        from inference.tempeh.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx"):
            raise
        raise MissingExtra(error.name, "train") from error
    return TorchEngine(threads=threads)


ENGINES: dict[str, Callable[[int, Path | None], Engine]] = {
    "openvino": _openvino,
    "tensorrt": _tensorrt,
    "torch": _torch,
}
"""Name to maker. Every engine in it passes the contract suite in tests/inference/test_engines.py."""


def open_engine(name: str, *, threads: int = 0, cache_dir: Path | None = None) -> Engine:
    """Open an engine by name; never another one in its place.

    Args:
        name: a key of `ENGINES`.
        threads: threads that a run may use; 0: all cores.
        cache_dir: folder where the engine may keep compiled graphs; None: it keeps none.

    Raises:
        EngineError: no engine of this name, or it cannot run on this machine.
        MissingExtra: its package is not installed.
    """
    if name not in ENGINES:
        known = ", ".join(sorted(ENGINES))
        raise EngineError(f"inference.engine = {name!r}: this Mien has no such engine; set it to one of: {known}")
    return ENGINES[name](threads, cache_dir)
