"""A run that is done, opened again to be looked at."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from renderer.fitter.fit import Fit
from renderer.fitter.presets import preset_of
from renderer.fitter.run import MANIFEST, Task, open_fit
from streamer.errors import ConfigError, FitError

SCHEMA = 1


@dataclass(frozen=True)
class Finished:
    """A fitted take."""

    folder: Path
    """Of the run."""
    fit: Fit
    """Trained to its end."""
    manifest: dict[str, Any]
    """What `field.json` says."""


def open_finished(folder: Path, device: torch.device | None = None) -> Finished:
    """Open a run.

    Args:
        folder: of the run.
        device: where to render; default: a GPU if there is one.

    Raises:
        FitError: the run is not done, was made by another version, or is damaged.
        TakeError: its take has gone.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FitError(f"{folder} holds no finished fit; run: mien fit work --once")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        schema = manifest["schema"]
        flat = dict(_flatten(manifest["preset"]))
        name = flat.pop("name")
    except (ValueError, KeyError, TypeError) as error:
        raise FitError(f"{path} is damaged ({error}); fit the take again") from error
    if schema != SCHEMA:
        raise FitError(f"{path} has schema {schema}, this version reads {SCHEMA}; fit the take again")
    try:
        preset = preset_of(name, flat)
    except ConfigError as error:
        raise FitError(f"{path} was written by another version ({error}); fit the take again") from error
    first, last = manifest["frames"]
    task = Task(
        Path(manifest["take"]), preset, (first, last), tuple(manifest["hold_out"]), manifest["mesh_channel"]
    )  # fmt: skip
    where = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fit = open_fit(task, folder, where, lambda done, total: None)
    if fit.step != manifest["steps"]:
        raise FitError(f"{folder} lacks its last checkpoint {manifest['checkpoint']}; fit the take again")
    return Finished(folder, fit, manifest)


def _flatten(node: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        found += _flatten(value, f"{before}{key}.") if isinstance(value, dict) else [(before + key, value)]
    return found
