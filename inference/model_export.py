"""`mien model export`: a model's graphs as ONNX files with a manifest, in float32 or strongly typed float16.

Live models hold their graphs already; those of a published network are made by torch for a number of views, cut as the
CUDA path runs them. Needs onnx, and torch for published networks.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from inference.model_store import ModelFiles
from inference.tensorrt.half import CONVOLUTIONAL, half
from streamer.errors import ModelError

SCHEMA = 1
FILE = "export.json"
HALVES = frozenset({"refine_features", "local_net"})
"""Graphs of a published network that may be float16: the refinement's; the coarse stage stays float32."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to write."""

    precision: Literal["f32", "f16"] = "f32"
    """`f16`: nets of convolutions in float16 with a cast at each border; all else, and the borders, float32."""
    views: int = 0
    """Views of a published network's graphs; 0: as many as its rig had."""
    size: tuple[int, int] = (0, 0)
    """Width and height of a published network's pictures, px; 0: as the model says."""


def export_model(
    model: ModelFiles, out: Path, options: ExportOptions, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Write graphs and manifest: complete, or not at all.

    Args:
        model: a model.
        out: new folder.
        options: what to write.
        progress: told graphs done and graphs in all.

    Returns:
        The manifest, as it stands in `export.json`.

    Raises:
        ModelError: the folder exists or cannot be written; views or sizes that the model cannot have.
        ModuleNotFoundError: torch is not installed, and the model is a published one.
    """
    if out.exists():
        raise ModelError(f"{out}: exists already; choose another folder or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ModelError(f"{out}: cannot be written: {error.strerror}") from error
    try:
        fresh = work / "new"
        fresh.mkdir()
        sources = _live(model, options) if model.manifest.published is None else _published(model, options, work)
        graphs = {}
        for done, (name, (source, kind)) in enumerate(sources.items()):
            graphs[name] = _written(source, fresh / f"{name}.onnx", kind, options.precision)
            progress(done + 1, len(sources))
        manifest = _manifest(model, options, graphs)
        (fresh / FILE).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        os.rename(fresh, out)
    except OSError as error:
        raise ModelError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _manifest(model: ModelFiles, options: ExportOptions, graphs: Mapping[str, Any]) -> dict[str, Any]:
    views, size = _views(model, options), _size(model, options)
    return {
        "schema": SCHEMA,
        "model": model.name,
        "model_id": model.id,
        "kind": "live" if model.manifest.published is None else "published",
        "precision": options.precision,
        "views": views,
        "width": size[0],
        "height": size[1],
        "vertices": model.topology.vertex_count,
        "graphs": dict(graphs),
    }


def _views(model: ModelFiles, options: ExportOptions) -> int:
    if model.manifest.published is None and options.views not in (0, model.max_views):
        raise ModelError(
            f"--views {options.views}: the graphs of '{model.name}' are made for {model.max_views} views and serve "
            "fewer; leave it out"
        )
    if options.views == 1:
        raise ModelError("--views 1: a published network needs two views or more")
    return options.views or model.max_views


def _size(model: ModelFiles, options: ExportOptions) -> tuple[int, int]:
    size = (options.size[0] or model.width, options.size[1] or model.height)
    if model.manifest.published is None and size != (model.width, model.height):
        raise ModelError(f"--size {size[0]}x{size[1]}: '{model.name}' takes {model.width}x{model.height}; leave it out")
    if size[0] % 2 or size[1] % 2:
        raise ModelError(f"--size {size[0]}x{size[1]}: the coarse stage takes half of it; both must be even")
    return size


def _live(model: ModelFiles, options: ExportOptions) -> dict[str, tuple[Path, str]]:
    _views(model, options)
    _size(model, options)
    return {name: (graph.path, graph.precision) for name, graph in model.graphs.items()}


def _published(model: ModelFiles, options: ExportOptions, work: Path) -> dict[str, tuple[Path, str]]:
    from inference.tempeh.export import export_graphs
    from inference.tempeh.published.export import gpu_graphs
    from inference.tempeh.published.store import load_coarse, load_refine

    if model.manifest.published is not None and not model.manifest.published.quirks:
        raise ModelError(f"'{model.name}' was trained without the release's quirks; its graphs cannot be exported yet")
    width, height = _size(model, options)
    specs = gpu_graphs(load_coarse(model), load_refine(model), _views(model, options), (height, width))
    (work / "source").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants of a graph, and are meant to
        export_graphs(specs, work / "source")
    return {name: (work / "source" / f"{name}.onnx", "net" if name in HALVES else "geometry") for name in specs}


def _written(source: Path, target: Path, kind: str, precision: str) -> dict[str, Any]:
    """Write one graph; returns its entry in the manifest."""
    model = onnx.load(str(source))
    if precision == "f16" and kind == "net":
        model = half(model, CONVOLUTIONAL)
    content = model.SerializeToString()
    target.write_bytes(content)
    weights = {weight.name for weight in model.graph.initializer}
    ports = ([value for value in model.graph.input if value.name not in weights], model.graph.output)
    inputs, outputs = (
        {value.name: [n.dim_value for n in value.type.tensor_type.shape.dim] for value in side} for side in ports
    )
    return {
        "file": target.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "class": kind,
        "precision": precision if kind == "net" else "f32",
        "opset": next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        "inputs": inputs,
        "outputs": outputs,
    }
