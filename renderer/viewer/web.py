"""The browser view: what the window shows, drawn here or in the browser, and figures. Served by viser, locally."""

import contextlib
import io
import logging
import warnings
from typing import Any

import cv2
import numpy as np

from renderer.config import ViewConfig
from renderer.viewer.controls import Look, shown_cameras
from renderer.viewer.figures import Figures
from renderer.viewer.hud import hud_text
from renderer.viewer.layers import Layer
from renderer.viewer.layout import mosaic
from renderer.viewer.overlay import OverlayRenderer
from renderer.viewer.pictures import reduction
from renderer.viewer.scans import Scans
from renderer.viewer.state import ViewState
from renderer.viewer.timeline import Timeline
from renderer.viewer.web_panel import LookPanel, TimePanel
from renderer.viewer.web_scene import WebScene, backdrop
from renderer.viewer.web_stage import MOST_PAGES, Seat, Stage
from streamer.errors import ConfigError, GraphicsError, MissingExtra, TransportError, WireError
from streamer.pixels import decode_pixels
from streamer.types import U8, Camera, Frame

_HOST = "127.0.0.1"
"""Nothing else: the page has no key. From elsewhere: ssh -L."""
_MESH_S = 1 / 20
_PICTURE_S = 1 / 4
_FIGURES_S = 1 / 2
_PICTURE_WIDTH = 320
_QUALITY = 88
_HERE, _THERE = "here, all of it", "in the browser"


class WebView:
    """A page that shows a `ViewState`.

    Args:
        view: its port and how many cameras show pictures.
        look: to begin with.
        layer: meshes beside those of the state.
        scans: raw scans.
        line: time line of a take.

    Raises:
        MissingExtra: viser is not installed.
        TransportError: the port is in use.
        ConfigError: a look, a layer or scans were asked for, and there is no OpenGL here to draw them.
    """

    def __init__(
        self,
        view: ViewConfig,
        look: Look | None = None,
        layer: Layer | None = None,
        scans: Scans | None = None,
        line: Timeline | None = None,
    ) -> None:
        """Serve the page."""
        try:
            import viser
        except ImportError as error:
            raise MissingExtra("viser", "view") from error
        begin = look or Look(frusta="pictures")
        self._overlay: OverlayRenderer | None = None
        self._stage: Stage | None = None
        self._trouble = self._open_graphics(layer, scans, asked=look is not None)
        # A browser that opens a connection and drops it is no error of ours.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", message="Queued a .* on a closed connection", category=UserWarning)
        with _quiet():
            self._server: Any = viser.ViserServer(host=_HOST, port=view.web_port, label="Mien", verbose=False)
        self.port = int(self._server.get_port())
        if self.port != view.web_port:  # viser takes the next free one without a word
            self.close()
            raise TransportError(f"port {view.web_port} is in use; choose another: --set view.web_port=PORT")
        self._count = view.cameras
        self._scene = WebScene(self._server)
        self._own: dict[int, WebScene] = {}
        """Of pages that have no room on the stage."""
        self._pictures: dict[str, U8] = {}
        self._sent: dict[str, Frame] = {}
        self._drawn: object = None
        self._staged = self._stage is not None
        self._due_s = {"mesh": 0.0, "pictures": 0.0, "figures": 0.0}
        self._furnish(begin, line, layered=layer is not None, scanned=scans is not None)

    def _open_graphics(self, layer: Layer | None, scans: Scans | None, *, asked: bool) -> str:
        """Open what draws here; returns why it cannot, "" if it can: the page itself needs no OpenGL here."""
        try:
            self._overlay = OverlayRenderer()
            self._stage = Stage(layer, scans)
        except GraphicsError as error:
            if asked or layer is not None or scans is not None:
                raise ConfigError(f"keys, layers and scans are drawn here, and it cannot be: {error}") from error
            return str(error)
        return ""

    def _furnish(self, look: Look, line: Timeline | None, *, layered: bool, scanned: bool) -> None:
        gui = self._server.gui
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=(64, 170, 180))
        self._figures = gui.add_markdown("waiting for a mesh")
        self._time = None if line is None else TimePanel(gui, line)
        choices = (_HERE, _THERE) if self._stage is not None else (_THERE,)
        self._where = gui.add_dropdown(
            "Drawn", choices, initial_value=choices[0], hint="in the browser: skin and wire alone, but at once"
        )
        self._panel = LookPanel(gui, look, layered=layered, scanned=scanned, live=line is None)
        with gui.add_folder("Pictures"):
            if self._trouble:
                gui.add_markdown(f"plain head, pictures without the mesh: {self._trouble}")
            empty = np.full((60, 320, 3), 24, np.uint8)
            self._mosaic = gui.add_image(empty, format="jpeg", jpeg_quality=85)
        self._shot = gui.add_button("Save this picture", visible=self._stage is not None)

        @self._shot.on_click  # type: ignore[untyped-decorator]
        def _(event: Any) -> None:
            if event.client_id is not None and self._staged:
                self._wanted.add(event.client_id)

        self._wanted: set[int] = set()
        self._last: dict[int, U8] = {}

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
            look = self._panel.look()
            staged = self._stage is not None and self._where.value == _HERE
            if staged != self._staged:
                self._change_over(staged)
            self._scene.show(drawn=not staged, wire=look.edges, cameras=look.frusta != "none")
            sent = self._scene.send_mesh(state)
            if staged:
                self._draw_pages(look, state, now_ns, now_s)
        if self._due("pictures", now_s, _PICTURE_S) and self._server.get_clients():  # nobody looks: nothing is decoded
            self._send_pictures(state)
            self._send_mosaic(state)
        if self._due("figures", now_s, _FIGURES_S):
            self._figures.content = figures_markdown(state.figures(now_ns))
            if self._time is not None:
                self._time.update()
        return sent

    def _due(self, what: str, now_s: float, period_s: float) -> bool:
        if now_s < self._due_s[what]:
            return False
        self._due_s[what] = now_s + period_s
        return True

    def _change_over(self, staged: bool) -> None:
        """Let the browsers draw, or draw here again."""
        self._staged = staged
        self._shot.visible = staged  # what a browser draws, nobody has here
        if self._stage is not None:
            self._stage.keep(set())  # so that all of it is drawn anew
        if not staged:
            self._wanted.clear()
            self._sent.clear()  # pictures were not hung while nothing was drawn there
            for scene in self._own.values():
                scene.remove()
            self._own.clear()
            for client in self._server.get_clients().values():
                client.scene.set_background_image(backdrop(), format="jpeg", jpeg_quality=95)

    def _draw_pages(self, look: Look, state: ViewState, now_ns: int, now_s: float) -> None:
        """Draw for each page what its camera sees."""
        if self._stage is None:
            return
        clients = self._server.get_clients()
        self._stage.keep(set(clients))
        self._own = {page: scene for page, scene in self._own.items() if page in clients}
        self._last = {page: rgb for page, rgb in self._last.items() if page in clients}
        for page, client in clients.items():
            if not self._stage.has_room(page):
                self._let_browser_draw(page, client, look, state)
                continue
            if page in self._own:
                self._own.pop(page).remove()
            eye = client.camera
            seat = Seat(np.array(eye.position), np.array(eye.look_at), eye.fov, eye.image_width, eye.image_height)
            rgb = self._stage.draw(page, seat, look, state, now_ns, now_s)
            if rgb is not None:
                self._last[page] = rgb
                client.scene.set_background_image(rgb, format="jpeg", jpeg_quality=_QUALITY)
            if page in self._wanted and page in self._last:
                self._wanted.discard(page)
                data = cv2.imencode(".png", np.ascontiguousarray(self._last[page][..., ::-1]))[1].tobytes()
                client.send_file_download("mien.png", data)

    def _let_browser_draw(self, page: int, client: Any, look: Look, state: ViewState) -> None:
        """Give a page for which there is no room here what its browser can draw."""
        scene = self._own.get(page)
        if scene is None:
            scene = self._own[page] = WebScene(self._server, client)
            scene.place_cameras(() if state.calibration is None else state.calibration.cameras)
            for camera_id, picture in self._pictures.items():
                scene.set_picture(camera_id, picture)
        scene.show(drawn=True, wire=look.edges, cameras=look.frusta != "none")
        scene.send_mesh(state)
        if page in self._wanted:
            self._wanted.discard(page)
            client.add_notification(
                "No picture was saved",
                f"Pictures are drawn for {MOST_PAGES} pages at a time, and this one is drawn by its browser. Close "
                "another page, or save the screen with the browser.",
            )

    def _send_pictures(self, state: ViewState) -> None:
        if state.calibration is None:
            return
        scenes = (self._scene, *self._own.values())
        for scene in scenes:
            scene.place_cameras(state.calibration.cameras)
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
            for scene in scenes:
                scene.set_picture(camera_id, picture)
            self._drawn = None

    def _send_mosaic(self, state: ViewState) -> None:
        """One picture of all pictures, with the mesh over each where OpenGL is there."""
        mesh, topology = state.mesh, state.topology
        cameras: tuple[Camera, ...] = () if state.calibration is None else state.calibration.cameras
        shown = [camera for camera in cameras if camera.id in self._pictures]
        look = self._panel.look()
        if not shown or mesh is None or topology is None:
            return
        what = (mesh.frame_id, mesh.exposure_time_ns, look.overlay, look.opacity)
        if what == self._drawn:
            return
        self._drawn = what
        height, rects = mosaic([camera.width / camera.height for camera in shown], 2 * _PICTURE_WIDTH)
        page = np.full((height, 2 * _PICTURE_WIDTH, 3), 24, np.uint8)
        for camera, rect in zip(shown, rects, strict=True):
            picture = np.asarray(cv2.resize(self._pictures[camera.id], (rect.width, rect.height)), np.uint8)
            if self._overlay is not None:
                picture = self._overlay.draw(
                    picture, camera, mesh.vertices, topology, mode=look.overlay, opacity=look.opacity
                )
            page[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] = picture
        self._mosaic.image = page

    def close(self) -> None:
        """Stop serving."""
        with _quiet():
            self._server.stop()
        for item in (self._overlay, self._stage):
            if item is not None:
                item.close()


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Keep what viser says to people off standard output, which may be promised to a program (--json)."""
    return contextlib.redirect_stdout(io.StringIO())


def figures_markdown(figures: Figures) -> str:
    """Figures as the page shows them."""
    text = hud_text(figures)
    lines = [f"**{text.source}** — {text.badge[0]} {text.recording}".rstrip(), text.identity, ""]
    lines += [f"| {text.headline.label} | {text.headline.value} |", "|:--|--:|"]
    lines += [f"| {row.label} | {row.value} |" for row in text.rows]
    if text.unused:
        lines += ["", f"unused: {text.unused}"]
    if text.processes:
        lines += ["", " · ".join(f"{name} ({state})" for name, state in figures.processes)]
    if text.message:
        lines += ["", f"**{text.message}**"]
    return "\n".join(lines)
