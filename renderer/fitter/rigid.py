"""Screw axes to rigid motions (Rodrigues; the closed form is in Park et al., ICCV 2021, section 3.2)."""

import torch
from torch import Tensor

SMALLEST_SQUARE = 1e-4
"""Squared angles below this are taken as this: the series stays finite and has finite gradients at no rotation."""


def move_by_screw(points: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
    """Apply the motion exp((r, v)) to points: `R p + V v`.

    Args:
        points: (n, 3).
        rotation: (n, 3) axis times angle, radians.
        translation: (n, 3) the translational part of the screw, units of the points.

    Returns:
        (n, 3) moved points.
    """
    square = (rotation * rotation).sum(-1, keepdim=True).clamp_min(SMALLEST_SQUARE)
    angle = square.sqrt()
    a = torch.sin(angle) / angle
    b = (1 - torch.cos(angle)) / square
    c = (angle - torch.sin(angle)) / (square * angle)

    def turned(x: Tensor, first: Tensor | float, second: Tensor) -> Tensor:
        once = torch.linalg.cross(rotation, x)
        moved: Tensor = x + first * once + second * torch.linalg.cross(rotation, once)
        return moved

    return turned(points, a, b) + turned(translation, b, c)
