"""Torch as an engine: the reference that others are held against, for any exported graph. Slow, and plain.

It reads the ONNX file that the other engines read and computes it operator by operator. `f16` computes the graph as
`inference.tensorrt.half` writes it for a GPU, on the CPU, with sums in float32, as tensor cores have them.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from inference.engines.base import Precision, TensorSpec, check_inputs
from inference.tempeh.operators import OPERATORS, UnknownOperatorError
from inference.tensorrt.half import CONVOLUTIONAL, half
from streamer.errors import EngineError, ModelError
from streamer.types import F32


class TorchGraph:
    """An ONNX graph, computed by torch; see `inference.engines.base.Graph`.

    Args:
        model: static shapes, float32 at the border.
        name: stem of its file.
        precision: what is written in it.
        threads: of a run; 0: torch's own number.

    Raises:
        EngineError: it holds operators that are not known here, or shapes that are not static.
    """

    def __init__(self, model: onnx.ModelProto, name: str, precision: str, threads: int) -> None:
        """Read weights and nodes."""
        self.name, self.precision = name, precision
        graph = model.graph
        if unknown := sorted({node.op_type for node in graph.node} - OPERATORS.keys() - {"Constant"}):
            raise EngineError(f"graph '{name}': the engine 'torch' does not know {', '.join(unknown)}")
        self._weights = {w.name: _tensor(w) for w in graph.initializer}
        self.inputs = {v.name: _spec(v, name) for v in graph.input if v.name not in self._weights}
        self.outputs = {v.name: _spec(v, name) for v in graph.output}
        self._nodes: list[tuple[str, dict[str, Any], list[str], list[str]]] = []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self._weights[node.output[0]] = _tensor(attributes["value"])
            else:
                self._nodes.append((node.op_type, attributes, list(node.input), list(node.output)))
        self._last_use = {name: k for k, (_, _, names, _) in enumerate(self._nodes) for name in names}
        self._threads = threads
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, F32]:
        """Run once; see `Graph.run`."""
        check_inputs(self.name, self.inputs, inputs)
        # copied: torch cannot hold arrays that are read-only
        values: dict[str, Any] = {key: torch.from_numpy(np.array(value)) for key, value in inputs.items()}
        with self._lock, torch.inference_mode():
            if self._threads:
                torch.set_num_threads(self._threads)
            for k, (kind, attributes, names, outputs) in enumerate(self._nodes):
                taken = [None if not n else values[n] if n in values else self._weights[n] for n in names]
                try:
                    made = OPERATORS[kind](attributes, taken)
                except (RuntimeError, KeyError, UnknownOperatorError) as error:
                    raise EngineError(f"graph '{self.name}': {kind} -> {outputs[0]}: {error}") from error
                several = made if isinstance(made, tuple) else (made,)
                values |= dict(zip(outputs, several, strict=True))
                for name in names:
                    if self._last_use.get(name) == k and name not in self.outputs:
                        values.pop(name, None)
            return {name: np.array(self._result(values, name)) for name in self.outputs}

    def _result(self, values: Mapping[str, Tensor], name: str) -> NDArray[Any]:
        found = values[name] if name in values else self._weights[name]
        result: NDArray[Any] = found.numpy()
        return result


def _tensor(weight: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(weight).copy())


def _spec(value: onnx.ValueInfoProto, graph: str) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(n.dim_value for n in kind.shape.dim)
    if kind.elem_type != onnx.TensorProto.FLOAT or min(shape, default=1) < 1:
        raise EngineError(
            f"graph '{graph}', '{value.name}': type {kind.elem_type} {shape}; export it with static shapes and float32 "
            "tensors"
        )
    return TensorSpec(shape, np.dtype(np.float32))


class TorchEngine:
    """Torch on the CPU; see `inference.engines.base.Engine`."""

    name = "torch"

    def __init__(self, *, threads: int = 0) -> None:
        """Open it.

        Args:
            threads: threads of a run; 0: as many as torch likes.
        """
        self.version = str(torch.__version__)
        self._threads = threads

    def compile(self, onnx_path: Path, *, precision: Precision = "f32") -> TorchGraph:
        """Read a graph; see `Engine.compile`. `auto` is float32: this is the reference."""
        if not onnx_path.is_file():
            raise ModelError(f"{onnx_path}: no such graph; run: mien model check")
        if precision == "bf16":
            raise EngineError("inference.precision = 'bf16': torch computes in f32 or f16 here; use one of them")
        try:
            model = onnx.load(str(onnx_path))
            onnx.checker.check_model(model)
        except (DecodeError, onnx.checker.ValidationError, OSError) as error:
            raise EngineError(f"{onnx_path}: cannot be read as ONNX: {str(error).splitlines()[0]}") from error
        if precision != "f16":
            return TorchGraph(model, onnx_path.stem, "f32", self._threads)
        return TorchGraph(half(model, CONVOLUTIONAL), onnx_path.stem, "f16", self._threads)
