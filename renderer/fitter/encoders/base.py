"""The contract of lookups, and the choice of one."""

from typing import Protocol

from torch import Tensor, device

from renderer.fitter.grids import GridShape
from renderer.fitter.presets import EncoderName
from streamer.errors import MissingExtra


class Lookup(Protocol):
    """Trilinear reading of all levels; differentiable in the table and in the points."""

    name: str
    """As in the configuration."""

    def __call__(self, table: Tensor, points: Tensor, shape: GridShape) -> Tensor:
        """Look points up.

        Args:
            table: (shape.total_rows, C) float32 rows; an ensemble side by side has C of several times `shape.features`.
            points: (n, 3) float32 in [0, 1]; outside they are taken as at the face of the cube, without a gradient.
            shape: where each level's rows lie.

        Returns:
            (n, levels, C) float32.
        """


def choose_lookup(name: EncoderName, where: device) -> Lookup:
    """Return the lookup of this name; `auto` is numba on the CPU and torch elsewhere.

    Raises:
        MissingExtra: numba is not installed.
    """
    from renderer.fitter.encoders.torch_lookup import TorchLookup

    if name == "torch" or (name == "auto" and where.type != "cpu"):
        return TorchLookup()
    try:
        from renderer.fitter.encoders.numba_lookup import NumbaLookup
    except ImportError as error:
        raise MissingExtra("numba", "fit") from error
    return NumbaLookup()
