"""The expression basis of a model, learned from takes whose true meshes come with their weights.

Two moments of one person differ by the difference of their weights times the units, whoever it is: linear least squares
over such pairs gives the units, and what is left of every head without its expression gives the identities.
"""

import numpy as np
from numpy.typing import NDArray

from inference.expressions import ExpressionBasis
from inference.tempeh.shape import learn_prior, spread
from inference.training.dataset import Corpus
from streamer.errors import TakeError
from streamer.types import F32, I32, Topology

IDENTITY_COMPONENTS = 64
"""Components of neutral heads."""
EVEN, MOVERS = 300, 8
"""Vertices of a basis: so many spread over the face, and the so many that each unit moves most."""
MOST_HEADS = 2000
"""Heads that identities are learned from, evenly over the corpus."""


def learn_expressions(corpus: Corpus) -> ExpressionBasis | None:
    """Learn units and identities; None if the takes hold no weights.

    Raises:
        TakeError: fewer pairs of one person than units.
    """
    count = corpus.weights.shape[1]
    if not count:
        return None
    first = np.flatnonzero((corpus.camera_from_world[1:] == corpus.camera_from_world[:-1]).all((1, 2, 3)))
    if len(first) <= count:
        raise TakeError(
            f"{len(first)} pairs of moments of one person are too few for {count} expression units; simulate takes of "
            "two or more frames"
        )
    heads = corpus.heads()
    chosen = first[np.unique(np.linspace(0, len(first) - 1, MOST_HEADS).astype(int))]
    moved = (heads[chosen + 1] - heads[chosen]).reshape(len(chosen), -1)
    turned = corpus.weights[chosen + 1] - corpus.weights[chosen]
    # units that never move (a tongue behind closed lips) come out as zero
    units = np.linalg.lstsq(turned, moved, rcond=1e-4)[0].reshape(count, -1, 3).astype(np.float32)
    neutral = heads[chosen] - np.tensordot(corpus.weights[chosen], units, 1)
    people = learn_prior(neutral, min(IDENTITY_COMPONENTS, len(chosen) - 1))
    at = chosen_for_expressions(corpus.topology, units)
    return ExpressionBasis(at, people.mean[at], np.ascontiguousarray(units[:, at]), people.basis[at])


def chosen_for_expressions(topology: Topology, units: F32) -> I32:
    """Vertices (M,) that weights are read from: spread over the face, and those that the units (U, N, 3) move most."""
    face: NDArray[np.int32] = topology.regions.get("face", topology.regions["head"])
    tip = int(face[topology.template[face, 2].argmax()])
    reach = np.linalg.norm(units, axis=2)
    most = [np.argsort(row)[-MOVERS:] for row in reach if row.max() > 0]
    return np.unique(np.concatenate([spread(topology.template, min(EVEN, len(face)), tip, face), *most])).astype(
        np.int32
    )
