"""The free view as a picture, and where points of the head are in it: what the tests of its looks share."""

from collections.abc import Callable

import moderngl
import numpy as np

from renderer.viewer.controls import Look
from renderer.viewer.layout import arrange
from renderer.viewer.orbit import OrbitCamera
from renderer.viewer.scene import Scene
from streamer.types import U8, Topology
from tests.renderer.makers import head_topology, on_gl

SIZE = (640, 360)
FRONT = OrbitCamera(yaw_rad=0.0, pitch_rad=0.0, distance_m=0.7)
LOOK = Look(FRONT)


def shown(look: Look, prepare: Callable[[Scene], None] = lambda _: None, topology: Topology | None = None) -> U8:
    def work(context: moderngl.Context) -> U8:
        scene = Scene(context, arrange(*SIZE, (), figures=False))
        scene.set_topology(topology or head_topology())
        scene.set_mesh((topology or head_topology()).template)
        prepare(scene)
        scene.draw(look)
        rgb = scene.read()
        scene.release()
        return rgb

    return on_gl(work)


def spot_of(point: np.ndarray, look: Look = LOOK) -> tuple[int, int]:
    """Row and column of a point in the free view."""
    clip = look.camera.clip_from_world(SIZE[0] / SIZE[1]) @ [*point, 1.0]
    x, y = clip[:2] / clip[3]
    return round((0.5 - y / 2) * SIZE[1] - 0.5), round((x / 2 + 0.5) * SIZE[0] - 0.5)
