"""ONNX operators in torch, those that the exported graphs hold: what the engine `torch` is made of.

Each takes a node's attributes and its inputs, an absent one being None, and follows the operator's specification at
opset 20 (https://onnx.ai/onnx/operators). Tensors keep their type: a graph in float16 computes in float16.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]
Operator = Callable[[Attributes, Sequence[Any]], Any]

KINDS = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16}
"""ONNX element types."""


class UnknownOperatorError(Exception):
    """A graph holds what this engine does not know."""


def _whole(value: Tensor) -> list[int]:
    return [int(n) for n in value.tolist()]


def _spread(a: Attributes, x: Tensor) -> tuple[Tensor, list[int]]:
    """Input and symmetric padding of a convolution or a pool; padding that differs by side is made explicit.

    Raises:
        UnknownOperatorError: padding that ONNX would work out by itself.
    """
    if a.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise UnknownOperatorError("auto_pad")
    dimensions = x.dim() - 2
    pads = list(a.get("pads", [0] * 2 * dimensions))
    if pads[:dimensions] == pads[dimensions:]:
        return x, pads[:dimensions]
    sides = [n for k in reversed(range(dimensions)) for n in (pads[k], pads[dimensions + k])]
    return functional.pad(x, sides), [0] * dimensions


def _wide(run: Operator) -> Operator:
    """Let sums of products of float16 be in float32 and be rounded once, as tensor cores do it.

    It is also ten times as fast on a CPU.
    """

    def wide(a: Attributes, i: Sequence[Any]) -> Any:
        if i[0].dtype != torch.float16:
            return run(a, i)
        return run(a, [None if value is None else value.float() for value in i]).half()

    return wide


def _conv(a: Attributes, i: Sequence[Any]) -> Tensor:
    x, padding = _spread(a, i[0])
    run = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[x.dim()]
    more = i[2] if len(i) > 2 else None
    ones = [1] * (x.dim() - 2)
    made: Tensor = run(x, i[1], more, a.get("strides", ones), padding, a.get("dilations", ones), a.get("group", 1))
    return made


def _conv_transpose(a: Attributes, i: Sequence[Any]) -> Tensor:
    run = {4: functional.conv_transpose2d, 5: functional.conv_transpose3d}[i[0].dim()]
    dimensions = i[0].dim() - 2
    pads, ones = a.get("pads", [0] * 2 * dimensions), [1] * dimensions
    if pads[:dimensions] != pads[dimensions:] or a.get("group", 1) != 1 or "output_shape" in a:
        raise UnknownOperatorError("ConvTranspose with uneven padding, groups or an output shape")
    grown = a.get("output_padding", [0] * dimensions)
    more = i[2] if len(i) > 2 else None
    made: Tensor = run(i[0], i[1], more, a.get("strides", ones), pads[:dimensions], grown, 1, a.get("dilations", ones))
    return made


def _max_pool(a: Attributes, i: Sequence[Any]) -> Tensor:
    x = i[0]
    dimensions = x.dim() - 2
    pads = a.get("pads", [0] * 2 * dimensions)
    if pads[:dimensions] != pads[dimensions:]:
        raise UnknownOperatorError("MaxPool with uneven padding")
    run = {4: functional.max_pool2d, 5: functional.max_pool3d}[x.dim()]
    ones = [1] * dimensions
    made: Tensor = run(
        x,
        a["kernel_shape"],
        a.get("strides", ones),
        pads[:dimensions],
        a.get("dilations", ones),
        bool(a.get("ceil_mode", 0)),
    )
    return made


def _average_pool(a: Attributes, i: Sequence[Any]) -> Tensor:
    if any(a.get("pads", [])) or a.get("ceil_mode", 0):
        raise UnknownOperatorError("AveragePool with padding")
    run = {4: functional.avg_pool2d, 5: functional.avg_pool3d}[i[0].dim()]
    made: Tensor = run(i[0], a["kernel_shape"], a.get("strides", [1] * (i[0].dim() - 2)))
    return made


def _resize(a: Attributes, i: Sequence[Any]) -> Tensor:
    x = i[0]
    sizes = i[3] if len(i) > 3 else None
    target = [int(n * s) for n, s in zip(x.shape, i[2].tolist(), strict=True)] if sizes is None else _whole(sizes)
    mode, place = a.get("mode", b"nearest"), a.get("coordinate_transformation_mode", b"half_pixel")
    if list(x.shape[:2]) != target[:2]:
        raise UnknownOperatorError("Resize of batch or channels")
    if mode == b"nearest" and place == b"asymmetric" and a.get("nearest_mode") == b"floor":
        return functional.interpolate(x, size=target[2:], mode="nearest")
    if mode == b"linear" and place == b"half_pixel" and not a.get("antialias", 0):
        kind = {4: "bilinear", 5: "trilinear"}[x.dim()]
        return functional.interpolate(x, size=target[2:], mode=kind, align_corners=False)
    raise UnknownOperatorError(f"Resize {mode!r} {place!r}")


def _grid_sample(a: Attributes, i: Sequence[Any]) -> Tensor:
    mode = {b"linear": "bilinear", b"bilinear": "bilinear", b"nearest": "nearest"}[a.get("mode", b"linear")]
    padding = a.get("padding_mode", b"zeros").decode()
    return functional.grid_sample(i[0], i[1], mode, padding, align_corners=bool(a.get("align_corners", 0)))


def _slice(a: Attributes, i: Sequence[Any]) -> Tensor:
    x, starts, ends = i[0], _whole(i[1]), _whole(i[2])
    axes = _whole(i[3]) if len(i) > 3 and i[3] is not None else list(range(len(starts)))
    steps = _whole(i[4]) if len(i) > 4 and i[4] is not None else [1] * len(starts)
    cuts = [slice(None)] * x.dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise UnknownOperatorError("Slice with a step below 1")
        cuts[axis] = slice(start, end, step)
    cut: Tensor = x[tuple(cuts)]
    return cut


def _gather(a: Attributes, i: Sequence[Any]) -> Tensor:
    axis = a.get("axis", 0) % i[0].dim()
    where = torch.where(i[1] < 0, i[1] + i[0].shape[axis], i[1])
    taken: Tensor = i[0].index_select(axis, where.reshape(-1))
    return taken.reshape(*i[0].shape[:axis], *where.shape, *i[0].shape[axis + 1 :])


def _reshape(a: Attributes, i: Sequence[Any]) -> Tensor:
    shape = [i[0].shape[k] if n == 0 and not a.get("allowzero", 0) else n for k, n in enumerate(_whole(i[1]))]
    made: Tensor = i[0].reshape(shape)
    return made


def _unsqueeze(a: Attributes, i: Sequence[Any]) -> Tensor:
    x: Tensor = i[0]
    for axis in sorted(n % (x.dim() + i[1].numel()) for n in _whole(i[1])):
        x = x.unsqueeze(axis)
    return x


def _flatten(a: Attributes, i: Sequence[Any]) -> Tensor:
    axis = a.get("axis", 1) % (i[0].dim() + 1)
    first = 1
    for n in i[0].shape[:axis]:
        first *= n
    made: Tensor = i[0].reshape(first, -1)
    return made


def _gemm(a: Attributes, i: Sequence[Any]) -> Tensor:
    left = i[0].T if a.get("transA", 0) else i[0]
    right = i[1].T if a.get("transB", 0) else i[1]
    made: Tensor = a.get("alpha", 1.0) * (left @ right)
    return made if len(i) < 3 or i[2] is None else made + a.get("beta", 1.0) * i[2]


def _reduced(run: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def reduce(a: Attributes, i: Sequence[Any]) -> Tensor:
        axes = _whole(i[1]) if len(i) > 1 and i[1] is not None else list(range(i[0].dim()))
        return run(i[0], axes, bool(a.get("keepdims", 1)))

    return reduce


def _clip(a: Attributes, i: Sequence[Any]) -> Tensor:
    low = i[1] if len(i) > 1 else None
    high = i[2] if len(i) > 2 else None
    made: Tensor = torch.clamp(i[0], low, high)
    return made


def _divide(a: Attributes, i: Sequence[Any]) -> Tensor:
    made: Tensor = i[0] / i[1] if i[0].is_floating_point() else torch.div(i[0], i[1], rounding_mode="trunc")
    return made


def _normalise_batch(a: Attributes, i: Sequence[Any]) -> Tensor:
    return functional.batch_norm(i[0], i[3], i[4], i[1], i[2], False, 0.0, a.get("epsilon", 1e-5))


def _expand(a: Attributes, i: Sequence[Any]) -> Tensor:
    made: Tensor = i[0] * torch.ones(_whole(i[1]), dtype=i[0].dtype)
    return made


def _shape(a: Attributes, i: Sequence[Any]) -> Tensor:
    return torch.tensor(list(i[0].shape)[a.get("start", 0) : a.get("end")], dtype=torch.int64)


OPERATORS: dict[str, Operator] = {
    "Abs": lambda a, i: i[0].abs(),
    "Add": lambda a, i: i[0] + i[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _normalise_batch,
    "Cast": lambda a, i: i[0].to(KINDS[a["to"]]),
    "Clip": _clip,
    "Concat": lambda a, i: torch.cat(list(i), a["axis"]),
    "Conv": _wide(_conv),
    "ConvTranspose": _wide(_conv_transpose),
    "Div": _divide,
    "Exp": lambda a, i: i[0].exp(),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _wide(_gemm),
    "GridSample": _grid_sample,
    "Identity": lambda a, i: i[0],
    "Less": lambda a, i: i[0] < i[1],
    "MatMul": _wide(lambda a, i: i[0] @ i[1]),
    "MaxPool": _max_pool,
    "Mul": lambda a, i: i[0] * i[1],
    "Pow": lambda a, i: i[0] ** i[1],
    "Reciprocal": lambda a, i: i[0].reciprocal(),
    "ReduceL2": _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keep)),
    "Relu": lambda a, i: functional.relu(i[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": lambda a, i: torch.softmax(i[0], a.get("axis", -1)),
    "Split": lambda a, i: torch.split(i[0], _whole(i[1]), a.get("axis", 0)),
    "Sqrt": lambda a, i: i[0].sqrt(),
    "Sub": lambda a, i: i[0] - i[1],
    "Tanh": lambda a, i: i[0].tanh(),
    "Transpose": lambda a, i: i[0].permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
    "Where": lambda a, i: torch.where(i[0], i[1], i[2]),
}
"""Operator to its arithmetic."""
