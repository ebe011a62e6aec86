"""A few scans of an ellipsoid as a plain folder, in the FaMoS layout, and what is seen of them."""

import json
from pathlib import Path

import cv2
import numpy as np

from streamer.calibration import save_calibration
from streamer.geometry import project
from streamer.types import Calibration, Topology
from tests.inference.makers import ring
from tests.inference.tiny_corpus import ellipsoid


def template() -> Topology:
    """64 vertices, metres."""
    vertices, triangles = ellipsoid(8, 8)
    parts = {"face": np.arange(32, dtype=np.int32), "eyeballs": np.arange(3, dtype=np.int32)}
    return Topology("ellipsoid", triangles, np.zeros((1, 2)), triangles * 0, vertices, (), parts)


def write_mesh(path: Path, vertices: np.ndarray, triangles: np.ndarray) -> None:
    """Write an OBJ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices]
    path.write_text("\n".join(lines + [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in triangles]) + "\n")


def poses(count: int) -> list[np.ndarray]:
    """Registered vertices (N, 3) of some instants, metres."""
    rng, vertices = np.random.default_rng(3), template().template
    return [
        (vertices * rng.uniform(0.9, 1.1, 3) @ cv2.Rodrigues(rng.normal(0, 0.15, 3))[0].T + rng.normal(0, 0.01, 3))
        for _ in range(count)
    ]


def plain_folder(folder: Path, frames: int = 3, cameras: int = 3, *, registered: bool = True) -> Calibration:
    """Write pictures that show where the vertices are, scans finer than the template (mm), and a calibration."""
    rig, topology = ring(cameras, width=132, height=100), template()
    fine, faces = ellipsoid(24, 30)
    save_calibration(rig, folder / "calibration.toml")
    for number, registration in enumerate(poses(frames)):
        name = f"frame_{number:03d}"
        affine = np.linalg.lstsq(np.c_[topology.template, np.ones(64)], registration, rcond=None)[0]
        write_mesh(folder / "scans" / f"{name}.obj", (np.c_[fine, np.ones(len(fine))] @ affine) * 1000, faces)
        if registered:
            write_mesh(folder / "registrations" / f"{name}.obj", registration, topology.triangles)
        for camera in rig.cameras:
            picture = np.full((100, 132, 3), 40, np.uint8)
            pixels, depth = project(camera, registration)
            for k in np.argsort(-depth):
                colour = ((topology.template[k] / 0.24 + 0.5) * 255).clip(0, 255).tolist()
                cv2.circle(picture, pixels[k].round().astype(int).tolist(), 3, colour, -1)
            path = folder / "images" / camera.id / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture[..., ::-1])
    return rig


TKA = """calibration
{r00} {r01} {r02}
{r10} {r11} {r12}
{r20} {r21} {r22}
X: {x}
Y: {y}
Z: {z}
f: {f}
K: {k1}
K2: {k2}
S: 1
x: {sx}
y: {sy}
a: {a}
b: {b}
sz: {w} {h}
c: 0
"""


def write_tka(path: Path, rotation: np.ndarray, centre: np.ndarray, **values: float) -> None:
    """Write a calibration in the layout of the FaMoS data."""
    numbers = {f"r{i}{j}": rotation[i, j] for i in range(3) for j in range(3)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TKA.format(**numbers, x=centre[0], y=centre[1], z=centre[2], **values))


def famos_folder(folder: Path) -> None:
    """One frame, two portrait stereo cameras and a colour camera that is not used."""
    topology = template()
    (folder).mkdir(parents=True, exist_ok=True)
    (folder / "frames.json").write_text(json.dumps([["subject_1", "smile", "000032"]]))
    stem = Path("subject_1/smile")
    for number, name in enumerate(("23_A", "23_B", "23_C")):
        angle = 0.3 * number
        rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        centre = rotation.T @ [0, 0, -900.0]
        write_tka(
            folder / "calibrations" / stem / f"{name}.tka",
            rotation,
            centre,
            f=16,
            k1=0.0004,
            k2=0.000002,
            sx=0.0055,
            sy=0.0055,
            a=590,
            b=790,
            w=1200,
            h=1600,
        )
        picture = folder / "images" / stem / "000032" / f"smile.000032.{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture), np.random.default_rng(number).integers(0, 255, (400, 300, 3), np.uint8))
    points = (topology.template * 1000).astype(np.float32)
    scan = folder / "scans" / stem / "smile.000032.npy"
    scan.parent.mkdir(parents=True)
    np.save(scan, points)
