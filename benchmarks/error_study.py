"""Where the error of the face sits: parts of the live path replaced by the truth, one at a time.

    python benchmarks/error_study.py --model live

Held-out people of the demo's stage. Each row is the median over the face, true points to the surface and vertex to
vertex: the mean head at the true pose; what the shape prior could do at best; then the stages as they are, then with
the truth in the place of what comes before (crops at the true pose; a start at the true shape), and with what the maps'
errors have in common over the views taken away, or only that left.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import inference.tempeh.refine as refinement
from inference.evaluation.evaluate import find_takes
from inference.evaluation.metrics import point_to_surface
from inference.model_store import load_model
from inference.networks import compile_graphs
from inference.pictures import PictureMaker
from inference.schedule import PICTURES, run_in_order
from inference.tempeh import frames, shape
from inference.tempeh.layout import unpack_constants
from inference.tempeh.live import LiveNetwork
from inference.tempeh.refine import Refiner
from inference.tempeh.seen import seen
from inference.tempeh.shape import Fit
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.geometry import transform
from streamer.takes import open_take

MM = 1000.0


class Study:
    """Gathers the distances of every variant."""

    def __init__(self, name: str) -> None:
        """Load the model."""
        self.model = load_model(name)
        self.graphs = compile_graphs(self.model, "openvino", "f32", 1)
        self.constants = unpack_constants(self.model.constants, self.model.topology)
        self.face = self.model.topology.regions["face"]
        self.rows: dict[str, tuple[list[Any], list[Any]]] = {}

    def note(self, name: str, vertices: Any, true: Any) -> None:
        """Measure one mesh (N, 3) in the true head's frame, mm."""
        surface, vertex = self.rows.setdefault(name, ([], []))
        surface.append(point_to_surface(true[self.face], vertices, self.model.topology.triangles))
        vertex.append(np.linalg.norm(vertices - true, axis=1)[self.face])

    def take(self, path: Path, sets: int) -> None:
        """Study some sets of a take."""
        model, constants = self.model, self.constants
        with open_take(path) as take:
            maker = PictureMaker(
                take.calibration, width=model.width, height=model.height, max_views=model.max_views, workers=1
            )
            network = LiveNetwork(constants, self.graphs, maker.cameras, model.max_views)
            truths = {mesh.frame_id: mesh for mesh in take.meshes("truth")}
            for frame_set in list(take.frame_sets())[:sets]:
                pictures = maker(frame_set)
                truth = truths[frame_set.frame_id]
                pose = truth.world_from_head.astype(np.float64)
                pose[:3, 3] *= MM
                true = (truth.vertices.astype(np.float64) * MM - pose[:3, 3]) @ pose[:3, :3]
                self.set(network, (pictures.values, pictures.mask), np.linalg.inv(network._world_from_rig) @ pose, true)
            maker.close()

    def set(self, network: LiveNetwork, shown: Any, rig_from_head: Any, true: Any) -> None:
        """All variants of one set."""
        prior = self.constants.prior

        def note(name: str, fit: Fit) -> None:
            placed = transform(np.linalg.inv(rig_from_head) @ fit.a_from_head, prior.vertices(fit.coefficients))
            self.note(name, placed, true)

        start = Fit(rig_from_head, np.zeros(prior.components))
        best = shape.fit_points(prior, start, transform(rig_from_head, true), 0.3)
        self.note("mean head at the true pose", self.constants.template.astype(np.float64), true)
        note("best of the shape prior", best)
        values = run_in_order(network.stages(), {PICTURES: shown}).values
        note("localiser", values["located"])
        note("coarse head", values["fit"])
        note("refined (the live model)", values["refined"])
        present = shown[1][: len(network._views.K)]
        stages = [stage for stage in network.stages() if stage.name != "localise"]
        there = run_in_order(tuple(stages), {PICTURES: shown, "located": best}).values
        note("crops at the true pose", there["refined"])
        maps, views = there["features"][: len(present)], there["crop_views"]
        longer = replace(network._refiner, steps=4)
        note("and refined from the true shape, 4 steps", longer(best, maps, views, present))
        whole = replace(longer, indices=self.model.topology.regions["head"], trust=0.2)
        note("and all vertices read", whole(best, maps, views, present))
        self.oracles(note, whole, (best, maps, views, present), (rig_from_head, true))

    def oracles(self, note: Callable[[str, Fit], None], refiner: Refiner, given: Any, truth: Any) -> None:
        """The maps without what their errors have in common, and with nothing but that."""
        best, maps, views, present = given
        rig_from_head, true = truth
        indices = refiner.indices
        in_head = frames.moved(views, rig_from_head)
        read = refinement.read_maps
        place, spread, inside = read(maps, frames.project_all(in_head, true[indices]), views.size)
        error = place - self.constants.template[indices]
        sees = seen(true.astype(np.float32), self.constants.triangles, in_head)[:, indices] & (inside > 0)
        weight = np.where(sees, spread**-2, 0)[..., None]
        common = (weight * error).sum(0) / np.maximum(weight.sum(0), 1e-9)
        near = (np.linalg.norm(error, axis=2) < 25)[..., None]
        changes = {
            "oracle: common error taken away": -common[None],
            "oracle: only the common error": (common - error) * near,
        }
        for name, change in changes.items():

            def changed(*arguments: Any, by: Any = change) -> Any:
                found, scale, within = read(*arguments)
                return (found + by).astype(np.float32), scale, within

            setattr(refinement, "read_maps", changed)  # noqa: B010 - a stand-in of the same shape
            try:
                note(name, refiner(best, maps, views, present))
            finally:
                refinement.read_maps = read


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="live")
    parser.add_argument("--takes", type=int, default=12)
    parser.add_argument("--sets", type=int, default=2, help="frame sets of each take")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    study = Study(arguments.model)
    with tempfile.TemporaryDirectory() as work:
        rig = replace(RigConfig(), simulated=SimulatedConfig(width=640, height=480, seed=1000), fps=2.0)
        simulate_takes(Path(work) / "demo", rig, takes=arguments.takes, frames=arguments.sets, world="demo")
        for path in find_takes([Path(work)]):
            study.take(path, arguments.sets)
    rows = {
        name: {
            "surface_median_mm": float(np.median(np.concatenate(surface))),
            "vertex_median_mm": float(np.median(np.concatenate(vertex))),
        }
        for name, (surface, vertex) in study.rows.items()
    }
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'':<46}{'surface':>10}{'vertices':>10}   face, median, mm")
    for name, row in rows.items():
        print(f"{name:<46}{row['surface_median_mm']:>10.2f}{row['vertex_median_mm']:>10.2f}")


if __name__ == "__main__":
    main()
