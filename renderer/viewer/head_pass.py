"""Draws heads in the free view: one program per material, outlines smoothed by ribbons, others seen through."""

import moderngl
import numpy as np

from renderer.viewer.context import build_program, write_uniforms
from renderer.viewer.materials import Material, colour_table, scale_of
from renderer.viewer.orbit import OrbitCamera
from renderer.viewer.studio import RANGE, REACH, TABLE, Finish, reached, tables
from renderer.viewer.surface import Surface
from streamer.geometry import inverse_rigid
from streamer.types import F64

_REACH_PX = 1.0
_LINE_INK = (0.05, 0.06, 0.07, 0.55)
_WIRE_INK = (0.50, 0.86, 0.92, 0.85)
_KINDS: dict[Material, str] = {"skin": "SKIN", "clay": "CLAY", "wire": "WIRE", "normals": "NORMALS", "uv": "UV"}


class HeadPass:
    """Programs of the free view, compiled when first used.

    Args:
        context: where it is drawn.
    """

    def __init__(self, context: moderngl.Context) -> None:
        """Keep the context."""
        self._context = context
        self._programs: dict[str, moderngl.Program] = {}
        self._tables: dict[str, moderngl.Texture] = {}
        self._studios: dict[Finish, tuple[moderngl.Texture, moderngl.Texture]] = {}

    def _program(self, kind: str) -> moderngl.Program:
        found = self._programs.get(kind)
        if found is None:
            if kind == "LINES":
                found = build_program(self._context, "head.vert", "lines.frag", "lines.geom")
            else:
                geometry = "curve.geom" if "EDGE" in kind else "uv.geom" if "UV" in kind else ""
                found = build_program(
                    self._context, "head.vert", "head.frag", geometry, include="shade.glsl", defines=kind
                )
            self._programs[kind] = found
        return found

    def draw(
        self,
        surface: Surface,
        camera: OrbitCamera,
        clip_from_world: F64,
        half_size: tuple[float, float],
        *,
        material: Material,
        eyes: bool,
        lines: bool,
        cameras: int,
    ) -> None:
        """Draw a head into the framebuffer in use, blended over what is there.

        Args:
            surface: the mesh; its numbers have been set where the material shows any.
            camera: where it is seen from.
            clip_from_world: (4, 4) of that camera.
            half_size: of the viewport, px.
            material: surface.
            eyes: whether eyes are painted.
            lines: whether the edges of the mesh are drawn.
            cameras: of the rig, for the scale of `views`.
        """
        kind = _KINDS.get(material, "HEAT")
        painted = eyes and surface.gaze is not None and material in ("skin", "clay")
        body = f"{kind} EYES" if painted else kind
        if material in ("skin", "clay"):
            eye_from_head = camera.eye_from_world()[:3, :3] @ surface.world_from_head
            surface.set_numbers(reached(surface.shape.sky.transfer, surface.shape.sky.free, eye_from_head))
        self._common(body, surface, camera, clip_from_world, material, cameras)
        below = camera.eye[1] < surface.low[1] + 0.1 * (surface.high[1] - surface.low[1])
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND | (0 if below else moderngl.CULL_FACE))
        self._context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        surface.render(self._program(body))
        edge = f"{'NORMALS' if kind == 'NORMALS' else 'HEAT' if kind == 'HEAT' else kind if kind != 'UV' else ''} EDGE"
        program = self._common(edge.strip(), surface, camera, clip_from_world, material, cameras)
        self._outline(program, surface, camera, half_size)
        if lines or material == "wire":
            program = self._program("LINES")
            ink = _WIRE_INK if material == "wire" else _LINE_INK
            write_uniforms(program, clip_from_world=clip_from_world, ink=ink)
            self._context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND | moderngl.CULL_FACE)
            surface.render(program)

    def draw_through(
        self,
        surface: Surface,
        camera: OrbitCamera,
        clip_from_world: F64,
        tint: tuple[float, float, float],
        opacity: float,
    ) -> None:
        """Draw a head like glass: clear in front, dense at its rim.

        Args:
            surface: the mesh.
            camera: where it is seen from.
            clip_from_world: (4, 4) of that camera.
            tint: display RGB.
            opacity: at the rim, 0..1.
        """
        program = self._common("TINT", surface, camera, clip_from_world, "clay", 0, opacity)
        write_uniforms(program, tint=tint)
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND | moderngl.CULL_FACE)
        self._context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        surface.render(program)

    def _common(
        self,
        kind: str,
        surface: Surface,
        camera: OrbitCamera,
        clip_from_world: F64,
        material: Material,
        cameras: int,
        opacity: float = 1.0,
    ) -> moderngl.Program:
        program, eye_from_world = self._program(kind), camera.eye_from_world()
        write_uniforms(
            program,
            clip_from_world=clip_from_world,
            eye_from_world=eye_from_world,
            clip_from_eye=clip_from_world @ inverse_rigid(eye_from_world),
            up_eye=eye_from_world[:3, 1],
            opacity=opacity,
            flat_view=(0.0, 0.0, 1.0 if camera.orthographic else 0.0),
        )
        if surface.gaze is not None and "EYES" in kind:
            rotation, shift = eye_from_world[:3, :3], eye_from_world[:3, 3]
            write_uniforms(
                program,
                eye_centre=(surface.gaze.centres @ rotation.T + shift).T,
                gaze=(surface.gaze.directions @ rotation.T).T,
                eye_radius=surface.gaze.radii_m,
            )
        scale = scale_of(material, cameras)
        if scale is not None:
            write_uniforms(program, range=(scale.low, scale.high))
            self._table(material, cameras).use(0)
        if kind == "UV":
            surface.shape.corners().use(0)
        if "SKIN" in kind or "CLAY" in kind:
            write_uniforms(program, edge=REACH, range=RANGE)
            for unit, (name, picture) in enumerate(zip(("body", "mirror"), self._studio(material), strict=True)):
                program[name] = unit
                picture.use(unit)
        return program

    def _studio(self, material: Material) -> tuple[moderngl.Texture, moderngl.Texture]:
        finish: Finish = "clay" if material == "clay" else "skin"
        found = self._studios.get(finish)
        if found is None:
            body, mirror = (
                self._context.texture((TABLE, TABLE), 3, picture.tobytes(), alignment=1) for picture in tables(finish)
            )
            for picture in (body, mirror):
                picture.repeat_x = picture.repeat_y = False
            found = self._studios[finish] = body, mirror
        return found

    def _table(self, material: Material, cameras: int) -> moderngl.Texture:
        scale = scale_of(material, cameras)
        if scale is None:
            raise ValueError(f"{material} has no scale")
        table = self._tables.get(scale.colours)
        if table is None:
            table = self._context.texture((256, 1), 3, colour_table(scale).tobytes(), alignment=1)
            table.repeat_x = False
            self._tables[scale.colours] = table
        return table

    def _outline(
        self, program: moderngl.Program, surface: Surface, camera: OrbitCamera, half_size: tuple[float, float]
    ) -> None:
        write_uniforms(program, half_size=half_size, reach=_REACH_PX)
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND)
        self._context.fbo.depth_mask = False
        surface.render_outline(program, viewer_of(camera))
        self._context.fbo.depth_mask = True

    def release(self) -> None:
        """Free programs and tables."""
        for program in self._programs.values():
            program.release()
        for table in (*self._tables.values(), *(table for pair in self._studios.values() for table in pair)):
            table.release()
        self._programs.clear()
        self._tables.clear()
        self._studios.clear()


def viewer_of(camera: OrbitCamera) -> F64:
    """(4,) homogeneous eye: a point, or the direction to it in an orthographic view."""
    if camera.orthographic:
        return np.append(camera.eye - np.asarray(camera.target), 0.0)
    return np.append(camera.eye, 1.0)
