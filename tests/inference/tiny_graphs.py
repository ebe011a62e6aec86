"""Small ONNX graphs with known answers, made where a test needs them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.onnx_pb import ModelProto

FLOAT = TensorProto.FLOAT


def _save(
    path: Path,
    nodes: list[object],
    inputs: dict[str, list[object]],
    outputs: dict[str, list[object]],
    constants: dict[str, np.ndarray],
) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def conv_and_sample(path: Path, batch: int | str = 1) -> Path:
    """`picture` (1,1,4,4), `grid` (1,1,3,2) -> `conv` (1,1,4,4) = 3x3 box sum + 0.5, `sampled` (1,1,1,3) bilinear."""
    nodes = [
        helper.make_node("Conv", ["picture", "weight", "bias"], ["conv"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node(
            "GridSample", ["conv", "grid"], ["sampled"], mode="linear", padding_mode="zeros", align_corners=0
        ),
    ]
    return _save(
        path,
        nodes,
        {"picture": [batch, 1, 4, 4], "grid": [batch, 1, 3, 2]},
        {"conv": [batch, 1, 4, 4], "sampled": [batch, 1, 1, 3]},
        {"weight": np.ones((1, 1, 3, 3), np.float32), "bias": np.full(1, 0.5, np.float32)},
    )


def mean_of_views(path: Path, views: int, height: int, width: int) -> Path:
    """`pictures` (V,3,H,W), `mask` (V,1,1,1) -> `mean` (3,) over the masked pictures: a network in miniature."""
    nodes = [
        helper.make_node("Mul", ["pictures", "mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "axes"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "all"], ["views"], keepdims=0),
        helper.make_node("Div", ["sum", "views"], ["per_view"]),
        helper.make_node("Div", ["per_view", "area"], ["mean"]),
    ]
    return _save(
        path,
        nodes,
        {"pictures": [views, 3, height, width], "mask": [views, 1, 1, 1]},
        {"mean": [3]},
        {"axes": np.array([0, 2, 3]), "all": np.array([0, 1, 2, 3]), "area": np.array(height * width, np.float32)},
    )
