"""The deformation field: at each instant, from where a point is to where it is in the canonical head.

An SE(3) field conditioned on a code per time step (NeRSemble section 3.2, after Nerfies), with a windowed positional
encoding. Points and motions are in units of the scene's box, so that a motion means what it says; the published code
adds a motion in box units to a position in scene units.
"""

import math

import torch
from torch import Tensor, nn

from renderer.fitter.rigid import move_by_screw
from renderer.fitter.schedules import window

HEAD_INIT = 1e-5


class Deformation(nn.Module):
    """The network and its codes.

    Args:
        time_steps: instants of the take.
        layers: hidden layers, at least 1; the input joins again before the last but one where there are 6 or more.
        width: their width.
        bands: frequencies 2^0 .. 2^(bands - 1) of the encoding.
        code: length of a time step's code.
    """

    def __init__(self, time_steps: int, layers: int, width: int, bands: int, code: int) -> None:
        """Draw weights and codes from torch's generator; the motion begins as (almost) none."""
        super().__init__()
        self.bands = bands
        self.codes = nn.Parameter(torch.randn(time_steps, code) * (0.01 / math.sqrt(code)))
        inputs = 3 * bands * 2 + 3
        self.skip = layers - 2 if layers >= 6 else -1
        self.hidden = nn.ModuleList(
            nn.Linear(inputs if i == 0 else width + inputs * (i == self.skip), width) for i in range(layers)
        )
        self.enter_code = nn.ModuleDict({str(i): nn.Linear(code, width, bias=False) for i in {0, self.skip} if i >= 0})
        self.rotation, self.translation = nn.Linear(width, 3), nn.Linear(width, 3)
        for head in (self.rotation, self.translation):
            nn.init.uniform_(head.weight, -HEAD_INIT, HEAD_INIT)
            nn.init.zeros_(head.bias)

    def encode(self, points: Tensor, opened: float) -> Tensor:
        """Encode (n, 3) points in the unit cube; `opened` bands are open."""
        turns = 2 * math.pi * points
        powers = 2.0 ** torch.arange(self.bands, device=points.device)
        angles = turns[..., None] * powers
        gates = torch.from_numpy(window(opened, self.bands)).to(points.device)
        waves = torch.stack([gates * torch.sin(angles), gates * torch.cos(angles)], -2)
        return torch.cat([waves.flatten(1), turns], 1)

    def forward(self, points: Tensor, steps: list[int], counts: list[int], opened: float) -> Tensor:
        """Move points that are sorted by time step into the canonical head.

        The code of a time step meets the first layer as a bias: computed once for each step, not for each point.

        Args:
            points: (n, 3) in the unit cube.
            steps: time steps, in the order of the points.
            counts: points of each.
            opened: bands of the encoding that are open.

        Returns:
            (n, 3) points, nearly the given ones at the start; not confined to the cube.
        """
        inputs = self.encode(points, opened)
        sizes = torch.tensor(counts, device=points.device)
        codes = self.codes[steps]
        x = inputs
        for i, layer in enumerate(self.hidden):
            if i == self.skip:
                x = torch.cat([inputs, x], 1)
            x = layer(x)
            if str(i) in self.enter_code:
                x = x + self.enter_code[str(i)](codes).repeat_interleave(sizes, 0)
            x = torch.relu(x)
        return move_by_screw(points, self.rotation(x), self.translation(x))
