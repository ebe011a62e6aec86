"""A corpus without cameras: random pictures, a small head-shaped mesh, true cameras."""

import cv2
import numpy as np

from inference.tempeh.frames import Views
from inference.tempeh.seen import seen
from inference.training.dataset import Corpus
from streamer.geometry import look_at
from streamer.types import Topology


def ellipsoid(rings: int = 30, steps: int = 44) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) metres and (T, 3) of a closed head-sized ellipsoid, counter-clockwise from outside."""
    polar = np.linspace(0.05, np.pi - 0.05, rings)[:, None]
    turn = np.arange(steps) * 2 * np.pi / steps
    unit = np.stack(
        [np.sin(polar) * np.cos(turn), np.cos(polar) * np.ones_like(turn), np.sin(polar) * np.sin(turn)], -1
    )
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(steps), indexing="ij")
    a, b = i * steps + j, i * steps + (j + 1) % steps
    faces = np.concatenate([np.stack([a, b, b + steps], -1), np.stack([a, b + steps, a + steps], -1)])
    return (unit.reshape(-1, 3) * [0.08, 0.12, 0.1]).astype(np.float32), faces.reshape(-1, 3).astype(np.int32)


def tiny_topology() -> Topology:
    """An ellipsoid whose whole surface is the region `head`."""
    vertices, triangles = ellipsoid()
    everything = np.arange(len(vertices), dtype=np.int32)
    return Topology(
        name="ellipsoid",
        triangles=triangles,
        uv=np.zeros((1, 2), np.float32),
        uv_triangles=np.zeros_like(triangles),
        template=vertices,
        regions={"head": everything, "face": everything},
    )


def tiny_corpus(sets: int, views: int = 5, seed: int = 0) -> Corpus:
    """Sets of one ellipsoid in random poses; each picture shows its projected template as smooth colours."""
    rng, topology = np.random.default_rng(seed), tiny_topology()
    size = (160, 120)
    template = topology.template * np.float32(1000)
    vertices, poses, jpegs, rows, visible = [], [], [], [], []
    for _ in range(sets):
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(rng.normal(0, 0.2, 3))[0]
        pose[:3, 3] = rng.normal(0, 20, 3)
        mesh = (template @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
        cameras = [_camera(rng, k, views, size) for k in range(views)]
        k, distortion, extrinsics = (np.stack(column) for column in zip(*cameras, strict=True))
        rig = Views(k, distortion, extrinsics, size)
        jpegs += [_picture(rig, view, mesh, template) for view in range(views)]
        vertices.append(mesh)
        poses.append(pose)
        rows.append((k, distortion, extrinsics))
        visible.append(seen(mesh, topology.triangles, rig))
    return Corpus(
        topology=topology,
        sizes=np.tile(np.array([size], np.int64), (sets, 1)),
        jpeg=np.concatenate(jpegs),
        offset=np.concatenate([[0], np.cumsum([len(j) for j in jpegs])]),
        vertices=np.stack(vertices),
        world_from_head=np.stack(poses),
        K=np.stack([row[0] for row in rows]),
        distortion=np.stack([row[1] for row in rows]),
        camera_from_world=np.stack([row[2] for row in rows]),
        visible=np.stack(visible),
        weights=np.zeros((sets, 0), np.float32),
    )


def _camera(
    rng: np.random.Generator, k: int, views: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    azimuth = -1.3 + 2.6 * k / (views - 1)
    place = rng.uniform(0.8, 1.1) * np.array([np.sin(azimuth), rng.uniform(-0.1, 0.3), np.cos(azimuth)])
    camera_from_world = look_at(place, rng.normal(0, 0.01, 3))[:3]
    camera_from_world[:, 3] *= 1000
    intrinsics = np.array([[330.0, 0, (size[0] - 1) / 2], [0, 330.0, (size[1] - 1) / 2]])
    return intrinsics, rng.normal(0, 0.02, 5), camera_from_world


def _picture(rig: Views, view: int, mesh: np.ndarray, template: np.ndarray) -> np.ndarray:
    from inference.tempeh.frames import project_all

    picture = np.full((rig.size[1], rig.size[0], 3), 90, np.uint8)
    pixels = project_all(rig, mesh)[view]
    depth = mesh @ rig.camera_from_a[view, 2, :3]
    colours = (template - template.min(0)) / np.ptp(template, axis=0) * 255
    for n in np.argsort(-depth):
        cv2.circle(picture, pixels[n].round().astype(int).tolist(), 3, colours[n].tolist(), -1)
    return np.asarray(cv2.imencode(".jpg", picture[..., ::-1])[1], np.uint8).ravel()
