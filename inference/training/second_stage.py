"""The second stage of a model: `mien train --second-stage MODEL` trains its map and joins it to the first stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inference.manifest import Provenance
from inference.model_store import ModelFiles, load_model
from inference.tempeh.close_ups import GRAPHS
from inference.tempeh.detail import DetailNet, begin_with_live
from inference.tempeh.export import detail_spec
from inference.training.cli import commit_here, reporter, shell_command
from inference.training.dataset import read_corpus
from inference.training.extend import extend_model
from inference.training.loop import Plan, read_checkpoint, train
from inference.training.tasks import DetailTask
from streamer.errors import ModelError
from streamer.progress import progress

BATCH = 4
"""Sets of four views a step."""


@dataclass(frozen=True, slots=True)
class SecondStageOptions:
    """What `mien train --second-stage` was asked for."""

    takes: tuple[Path, ...]
    first: str
    out: Path
    name: str
    iterations: int
    rate: float
    seed: int = 1
    threads: int = 1
    bf16: bool = True
    start: Path | None = None


def train_second_stage(options: SecondStageOptions, *, quiet: bool = False) -> ModelFiles:
    """Train the map of large crops, and write a model of both stages.

    Raises:
        TakeError: the takes cannot be trained on.
        ModelError: there is no such first stage; the loss is not finite; a checkpoint belongs to another plan.
    """
    first = load_model(options.first)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    with progress("reading takes", quiet=quiet) as advance:
        corpus = read_corpus(options.takes, advance)
    if corpus.topology.id != first.topology.id:
        raise ModelError(f"the takes' topology is not that of model '{first.name}'; train on takes of one topology")
    task = DetailTask(corpus)
    start = options.start
    if start is not None and not (start / "detail.checkpoint.pt").exists():
        _begin_with_features(task.model, start / "head.checkpoint.pt")
        start = None
    plan = Plan(options.iterations, BATCH, rate=options.rate, seed=options.seed, bf16=options.bf16, every=100)
    with progress("training the second stage", quiet=quiet) as advance:
        state = train(task, plan, options.out, reporter(task, plan, advance, quiet), start)
    provenance = Provenance(shell_command(), options.seed, commit_here(), plan.iterations * plan.batch, {})
    return join_stages(first, state, name=options.name, folder=options.out / "model", provenance=provenance)


def _begin_with_features(net: DetailNet, path: Path) -> None:
    """Begin with the feature net of a head training.

    Raises:
        ModelError: that is no checkpoint of one.
    """
    state = read_checkpoint(path).get("average", {})
    features = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    try:
        begin_with_live(net, features)
    except RuntimeError as error:
        raise ModelError(f"{path}: holds no feature net to begin the second stage with: {error}") from error


def join_stages(
    first: ModelFiles, detail: Mapping[str, Tensor], *, name: str, folder: Path, provenance: Provenance
) -> ModelFiles:
    """Write a model of two stages.

    Args:
        first: a live model.
        detail: state of `DetailNet`.
        name: of the new model.
        folder: where; replaced if it exists.
        provenance: for the manifest; the first stage's command and samples are put before it.

    Raises:
        ModelError: the folder cannot be written.
    """
    net = DetailNet()
    net.load_state_dict(dict(detail))
    specs = {"detail": detail_spec(net, first.max_views)}
    # close-ups know where the model errs that they were learned for, and the two stages err elsewhere
    return extend_model(first, specs, name=name, folder=folder, provenance=provenance, scale=2, without=GRAPHS)
