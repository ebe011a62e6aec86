"""Close-ups of a model: `mien train --close-ups MODEL` runs it on takes and learns what its eyes and mouths lack."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.manifest import Provenance
from inference.model_store import ModelFiles, load_model
from inference.tempeh import frames
from inference.tempeh.close_up_net import MOVES, SHAPES, CloseUpNet
from inference.tempeh.close_ups import VIEW_FIGURES, close_ups_of
from inference.tempeh.export import GraphSpec
from inference.training.cli import commit_here, reporter, shell_command
from inference.training.close_ups import Seen, joined, look_closer
from inference.training.extend import extend_model
from inference.training.loop import Plan, train
from inference.training.samples import choose_views, recoloured
from inference.training.tasks import Batch
from streamer.errors import TakeError
from streamer.progress import progress
from streamer.types import F32

BATCH = 48
"""Close-ups a step."""
FEWEST, MOST = 3, 6
"""Views that a sample shows."""
LIVELY = 4.0
"""A vertex that moves most in its patch counts this much more than one that never does."""


class CloseUpTask:
    """One kind of close-up: the weighted distance of the moved vertices from the true ones.

    Args:
        name: of the graph.
        corpus: what it learns from.
    """

    def __init__(self, name: str, corpus: Seen) -> None:
        """Make the network, beginning with the main components of shapes and of what they lack."""
        self.name, self.corpus = name, corpus
        height, width = corpus.patches.shape[2:4]
        liveliness = corpus.true.std(0).max(1)
        weight = corpus.share * (1 + LIVELY * liveliness / liveliness.max())
        self._weight = torch.from_numpy((weight / weight.sum()).astype(np.float32))
        self.model = CloseUpNet((width, height), len(weight))
        shapes = _components(corpus.near, weight, SHAPES)
        moves = _components(corpus.true - corpus.near, weight, MOVES)
        self.model.begin_with(shapes.mean, shapes.read, moves.mean, moves.write)

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """Some views of a close-up, each under a light of its own."""
        corpus = self.corpus
        chosen = choose_views(rng, corpus.patches.shape[1], MOST)
        hidden = rng.permutation(MOST)[: MOST - int(rng.integers(FEWEST, MOST + 1))]
        present = corpus.present[index, chosen].copy()
        if present.sum() - present[hidden].sum() >= 1:
            present[hidden] = 0
        shown = np.stack([recoloured(patch, rng) for patch in corpus.patches[index, chosen]])
        return {
            "patches": frames.standardise(shown) * present[:, None, None, None],
            "seen": corpus.figures[index, chosen],
            "present": present,
            "near": corpus.near[index],
            "true": corpus.true[index],
        }

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Mean distance in mm."""
        inputs = [batch[name] for name in ("patches", "seen", "present", "near")]
        found = batch["near"] + self.model(*inputs).float()
        distance = ((found - batch["true"]).norm(dim=-1) * self._weight).sum(-1).mean()
        return distance, {f"{self.name}_mm": distance.item()}


@dataclass(frozen=True, slots=True)
class _Components:
    """Main components of vertices, weighted."""

    mean: Tensor
    """(3 R,)."""
    read: Tensor
    """(K, 3 R) from vertices less their mean to components in standard deviations."""
    write: Tensor
    """(3 R, K) back."""


def _components(points: F32, weight: F32, count: int) -> _Components:
    """Principal components of (S, R, 3) points under weights (R,); S >= count."""
    root = np.repeat(np.sqrt(np.maximum(weight, 1e-3)), 3)
    chosen = points[np.unique(np.linspace(0, len(points) - 1, 3000).astype(int))].reshape(-1, len(root))
    mean = points.mean(0).reshape(-1)
    flat = ((chosen - mean) * root).astype(np.float32)
    values, vectors = np.linalg.eigh((flat @ flat.T / len(flat)).astype(np.float64))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    deviation = np.sqrt(np.maximum(values, 1e-9))[:, None]
    directions = (flat.T @ vectors).T / (deviation * np.sqrt(len(flat)))
    found = (directions / deviation * root, directions * deviation / root)
    read, write = (torch.from_numpy(rows.astype(np.float32)) for rows in found)
    return _Components(torch.from_numpy(mean.astype(np.float32)), read, write.T)


@dataclass(frozen=True, slots=True)
class CloseUpOptions:
    """What `mien train --close-ups` was asked for."""

    takes: tuple[Path, ...]
    model: str
    out: Path
    name: str
    iterations: int
    rate: float
    seed: int = 1
    threads: int = 1
    start: Path | None = None


def train_close_ups(options: CloseUpOptions, *, quiet: bool = False) -> ModelFiles:
    """Train both kinds, and write the model with them.

    Raises:
        TakeError: the takes cannot be trained on.
        ModelError: there is no such model, or it cannot have close-ups; the loss is not finite; a checkpoint belongs
            to another plan.
    """
    model = load_model(options.model)
    torch.set_num_threads(options.threads)
    with progress("looking closer", quiet=quiet) as advance:
        corpus = look_closer(options.takes, model, advance)
    return learn_close_ups(options, model, corpus, quiet=quiet)


def learn_close_ups(
    options: CloseUpOptions, model: ModelFiles, corpus: Mapping[str, Seen], *, quiet: bool = False
) -> ModelFiles:
    """As `train_close_ups`, from close-ups that are there."""
    fewest = min(seen.sets for seen in corpus.values())
    if fewest < MOVES:
        raise TakeError(f"{fewest} heads are too few to learn from: {MOVES} components are looked for; give more takes")
    torch.manual_seed(options.seed)
    plan = Plan(options.iterations, BATCH, rate=options.rate, seed=options.seed, bf16=False)
    nets: dict[str, CloseUpNet] = {}
    for name, seen in corpus.items():
        task = CloseUpTask(name, joined([seen, seen.mirrored()]) if name == "mouth" else seen)
        with progress(f"training the {name}", quiet=quiet) as advance:
            train(task, plan, options.out, reporter(task, plan, advance, quiet), options.start)
        nets[name] = task.model
    samples = len(nets) * plan.iterations * plan.batch
    provenance = Provenance(shell_command(), options.seed, commit_here(), samples, {})
    return join_close_ups(model, nets, name=options.name, folder=options.out / "model", provenance=provenance)


def join_close_ups(
    model: ModelFiles, nets: Mapping[str, CloseUpNet], *, name: str, folder: Path, provenance: Provenance
) -> ModelFiles:
    """Write a model with close-ups.

    Args:
        model: what they were learned for.
        nets: by graph name.
        name: of the new model.
        folder: where; replaced if it exists.
        provenance: for the manifest; the model's command and samples are put before it.

    Raises:
        ModelError: the folder cannot be written.
    """
    specs = {}
    for graph, group in close_ups_of(model.topology).items():
        count, views, (width, height) = len(group), model.max_views, group[0].lens.size
        inputs = {
            "patches": (count, views, 3, height, width),
            "seen": (count, views, VIEW_FIGURES),
            "present": (views,),
            "near": (count, len(group[0].region), 3),
        }
        specs[graph] = GraphSpec(nets[graph], inputs, "moved", "net")
    return extend_model(model, specs, name=name, folder=folder, provenance=provenance)
