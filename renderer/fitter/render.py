"""Pictures of the field from any cameras at any instant."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from renderer.fitter.compositing import per_ray, weights_of
from renderer.fitter.fit import VISIBLE, Fit
from renderer.fitter.instant import Instant
from renderer.fitter.marching import march
from renderer.fitter.rays import lenses_of, rays_of
from streamer.types import F32, U8, Camera

RAYS = 1 << 13
"""Rays at once."""


@dataclass(frozen=True)
class View:
    """What a camera sees."""

    rgb: U8
    """(H, W, 3)."""
    opacity: F32
    """(H, W) accumulated weight, 0..1."""
    depth: F32
    """(H, W) expected distance along the ray, metres, 0 where nothing is."""


def render_view(fit: Fit, camera: Camera, step: int) -> View:
    """Render one picture; see `render_views`."""
    return next(render_views(fit, (camera,), step))


def render_views(fit: Fit, cameras: Iterable[Camera], step: int) -> Iterator[View]:
    """Render what cameras see at an instant; everything that opens in a fit is open as far as the fit has come.

    Args:
        fit: the field.
        cameras: at the size of their pictures.
        step: time step.

    Yields:
        Their pictures, in order.
    """
    instant = Instant(fit.field, step, fit.opening(), fit.occupancy.occupied)
    for camera in cameras:
        yield _view(fit, instant, camera)


@torch.no_grad()
def _view(fit: Fit, instant: Instant, camera: Camera) -> View:
    lenses = lenses_of((camera,), fit.box, fit.device)
    pixels = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1).reshape(-1, 2)
    step_m = fit.step_m()
    rgb, opacity, depth = [], [], []
    for part in torch.split(torch.from_numpy(pixels.astype(np.float32)).to(fit.device), RAYS):
        zero = torch.zeros(len(part), dtype=torch.int64, device=fit.device)
        origins, directions = rays_of(lenses, zero, part)
        middle = torch.full((len(part),), 0.5, device=fit.device)
        samples = march(origins, directions, fit.occupancy.occupied, step_m, fit.box.size, middle)
        density, geometry = instant.density(samples.points)
        weights = weights_of(density, samples, step_m)
        seen = (weights > VISIBLE).nonzero()[:, 0]
        ray = samples.ray[seen]
        tint = fit.field.colour(geometry[seen], directions[ray])
        total = per_ray(weights, samples)
        front = torch.zeros_like(origins).index_add(0, ray, weights[seen, None] * tint)
        behind = fit.field.background(origins - 0.5, directions)
        rgb.append(front + (1 - total)[:, None] * behind)
        opacity.append(total)
        depth.append(per_ray(weights * samples.depth, samples) / (total + 1e-10))
    shape = (camera.height, camera.width)
    colours = (torch.cat(rgb).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
    flat = [torch.cat(values).cpu().numpy().reshape(shape) for values in (opacity, depth)]
    return View(colours.reshape(*shape, 3), flat[0], flat[1])
