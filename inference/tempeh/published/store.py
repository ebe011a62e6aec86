"""Published networks as model folders: import of official files, and stages with their weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from inference.manifest import Provenance, PublishedEntry
from inference.meshes import SurfaceMesh, read_mesh
from inference.model_store import ModelFiles, ModelParts, save_model
from inference.published import published_entry
from inference.tempeh.frames import MM
from inference.tempeh.published.checkpoint import read_checkpoint
from inference.tempeh.published.coarse import CoarseStage
from inference.tempeh.published.refine import RefineStage
from inference.tempeh.published.sizes import FULL, PublishedSizes
from inference.tempeh.published.weights import blank_coarse, blank_refine
from inference.topology_file import read_arrays
from streamer.errors import MeshError, ModelError
from streamer.types import Topology

WIDTH, HEIGHT = 400, 300
"""Size of the refinement's pictures, px; the coarse stage takes half of it."""
VIEWS = 16
"""Cameras of the release's rig."""
HEAD_M = (0.05, 2.0)
"""Diagonal of a head template in metres."""

Stage = TypeVar("Stage", CoarseStage, RefineStage)


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_official` did."""

    model: ModelFiles
    """The new model."""
    consumed: Mapping[str, int]
    """Stage to keys that became weights: all that its checkpoint's state dict has."""
    explained: Mapping[str, str]
    """`<stage>: <key>` of what else the files hold, to the reason why it is left out."""


def import_official(
    coarse: Path, refine: Path, template: Path, folder: Path, *, sizes: PublishedSizes = FULL, command: str = ""
) -> Imported:
    """Make a model folder of the official checkpoints and template.

    Args:
        coarse: checkpoint of the coarse stage (`.pth`).
        refine: checkpoint of the refinement stage.
        template: mesh of the template (`.obj` or `.ply`), metres.
        folder: where; must not exist.
        sizes: of the network.
        command: for the provenance.

    Raises:
        ModelError: a checkpoint does not fit (all of it named), or the folder exists or cannot be written.
        MeshError: the template cannot be read, or does not fit.
    """
    if folder.exists():
        raise ModelError(f"{folder}: exists already; choose another folder or remove it")
    mesh = read_template(template, sizes)
    states = {"coarse": read_checkpoint(coarse, "coarse", sizes), "refine": read_checkpoint(refine, "refine", sizes)}
    weights = {stage: state.weights for stage, state in states.items()}
    parts = published_parts("official", mesh_topology(mesh), sizes, weights, Provenance(command=command), quirks=True)
    explained = {f"{stage}: {key}": why for stage, state in states.items() for key, why in state.explained.items()}
    return Imported(
        save_model(folder, parts), {stage: len(state.weights) for stage, state in states.items()}, explained
    )


def read_template(path: Path, sizes: PublishedSizes) -> SurfaceMesh:
    """Read the template of a network.

    Raises:
        MeshError: not readable; another number of vertices than the network has; no triangles; not in metres.
    """
    mesh = read_mesh(path)
    if len(mesh.vertices) != sizes.vertices:
        raise MeshError(
            f"{path}: the template has {len(mesh.vertices)} vertices, the network has {sizes.vertices}; "
            "take the template that belongs to the checkpoints"
        )
    if not len(mesh.triangles):
        raise MeshError(f"{path}: the template has no triangles; normals and visibility need them")
    low, high = HEAD_M
    if not low <= mesh.extent <= high:
        unit = "millimetres" if low <= mesh.extent / MM <= high else "an unknown unit"
        raise MeshError(f"{path}: the template is {mesh.extent:.3g} across, in {unit}; metres are expected")
    return mesh


def mesh_topology(mesh: SurfaceMesh) -> Topology:
    """The topology of a template, without texture coordinates or regions."""
    return Topology(
        name="published-head",
        triangles=mesh.triangles,
        uv=np.zeros((1, 2), np.float32),
        uv_triangles=np.zeros_like(mesh.triangles),
        template=mesh.vertices,
    )


def published_parts(
    name: str,
    topology: Topology,
    sizes: PublishedSizes,
    weights: Mapping[str, Mapping[str, NDArray[Any]]],
    provenance: Provenance,
    *,
    quirks: bool,
) -> ModelParts:
    """The parts of a published network's model folder; `save_model` writes them."""
    return ModelParts(
        name=name,
        width=WIDTH,
        height=HEIGHT,
        max_views=VIEWS,
        topology=topology,
        constants={"template_mm": np.asarray(topology.template * np.float32(MM))},
        vertex_axes={"template_mm": 0},
        graphs={},
        provenance=provenance,
        published=PublishedEntry(quirks=quirks, sizes=sizes),
        weights=weights,
    )


def load_coarse(model: ModelFiles) -> CoarseStage:
    """The coarse stage of a model, in evaluation mode; its weights are the arrays of the file, not copies.

    Raises:
        ModelError: the model is no published one, or its weights do not fit its sizes.
    """
    entry = published_entry(model)
    return _with_weights(blank_coarse(entry.sizes, quirks=entry.quirks), model, "coarse")


def load_refine(model: ModelFiles) -> RefineStage:
    """The refinement stage of a model, in evaluation mode.

    Raises:
        ModelError: see `load_coarse`.
    """
    entry = published_entry(model)
    template, triangles = model.constants["template_mm"], model.topology.triangles
    return _with_weights(blank_refine(entry.sizes, template, triangles, quirks=entry.quirks), model, "refine")


def _with_weights(stage: Stage, model: ModelFiles, name: str) -> Stage:
    if name not in model.weights:
        raise ModelError(f"{model.folder}: holds no weights of the {name} stage; import or train it")
    arrays = read_arrays(model.weights[name])
    try:
        stage.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()}, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{model.weights[name]}: does not fit the sizes in model.toml: {error}") from error
    return stage.eval().requires_grad_(False)
