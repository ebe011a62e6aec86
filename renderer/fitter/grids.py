"""The levels of a multi-resolution grid: which are dense, which are hashed, and where their rows lie.

After Müller et al. (SIGGRAPH 2022); resolutions are `floor(base * b^level)`, corners are indexed without an offset, so
tables are not interchangeable with those of tiny-cuda-nn.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamer.types import I32

HASH_PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class GridShape:
    """A stack of grids over the unit cube."""

    levels: int
    """Number of resolutions."""
    features: int
    """Values in a row."""
    log2_rows: int
    """Binary logarithm of the most rows that a level may have; finer levels are hashed into as many."""
    base: int
    """Cells along an edge of the coarsest level."""
    finest: int
    """Cells along an edge of the finest level."""

    @cached_property
    def resolutions(self) -> I32:
        """(levels,) cells along an edge."""
        growth = 1.0 if self.levels == 1 else (self.finest / self.base) ** (1 / (self.levels - 1))
        cells = np.floor(self.base * growth ** np.arange(self.levels) + 1e-6)
        return np.asarray(cells, np.int32)

    @cached_property
    def rows(self) -> I32:
        """(levels,) rows of each level."""
        corners = (self.resolutions.astype(np.int64) + 1) ** 3
        return np.minimum(corners, 1 << self.log2_rows).astype(np.int32)

    @cached_property
    def dense(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(levels,) whether each corner has a row of its own."""
        return (self.resolutions.astype(np.int64) + 1) ** 3 <= 1 << self.log2_rows

    @cached_property
    def offsets(self) -> I32:
        """(levels,) first row of each level."""
        return np.concatenate([[0], np.cumsum(self.rows)[:-1]]).astype(np.int32)

    @property
    def total_rows(self) -> int:
        """Rows of all levels."""
        return int(self.rows.sum())

    @property
    def width(self) -> int:
        """Values that a lookup of one table returns."""
        return self.levels * self.features
