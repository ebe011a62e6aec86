"""Takes on disk for the fitter's tests: the ball of `fit_makers`, whole or with something wrong."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamer.pixels import encode_plane
from streamer.takes import TakeWriter
from streamer.takes.layout import LAYERS
from streamer.types import U8, Calibration, Camera, Frame
from tests.renderer.fit_makers import RADIUS_M, SIDE_PX, _mesh, camera, centre_at, paint, sphere

PERIOD_NS = 40_000_000


def write_take(
    folder: Path,
    *,
    steps: int = 4,
    cameras: int = 5,
    pictures: Mapping[tuple[int, int], U8 | None] | None = None,
    meshes: bool = True,
    broken_mesh: bool = False,
    mattes: tuple[int, int] | None = None,
    depth: bool = False,
) -> Path:
    """Write a take.

    Args:
        folder: must not exist.
        steps: instants.
        cameras: of the ring.
        pictures: (step, camera) to what is there instead of the ball; None: nothing.
        meshes: whether there are true meshes.
        broken_mesh: the mesh of step 1 holds a NaN.
        mattes: size of the mattes in the layer `alpha`.
        depth: whether there is a layer `depth`, as deep as the ball's centre.
    """
    ring = tuple(camera(i, cameras) for i in range(cameras))
    ball = sphere()
    with _writer(folder, ring) as writer:
        writer.write("topology", ball, 0)
        for step in range(steps):
            for index, view in enumerate(ring):
                shown = (pictures or {}).get((step, index), paint(view, centre_at(step, steps)))
                if shown is not None:
                    _write(writer, view, step, "rgb8", shown)
            mesh = replace(_mesh(ball, step, steps), exposure_time_ns=step * PERIOD_NS)
            if broken_mesh and step == 1:
                vertices = mesh.vertices.copy()
                vertices[3] = np.nan
                mesh = replace(mesh, vertices=vertices)
            if meshes:
                writer.write("truth", mesh, step * PERIOD_NS)
    layers = {"alpha": mattes, "depth": (SIDE_PX, SIDE_PX) if depth else None}
    for name, size in layers.items():
        if size is not None:
            _write_layer(folder / LAYERS / name, ring, steps, size)
    return folder


def matte_of(view: Camera, centre: np.ndarray) -> U8:
    """Where the ball is, 0 or 255."""
    y, x = np.mgrid[0 : view.height, 0 : view.width]
    rays = np.linalg.inv(view.K) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1).astype(float)
    rays = (view.camera_from_world[:3, :3].T @ rays).T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    towards = centre - view.centre_world
    hit = RADIUS_M**2 - (towards @ towards - (rays @ towards) ** 2) > 0
    return np.where(hit, 255, 0).astype(np.uint8).reshape(view.height, view.width)


def _write_layer(folder: Path, ring: tuple[Camera, ...], steps: int, size: tuple[int, int]) -> None:
    with _writer(folder, ring) as writer:
        for step in range(steps):
            for view in ring:
                matte = matte_of(view, centre_at(step, steps))
                plane: np.ndarray = np.resize(matte, size[::-1]) if size != matte.shape[::-1] else matte
                if folder.name == "depth":
                    plane = np.where(plane > 0, 1 + round(0.9 * 32767), 0).astype(np.uint16)
                _write(writer, view, step, "png", encode_plane(plane), size)


def write_planes(take: Path, layer: str, data: U8, cameras: int = 5) -> None:
    """Write a layer with these bytes as the PNG of one instant of the first camera."""
    ring = tuple(camera(i, cameras) for i in range(cameras))
    with _writer(take / LAYERS / layer, ring) as writer:
        _write(writer, ring[0], 0, "png", data, (SIDE_PX, SIDE_PX))


def _writer(folder: Path, ring: tuple[Camera, ...]) -> TakeWriter:
    return TakeWriter(folder, calibration=Calibration(ring), config_text="", show="s", slate="t", take=1)


def _write(
    writer: TakeWriter, view: Camera, step: int, encoding: str, data: U8, size: tuple[int, int] | None = None
) -> None:
    height, width = data.shape[:2] if size is None else size[::-1]
    identity = (view.id, step, step, step, step * PERIOD_NS, "test", 0, 0)
    writer.write("frame", Frame(*identity, width, height, encoding, data), step * PERIOD_NS)  # type: ignore[arg-type]
