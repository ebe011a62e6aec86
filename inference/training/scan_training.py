"""`mien train --network published`: raw scans in, both stages of a published network out, as the paper trains them.

1. coarse stage, first share: vertices of registrations alone; 2. the rest: raw surface, edges and eyeballs; 3. coarse
meshes of all scans by that stage, which learns no more; 4. refinement stage from those meshes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.manifest import Provenance
from inference.meshes import read_mesh
from inference.model_store import save_model
from inference.tempeh.published.sizes import FULL, MEDIUM, SMALL, PublishedSizes
from inference.tempeh.published.store import mesh_topology, published_parts
from inference.training.famos import read_famos
from inference.training.loop import Plan, train
from inference.training.ranks import Ranks, joined_ranks
from inference.training.scan_corpus import ScanCorpus, centre_of, check_corpus
from inference.training.scan_readers import read_folder, read_takes
from inference.training.scan_tasks import CoarseScanTask, RefineScanTask, ScanSettings, predict_coarse
from inference.training.tasks import Task
from streamer.errors import ConfigError
from streamer.progress import progress
from streamer.types import F32, Topology

SIZES = {"small": SMALL, "medium": MEDIUM, "full": FULL}
PICTURES = {"small": (100, 75), "medium": (200, 150), "full": (200, 150)}
"""Width and height of the coarse stage's pictures; the refinement's are twice as large."""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What was asked for; the numbers of the release are 800 000 and 150 000 iterations of two scans."""

    sources: tuple[Path, ...]
    """Takes, or one folder."""
    out: Path
    """Checkpoints, curves, model folder."""
    name: str = "scans"
    """Of the model."""
    layout: str = "takes"
    """`takes`, `folder` or `famos`."""
    scans: Path | None = None
    """Raw scans beside takes; None: the true meshes of the takes."""
    registrations: Path | None = None
    """Folder that `mien register` wrote; None: the meshes of the takes."""
    scan_unit: str = "mm"
    """`mm` or `m`."""
    template: Path | None = None
    """Template mesh, metres, for folders; takes bring their topology."""
    size: str = "medium"
    """`small`, `medium` or `full`."""
    coarse_iterations: int = 20_000
    """Steps of the coarse stage."""
    refine_iterations: int = 5_000
    """Steps of the refinement."""
    batch: int = 2
    """Scans per step, over all processes."""
    min_views: int = 4
    """A sample shows at least so many views."""
    scan_points: int = 5_000
    """Points of a scan per step."""
    refined: int = 512
    """Vertices refined per step."""
    pretrain: float = 0.375
    """Share of the coarse training that learns from vertices alone."""
    rate: float = 1e-3
    """Learning rate of the plateau."""
    every: int = 200
    """Steps between reports and checkpoints."""
    seed: int = 1
    """Of weights, order and augmentation."""
    bf16: bool = True
    """Convolutions in bfloat16."""
    threads: int = 1
    """Threads of the arithmetic."""


Reporter = Callable[[str, int, int, dict[str, float]], None]
"""Stage, step, steps, figures."""


def read_scans(options: ScanOptions) -> ScanCorpus:
    """Find what is learned from.

    Raises:
        ConfigError: a folder without a template.
        TakeError, MeshError, CalibrationError: what is there cannot be learned from.
    """
    if options.layout == "takes":
        return read_takes(list(options.sources), options.scans, options.scan_unit, registrations=options.registrations)
    folder = options.sources[0]
    template = options.template or folder / "template.obj"
    if not template.exists():
        raise ConfigError(
            f"{template}: no template mesh; give --template FILE, in metres, of the registrations' topology"
        )
    topology = mesh_topology(read_mesh(template))
    if options.layout == "famos":
        return read_famos(folder, topology, quirks=False, scan_unit=options.scan_unit)
    return read_folder(folder, topology, options.scan_unit)


def check_batch(options: ScanOptions, processes: int) -> None:
    """Refuse batches whose statistics would be of one value: the coarse net shrinks a volume to a single voxel.

    Raises:
        ConfigError: there are not two scans or more for every process.
    """
    if options.batch < 2 * processes or options.batch % processes:
        raise ConfigError(
            f"--batch {options.batch} over {processes} process{'es' * (processes > 1)}: each needs 2 scans or more, "
            "all equally many"
        )


def settings_of(options: ScanOptions, corpus: ScanCorpus) -> ScanSettings:
    """Sizes for this topology and this rig's world."""
    width, height = PICTURES[options.size]
    sizes: PublishedSizes = replace(
        SIZES[options.size], vertices=corpus.topology.vertex_count, centre_mm=centre_of(corpus)
    )
    return ScanSettings(
        sizes=sizes,
        coarse_size=(width, height),
        refine_size=(2 * width, 2 * height),
        min_views=options.min_views,
        scan_points=options.scan_points,
        refined=options.refined,
        pretrain=options.pretrain,
        seed=options.seed,
    )


def train_on_scans(options: ScanOptions, report: Reporter, *, quiet: bool = False) -> dict[str, Any]:
    """Train both stages and write the model.

    Args:
        options: what was asked for.
        report: called after every `every` steps, in the first process only.
        quiet: no progress bars.

    Returns:
        `run`, `model`, `scans`, `remarks`; nothing in processes other than the first.

    Raises:
        TakeError, MeshError, CalibrationError: what is there cannot be learned from.
        ModelError: the loss is not finite, or a checkpoint belongs to another plan.
    """
    torch.set_num_threads(options.threads)
    with joined_ranks() as ranks:
        check_batch(options, ranks.count)
        first = read_scans(options)
        size = PICTURES[options.size]
        with progress("reading scans", quiet=quiet or ranks.rank > 0) as advance:
            corpus = check_corpus(first, size, advance)
        settings = settings_of(options, corpus)
        coarse = CoarseScanTask(corpus, settings)
        coarse_state = _learn(coarse, options, options.coarse_iterations, report, ranks, quiet)
        with progress("coarse meshes", quiet=quiet or ranks.rank > 0) as advance:
            meshes = predict_coarse(coarse.model, corpus, settings.coarse_size, advance)
        if ranks.rank == 0:
            keep_meshes(options.out / "coarse_meshes.npz", corpus, meshes)
        refine = RefineScanTask(corpus, settings, meshes)
        refine_state = _learn(refine, options, options.refine_iterations, report, ranks, quiet)
        if ranks.rank:
            return {}
        samples = options.batch * (options.coarse_iterations + options.refine_iterations)
        model = write_model(options, corpus, settings, {"coarse": coarse_state, "refine": refine_state}, samples)
    return {"run": str(options.out), "model": str(model), "scans": corpus.sets, "remarks": list(corpus.remarks)}


def _learn(
    task: Task, options: ScanOptions, iterations: int, report: Reporter, ranks: Ranks, quiet: bool
) -> dict[str, Tensor]:
    plan = Plan(iterations, options.batch, rate=options.rate, seed=options.seed, bf16=options.bf16, every=options.every)
    with progress(f"training the {task.name} stage", quiet=quiet or ranks.rank > 0) as advance:

        def told(iteration: int, figures: dict[str, float]) -> None:
            advance(iteration, iterations)
            report(task.name, iteration, iterations, figures)

        return train(task, plan, options.out, told, ranks=ranks)


def keep_meshes(path: Path, corpus: ScanCorpus, meshes: F32) -> None:
    """Write meshes (S, N, 3) in mm with the names of their scans."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, names=np.array([entry.name for entry in corpus.entries]), vertices_mm=meshes)


def write_model(
    options: ScanOptions, corpus: ScanCorpus, settings: ScanSettings, states: dict[str, dict[str, Tensor]], samples: int
) -> Path:
    """Write the model folder of two trained stages.

    Raises:
        ModelError: it cannot be written.
    """
    from inference.training.cli import commit_here, shell_command

    weights = {stage: {key: value.cpu().numpy() for key, value in state.items()} for stage, state in states.items()}
    made = Provenance(shell_command(), options.seed, commit_here(), samples, {})
    topology: Topology = corpus.topology
    parts = published_parts(options.name, topology, settings.sizes, weights, made, quirks=False)
    width, height = settings.refine_size
    return save_model(options.out / "model", replace(parts, width=width, height=height), overwrite=True).folder
