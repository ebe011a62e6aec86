"""`full`: the published network at its released size with seeded weights, for whoever has not got the official ones.

It is as costly as the official network and as hard to get right (heat maps of few voxels), but knows no heads: a thing
to measure with. Made once, with torch, and kept in the cache.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull  # type: ignore[import-untyped]

from inference.cache import cache_folder
from inference.manifest import Provenance
from inference.model_store import ModelFiles, load_model, save_model
from inference.tempeh.frames import MM
from inference.tempeh.published.sizes import FULL, PublishedSizes
from inference.tempeh.published.store import published_parts
from inference.tempeh.published.weights import initial_coarse, initial_refine, stir
from streamer.types import F32, I32, Topology

COARSE_PEAK, REFINE_PEAK = 400.0, 100.0
"""Factors on the output layers: with them one to a few voxels decide about each vertex."""
VERSION = 1
"""Counts changes of what is made."""


def round_head(vertices: int) -> tuple[F32, I32]:
    """A closed mesh like a head: vertices (N, 3) mm on a spiral, and triangles counter-clockwise from outside."""
    k = np.arange(vertices) + 0.5
    polar, turn = np.arccos(1 - 2 * k / vertices), np.pi * (1 + 5**0.5) * k
    sphere = np.stack([np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)], 1)
    triangles = ConvexHull(sphere).simplices.astype(np.int32)
    a, b, c = (sphere[triangles[:, i]] for i in range(3))
    inward = np.einsum("ti,ti->t", np.cross(b - a, c - a), a) < 0
    triangles[inward] = triangles[inward][:, ::-1]
    points = sphere * [75.0, 110.0, 95.0] + [0.0, -50.0, 0.0]
    return points.astype(np.float32), triangles


def seeded_model(sizes: PublishedSizes = FULL, folder: Path | None = None) -> ModelFiles:
    """Return the model, making it at its first use.

    Args:
        sizes: of the network.
        folder: where it lies; None: in the cache.

    Raises:
        ModelError: it cannot be written.
    """
    folder = folder or cache_folder() / f"full-seeded-{VERSION}"
    if not (folder / "model.toml").is_file():
        template, triangles = round_head(sizes.vertices)
        topology = Topology(
            name="round-head",
            triangles=triangles,
            uv=np.zeros((1, 2), np.float32),
            uv_triangles=np.zeros_like(triangles),
            template=np.asarray(template / np.float32(MM)),
        )
        coarse = initial_coarse(sizes, seed=1, quirks=True)
        stir(coarse, seed=2, peak=COARSE_PEAK)
        refine = initial_refine(sizes, template, triangles, seed=3, quirks=True)
        stir(refine, seed=4, peak=REFINE_PEAK)
        weights = {
            name: {key: value.numpy() for key, value in stage.state_dict().items()}
            for name, stage in (("coarse", coarse), ("refine", refine))
        }
        command = "mien bench model full"
        parts = published_parts("full", topology, sizes, weights, Provenance(command, 1), quirks=True)
        save_model(folder, replace(parts, name="full"), overwrite=True)
    return load_model(folder)
