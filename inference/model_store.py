"""Models on disk: a folder whose `model.toml` names and hashes every part. Loading believes nothing.

- `model.toml`: the manifest (inference/manifest.py)
- `topology.npz`: the mesh that comes out (inference/topology_file.py)
- `constants.npz`: fixed arrays of the network
- `<graph>.onnx`: one file per graph; `net` graphs may run in bf16, `geometry` graphs never
- `coarse.npz`, `refine.npz`: weights of a published network (inference/tempeh/published), read by torch
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.manifest import (
    FILE,
    ConstantsEntry,
    FileEntry,
    GraphEntry,
    Manifest,
    PrecisionClass,
    Provenance,
    PublishedEntry,
    manifest_to_text,
    parse_manifest,
)
from inference.topology_file import load_topology, read_arrays, save_topology, write_arrays
from streamer.errors import ModelError
from streamer.types import Topology

WEIGHTS = Path(__file__).parent / "weights"
"""Models that ship with Mien, one folder each."""


@dataclass(frozen=True, slots=True)
class GraphFile:
    """An ONNX file of a model."""

    path: Path
    """The file; in a loaded model its hash was checked."""
    precision: PrecisionClass
    """`net` may be computed in bf16, `geometry` is always float32."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model that was checked and is ready to be compiled."""

    folder: Path
    """Where it lies."""
    manifest: Manifest
    """Its `model.toml`."""
    topology: Topology
    """The mesh that comes out."""
    constants: Mapping[str, NDArray[Any]]
    """Fixed arrays of the network, read-only."""
    graphs: Mapping[str, GraphFile]
    """Graph name to file."""
    id: str
    """Hash of all parts: equal models have equal ids on every machine."""

    @property
    def name(self) -> str:
        """Its name, for people."""
        return self.manifest.name

    @property
    def width(self) -> int:
        """Width of the network's pictures, px."""
        return self.manifest.width

    @property
    def height(self) -> int:
        """Height of the network's pictures, px."""
        return self.manifest.height

    @property
    def max_views(self) -> int:
        """Picture slots of the network."""
        return self.manifest.max_views

    @property
    def weights(self) -> dict[str, Path]:
        """Stage to the npz of its weights; empty but for published networks."""
        return {stage: self.folder / entry.file for stage, entry in self.manifest.weights.items()}

    @property
    def provenance(self) -> Provenance:
        """How the weights were made."""
        return self.manifest.provenance


def shipped_models() -> list[str]:
    """Names of the models that ship with Mien, in alphabetical order."""
    return sorted(path.parent.name for path in WEIGHTS.glob(f"*/{FILE}"))


def find_model(name_or_path: str | Path) -> Path:
    """Return the folder of a model: a shipped one by its name, any other by its path.

    Raises:
        ModelError: there is none.
    """
    text = str(name_or_path)
    shipped = WEIGHTS / text
    folder = shipped if text in shipped_models() and isinstance(name_or_path, str) else Path(name_or_path)
    if not (folder / FILE).is_file():
        known = ", ".join(shipped_models()) or "none"
        raise ModelError(f"inference.model = {text!r}: no shipped model (there are: {known}) and no folder with {FILE}")
    return folder


def load_model(name_or_path: str | Path) -> ModelFiles:
    """Load and check a model.

    Args:
        name_or_path: name of a shipped model, or a folder with a `model.toml`.

    Raises:
        ModelError: there is none; a part is missing or its content differs from the hash; the manifest is of another
            schema; the weights do not fit the topology.
    """
    folder = find_model(name_or_path)
    try:
        text = (folder / FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder / FILE}: cannot be read: {error}") from error
    manifest = parse_manifest(text, str(folder / FILE))
    sizes = f"{manifest.width} {manifest.height} {manifest.max_views}"
    digest = hashlib.sha256(f"{sizes} {manifest.published}".encode() if manifest.published else sizes.encode())
    for key, entry in manifest.files():
        found = _sha256(folder / entry.file)
        if found != entry.sha256:
            says = f"sha256 is {found[:16]}…, {FILE} says {entry.sha256[:16]}…"
            raise ModelError(f"{folder / entry.file}: {says}; fetch the model again")
        digest.update(f"{key} {found} {getattr(entry, 'precision', '')}".encode())
    topology = load_topology(folder / manifest.topology.file)
    constants = read_arrays(folder / manifest.constants.file)
    _check_fit(topology, constants, manifest.constants.vertex_axes, str(folder))
    for array in constants.values():
        array.setflags(write=False)
    return ModelFiles(
        folder=folder,
        manifest=manifest,
        topology=topology,
        constants=constants,
        graphs={name: GraphFile(folder / entry.file, entry.precision) for name, entry in manifest.graphs.items()},
        id=digest.hexdigest()[:16],
    )


@dataclass(frozen=True, slots=True)
class ModelParts:
    """What `save_model` writes."""

    name: str
    """The model's name."""
    width: int
    """Width of the network's pictures, px."""
    height: int
    """Height of the network's pictures, px."""
    max_views: int
    """Picture slots of the network."""
    topology: Topology
    """The mesh that comes out."""
    constants: Mapping[str, NDArray[Any]]
    """Fixed arrays of the network."""
    vertex_axes: Mapping[str, int]
    """Constant name to the axis that runs over the topology's vertices; at least one."""
    graphs: Mapping[str, GraphFile]
    """Graph name to an ONNX file anywhere, which is copied."""
    provenance: Provenance
    """How the weights were made."""
    published: PublishedEntry | None = None
    """For the published network."""
    weights: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    """Stage to its weights by name, for the published network."""


def save_model(folder: Path, parts: ModelParts, *, overwrite: bool = False) -> ModelFiles:
    """Write a model: complete and loadable, or not at all.

    Args:
        folder: where; its parent is made.
        parts: what to write.
        overwrite: replace what is there; without it an existing folder is an error.

    Returns:
        The model, loaded from its new place.

    Raises:
        ModelError: the folder exists or cannot be written, or the parts do not fit together.
    """
    if folder.exists() and not overwrite:
        raise ModelError(f"{folder}: exists already; choose another folder or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error}") from error
    try:
        _write_parts(work / "new", parts)
        load_model(work / "new")
        _sync(work / "new")
        _put_in_place(work / "new", folder, work / "old")
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return load_model(folder)


def _write_parts(folder: Path, parts: ModelParts) -> None:
    folder.mkdir()
    save_topology(parts.topology, folder / "topology.npz")
    write_arrays(folder / "constants.npz", parts.constants)
    for key, graph in parts.graphs.items():
        shutil.copyfile(graph.path, folder / f"{key}.onnx")
    for stage, arrays in parts.weights.items():  # not compressed: weights are noise, and 250 MB of it
        np.savez(folder / f"{stage}.npz", allow_pickle=False, **arrays)
    manifest = Manifest(
        name=parts.name,
        width=parts.width,
        height=parts.height,
        max_views=parts.max_views,
        topology=FileEntry("topology.npz", _sha256(folder / "topology.npz")),
        constants=ConstantsEntry("constants.npz", _sha256(folder / "constants.npz"), dict(parts.vertex_axes)),
        graphs={
            key: GraphEntry(f"{key}.onnx", _sha256(folder / f"{key}.onnx"), parts.graphs[key].precision)
            for key in sorted(parts.graphs)
        },
        weights={stage: FileEntry(f"{stage}.npz", _sha256(folder / f"{stage}.npz")) for stage in sorted(parts.weights)},
        published=parts.published,
        provenance=parts.provenance,
    )
    (folder / FILE).write_text(manifest_to_text(manifest), "utf-8")


def _check_fit(
    topology: Topology, constants: Mapping[str, NDArray[Any]], vertex_axes: Mapping[str, int], where: str
) -> None:
    for name, axis in vertex_axes.items():
        if name not in constants:
            raise ModelError(f"{where}: constants.vertex_axes names '{name}', which constants.npz does not hold")
        shape = constants[name].shape
        if not 0 <= axis < len(shape):
            raise ModelError(f"{where}: constants.vertex_axes.{name} = {axis}, but its shape is {shape}")
        if shape[axis] != topology.vertex_count:
            raise ModelError(
                f"{where}: the weights do not fit the topology: constant '{name}' is for {shape[axis]} vertices, "
                f"topology '{topology.name}' has {topology.vertex_count}; export both from one training"
            )
    for name, array in constants.items():
        if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
            raise ModelError(f"{where}: constant '{name}' ({array.dtype}) holds values that are not finite numbers")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; fetch the model again") from error


def _sync(folder: Path) -> None:
    """Put files and folder on disk, so that a power cut after the rename cannot leave empty files."""
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put_in_place(fresh: Path, folder: Path, aside: Path) -> None:
    """Rename `fresh` to `folder`; what was there comes back if that fails."""
    had = folder.exists()
    if had:
        folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        if had:
            aside.rename(folder)
        raise
