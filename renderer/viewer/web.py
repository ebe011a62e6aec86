"""The browser view: live mesh, cameras with their pictures, figures. Served by viser on this machine only."""

import contextlib
import io
import logging
from typing import Any

import cv2
import numpy as np

from renderer.config import ViewConfig
from renderer.viewer.controls import shown_cameras
from renderer.viewer.figures import Figures
from renderer.viewer.hud import hud_text
from renderer.viewer.layout import mosaic
from renderer.viewer.overlay import OverlayRenderer
from renderer.viewer.pictures import reduction
from renderer.viewer.state import ViewState
from streamer.errors import GraphicsError, MissingExtra, TransportError, WireError
from streamer.geometry import inverse_rigid
from streamer.pixels import decode_pixels
from streamer.types import F64, U8, Camera, Frame, MeshFrame, Topology

_HOST = "127.0.0.1"
"""Nothing else: the page has no key. From elsewhere: ssh -L."""
_MESH_S = 1 / 20
_PICTURE_S = 1 / 4
_FIGURES_S = 1 / 2
_PICTURE_WIDTH = 320
_SKIN = (214, 156, 128)
_FRUSTUM_M = 0.06
_LINE_M = 0.0012


class WebView:
    """A page that shows a `ViewState`.

    Args:
        view: its port and how many cameras show pictures.

    Raises:
        MissingExtra: viser is not installed.
        TransportError: the port is in use.
    """

    def __init__(self, view: ViewConfig) -> None:
        """Serve the page."""
        try:
            import viser
        except ImportError as error:
            raise MissingExtra("viser", "view") from error
        # A browser that opens a connection and drops it is no error of ours.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        with _quiet():
            self._server: Any = viser.ViserServer(host=_HOST, port=view.web_port, label="Mien", verbose=False)
        self._overlay: OverlayRenderer | None = None
        self.port = int(self._server.get_port())
        if self.port != view.web_port:  # viser takes the next free one without a word
            self.close()
            raise TransportError(f"port {view.web_port} is in use; choose another: --set view.web_port=PORT")
        self._overlay, self._trouble = _open_overlay()
        self._count = view.cameras
        self._mesh_handle: Any = None
        self._mesh: MeshFrame | None = None
        self._topology: Topology | None = None
        self._cameras: tuple[Camera, ...] = ()
        self._frusta: dict[str, Any] = {}
        self._pictures: dict[str, U8] = {}
        self._drawn: MeshFrame | None = None
        self._sent: dict[str, Frame] = {}
        self._due_s = {"mesh": 0.0, "pictures": 0.0, "figures": 0.0}
        self._furnish()

    def _furnish(self) -> None:
        server = self._server
        server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=(64, 170, 180))
        server.scene.set_up_direction("+y")
        server.scene.set_background_image(_backdrop(), format="jpeg", jpeg_quality=95)
        server.scene.configure_default_lights(enabled=False)
        for name, colour, strength, towards in (
            ("key", (255, 236, 214), 5.0, (-0.6, 0.65, 0.75)),
            ("fill", (190, 212, 255), 1.0, (0.9, 0.1, 0.5)),
            ("rim", (205, 228, 255), 2.0, (0.5, 0.5, -0.8)),
        ):
            server.scene.add_light_directional(f"/light/{name}", color=colour, intensity=strength, position=towards)
        sky, ground = (176, 190, 214), (92, 74, 62)
        server.scene.add_light_hemisphere("/light/sky", sky_color=sky, ground_color=ground, intensity=1.0)
        self._figures = server.gui.add_markdown("waiting for a mesh")
        with server.gui.add_folder("Pictures"):
            if self._trouble:
                server.gui.add_markdown(f"without the mesh: {self._trouble}")
            empty = np.full((60, 320, 3), 24, np.uint8)
            self._mosaic = server.gui.add_image(empty, format="jpeg", jpeg_quality=85)
        with server.gui.add_folder("Show"):
            self._wire = server.gui.add_checkbox("Wire frame", False)
            self._show_cameras = server.gui.add_checkbox("Cameras", True)

        @self._wire.on_update  # type: ignore[untyped-decorator]
        def _(_: object) -> None:
            if self._mesh_handle is not None:
                self._mesh_handle.wireframe = self._wire.value

        @self._show_cameras.on_update  # type: ignore[untyped-decorator]
        def _(_: object) -> None:
            for handle in self._frusta.values():
                handle.visible = self._show_cameras.value

    def update(self, state: ViewState, now_ns: int, now_s: float) -> bool:
        """Send what changed; mesh, pictures and figures each at their own pace.

        Args:
            state: what is known.
            now_ns: CLOCK_REALTIME.
            now_s: a monotonic clock.

        Returns:
            Whether a new mesh was sent.
        """
        sent = False
        if self._due("mesh", now_s, _MESH_S):
            sent = self._send_mesh(state)
        if self._due("pictures", now_s, _PICTURE_S):
            self._send_cameras(state)
            self._send_mosaic(state)
        if self._due("figures", now_s, _FIGURES_S):
            self._figures.content = figures_markdown(state.figures(now_ns))
        return sent

    def _due(self, what: str, now_s: float, period_s: float) -> bool:
        if now_s < self._due_s[what]:
            return False
        self._due_s[what] = now_s + period_s
        return True

    def _send_mesh(self, state: ViewState) -> bool:
        mesh, topology = state.mesh, state.topology
        if mesh is None or topology is None or mesh is self._mesh:
            return False
        self._mesh = mesh
        if self._topology is None or self._topology.id != topology.id:
            self._topology = topology
            self._mesh_handle = self._server.scene.add_mesh_simple(
                "/head", mesh.vertices, topology.triangles.astype(np.uint32), color=_SKIN, side="double",
                wireframe=self._wire.value,
            )  # fmt: skip
            self._frame_head(mesh, state)
        else:
            self._mesh_handle.vertices = mesh.vertices
        return True

    def _frame_head(self, mesh: MeshFrame, state: ViewState) -> None:
        low, high = mesh.vertices.min(0).astype(np.float64), mesh.vertices.max(0).astype(np.float64)
        middle = (low + high) / 2
        cameras = () if state.calibration is None else state.calibration.cameras
        away = [float(np.linalg.norm(camera.centre_world - middle)) for camera in cameras]
        # Inside the ring of cameras: none stands in the way, and they come into sight by zooming out.
        distance = 0.8 * float(np.median(away)) if away else 0.9
        way = np.array([0.34, 0.14, 1.0])
        way *= distance / np.linalg.norm(way)
        camera = self._server.initial_camera
        camera.look_at = tuple(middle.tolist())
        camera.position = tuple((middle + way).tolist())
        camera.fov = 2.4 * float(np.arctan((high[1] - low[1]) / distance / 2)) + 0.1
        for client in self._server.get_clients().values():
            client.camera.look_at, client.camera.position = camera.look_at, camera.position
        self._server.scene.add_grid(
            "/floor", width=4.0, height=4.0, plane="xz", position=(middle[0], low[1] - 0.025, middle[2]),
            cell_size=0.1, section_size=0.5, cell_color=(78, 84, 94), section_color=(104, 112, 124),
            fade_distance=2.2, shadow_opacity=0.3,
        )  # fmt: skip

    def _send_cameras(self, state: ViewState) -> None:
        if state.calibration is None:
            return
        if state.calibration.cameras is not self._cameras:
            self._place_cameras(state.calibration.cameras)
        for camera_id in shown_cameras(state.calibration.ids, self._count, 0):
            frame = state.picture(camera_id)
            if frame is None or frame is self._sent.get(camera_id):
                continue
            self._sent[camera_id] = frame
            try:
                picture = decode_pixels(frame, reduction(frame.width, frame.height, _PICTURE_WIDTH))
            except WireError:
                state.refuse("picture")
                continue
            self._pictures[camera_id] = picture
            self._frusta[camera_id].image = picture
            self._drawn = None

    def _send_mosaic(self, state: ViewState) -> None:
        """One picture of all pictures, with the mesh over each where OpenGL is there."""
        mesh, topology = state.mesh, state.topology
        shown = [camera for camera in self._cameras if camera.id in self._pictures]
        if not shown or mesh is None or topology is None or mesh is self._drawn:
            return
        self._drawn = mesh
        height, rects = mosaic([camera.width / camera.height for camera in shown], 2 * _PICTURE_WIDTH)
        page = np.full((height, 2 * _PICTURE_WIDTH, 3), 24, np.uint8)
        for camera, rect in zip(shown, rects, strict=True):
            picture = np.asarray(cv2.resize(self._pictures[camera.id], (rect.width, rect.height)), np.uint8)
            if self._overlay is not None:
                picture = self._overlay.draw(picture, camera, mesh.vertices, topology)
            page[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] = picture
        self._mosaic.image = page

    def _place_cameras(self, cameras: tuple[Camera, ...]) -> None:
        unchanged = len(cameras) == len(self._cameras) and all(
            old.id == new.id and (old.camera_from_world == new.camera_from_world).all() and (old.K == new.K).all()
            for old, new in zip(self._cameras, cameras, strict=True)
        )
        self._cameras = cameras
        if unchanged:
            return
        for handle in self._frusta.values():
            handle.remove()
        self._sent.clear()
        self._pictures.clear()
        self._frusta = {
            camera.id: self._server.scene.add_camera_frustum(
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
                visible=self._show_cameras.value,
            )
            for camera in cameras
        }

    def close(self) -> None:
        """Stop serving."""
        with _quiet():
            self._server.stop()
        if self._overlay is not None:
            self._overlay.close()


def _open_overlay() -> tuple[OverlayRenderer | None, str]:
    """A renderer for the pictures, or why there is none: the page needs no OpenGL here, only its pictures do."""
    try:
        return OverlayRenderer(), ""
    except GraphicsError as error:
        return None, str(error)


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Keep what viser says to people off standard output, which may be promised to a program (--json)."""
    return contextlib.redirect_stdout(io.StringIO())


def _backdrop() -> U8:
    """(270, 480, 3) the viewer's studio paper."""
    y, x = np.mgrid[1:-1:270j, -1.6:1.6:480j]
    pool = np.exp2(-1.9 * ((0.8 * x) ** 2 + (0.78 * (y - 0.18)) ** 2))[..., None]
    paper = np.array([0.058, 0.064, 0.078]) * (1 - pool) + np.array([0.300, 0.322, 0.350]) * pool
    return np.asarray(np.round(255 * paper), np.uint8)


def quaternion(rotation: F64) -> tuple[float, float, float, float]:
    """(3, 3) rotation to a unit quaternion w, x, y, z (the eigenvector method of Bar-Itzhack 2000)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    form = np.array(
        [
            [a + e + i, h - f, c - g, d - b],
            [h - f, a - e - i, b + d, c + g],
            [c - g, b + d, e - a - i, f + h],
            [d - b, c + g, f + h, i - a - e],
        ]
    )
    w, x, y, z = np.linalg.eigh(form)[1][:, -1].tolist()
    return w, x, y, z


def figures_markdown(figures: Figures) -> str:
    """Figures as the page shows them."""
    text = hud_text(figures)
    lines = [f"**{text.source}** — {text.badge[0]}", text.identity, ""]
    lines += [f"| {text.headline.label} | {text.headline.value} |", "|:--|--:|"]
    lines += [f"| {row.label} | {row.value} |" for row in text.rows]
    if text.unused:
        lines += ["", f"unused: {text.unused}"]
    if text.processes:
        lines += ["", " · ".join(f"{name} ({state})" for name, state in figures.processes)]
    if text.message:
        lines += ["", f"**{text.message}**"]
    return "\n".join(lines)
