"""`model.toml`: what a model is made of, with a hash of each part, and where it came from."""

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from inference.tempeh.published.sizes import PublishedSizes
from streamer.config import limits, parse_section
from streamer.errors import ConfigError, ModelError

SCHEMA = 1
FILE = "model.toml"

PrecisionClass = Literal["net", "geometry"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the model and its content's hash."""

    file: str = ""
    """Plain name, beside `model.toml`."""
    sha256: str = ""
    """64 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class ConstantsEntry:
    """`[constants]`: fixed arrays of the network."""

    file: str = ""
    """Plain name of the npz."""
    sha256: str = ""
    """64 hexadecimal digits."""
    vertex_axes: Mapping[str, int] = field(default_factory=dict)
    """Constant name to the axis that runs over the vertices of the topology: what ties weights and topology."""


@dataclass(frozen=True, slots=True)
class GraphEntry:
    """`[graphs.<name>]`: one ONNX file."""

    file: str = ""
    """Plain name."""
    sha256: str = ""
    """64 hexadecimal digits."""
    precision: PrecisionClass = "geometry"
    """`net` may be computed in bf16; `geometry` (coordinates, logits, expectations) is always float32."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """`[provenance]`: how the weights were made."""

    command: str = ""
    """The command that makes them again."""
    seed: int = 0
    """Its seed."""
    commit: str = ""
    """Commit of Mien that ran it."""
    samples: int = 0
    """Training samples seen."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Figures of the model card, name with unit to value."""


@dataclass(frozen=True, slots=True)
class PublishedEntry:
    """`[published]`: the model is the published TEMPEH network, of this size."""

    quirks: bool = True
    """Whether it was trained with the quirks of the release (inference/tempeh/published)."""
    sizes: PublishedSizes = field(default_factory=PublishedSizes)
    """Its sizes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole `model.toml`."""

    name: str = ""
    """For people and for `inference.model`."""
    width: int = field(default=0, metadata=limits(8, 8192))
    """Width of the network's pictures, px."""
    height: int = field(default=0, metadata=limits(8, 8192))
    """Height of the network's pictures, px."""
    max_views: int = field(default=0, metadata=limits(1, 256))
    """Picture slots of the network."""
    topology: FileEntry = field(default_factory=FileEntry)
    """The npz of the topology."""
    constants: ConstantsEntry = field(default_factory=ConstantsEntry)
    """The npz of the constants."""
    graphs: Mapping[str, GraphEntry] = field(default_factory=dict)
    """The ONNX files by name."""
    weights: Mapping[str, FileEntry] = field(default_factory=dict)
    """Stage (`coarse`, `refine`) to the npz of its weights, for a published network."""
    published: PublishedEntry | None = None
    """There if this is the published network; without it, the model is a live one."""
    provenance: Provenance = field(default_factory=Provenance)
    """How it was made."""

    def files(self) -> Iterable[tuple[str, FileEntry | ConstantsEntry | GraphEntry]]:
        """Every file with its key in `model.toml`."""
        yield "topology", self.topology
        yield "constants", self.constants
        for name, entry in self.graphs.items():
            yield f"graphs.{name}", entry
        for stage, weights in self.weights.items():
            yield f"weights.{stage}", weights


def parse_manifest(text: str, where: str) -> Manifest:
    """Read the text of a `model.toml`.

    Args:
        text: its content.
        where: its path, for messages.

    Raises:
        ModelError: not TOML, another schema, an unknown or missing key, a value that is not allowed.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{where}: not valid TOML: {error}") from error
    schema = tables.pop("schema", None)
    if schema != SCHEMA:
        raise ModelError(f"{where}: schema = {schema!r}, this Mien reads {SCHEMA}; export the model again")
    try:
        manifest = parse_section(Manifest, tables, where)
    except ConfigError as error:
        raise ModelError(str(error)) from error
    for key in ("name", "width", "height", "max_views"):
        if not getattr(manifest, key):
            raise ModelError(f"{where}: '{key}' is missing; export the model again")
    for key, entry in manifest.files():
        _check_file(entry.file, entry.sha256, f"{where}: {key}")
    if not manifest.constants.vertex_axes:
        raise ModelError(f"{where}: constants.vertex_axes is empty; nothing ties the weights to the topology")
    return manifest


def _check_file(name: str, sha256: str, where: str) -> None:
    if not name or name in (".", "..") or any(c in name for c in "/\\\0:"):
        raise ModelError(f"{where}.file = {name!r}: expected the plain name of a file beside {FILE}")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ModelError(f"{where}.sha256 = {sha256!r}: expected 64 hexadecimal digits")


def _string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _table(key: str) -> str:
    return ".".join(part if part.isidentifier() and part.isascii() else _string(part) for part in key.split(".", 1))


def _number(value: float, key: str) -> str:
    if not math.isfinite(value):
        raise ModelError(f"measured figure {key} = {value} is not finite; leave it out")
    return repr(float(value))


def manifest_to_text(manifest: Manifest) -> str:
    """Write a `model.toml`; the inverse of `parse_manifest`.

    Raises:
        ModelError: a measured figure is not finite.
    """
    lines = [f"schema = {SCHEMA}", f"name = {_string(manifest.name)}"]
    lines += [f"{key} = {getattr(manifest, key)}" for key in ("width", "height", "max_views")]
    for key, entry in manifest.files():
        lines += ["", f"[{_table(key)}]", f"file = {_string(entry.file)}", f"sha256 = {_string(entry.sha256)}"]
        if isinstance(entry, GraphEntry):
            lines.append(f"precision = {_string(entry.precision)}")
        if isinstance(entry, ConstantsEntry):
            axes = ", ".join(f"{_string(name)} = {axis}" for name, axis in sorted(entry.vertex_axes.items()))
            lines.append(f"vertex_axes = {{ {axes} }}")
    if manifest.published is not None:
        lines += ["", "[published]", f"quirks = {str(manifest.published.quirks).lower()}", "", "[published.sizes]"]
        sizes = asdict(manifest.published.sizes)
        lines += [f"{key} = {list(value) if isinstance(value, tuple) else value}" for key, value in sizes.items()]
    made = manifest.provenance
    lines += ["", "[provenance]", f"command = {_string(made.command)}", f"seed = {made.seed}"]
    lines += [f"commit = {_string(made.commit)}", f"samples = {made.samples}", "", "[provenance.measured]"]
    lines += [f"{_string(key)} = {_number(value, key)}" for key, value in sorted(made.measured.items())]
    return "\n".join(lines) + "\n"
