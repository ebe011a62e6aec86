"""What a model is, for the command line."""

from dataclasses import asdict
from typing import Any

from inference.model_store import ModelFiles


def describe(model: ModelFiles) -> dict[str, Any]:
    """Return name, id, sizes, graphs, measured figures and provenance of a model."""
    size = sum(file.stat().st_size for file in model.folder.iterdir() if file.is_file())
    made = asdict(model.provenance)
    return {
        "name": model.name,
        "id": model.id,
        "folder": str(model.folder),
        "vertices": model.topology.vertex_count,
        "topology": model.topology.name,
        "max_views": model.max_views,
        "width": model.width,
        "height": model.height,
        "graphs": {name: graph.precision for name, graph in model.graphs.items()},
        "megabytes": round(size / 1e6, 2),
        "measured": made.pop("measured"),
        "provenance": made,
    }
