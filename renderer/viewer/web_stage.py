"""The window's own picture for each page of a browser: one presenter a page, seen from that page's camera."""

import math
from dataclasses import dataclass, replace

import numpy as np

from renderer.config import ViewConfig
from renderer.viewer.controls import Look
from renderer.viewer.gl_thread import GlThread
from renderer.viewer.layers import Layer
from renderer.viewer.orbit import OrbitCamera
from renderer.viewer.presenter import Presenter
from renderer.viewer.scans import Scans
from renderer.viewer.state import ViewState
from streamer.types import F64, U8

MOST_PAGES = 4
"""More pages are drawn by their browsers: each costs as much as a window."""
_WIDEST_PX = 960
_STEEPEST = math.radians(89.0)


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a page looks from, as its browser says."""

    position: F64
    """(3,) metres, world."""
    look_at: F64
    """(3,) metres, world."""
    fov_y_rad: float
    """Vertical field of view."""
    width: int
    """Of the page's picture, px."""
    height: int
    """Of the page's picture, px."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that are drawn, px: the page's, or its shape at 960 px; even."""
        share = min(1.0, _WIDEST_PX / max(self.width, 1))
        return max(round(self.width * share / 2) * 2, 64), max(round(self.height * share / 2) * 2, 64)

    def camera(self, *, orthographic: bool) -> OrbitCamera:
        """Return the same camera as the window has it."""
        way = self.position - self.look_at
        distance = max(float(np.linalg.norm(way)), 1e-3)
        pitch = math.asin(min(max(float(way[1]) / distance, -1.0), 1.0))
        target = (float(self.look_at[0]), float(self.look_at[1]), float(self.look_at[2]))
        return OrbitCamera(
            target=target,
            yaw_rad=math.atan2(float(way[0]), float(way[2])),
            pitch_rad=min(max(pitch, -_STEEPEST), _STEEPEST),
            distance_m=distance,
            fov_y_rad=self.fov_y_rad,
            orthographic=orthographic,
        )


class Stage:
    """Draws for pages. Works in a thread of its own and is waited for, so that nobody changes the state meanwhile.

    Args:
        layer: meshes beside those of the state.
        scans: raw scans.

    Raises:
        GraphicsError: there is no OpenGL here.
    """

    def __init__(self, layer: Layer | None, scans: Scans | None) -> None:
        """Open a context."""
        self._thread = GlThread("stage")
        self._layer, self._scans = layer, scans
        self._pages: dict[int, Presenter] = {}

    def has_room(self, page: int) -> bool:
        """Whether this page is drawn here, or would be: pages are drawn here until there are enough."""
        return page in self._pages or len(self._pages) < MOST_PAGES

    def draw(self, page: int, seat: Seat, look: Look, state: ViewState, now_ns: int, now_s: float) -> U8 | None:
        """Draw what changed since this page's last picture.

        Args:
            page: whose.
            seat: where it looks from.
            look: what it shows; its camera is that of the seat.
            state: what is known.
            now_ns: CLOCK_REALTIME.
            now_s: a monotonic clock.

        Returns:
            (H, W, 3) RGB; None where nothing changed, or where there is no room for this page.
        """
        if not self.has_room(page):
            return None
        return self._thread.call(lambda: self._draw(page, seat, look, state, now_ns, now_s))

    def _draw(self, page: int, seat: Seat, look: Look, state: ViewState, now_ns: int, now_s: float) -> U8 | None:
        presenter = self._pages.get(page)
        if presenter is None:
            # No tiles beside the head: the page has its own.
            bare = ViewConfig(cameras=0)
            presenter = Presenter(self._thread.context, bare, seat.size, layer=self._layer, scans=self._scans)
            self._pages[page] = presenter
        presenter.resize(seat.size)
        camera = seat.camera(orthographic=look.camera.orthographic)
        presenter.look = replace(look, camera=camera, steered=True, figures=False, help=False)
        return presenter.read() if presenter.refresh(state, now_ns, now_s) else None

    def keep(self, pages: set[int]) -> None:
        """Let go of pages that were closed."""
        for page in set(self._pages) - pages:
            self._thread.call(self._pages.pop(page).release)

    def close(self) -> None:
        """Let go of all."""
        self.keep(set())
        self._thread.close()
