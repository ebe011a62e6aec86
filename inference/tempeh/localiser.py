"""The head localiser: where in the stage the head is, from thumbnails of all views.

TEMPEH's spatial transformer regresses a rotation and scale from the volume; at our size landmarks by soft-argmax and
a rigid fit to them learn in a fraction of the steps, and the fit says by its residual how sure it is.
"""

import torch
from torch import Tensor, nn

from inference.tempeh.blocks import Residual2, UNet3, cbr2
from inference.tempeh.layout import CHANNELS, LANDMARKS, STAGE_GRID, stage_points
from inference.tempeh.volume import expectation, fuse, sample


class ThumbNet(nn.Module):
    """(B, 3, 60, 80) standardised thumbnails to (B, CHANNELS, 30, 40)."""

    def __init__(self) -> None:
        """Two resolutions, about 60 million multiplications a view."""
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), cbr2(12, 32), Residual2(32))
        self.down = nn.Sequential(cbr2(32, 64, stride=2), Residual2(64), Residual2(64))
        self.lift = nn.Sequential(nn.Conv2d(64, 32, 1), nn.Upsample(size=(30, 40), mode="nearest"))
        self.out = nn.Conv2d(32, CHANNELS, 1)

    def forward(self, thumbs: Tensor) -> Tensor:
        """Run the net."""
        fine = self.stem(thumbs)
        out: Tensor = self.out(torch.relu(fine + self.lift(self.down(fine))))
        return out


class Localiser(nn.Module):
    """Thumbnails of all views to landmarks in the rig frame."""

    points: Tensor

    def __init__(self) -> None:
        """Join the thumbnail net, the volume and the heat-map net."""
        super().__init__()
        self.thumbs = ThumbNet()
        self.heat = UNet3(2 * CHANNELS + 2, 32, LANDMARKS)
        self.register_buffer("points", torch.from_numpy(stage_points()), persistent=False)

    def forward(self, thumbs: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
        """Find the landmarks.

        Args:
            thumbs: (B, V, 3, 60, 80) standardised.
            grid: (B, V, P, 2) of `stage_points` in every view.
            weight: (B, V, P) 1 where the view exists and the point lies inside.

        Returns:
            (B, LANDMARKS, 3) in the rig frame, mm.
        """
        batch, views = thumbs.shape[:2]
        features = self.thumbs(thumbs.flatten(0, 1))
        samples = sample(features, grid.flatten(0, 1)).reshape(batch, views, CHANNELS, -1)
        volume = fuse(samples, weight).reshape(batch, -1, STAGE_GRID, STAGE_GRID, STAGE_GRID)
        heat = self.heat(volume).flatten(2)
        with torch.autocast("cpu", enabled=False):  # bf16 coordinates are good to 2 mm only
            return expectation(heat.float(), self.points)
