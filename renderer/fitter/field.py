"""The radiance field: deformation, ensemble, density, colour, and what lies behind the box.

Müller et al. (SIGGRAPH 2022) for the canonical field, Kirschstein et al. (SIGGRAPH 2023) for motion. Inside, points are
in units of the scene's box, [0, 1] each; densities are per metre.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from renderer.fitter.deformation import Deformation
from renderer.fitter.encoders.base import Lookup
from renderer.fitter.ensemble import HashEnsemble
from renderer.fitter.presets import FieldShape

GEOMETRY = 15
"""Values that the density network hands to the colour network."""
LOG_UNIT = math.log(9.0)
"""Density of an untrained field is exp of this per metre: 1 in the published scene units (9 to a metre)."""
PASSING = 4.0
"""Sines of the angles beside the middle of the box are multiplied by this: a picture of 28 degrees has -1 to 1."""


@dataclass(frozen=True)
class Opening:
    """How far coarse-to-fine has come."""

    bands: float
    """Bands of the deformation's encoding that are open."""
    tables: float
    """Tables of the ensemble that take part."""


@dataclass(frozen=True)
class FieldPrior:
    """What is known before the first step: from the take's meshes (`prior.py`) or without any (`middle.py`)."""

    log_density: Tensor
    """(1, 1, Z, Y, X) added to the logarithm of the canonical density."""
    motion: Tensor | None = None
    """(T, 3, Z, Y, X) where to move a point at an instant to reach the canonical head, box units; None: nowhere."""


def sample_volume(volume: Tensor, points: Tensor) -> Tensor:
    """Read a (1, C, Z, Y, X) volume over the unit cube at (n, 3) points: (n, C), zero outside."""
    place = (2 * points - 1)[None, None, None]
    found = functional.grid_sample(volume, place, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found[0, :, 0, 0].T


def _layers(inputs: int, hidden: int, depth: int, outputs: int, bend: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    widths = [inputs] + [hidden] * depth
    steps: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        steps += [nn.Linear(a, b), bend()]
    return nn.Sequential(*steps, nn.Linear(widths[-1], outputs))


class RadianceField(nn.Module):
    """One take as a field.

    Args:
        shape: sizes.
        time_steps: instants of the take.
        lookup: how tables are read.
        prior: what is known before, or None.
        published: keep the published errors (docs/fitter.md).
        box_m: edge of the box, metres; the published motion is in scene units and needs it.
        graded_cameras: training cameras whose colours are learned, see `graded`; 0: none.
    """

    def __init__(
        self,
        shape: FieldShape,
        time_steps: int,
        lookup: Lookup,
        prior: FieldPrior | None,
        *,
        published: bool,
        box_m: float,
        graded_cameras: int = 0,
    ) -> None:
        """Draw all weights from torch's generator."""
        super().__init__()
        self.shape, self.published, self.box_m = shape, published, box_m
        self.base = _layers(shape.grid.width, shape.hidden, 1, 1 + GEOMETRY)
        self.tint = _layers(3 + GEOMETRY, shape.hidden, shape.colour_layers, 3)
        self.behind = _layers(7, 32, 2, 3, nn.SiLU) if shape.background else None
        self.deformation = (
            Deformation(time_steps, shape.deform_layers, shape.deform_width, shape.deform_bands, shape.deform_code)
            if shape.deform_layers
            else None
        )
        # last: fits that differ in their tables alone begin with the same networks
        self.ensemble = HashEnsemble(shape.grid, shape.tables, time_steps, lookup, published=published)
        self.prior = prior
        self.grades = nn.Parameter(torch.zeros(graded_cameras, 3, 4)) if graded_cameras else None

    @property
    def moves(self) -> bool:
        """Whether points have to be moved at all to reach the canonical head."""
        return self.deformation is not None or (self.prior is not None and self.prior.motion is not None)

    def canonical(self, points: Tensor, steps: list[int], counts: list[int], opening: Opening) -> Tensor:
        """Move (n, 3) points, sorted by time step, into the canonical head; box units."""
        moved = points
        motion = None if self.prior is None else self.prior.motion
        if motion is not None:
            parts = zip(steps, torch.split(points, counts), strict=True)
            shift = torch.cat([sample_volume(motion[step][None].float(), part) for step, part in parts])
            moved = points + shift
        if self.deformation is None:
            return moved
        bent: Tensor = self.deformation(moved, steps, counts, opening.bands)
        if self.published:
            return moved + (bent - moved) / (9.0 * self.box_m)
        return bent

    def density(
        self, points: Tensor, steps: list[int], counts: list[int], opening: Opening
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the density at points.

        Args:
            points: (n, 3) in the unit cube, sorted by time step.
            steps: time steps, in the order of the points.
            counts: points of each.
            opening: how far coarse-to-fine has come.

        Returns:
            (n,) density per metre, (n, GEOMETRY) what colour is made of, and (n, 3) the canonical points.
        """
        place = self.canonical(points, steps, counts, opening)
        density, geometry = self.solid(self.ensemble(place, steps, counts, opening.tables), place)
        return density, geometry, place

    def solid(self, read: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return density and what colour is made of, from what was read at canonical points.

        Args:
            read: (n, levels * features) of the blended tables.
            place: (n, 3) where, box units; outside the box nothing is solid.

        Returns:
            (n,) density per metre, (n, GEOMETRY).
        """
        out = self.base(read)
        log = out[:, 0] + LOG_UNIT
        if self.prior is not None:
            log = log + sample_volume(self.prior.log_density, place)[:, 0]
        inside = ((place >= 0) & (place <= 1)).all(-1)
        return torch.exp(log.clamp(-15.0, 15.0)) * inside, out[:, 1:]

    def colour(self, geometry: Tensor, directions: Tensor) -> Tensor:
        """Return (n, 3) colours in 0..1 from (n, GEOMETRY) and (n, 3) unit directions."""
        return torch.sigmoid(self.tint(torch.cat([(directions + 1) / 2, geometry], 1)))

    def graded(self, colour: Tensor, opacity: Tensor, camera: Tensor) -> Tensor:
        """Return colours as each camera would show them: an affine map per camera, the mean of all being none.

        Cameras that were not trained on have the mean's colours. Sensors of one make differ by some percent in white
        balance and gain, which a field would else explain by what is seen from where.

        Args:
            colour: (r, 3) weighted by opacity.
            opacity: (r,) of the rays.
            camera: (r,) int64 index of the training camera.
        """
        if self.grades is None:
            return colour
        grade = (self.grades - self.grades.mean(0))[camera]
        moved: Tensor = colour + (grade[:, :, :3] @ colour[:, :, None])[..., 0] + grade[:, :, 3] * opacity[:, None]
        return moved

    def background(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Return the (r, 3) colours behind the box: white, or learned of the ray.

        It depends smoothly on where the camera stands (seen from the box) and on how far the ray passes beside and
        above the middle of the box, and not on time: enough for a studio's sweep, its light and the fall of light
        towards the corners of pictures, too little to paint a head. Directions of the world would not do: pictures of
        neighbours share none, and what lies between cameras stays unknown. For the same sake there are no kinks (SiLU)
        and no encoding: with both, held-out cameras' walls erred five times as much
        (tests/renderer/test_fit_background.py).

        Args:
            origins: (r, 3) box units, from the centre of the box.
            directions: (r, 3) unit vectors.
        """
        if self.behind is None:
            return torch.ones_like(directions)
        stand = functional.normalize(origins, dim=1)
        across = torch.linalg.cross(stand.new_tensor([0.0, 1.0, 0.0]).expand_as(stand), stand)
        beside = functional.normalize(across, dim=1)
        above = torch.linalg.cross(stand, beside)
        past = PASSING * torch.stack([(directions * beside).sum(1), (directions * above).sum(1)], 1)
        return torch.sigmoid(self.behind(torch.cat([stand, past, past * past], 1)))
