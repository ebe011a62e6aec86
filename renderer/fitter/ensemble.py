"""The ensemble of hash grids, blended per time step.

Blending is linear and all tables share one index, so for a fixed instant the blend of lookups is the lookup of the
blend: tables are blended once per time step and read once. Reading every table per sample is the published way; it
stays as the reference that the other is tested against.
"""

import math

import torch
from torch import Tensor, nn

from renderer.fitter.encoders.base import Lookup
from renderer.fitter.grids import GridShape
from renderer.fitter.schedules import blend_mixture


class HashEnsemble(nn.Module):
    """`tables` hash grids and a code of as many blend weights per time step.

    Args:
        shape: levels of every table.
        tables: how many.
        time_steps: instants of the take.
        lookup: how tables are read.
        published: tiny initial codes, as published; by default they begin at one for table 0, so that nothing jumps
            when codes take over from the warm-up.
    """

    def __init__(self, shape: GridShape, tables: int, time_steps: int, lookup: Lookup, *, published: bool) -> None:
        """Draw tables and codes from torch's generator."""
        super().__init__()
        self.shape, self.lookup = shape, lookup
        self.tables = nn.Parameter(torch.empty(tables, shape.total_rows, shape.features).uniform_(-1e-4, 1e-4))
        codes = torch.randn(time_steps, tables) * (0.01 / math.sqrt(tables) if published else 0.1)
        if not published:
            codes[:, 0] = 1.0
        self.codes = nn.Parameter(codes)

    def weights(self, opened: float) -> Tensor:
        """Return the (time steps, tables) blend weights when `opened` tables take part."""
        scale, constant = blend_mixture(opened, len(self.tables))
        device = self.codes.device
        return self.codes * torch.from_numpy(scale).to(device) + torch.from_numpy(constant).to(device)

    def blended(self, steps: list[int], opened: float) -> Tensor:
        """Return the (steps, rows, features) tables of some time steps: one product of matrices for all of them."""
        if len(self.tables) == 1:
            return self.tables.expand(len(steps), -1, -1)
        flat = self.tables.reshape(len(self.tables), -1)
        return (self.weights(opened)[steps] @ flat).reshape(len(steps), *self.tables.shape[1:])

    def forward(self, points: Tensor, steps: list[int], counts: list[int], opened: float) -> Tensor:
        """Read points that are sorted by time step.

        Args:
            points: (n, 3) in the unit cube.
            steps: time steps, in the order of the points.
            counts: points of each; their sum is n.
            opened: tables that take part.

        Returns:
            (n, levels * features).
        """
        parts = torch.split(points, counts)
        tables = self.blended(steps, opened)
        found = [self.lookup(table, part, self.shape) for table, part in zip(tables, parts, strict=True)]
        return torch.cat(found).flatten(1)

    def per_sample(self, points: Tensor, steps: Tensor, opened: float) -> Tensor:
        """Read all tables at every point and blend there: the published way, for any mix of time steps.

        Args:
            points: (n, 3) in the unit cube.
            steps: (n,) int64 time step of each.
            opened: tables that take part.

        Returns:
            (n, levels * features).
        """
        count, rows, features = self.tables.shape
        side_by_side = self.tables.permute(1, 0, 2).reshape(rows, count * features)
        found = self.lookup(side_by_side, points, self.shape).reshape(len(points), -1, count, features)
        return torch.einsum("nlhf,nh->nlf", found, self.weights(opened)[steps]).flatten(1)
