"""A model and further graphs, learned for it, as one new model."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from inference.manifest import Provenance
from inference.model_store import GraphFile, ModelFiles, ModelParts, save_model
from inference.tempeh.export import GraphSpec, export_graphs


def extend_model(
    model: ModelFiles,
    specs: Mapping[str, GraphSpec],
    *,
    name: str,
    folder: Path,
    provenance: Provenance,
    scale: int = 1,
    without: Collection[str] = (),
) -> ModelFiles:
    """Write a model with further graphs.

    Args:
        model: what they were learned for.
        specs: the graphs by name; those of the same names are replaced.
        name: of the new model.
        folder: where; replaced if it exists.
        provenance: for the manifest; the model's command and samples are put before it.
        scale: how many times larger the new model's pictures are.
        without: graphs of the model that the new one does not keep.

    Raises:
        ModelError: the folder cannot be written.
    """
    made = Provenance(
        f"{model.provenance.command}; {provenance.command}",
        provenance.seed,
        provenance.commit,
        model.provenance.samples + provenance.samples,
        provenance.measured,
    )
    kept = {key: graph for key, graph in model.graphs.items() if key not in specs and key not in without}
    with tempfile.TemporaryDirectory() as work:
        export_graphs(dict(specs), Path(work))
        fresh = {key: GraphFile(Path(work) / f"{key}.onnx", spec.precision) for key, spec in specs.items()}
        parts = ModelParts(
            name=name,
            width=scale * model.width,
            height=scale * model.height,
            max_views=model.max_views,
            topology=model.topology,
            constants=model.constants,
            vertex_axes=model.manifest.constants.vertex_axes,
            graphs=kept | fresh,
            provenance=made,
        )
        return save_model(folder, parts, overwrite=True)
