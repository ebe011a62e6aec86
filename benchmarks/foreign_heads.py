"""Heads of another origin than the training's: other topology, photographic skin, real scans. Measured topology-free.

    python benchmarks/foreign_heads.py                                    # heads bent out of the space of the sliders
    python benchmarks/foreign_heads.py SCAN.ply HEAD.obj --pictures out/  # scans of your own, upright, face along +Z

Scans may be of any triangles; a texture of their own is shown (OBJ with MTL, GLB), else a skin is painted on. A face
alone is completed to a head. Each is filmed by the simulated rig, eight views of 640x480, in several poses and lights,
and reconstructed. Figures are distances of the scan's points to the surface, mm, by region. Beside them two lines for
scale: the mean head at the true pose, and the best that the model's shape prior could do. With --pictures: what was
filmed, the mesh over it, and where it errs (blue 0 to red 4 mm).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.foreign.film import Scanned, Shot, Subject, Warped, film
from benchmarks.foreign.scans import UNITS, mean_beside, nearest_to, placed, read_head, registered
from inference.evaluation.figures import Figures
from inference.evaluation.metrics import point_to_surface
from inference.model_store import ModelFiles, load_model
from inference.networks import compile_graphs
from inference.reconstruct import Reconstructor
from inference.tempeh import shape
from inference.tempeh.layout import unpack_constants
from inference.tempeh.shape import Fit
from rig.simulation.performance import rigid
from streamer.errors import MienError
from streamer.geometry import project, transform, vertex_normals
from streamer.types import F64, U8, MeshFrame

WORST_MM = 4.0
POINTS = 4000
"""Points of a region that are measured, evenly taken."""
POINTS_MOVED = 800
"""Points of the face that a mesh is moved to."""
ROWS = ("network", "network moved rigidly", "mean head at the true pose", "best of the shape prior")


def main() -> int:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="*", type=Path, help="PLY, OBJ, GLB, STL or OFF")
    parser.add_argument("--unit", choices=tuple(UNITS), default="mm", help="of the scans (default: mm)")
    parser.add_argument("--turn", default="0,0,0", help="degrees about x, y, z that bring the scans upright, z first")
    parser.add_argument("--skins", type=Path, help="npz of photographic skins (default: painted ones)")
    parser.add_argument("--warped", type=int, help="heads bent by a lattice (default: 3 if there are no scans)")
    parser.add_argument("--bend-mm", type=float, default=8.0, help="how far the lattice's points move (default: 8)")
    parser.add_argument("--models", nargs="+", default=["live", "reprocess"])
    parser.add_argument("--sets", type=int, default=4, help="frame sets of each head (default: 4)")
    parser.add_argument("--seed", type=int, default=500)
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the first set of each")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        subjects = _subjects(arguments)
        results = {name: _measure(load_model(name), subjects, arguments) for name in arguments.models}
    except MienError as error:
        print(f"foreign_heads: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(results))
    return 0


def _subjects(arguments: argparse.Namespace) -> list[Subject]:
    pitch, yaw, roll = np.radians([float(degrees) for degrees in arguments.turn.split(",")])
    turn = rigid(yaw, pitch, roll, np.zeros(3))[:3, :3]
    skins = None
    if arguments.skins:
        with np.load(arguments.skins, allow_pickle=False) as packed:
            skins = packed["skin_textures" if "skin_textures" in packed.files else packed.files[0]]
    heads = [registered(placed(read_head(path, arguments.unit, turn))) for path in arguments.scans]
    subjects: list[Subject] = [Scanned(head, skins) for head in heads]
    warped = (0 if arguments.scans else 3) if arguments.warped is None else arguments.warped
    return subjects + [Warped(arguments.seed + number, arguments.bend_mm) for number in range(warped)]


def _measure(model: ModelFiles, subjects: Sequence[Subject], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return head (and `all`) to row of `ROWS` to region to figures."""
    graphs = compile_graphs(model, "openvino", "f32", 0)
    every = {row: Figures() for row in ROWS}
    results: dict[str, Any] = {}
    for subject in subjects:
        own = {row: Figures() for row in ROWS}
        for number, shot in enumerate(film(subject, arguments.sets, arguments.seed)):
            with Reconstructor(model, shot.calibration, graphs=graphs) as reconstructor:
                mesh = reconstructor(shot.frames)
            for row, vertices in _rows(model, subject, shot, mesh).items():
                for figures in (own[row], every[row]):
                    _add(figures, subject, vertices, model)
            if number == 0 and arguments.pictures:
                arguments.pictures.mkdir(parents=True, exist_ok=True)
                picture = _picture(subject, shot, mesh, model)
                cv2.imwrite(str(arguments.pictures / f"{subject.name}-{model.name}.png"), picture[..., ::-1])
        results[subject.name] = {row: figures.regions() for row, figures in own.items()}
        if not arguments.json:
            _tell(model.name, subject.name, results[subject.name])
    results["all"] = {row: figures.regions() for row, figures in every.items()}
    if not arguments.json and len(subjects) > 1:
        _tell(model.name, "all", results["all"])
    return results


def _rows(model: ModelFiles, subject: Subject, shot: Shot, mesh: MeshFrame) -> dict[str, F64]:
    """Row to vertices (S, 3) in the subject's head frame, mm."""
    face = model.topology.regions["face"]
    found = transform(np.linalg.inv(shot.world_from_head), mesh.vertices.astype(np.float64)) * 1000
    prior = unpack_constants(model.constants, model.topology).prior
    start = Fit(np.eye(4), np.zeros(prior.components))
    best = shape.fit_points(prior.at(face), start, subject.registered[face], 0.3)
    sample = subject.regions["face"][:: max(1, len(subject.regions["face"]) // POINTS_MOVED)]
    rows = (
        found,
        nearest_to(subject.truth[sample], found, model.topology.triangles),
        mean_beside(subject.likely, face),
        transform(best.a_from_head, prior.vertices(best.coefficients)),
    )
    return {name: np.asarray(vertices, np.float64) for name, vertices in zip(ROWS, rows, strict=True)}


def _add(figures: Figures, subject: Subject, vertices: F64, model: ModelFiles) -> None:
    """Measure the points of every region."""
    for name, indices in subject.regions.items():
        points = subject.truth[indices[:: max(1, len(indices) // POINTS)]]
        figures.surface.setdefault(name, []).append(point_to_surface(points, vertices, model.topology.triangles))


def _tell(model: str, name: str, rows: dict[str, Any]) -> None:
    for row in ROWS:
        found = {region: rows[row].get(region) for region in ("face", "eyes", "lips", "head")}
        cells = "  ".join(
            f"{region} {one['median_mm']:.2f} / {one['mean_mm']:.2f} / {one['p90_mm']:.2f}"
            for region, one in found.items()
            if one
        )
        print(f"{model:<10} {name:<20} {row:<28} {cells}", flush=True)


def _picture(subject: Subject, shot: Shot, mesh: MeshFrame, model: ModelFiles) -> U8:
    """Four of the views: as filmed, under the mesh, and with the errors of the face's points."""
    triangles, face = model.topology.triangles, subject.regions["face"]
    truth = transform(shot.world_from_head, subject.truth[face] / 1000)
    errors = point_to_surface(truth, mesh.vertices.astype(np.float64), triangles) * 1000
    shades = cv2.applyColorMap((np.clip(errors / WORST_MM, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)
    columns = []
    for index in range(0, len(shot.pictures), 2):
        camera = shot.calibration.cameras[index]
        meshed, marked = shot.pictures[index].copy(), shot.pictures[index].copy()
        towards = camera.centre_world - mesh.vertices
        faces_it = (vertex_normals(mesh.vertices, triangles) * towards).sum(1) > 0
        corners = np.rint(project(camera, mesh.vertices.astype(np.float64))[0]).astype(np.int32)
        cv2.polylines(meshed, list(corners[triangles[faces_it[triangles].all(1)]]), True, (0, 255, 0), 1)
        for (x, y), shade in zip(project(camera, truth)[0], shades.reshape(-1, 3)[:, ::-1].tolist(), strict=True):
            cv2.circle(marked, (round(x), round(y)), 1, shade, -1)
        columns.append(np.concatenate([shot.pictures[index], meshed, marked]))
    return np.asarray(np.concatenate(columns, axis=1), np.uint8)


if __name__ == "__main__":
    sys.exit(main())
