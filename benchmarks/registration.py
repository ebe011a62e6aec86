"""How near `mien register` comes to the truth: scans of known heads with a scanner's faults, from a network's guesses.

    python benchmarks/registration.py

Each take of the demo's stage gives a moment whose true mesh is known. Its scan is the visible skin in other triangles,
with noise, holes and a ragged rim; the first guess is what `live` makes of the pictures. Printed: scan points to the
mesh, and vertices from their true places (correspondence), before and after, mm (median, face).
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inference.evaluation.metrics import point_to_surface
from inference.meshes import SurfaceMesh
from inference.model_store import load_model
from inference.reconstruct import Reconstructor
from inference.training.register import Registrar
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.takes import open_take
from streamer.types import F64, I32

NOISE_MM = 0.2
HOLES, HOLE_MM = 12, 6.0
MM = 1000.0


def scan_of(vertices: F64, triangles: I32, seen: I32, rng: np.random.Generator) -> SurfaceMesh:
    """A raw scan (mm) of the triangles whose corners are all seen: each divided into four, noisy, with holes."""
    shown = np.zeros(len(vertices), bool)
    shown[seen] = True
    corners = vertices[triangles[shown[triangles].all(1)]]
    middles = (corners + np.roll(corners, -1, axis=1)) / 2
    a, b, c = corners.transpose(1, 0, 2)
    ab, bc, ca = middles.transpose(1, 0, 2)
    four = np.concatenate([np.stack(part, 1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    points, index = np.unique(four.reshape(-1, 3).round(6), axis=0, return_inverse=True)
    faces = index.reshape(-1, 3)
    centres = points[rng.choice(len(points), HOLES)]
    far = (np.linalg.norm(points[:, None] - centres, axis=2) > HOLE_MM).all(1)
    faces = faces[far[faces].all(1) & (rng.random(len(faces)) > 0.002)]
    noisy = points + rng.normal(0, NOISE_MM, points.shape)
    return SurfaceMesh(noisy.astype(np.float32), faces.astype(np.int32))


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--model", default="live")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    topology = model.topology
    face, registrar = topology.regions["face"], Registrar(topology)
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as work:
        rig = replace(RigConfig(), simulated=SimulatedConfig(seed=4000), fps=1.0)
        simulate_takes(Path(work) / "takes", rig, takes=arguments.heads, frames=1, world="demo")
        graphs = None
        for number, path in enumerate(sorted((Path(work) / "takes").iterdir())):
            rng = np.random.default_rng(number)
            with open_take(path) as take:
                true = next(iter(take.meshes("truth"))).vertices.astype(np.float64) * MM
                with Reconstructor(model, take.calibration, graphs=graphs) as reconstructor:
                    graphs = reconstructor.graphs
                    guess = reconstructor(next(iter(take.frame_sets()))).vertices * np.float32(MM)
            scan = scan_of(true, topology.triangles, topology.regions["head"], rng)
            begin = time.process_time()
            found = registrar(scan, guess, rng)
            rows.setdefault("cpu_s", []).append(time.process_time() - begin)
            for name, mesh in (("before", guess), ("after", found.vertices)):
                surface = point_to_surface(true[face], mesh.astype(np.float64), topology.triangles)
                rows.setdefault(f"surface_{name}_mm", []).append(float(np.median(surface)))
                vertex = np.linalg.norm(mesh - true, axis=1)[face]
                rows.setdefault(f"vertex_{name}_mm", []).append(float(np.median(vertex)))
    results = {name: round(float(np.median(values)), 3) for name, values in rows.items()}
    print(json.dumps(results) if arguments.json else "\n".join(f"{name}: {value}" for name, value in results.items()))


if __name__ == "__main__":
    main()
