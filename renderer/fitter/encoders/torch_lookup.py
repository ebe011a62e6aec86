"""The reference lookup, in plain torch: every device, every gradient."""

import torch
from torch import Tensor

from renderer.fitter.grids import HASH_PRIMES, GridShape


class TorchLookup:
    """`Lookup` by indexing; the gradients are autograd's."""

    name = "torch"

    def __call__(self, table: Tensor, points: Tensor, shape: GridShape) -> Tensor:
        """Look points up; see `Lookup`."""
        inside = points.clamp(0.0, 1.0)
        found = [self._level(table, inside, shape, level) for level in range(shape.levels)]
        return torch.stack(found, 1)

    @staticmethod
    def _level(table: Tensor, inside: Tensor, shape: GridShape, level: int) -> Tensor:
        resolution = int(shape.resolutions[level])
        place = inside * resolution
        corner = place.detach().floor().clamp(0, resolution - 1)
        fraction = place - corner
        first = corner.to(torch.int64)
        steps = torch.tensor([[i, j, k] for k in (0, 1) for j in (0, 1) for i in (0, 1)], device=table.device)
        corners = first[:, None] + steps
        weights = torch.where(steps.bool(), fraction[:, None], 1 - fraction[:, None]).prod(-1)
        if shape.dense[level]:
            index = corners[..., 0] + (resolution + 1) * (corners[..., 1] + (resolution + 1) * corners[..., 2])
        else:
            x, y, z = (corners[..., axis] * HASH_PRIMES[axis] for axis in range(3))
            index = (x ^ y ^ z) & ((1 << shape.log2_rows) - 1)
        rows: Tensor = table[index + int(shape.offsets[level])]
        return (rows * weights[..., None]).sum(1)
