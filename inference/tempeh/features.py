"""The 2D feature net of the head crops, with a dense correspondence map as its first channels.

TEMPEH learns its features only through the volumes. Ours have a part that is supervised directly: channels 0-2 tell
which point of the template a pixel shows, channel 3 how sure that is (a Laplace scale). It is learned at once from
rendered truth, tells the volume where the surface is, and is what the refinement measures with. The other channels
are free.
"""

import torch
from torch import Tensor, nn

from inference.tempeh.blocks import Residual2, cbr2
from inference.tempeh.layout import CHANNELS, MAP_SCALE_MM, SCALE_MM


class FeatureNet(nn.Module):
    """(B, 3, 112, 96) standardised head crops to (B, CHANNELS, 56, 48)."""

    def __init__(self) -> None:
        """Four resolutions, about 250 million multiplications a view."""
        super().__init__()
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), cbr2(12, 32))
        self.quarter = nn.Sequential(cbr2(32, 64, stride=2), Residual2(64), Residual2(64))
        self.eighth = nn.Sequential(cbr2(64, 96, stride=2), Residual2(96), Residual2(96))
        self.sixteenth = nn.Sequential(cbr2(96, 128, stride=2), Residual2(128), nn.Conv2d(128, 96, 1))
        self.to_quarter = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(96, 64, 1))
        self.join_quarter = cbr2(64, 64)
        self.to_half = nn.Conv2d(64, 32, 1)
        self.join_half = cbr2(32, 32)
        self.out = nn.Conv2d(32, CHANNELS, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, crops: Tensor) -> Tensor:
        """Run the net."""
        out: Tensor = self.out(self.hidden(crops))
        return out

    def hidden(self, crops: Tensor) -> Tensor:
        """What the output is read from: (B, 32, 56, 48)."""
        half = self.enter(crops)
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        eighth = eighth + self.up(self.sixteenth(eighth))
        quarter = self.join_quarter(quarter + self.up(self.to_quarter(eighth)))
        joined: Tensor = self.join_half(half + self.up(self.to_half(quarter)))
        return joined


def split_map(features: Tensor, scale_mm: tuple[float, float] = SCALE_MM) -> tuple[Tensor, Tensor]:
    """Read the correspondence map.

    Args:
        features: (..., 4 or more, P) samples of the feature maps, channels before points.
        scale_mm: range of the Laplace scale.

    Returns:
        (..., 3, P) template coordinates in mm, and (..., P) Laplace scale in mm.
    """
    place = features[..., :3, :].float() * MAP_SCALE_MM
    low, high = scale_mm
    spread = low + (high - low) * torch.sigmoid(features[..., 3, :].float())
    return place, spread
