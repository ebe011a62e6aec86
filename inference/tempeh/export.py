"""Torch networks to ONNX: one file per graph, static shapes, cut where precision may change.

`net` graphs (convolutions) may run in bfloat16, `geometry` graphs (sampling, fusion, attention) never. Only 4-D
GridSample, no scatter, no NonZero, no linear algebra: what OpenVINO and TensorRT both take. Batch norms are folded by
the exporter.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from inference.tempeh.coarse import KEYS, CoarseHead
from inference.tempeh.detail import DetailNet
from inference.tempeh.features import FeatureNet
from inference.tempeh.frames import CROP_HEIGHT, CROP_WIDTH, LARGE_CROP
from inference.tempeh.layout import CHANNELS, HEAD_GRID, STAGE_GRID, THUMB_HEIGHT, THUMB_WIDTH
from inference.tempeh.localiser import Localiser
from inference.tempeh.volume import fuse, sample

OPSET = 20
SMALL = 4096
"""Weights with fewer elements stay float32."""


class Lambda(nn.Module):
    """A function of tensors as a module, its parameters registered."""

    def __init__(self, function: Callable[..., Tensor], owner: nn.Module) -> None:
        """Wrap `function`, which uses the weights of `owner`."""
        super().__init__()
        self.function, self.owner = function, owner

    def forward(self, *inputs: Tensor) -> Tensor:
        """Call the function."""
        return self.function(*inputs)


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """One graph to export."""

    module: nn.Module
    inputs: dict[str, tuple[int, ...]]
    output: str
    precision: Literal["net", "geometry"]


def graph_specs(localiser: Localiser, features: FeatureNet, coarse: CoarseHead, views: int) -> dict[str, GraphSpec]:
    """The graphs of the live path for a number of view slots, in the order in which they run."""
    stage, head = STAGE_GRID**3, HEAD_GRID**3

    def stage_volume(maps: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
        return fuse(sample(maps, grid)[None], weight[None]).reshape(1, -1, STAGE_GRID, STAGE_GRID, STAGE_GRID)

    def head_volume(maps: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
        return coarse.volume(maps[None], grid[None], weight[None])

    def heat(volume: Tensor) -> Tensor:
        out: Tensor = localiser.heat(volume).flatten(2)
        return out

    thumb, crop = (views, 3, THUMB_HEIGHT, THUMB_WIDTH), (views, 3, CROP_HEIGHT, CROP_WIDTH)
    thumb_maps, crop_maps = (
        (views, CHANNELS, THUMB_HEIGHT // 2, THUMB_WIDTH // 2),
        (views, CHANNELS, CROP_HEIGHT // 2, CROP_WIDTH // 2),
    )
    fused = 2 * CHANNELS + 2
    return {
        "thumbs": GraphSpec(localiser.thumbs, {"thumbs": thumb}, "features", "net"),
        "stage": GraphSpec(
            Lambda(stage_volume, localiser),
            {"features": thumb_maps, "grid": (views, stage, 2), "weight": (views, stage)},
            "volume",
            "geometry",
        ),
        "heat": GraphSpec(Lambda(heat, localiser), {"volume": (1, fused, *[STAGE_GRID] * 3)}, "heat", "net"),
        "features": GraphSpec(features, {"crops": crop}, "features", "net"),
        "volume": GraphSpec(
            Lambda(head_volume, coarse),
            {"features": crop_maps, "grid": (views, head, 2), "weight": (views, head)},
            "volume",
            "geometry",
        ),
        "keys": GraphSpec(Lambda(coarse.keys, coarse), {"volume": (1, fused + 3, *[HEAD_GRID] * 3)}, "keys", "net"),
        "attend": GraphSpec(Lambda(coarse.attend, coarse), {"keys": (1, KEYS, head)}, "controls", "geometry"),
    }


def detail_spec(net: DetailNet, views: int) -> GraphSpec:
    """The graph of the second stage."""
    return GraphSpec(net, {"crops": (views, 3, LARGE_CROP[1], LARGE_CROP[0])}, "maps", "net")


def export_graphs(specs: dict[str, GraphSpec], folder: Path) -> None:
    """Write `<name>.onnx` for every graph into `folder`."""
    for name, spec in specs.items():
        examples = tuple(torch.zeros(shape) for shape in spec.inputs.values())
        with warnings.catch_warnings(), torch.no_grad():
            # the tracing exporter is deprecated, but it alone folds batch norms and needs no further package
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                spec.module.eval(),
                examples,
                str(folder / f"{name}.onnx"),
                input_names=list(spec.inputs),
                output_names=[spec.output],
                opset_version=OPSET,
                dynamo=False,
            )
        if spec.precision == "net":  # coordinates in float16 would be off by 0.06 mm
            store_half(folder / f"{name}.onnx")


def store_half(path: Path) -> None:
    """Store large weights in float16, a cast behind each: half the file, and engines agree on the rounded values."""
    model = onnx.load(str(path))
    for weight in list(model.graph.initializer):
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        stored = numpy_helper.from_array(values.astype(np.float16), f"{weight.name}.half")
        model.graph.initializer.remove(weight)
        model.graph.initializer.append(stored)
        model.graph.node.insert(0, helper.make_node("Cast", [stored.name], [weight.name], to=TensorProto.FLOAT))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
