"""How a fit opens up while it goes on: windows and rates as functions of the step.

Coarse-to-fine windows are the raised cosine of Nerfies (Park et al., ICCV 2021, eq. 8); the fade-in of the ensemble is
NeRSemble's: one table alone, so that the deformation field must find correspondences, then the others one by one.
"""

import math

import numpy as np

from streamer.types import F32


def ramp(step: float, begin: float, end: float, low: float, high: float) -> float:
    """Go linearly from `low` at step `begin` to `high` at step `end`, and stay outside."""
    if end <= begin:
        return high if step >= end else low
    return low + (high - low) * min(max((step - begin) / (end - begin), 0.0), 1.0)


def window(opened: float, count: int) -> F32:
    """Return (count,) weights in 0..1 of bands of which `opened` are open: band k opens while k < opened < k + 1."""
    position = np.clip(opened - np.arange(count), 0.0, 1.0)
    return np.asarray((1.0 - np.cos(math.pi * position)) / 2, np.float32)


def blend_mixture(opened: float, count: int) -> tuple[F32, F32]:
    """Return how codes become the blend weights of the tables: `weights = scale * codes + constant`, each (count,).

    While `opened` is 1, table 0 has weight 1 and codes have no influence (and get no gradient). From 1 to 2 the code of
    table 0 takes over from the constant; beyond, the codes stand alone under their window.

    Args:
        opened: tables that take part, from 1 to `count`.
        count: tables there are.
    """
    constant = np.zeros(count, np.float32)
    if opened <= 1.0:
        constant[0] = 1.0
        return np.zeros(count, np.float32), constant
    scale = window(opened, count)
    if opened < 2.0:
        constant[0] = 2.0 - opened
        scale = scale * np.float32(opened - 1.0)
    return scale, constant


def decayed(rate: float, factor: float, step: int, every: float) -> float:
    """Return the learning rate after `step` steps: times `factor` each `every` steps."""
    return rate * factor ** math.floor(step / every)
