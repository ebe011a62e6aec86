"""Graphs of published networks: exported once, in a process of their own, and kept in the cache.

That process takes torch's memory with it, and who finds the graphs there needs no torch.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from inference.cache import cache_folder
from inference.model_store import ModelFiles, load_model, shipped_models
from streamer.errors import MissingExtra

FULL = "full"
"""Name of the released size with seeded weights, where no folder is called so."""
GRAPHS = ("coarse_features", "localise", "coarse_net", "refine_features")
"""Of `published.export.cpu_graphs`."""
VERSION = 1
"""Counts changes of the exported graphs."""

Made = TypeVar("Made")


def graphs_folder(model: ModelFiles, size: tuple[int, int] | None) -> Path:
    """Where the graphs of a published model are kept, for pictures of a size; see `prepared`."""
    width, height = size or (model.width, model.height)
    other = "" if (width, height) == (model.width, model.height) else f"-{width}x{height}"
    return cache_folder() / "graphs" / f"{model.id}-{VERSION}{other}"


def gpu_graphs_folder(model: ModelFiles, precision: str, views: int) -> Path:
    """Where the graphs of a published model for a GPU are kept; see `exported`."""
    return cache_folder() / "graphs" / f"{model.id}-gpu-{VERSION}-{views}-{precision}"


def prepared(folder: str | None, size: tuple[int, int] | None = None) -> tuple[ModelFiles, Path]:
    """Return a published model and the folder of its graphs, made in a process of their own.

    Args:
        folder: of the model; None: the seeded one.
        size: width and height of the refinement's pictures, px; None: the model's.

    Raises:
        MissingExtra: torch is not installed, and something has to be made.
        ModelError: the model cannot be read, or is no published one.
    """
    if folder is not None:
        found = load_model(Path(folder))
        if (kept := graphs_folder(found, size)).is_dir():
            return found, kept
    model, graphs = _elsewhere(_prepare, folder, size)
    return load_model(Path(model)), Path(graphs)


def exported(model: ModelFiles, precision: str, views: int) -> Path:
    """Return the folder of a published model's graphs for a GPU, made in a process of their own.

    Args:
        model: the model.
        precision: of its refinement's nets, `f32` or `f16`.
        views: cameras of the rig.

    Raises:
        MissingExtra: torch is not installed, and they have to be made.
    """
    kept = gpu_graphs_folder(model, precision, views)
    return kept if kept.is_dir() else Path(_elsewhere(_export, str(model.folder), precision, views))


def _elsewhere(work: Callable[..., Made], *arguments: Any) -> Made:
    """Call a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        try:
            return process.submit(work, *arguments).result()
        except ModuleNotFoundError as error:
            raise MissingExtra(str(error.name), "train") from error


def _export(folder: str, precision: str, views: int) -> str:
    from inference.tempeh.gpu.bench import exported_for

    return str(exported_for(load_model(Path(folder)), precision, views))


def _prepare(folder: str | None, size: tuple[int, int] | None) -> tuple[str, str]:
    from inference.tempeh.compiled.prepare import prepare

    return prepare(folder, size)


def means_seeded(name: str) -> bool:
    """Whether a name stands for the released size with seeded weights, which `prepared(None)` makes."""
    return name == FULL and FULL not in shipped_models() and not Path(FULL).exists()
