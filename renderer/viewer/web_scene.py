"""What a browser draws by itself: head, cameras with their pictures, light and floor, as viser's scene."""

from typing import Any

import numpy as np

from renderer.viewer.lens import same_rig
from renderer.viewer.state import ViewState
from streamer.geometry import inverse_rigid, quaternion
from streamer.types import F64, U8, Camera, MeshFrame, Topology

_SKIN = (214, 156, 128)
_FRUSTUM_M = 0.06
_LINE_M = 0.0012


class WebScene:
    """Objects on the pages of a viser server, or on one of them.

    Args:
        server: whose pages.
        page: the one client that has these; they stand in the light of all pages, and before their own. None: all.
    """

    def __init__(self, server: Any, page: Any = None) -> None:
        """Light an empty studio."""
        self._server = server
        self._scene, self._shared = (server if page is None else page).scene, page is None
        self._mesh_handle: Any = None
        self._floor: Any = None
        self._mesh: MeshFrame | None = None
        self._topology: Topology | None = None
        self._cameras: tuple[Camera, ...] = ()
        self._frusta: dict[str, Any] = {}
        self._drawn, self._wire, self._outlined = True, False, True
        if self._shared:
            self._light(self._scene)

    def _light(self, scene: Any) -> None:
        scene.set_up_direction("+y")
        scene.set_background_image(backdrop(), format="jpeg", jpeg_quality=95)
        scene.configure_default_lights(enabled=False)
        for name, colour, strength, towards in (
            ("key", (255, 236, 214), 5.0, (-0.6, 0.65, 0.75)),
            ("fill", (190, 212, 255), 1.0, (0.9, 0.1, 0.5)),
            ("rim", (205, 228, 255), 2.0, (0.5, 0.5, -0.8)),
        ):
            scene.add_light_directional(f"/light/{name}", color=colour, intensity=strength, position=towards)
        sky, ground = (176, 190, 214), (92, 74, 62)
        scene.add_light_hemisphere("/light/sky", sky_color=sky, ground_color=ground, intensity=1.0)

    def show(self, *, drawn: bool, wire: bool, cameras: bool) -> None:
        """Say what of it is seen: anything at all, the head as wire, the cameras."""
        if (drawn, wire, cameras) == (self._drawn, self._wire, self._outlined):
            return
        anew = drawn and not self._drawn
        self._drawn, self._wire, self._outlined = drawn, wire, cameras
        if self._mesh_handle is not None:
            if anew and self._mesh is not None:  # a take that stands still sends no other
                self._mesh_handle.vertices = self._mesh.vertices
            self._mesh_handle.wireframe, self._mesh_handle.visible = wire, drawn
            self._floor.visible = drawn
        for handle in self._frusta.values():
            handle.visible = drawn and cameras

    def send_mesh(self, state: ViewState) -> bool:
        """Send the newest mesh; returns whether it is another one than before. Nothing is sent while it is not seen."""
        mesh, topology = state.mesh, state.topology
        if mesh is None or topology is None or mesh is self._mesh:
            return False
        self._mesh = mesh
        if self._topology is None or self._topology.id != topology.id:
            self._topology = topology
            self._mesh_handle = self._scene.add_mesh_simple(
                "/head", mesh.vertices, topology.triangles.astype(np.uint32), color=_SKIN, side="double",
                wireframe=self._wire, visible=self._drawn,
            )  # fmt: skip
            self._frame_head(mesh, state)
        elif self._drawn:
            self._mesh_handle.vertices = mesh.vertices
        return True

    def _frame_head(self, mesh: MeshFrame, state: ViewState) -> None:
        low, high = mesh.vertices.min(0).astype(np.float64), mesh.vertices.max(0).astype(np.float64)
        middle = (low + high) / 2
        if self._shared:
            self._look_at(middle, float(high[1] - low[1]), state)
        self._floor = self._scene.add_grid(
            "/floor", width=4.0, height=4.0, plane="xz", position=(middle[0], low[1] - 0.025, middle[2]),
            cell_size=0.1, section_size=0.5, cell_color=(78, 84, 94), section_color=(104, 112, 124),
            fade_distance=2.2, shadow_opacity=0.3, visible=self._drawn,
        )  # fmt: skip

    def _look_at(self, middle: F64, height_m: float, state: ViewState) -> None:
        """Turn the pages, and those to come, to the head."""
        cameras = () if state.calibration is None else state.calibration.cameras
        away = [float(np.linalg.norm(camera.centre_world - middle)) for camera in cameras]
        # Inside the ring of cameras: none stands in the way, and they come into sight by zooming out.
        distance = 0.8 * float(np.median(away)) if away else 0.9
        way = np.array([0.34, 0.14, 1.0])
        way *= distance / np.linalg.norm(way)
        camera = self._server.initial_camera
        camera.look_at = tuple(middle.tolist())
        camera.position = tuple((middle + way).tolist())
        camera.fov = 2.4 * float(np.arctan(height_m / distance / 2)) + 0.1
        for client in self._server.get_clients().values():
            client.camera.look_at, client.camera.position = camera.look_at, camera.position

    def place_cameras(self, cameras: tuple[Camera, ...]) -> None:
        """Put the cameras of a rig there; nothing happens where they are there already."""
        if same_rig(cameras, self._cameras):
            return
        self._cameras = cameras
        for handle in self._frusta.values():
            handle.remove()
        self._frusta = {
            camera.id: self._scene.add_camera_frustum(
                f"/cameras/{camera.id}",
                fov=2 * float(np.arctan(camera.height / 2 / camera.K[1, 1])),
                aspect=camera.width / camera.height,
                scale=_FRUSTUM_M,
                thickness=_LINE_M,
                color=(84, 205, 214),
                wxyz=quaternion(inverse_rigid(camera.camera_from_world)[:3, :3]),
                position=camera.centre_world,
                format="jpeg",
                jpeg_quality=80,
                visible=self._drawn and self._outlined,
            )
            for camera in cameras
        }

    def set_picture(self, camera_id: str, picture: U8) -> None:
        """Hang a picture (H, W, 3) before its camera."""
        if self._drawn and camera_id in self._frusta:
            self._frusta[camera_id].image = picture

    def remove(self) -> None:
        """Take away all that was put there."""
        for handle in (self._mesh_handle, self._floor, *self._frusta.values()):
            if handle is not None:
                handle.remove()
        self._mesh_handle = self._floor = self._mesh = self._topology = None
        self._frusta, self._cameras = {}, ()


def backdrop() -> U8:
    """(270, 480, 3) the viewer's studio paper."""
    y, x = np.mgrid[1:-1:270j, -1.6:1.6:480j]
    pool = np.exp2(-1.9 * ((0.8 * x) ** 2 + (0.78 * (y - 0.18)) ** 2))[..., None]
    paper = np.array([0.058, 0.064, 0.078]) * (1 - pool) + np.array([0.300, 0.322, 0.350]) * pool
    return np.asarray(np.round(255 * paper), np.uint8)
