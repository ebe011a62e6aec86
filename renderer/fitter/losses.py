"""What a fit minimises, one function a term (NeRSemble section 3.4; after Rematas et al., CVPR 2022 for depth)."""

import math

import torch
from torch import Tensor

from renderer.fitter.compositing import before, per_ray
from renderer.fitter.marching import Samples

SIGMAS = 3.0
"""The tolerance of the near loss is this many standard deviations."""


def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean over the chosen, 0 where there are none; keeps the graph."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


def colour_loss(colour: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of (r, 3) colours over rays and channels."""
    return ((colour - target) ** 2).mean()


def mask_loss(accumulation: Tensor, alpha: Tensor) -> Tensor:
    """Mean distance of the (r,) accumulated weights to the (r,) known alphas; those below 0 are not known."""
    return mean_of((alpha - accumulation).abs(), alpha >= 0)


def empty_loss(weights: Tensor, samples: Samples, distance: Tensor, tolerance_m: float) -> Tensor:
    """Mean squared weight of samples more than the tolerance before the surface.

    Args:
        weights: (n,).
        samples: where they are.
        distance: (r,) metres along the ray to the surface; 0: unknown.
        tolerance_m: metres.
    """
    surface = distance[samples.ray]
    return mean_of(weights**2, (surface > 0) & (samples.depth < surface - tolerance_m))


def near_loss(weights: Tensor, samples: Samples, distance: Tensor, tolerance_m: float, *, published: bool) -> Tensor:
    """Mean squared difference of accumulated weight and a normal's distribution function around the surface.

    The published code hands the variance to a function that takes a standard deviation.
    """
    surface = distance[samples.ray]
    deviation = tolerance_m / SIGMAS
    if published:
        deviation = (9.0 * deviation) ** 2 / 9.0
    accumulated = before(weights, samples) + weights
    offset = samples.depth - surface
    expected = 0.5 * (1 + torch.erf(offset / (max(deviation, 1e-6) * math.sqrt(2))))
    return mean_of((accumulated - expected) ** 2, (surface > 0) & (offset.abs() <= tolerance_m))


def depth_loss(weights: Tensor, samples: Samples, distance: Tensor) -> Tensor:
    """Mean squared difference of expected and known distance, in published scene units (9 to a metre)."""
    total = per_ray(weights, samples)
    expected = per_ray(weights * samples.depth, samples) / (total + 1e-10)
    return mean_of(((expected - distance) * 9.0) ** 2, distance > 0)


def air_loss(density: Tensor, step_m: float) -> Tensor:
    """Mean opacity of (n,) densities over a step: air is cheaper than anything else."""
    return (1 - torch.exp(-density * step_m)).sum() / max(len(density), 1)


def distortion_loss(weights: Tensor, samples: Samples, step_m: float) -> Tensor:
    """Mean over rays of the interval distortion (Barron et al., CVPR 2022, eq. 15), in published scene units.

    The double sum over pairs is 2 sum_i w_i (m_i W_<i - (w m)_<i) with sums over the samples before.
    """
    middle = samples.depth * 9.0
    pairs = 2 * weights * (middle * before(weights, samples) - before(weights * middle, samples))
    own = weights**2 * (step_m * 9.0) / 3
    return (pairs + own).sum() / max(len(samples.counts), 1)
