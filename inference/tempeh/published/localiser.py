"""The localiser: one affine map from the coarse volume, that puts a second, smaller volume around the head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.tempeh.published.sizes import PublishedSizes

START = (3.0, 3.0, 3.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""Output of an untrained localiser: 99.75 % of the largest scale, no rotation, no translation."""


@dataclass(frozen=True, slots=True)
class Warp:
    """Where the second volume lies: point = centre + scale * (rotation @ displacement) + translation."""

    scale: Tensor
    """(B, 3) along each axis."""
    rotation: Tensor
    """(B, 3, 3)."""
    translation_mm: Tensor
    """(B, 3)."""

    def linear(self) -> Tensor:
        """(B, 3, 3) diag(scale) rotation."""
        return self.scale[..., None] * self.rotation

    def apply(self, displacements: Tensor) -> Tensor:
        """Displacements (P, 3) or (B, P, 3) of the first volume to those of the second (B, P, 3)."""
        return displacements @ self.linear().transpose(-1, -2) + self.translation_mm[:, None]


def rotation_of_six(six: Tensor) -> Tensor:
    """Rotation (..., 3, 3) of two vectors (..., 6), as rows by Gram-Schmidt (Zhou et al., CVPR 2019)."""
    first = functional.normalize(six[..., :3], dim=-1)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
    second = functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -2)


class PublishedLocaliser(nn.Module):
    """(B, fused, grid, grid, grid) to a `Warp`."""

    def __init__(self, sizes: PublishedSizes) -> None:
        """Two convolutions with pooling, two linear layers."""
        super().__init__()
        channels, quarter = sizes.localiser_channels, sizes.grid // 4
        self.convs = nn.Sequential(
            nn.Conv3d(sizes.fused, channels, 3, 1, 1),
            nn.BatchNorm3d(channels),
            nn.MaxPool3d(2),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, channels, 3, 1, 1),
            nn.BatchNorm3d(channels),
            nn.MaxPool3d(2),
            nn.ReLU(inplace=True),
        )
        hidden = sizes.localiser_hidden
        last = nn.Linear(hidden, len(START))
        self.mapping = nn.Sequential(nn.Linear(channels * quarter**3, hidden), nn.ReLU(inplace=True), last)
        self.largest, self.reach_mm = sizes.localiser_scale, sizes.reach_mm
        for module in self.convs:
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(START))

    def forward(self, volume: Tensor) -> Warp:
        """Find the head."""
        out = self.mapping(self.convs(volume).flatten(1)).float()  # what follows are coordinates
        return Warp(
            scale=0.5 * self.largest * (torch.tanh(out[:, :3]) + 1.0),
            rotation=rotation_of_six(out[:, 3:9]),
            translation_mm=self.reach_mm * torch.tanh(out[:, 9:]),
        )
