"""Which cells of the box hold anything at any instant, and which the cameras see (NeRSemble section 3.3).

One grid for all time steps: cells are tested at random instants and forget slowly, so that what moves keeps its cells.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from renderer.fitter.box import Box, lattice, seen_by
from renderer.fitter.hull import Cells
from streamer.types import Calibration

FORGET = 0.95
"""What is left of a cell's value at each refresh that does not confirm it."""
THRESHOLD = 8.0
"""A cell is empty when its density per metre is below this, or below the mean of all cells (published: 0.01 over a
step of 1.2 mm)."""
EVERY = 16
"""Steps between refreshes."""
WHOLE_UNTIL = 256
"""Until this step every refresh tests all cells; later one quarter at random and one quarter of the occupied."""
LEAST_CAMERAS = 2
"""Cells in fewer pictures cannot be known and are empty."""

Density = Callable[[Tensor, list[int], list[int]], Tensor]
"""(n, 3) box points sorted by time step, time steps, counts -> (n,) density per metre."""


class Occupancy:
    """The grid; its tensors are what a checkpoint keeps.

    Args:
        box: of the scene.
        cells: along an edge.
        calibration: the cameras that train the field.
        device: where it lives.
        hull: (cells, cells, cells) where anything may be, see `renderer.fitter.hull`; None: everywhere.
    """

    def __init__(
        self, box: Box, cells: int, calibration: Calibration, device: torch.device, hull: Cells | None = None
    ) -> None:
        """Begin with every cell occupied that is visible and in the hull."""
        visible = seen_by(calibration, lattice(box, cells)) >= min(LEAST_CAMERAS, len(calibration.cameras))
        if hull is not None and (visible & hull).any():
            visible &= hull
        self.cells = cells
        self.visible = torch.from_numpy(visible).to(device)
        self.values = torch.full((cells,) * 3, THRESHOLD, device=device)
        self.occupied = self.visible.clone()

    @torch.no_grad()
    def refresh(
        self, step: int, density: Density, time_steps: int, rng: np.random.Generator, instants: int = 4
    ) -> None:
        """Test cells again.

        Args:
            step: of the fit.
            density: the field as it is.
            time_steps: instants of the take; each cell is tested at one of `instants` random ones.
            rng: draws cells, places in them and instants.
            instants: how many different ones a refresh looks at.
        """
        total = self.cells**3
        if step < WHOLE_UNTIL:
            chosen = rng.permutation(total)
        else:
            alive = self.occupied.reshape(-1).nonzero()[:, 0].cpu().numpy()
            some = rng.choice(alive, min(len(alive), total // 4), replace=False) if len(alive) else alive
            chosen = rng.permutation(np.unique(np.concatenate([rng.integers(0, total, total // 4), some])))
        device = self.values.device
        seen = self.visible.reshape(-1).cpu().numpy()[chosen]
        chosen = chosen[seen]
        index = torch.from_numpy(chosen).to(device)
        place = np.stack(np.unravel_index(chosen, (self.cells,) * 3), 1) + rng.random((len(chosen), 3))
        points = torch.from_numpy((place / self.cells).astype(np.float32)).to(device)
        steps = np.sort(rng.integers(0, time_steps, min(instants, time_steps))).tolist()
        bounds = np.linspace(0, len(chosen), len(steps) + 1).astype(int)
        found = density(points, steps, np.diff(bounds).tolist())
        values = self.values.reshape(-1)
        values[index] = torch.maximum(values[index] * FORGET, found)
        mean = float(values[self.visible.reshape(-1)].mean())
        self.occupied = (self.values > min(mean, THRESHOLD)) & self.visible
