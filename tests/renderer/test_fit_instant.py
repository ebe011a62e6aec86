"""One instant made ready for many rays: what is tabulated is what the field says, as far as a table can."""

import pytest
import torch

from renderer.fitter import instant
from renderer.fitter.encoders.torch_lookup import TorchLookup
from renderer.fitter.field import FieldPrior, Opening, RadianceField
from renderer.fitter.grids import GridShape
from renderer.fitter.instant import Instant
from renderer.fitter.presets import FieldShape

CELLS, STEPS = 12, 3
OPEN = Opening(bands=2.0, tables=2.0)
GRID = GridShape(3, 2, 10, 4, 16)


def field_of(prior: FieldPrior | None = None, *, deforms: bool = True) -> RadianceField:
    shape = FieldShape(GRID, 2, 2 * deforms, 16, 2, 4, 16)
    torch.manual_seed(5)
    field = RadianceField(shape, STEPS, TorchLookup(), prior, published=False, box_m=0.6)
    with torch.no_grad():  # a motion of some centimetres that bends within the box
        for value in field.parameters():
            value.copy_(torch.randn(value.shape) * 0.2)
    return field


def occupied() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(CELLS, CELLS, CELLS) < 0.2


def inside(cells: torch.Tensor, count: int = 4000) -> torch.Tensor:
    """Points anywhere in occupied cells, their faces included."""
    index = cells.nonzero()
    index = index[torch.randint(len(index), (count,))]
    return (index + torch.rand(count, 3).mul(1.2).sub(0.1).clamp(0, 1)) / CELLS


@torch.no_grad()
def off(field: RadianceField, nodes: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the RMS distance of tabulated from true canonical points."""
    monkeypatch.setattr(instant, "NODES_PER_CELL", nodes)
    cells = occupied()
    points = inside(cells)
    points = points[
        ((points > 0.1) & (points < 0.9)).all(1)
    ]  # the outermost half node reads zeros from outside the box
    true = field.canonical(points, [1], [len(points)], OPEN)
    return float((Instant(field, 1, OPEN, cells).canonical(points) - true).square().sum(1).mean().sqrt())


def test_a_motion_that_is_linear_in_space_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everywhere in occupied cells, so that the nodes around them are there too."""
    centres = (torch.arange(32) + 0.5) / 32
    z, y, x = torch.meshgrid(centres, centres, centres, indexing="ij")
    motion = torch.stack([0.2 * x - 0.1 * z, 0.3 * y + 0.05, 0.1 * x + 0.2 * y]).expand(STEPS, 3, 32, 32, 32)
    field = field_of(FieldPrior(torch.zeros(1, 1, 4, 4, 4), motion), deforms=False)
    assert off(field, 2, monkeypatch) < 1e-6


def test_the_table_converges_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smooth parts of a motion to second order; where the network has a kink to first, and those are h of all: 2^1.5.

    A table that is read half a node aside is of first order and has 2.
    """
    field = field_of()
    errors = [off(field, nodes, monkeypatch) for nodes in (2, 4, 8)]
    assert errors[0] > 1e-4, "there is something to get wrong"
    assert errors[0] / errors[1] > 2.6 and errors[1] / errors[2] > 2.6


@torch.no_grad()
def test_a_field_that_stands_still_is_read_as_it_is() -> None:
    field, points = field_of(deforms=False), torch.rand(500, 3)
    density, geometry = Instant(field, 2, OPEN, occupied()).density(points)
    for found, true in zip((density, geometry), field.density(points, [2], [500], OPEN), strict=False):
        assert torch.allclose(found, true, rtol=1e-6)
    other, _ = Instant(field, 0, OPEN, occupied()).density(points)
    assert not torch.allclose(other, density, rtol=0.01), "each instant has a blend of its own"
