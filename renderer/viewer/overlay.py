"""The mesh drawn over pictures: one at a time, or a whole take as a mosaic video."""

from functools import cache
from pathlib import Path

import cv2
import moderngl
import numpy as np

from renderer.viewer.canvas import Canvas, text_width
from renderer.viewer.controls import Overlay
from renderer.viewer.files import VideoWriter
from renderer.viewer.gl_thread import GlThread
from renderer.viewer.layout import Rect, mosaic
from renderer.viewer.lens import lens_of
from renderer.viewer.lens_pass import TINT, LensPass
from renderer.viewer.pictures import fitted
from renderer.viewer.sheets import Sheets
from renderer.viewer.surface import Shape, Surface
from streamer.errors import ModelError, TakeError
from streamer.geometry import scaled
from streamer.takes import Take
from streamer.types import F32, U8, Camera, FrameSet, MeshFrame, Topology

_MOSAIC_WIDTH = 1920


class OverlayRenderer:
    """Draws meshes over pictures off screen; may be called from any thread. Close it when done.

    Raises:
        GraphicsError: there is no OpenGL here.
    """

    def __init__(self) -> None:
        """Open a context."""
        self._thread = GlThread("overlay")
        try:
            self._painter = self._thread.call(lambda: _Painter(self._thread.context))
        except BaseException:  # shaders that do not compile here
            self._thread.close()
            raise

    def draw(
        self,
        rgb: U8,
        camera: Camera,
        vertices: F32,
        topology: Topology,
        *,
        mode: Overlay = "solid",
        opacity: float = 0.5,
        tint: tuple[float, float, float] = TINT,
    ) -> U8:
        """Draw one mesh over one picture; arguments, result and errors as of `draw_overlay`."""
        return self._thread.call(lambda: self._painter.draw(rgb, camera, vertices, topology, mode, opacity, tint))

    def close(self) -> None:
        """Free the GPU's memory and end the thread."""
        self._thread.close()


class _Painter:
    """The part of `OverlayRenderer` that runs in its thread."""

    def __init__(self, context: moderngl.Context) -> None:
        self._context = context
        self._pass = LensPass(self._context)
        self._sheets = Sheets(self._context)
        self._surface: Surface | None = None
        self._loaded: F32 | None = None
        self._target: tuple[tuple[int, int], moderngl.Framebuffer, moderngl.Texture] | None = None

    def draw(
        self,
        rgb: U8,
        camera: Camera,
        vertices: F32,
        topology: Topology,
        mode: Overlay,
        opacity: float,
        tint: tuple[float, float, float],
    ) -> U8:
        if vertices.shape != (topology.vertex_count, 3):
            raise ModelError(
                f"a mesh of shape {vertices.shape} does not belong to topology '{topology.name}' of "
                f"{topology.vertex_count} vertices; draw it with the topology that its topology_id names"
            )
        height, width = rgb.shape[:2]
        target, picture = self._prepare(width, height)
        picture.write(np.ascontiguousarray(rgb), alignment=1)
        surface = self._load(vertices, topology)
        target.use()
        target.clear(depth=1.0)
        self._context.viewport = (0, 0, width, height)
        self._context.enable_only(moderngl.NOTHING)
        self._sheets.put(picture, Rect(0, 0, width, height), (width, height))
        lens = lens_of(scaled(camera, width, height), surface.low, surface.high)
        self._pass.draw(surface, lens, picture, (0, 0, width, height), mode=mode, opacity=opacity, tint=tint)
        drawn = np.frombuffer(target.read(components=4, alignment=1), np.uint8).reshape(height, width, 4)
        return np.asarray(cv2.flip(cv2.cvtColor(drawn, cv2.COLOR_RGBA2RGB), 0), np.uint8)

    def _prepare(self, width: int, height: int) -> tuple[moderngl.Framebuffer, moderngl.Texture]:
        if self._target is None or self._target[0] != (width, height):
            if self._target is not None:
                self._target[1].release()
                self._target[2].release()
            picture = self._context.texture((width, height), 3, alignment=1)
            picture.filter = (moderngl.NEAREST, moderngl.NEAREST)
            self._target = ((width, height), self._context.simple_framebuffer((width, height)), picture)
        return self._target[1], self._target[2]

    def _load(self, vertices: F32, topology: Topology) -> Surface:
        if self._surface is None or self._surface.shape.topology.id != topology.id:
            if self._surface is not None:
                self._surface.release()
                self._surface.shape.release()
            self._surface, self._loaded = Surface(self._context, Shape(self._context, topology)), None
        if self._loaded is not vertices:
            self._surface.load(vertices)
            self._loaded = vertices
        return self._surface


@cache
def _shared() -> OverlayRenderer:
    return OverlayRenderer()


def draw_overlay(
    rgb: U8,
    camera: Camera,
    vertices: F32,
    topology: Topology,
    *,
    mode: Overlay = "solid",
    opacity: float = 0.5,
    tint: tuple[float, float, float] = TINT,
) -> U8:
    """Draw a mesh over a picture: shaded, anti-aliased, hidden surfaces removed, through the camera's lens.

    The first call opens an OpenGL context, which the process keeps.

    Args:
        rgb: (H, W, 3) picture; it may be smaller than the calibrated one.
        camera: calibration of the full picture.
        vertices: (N, 3) metres, world; not changed afterwards.
        topology: what the vertices belong to.
        mode: `solid`, `wire`, or `off`.
        opacity: 0..1.
        tint: colour of the mesh, display RGB, 0..1.

    Returns:
        (H, W, 3) a new picture.

    Raises:
        GraphicsError: there is no OpenGL here.
        ModelError: the mesh does not belong to the topology.
    """
    return _shared().draw(rgb, camera, vertices, topology, mode=mode, opacity=opacity, tint=tint)


def overlay_take(
    take: Take,
    out: Path,
    *,
    channel: str = "mesh",
    mode: Overlay = "solid",
    opacity: float = 0.5,
    width: int = _MOSAIC_WIDTH,
) -> int:
    """Write a video of all views of a take with its meshes drawn over them.

    Every frame set gives one picture; sets without a mesh show the pictures alone, and absent cameras a dark field.
    The video has the times of the take.

    Args:
        take: open take.
        out: `.mp4`.
        channel: `mesh` or `truth`.
        mode: `solid`, `wire`, or `off`.
        opacity: 0..1.
        width: of the video, px.

    Returns:
        Number of pictures in which a mesh was drawn.

    Raises:
        TakeError: the take holds no frame sets, or no mesh on that channel.
        GraphicsError: there is no OpenGL here.
    """
    meshes = take.meshes(channel)
    if not len(meshes):
        raise TakeError(f"{take.path} holds no mesh on channel '{channel}'; nothing to draw")
    rows = {int(frame_id): row for row, frame_id in enumerate(meshes.frame_ids)}
    cameras = [camera for camera in take.calibration.cameras if camera.id in take.cameras]
    if not cameras:
        raise TakeError(f"{take.path} holds no pictures of a calibrated camera; nothing to draw on")
    height, rects = mosaic([camera.width / camera.height for camera in cameras], width)
    renderer = OverlayRenderer()
    page = _Page(width, height, cameras, rects)
    drawn = 0
    start_ns: int | None = None
    try:
        with VideoWriter(out, width, height, 30.0) as writer:
            for frame_set in take.frame_sets():
                start_ns = frame_set.exposure_time_ns if start_ns is None else start_ns
                row = rows.get(frame_set.frame_id)
                mesh = None if row is None else meshes[row]
                topology = None if mesh is None else take.topologies.get(mesh.topology_id)
                picture = page.draw(renderer, frame_set, mesh, topology, mode, opacity)
                drawn += mesh is not None and topology is not None
                writer.write(picture, (frame_set.exposure_time_ns - start_ns) / 1e9)
    finally:
        renderer.close()
    if not drawn:
        out.unlink(missing_ok=True)
        raise TakeError(f"{take.path}: no mesh of channel '{channel}' belongs to a frame set and a known topology")
    return drawn


class _Page:
    """One mosaic."""

    def __init__(self, width: int, height: int, cameras: list[Camera], rects: tuple[Rect, ...]) -> None:
        self._shape = (height, width, 3)
        self._cameras = cameras
        self._rects = rects

    def draw(
        self,
        renderer: OverlayRenderer,
        frame_set: FrameSet,
        mesh: MeshFrame | None,
        topology: Topology | None,
        mode: Overlay,
        opacity: float,
    ) -> U8:
        page = np.full(self._shape, (13, 15, 17), np.uint8)
        ink = Canvas(self._shape[1], self._shape[0])
        for camera, rect in zip(self._cameras, self._rects, strict=True):
            frame = frame_set.members.get(camera.id)
            note = frame_set.absent.get(camera.id, "")
            if frame is not None:
                picture = fitted(frame, rect.width, rect.height)
                if mesh is not None and topology is not None:
                    picture = renderer.draw(picture, camera, mesh.vertices, topology, mode=mode, opacity=opacity)
                page[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] = picture
            words = f"{camera.id}   {note}".rstrip()
            ink.box(Rect(rect.x + 8, rect.y + 8, text_width(words, 16, 600) + 16, 26), (10, 12, 15), 0.62, 6)
            ink.text(words, rect.x + 16, rect.y + 26, 16, (232, 236, 241), weight=600)
        words = f"frame {frame_set.frame_id}" + ("" if mesh is not None else "   no mesh")
        size = text_width(words, 16, 600) + 16
        ink.box(Rect(self._shape[1] - size - 8, self._shape[0] - 34, size, 26), (10, 12, 15), 0.62, 6)
        ink.text(words, self._shape[1] - 16, self._shape[0] - 16, 16, (232, 236, 241), weight=600, align="right")
        ink.over(page)
        return page
