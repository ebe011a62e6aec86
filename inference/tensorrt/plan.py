"""ONNX graphs to plans through TensorRT's builder, for TensorRT 11 and TensorRT-RTX 1.7, whose Python interfaces agree.

Networks are strongly typed: what precision a graph has is written in it (see `half`). Shapes are static, one set of
them per number of views, so that no optimisation profile is needed: the shapes are the profile. The module is an
argument, because the two are separate packages; both are imported in this file only.
"""

from pathlib import Path
from typing import Any

from inference.plans import Plan
from streamer.errors import EngineError, MissingExtra, ModelError

OPTIONS = "without TF32"
"""What the builder is told, as part of a plan's key. TF32 is on by default and rounds factors to 10 bits: 1.6 mm."""
HEARD = 20
"""Complaints that are kept: the last one is told, and a device that fails for hours must not fill the memory."""
CAPABILITIES = (75, 80, 86, 89, 120)
"""Compute capabilities, times ten, that TensorRT-RTX compiles for without a GPU. It knows no 90."""


def import_tensorrt() -> Any:
    """Import TensorRT.

    Raises:
        MissingExtra: it is not installed, or only its bindings are.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise MissingExtra("tensorrt", "gpu") from error
    return tensorrt


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


def make_logger(trt: Any, said: list[str]) -> Any:
    """Return a logger that adds what goes wrong to `said`: the interface itself only returns None or False."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps errors."""

        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, msg: str) -> None:
            """Take a message; it may come from any thread."""
            if int(severity) <= int(trt.ILogger.ERROR):
                said.append(msg.strip())
                del said[:-HEARD]

    return Logger()


def last(said: list[str]) -> str:
    """Return the last complaint of a logger."""
    return said[-1] if said else "it does not say why"


def make_plan(trt: Any, onnx_model: bytes, name: str, *, capability: int | None = None) -> Plan:
    """Compile a graph.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        onnx_model: content of an ONNX file with static shapes and float32 inputs and outputs.
        name: of the graph, for messages.
        capability: of `CAPABILITIES`, compiled for without a GPU, TensorRT-RTX only; None: for the GPU that is here.

    Raises:
        EngineError: the graph cannot be parsed or compiled, or no builder can be made; with TensorRT's own words.
    """
    said: list[str] = []
    logger = make_logger(trt, said)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # how pybind11 reports a null pointer
        raise EngineError(f"{name}: TensorRT has no builder here, it needs an NVIDIA driver") from error
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_model):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineError(f"{name}: TensorRT cannot parse it: {'; '.join(errors)}")
    inputs = _ports(trt, [network.get_input(k) for k in range(network.num_inputs)], name)
    outputs = _ports(trt, [network.get_output(k) for k in range(network.num_outputs)], name)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if capability is not None:
        if capability not in CAPABILITIES:
            raise EngineError(
                f"compute capability {capability}: TensorRT-RTX compiles for {CAPABILITIES} without a GPU"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), 0)
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise EngineError(f"{name}: TensorRT cannot compile it: {last(said)}")
    return Plan(bytes(made), inputs, outputs)


def _ports(trt: Any, tensors: list[Any], name: str) -> dict[str, tuple[int, ...]]:
    ports = {}
    for tensor in tensors:
        shape = tuple(int(n) for n in tensor.shape)
        if tensor.dtype != trt.DataType.FLOAT or min(shape, default=0) < 0:
            raise EngineError(
                f"graph '{name}', '{tensor.name}': {tensor.dtype} {shape}; export it with static shapes and float32 "
                "tensors"
            )
        ports[str(tensor.name)] = shape
    return ports


def build_plan(trt: Any, onnx_path: Path, *, capability: int | None) -> bytes:
    """Compile a file; see `make_plan`.

    Raises:
        ModelError: there is no such file.
    """
    if not onnx_path.is_file():
        raise ModelError(f"{onnx_path}: no such graph")
    return make_plan(trt, onnx_path.read_bytes(), onnx_path.name, capability=capability).data
