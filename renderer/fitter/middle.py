"""What a fit without meshes may assume before its first step: somebody stands where the cameras look.

Pictures without mattes, fitted whole, else begin with fog all over the box, through which the background network paints
a blurred head: both explain the pictures of the first hundred steps as well as a head does, and nothing later undoes
it. So the density begins with a ball in the middle of the box and thin air towards its faces. The ball has no edge and
is part of the logarithm that the field learns: a few dozen steps move it, and what it does not find it removes.
"""

import torch
from torch import Tensor

RADIUS = 0.2
"""Of the ball, box units: there its density is that of an untrained field."""
LOG_HEIGHT = 3.0
"""Added to the logarithm of the density in the centre; taken off at twice the radius and beyond."""
CELLS = 32
"""Nodes along an edge: more than a linear slope over a fifth of the box needs."""


def ball(device: torch.device) -> Tensor:
    """Return the (1, 1, CELLS, CELLS, CELLS) volume that is added to the logarithm of the density."""
    line = (torch.arange(CELLS, device=device) + 0.5) / CELLS - 0.5
    radius = (line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2).sqrt()
    return LOG_HEIGHT * (1 - radius / RADIUS).clamp(-1.0, 1.0)[None, None]
