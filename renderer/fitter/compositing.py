"""Emission and absorption along packed rays (Max 1995; Mildenhall et al., ECCV 2020, eq. 3)."""

import torch
from torch import Tensor

from renderer.fitter.marching import Samples


def before(values: Tensor, samples: Samples) -> Tensor:
    """Return the sums of the (n,) values of the same ray that come before each sample.

    One running sum over all rays, in float64 so that the difference of two of its values keeps float32's precision.
    """
    running = values.double().cumsum(0)
    exclusive = running - values.double()
    return (exclusive - exclusive[samples.first]).to(values.dtype)


def weights_of(density: Tensor, samples: Samples, step_m: float) -> Tensor:
    """Return the (n,) weight of each sample in its pixel: what is absorbed there of what is left.

    Args:
        density: (n,) per metre.
        samples: where they are.
        step_m: length that each sample stands for, metres.
    """
    thickness = density * step_m
    return torch.exp(-before(thickness, samples)) * (1 - torch.exp(-thickness))


def per_ray(values: Tensor, samples: Samples) -> Tensor:
    """Sum (n,) or (n, C) values over each ray: (r,) or (r, C)."""
    out = values.new_zeros(len(samples.counts), *values.shape[1:])
    return out.index_add(0, samples.ray, values)
