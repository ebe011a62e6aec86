"""ONNX graphs in float16 with float32 islands, as strong typing wants them: a cast at every border. Needs onnx.

The border of a graph stays float32. Coordinates, logits and sums keep float32; convolutions and what is between them do
not.
"""

from collections.abc import Collection
from typing import Any

import onnx
from onnx import TensorProto, helper, shape_inference

CONVOLUTIONAL = frozenset(
    {"Add", "Concat", "Conv", "ConvTranspose", "MaxPool", "Relu", "Reshape", "Resize", "Transpose"}
)
"""Operators of a net of convolutions."""
PRODUCTS = frozenset({"Gemm", "MatMul"})
"""Turing has no float32 matrix product in TensorRT-RTX: there, attention's products are in float16, its softmax not."""
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
EXACT = {"Resize": (1, 2)}
"""Inputs that are always float32: sizes of regions and scales."""


def half(model: onnx.ModelProto, operators: Collection[str]) -> onnx.ModelProto:
    """Return a copy of a graph in which some operators compute in float16.

    Args:
        model: of static shapes, with float32 inputs and outputs.
        operators: ONNX operator types.
    """
    done = onnx.ModelProto()
    done.CopyFrom(model)
    graph = done.graph
    types = _types(shape_inference.infer_shapes(model).graph)
    casts: dict[tuple[str, int], str] = {}
    nodes: list[onnx.NodeProto] = []

    def wanted(name: str, kind: int) -> str:
        """Name of a value in a type, cast if need be."""
        if types.get(name) not in FLOATS or types[name] == kind:
            return name
        if (name, kind) not in casts:
            casts[name, kind] = f"{name}.as{16 if kind == TensorProto.FLOAT16 else 32}"
            nodes.append(helper.make_node("Cast", [name], [casts[name, kind]], to=kind))
        return casts[name, kind]

    outputs = {value.name for value in graph.output}
    for node in graph.node:
        kind = TensorProto.FLOAT16 if node.op_type in operators else TensorProto.FLOAT
        if node.op_type != "Cast":
            exact = EXACT.get(node.op_type, ())
            for place, name in enumerate(node.input):
                node.input[place] = wanted(name, TensorProto.FLOAT if place in exact else kind)
        after: list[onnx.NodeProto] = []
        for place, name in enumerate(node.output):
            if node.op_type in operators and types.get(name) in FLOATS:
                if name in outputs:
                    node.output[place] = f"{name}.made"
                    after.append(helper.make_node("Cast", [node.output[place]], [name], to=TensorProto.FLOAT))
                else:
                    types[name] = TensorProto.FLOAT16
        nodes += [node, *after]
    nodes = [_copied(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    onnx.checker.check_model(done, full_check=True)
    return done


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def _types(graph: Any) -> dict[str, int]:
    """Element type of every value of a graph."""
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    return types
