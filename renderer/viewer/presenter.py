"""Brings what is known onto a screen: chooses pictures, decodes only those, draws only when something changed."""

from dataclasses import replace

import moderngl

from renderer.config import ViewConfig
from renderer.viewer.controls import Look, shown_cameras
from renderer.viewer.hud import hud_text
from renderer.viewer.hud_draw import HudPainter
from renderer.viewer.layout import Layout, arrange
from renderer.viewer.scene import Scene
from renderer.viewer.state import ViewState
from renderer.viewer.tile_view import Tile
from streamer.errors import WireError
from streamer.pixels import REDUCTIONS, decode_pixels
from streamer.types import U8, Camera, Frame, MeshFrame

_FIGURES_S = 0.25


class Presenter:
    """Draws a `ViewState`.

    Args:
        context: where it draws; the presenter stays in its thread.
        view: how many cameras are shown.
        size: width and height, px.
        screen: framebuffer of a window; None draws off screen.
        keys: whether the help line is shown.
    """

    def __init__(
        self,
        context: moderngl.Context,
        view: ViewConfig,
        size: tuple[int, int],
        *,
        screen: moderngl.Framebuffer | None = None,
        keys: bool = False,
    ) -> None:
        """Make an empty screen."""
        self.look = Look()
        self._count = view.cameras
        self._size = size
        self._keys = keys
        self._cameras: tuple[Camera, ...] = ()
        layout = arrange(*size, ())
        self.scene = Scene(context, layout, screen)
        self._painter = HudPainter(layout, keys=keys)
        self._decoded: dict[str, tuple[Frame, U8]] = {}
        self._tried: dict[str, Frame] = {}
        self._mesh: MeshFrame | None = None
        self._drawn_look: Look | None = None
        self._figures_due_s = 0.0

    @property
    def layout(self) -> Layout:
        """Where things stand."""
        return self.scene.layout

    @property
    def complete(self) -> bool:
        """Whether the mesh is drawn and every tile has its picture."""
        return self._mesh is not None and all(camera.id in self._decoded for camera in self._cameras)

    def resize(self, size: tuple[int, int]) -> None:
        """Take a new size of the window, px."""
        if size != self._size and min(size) > 0:
            self._size = size
            self._rearrange(self._cameras)

    def _rearrange(self, cameras: tuple[Camera, ...]) -> None:
        self._cameras = cameras
        self.scene.rearrange(arrange(*self._size, [camera.width / camera.height for camera in cameras]))
        self._painter = HudPainter(self.layout, keys=self._keys)
        shown = {camera.id for camera in cameras}
        self._decoded = {name: kept for name, kept in self._decoded.items() if name in shown}
        self._tried.clear()
        self._drawn_look = None
        self._figures_due_s = 0.0

    def refresh(self, state: ViewState, now_ns: int, now_s: float, *, whole: bool = False) -> bool:
        """Draw what changed.

        Args:
            state: what is known.
            now_ns: CLOCK_REALTIME, for the figures.
            now_s: a monotonic clock, for their pace.
            whole: draw and paint everything again, changed or not.

        Returns:
            Whether anything was drawn.
        """
        held = self.look.held and self._mesh is not None
        self._follow_calibration(state)
        fresh_mesh = not held and self._load_mesh(state)
        fresh_pictures = not held and self._decode(state)
        overlay = (self.look.overlay, self.look.opacity)
        before = self._drawn_look
        fresh_tiles = (
            whole or fresh_mesh or fresh_pictures or before is None or overlay != (before.overlay, before.opacity)
        )
        if fresh_tiles:
            self.scene.draw_tiles(self.look, [self._tile(camera) for camera in self._cameras])
        fresh_figures = whole or now_s >= self._figures_due_s
        if fresh_figures:
            self._figures_due_s = now_s + _FIGURES_S
            self._paint(state, now_ns)
        if not (fresh_tiles or fresh_figures or self.look != before):
            return False
        self.scene.draw(self.look)
        self._drawn_look = self.look
        return True

    def _follow_calibration(self, state: ViewState) -> None:
        if state.calibration is None:
            return
        ids = shown_cameras(state.calibration.ids, self._count, self.look.first_camera)
        cameras = tuple(state.calibration[camera_id] for camera_id in ids)
        if cameras is not self._cameras and not _same(cameras, self._cameras):
            self._rearrange(cameras)

    def _load_mesh(self, state: ViewState) -> bool:
        if state.mesh is None or state.topology is None or state.mesh is self._mesh:
            return False
        new_head = self._mesh is None or self._mesh.topology_id != state.topology.id
        self.scene.set_topology(state.topology)
        self.scene.set_mesh(state.mesh.vertices)
        self._mesh = state.mesh
        bounds = self.scene.bounds
        if new_head and not self.look.steered and bounds is not None:
            self.look = replace(self.look, camera=self.look.camera.fit(*bounds, self.layout.main.aspect))
        return True

    def reset_camera(self) -> None:
        """Frame the head anew, from the angle that the look has."""
        bounds = self.scene.bounds
        if bounds is not None:
            self.look = replace(self.look, camera=self.look.camera.fit(*bounds, self.layout.main.aspect))

    def _decode(self, state: ViewState) -> bool:
        changed = False
        for camera, tile in zip(self._cameras, self.layout.tiles, strict=True):
            frame = state.picture(camera.id)
            if frame is None or frame is self._tried.get(camera.id):
                continue
            self._tried[camera.id] = frame
            try:
                picture = decode_pixels(frame, reduction(frame.width, frame.height, tile.width))
            except WireError:
                state.refuse("picture")
                continue
            self._decoded[camera.id] = (frame, picture)
            changed = True
        return changed

    def _tile(self, camera: Camera) -> Tile:
        kept = self._decoded.get(camera.id)
        return Tile(camera, None if kept is None else kept[1])

    def _paint(self, state: ViewState, now_ns: int) -> None:
        figures = state.figures(now_ns)
        labels = [(camera.id, self._note(camera.id)) for camera in self._cameras]
        rects = self._painter.paint(hud_text(figures), figures.trace_ms, labels)
        self.scene.set_figures(self._painter.canvas.pixels, rects)

    def _note(self, camera_id: str) -> str:
        kept = self._decoded.get(camera_id)
        if kept is None:
            return "no picture"
        if self._mesh is None or kept[0].frame_id == self._mesh.frame_id:
            return ""
        return f"{kept[0].frame_id - self._mesh.frame_id:+d} frames".replace("-", "−")

    def read(self) -> U8:
        """Return what is drawn as (height, width, 3) RGB."""
        return self.scene.read()

    def release(self) -> None:
        """Free the GPU's memory."""
        self.scene.release()


def _same(cameras: tuple[Camera, ...], others: tuple[Camera, ...]) -> bool:
    """Whether two rigs draw alike."""
    return len(cameras) == len(others) and all(
        one is other
        or (
            (one.id, one.width, one.height) == (other.id, other.width, other.height)
            and (one.K == other.K).all()
            and (one.distortion == other.distortion).all()
            and (one.camera_from_world == other.camera_from_world).all()
        )
        for one, other in zip(cameras, others, strict=True)
    )


def reduction(width: int, height: int, wanted: int) -> int:
    """Largest factor that divides the picture and leaves at least `wanted` px of width; 1 if none does."""
    dividing = [factor for factor in REDUCTIONS if width % factor == 0 and height % factor == 0]
    return max((factor for factor in dividing if width // factor >= wanted), default=1)
