"""The viewer process: source in, screen out, until it is told to stop."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal

import moderngl

from renderer.config import ViewConfig
from renderer.viewer.context import headless_context, window_context
from renderer.viewer.files import VideoWriter, write_png
from renderer.viewer.governor import SMOOTH, Governor
from renderer.viewer.presenter import Presenter
from renderer.viewer.source import BusSource, Source, TakeSource
from renderer.viewer.state import ViewState
from renderer.viewer.window import Window, has_display
from streamer.config import BusConfig
from streamer.errors import GraphicsError
from streamer.types import U8

if TYPE_CHECKING:
    from renderer.viewer.web import WebView

_IDLE_S = 0.008
_PICTURES_S = 2.0
"""A snapshot waits this long after the first mesh for pictures of all cameras."""


@dataclass(frozen=True, slots=True)
class ViewReport:
    """What a run of the viewer did."""

    meshes: int
    """Meshes that could be drawn."""
    drawn: int
    """Screens drawn."""
    seconds: float
    """Length of the run, s."""
    screen_rate: float
    """Screens per second at the end."""
    exposure_to_mesh_ms: float | None
    """Median at the end; None without meshes."""
    mesh_to_screen_ms: float | None
    """Median at the end; None for takes."""
    refused: dict[str, int]
    """Messages that could not be used, by reason."""


def run_view(
    view: ViewConfig,
    bus: BusConfig,
    *,
    stop: Event,
    seconds: float | None = None,
    snapshot: Path | None = None,
    video: Path | None = None,
    web: bool = False,
    window: Literal["auto", "on", "off"] = "auto",
    take: Path | None = None,
) -> ViewReport:
    """Show the live system, or a take, until stopped. The bus may be absent, go away and come back.

    Args:
        view: size, rate and number of cameras.
        bus: where to connect.
        stop: ends the run.
        seconds: length of the run; None: until stopped, or until the window is closed.
        snapshot: PNG written when there is a mesh and its pictures. Alone it ends the run; beside other outputs it is
            written at the end, and shows the last moment at which meshes came.
        video: MP4 written from the first mesh on.
        web: serve the browser view on `view.web_port`.
        window: `auto` opens one where there is a display and no other output was asked for.
        take: folder of a take to show instead of the bus.

    Raises:
        GraphicsError: nothing to draw on.
        TransportError: no mesh came although a file was asked for; the port of the browser view is in use.
        TakeError: the take cannot be read or holds no mesh.
        MissingExtra: glfw or viser is not installed.
    """
    outputs = bool(snapshot or video or web)
    windowed = window == "on" or (window == "auto" and not outputs and has_display())
    if not outputs and not windowed:
        raise GraphicsError("no display to open a window on; use --snapshot FILE.png, --video FILE.mp4 or --web")
    with ExitStack() as stack:
        source: Source
        source = BusSource(bus) if take is None else TakeSource(take, loop=windowed or (web and video is None))
        stack.callback(source.close)
        shell = _Shell(stack, view, source, windowed=windowed, drawing=windowed or bool(snapshot or video))
        if web:
            from renderer.viewer.web import WebView

            shell.web = WebView(view)
            stack.callback(shell.web.close)
        if video is not None:
            shell.video = stack.enter_context(VideoWriter(video, view.width, view.height, view.max_fps))
        report = shell.run(stop, seconds, snapshot, alone=not (video or web or windowed))
        if (snapshot or video) and not report.meshes:
            raise source.nothing_came(report.seconds)
    return report


class _Shell:
    """Clocks, window and files around a presenter."""

    def __init__(self, stack: ExitStack, view: ViewConfig, source: Source, *, windowed: bool, drawing: bool) -> None:
        self._view = view
        self._source = source
        self._state = ViewState(source.name, live=source.live)
        self._window: Window | None = None
        self._presenter: Presenter | None = None
        self.web: WebView | None = None
        self.video: VideoWriter | None = None
        self._video_from_s: float | None = None
        self._governor = Governor()
        self._last_good: U8 | None = None
        self._drawn = 0
        if windowed:
            self._window = Window(view.width, view.height, "Mien")
            stack.callback(self._window.close)
        if drawing:
            context = window_context() if self._window else headless_context()
            stack.callback(context.release)
            self._presenter = self._present(context)
            stack.callback(self._presenter.release)

    def _present(self, context: moderngl.Context) -> Presenter:
        if self._window is None:
            return Presenter(context, self._view, (self._view.width, self._view.height))
        return Presenter(context, self._view, self._window.size, screen=context.detect_framebuffer(), keys=True)

    def run(self, stop: Event, seconds: float | None, snapshot: Path | None, *, alone: bool) -> ViewReport:
        """Loop until stopped; `alone`: the snapshot is all that is wanted."""
        started_s = last_s = time.monotonic()
        due_s = first_mesh_s = 0.0
        while not stop.is_set():
            now_s = time.monotonic()
            if seconds is not None and now_s - started_s >= seconds:
                break
            for message in self._source.drain(now_s):
                self._state.apply(message, time.time_ns())
            if self._state.mesh is not None and not first_mesh_s:
                first_mesh_s = now_s
            if now_s >= due_s:
                due_s = now_s + 1.0 / self._view.max_fps
                self._tick(now_s, now_s - last_s)
                last_s = now_s
                if snapshot is not None and alone and self._ready(now_s, first_mesh_s):
                    break
            if self._source.ended or (self._window is not None and self._window.closed):
                break
            stop.wait(min(max(due_s - time.monotonic(), 0.0), _IDLE_S))
        if snapshot is not None and self._presenter is not None and self._state.meshes:
            write_png(snapshot, self._final(self._presenter))
        return self._report(time.monotonic() - started_s)

    def _final(self, presenter: Presenter) -> U8:
        """The screen as it is; where a film was made, its last picture before the meshes stopped coming."""
        if self._last_good is not None:
            return self._last_good
        presenter.scene.set_samples(SMOOTH)
        presenter.refresh(self._state, time.time_ns(), time.monotonic(), whole=True)
        return presenter.read()

    def _ready(self, now_s: float, first_mesh_s: float) -> bool:
        if self._presenter is None or not first_mesh_s:
            return False
        pictured = self._presenter.complete and (self._state.calibration is not None or self._view.cameras == 0)
        return pictured or now_s - first_mesh_s > _PICTURES_S

    def _tick(self, now_s: float, elapsed_s: float) -> None:
        if self._window is not None and self._presenter is not None:
            self._window.poll()
            self._presenter.resize(self._window.size)
            self._presenter.look, reset = self._window.steer(self._presenter.look)
            if reset:
                self._presenter.reset_camera()
        if self._presenter is not None:
            self._presenter.look = self._presenter.look.turn(elapsed_s)
            if self._presenter.refresh(self._state, time.time_ns(), now_s):
                self._show(now_s)
            self._presenter.scene.set_samples(self._governor.note(now_s, time.monotonic() - now_s))
        if self.web is not None and self.web.update(self._state, time.time_ns(), now_s) and self._presenter is None:
            self._count()

    def _show(self, now_s: float) -> None:
        if self._presenter is None:
            return
        if self._window is not None:
            self._window.show()
        if self.video is not None and self._state.mesh is not None:
            if self._video_from_s is None:
                self._video_from_s = now_s
            rgb = self._presenter.read()
            self.video.write(rgb, now_s - self._video_from_s)
            if self._state.connection(time.time_ns()) != "stale":
                self._last_good = rgb
        self._count()

    def _count(self) -> None:
        self._drawn += 1
        self._state.mark_drawn(time.time_ns())

    def _report(self, seconds: float) -> ViewReport:
        figures = self._state.figures(time.time_ns())
        latency, screen = figures.exposure_to_mesh_ms, figures.mesh_to_screen_ms
        return ViewReport(
            meshes=self._state.meshes,
            drawn=self._drawn,
            seconds=round(seconds, 3),
            screen_rate=round(figures.screen_rate, 2),
            exposure_to_mesh_ms=None if latency is None else round(latency.p50, 2),
            mesh_to_screen_ms=None if screen is None else round(screen.p50, 2),
            refused=dict(figures.refused),
        )
