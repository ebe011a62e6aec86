"""The refinement stage: a volume of 8^3 around each coarse vertex, its views weighted by what they see there."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from inference.tempeh.published.coarse import features_of
from inference.tempeh.published.features import PublishedFeatures
from inference.tempeh.published.sizes import PublishedSizes
from inference.tempeh.published.v2v import V2V
from inference.tempeh.published.volumes import ViewTensors, grid_points, inside, project, sample
from streamer.types import F32, I32

VERTEX_CHUNK = 128
"""Vertices refined at one time outside training: their volumes stay in the cache."""
EMBEDDING_PER_MM = 0.01
"""Template coordinates enter the net in decimetres."""
SOFTNESS = 50.0
"""Of the softplus that keeps every view's weight above zero (1 / mm^0)."""
HIDDEN = 0.5
"""Quirk: weight factor of a view that does not see the vertex, sigmoid(100 * 0)."""


@dataclass(frozen=True, slots=True)
class LocalGrids:
    """Sampling points of some vertices."""

    offsets: Tensor
    """(B, M, G^3, 3) displacements from the vertex, mm."""
    points: Tensor
    """(B, M, G^3, 3) world, mm."""


def corner_table(triangles: I32, vertices: int) -> NDArray[np.int64]:
    """(N, valence) the triangles around each vertex; rows are filled up with the number of triangles."""
    owner = triangles.ravel()
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=vertices)
    table = np.full((vertices, max(1, int(counts.max()))), len(triangles), np.int64)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[owner[order], place] = order // 3
    return table


class RefineStage(nn.Module):
    """Pictures of all views and coarse vertices to refined vertices.

    Args:
        sizes: of the network.
        template_mm: (N, 3) template vertices, an input of the net.
        triangles: (T, 3).
        quirks: see the package.
    """

    grid: Tensor
    embedding: Tensor
    triangles: Tensor
    around: Tensor

    def __init__(self, sizes: PublishedSizes, template_mm: F32, triangles: I32, *, quirks: bool) -> None:
        """Make the stage with the published initial weights, drawn from torch's generator."""
        super().__init__()
        self.sizes, self.quirks = sizes, quirks
        self.features = PublishedFeatures(sizes)
        self.net = V2V(
            sizes.fused + 3,
            1,
            front=sizes.front,
            width=sizes.width,
            levels=sizes.local_levels,
            pooled=len(sizes.local_levels) - 1,
            back=sizes.local_back,
        )
        fixed = {
            "grid": grid_points(sizes.local_grid, sizes.local_step_mm, quirks=quirks),
            "embedding": torch.from_numpy(np.array(template_mm, np.float32)) * EMBEDDING_PER_MM,
            "triangles": torch.from_numpy(np.asarray(triangles, np.int64)),
            "around": torch.from_numpy(corner_table(triangles, len(template_mm))),
        }
        for name, value in fixed.items():
            self.register_buffer(name, value, persistent=False)

    def normals(self, vertices: Tensor) -> Tensor:
        """Unit vertex normals (B, N, 3): the sum of the cross products of the triangles around, normalised twice."""
        corners = vertices[:, self.triangles]
        faces = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        faces = torch.cat([faces, torch.zeros_like(faces[:, :1])], 1)
        return functional.normalize(functional.normalize(faces[:, self.around].sum(2), dim=-1), dim=-1)

    def forward(
        self,
        images: Tensor,
        views: ViewTensors,
        vertices: Tensor,
        visibility: Tensor,
        chosen: Tensor | None = None,
        turns: Tensor | None = None,
    ) -> Tensor:
        """Refine.

        Args:
            images: (B, V, 3, H, W) normalised.
            views: their cameras.
            vertices: (B, N, 3) coarse, world, mm.
            visibility: (B, V, N) 1 where a view sees a vertex, else 0.
            chosen: (M,) indices of the vertices to refine; all by default.
            turns: (B, M, 3, 3) rotation of each local grid, an augmentation of training.

        Returns:
            (B, M, 3) world, mm.
        """
        maps = features_of(self.features, images)
        return self.from_maps(maps, views, vertices, self.normals(vertices), visibility, chosen, turns)

    def from_maps(
        self,
        maps: Tensor,
        views: ViewTensors,
        vertices: Tensor,
        normals: Tensor,
        visibility: Tensor,
        chosen: Tensor | None = None,
        turns: Tensor | None = None,
    ) -> Tensor:
        """`forward` from feature maps (B, V, C, H, W) and normals (B, N, 3) on."""
        if chosen is None:
            chosen = torch.arange(vertices.shape[1], device=vertices.device)
        chunk = len(chosen) if self.training else VERTEX_CHUNK
        parts = []
        for k, some in enumerate(torch.split(chosen, chunk)):
            turn = None if turns is None else turns[:, k * chunk : k * chunk + len(some)]
            with torch.autocast(maps.device.type, enabled=False):
                grids = self.local_grids(vertices[:, some], turn)
                seen = visibility[:, :, some]
                volumes = self.volumes(maps, views, grids.points, normals[:, some], seen, self.embedding[some])
            parts.append(vertices[:, some] + self.offsets(volumes.flatten(0, 1), grids.offsets))
        return torch.cat(parts, 1)

    def local_grids(self, vertices: Tensor, turns: Tensor | None = None) -> LocalGrids:
        """Grids around vertices (B, M, 3), each turned by its rotation (B, M, 3, 3) if there are any."""
        offsets = self.grid if turns is None else self.grid @ turns.transpose(-1, -2)
        offsets = offsets.expand(*vertices.shape[:2], -1, -1)
        return LocalGrids(offsets, vertices[:, :, None] + offsets)

    def view_weights(self, grid: Tensor, rays: Tensor, normals: Tensor, visibility: Tensor) -> Tensor:
        """How much each view counts, (B, V, M, G^3), summing to 1 over the views.

        Args:
            grid: (B, V, M, G^3, 2) normalised picture coordinates.
            rays: (B, V, M, G^3, 3) from the optical centres to the points.
            normals: (B, M, 3).
            visibility: (B, V, M) in {0, 1}.
        """
        facing = -(functional.normalize(rays, dim=-1) * normals[:, None, :, None]).sum(-1)
        seen = visibility * (1.0 - HIDDEN) + HIDDEN if self.quirks else visibility
        weight = seen[..., None] * facing.clamp(min=0.0) * inside(grid)
        weight = functional.softplus(weight, beta=SOFTNESS, threshold=5.0)
        return weight / weight.sum(1, keepdim=True)

    def volumes(
        self, maps: Tensor, views: ViewTensors, points: Tensor, normals: Tensor, visibility: Tensor, embedding: Tensor
    ) -> Tensor:
        """Inputs of the 3D net, (B, M, fused + 3, G, G, G), for points (B, M, G^3, 3) of M vertices."""
        height, width = maps.shape[-2:]
        batch, count, voxels = points.shape[:3]
        grid = project(points.flatten(1, 2), views, (width, height), quirks=self.quirks)
        samples = sample(maps, grid).reshape(*grid.shape[:2], -1, count, voxels)
        rays = points[:, None] - views.centres()[:, :, None, None]
        weight = self.view_weights(grid.reshape(*grid.shape[:2], count, voxels, 2), rays, normals, visibility)[
            :, :, None
        ]
        mean = (weight * samples).sum(1)
        variance = (weight * samples * samples).sum(1) - mean * mean
        where = embedding.T[None, :, :, None].expand(batch, -1, -1, voxels)
        fused = torch.cat([mean, variance, where], 1).transpose(1, 2)
        return fused.reshape(batch, count, -1, *(self.sizes.local_grid,) * 3)

    def offsets(self, volumes: Tensor, offsets: Tensor) -> Tensor:
        """Expected displacement (B, M, 3) of volumes (B M, C, G, G, G) over their grids (B, M, G^3, 3)."""
        logits = self.net.output(self.net(volumes)).flatten(1)
        with torch.autocast(volumes.device.type, enabled=False):
            share = torch.softmax(logits.float(), -1).reshape(*offsets.shape[:2], 1, -1)
            expected: Tensor = share @ offsets
            return expected[:, :, 0]
