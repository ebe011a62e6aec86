"""What the compiled path needs of a published model, made once and kept in the cache: graphs as ONNX. Needs torch."""

import os
import shutil
import tempfile
from pathlib import Path

from inference.model_store import load_model
from inference.published_graphs import graphs_folder
from inference.tempeh.export import export_graphs
from inference.tempeh.published.export import cpu_graphs
from inference.tempeh.published.seeded import seeded_model
from inference.tempeh.published.store import load_coarse, load_refine

BATCH = 2
"""Pictures per run of a 2D net: their features stay in the cache."""


def prepare(folder: str | None, size: tuple[int, int] | None = None) -> tuple[str, str]:
    """Make what is missing; meant to run in a process of its own, which takes torch's memory with it.

    Args:
        folder: of a published model; None: the seeded one.
        size: width and height of the refinement's pictures, px; None: the model's.

    Returns:
        Folder of the model and folder of its graphs.

    Raises:
        ModelError: the model cannot be read, or is no published one.
    """
    model = seeded_model() if folder is None else load_model(Path(folder))
    width, height = size or (model.width, model.height)
    graphs = graphs_folder(model, size)
    if not graphs.is_dir():
        graphs.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".graphs.", dir=graphs.parent))
        try:
            export_graphs(cpu_graphs(load_coarse(model), load_refine(model), (height, width), BATCH), work)
            if not graphs.is_dir():
                os.rename(work, graphs)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return str(model.folder), str(graphs)
