"""The published network's graphs as ONNX: one file per stage, static shapes, batch norms folded by the exporter.

`net` graphs are convolutions and may run in lower precision; `geometry` graphs hold coordinates, logits or
expectations and stay in float32. Sampling is 4-D GridSample only; projections of fixed points are computed on the host
once per rig and come in as `grid`. V views are fixed; of a missing one the mask is 0, and `inverse` holds 1/n and
1/(n-1) of the n views that are there.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from inference.tempeh.export import GraphSpec, Lambda
from inference.tempeh.published.coarse import CoarseStage
from inference.tempeh.published.refine import RefineStage
from inference.tempeh.published.volumes import ViewTensors, project

LOCAL_BATCH = 157
"""Volumes of one run of the refinement's 3D net: 32 of them are 5024."""
ATTEND_CHUNK = 512


class Compact(nn.Module):
    """A 2D net at half the resolution of its pictures: all that it says."""

    def __init__(self, net: nn.Module) -> None:
        """Wrap a `PublishedFeatures`."""
        super().__init__()
        self.net = net

    def forward(self, pictures: Tensor) -> Tensor:
        """(V, 3, H, W) to (V, C, H / 2, W / 2)."""
        out: Tensor = self.net.compact(pictures)  # type: ignore[operator]
        return out


def sampled(maps: Tensor, grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Samples (V, C, P) of compact maps at (V, P, 2) for pictures of `size` (H, W)."""
    full = nn.functional.interpolate(maps, size=size, mode="nearest")
    return nn.functional.grid_sample(full, grid[:, None], padding_mode="zeros", align_corners=False)[:, :, 0]


def fused(samples: Tensor, mask: Tensor, inverse: Tensor) -> Tensor:
    """Mean and unbiased variance over the views that are there: (1, 2 C, P)."""
    present = samples * mask
    mean = present.sum(0) * inverse[0]
    variance = ((present - mean) ** 2 * mask).sum(0) * inverse[1]
    return torch.cat([mean, variance], 0)[None]


def coarse_graphs(stage: CoarseStage, views: int, height: int, width: int) -> dict[str, GraphSpec]:
    """The coarse stage's graphs, in the order in which they run.

    Args:
        stage: in evaluation mode, with the quirks of the release (a view outside counts as zeros).
        views: V.
        height: of the pictures, px.
        width: of the pictures, px.
    """
    sizes = stage.sizes
    points, cube = sizes.grid**3, (sizes.grid,) * 3
    maps = (views, sizes.descriptor, -(-height // 2), -(-width // 2))
    volume = (1, sizes.fused, *cube)

    def first_volume(features: Tensor, grid: Tensor, mask: Tensor, inverse: Tensor) -> Tensor:
        return fused(sampled(features, grid, (height, width)), mask, inverse).reshape(volume)

    def localise(fused_volume: Tensor) -> Tensor:
        warp = stage.localiser(fused_volume)
        return torch.cat([warp.scale, warp.rotation.flatten(1), warp.translation_mm], 1)

    def second_volume(
        features: Tensor, warp: Tensor, K: Tensor, distortion: Tensor, pose: Tensor, mask: Tensor, inverse: Tensor
    ) -> Tensor:
        linear = warp[:, :3, None] * warp[:, 3:12].reshape(1, 3, 3)
        world = stage.grid @ linear.transpose(1, 2) + warp[:, None, 12:] + stage.centre
        grid = project(world, ViewTensors(K[None], distortion[None], pose[None]), (width, height), quirks=True)
        return fused(sampled(features, grid[0], (height, width)), mask, inverse).reshape(volume)

    def attend(keys: Tensor) -> Tensor:
        queries = stage.net.output.weight.flatten(1)
        parts = [torch.softmax(some @ keys[0], -1) @ stage.grid for some in torch.split(queries, ATTEND_CHUNK)]
        return torch.cat(parts, 0)

    def keys(fused_volume: Tensor) -> Tensor:
        out: Tensor = stage.net(fused_volume).flatten(2)
        return out

    whole = {"mask": (views, 1, 1), "inverse": (2, 1)}
    cameras = {"K": (views, 3, 3), "distortion": (views, 2), "pose": (views, 3, 4)}
    return {
        "coarse_features": GraphSpec(Compact(stage.features), {"pictures": (views, 3, height, width)}, "maps", "net"),
        "first_volume": GraphSpec(
            Lambda(first_volume, stage), {"maps": maps, "grid": (views, points, 2), **whole}, "volume", "geometry"
        ),
        "localise": GraphSpec(Lambda(localise, stage), {"volume": volume}, "warp", "geometry"),
        "second_volume": GraphSpec(
            Lambda(second_volume, stage), {"maps": maps, "warp": (1, 15), **cameras, **whole}, "volume", "geometry"
        ),
        "coarse_net": GraphSpec(Lambda(keys, stage), {"volume": volume}, "keys", "geometry"),
        "attend": GraphSpec(
            Lambda(attend, stage), {"keys": (1, sizes.coarse_back[-1], points)}, "expectation", "geometry"
        ),
    }


def refine_graphs(stage: RefineStage, views: int, height: int, width: int) -> dict[str, GraphSpec]:
    """The refinement's graphs: the 2D net, and the 3D net of `LOCAL_BATCH` volumes with softmax and expectation."""
    sizes = stage.sizes
    cube = (sizes.local_grid,) * 3

    def local(volumes: Tensor) -> Tensor:
        logits = stage.net.output(stage.net(volumes)).flatten(1)
        return torch.softmax(logits, -1) @ stage.grid

    return {
        "refine_features": GraphSpec(Compact(stage.features), {"pictures": (views, 3, height, width)}, "maps", "net"),
        "local_net": GraphSpec(
            Lambda(local, stage), {"volumes": (LOCAL_BATCH, sizes.fused + 3, *cube)}, "offsets", "net"
        ),
    }


def gpu_graphs(coarse: CoarseStage, refine: RefineStage, views: int, size: tuple[int, int]) -> dict[str, GraphSpec]:
    """The graphs of the CUDA path, cut where kernels come in: before visibility and before the local volumes.

    Args:
        coarse: the coarse stage, with the quirks of the release.
        refine: the refinement stage.
        views: V.
        size: height and width of the refinement's pictures; the coarse stage's are half of that.
    """
    height, width = size

    def place(expectation: Tensor, warp: Tensor) -> Tensor:
        linear = warp[0, :3, None] * warp[0, 3:12].reshape(3, 3)
        return expectation @ linear.T + warp[:, 12:] + coarse.centre

    def last(pictures: Tensor) -> Tensor:
        return refine.features.compact(pictures).permute(0, 2, 3, 1)

    graphs = coarse_graphs(coarse, views, height // 2, width // 2) | refine_graphs(refine, views, height, width)
    graphs["place"] = GraphSpec(
        Lambda(place, coarse), {"expectation": (coarse.sizes.vertices, 3), "warp": (1, 15)}, "vertices", "geometry"
    )
    graphs["refine_features"] = GraphSpec(
        Lambda(last, refine), {"pictures": (views, 3, height, width)}, "maps", "net"
    )  # channels last, as the kernel reads them
    return {name: replace(spec, precision="geometry") for name, spec in graphs.items()}  # weights as they are


def cpu_graphs(coarse: CoarseStage, refine: RefineStage, size: tuple[int, int], batch: int) -> dict[str, GraphSpec]:
    """The graphs that the CPU path runs in an engine; sampling, attention and the local net are compiled code there.

    Args:
        coarse: the coarse stage.
        refine: the refinement stage.
        size: height and width of the refinement's pictures; the coarse stage's are half of that.
        batch: pictures per run of a 2D net.
    """
    height, width = size
    all_coarse = coarse_graphs(coarse, batch, height // 2, width // 2)
    kept = {name: all_coarse[name] for name in ("coarse_features", "localise", "coarse_net")}
    kept["refine_features"] = refine_graphs(refine, batch, height, width)["refine_features"]
    return {name: replace(spec, precision="geometry") for name, spec in kept.items()}
