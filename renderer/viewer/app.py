"""The viewer process: source in, screen out, until it is told to stop."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal

from renderer.config import ViewConfig
from renderer.viewer.captures import Captures
from renderer.viewer.context import headless_context, window_context
from renderer.viewer.controls import Look
from renderer.viewer.events import Events, steer
from renderer.viewer.files import AnimationWriter, VideoWriter, picture_kind, write_picture
from renderer.viewer.hud_parts import bar_rail
from renderer.viewer.keys import KEYS
from renderer.viewer.layers import Layer, open_layer
from renderer.viewer.presenter import Presenter
from renderer.viewer.scans import Scans
from renderer.viewer.source import BusSource, Source, TakeSource
from renderer.viewer.state import ViewState
from renderer.viewer.timeline import Bar
from renderer.viewer.window import Window, has_display
from streamer.config import BusConfig
from streamer.errors import ConfigError, GraphicsError
from streamer.heap import given_back
from streamer.types import U8

if TYPE_CHECKING:
    from renderer.viewer.web import WebView

_IDLE_S = 0.008
_PICTURES_S = 2.0
"""A snapshot waits this long after the first mesh for pictures of all cameras."""


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """What to show and what to write."""

    seconds: float | None = None
    """Length of the run; None: until stopped, or until the window is closed."""
    snapshot: Path | None = None
    """PNG written when there is a mesh and its pictures. Alone it ends the run; beside other outputs it is written at
    the end, and shows the last moment at which meshes came."""
    video: Path | None = None
    """MP4 or WebP written from the first mesh on. Of a take every picture is drawn, however long that takes."""
    web: bool = False
    """Serve the browser view on `view.web_port`."""
    window: Literal["auto", "on", "off", "hidden"] = "auto"
    """`auto` opens one where there is a display and no other output was asked for; `hidden` draws as for one, without
    a display and without writing anything, to be measured."""
    take: Path | None = None
    """Folder of a take to show instead of the bus."""
    at_s: float = 0.0
    """Where in the take to begin, s."""
    against: str = ""
    """Second layer: `truth`, a layer of the take, or the folder of another take."""
    scans: Path | None = None
    """Folder of raw scans of the take, named by frame id, that distances are measured to."""
    scan_unit: Literal["m", "cm", "mm"] = "m"
    """Unit of their files."""
    keys: tuple[str, ...] = field(default=())
    """Keys pressed at the start."""


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
    mesh_to_screen_p95_ms: float | None
    """95th percentile at the end; None for takes."""
    refused: dict[str, int]
    """Messages that could not be used, by reason."""


def run_view(view: ViewConfig, bus: BusConfig, options: ViewOptions, *, stop: Event) -> ViewReport:
    """Show the live system, or a take, until stopped. The bus may be absent, go away and come back.

    Args:
        view: size, rate and number of cameras.
        bus: where to connect.
        options: what to show and to write.
        stop: ends the run.

    Raises:
        ConfigError: options that do not go together, or keys that there are not.
        GraphicsError: nothing to draw on.
        TransportError: no mesh came although a file was asked for; the port of the browser view is in use.
        TakeError: the take cannot be read or holds no mesh.
        MissingExtra: glfw or viser is not installed.
    """
    outputs = bool(options.snapshot or options.video or options.web)
    windowed = options.window == "on" or (options.window == "auto" and not outputs and has_display())
    if not outputs and not windowed and options.window != "hidden":
        raise GraphicsError("no display to open a window on; use --snapshot FILE.png, --video FILE.mp4 or --web")
    _check(options)
    with ExitStack() as stack:
        source = _open_source(bus, options, windowed)
        stack.callback(source.close)
        shell = _Shell(stack, view, source, options, windowed=windowed)
        stack.enter_context(given_back())
        report = shell.run(stop)
        if (options.snapshot or options.video) and not report.meshes:
            raise source.nothing_came(report.seconds)
    return report


def _check(options: ViewOptions) -> None:
    """Refuse what would be passed over without a word; said before waiting, not after."""
    if options.snapshot is not None:
        picture_kind(options.snapshot)
    if options.take is None and (options.scans is not None or options.at_s):
        raise ConfigError("--scans and --at belong to a take; name it with --take")
    known = {name for key in KEYS for name in key.names}
    unknown = [key for key in options.keys if key not in known]
    if unknown:
        raise ConfigError(f"no key {unknown[0]!r}; mien view --help lists them, {' '.join(sorted(known))}")


def _open_source(bus: BusConfig, options: ViewOptions, windowed: bool) -> Source:
    if options.take is None:
        return BusSource(bus)
    source = TakeSource(options.take, loop=windowed or (options.web and options.video is None))
    source.line.start(options.at_s)
    return source


class _Shell:
    """Clocks, window and files around a presenter."""

    def __init__(
        self, stack: ExitStack, view: ViewConfig, source: Source, options: ViewOptions, *, windowed: bool
    ) -> None:
        self._view, self._source, self._options = view, source, options
        self._state = ViewState(source.name, live=source.live)
        self._window: Window | None = None
        self._presenter: Presenter | None = None
        self._video: VideoWriter | AnimationWriter | None = None
        self._video_from_s: float | None = None
        self._last_good: U8 | None = None
        self._drawn = 0
        self._captures = Captures(Path(view.captures), view.max_fps)
        stack.callback(self._captures.close)
        drawing = windowed or bool(options.snapshot or options.video) or options.window == "hidden"
        # A take is filmed picture by picture, in its own time; everything else by the clock.
        self._film = bool(options.video) and not source.live and not windowed and not options.web
        self._layer, self._scans = self._open_company(stack)
        if windowed:
            self._window = Window(view.width, view.height, "Mien")
            stack.callback(self._window.close)
        if drawing:
            self._presenter = self._present(stack)
        if options.video is not None:
            self._video = _writer(options.video, view)
            stack.enter_context(self._video)
        self._web = self._serve(stack) if options.web else None

    def _serve(self, stack: ExitStack) -> "WebView":
        from renderer.viewer.web import WebView

        look = _pressed(Look(), self._options.keys) if self._options.keys else None
        web = WebView(self._view, look, self._layer, self._scans, self._source.timeline)
        stack.callback(web.close)
        return web

    def _open_company(self, stack: ExitStack) -> tuple[Layer | None, Scans | None]:
        """Open what was asked for to stand beside the meshes."""
        layer = scans = None
        if self._options.against:
            layer = open_layer(self._options.against, self._options.take)
            stack.callback(layer.close)
        if self._options.scans is not None and self._options.take is not None:
            scans = Scans(self._options.scans, self._options.take, self._options.scan_unit)
        return layer, scans

    def _present(self, stack: ExitStack) -> Presenter:
        context = window_context() if self._window else headless_context()
        stack.callback(context.release)
        size, screen = (self._view.width, self._view.height), None
        if self._window is not None:
            size, screen = self._window.size, context.detect_framebuffer()
        presenter = Presenter(
            context,
            self._view,
            size,
            window=screen,
            keys=self._window is not None,
            layer=self._layer,
            scans=self._scans,
        )
        stack.callback(presenter.release)
        presenter.look = _pressed(presenter.look, self._options.keys)
        return presenter

    def run(self, stop: Event) -> ViewReport:
        """Loop until stopped."""
        options, started_s = self._options, time.monotonic()
        alone = not (options.video or options.web or self._window)
        due_s = first_mesh_s = film_s = 0.0
        last_s = started_s
        while not stop.is_set():
            now_s = film_s if self._film else time.monotonic()
            if options.seconds is not None and now_s - (0.0 if self._film else started_s) >= options.seconds:
                break
            for message in self._source.drain(now_s):
                self._state.apply(message, time.time_ns())
            if self._state.mesh is not None and not first_mesh_s:
                first_mesh_s = max(now_s, 1e-9)
            if self._film or now_s >= due_s:
                drew = self._tick(now_s, 0.0 if last_s == started_s else now_s - last_s)
                last_s = now_s
                due_s = now_s + 1.0 / self._view.max_fps if drew else 0.0
                if options.snapshot is not None and alone and self._ready(now_s, first_mesh_s):
                    break
            if self._source.ended or (self._window is not None and self._window.closed):
                break
            film_s += 1.0 / self._view.max_fps
            if not self._film:
                self._source.wait(stop, min(max(due_s - time.monotonic(), 0.0) or _IDLE_S, _IDLE_S))
        if options.snapshot is not None and self._presenter is not None and self._state.meshes:
            write_picture(options.snapshot, self._final(self._presenter))
        return self._report(time.monotonic() - started_s)

    def _final(self, presenter: Presenter) -> U8:
        """The screen as it is; where a film was made, its last picture before the meshes stopped coming."""
        if self._last_good is not None:
            return self._last_good
        presenter.refresh(self._state, time.time_ns(), time.monotonic(), bar=self._bar(), whole=True)
        return presenter.read()

    def _bar(self) -> Bar | None:
        timeline = self._source.timeline
        return None if timeline is None else timeline.bar()

    def _ready(self, now_s: float, first_mesh_s: float) -> bool:
        if self._presenter is None or not first_mesh_s:
            return False
        pictured = self._presenter.complete and (self._state.calibration is not None or self._view.cameras == 0)
        return pictured or now_s - first_mesh_s > _PICTURES_S

    def _tick(self, now_s: float, elapsed_s: float) -> bool:
        """Draw what changed; returns whether anything did."""
        drew = False
        presenter = self._presenter
        if presenter is not None:
            if self._window is not None:
                presenter.resize(self._window.size)
                self._window.entitle(self._state.title(time.time_ns()))
                self._window.bar = presenter.layout.bar
                self._answer(presenter, self._window.poll(), now_s)
            presenter.look = presenter.look.turn(elapsed_s)
            if presenter.refresh(self._state, time.time_ns(), now_s, bar=self._bar()):
                self._show(presenter, now_s)
                drew = True
        if self._web is not None and self._web.update(self._state, time.time_ns(), now_s) and presenter is None:
            self._count()
        return drew

    def _answer(self, presenter: Presenter, events: Events, now_s: float) -> None:
        """Do what a person asked for."""
        timeline = self._source.timeline
        if timeline is not None:
            events.keys = [key for key in events.keys if not timeline.press(key)]
            bar = presenter.layout.bar
            if events.scrub is not None and bar is not None:
                rail = bar_rail(bar, presenter.layout.scale)
                timeline.seek((events.scrub - rail.x) / rail.width)
        before = presenter.look
        presenter.look = steer(before, events)
        reframed = "r" in events.keys or (before.frusta == "none") != (presenter.look.frusta == "none")
        if reframed and not presenter.look.steered:
            presenter.reset_camera()
        if events.focus is not None:
            presenter.focus(*events.focus)
        for key in events.keys:
            if key == "p" and self._drawn:
                self._captures.shoot(presenter.read())
            if key == "w":
                self._captures.toggle((presenter.layout.width, presenter.layout.height), now_s)
        self._state.notice = self._captures.said

    def _show(self, presenter: Presenter, now_s: float) -> None:
        if self._captures.filming:
            self._captures.add(presenter.read(), now_s)
        if self._window is not None:
            self._window.show()
        if self._video is not None and self._state.mesh is not None:
            if self._video_from_s is None:
                self._video_from_s = now_s
            rgb = presenter.read()
            self._video.write(rgb, now_s - self._video_from_s)
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
            mesh_to_screen_p95_ms=None if screen is None else round(screen.p95, 2),
            refused=dict(figures.refused),
        )


def _pressed(look: Look, keys: Sequence[str]) -> Look:
    for key in keys:
        look = look.press(key)
    return look


def _writer(path: Path, view: ViewConfig) -> VideoWriter | AnimationWriter:
    if path.suffix.lower() == ".webp":
        return AnimationWriter(path, view.width, view.height, view.max_fps)
    return VideoWriter(path, view.width, view.height, view.max_fps)
