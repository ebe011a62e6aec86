"""The second stage of `reprocess`: a correspondence map from crops of twice the size.

As in TEMPEH the refinement has a feature net of its own, at twice the resolution of the coarse stage. It begins as the
live net on the halved crops, whose map it corrects with what only the large crops show; so it starts where the live
model ended.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.tempeh.blocks import Residual2, cbr2
from inference.tempeh.features import FeatureNet

MAP_CHANNELS = 4
"""Template coordinates and a Laplace scale."""


class DetailNet(nn.Module):
    """(B, 3, 224, 192) standardised head crops to correspondence maps (B, MAP_CHANNELS, 112, 96)."""

    def __init__(self) -> None:
        """The live net and a branch of two finer resolutions, together about 860 million multiplications a view."""
        super().__init__()
        self.live = FeatureNet()
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), cbr2(12, 32))
        self.down = nn.Sequential(nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64))
        self.context = nn.Conv2d(32, 64, 1)
        self.mix = nn.Sequential(nn.ReLU(inplace=True), Residual2(64), Residual2(64))
        self.lift = nn.Conv2d(64, 32, 1)
        self.join = cbr2(32, 32)
        self.out = nn.Conv2d(32, MAP_CHANNELS, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, crops: Tensor) -> Tensor:
        """Run the net."""
        hidden = self.live.hidden(functional.avg_pool2d(crops, 2))
        first = self.live.out(hidden)[:, :MAP_CHANNELS]
        fine = self.enter(crops)
        mixed = self.lift(self.mix(self.down(fine) + self.context(hidden)))
        correction = self.out(self.join(fine + functional.interpolate(mixed, scale_factor=2.0, mode="nearest")))
        begun = functional.interpolate(first, scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = begun + correction
        return out


def begin_with_live(net: DetailNet, features: dict[str, Tensor]) -> None:
    """Start from a live net.

    Args:
        net: to be changed.
        features: state of a `FeatureNet`.

    Raises:
        RuntimeError: of another size.
    """
    net.live.load_state_dict(features)
    with torch.no_grad():
        net.context.weight.mul_(0.5)
