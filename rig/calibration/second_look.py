"""Lens models again, with all cameras at once: several can tell what one cannot from a turn of its axis. Pure."""

from collections.abc import Mapping

import numpy as np

from rig.calibration.bundle import Corners, Free, Solution, covariance
from rig.calibration.lens import LENSES, PARAMETERS, free_parameters
from streamer.types import F64

TANGENTIAL = "k1k2p1p2"
"""The simplest model with tangential coefficients."""
FACTOR = 2.0
"""Standard deviations are this much larger than those of independent corners; see `bundle.covariance`."""
GAIN = 2.0
"""Squared standard deviations by which each coefficient that a model leaves out may be off (Akaike's criterion)."""


def with_tangential(alone: Mapping[str, str]) -> dict[str, str]:
    """Return camera to lens model, the tangential coefficients added where they are missing."""
    ladder = list(LENSES)
    return {name: max(lens, TANGENTIAL, key=ladder.index) for name, lens in alone.items()}


def choose_again(
    points: F64, corners: Corners, free: Free, solution: Solution, alone: Mapping[str, str]
) -> dict[str, str]:
    """Choose by what the whole rig tells whether a camera's tangential coefficients are needed.

    A tangential coefficient of 3e-4 moves the optical axis of a camera that leaves it out by 2 px, and turns it by 0.04
    degrees, without errors in its own pictures that would show it. Other cameras see the same boards, and tell.

    Args:
        points: (N, 3) corners of the board, metres.
        corners: what was seen, wrong corners out.
        free: what was free in `solution`.
        solution: the rig with the lens models of `with_tangential`.
        alone: camera, in rig order, to the model that its own pictures ask for; a simpler one is never chosen.

    Returns:
        Camera to the simplest model whose missing coefficients differ from zero by no more than chance.
    """
    spread = covariance(points, corners, free, solution) * FACTOR**2
    chosen = {}
    for index, (name, least) in enumerate(alone.items()):
        at = slice(15 * index, 15 * index + len(PARAMETERS))
        values, fitted = solution.intrinsics[index], free.intrinsics[index]
        for lens in list(LENSES)[list(LENSES).index(least) :]:
            out = np.flatnonzero(fitted & ~free_parameters(lens))
            away = values[out] @ np.linalg.solve(spread[at, at][np.ix_(out, out)], values[out])
            if away <= GAIN * len(out):
                chosen[name] = lens
                break
    return chosen
