"""Brings what is known onto a screen: chooses pictures, decodes only those, draws only when something changed."""

from collections.abc import Sequence
from dataclasses import replace

import moderngl

from renderer.config import ViewConfig
from renderer.viewer.company import Company
from renderer.viewer.controls import Look, shown_cameras
from renderer.viewer.hud import hud_text
from renderer.viewer.hud_draw import HudPainter
from renderer.viewer.layers import Layer
from renderer.viewer.layout import Layout, Rect, arrange
from renderer.viewer.lens import same_rig
from renderer.viewer.materials import scale_of
from renderer.viewer.pictures import Pictures
from renderer.viewer.scans import Scans
from renderer.viewer.scene import Scene
from renderer.viewer.state import ViewState
from renderer.viewer.tile_view import Tile
from renderer.viewer.timeline import Bar
from streamer.types import U8, Camera, MeshFrame

_FIGURES_S = 0.25
_PATIENCE_S = 0.15
"""How long figures wait for a mesh that they are drawn with."""
_SMALL_PX = 160
"""Width of pictures that stand in space."""


class Presenter:
    """Draws a `ViewState`.

    Args:
        context: where it draws; the presenter stays in its thread.
        view: how many cameras are shown.
        size: width and height, px.
        window: framebuffer of a window that the screen is copied to.
        keys: whether the help line is shown.
        layer: meshes beside those of the state.
        scans: raw scans to measure distances to.
    """

    def __init__(
        self,
        context: moderngl.Context,
        view: ViewConfig,
        size: tuple[int, int],
        *,
        window: moderngl.Framebuffer | None = None,
        keys: bool = False,
        layer: Layer | None = None,
        scans: Scans | None = None,
    ) -> None:
        """Make an empty screen."""
        self.look = Look()
        self._count = view.cameras
        self._size = size
        self._keys = keys
        self._cameras: tuple[Camera, ...] = ()
        layout = arrange(*size, ())
        self.scene = Scene(context, layout, window)
        self.company = Company(self.scene, layer, scans)
        self._painter = HudPainter(layout, keys=keys)
        self._pictures = Pictures()
        self._rig: tuple[Camera, ...] = ()
        self._arranged: object = None
        self._mesh: MeshFrame | None = None
        self._drawn_look: Look | None = None
        self._bar: Bar | None = None
        self._figures_due_s = 0.0

    @property
    def layout(self) -> Layout:
        """Where things stand."""
        return self.scene.layout

    @property
    def complete(self) -> bool:
        """Whether the mesh is drawn and every tile has its picture."""
        return self._mesh is not None and all(self._pictures.get(camera.id) is not None for camera in self._cameras)

    def resize(self, size: tuple[int, int]) -> None:
        """Take a new size of the window, px."""
        if min(size) > 0:
            self._size = size

    def _arrange(self, state: ViewState, bar: Bar | None) -> None:
        """Lay the screen out anew when size, view, rig or the cameras that are shown are others than before."""
        rig = () if state.calibration is None else state.calibration.cameras
        if not same_rig(rig, self._rig):
            self._rig, self._arranged = rig, None
        ids = tuple(camera.id for camera in self._rig)
        count = len(ids) if self.look.view == "wall" else self._count + (self.look.view == "camera")
        first = 0 if self.look.view == "wall" else self.look.first_camera
        shown = shown_cameras(ids, count, first)
        wanted = (self._size, self.look.view, self.look.figures, bar is not None, shown)
        if wanted == self._arranged:
            return
        self._arranged = wanted
        by_id = {camera.id: camera for camera in self._rig}
        self._cameras = tuple(by_id[name] for name in shown)
        aspects = [camera.width / camera.height for camera in self._cameras]
        self.scene.rearrange(arrange(*self._size, aspects, self.look.figures, self.look.view, bar is not None))
        self._painter = HudPainter(self.layout, keys=self._keys)
        self._pictures.keep(ids)
        self.scene.textures.keep(ids)
        self._drawn_look = None
        self._figures_due_s = 0.0

    def refresh(
        self, state: ViewState, now_ns: int, now_s: float, *, bar: Bar | None = None, whole: bool = False
    ) -> bool:
        """Draw what changed.

        Args:
            state: what is known.
            now_ns: CLOCK_REALTIME, for the figures.
            now_s: a monotonic clock, for their pace.
            bar: time line of a take.
            whole: draw and paint everything again, changed or not.

        Returns:
            Whether anything was drawn.
        """
        held = self.look.held and self._mesh is not None and state.live
        self._arrange(state, bar)
        before = self._drawn_look
        if not held:
            self._ask(state)
        fresh_mesh = not held and self._load_mesh(state)
        self.company.update(state, self._mesh, self.look, self._rig)
        anew = whole or before is None
        fresh_tiles = anew or fresh_mesh or self._pictures.waiting or _laid(before) != _laid(self.look)
        # Figures come with the next mesh where meshes come: a screen of their own would keep it waiting.
        due = now_s >= self._figures_due_s + (0.0 if fresh_mesh or not state.live else _PATIENCE_S)
        fresh_figures = anew or due or _words(before) != _words(self.look)
        if not (fresh_tiles or fresh_figures or self.look != before or bar != self._bar):
            return False
        if self.look.view == "free" and self.look.frusta == "pictures":
            self._collect(state)
        if self.look.view == "free":
            self.scene.set_company(self.company.through, self._rig, self._small_pictures(), self.company.scan)
        self.scene.draw_head(self.look)
        self._collect(state)  # pictures are decoded while the head is drawn
        self._paint(state, now_ns, now_s, bar, anew=fresh_figures)
        if fresh_tiles or fresh_figures:
            self.scene.draw_tiles(self.look, [self._tile(camera) for camera in self._cameras], figures=fresh_figures)
        self.scene.compose(self.look)
        self.scene.show()
        self._drawn_look, self._bar = self.look, bar
        return True

    def _collect(self, state: ViewState) -> None:
        for _ in range(self._pictures.collect()[1]):
            state.refuse("picture")

    def _ask(self, state: ViewState) -> None:
        """Let the pictures that are shown be decoded."""
        wanted = {
            camera.id: (tile.width, tile.height) for camera, tile in zip(self._cameras, self.layout.tiles, strict=True)
        }
        if self.look.view == "free" and self.look.frusta == "pictures":
            for camera in self._rig:
                small = (_SMALL_PX, max(round(_SMALL_PX * camera.height / camera.width), 1))
                wanted.setdefault(camera.id, small)
        for name, size in wanted.items():
            frame = state.picture(name)
            if frame is not None:
                self._pictures.ask(name, frame, size)

    def _small_pictures(self) -> dict[str, U8]:
        if self.look.frusta != "pictures":
            return {}
        found = {camera.id: self._pictures.get(camera.id) for camera in self._rig}
        return {name: picture.rgb for name, picture in found.items() if picture is not None}

    def _load_mesh(self, state: ViewState) -> bool:
        mesh, topology = self.company.head(state, self.look)
        if mesh is None or topology is None or mesh is self._mesh:
            return False
        new_head = self._mesh is None or self._mesh.topology_id != topology.id
        self.scene.set_topology(topology)
        self.scene.set_mesh(mesh.vertices, mesh.weights)
        self._mesh = mesh
        if new_head and not self.look.steered:
            self.reset_camera()
        return True

    def reset_camera(self) -> None:
        """Frame the head anew, with the cameras where they are shown, from the angle that the look has."""
        shown = self._rig if self.look.frusta != "none" else ()
        self.look = replace(self.look, camera=self.company.frame(self.look.camera, shown, self.layout.main.aspect))

    def focus(self, x_px: float, y_px: float) -> None:
        """Look at the point of the head under a place on the screen, if there is one."""
        main = self.layout.main
        place = ((x_px - main.x) / main.width, (y_px - main.y) / main.height)
        point = self.company.point_at(*place, self.look.camera, main.aspect)
        if point is not None and self.look.view == "free":
            self.look = self.look.steer(self.look.camera.focus(point))

    def _tile(self, camera: Camera) -> Tile:
        kept = self._pictures.get(camera.id)
        return Tile(camera, None if kept is None else kept.rgb)

    def _paint(self, state: ViewState, now_ns: int, now_s: float, bar: Bar | None, *, anew: bool) -> None:
        if not anew:
            if bar != self._bar and not self.look.help:
                self.scene.update_figures(self._painter.canvas.pixels, self._painter.paint_bar(bar))
            return
        self._figures_due_s = now_s + _FIGURES_S
        figures = state.figures(now_ns)
        scale = scale_of(self.look.material, len(self._rig)) if self.look.view == "free" else None
        words = hud_text(figures)
        if self.look.scan != "none" and self.company.scan is None and not words.message:
            words = replace(words, message=f"no raw scan of frame {figures.frame_id}; --scans names their folder")
        rects = self._painter.paint(
            words,
            figures.trace_ms,
            [(camera.id, self._note(camera.id)) for camera in self._cameras],
            legend=None if scale is None else (scale, self.company.known),
            bar=bar,
            table=self.look.help,
        )
        self.scene.set_figures(self._painter.canvas.pixels, rects if self.look.figures else self._without_words(rects))

    def _without_words(self, rects: Sequence[Rect]) -> list[Rect]:
        return [rect for rect in rects if rect in (self.layout.bar, self._painter.legend)]

    def _note(self, camera_id: str) -> str:
        kept = self._pictures.get(camera_id)
        if kept is None:
            return "no picture"
        if self._mesh is None or kept.frame.frame_id == self._mesh.frame_id:
            return ""
        return f"{kept.frame.frame_id - self._mesh.frame_id:+d} frames".replace("-", "−")

    def read(self) -> U8:
        """Return what is drawn as (height, width, 3) RGB."""
        return self.scene.read()

    def release(self) -> None:
        """Free the GPU's memory and end the thread."""
        self._pictures.close()
        self.company.release()
        self.scene.release()


def _laid(look: Look | None) -> object:
    """What of a look the tiles depend on."""
    return look and (look.overlay, look.opacity)


def _words(look: Look | None) -> object:
    """What of a look is written on the screen."""
    return look and (look.help, look.figures, look.material, look.view, look.swapped, look.ghost, look.onion, look.scan)
