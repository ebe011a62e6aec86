"""Small ONNX graphs: one that compiles, and those that an NVIDIA compiler has to refuse."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, INT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def made(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, tuple[int, ...]]],
    output: tuple[int, tuple[int | str, ...]],
    weights: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write a graph with the output `y`."""
    held = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("y", *output)],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
    return path


def convolution(path: Path, dimensions: int = 2) -> Path:
    """A convolution, a sum with what came in, a ReLU and an enlargement, float32."""
    cube = (6,) * dimensions
    kernel = np.random.default_rng(0).normal(size=(4, 4, *(3,) * dimensions)).astype(np.float32) / 8
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["made"], pads=[1] * 2 * dimensions),
        helper.make_node("Add", ["made", "x"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["positive"]),
        helper.make_node("Resize", ["positive", "", "scales"], ["y"], mode="nearest"),
    ]
    scales = np.array([1, 1, *(2,) * dimensions], np.float32)
    output = (1, 4, *(12,) * dimensions)
    return made(path, nodes, {"x": (FLOAT, (1, 4, *cube))}, (FLOAT, output), {"kernel": kernel, "scales": scales})


def refused(folder: Path) -> dict[str, Path]:
    """Name to a valid ONNX file that has to be refused."""
    x = {"x": (FLOAT, (1, 4, 6, 6))}
    mixed = [helper.make_node("Add", ["x", "z"], ["y"])]
    points = [helper.make_node("NonZero", ["x"], ["y"])]
    many = [helper.make_node("TopK", ["x", "k"], ["y", "places"], axis=0)]
    scatter = [helper.make_node("ScatterElements", ["x", "places", "z"], ["y"], axis=0, reduction="add")]
    smooth = [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", antialias=1)]
    line = {"x": (FLOAT, (5000,))}
    both = {"x": (FLOAT, (8,)), "places": (INT, (8,)), "z": (FLOAT, (8,))}
    scales = {"scales": np.array([1, 1, 0.5, 0.5], np.float32)}
    cut = folder / "cut.onnx"
    cut.write_bytes(convolution(folder / "whole.onnx").read_bytes()[:300])
    return {
        "float16 and float32": made(
            folder / "mixed.onnx", mixed, {**x, "z": (HALF, (1, 4, 6, 6))}, (FLOAT, (1, 4, 6, 6))
        ),
        "data-dependent shape": made(folder / "nonzero.onnx", points, x, (INT, (4, "n"))),
        "many of the largest": made(
            folder / "topk.onnx", many, line, (FLOAT, (4000,)), {"k": np.array([4000], np.int64)}
        ),
        "scattered sum": made(folder / "scatter.onnx", scatter, both, (FLOAT, (8,))),
        "smooth reduction": made(folder / "antialias.onnx", smooth, x, (FLOAT, (1, 4, 3, 3)), scales),
        "cut file": cut,
    }
