"""Draws the head into the pictures of all cameras at once: moderngl on EGL, with each camera's own lens distortion.

The vertices are projected in the vertex shader exactly as `streamer.geometry.project` does, so that the pictures and
the true mesh agree to the pixel. Light is computed per vertex (the mesh is finer than 5 mm), the part of it that all
cameras see alike once for all, which keeps a software rasteriser fast.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import moderngl
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rig.simulation.head import HeadModel
from streamer.errors import DriverError
from streamer.geometry import vertex_normals
from streamer.types import F32, U8, Camera

SHADED = 0.45
"""Share of the light that reaches folds into which the sky does not look."""
VERTEX_SHADER = """
#version 330
uniform mat4 camera_from_world;
uniform vec4 focal_centre;   // fx, fy, cx, cy in px
uniform float skew_px;
uniform float distortion[5]; // k1, k2, p1, p2, k3
uniform vec2 size;           // px
uniform vec3 light_direction[3], light_colour[3], eye;
uniform float gloss;
in vec3 position; in vec3 normal; in vec3 light; in vec2 uv; in vec3 place; in vec2 part_exposure;
out vec2 v_uv; out vec3 v_place; out vec3 v_light; out vec3 v_gloss; flat out float v_part;
void main() {
    vec3 p = (camera_from_world * vec4(position, 1.0)).xyz;
    vec2 n = p.xy / max(p.z, 0.05);
    float r2 = dot(n, n);
    float radial = 1.0 + r2 * (distortion[0] + r2 * (distortion[1] + r2 * distortion[4]));
    vec2 tangential = vec2(2.0 * distortion[2] * n.x * n.y + distortion[3] * (r2 + 2.0 * n.x * n.x),
                           distortion[2] * (r2 + 2.0 * n.y * n.y) + 2.0 * distortion[3] * n.x * n.y);
    vec2 d = n * radial + tangential;
    vec2 pixel = vec2(focal_centre.x * d.x + skew_px * d.y, focal_centre.y * d.y) + focal_centre.zw;
    vec2 ndc = (pixel + 0.5) / size * 2.0 - 1.0;  // row 0 first in memory: no flip needed when read back
    gl_Position = vec4(ndc * p.z, (p.z - 0.1) / 9.9 * p.z * 2.0 - p.z, p.z);
    vec3 shine = vec3(0.0);
    vec3 view = normalize(eye - position);
    for (int i = 0; i < 3; i++) {
        float half_way = max(dot(normal, normalize(light_direction[i] + view)), 0.0);
        float h8 = half_way * half_way; h8 *= h8; h8 *= h8;
        shine += light_colour[i] * (h8 * h8 * h8) * step(0.0, dot(normal, light_direction[i]));
    }
    v_uv = uv; v_place = place; v_light = light; v_part = part_exposure.x;
    v_gloss = shine * gloss * mix(0.45, 1.0, part_exposure.y);  // SHADED
}
"""

SKIN_SHADER = """
#version 330
uniform sampler2D skin;
in vec2 v_uv; in vec3 v_light; in vec3 v_gloss;
out vec4 colour;
void main() { colour = vec4(texture(skin, v_uv).rgb * v_light + v_gloss, 1.0); }
"""

CLOTH_SHADER = """
#version 330
uniform vec3 cloth_colour;
in vec3 v_place; in vec3 v_light;
out vec4 colour;
void main() { colour = vec4(cloth_colour * v_light * (0.85 + 0.15 * sin(v_place.y * 300.0)), 1.0); }
"""

MOUTH_AND_EYES_SHADER = """
#version 330
uniform vec3 eye_centre[2], iris_colour, teeth_colour;
in vec3 v_place; in vec3 v_light; in vec3 v_gloss; flat in float v_part;
out vec4 colour;
vec3 eyeball(vec3 centre) {
    vec3 d = normalize(v_place - centre);
    float angle = length(d.xy) + (d.z < 0.0 ? 2.0 : 0.0);
    vec3 white = vec3(0.86, 0.84, 0.82);
    vec3 ring = mix(iris_colour, iris_colour * 0.35, smoothstep(0.36, 0.48, angle));
    vec3 c = mix(ring, white, smoothstep(0.46, 0.52, angle));
    return mix(vec3(0.02), c, smoothstep(0.17, 0.21, angle));
}
void main() {
    vec3 albedo;
    if (v_part < 2.5) albedo = eyeball(eye_centre[int(v_part) - 1]);
    else if (v_part < 4.5) albedo = teeth_colour;
    else albedo = vec3(0.62, 0.28, 0.27);
    colour = vec4(albedo * v_light + v_gloss, 1.0);
}
"""

SHADERS = (SKIN_SHADER, MOUTH_AND_EYES_SHADER, CLOTH_SHADER)
"""One program each: a software rasteriser pays for every branch of a shader at every pixel."""
TORSO_PART = 6.0


@dataclass(frozen=True, slots=True)
class Light:
    """Light of a stage; colours are linear factors on the albedo."""

    sky: F32
    """(3,) from above."""
    ground: F32
    """(3,) from below."""
    directions: F32
    """(3, 3) unit vectors towards the lamps, world."""
    colours: F32
    """(3, 3)."""
    gloss: float
    """Strength of highlights."""


@dataclass(frozen=True, slots=True)
class Surface:
    """What the head is painted with."""

    texture: U8
    """(S, S, 3) skin, row 0 at v = 1."""
    iris: F32
    """(3,) colour."""
    cloth: F32
    """(3,) colour."""
    teeth: F32
    """(3,) colour."""


BLACK = np.zeros(3, np.float32)
DARKNESS = Light(BLACK, BLACK, np.zeros((3, 3), np.float32), np.zeros((3, 3), np.float32), gloss=0.0)


def diffuse(light: Light, normals: NDArray[np.floating], open_sky: NDArray[np.floating]) -> NDArray[np.floating]:
    """Light that a surface scatters in all directions.

    Args:
        light: of the stage.
        normals: (V, 3), world.
        open_sky: (V,) share of the light that reaches each point.

    Returns:
        (V, 3) factors on the albedo.
    """
    height = 0.5 + 0.5 * normals[:, 1:2]
    ambient = light.ground + (light.sky - light.ground) * height
    lamps = np.maximum(normals @ light.directions.T, 0) @ light.colours
    return np.asarray((ambient + lamps) * open_sky[:, None])


class Painter:
    """An off-screen GL context with the head's buffers and one target for all cameras.

    It belongs to the thread that made it.

    Raises:
        DriverError: EGL or OpenGL 3.3 is not available.
    """

    def __init__(self, head: HeadModel, width: int, height: int, cameras: int) -> None:
        """Make the context and an atlas of `cameras` pictures stacked downwards."""
        # Mesa's software rasteriser: its threads cost a third more CPU than they save time, on cores that others need
        os.environ.setdefault("LP_NUM_THREADS", "0")
        try:
            self.context = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]  # stub says dict
        except Exception as error:
            remedy = "on Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri libgles2"
            raise DriverError(f"no OpenGL for the simulated rig ({error}); {remedy}") from error
        self.width, self.height, self.count = width, height, cameras
        self.head = head
        self._target = self.context.framebuffer(
            [self.context.renderbuffer((width, height * cameras), 4)],
            self.context.depth_renderbuffer((width, height * cameras)),
        )
        self._programs = [self.context.program(VERTEX_SHADER, shader) for shader in SHADERS]
        self._build_mesh()
        self._skin: moderngl.Texture | None = None
        self._light = DARKNESS
        eyes = [head.neutral[head.part_vertices(f"eye_{side}")] for side in ("left", "right")]
        self._set("eye_centre", np.array([(e.min(0) + e.max(0)) / 2 for e in eyes]))

    def _set(self, name: str, value: ArrayLike) -> None:
        """Set a uniform wherever it is used."""
        for program in self._programs:
            member = program.get(name, None)
            if isinstance(member, moderngl.Uniform):
                member.write(np.asarray(value, np.float32).tobytes())

    def _build_mesh(self) -> None:
        head = self.head
        pairs = np.stack([head.triangles.ravel(), head.uv_triangles.ravel()], 1)
        unique, index = np.unique(pairs, axis=0, return_inverse=True)
        torso, torso_faces = _torso()
        self._source = unique[:, 0]
        self._torso = torso
        part_of = np.zeros(len(head.neutral), np.float32)
        for part in range(len(head.part_names)):
            part_of[np.unique(head.triangles[head.triangle_part == part])] = part
        exposure = np.where(part_of == 0, head.exposure, 0.6)
        static = np.concatenate(
            [
                head.uv[unique[:, 1]],
                head.neutral[self._source],
                part_of[self._source, None],
                exposure[self._source, None],
            ],
            1,
        )
        torso_static = np.concatenate(
            [np.zeros((len(torso), 2)), torso, np.full((len(torso), 1), TORSO_PART), np.ones((len(torso), 1))], 1
        )
        faces = np.concatenate([index.reshape(-1, 3), torso_faces + len(unique)])
        self._torso_normals = vertex_normals(torso, torso_faces)
        self._static = self.context.buffer(np.concatenate([static, torso_static]).astype("f4").tobytes())
        self._dynamic = self.context.buffer(reserve=(len(unique) + len(torso)) * 36)
        self._open_sky = SHADED + (1 - SHADED) * np.concatenate([exposure[self._source], np.ones(len(torso))])
        parts = np.concatenate([head.triangle_part, np.full(len(torso_faces), TORSO_PART)])
        shader_of = np.where(parts == 0, 0, np.where(parts == TORSO_PART, 2, 1))
        layout = [
            (self._dynamic, "3f 3f 3f", "position", "normal", "light"),
            (self._static, "2f 3f 2f", "uv", "place", "part_exposure"),
        ]
        self._meshes = [
            self.context.vertex_array(
                program, layout, self.context.buffer(faces[shader_of == kind].astype("i4").tobytes()), skip_errors=True
            )
            for kind, program in enumerate(self._programs)
        ]

    def wear(self, surface: Surface, light: Light) -> None:
        """Set skin, eyes, cloth and light for the pictures to come."""
        with self.context:
            self._wear(surface, light)

    def _wear(self, surface: Surface, light: Light) -> None:
        if self._skin is not None:
            self._skin.release()
        rows = np.ascontiguousarray(surface.texture[::-1])
        self._skin = self.context.texture((rows.shape[1], rows.shape[0]), 3, rows.tobytes())
        self._skin.build_mipmaps()
        self._skin.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)
        self._light = light
        values: dict[str, ArrayLike] = {
            "iris_colour": surface.iris,
            "cloth_colour": surface.cloth,
            "teeth_colour": surface.teeth,
            "light_direction": light.directions,
            "light_colour": light.colours,
            "gloss": light.gloss,
        }
        for name, value in values.items():
            self._set(name, value)

    def paint(self, vertices: F32, torso_from_stage: NDArray[np.floating], cameras: Sequence[Camera]) -> U8:
        """Draw the head once per camera.

        Args:
            vertices: (V, 3) all parts of the head, world, metres.
            torso_from_stage: (4, 4) `world_from_torso`, metres.
            cameras: as many as the painter was made for, with its picture size.

        Returns:
            (cameras, height, width, 4) RGBA; alpha 0 where the background shows. A fresh array.
        """
        with self.context:  # another stage or a viewer may have made its own context current in this thread
            return self._paint(vertices, torso_from_stage, cameras)

    def _paint(self, vertices: F32, torso_from_stage: NDArray[np.floating], cameras: Sequence[Camera]) -> U8:
        normals = vertex_normals(vertices, self.head.triangles)
        torso = self._torso @ torso_from_stage[:3, :3].T + torso_from_stage[:3, 3]
        torso_normals = self._torso_normals @ torso_from_stage[:3, :3].T
        places = np.concatenate([vertices[self._source], torso])
        outwards = np.concatenate([normals[self._source], torso_normals])
        lights = diffuse(self._light, outwards, self._open_sky)
        self._dynamic.write(np.concatenate([places, outwards, lights], 1).astype(np.float32).tobytes())
        self._target.use()
        self._target.viewport = (0, 0, self.width, self.height * self.count)
        self.context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self.context.front_face = "cw"  # rows run downwards in the target, which mirrors the winding
        self._target.clear(0.0, 0.0, 0.0, 0.0)
        if self._skin is not None:
            self._skin.use(0)
        for row, camera in enumerate(cameras):
            self._aim(camera)
            self._target.viewport = (0, row * self.height, self.width, self.height)
            for mesh in self._meshes:
                mesh.render()
        pixels = self._target.read(viewport=(0, 0, self.width, self.height * self.count), components=4)
        return np.frombuffer(pixels, np.uint8).reshape(self.count, self.height, self.width, 4)

    def _aim(self, camera: Camera) -> None:
        k = camera.K
        self._set("camera_from_world", camera.camera_from_world.T)
        self._set("focal_centre", (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        self._set("skew_px", k[0, 1])
        self._set("distortion", camera.distortion)
        self._set("size", (camera.width, camera.height))
        self._set("eye", camera.centre_world)

    def close(self) -> None:
        """Release the context."""
        self.context.release()


def _torso() -> tuple[F32, NDArray[np.int32]]:
    """Shoulders as a closed surface of revolution, metres, head frame: they hide the cut of the neck."""
    rings = np.array(
        [
            (-0.055, 0.04),
            (-0.088, 0.055),
            (-0.097, 0.085),
            (-0.112, 0.12),
            (-0.132, 0.17),
            (-0.165, 0.21),
            (-0.3, 0.235),
            (-0.5, 0.23),
        ]
    )
    steps = 32
    angle = np.arange(steps) * 2 * np.pi / steps
    points = np.stack(
        [
            rings[:, 1, None] * np.cos(angle),
            np.broadcast_to(rings[:, 0, None], (len(rings), steps)),
            0.78 * rings[:, 1, None] * np.sin(angle) - 0.055,
        ],
        -1,
    )
    i, j = np.meshgrid(np.arange(len(rings) - 1), np.arange(steps), indexing="ij")
    a, b, c, d = i * steps + j, i * steps + (j + 1) % steps, (i + 1) * steps + j, (i + 1) * steps + (j + 1) % steps
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    return points.reshape(-1, 3).astype(np.float32), faces.astype(np.int32)
