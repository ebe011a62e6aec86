"""`mien model run --engine openvino`: raw inputs through the compiled path; the same outputs as torch gives, sooner.

Coarse vertices within 0.05 mm of torch in float32, refined ones within 0.02 mm (median) and 0.6 mm (largest).
"""

import os
from collections.abc import Callable

import numpy as np

from inference.engines import open_engine
from inference.model_store import ModelFiles
from inference.precision import plan_folder
from inference.published import published_parts
from inference.published_graphs import GRAPHS, prepared
from inference.tempeh.compiled.network import PublishedCameras, PublishedNetwork, PublishedParts, grid_points
from inference.tempeh.published.inputs import Outputs, RunInputs, StageInputs, alone, checked, require_sight, sight
from streamer.errors import ModelError


def run_compiled(
    model: ModelFiles, inputs: RunInputs, report: Callable[[int, int], None], *, engine: str, threads: int
) -> Outputs:
    """Run a published network on one set.

    Args:
        model: a published one.
        inputs: checked ones; the coarse stage's pictures are half as large as the refinement's.
        report: called with what is done and what there is in all.
        engine: what runs the graphs.
        threads: of the arithmetic; 0: all cores.

    Returns:
        As `inference.tempeh.published.run.run_published`.

    Raises:
        ModelError: the pictures are not of such sizes, the weights do not fit, or what comes out is not finite.
        CalibrationError: a view sees nothing.
        EngineError: the compiled path does not know networks of these sizes.
        MissingExtra: torch is not installed, and the graphs have to be exported.
    """
    height, width = inputs.refine.images.shape[2:]
    parts = published_parts(model)
    threads = threads or len(os.sched_getaffinity(0))
    runtime = open_engine(engine, threads=threads, cache_dir=plan_folder(engine))
    coarse = None if inputs.coarse_vertices is not None else inputs.coarse
    if coarse is not None:
        _check_coarse(parts, coarse, inputs)
    _, folder = prepared(str(model.folder), (width, height))
    report(1, 3)
    graphs = {name: runtime.compile(folder / f"{name}.onnx", precision="f32") for name in GRAPHS}
    fine, small = inputs.refine, coarse or inputs.refine
    cameras = PublishedCameras(small.K, small.distortion, fine.K, fine.distortion, inputs.camera_from_world)
    network = PublishedNetwork(parts, graphs, cameras, threads)
    try:
        report(2, 3)
        start = inputs.coarse_vertices
        values = network.run_raw(
            None if coarse is None else coarse.images, fine.images, start=start, seen=inputs.visibility
        )
    finally:
        network.close()
    require_sight(sight(values["start"], fine, inputs.camera_from_world), "the coarse vertices")
    report(3, 3)
    outputs = alone(values["start"])
    if coarse is not None:
        warp = values["warp"]
        outputs = {
            "coarse_vertices": values["coarse"],
            "localiser_scale": warp[:3],
            "localiser_rotation": warp[3:12].reshape(3, 3),
            "localiser_translation_mm": warp[12:],
        }
    refined = {"vertices": values["refined"], "normals": values["normals"].astype(np.float32)}
    return checked(outputs | {"visibility": values["seen"].astype(np.uint8)} | refined)


def _check_coarse(parts: PublishedParts, coarse: StageInputs, inputs: RunInputs) -> None:
    """Refuse pictures of the coarse stage that are no halves of the refinement's, or do not see its volume."""
    height, width = inputs.refine.images.shape[2:]
    if coarse.images.shape[2:] != (height // 2, width // 2):
        raise ModelError(
            f"images_coarse are {coarse.images.shape[3]}x{coarse.images.shape[2]}, images_refine {width}x{height}: "
            "the compiled path takes halves; leave out --engine"
        )
    box = grid_points(parts.sizes.grid, parts.sizes.step_mm, quirks=parts.quirks)
    middle = np.array(parts.sizes.centre_mm, np.float32)
    require_sight(sight(box + middle, coarse, inputs.camera_from_world), "the capture volume")
