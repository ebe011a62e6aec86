"""Rays of a step: a few instants, all cameras, more often where the head is than elsewhere."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from renderer.fitter.box import Box
from renderer.fitter.footage import Footage, gather
from renderer.fitter.layers import DEPTH_UNITS
from renderer.fitter.prior import Prior
from renderer.fitter.rays import Lenses, rays_of
from streamer.errors import TakeError
from streamer.geometry import project
from streamer.types import F32, I32

I64 = NDArray[np.int64]

AIMED = 0.6
"""Part of the rays that is drawn from the rectangle around the head."""
MARGIN = 0.15
"""By how much that rectangle is larger than the mesh on each side."""
INNER = 0.6
"""Without meshes: the part of the box, from its centre, that the rectangle is drawn around."""


@dataclass(frozen=True)
class Batch:
    """Rays sorted by time step, and what is known about their pixels."""

    steps: list[int]
    """Time steps, each once."""
    counts: list[int]
    """Rays of each."""
    origins: Tensor
    """(r, 3) box units."""
    directions: Tensor
    """(r, 3) unit vectors."""
    colour: Tensor
    """(r, 3) of the pixel, 0..1."""
    distance: Tensor
    """(r,) metres along the ray to the surface; 0: unknown."""
    alpha: Tensor
    """(r,) how much of the pixel the person covers, 0..1; -1: unknown."""
    camera: Tensor
    """(r,) int64 index of the camera."""
    ends: Tensor
    """(r,) metres along the ray, behind which nothing can be seen; infinite: unknown."""


def aim(footage: Footage, box: Box) -> I32:
    """Return the (T, C, 4) rectangles left, top, right, bottom (exclusive) around the head in every picture."""
    corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
    still = box.corner + box.size / 2 + corners * box.size / 2 * INNER
    out = np.zeros((footage.steps, len(footage.cameras), 4), np.int32)
    for c, camera in enumerate(footage.cameras):
        size = np.array([camera.width, camera.height])
        for t in range(footage.steps):
            mesh = footage.meshes.get(t)
            pixels, _ = project(camera, still if mesh is None else mesh.vertices)
            if not np.isfinite(pixels).all():
                low, high = np.zeros(2), size.astype(np.float64)
            else:
                low, high = pixels.min(0), pixels.max(0)
                if mesh is not None:
                    grow = MARGIN * (high - low)
                    low, high = low - grow, high + grow
            first = np.clip(np.floor(low), 0, size - 1)
            out[t, c] = (*first, *np.clip(np.ceil(high), first + 1, size))
    return out


class Sampler:
    """Draws batches.

    Args:
        footage: the pictures.
        box: of the scene.
        lenses: of the training cameras.
        prior: depth of the meshes, or None.

    Raises:
        TakeError: no instant has a picture of a training camera.
    """

    def __init__(self, footage: Footage, box: Box, lenses: Lenses, prior: Prior | None) -> None:
        """Find out which instants have pictures."""
        self._footage, self._lenses, self._prior = footage, lenses, prior
        self._aims = aim(footage, box)
        self._sizes = np.array([[camera.width, camera.height] for camera in footage.cameras], np.int64)
        self._steps = np.flatnonzero((footage.begins >= 0).any(1))
        if not len(self._steps):
            raise TakeError("no instant of the take has a picture of a camera to train on")

    def draw(self, rays: int, instants: int, rng: np.random.Generator) -> Batch:
        """Draw `rays` rays from `instants` time steps."""
        steps = np.sort(rng.choice(self._steps, min(instants, len(self._steps)), replace=False))
        counts = np.diff(np.linspace(0, rays, len(steps) + 1).astype(int))
        step = np.repeat(steps, counts)
        present = [np.flatnonzero(self._footage.begins[one] >= 0) for one in steps]
        camera = np.concatenate([rng.choice(some, count) for some, count in zip(present, counts, strict=True)])
        whole = np.concatenate([np.zeros((rays, 2), np.int64), self._sizes[camera]], 1)
        frame = np.where(rng.random((rays, 1)) < AIMED, self._aims[step, camera], whole)
        place = frame[:, :2] + rng.random((rays, 2)) * (frame[:, 2:] - frame[:, :2])
        x, y = place.astype(np.int64).T
        device = self._lenses.K.device
        colour = torch.from_numpy(gather(self._footage, step, camera, x, y)).to(device)
        pixels = torch.from_numpy(np.stack([x, y], 1).astype(np.float32)).to(device)
        origins, directions = rays_of(self._lenses, torch.from_numpy(camera).to(device), pixels)
        mesh, ends = self._to_mesh(step, camera, x, y)
        distance = self._measured(step, camera, x, y)
        if self._prior is not None and self._prior.parts.depth:
            distance = np.where(distance > 0, distance, mesh)
        covered = distance if self._prior is None or not self._prior.parts.mask else np.maximum(distance, mesh)
        alpha = self._alpha(step, camera, x, y, covered)
        known = (torch.from_numpy(one).to(device) for one in (distance, alpha, camera, ends))
        return Batch(steps.tolist(), counts.tolist(), origins, directions, colour, *known)

    def _to_mesh(self, step: I64, camera: I64, x: I64, y: I64) -> tuple[F32, F32]:
        """Distances to the meshes, 0 where there is none, and to where rays end behind them, else infinite; metres."""
        surface, ends = np.zeros(len(step), np.float32), np.full(len(step), np.inf, np.float32)
        if self._prior is not None:
            for index, (depth, end) in enumerate(zip(self._prior.distance, self._prior.ends, strict=True)):
                mine = np.flatnonzero(camera == index)
                width, height = self._sizes[index]
                place = step[mine], y[mine] * depth.shape[1] // height, x[mine] * depth.shape[2] // width
                surface[mine] = depth[place] / np.float32(DEPTH_UNITS)
                if self._prior.parts.depth:
                    ends[mine] = np.where(end[place], end[place] / np.float32(DEPTH_UNITS), np.inf)
        return surface, ends

    def _measured(self, step: I64, camera: I64, x: I64, y: I64) -> F32:
        """Distances of the take's own depth maps, which stand before the meshes'; 0 where there is none."""
        if self._footage.depths is None:
            return np.zeros(len(step), np.float32)
        return np.asarray(self._footage.depths[self._pixel(step, camera, x, y)] / np.float32(DEPTH_UNITS), np.float32)

    def _alpha(self, step: I64, camera: I64, x: I64, y: I64, distance: F32) -> F32:
        """Return the matte's where there is one; what has a surface is solid; else unknown."""
        alpha = np.where(distance > 0, np.float32(1), np.float32(-1))
        footage = self._footage
        if footage.mattes is not None and footage.matted is not None:
            matte = footage.mattes[self._pixel(step, camera, x, y)] / np.float32(255)
            alpha = np.where(footage.matted[step, camera], matte, alpha)
        return np.asarray(alpha, np.float32)

    def _pixel(self, step: I64, camera: I64, x: I64, y: I64) -> I64:
        return np.asarray(self._footage.begins[step, camera] // 3 + y * self._sizes[camera, 0] + x, np.int64)
