"""The coarse stage: every vertex as an expectation over a volume around the head.

The published code makes 5023 heat maps of 32768 voxels and multiplies them with repeated coordinates: 2.6 GB. A heat
map is softmax(w F) of a row w of the output layer, and its expectation is attention with one query per vertex; done in
chunks of vertices nothing of that size ever exists. The layer's bias is constant over the voxels and cancels. Logits,
softmax and coordinates stay float32: rounded to bfloat16 they move vertices by millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from inference.tempeh.published.features import PublishedFeatures
from inference.tempeh.published.localiser import PublishedLocaliser, Warp
from inference.tempeh.published.sizes import PublishedSizes
from inference.tempeh.published.v2v import V2V
from inference.tempeh.published.volumes import ViewTensors, base_grid, fused_volume

ATTEND_CHUNK = 128
"""Vertices whose heat maps exist at one time: 17 MB at full size."""
FEATURE_CHUNK = 4
"""Pictures that pass the 2D net at one time outside training, which bounds its memory."""


@dataclass(frozen=True, slots=True)
class CoarseResult:
    """What the coarse stage says."""

    vertices: Tensor
    """(B, N, 3) world, mm."""
    warp: Warp
    """Of the localiser."""


def _attend_some(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return torch.softmax(queries @ keys, -1) @ values


def attend(queries: Tensor, keys: Tensor, values: Tensor, chunk: int = ATTEND_CHUNK) -> Tensor:
    """Soft-argmax without its heat maps: softmax(queries keys) values, in chunks of queries.

    Args:
        queries: (N, C).
        keys: (B, C, P).
        values: (P, 3).
        chunk: queries at one time.

    Returns:
        (B, N, 3) float32.
    """
    with torch.autocast(keys.device.type, enabled=False):
        queries, keys, values = queries.float(), keys.float(), values.float()
        if torch.is_grad_enabled():  # heat maps are made again for the gradient instead of being kept
            chunks = torch.split(queries, chunk)
            parts = [checkpoint(_attend_some, some, keys, values, use_reentrant=False) for some in chunks]
            return torch.cat(parts, -2)
        # One place for the logits of all chunks: forty fresh ones of 17 MB leave the heap in holes, 0.6 GB in all.
        logits = keys.new_empty(len(keys), min(chunk, len(queries)), keys.shape[2])
        out = keys.new_empty(len(keys), len(queries), values.shape[1])
        for first in range(0, len(queries), chunk):
            some = queries[first : first + chunk]
            here = torch.matmul(some, keys, out=logits[:, : len(some)])
            here.sub_(here.amax(-1, keepdim=True)).exp_()
            out[:, first : first + chunk] = (here @ values) / here.sum(-1, keepdim=True)
        return out


def features_of(net: PublishedFeatures, images: Tensor) -> Tensor:
    """Feature maps (B, V, C, H, W) of images (B, V, 3, H, W); in training all pictures share the batch statistics."""
    return features_together(net, [images])[0]


def features_together(net: PublishedFeatures, sets: Sequence[Tensor]) -> list[Tensor]:
    """`features_of` for sets (B, V, 3, H, W) with different numbers of views, in one batch."""
    flat = torch.cat([images.flatten(0, 1) for images in sets])
    maps: Tensor = net(flat) if net.training else torch.cat([net(some) for some in torch.split(flat, FEATURE_CHUNK)])
    parts = torch.split(maps, [images.shape[0] * images.shape[1] for images in sets])
    return [part.reshape(*images.shape[:2], *maps.shape[1:]) for part, images in zip(parts, sets, strict=True)]


class CoarseStage(nn.Module):
    """Pictures of all views to coarse vertices."""

    grid: Tensor
    centre: Tensor

    def __init__(self, sizes: PublishedSizes, *, quirks: bool) -> None:
        """Make the stage with the published initial weights, drawn from torch's generator."""
        super().__init__()
        self.sizes, self.quirks = sizes, quirks
        self.features = PublishedFeatures(sizes)
        self.localiser = PublishedLocaliser(sizes)
        self.net = V2V(
            sizes.fused,
            sizes.vertices,
            front=sizes.front,
            width=sizes.width,
            levels=sizes.coarse_levels,
            pooled=len(sizes.coarse_levels),
            back=sizes.coarse_back,
        )
        self.register_buffer("grid", base_grid(sizes, quirks=quirks), persistent=False)
        centre = torch.tensor(sizes.centre_mm, dtype=torch.float32, device="cpu")
        self.register_buffer("centre", centre, persistent=False)

    def forward(self, images: Tensor, views: ViewTensors, turn: Tensor | None = None) -> CoarseResult:
        """Find the vertices.

        Args:
            images: (B, V, 3, H, W) normalised.
            views: their cameras.
            turn: (B, 3, 3) rotation of the grid, an augmentation of training; none by default.
        """
        return self.together([images], [views], turn)

    def together(self, sets: Sequence[Tensor], views: Sequence[ViewTensors], turn: Tensor | None) -> CoarseResult:
        """`forward` for sets with different numbers of views: one batch in all nets, so in all their statistics.

        Args:
            sets: images (B, V, 3, H, W); B and V may differ.
            views: their cameras.
            turn: (sum of B, 3, 3), or none.
        """
        maps = features_together(self.features, sets)
        counts = [len(images) for images in sets]
        device = sets[0].device.type
        with torch.autocast(device, enabled=False):
            points = self.turned(self.grid, turn).expand(sum(counts), -1, -1)
            first = self._volumes(maps, views, torch.split(points, counts))
        warp: Warp = self.localiser(first)
        with torch.autocast(device, enabled=False):
            points = self.turned(warp.apply(self.grid), turn)
            second = self._volumes(maps, views, torch.split(points, counts))
        keys = self.net(second).flatten(2)
        return CoarseResult(self.vertices(keys, warp, turn), warp)

    def _volumes(self, maps: Sequence[Tensor], views: Sequence[ViewTensors], points: Sequence[Tensor]) -> Tensor:
        return torch.cat([self.volume(*each) for each in zip(maps, views, points, strict=True)])

    def turned(self, displacements: Tensor, turn: Tensor | None) -> Tensor:
        """World points (..., P, 3) of displacements from the centre."""
        return (displacements if turn is None else displacements @ turn.transpose(-1, -2)) + self.centre

    def volume(self, maps: Tensor, views: ViewTensors, points: Tensor) -> Tensor:
        """Fused features (B, fused, D, D, D) at world points (B, D^3, 3)."""
        fused = fused_volume(maps, views, points, quirks=self.quirks)
        return fused.reshape(*fused.shape[:2], *(self.sizes.grid,) * 3)

    def vertices(self, keys: Tensor, warp: Warp, turn: Tensor | None = None) -> Tensor:
        """Vertices (B, N, 3) of attention keys (B, C, D^3).

        The expectation is taken over the displacements of the first volume and warped afterwards, which is the same
        and needs no grid per set.
        """
        with torch.autocast(keys.device.type, enabled=False):
            mean = attend(self.net.output.weight.flatten(1), keys, self.grid)
            return self.turned(warp.apply(mean), turn)
