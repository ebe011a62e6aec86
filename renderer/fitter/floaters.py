"""Crumbs in the air: the occupied cells that do not hang together with the rest are left out of pictures.

As the published code does before it renders for an evaluation, and as there a choice: what flies is not always an error
(hair that is thrown about is lost by it).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from renderer.fitter.occupancy import THRESHOLD, Occupancy

SMOOTH_CELLS = 1.0
"""Densities are smoothed with this standard deviation before they are judged: a thin bridge holds nothing."""
SPARE_CELLS = 2
"""The largest piece is grown by this much, so that its own fringe stays."""


def largest_piece(values: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Return the (X, Y, Z) cells of the largest connected piece (by faces) and of what is near it.

    Args:
        values: (X, Y, Z) densities per metre.
        threshold: cells with less are empty.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    smooth = ndimage.gaussian_filter(np.minimum(values, 10 * threshold).astype(np.float32), SMOOTH_CELLS)
    pieces, count = ndimage.label(smooth > threshold)
    if count == 0:
        return np.ones(values.shape, bool)
    sizes = np.bincount(pieces.reshape(-1))[1:]
    largest = pieces == 1 + int(sizes.argmax())
    return np.asarray(ndimage.binary_dilation(largest, iterations=SPARE_CELLS), bool)


def drop_floaters(occupancy: Occupancy) -> int:
    """Empty the cells that do not hang together with the largest piece; for a fit that is done.

    Returns:
        How many cells were emptied.
    """
    kept = torch.from_numpy(largest_piece(occupancy.values.cpu().numpy(), THRESHOLD)).to(occupancy.values.device)
    before = int(occupancy.occupied.sum())
    occupancy.occupied = occupancy.occupied & kept
    return before - int(occupancy.occupied.sum())
