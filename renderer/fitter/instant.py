"""The field at one instant, made ready for many rays: what belongs to the instant alone is worked out once.

The tables of the ensemble are blended, and the way to the canonical head (the motion of the meshes and the deformation
network after it) is tabulated at the nodes of a grid around what is occupied. A sample then costs one reading of each,
nearly as in a field that stands still. Motion is smooth, colour and density are not: only motion is tabulated.
"""

import torch
from torch import Tensor
from torch.nn import functional

from renderer.fitter.field import Opening, RadianceField, sample_volume

NODES_PER_CELL = 2
"""Nodes along an edge of an occupied cell. Pictures of the `preview` preset then differ from those without a table by
55 dB, two orders of magnitude less than from the truth; with one node by 47 dB, with three by 60 at three times the
cost."""


class Instant:
    """One time step of a field that no longer changes.

    Args:
        field: the field; all is as it was when this was made.
        step: time step.
        opening: how far coarse-to-fine has come.
        occupied: (cells, cells, cells) bool, x first: where points will be asked for.
    """

    def __init__(self, field: RadianceField, step: int, opening: Opening, occupied: Tensor) -> None:
        """Blend and tabulate."""
        self._field = field
        ensemble = field.ensemble
        with torch.no_grad():
            self._table = ensemble.blended([step], opening.tables)[0]
            self._motion = self._tabulated(step, opening, occupied) if field.moves else None

    def _tabulated(self, step: int, opening: Opening, occupied: Tensor) -> Tensor:
        """Return the (1, 3, Z, Y, X) displacements to the canonical head, box units; zero far from what is occupied."""
        nodes = occupied.shape[0] * NODES_PER_CELL
        near = occupied[None, None].float()
        for axis in (2, 3, 4):
            near = near.repeat_interleave(NODES_PER_CELL, axis)
        index = functional.max_pool3d(near, 3, 1, 1)[0, 0].nonzero()
        points = (index.float() + 0.5) / nodes
        moved = self._field.canonical(points, [step], [len(points)], opening) - points
        volume = moved.new_zeros(3, nodes, nodes, nodes)
        volume[:, index[:, 2], index[:, 1], index[:, 0]] = moved.T
        return volume[None]

    def canonical(self, points: Tensor) -> Tensor:
        """Move (n, 3) points, in or beside occupied cells, into the canonical head; box units."""
        return points if self._motion is None else points + sample_volume(self._motion, points)

    def density(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the density per metre at (n, 3) points, (n,), and (n, GEOMETRY) what colour is made of."""
        ensemble, place = self._field.ensemble, self.canonical(points)
        read = ensemble.lookup(self._table, place, ensemble.shape).flatten(1)
        return self._field.solid(read, place)
