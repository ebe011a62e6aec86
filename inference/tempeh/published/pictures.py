"""What a published network's pictures are normalised by. Numpy only."""

import numpy as np
from numpy.typing import NDArray

from streamer.types import F32

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""Of ImageNet's red, green and blue in 0..1."""


def normalised(pictures: NDArray[np.floating]) -> F32:
    """(..., H, W, 3) RGB in 0..1 to (..., 3, H, W)."""
    return np.ascontiguousarray(np.moveaxis((pictures.astype(np.float32) - MEAN) / DEVIATION, -1, -3))
