"""Official checkpoints: a `.pth` of the release to weights under our names, every key consumed or explained.

Nothing of a checkpoint is executed: `torch.load` reads tensors only, and a file that needs more is refused.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.tempeh.published.keys import official_name, official_shapes, our_names
from inference.tempeh.published.sizes import PublishedSizes
from streamer.errors import ModelError

NAMED = 12
"""Keys that a message names; of more it tells the number."""
OTHER = {"coarse": "refine", "refine": "coarse"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights of one stage."""

    stage: str
    """`coarse` or `refine`."""
    weights: Mapping[str, NDArray[Any]]
    """Our name to array."""
    explained: Mapping[str, str]
    """What else the file holds, and why it is left out."""


def read_checkpoint(path: Path, stage: str, sizes: PublishedSizes) -> Checkpoint:
    """Read an official checkpoint.

    Args:
        path: a `.pth` with the state dict under `model`, as released, or a state dict alone.
        stage: `coarse` or `refine`.
        sizes: of the network that it must be.

    Raises:
        ModelError: the file cannot be read without running code from it; keys are missing, extra, of another shape or
            type; weights are not finite. All that is wrong is in one message.
    """
    loaded = _load(path)
    explained: dict[str, str] = {}
    if isinstance(loaded.get("model"), Mapping):
        explained = {
            key: "state of the optimiser, for training on" if key.startswith("optimizer") else "not of the network"
            for key in map(str, loaded)
            if key != "model"
        }
        loaded = loaded["model"]
    state = {str(key): value for key, value in loaded.items()}
    problems = _problems(state, stage, sizes)
    if problems:
        hint = ""
        if not _problems(state, OTHER[stage], sizes):
            hint = f"; it is a checkpoint of the other stage ({OTHER[stage]})"
        raise ModelError(f"{path}: not a checkpoint of the {stage} stage{hint}: {'; '.join(problems)}")
    names = our_names(sizes, stage)
    return Checkpoint(stage, {names[key]: value.numpy() for key, value in state.items()}, explained)


def _load(path: Path) -> dict[Any, Any]:
    try:
        # a zip is mapped, not read: the optimiser's state in it is twice the size of the weights
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path}: not a checkpoint of plain tensors, and nothing in it is ever run ({first[:200]}); if you trust "
            "its origin, save its state dict again with torch.save"
        ) from error
    if not isinstance(loaded, dict):
        raise ModelError(f"{path}: holds a {type(loaded).__name__}, not a state dict")
    return loaded


def _problems(state: Mapping[str, Any], stage: str, sizes: PublishedSizes) -> list[str]:
    """All that keeps a state dict from being this stage."""
    expected = official_shapes(sizes, stage)
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    shapes, types, values = [], [], []
    for key, (shape, dtype) in expected.items():
        if key not in tensors:
            continue
        value = tensors[key]
        if tuple(value.shape) != shape:
            shapes.append(f"{key} is {tuple(value.shape)}, expected {shape}")
        elif value.dtype != dtype:
            types.append(f"{key} is {value.dtype}, expected {dtype}")
        elif value.is_floating_point() and not bool(torch.isfinite(value).all()):
            values.append(key)
        elif key.endswith("running_var") and bool((value < 0).any()):
            values.append(f"{key} (a negative variance)")
    return [
        *_some("missing", [key for key in expected if key not in tensors]),
        *_some("extra", [key for key in state if key not in expected]),
        *_some("of another shape", shapes),
        *_some("of another type", types),
        *_some("not finite", values),
    ]


def _some(what: str, keys: Sequence[str]) -> list[str]:
    if not keys:
        return []
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return [f"{len(keys)} {what}: {', '.join(keys[:NAMED])}{more}"]


def official_checkpoint(weights: Mapping[str, Tensor], stage: str) -> dict[str, dict[str, Tensor]]:
    """What the release's code would save and load: our state dict under the official names, below `model`."""
    return {"model": {official_name(name, stage): value for name, value in weights.items()}}
