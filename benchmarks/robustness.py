"""How much worse a model gets where the stage is not the demo's: one thing changed at a time, always the same people.

    python benchmarks/robustness.py --model live --people 12

Held-out people of the simulated rig, eight cameras, 640x480, at 1 m. Rows: cameras missing at random, other numbers of
cameras, other distances (with the lens that keeps the head as large, and with the lens of 1 m), errors of the
calibration that the network is given, grey sensors, strong JPEG, blur, noise, random light. Figures: median over the
face, true points to the surface and vertex to vertex, mm, and how many times the first row's they are.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inference.evaluation.metrics import point_to_surface
from inference.model_store import load_model
from inference.reconstruct import Reconstructor
from rig.simulation.cameras import demo_ring
from rig.simulation.head import load_head, random_identity
from rig.simulation.look import Look, random_background, random_look, studio_background, studio_light
from rig.simulation.performance import Performance
from rig.simulation.sensor import Sensor, clean_sensor
from rig.simulation.stage import NOISE_DN, Person, Set, Studio
from streamer.geometry import rotation_matrices
from streamer.pixels import encode_pixels
from streamer.types import Calibration, Camera, Frame, FrameSet

SIZE = (640, 480)
FIRST_SEED = 3000
PERIOD_NS = 33_333_333
MM = 1000.0


@dataclass(frozen=True, slots=True)
class Change:
    """What is other than on the demo's stage."""

    cameras: int = 8
    missing: int = 0
    distance: float = 1.0
    same_lens: bool = False
    turn_deg: float = 0.0
    """Error of each camera's turn in the calibration, standard deviation about each axis."""
    shift_mm: float = 0.0
    """Error of each camera's place."""
    focal: float = 0.0
    """Relative error of each focal length."""
    quality: int = 92
    sensor: Sensor = field(default_factory=partial(clean_sensor, NOISE_DN))
    anywhere: bool = False
    """Random light and background."""


ROWS: dict[str, Change] = {
    "the demo's stage": Change(),
    "3 of 8 cameras missing": Change(missing=3),
    "4 of 8 cameras missing": Change(missing=4),
    "3 cameras": Change(cameras=3),
    "4 cameras": Change(cameras=4),
    "6 cameras": Change(cameras=6),
    "12 cameras": Change(cameras=12),
    "16 cameras": Change(cameras=16),
    "0.6 m": Change(distance=0.6),
    "1.5 m": Change(distance=1.5),
    "0.8 m, lens of 1 m": Change(distance=0.8, same_lens=True),
    "1.5 m, lens of 1 m": Change(distance=1.5, same_lens=True),
    "calibration off by 0.05 degrees, 0.5 mm": Change(turn_deg=0.05, shift_mm=0.5, focal=0.0005),
    "calibration off by 0.2 degrees, 2 mm": Change(turn_deg=0.2, shift_mm=2.0, focal=0.002),
    "grey cameras": Change(sensor=replace(clean_sensor(NOISE_DN), grey=True)),
    "JPEG 60": Change(quality=60),
    "blur of 1.5 px": Change(sensor=replace(clean_sensor(NOISE_DN), blur_px=1.5)),
    "noise of 8 levels": Change(sensor=clean_sensor(8.0)),
    "random light and background": Change(anywhere=True),
}


def rig_of(change: Change, seed: int) -> Calibration:
    """The true cameras."""
    ring = demo_ring(change.cameras, *SIZE, seed)
    return Calibration(tuple(_moved(camera, change) for camera in ring.cameras), "robustness")


def _moved(camera: Camera, change: Change) -> Camera:
    pose, K = camera.camera_from_world.copy(), camera.K.copy()
    pose[:3, 3] *= change.distance
    if not change.same_lens:
        K[0, 0] *= change.distance
        K[1, 1] *= change.distance
    return replace(camera, camera_from_world=pose, K=K)


def believed(calibration: Calibration, change: Change, rng: np.random.Generator) -> Calibration:
    """The cameras as the network is told, with the errors of a calibration."""
    cameras = []
    for camera in calibration.cameras:
        pose, K = camera.camera_from_world.copy(), camera.K.copy()
        turn = rotation_matrices(rng.normal(0, np.radians(change.turn_deg), 3))
        pose[:3, :3] = turn @ pose[:3, :3]
        pose[:3, 3] = turn @ pose[:3, 3] + rng.normal(0, change.shift_mm / MM, 3)
        K[[0, 1], [0, 1]] *= 1 + rng.normal(0, change.focal)
        cameras.append(replace(camera, camera_from_world=pose, K=K))
    return Calibration(tuple(cameras), "robustness, as calibrated")


def shoot(change: Change, number: int) -> tuple[Calibration, FrameSet, NDArray[np.float32]]:
    """One frame set of one person: the calibration that is believed, the frames, and the true vertices."""
    who, stage = (np.random.default_rng([FIRST_SEED + number, part]) for part in (0, 1))
    look = random_look(who)
    person = Person(load_head().person(random_identity(who)), look)
    if not change.anywhere:
        person = replace(person, look=Look(look.surface, studio_light(), look.hair_m))
    moment = Performance(FIRST_SEED + number, load_head().units).at(float(who.uniform(0, 60)))
    calibration = rig_of(change, FIRST_SEED + number)
    studio = Studio(*SIZE, change.cameras, number)
    try:
        studio.dress(person)
        shades = 105 + 25 * np.cos(np.arange(change.cameras))
        behind = tuple(
            random_background(stage, *SIZE) if change.anywhere else studio_background(*SIZE, float(shade))
            for shade in shades
        )
        pictures, truth = studio.shoot(
            person, Set(calibration, behind, (change.sensor,) * change.cameras), moment, stage
        )
    finally:
        studio.close()
    gone = set(stage.choice(calibration.ids, change.missing, replace=False).tolist())
    time_ns = (number + 1) * PERIOD_NS
    members = {}
    for camera, picture in zip(calibration.ids, pictures, strict=True):
        if camera not in gone:
            encoding, data = encode_pixels(picture, "jpeg", change.quality)
            times = (time_ns, "simulated", time_ns, time_ns)
            members[camera] = Frame(camera, number, number, number, *times, *SIZE, encoding, data)
    absent = dict.fromkeys(sorted(gone), "missing")
    return believed(calibration, change, stage), FrameSet(number, members, absent, 0, calibration.ids[0], 0), truth


def measure(model_name: str, people: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return row to `face` and `face_vertex` medians in mm, and how many times the first row's they are."""
    model = load_model(model_name)
    graphs: Any = None
    face = model.topology.regions["face"]
    results: dict[str, Any] = {}
    for name, change in ROWS.items():
        surface, vertex = [], []
        for number in range(people):
            calibration, frames, truth = shoot(change, number)
            with Reconstructor(model, calibration, graphs=graphs) as reconstructor:
                graphs = reconstructor.graphs
                found = reconstructor(frames).vertices
            points = truth[face].astype(np.float64)
            surface.append(point_to_surface(points, found.astype(np.float64), model.topology.triangles) * MM)
            vertex.append(np.linalg.norm(found - truth, axis=1)[face] * MM)
        medians = [float(np.median(np.concatenate(rows))) for rows in (surface, vertex)]
        first = results.get("the demo's stage", {"face_mm": medians[0], "face_vertex_mm": medians[1]})
        results[name] = {
            "face_mm": round(medians[0], 3),
            "face_vertex_mm": round(medians[1], 3),
            "times": round(medians[0] / first["face_mm"], 2),
            "times_vertex": round(medians[1] / first["face_vertex_mm"], 2),
        }
        row = results[name]
        tell(
            f"{name:<42} {row['face_mm']:.2f} ({row['times']:.2f}x)   "
            f"vertices {row['face_vertex_mm']:.2f} ({row['times_vertex']:.2f}x)"
        )
    return results


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="live")
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = measure(
        arguments.model, arguments.people, lambda line: None if arguments.json else print(line, flush=True)
    )
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
