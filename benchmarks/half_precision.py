"""What float16 on a GPU would cost in millimetres: vertices on takes, by graph and by all of them, against float32.

    python benchmarks/half_precision.py [TAKES...] [--model live] [--json]

Both sides are computed by the engine `torch` on the CPU: float16 values, sums of products in float32. Takes of
`mien simulate --world wide --size 320x240 --takes 3 --frames 3 --seed 77` gave the figures of docs/gpu.md; without
takes two drawn sets are compared. Needs the extra train.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from inference.engines import Graph, open_engine
from inference.model_store import ModelFiles, load_model
from inference.reconstruct import Reconstructor
from inference.reprocess import offline_sync
from inference.stand_in import stand_in_rig, stand_in_sets
from streamer.takes import open_take
from streamer.types import F32


def meshes(model: ModelFiles, graphs: Mapping[str, Graph], takes: list[Path]) -> F32:
    """Vertices (sets, N, 3) in mm."""
    found = []
    if not takes:
        calibration = stand_in_rig(model.max_views, model.width, model.height)
        with Reconstructor(model, calibration, threads=1, graphs=graphs) as reconstructor:
            drawn = stand_in_sets(model.topology, calibration, 2)
            found = [reconstructor(frame_set).vertices * 1000 for frame_set in drawn]
    for path in takes:
        with open_take(path) as take, Reconstructor(model, take.calibration, threads=1, graphs=graphs) as reconstructor:
            found += [reconstructor(frame_set).vertices * 1000 for frame_set in take.frame_sets(offline_sync(take, 2))]
    return np.stack(found)


def main() -> int:
    """Print a line per case, or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("takes", nargs="*", type=Path, help="takes (default: two drawn sets)")
    parser.add_argument("--model", default="live", help="name or folder (default live)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    model, engine = load_model(args.model), open_engine("torch")
    exact: dict[str, Graph] = {name: engine.compile(graph.path) for name, graph in model.graphs.items()}
    nets = [name for name, graph in model.graphs.items() if graph.precision == "net"]
    halves: dict[str, Graph] = {name: engine.compile(model.graphs[name].path, precision="f16") for name in nets}
    reference = meshes(model, exact, args.takes)
    rows = {}
    for case, chosen in {**{name: [name] for name in nets}, "all": nets}.items():
        found = meshes(model, exact | {name: halves[name] for name in chosen}, args.takes)
        apart = np.linalg.norm(found - reference, axis=-1)
        rows[case] = {"median_mm": round(float(np.median(apart)), 4), "max_mm": round(float(apart.max()), 4)}
        if not args.json:
            print(f"{case:<10} median {rows[case]['median_mm']:.4f}  max {rows[case]['max_mm']:.4f} mm", flush=True)
    if args.json:
        print(json.dumps({"model": model.name, "sets": len(reference), "graphs": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
