"""ONNX graphs to plans through TensorRT's builder, for TensorRT 11 and TensorRT-RTX 1.7, whose Python interfaces agree.

Networks are strongly typed: what precision a graph has is written in it (see `half`). Shapes are static, so that no
optimisation profile is needed. The module is an argument, because the two are separate packages.
"""

from pathlib import Path
from typing import Any

from streamer.errors import EngineError, MissingExtra, ModelError

CAPABILITIES = (75, 80, 86, 89, 120)
"""Compute capabilities, times ten, that TensorRT-RTX compiles for without a GPU. It knows no 90."""


def import_rtx() -> Any:
    """Import TensorRT-RTX.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise MissingExtra("tensorrt-rtx", "gpu-check") from error
    return tensorrt_rtx


def build_plan(trt: Any, onnx_path: Path, *, capability: int | None) -> bytes:
    """Compile a graph.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        onnx_path: the graph.
        capability: of `CAPABILITIES`, compiled for without a GPU, TensorRT-RTX only; None: for the GPU that is here.

    Raises:
        ModelError: there is no such file.
        EngineError: the graph cannot be parsed or compiled, or no builder can be made; with TensorRT's own words.
    """
    if not onnx_path.is_file():
        raise ModelError(f"{onnx_path}: no such graph")
    said: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps what goes wrong: the interface itself returns None."""

        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            """Take a message."""
            if int(severity) <= int(trt.ILogger.ERROR):
                said.append(message.strip())

    logger = Logger()
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # how pybind11 reports a null pointer
        raise EngineError(f"{onnx_path.name}: TensorRT has no builder here, it needs an NVIDIA driver") from error
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineError(f"{onnx_path.name}: TensorRT cannot parse it: {'; '.join(errors)}")
    config = builder.create_builder_config()
    if capability is not None:
        if capability not in CAPABILITIES:
            raise EngineError(
                f"compute capability {capability}: TensorRT-RTX compiles for {CAPABILITIES} without a GPU"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{onnx_path.name}: TensorRT cannot compile it: {said[-1] if said else 'it does not say why'}"
        )
    return bytes(plan)
