"""From trained networks to a model folder: shape prior, measured uncertainties, exported graphs, provenance."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.expressions import pack_basis
from inference.manifest import Provenance
from inference.model_store import GraphFile, ModelFiles, ModelParts, save_model
from inference.tempeh.export import export_graphs, graph_specs
from inference.tempeh.layout import COMPONENTS, chosen_vertices, head_points, pack_constants, template_mm
from inference.tempeh.shape import ShapePrior, learn_prior
from inference.training.dataset import Corpus
from inference.training.expressions import learn_expressions
from inference.training.tasks import HeadTask, LocaliserTask

PRIOR_HEADS = 3000
"""Heads that the shape prior is learned from: its 128 components change by less than 1 % beyond."""
MEASURED_SETS = 48
"""Held-out sets on which the uncertainties are measured."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Everything that training leaves behind."""

    localiser: Mapping[str, Tensor]
    """State of `Localiser`."""
    head: Mapping[str, Tensor]
    """State of `HeadNet`."""


def prior_of(corpus: Corpus) -> ShapePrior:
    """Learn the shape prior from the true heads of a corpus, evenly over its sets."""
    chosen = np.unique(np.linspace(0, corpus.sets - 1, PRIOR_HEADS).astype(int))
    return learn_prior(corpus.heads()[chosen], COMPONENTS)


def measure_sigmas(localiser: LocaliserTask, head: HeadTask) -> tuple[float, float]:
    """Standard deviations of a landmark's and a control's coordinate, on the tasks' (held-out) corpora, mm."""
    result = []
    for task in (localiser, head):
        rng, squares = np.random.default_rng(0), []
        task.model.eval()
        for index in range(min(MEASURED_SETS, task.corpus.sets)):
            batch = {name: torch.from_numpy(array)[None] for name, array in task.sample(index, rng).items()}
            with torch.no_grad():
                if isinstance(task, LocaliserTask):
                    error = task.model(batch["thumbs"], batch["grid"], batch["weight"]) - batch["landmarks"]
                else:
                    net = task.model
                    features = net.features(batch["crops"][0])[None]
                    error = net.coarse(features, batch["grid"], batch["weight"]) - batch["controls"]
            squares.append(float((error**2).mean()))
        result.append(float(np.sqrt(np.median(squares))))
    return result[0], result[1]


def assemble(
    trained: Trained,
    corpus: Corpus,
    held_out: Corpus,
    *,
    name: str,
    folder: Path,
    max_views: int,
    provenance: Provenance,
) -> ModelFiles:
    """Write a model folder.

    Args:
        trained: states of the networks.
        corpus: what they were trained on; the shape prior comes from it.
        held_out: sets that they never saw; the uncertainties are measured on it.
        name: of the model.
        folder: where; replaced if it exists.
        max_views: picture slots of the graphs.
        provenance: for the manifest.

    Raises:
        ModelError: the folder cannot be written.
    """
    topology = corpus.topology
    landmarks, controls, _ = chosen_vertices(topology)
    localiser = LocaliserTask(held_out, landmarks)
    head = HeadTask(held_out, head_points(template_mm(topology)), controls)
    localiser.model.load_state_dict(trained.localiser)
    head.model.load_state_dict(trained.head)
    sigmas = measure_sigmas(localiser, head)
    constants: dict[str, Any] = pack_constants(prior_of(corpus), *sigmas)
    expressions = learn_expressions(corpus)
    if expressions is not None:
        constants |= pack_basis(expressions)
    specs = graph_specs(localiser.model, head.model.features, head.model.coarse, max_views)
    with tempfile.TemporaryDirectory() as work:
        export_graphs(specs, Path(work))
        parts = ModelParts(
            name=name,
            width=corpus.size[0],
            height=corpus.size[1],
            max_views=max_views,
            topology=topology,
            constants=constants,
            vertex_axes={"mean": 0, "basis_q": 0},
            graphs={key: GraphFile(Path(work) / f"{key}.onnx", spec.precision) for key, spec in specs.items()},
            provenance=provenance,
        )
        return save_model(folder, parts, overwrite=True)
