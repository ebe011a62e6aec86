"""A fit on disk: tensors in one safetensors file, the rest as JSON in its header. Nothing in it can run code."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from renderer.fitter.fit import Fit
from renderer.fitter.identity import digest
from streamer.errors import FitError

FORMAT = 5
PATTERN = "checkpoint-*.safetensors"
KEPT = 2
"""Checkpoints that stay; older ones go when a new one is whole."""


def _path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:08d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(folder.glob(PATTERN))


def steps_in(folder: Path) -> int:
    """Return the steps of a run's newest checkpoint, 0 without one; no file is read."""
    numbers = [path.stem.partition("-")[2] for path in checkpoints(folder)]
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def _tensors(fit: Fit) -> dict[str, Tensor]:
    found = {f"field.{name}": value.detach() for name, value in fit.field.named_parameters()}
    names = {id(value): name for name, value in fit.field.named_parameters()}
    for parameter, state in fit.optimiser.state.items():
        for key in ("exp_avg", "exp_avg_sq", "step"):
            found[f"adam.{key}.{names[id(parameter)]}"] = state[key]
    found["occupancy.values"] = fit.occupancy.values
    found["occupancy.occupied"] = fit.occupancy.occupied.to(torch.uint8)
    return {name: value.contiguous().cpu() for name, value in found.items()}


def fingerprint(fit: Fit) -> dict[str, Any]:
    """Return what a checkpoint and the fit that loads it must share: recipe, instants, cameras, what they saw.

    The samples of a step are not among it: after a lack of memory a fit goes on with fewer.
    """
    recipe = {name: value for name, value in dataclasses.asdict(fit.preset).items() if name != "samples"}
    return {
        "preset": recipe,
        "frame_ids": list(fit.footage.frame_ids),
        "cameras": [camera.id for camera in fit.footage.cameras],
        "box": dataclasses.asdict(fit.box),
        "footage": digest(fit.footage),
    }


def save(fit: Fit, folder: Path) -> Path:
    """Write a checkpoint whole or not at all, and drop all but the newest `KEPT`.

    Raises:
        OSError: the disk is full or not writable; older checkpoints are untouched.
    """
    kept = {
        "step": fit.step,
        "rays": fit.rays,
        "rate_scale": fit.rate_scale,
        "rng": fit.rng.bit_generator.state,
    }
    header = {"format": str(FORMAT), "fit": json.dumps(fingerprint(fit)), "state": json.dumps(kept)}
    path = _path(folder, fit.step)
    part = path.with_suffix(".part")
    try:
        save_file(_tensors(fit), part, header)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error}") from error
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def load(fit: Fit, path: Path) -> None:
    """Continue a fit from where a checkpoint left it; the next step is bit for bit what it would have been.

    Args:
        fit: made with the same footage and preset.
        path: the checkpoint.

    Raises:
        FitError: it is damaged, of another format, or of another fit. The fit is then unchanged.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise FitError(f"{path} is damaged ({error}); delete it to go on from the one before") from error
    if header.get("format") != str(FORMAT):
        raise FitError(f"{path} has format {header.get('format')}, this version writes {FORMAT}; fit again")
    theirs, ours = json.loads(header["fit"]), json.loads(json.dumps(fingerprint(fit)))
    other = [name for name in ours if theirs.get(name) != ours[name]]
    if other == ["footage"]:
        raise FitError(f"{path} is of other pictures, mattes or meshes than the take has now; add the take again")
    if other:
        raise FitError(f"{path} is of another take or preset (other: {', '.join(other)}); use an empty folder")
    expected = {f"field.{name}": value for name, value in fit.field.named_parameters()}
    wrong = [name for name, value in expected.items() if name not in tensors or tensors[name].shape != value.shape]
    if wrong or tensors.get("occupancy.values", torch.empty(0)).shape != fit.occupancy.values.shape:
        raise FitError(f"{path} lacks {(wrong or ['occupancy'])[0]}; it is of another version, fit again")
    state = json.loads(header["state"])
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(tensors[name])
    fit.optimiser.state.clear()
    for name, value in fit.field.named_parameters():
        if f"adam.step.{name}" in tensors:
            fit.optimiser.state[value] = {
                key: tensors[f"adam.{key}.{name}"].to(value.device)  # a fused Adam counts its steps there as well
                for key in ("exp_avg", "exp_avg_sq", "step")
            }
    fit.occupancy.values.copy_(tensors["occupancy.values"])
    fit.occupancy.occupied.copy_(tensors["occupancy.occupied"].bool())
    fit.step, fit.rays, fit.rate_scale = int(state["step"]), int(state["rays"]), float(state["rate_scale"])
    fit.rng.bit_generator.state = state["rng"]
