"""One fit: the field, its optimiser and the step that improves it. Nothing here touches the disk."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from renderer.fitter import losses
from renderer.fitter.batch import Batch, Sampler
from renderer.fitter.box import Box, box_of_cameras
from renderer.fitter.compositing import per_ray, weights_of
from renderer.fitter.encoders.base import choose_lookup
from renderer.fitter.field import FieldPrior, Opening, RadianceField
from renderer.fitter.footage import Footage
from renderer.fitter.hull import hull_of
from renderer.fitter.marching import Samples, march
from renderer.fitter.middle import ball
from renderer.fitter.occupancy import EVERY, Occupancy
from renderer.fitter.presets import Preset
from renderer.fitter.prior import build_prior
from renderer.fitter.rays import lenses_of
from renderer.fitter.schedules import decayed, ramp
from streamer.errors import FitError
from streamer.progress import Report
from streamer.types import Calibration

FIRST_RAYS = 128
VISIBLE = 1e-4
"""Samples with less weight in their pixel get no colour."""
SLOW = 0.1
"""Part of its rate at which the deformation begins to learn."""
DEPTH_TOLERANCE_M = (0.1, 0.004)
"""Tolerance of the depth losses at the start and at the end; a registered mesh is good to a few millimetres."""
PUBLISHED_TOLERANCE_M = (0.1, 0.0011)


class DivergedError(FitError):
    """The loss is not finite; a lower learning rate may help."""


class Fit:
    """A radiance field in the making.

    Args:
        footage: what it learns from.
        preset: how.
        device: where.
        report: progress of the preparations.

    Raises:
        TakeError: nothing to learn from.
        CalibrationError: cameras that do not look at one point.
    """

    def __init__(
        self, footage: Footage, preset: Preset, device: torch.device, report: Report = lambda done, total: None
    ) -> None:
        """Prepare; two fits with the same arguments are equal."""
        self.footage, self.preset, self.device = footage, preset, device
        self.step = 0
        self.rays = FIRST_RAYS
        """Rays of the next step: as many as make the preset's number of samples."""
        self.rate_scale = 1.0
        """Learning rates are multiplied by this; lowered after a loss that was not finite."""
        calibration = Calibration(footage.cameras)
        self.box: Box = box_of_cameras(calibration)
        self.prior = build_prior(footage, self.box, device, report, preset.prior_parts) if preset.prior else None
        torch.manual_seed(preset.seed)
        self.rng = np.random.default_rng(preset.seed)
        lookup = choose_lookup(preset.encoder, device)
        known = None if preset.published else FieldPrior(ball(device))
        if self.prior:
            known = self.prior.field
        shape = preset.shape
        if footage.white:
            shape = dataclasses.replace(shape, background=False)
        self.field = RadianceField(
            shape,
            footage.steps,
            lookup,
            known,
            published=preset.published,
            box_m=self.box.size,
            graded_cameras=len(footage.cameras) if preset.camera_colours else 0,
        ).to(device)
        hull = None if preset.published else hull_of(footage, self.box, preset.occupancy)
        self.occupancy = Occupancy(self.box, preset.occupancy, calibration, device, hull)
        self._sampler = Sampler(footage, self.box, lenses_of(footage.cameras, self.box, device), self.prior)
        self.optimiser = torch.optim.AdamW(self._groups(), eps=1e-15, weight_decay=0.0, fused=True)

    def _groups(self) -> list[dict[str, Any]]:
        field, rates = self.field, self.preset.schedule
        codes = [field.ensemble.codes] + ([field.deformation.codes] if field.deformation else [])
        motion = [p for n, p in field.named_parameters() if n.startswith("deformation.") and not n.endswith("codes")]
        motion += [] if field.grades is None else [field.grades]
        behind = [] if field.behind is None else list(field.behind.parameters())
        taken = {id(p) for p in codes + motion + behind}
        rest = [p for p in field.parameters() if id(p) not in taken]
        shrink = rates.shrink_behind
        groups: list[dict[str, Any]] = [
            {"params": rest, "base": rates.rate_fields, "factor": rates.decay_fields},
            {"params": codes, "base": rates.rate_codes, "factor": rates.decay_fields},
            {"params": motion, "base": rates.rate_deform, "factor": rates.decay_deform, "warms": rates.deform_warms},
            {"params": behind, "base": rates.rate_behind, "factor": rates.decay_fields, "weight_decay": shrink},
        ]
        return [group for group in groups if group["params"]]

    def opening(self) -> Opening:
        """How far coarse-to-fine has come at the present step; all open when the fit is done."""
        schedule, shape, part = self.preset.schedule, self.preset.shape, self.step / self.preset.steps
        bands = ramp(part, *schedule.deform_opens, 0.0, float(shape.deform_bands))
        return Opening(bands, ramp(part, *schedule.ensemble_opens, 1.0, float(shape.tables)))

    def step_m(self) -> float:
        """Distance of samples at the present step, metres."""
        widest, until = self.preset.schedule.strides
        return self.preset.step_mm / 1000 * ramp(self.step / self.preset.steps, 0.0, until, widest, 1.0)

    def advance(self) -> Mapping[str, float]:
        """Make one step.

        Returns:
            The losses by name, `loss` the sum.

        Raises:
            DivergedError: the loss is not finite; the field is as it was before the step.
        """
        opening = self.opening()
        if self.step % EVERY == 0:
            self.occupancy.refresh(
                self.step,
                lambda points, steps, counts: self.field.density(points, steps, counts, opening)[0],
                self.footage.steps,
                self.rng,
            )
        batch = self._sampler.draw(self.rays, self.preset.time_steps, self.rng)
        terms = self._terms(batch, opening)
        total = torch.stack(list(terms.values())).sum()
        values = {name: float(value.detach()) for name, value in terms.items()}
        if not all(map(math.isfinite, values.values())):
            names = ", ".join(name for name, value in values.items() if not math.isfinite(value))
            raise DivergedError(f"the loss is not finite at step {self.step} ({names})")
        schedule = self.preset.schedule
        for group in self.optimiser.param_groups:
            rate = decayed(group["base"], group["factor"], self.step, schedule.decay_every * self.preset.steps)
            if not self.preset.published:
                rate *= ramp(self.step / self.preset.steps, 0.0, group.get("warms", 0.0), SLOW, 1.0)
            group["lr"] = rate * self.rate_scale
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return {"loss": sum(values.values()), **values}

    def _samples(self, batch: Batch) -> Samples:
        """March, and learn how many rays the next step can have; growth is gradual, so that no step is huge."""
        jitter = torch.from_numpy(self.rng.random(len(batch.origins), np.float32)).to(self.device)
        box_m, step_m, occupied = self.box.size, self.step_m(), self.occupancy.occupied
        solid = self.step >= self.preset.schedule.rays_end * self.preset.steps and not self.preset.published
        ends = batch.ends if solid else None
        samples = march(batch.origins, batch.directions, occupied, step_m, box_m, jitter, ends)
        wanted = round(len(batch.origins) * self.preset.samples / max(len(samples.ray), 1))
        self.rays = min(max(wanted, FIRST_RAYS), 2 * self.rays, self.preset.rays)
        return samples

    def _tolerance_m(self) -> float:
        """Tolerance of the depth losses at the present step, metres."""
        ends = PUBLISHED_TOLERANCE_M if self.preset.published else DEPTH_TOLERANCE_M
        return ramp(self.step / self.preset.steps, 0.0, self.preset.schedule.depth_closes, *ends)

    def _behind(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what lies behind the box on each ray, and the colours of the pixels before it, (r, 3) each.

        Pictures with mattes stand on white, and so would white fog: both are put before another random colour at each
        ray, which only what is as opaque as the matte says can meet (published: white).
        """
        if not self.footage.white or self.preset.published:
            return self.field.background(batch.origins - 0.5, batch.directions), batch.colour
        shade = torch.from_numpy(self.rng.random((len(batch.colour), 3), np.float32)).to(self.device)
        return shade, batch.colour - (1 - batch.alpha[:, None]) * (1 - shade)

    def _terms(self, batch: Batch, opening: Opening) -> dict[str, Tensor]:
        preset, weight = self.preset, self.preset.losses
        step_m = self.step_m()
        samples = self._samples(batch)
        counts = [int(part.sum()) for part in torch.split(samples.counts, batch.counts)]
        density, geometry, _ = self.field.density(samples.points, batch.steps, counts, opening)
        weights = weights_of(density, samples, step_m)
        accumulation = per_ray(weights, samples)
        seen = (weights.detach() > VISIBLE).nonzero()[:, 0]
        tint = self.field.colour(geometry[seen], batch.directions[samples.ray[seen]])
        front = torch.zeros_like(batch.colour).index_add(0, samples.ray[seen], weights[seen, None] * tint)
        front = self.field.graded(front, accumulation, batch.camera)
        behind, target = self._behind(batch)
        colour = front + (1 - accumulation)[:, None] * behind
        tolerance = self._tolerance_m()
        terms = {
            "colour": losses.colour_loss(colour, target),
            "mask": weight.mask * losses.mask_loss(accumulation, batch.alpha),
            "air": weight.air * losses.air_loss(density, step_m),
            "distortion": weight.distortion * losses.distortion_loss(weights, samples, step_m),
        }
        if self.field.grades is not None:
            terms["grades"] = weight.grades * (self.field.grades**2).mean()
        if self.prior is not None or self.footage.depths is not None:
            near = losses.near_loss(weights, samples, batch.distance, tolerance, published=preset.published)
            terms["empty"] = weight.empty * losses.empty_loss(weights, samples, batch.distance, tolerance)
            terms["near"] = weight.near * near
            terms["depth"] = weight.depth * losses.depth_loss(weights, samples, batch.distance)
        return terms
