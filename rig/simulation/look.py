"""How a simulated person and stage look: skin, hair, eyes, light and background, painted from random numbers."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from rig.simulation.head import HeadModel, head_topology, load_head
from rig.simulation.painter import Light, Surface
from streamer.types import F32, U8

TEXTURE = 512
"""Side of the skin texture, px."""
LIGHT_SKIN, DARK_SKIN = np.array([0.93, 0.74, 0.63]), np.array([0.27, 0.16, 0.11])


@dataclass(frozen=True, slots=True)
class Look:
    """Everything about a person's and a stage's appearance that the true mesh does not know."""

    surface: Surface
    """Skin texture and the colours of the rest."""
    light: Light
    """Lamps."""
    hair_m: F32
    """(V,) thickness of hair that the pictures show over the bald truth, metres along the normal."""


@dataclass(frozen=True, slots=True)
class SkinMap:
    """Where each texel of the skin lies on the neutral head."""

    place: F32
    """(S, S, 3) centimetres in the head frame; row 0 is v = 1."""
    lips: F32
    """(S, S) 0..1."""


@cache
def skin_map() -> SkinMap:
    """Rasterise the neutral head into its texture (cached, about 0.1 s: a killed camera node starts with it)."""
    head = load_head()
    skin = head.triangle_part == 0
    faces = head.triangles[skin]
    corners = (head.uv[head.uv_triangles[skin]] * [1, -1] + [0, 1]) * TEXTURE - 0.5
    low, high = np.floor(corners.min(1)).astype(int) - 1, np.ceil(corners.max(1)).astype(int) + 2
    sides = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 2)
    solid = np.abs(np.linalg.det(sides)) >= 1e-9
    # One row per texel of each triangle's box, the triangles in their order: where two claim a texel, the later has it.
    columns = high[:, 0] - low[:, 0]
    count = np.where(solid, columns * (high[:, 1] - low[:, 1]), 0)
    face = np.repeat(np.arange(len(faces)), count)
    y, x = np.divmod(np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count), columns[face])
    texel = np.stack([x, y], 1) + low[face]
    inverse = np.zeros_like(sides)
    inverse[solid] = np.linalg.inv(sides[solid])
    bc = np.einsum("nij,nj->ni", inverse[face], texel - corners[face, 0])
    weights = np.concatenate([1 - bc.sum(1, keepdims=True), bc], 1)
    inside = (weights > -0.35).all(1)  # a margin past the seam, so that filtering finds skin there
    face, weights, texel = faces[face[inside]], weights[inside], texel[inside] % TEXTURE
    place = np.zeros((TEXTURE, TEXTURE, 3), np.float32)
    lips = np.zeros((TEXTURE, TEXTURE), np.float32)
    place[texel[:, 1], texel[:, 0]] = np.einsum("nk,nkc->nc", weights, head.neutral[face]) * 100
    lips[texel[:, 1], texel[:, 0]] = np.einsum("nk,nk->n", weights, _lip_weight(head)[face])
    return SkinMap(place, np.clip(lips, 0, 1))


def _lip_weight(head: HeadModel) -> F32:
    reach = sum(
        np.linalg.norm(head.expression[head.units.index(u)], axis=1) for u in ("mouthRollLower", "mouthRollUpper")
    )
    return np.asarray(np.clip((reach * 100 - 0.35) * 5, 0, 1), np.float32)


def _waves(place: F32, rng: np.random.Generator, length_cm: float, count: int = 5) -> F32:
    """Smooth noise over the surface, about -1..1."""
    directions = rng.normal(size=(3, count)).astype(np.float32) * (2.2 / length_cm)
    phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
    return np.asarray(np.sin(place @ directions + phases).mean(-1) * 1.6, np.float32)


def random_look(rng: np.random.Generator, skins: NDArray[np.uint8] | None = None) -> Look:
    """Dress a person and light the stage.

    Args:
        rng: source of randomness.
        skins: (K, S, S, 3) photographic skin textures in MakeHuman's layout, row 0 at the top; used for
            three people in five.
    """
    chart, head = skin_map(), load_head()
    photographic = skins is not None and rng.random() < 0.6
    texture = _photographic(rng, skins) if photographic and skins is not None else _procedural(rng, chart)
    hair_m = np.zeros(len(head.neutral), np.float32)
    if rng.random() < 0.75:
        hair_m = _paint_hair(texture, rng, chart, head)
    surface = Surface(
        texture=(np.clip(texture, 0, 1) * 255).astype(np.uint8),
        iris=(rng.uniform(0.08, 0.5) * rng.uniform(0.5, 1.0, 3)).astype(np.float32),
        cloth=rng.uniform(0.03, 0.8, 3).astype(np.float32),
        teeth=np.float32(rng.uniform(0.6, 0.9)) * np.array([1, 0.96, 0.88], np.float32),
    )
    return Look(surface, random_light(rng), hair_m)


def _photographic(rng: np.random.Generator, skins: NDArray[np.uint8]) -> F32:
    texture = cv2.resize(skins[rng.integers(len(skins))], (TEXTURE, TEXTURE)).astype(np.float32) / 255
    return np.asarray(texture ** rng.uniform(0.8, 1.3) * rng.uniform(0.85, 1.1, 3), np.float32)


def _procedural(rng: np.random.Generator, chart: SkinMap) -> F32:
    x, y, z = np.moveaxis(chart.place, -1, 0)
    tone = rng.beta(1.1, 1.4)
    base = (LIGHT_SKIN * (1 - tone) + DARK_SKIN * tone) * rng.uniform(0.92, 1.08, 3)
    texture = np.broadcast_to(base, (*chart.lips.shape, 3)).astype(np.float32).copy()
    blotches = 0.05 * _waves(chart.place, rng, 4.0) + 0.04 * _waves(chart.place, rng, 1.2, 8)
    grain = cv2.GaussianBlur(rng.normal(0, 1, chart.lips.shape).astype(np.float32), (0, 0), 0.8) * rng.uniform(
        0.01, 0.06
    )
    texture *= (1 + blotches + grain)[..., None]
    eye_y, eye_x = 2.7, 2.89
    flush = np.exp(-(((np.abs(x) - 4.0) / 2.0) ** 2) - ((y + 0.5) / 2.0) ** 2) + np.exp(
        -((x / 1.2) ** 2) - (y / 1.5) ** 2
    )
    texture *= 1 - (np.clip(flush, 0, 1) * rng.uniform(0.0, 0.35))[..., None] * [0.0, 0.5, 0.45]
    lip = np.clip(base * [0.95, 0.62, 0.62] * rng.uniform(0.7, 1.1), 0, 1)
    lips = (chart.lips * rng.uniform(0.4, 0.95))[..., None]
    texture = texture * (1 - lips) + lip * lips
    brow_y = eye_y + rng.uniform(1.6, 2.2) - 0.12 * (np.abs(x) - eye_x) ** 2
    brow = np.exp(-(((y - brow_y) / rng.uniform(0.22, 0.5)) ** 4) - ((np.abs(x) - eye_x) / rng.uniform(1.7, 2.4)) ** 6)
    brow = np.where(z > 3, brow, 0) * rng.uniform(0.2, 0.9) * (0.8 + 0.2 * _waves(chart.place, rng, 0.3, 6))
    texture *= (1 - np.clip(brow, 0, 1))[..., None]
    if rng.random() < 0.25:
        beard = (
            np.clip((-1.5 - y) / 1.5, 0, 1)
            * np.clip((z - 1.0) / 3, 0, 1)
            * np.clip((y + 9) / 2, 0, 1)
            * (1 - chart.lips)
        )
        texture *= (1 - beard * rng.uniform(0.2, 0.8) * (0.8 + 0.3 * _waves(chart.place, rng, 0.4, 8)))[..., None]
    return np.asarray(texture, np.float32)


def _paint_hair(texture: F32, rng: np.random.Generator, chart: SkinMap, head: HeadModel) -> F32:
    """Paint a cap of hair into the texture and return its thickness per vertex, metres."""
    height, slope, back = rng.uniform(7.0, 10.0), rng.uniform(0.7, 1.3), rng.uniform(-6.0, 1.0)
    ears = head.neutral[head_topology().regions["ears"]] * 100
    low, high = np.abs(ears).min(0)[0] - 0.3, ears[:, 1:].max(0) + 0.2
    front = ears[:, 1:].min(0) - 0.4

    def cover(place: F32, ripple: F32) -> F32:
        line = np.maximum(height - slope * np.maximum(7.0 - place[..., 2], 0.0), back)
        beside = (place[..., 1:] > front).all(-1) & (place[..., 1:] < high).all(-1)
        ear = beside & (np.abs(place[..., 0]) > low)
        return np.asarray(np.where(ear, 0, np.clip((place[..., 1] - line + ripple) * 1.5, 0, 1)), np.float32)

    ripple = 0.7 * _waves(chart.place, rng, 2.0)
    amount = cover(chart.place, ripple)[..., None]
    colour = rng.uniform(0.03, 0.75) * np.array([1, rng.uniform(0.6, 0.95), rng.uniform(0.35, 0.9)])
    strands = 1 + 0.35 * _waves(chart.place, rng, 0.5, 10)[..., None]
    texture[:] = texture * (1 - amount) + colour * strands * amount
    if rng.random() < 0.45:
        return np.zeros(len(head.neutral), np.float32)
    place = head.neutral * 100
    thickness = cover(place, np.zeros(len(place), np.float32)) * rng.uniform(0.002, 0.022)
    thickness[head.skin_count :] = 0
    return np.asarray(thickness * (1 + 0.3 * _waves(place, rng, 3.0)), np.float32)


def random_light(rng: np.random.Generator) -> Light:
    """Ambient light and three lamps in front and above, of random strength and colour."""
    tint = rng.uniform(0.9, 1.1, 3)
    sky = rng.uniform(0.35, 0.75) * tint
    directions = rng.normal(size=(3, 3)) * [1.0, 0.6, 0.7] + [0, 0.6, 0.5]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    colours = rng.uniform(0.0, 0.55, (3, 1)) * rng.uniform(0.85, 1.15, (3, 3))
    return Light(
        sky.astype(np.float32),
        (sky * rng.uniform(0.4, 0.9)).astype(np.float32),
        directions.astype(np.float32),
        colours.astype(np.float32),
        float(rng.uniform(0.0, 0.25)),
    )


def studio_light() -> Light:
    """Even, soft light of a capture stage: what the demo uses."""
    directions = np.array([[-0.6, 0.5, 0.62], [0.7, 0.25, 0.67], [0.0, 0.9, -0.43]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    colours = np.array([[0.46, 0.44, 0.42], [0.22, 0.23, 0.25], [0.25, 0.25, 0.27]])
    ambient = np.array([0.46, 0.47, 0.48])
    sky, ground, lamps, tints = (np.asarray(a, np.float32) for a in (ambient, 0.75 * ambient, directions, colours))
    return Light(sky, ground, lamps, tints, gloss=0.1)


def random_background(rng: np.random.Generator, width: int, height: int) -> U8:
    """A blurred room: coarse noise, some rectangles, a blur. (height, width, 3)."""
    coarse = rng.uniform(0, 255, (*rng.integers(2, 9, 2), 3)).astype(np.float32)
    grey = coarse.mean(axis=(0, 1)) if rng.random() < 0.5 else np.full(3, rng.uniform(20, 235))
    mix = rng.uniform(0.05, 0.9)
    picture = cv2.resize(
        coarse * mix + grey.astype(np.float32) * (1 - mix), (width, height), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(rng.integers(0, 6)):
        corner, far = rng.uniform(-0.1, 1.0, 2), rng.uniform(0.05, 0.5, 2)
        first = (corner * [width, height]).astype(int)
        last = ((corner + far) * [width, height]).astype(int)
        cv2.rectangle(picture, first.tolist(), last.tolist(), rng.uniform(0, 255, 3).tolist(), -1)
    picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.5, 6.0)) * height / 240)
    return np.clip(picture, 0, 255).astype(np.uint8)


def studio_background(width: int, height: int, shade: float) -> U8:
    """The grey sweep of a studio with a soft vignette. (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    fall = 1 - 0.35 * (((x / width - 0.5) * 1.6) ** 2 + ((y / height - 0.45) * 1.5) ** 2)
    return np.asarray(np.clip(shade * fall[..., None] * np.array([1.0, 1.02, 1.05]), 0, 255), np.uint8)
