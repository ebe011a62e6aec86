"""The coarse head: control vertices by attention over the head volume.

TEMPEH's global stage predicts one heat map per vertex; softmax(W F) times voxel coordinates *is* attention with one
learned query per vertex. A Gaussian prior around each control's mean place makes the untrained net output the mean
head, so that learning starts from there. Logits and coordinates stay float32.
"""

import torch
from torch import Tensor, nn

from inference.tempeh.blocks import UNet3
from inference.tempeh.layout import CHANNELS, HEAD_GRID, MAP_SCALE_MM
from inference.tempeh.volume import as_float32, expectation, fuse, sample
from streamer.types import F32

KEYS = 32
PRIOR_MM = 25.0
"""Standard deviation of the prior of a control around its mean place in the predicted head frame."""
SHARPNESS = 4.0
"""Factor on the logits: with it, queries of the initial size give soft heat maps."""


class CoarseHead(nn.Module):
    """Feature maps of all views to control vertices in the predicted head frame."""

    points: Tensor
    controls: Tensor

    def __init__(self, points_mm: F32, controls_mm: F32) -> None:
        """Fix the volume's voxels (P, 3) and the controls' mean places (M, 3), both in the head frame."""
        super().__init__()
        self.net = UNet3(2 * CHANNELS + 2 + 3, 32, KEYS)
        self.query = nn.Parameter(torch.randn(len(controls_mm), KEYS) * 0.02)
        self.register_buffer("points", torch.from_numpy(points_mm))
        self.register_buffer("controls", torch.from_numpy(controls_mm))

    def forward(self, features: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
        """Find the controls.

        Args:
            features: (B, V, CHANNELS, H, W) of the crops.
            grid: (B, V, P, 2) of the voxels in every crop.
            weight: (B, V, P) 1 where the view exists and the point lies inside.

        Returns:
            (B, M, 3) in the predicted head frame, mm.
        """
        return self.attend(self.keys(self.volume(features, grid, weight)))

    def volume(self, features: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
        """Fused volume (B, C, D, D, D); its last channels say how far the point seen here belongs elsewhere."""
        batch, views = features.shape[:2]
        samples = sample(features.flatten(0, 1), grid.flatten(0, 1)).reshape(batch, views, CHANNELS, -1)
        fused = fuse(samples, weight)
        offset = (fused[:, :3] * MAP_SCALE_MM - self.points.T) * (1 / 30.0)
        return torch.cat([fused, offset], 1).reshape(batch, -1, HEAD_GRID, HEAD_GRID, HEAD_GRID)

    def keys(self, volume: Tensor) -> Tensor:
        """Attention keys (B, KEYS, HEAD_GRID^3)."""
        keys: Tensor = self.net(volume).flatten(2)
        return keys

    def attend(self, keys: Tensor) -> Tensor:
        """Attention with the mean places as prior: (B, M, 3)."""
        with torch.autocast("cpu", enabled=False):  # bf16 logits and coordinates cost millimetres
            # log of the Gaussian, written as one product; what is constant over the voxels cancels in the softmax
            near = self.controls @ self.points.T - 0.5 * (self.points**2).sum(1)
            logits = SHARPNESS * (self.query @ as_float32(keys)) + near / PRIOR_MM**2
            return expectation(logits, self.points)
