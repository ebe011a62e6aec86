"""The studio that lights the head: soft boxes and a sky that turn with the viewer, as tables for the shader. Pure.

Radiance is given once, as lamps; everything is integrated from it. What a normal receives and what it mirrors are
pictures over the directions of normals ("image-based light"); what the head itself keeps off a vertex is precomputed
radiance transfer (Sloan et al. 2002) in spherical harmonics.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from renderer.viewer.harmonics import fibonacci, harmonics
from streamer.types import F32, F64, U8

Finish = Literal["skin", "clay"]

TABLE = 48
"""Width and height of the tables, texels."""
RANGE = 4.0
"""Largest value in them."""
REACH = 1.5
"""Stereographic radius at their edge: normals up to 67 degrees behind the outline."""
_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Lamp:
    """A round soft box."""

    towards: tuple[float, float, float]
    """From the head, eye axes (x right, y up, z to the viewer)."""
    colour: tuple[float, float, float]
    """Linear RGB of a white surface that faces it."""
    half_angle: float
    """Of its face as seen from the head, rad."""


LAMPS = (
    Lamp((-0.66, 0.62, 0.44), (1.30, 1.20, 1.09), 0.30),
    Lamp((0.92, 0.02, 0.38), (0.12, 0.155, 0.215), 0.55),
    Lamp((0.70, 0.40, -0.60), (0.78, 0.90, 1.04), 0.34),
    Lamp((-0.78, 0.10, -0.62), (0.18, 0.21, 0.26), 0.40),
)
"""Key, fill, rim, and a kicker on the other side."""
SKY, GROUND = (0.150, 0.170, 0.205), (0.070, 0.054, 0.046)
"""Linear radiance overhead and below."""


@dataclass(frozen=True, slots=True)
class _Surface:
    """How a finish answers light."""

    wrap: tuple[float, float, float]
    """How far light of each colour goes beyond its terminator, as a share of the cosine: red furthest in skin."""
    lobes: tuple[tuple[float, float], ...]
    """Roughness (GGX, alpha) and share of each lobe."""


_FINISHES: dict[Finish, _Surface] = {
    "skin": _Surface((0.26, 0.14, 0.10), ((0.25, 0.62), (0.115, 0.38))),
    "clay": _Surface((0.04, 0.04, 0.04), ((0.36, 1.0),)),
}


@cache
def _sphere() -> tuple[F64, F64]:
    """(D, 3) directions, eye axes, and the (D, 3) radiance that comes from each, times the solid angle of each."""
    ways = fibonacci(_SAMPLES)
    solid = 4.0 * np.pi / _SAMPLES
    up = 0.5 + 0.5 * ways[:, 1:2]
    light = np.asarray(SKY) * up + np.asarray(GROUND) * (1.0 - up)
    for lamp in LAMPS:
        towards = np.asarray(lamp.towards) / np.linalg.norm(lamp.towards)
        angle = np.arccos(np.clip(ways @ towards, -1.0, 1.0))
        face = np.clip((lamp.half_angle - angle) / (0.35 * lamp.half_angle) + 0.5, 0.0, 1.0)  # bright middle, soft rim
        faced = float((face * np.maximum(ways @ towards, 0.0)).sum()) * solid
        light = light + face[:, None] * np.asarray(lamp.colour) * (np.pi / faced)
    return ways, light * solid


def _normals() -> F64:
    """(TABLE², 3) normals of the texels: the sphere from behind, stereographically, the viewer in the middle."""
    edge = REACH * (2.0 * (np.arange(TABLE) + 0.5) / TABLE - 1.0)
    x, y = np.meshgrid(edge, edge)
    square = (x * x + y * y).ravel()
    return np.stack([2.0 * x.ravel(), 2.0 * y.ravel(), 1.0 - square], 1) / (1.0 + square)[:, None]


@cache
def tables(finish: Finish) -> tuple[U8, U8]:
    """Integrate the studio over the directions of normals.

    Args:
        finish: how the surface answers.

    Returns:
        Two (TABLE, TABLE, 3) pictures, row 0 at the bottom, of normals at 2 REACH (u - 1/2), 2 REACH (v - 1/2) of the
        stereographic plane: the light that leaves a white surface of this finish, and the light that a mirror of its
        roughness returns to a viewer straight ahead, without Fresnel's share. Linear light is RANGE (value / 255)².
    """
    ways, light = _sphere()
    normals, surface = _normals(), _FINISHES[finish]
    cosine: F32 = (normals @ ways.T).astype(np.float32)  # half the time, and 8 bits are kept
    rays: F32 = light.astype(np.float32)
    body = np.empty((len(normals), 3))
    for channel, wrap in enumerate(surface.wrap):
        # Wrapped and normalised: the integral over the sphere is that of the clamped cosine.
        answer = np.maximum(cosine + wrap, 0.0) / (1.0 + wrap) ** 2
        body[:, channel] = answer @ rays[:, channel] / np.pi
    halves = ways + np.array([0.0, 0.0, 1.0])
    halves /= np.maximum(np.linalg.norm(halves, axis=1, keepdims=True), 1e-6)
    towards: F32 = np.clip(normals @ halves.T, 0.0, 1.0).astype(np.float32)
    facing: F32 = np.clip(normals[:, 2:], 0.02, 1.0).astype(np.float32)
    mirrored = np.zeros((len(normals), 3))
    for alpha, share in surface.lobes:
        spread = alpha * alpha / (np.pi * (towards**2 * (alpha * alpha - 1.0) + 1.0) ** 2)
        lit = np.maximum(cosine, 0.0)
        k = alpha / 2.0
        masked = 1.0 / ((facing * (1.0 - k) + k) * (lit * (1.0 - k) + k))  # Smith by Schlick, cosines cancelled
        mirrored += share * ((spread * masked * 0.25 * lit) @ rays)
    return _stored(body), _stored(mirrored)


def _stored(light: F64) -> U8:
    root = np.sqrt(np.clip(light / RANGE, 0.0, 1.0))
    return np.asarray(np.round(255.0 * root), np.uint8).reshape(TABLE, TABLE, 3)


def reached(transfer: F32, free: F32, eye_from_head: F64) -> F32:
    """Share of the studio's light that reaches each vertex past the rest of the head.

    Args:
        transfer: (N, 25) of `occlusion.Sky`.
        free: (N, 25) what it would be were nothing in the way.
        eye_from_head: (3, 3) rotation.

    Returns:
        (N,) float32 in 0..1.
    """
    ways, light = _sphere()
    grey = (light @ [0.2126, 0.7152, 0.0722]).astype(np.float64)
    coefficients = (grey @ harmonics(ways @ eye_from_head)).astype(np.float32)
    share = (transfer @ coefficients) / np.maximum(free @ coefficients, 1e-4)
    return np.asarray(np.clip(share, 0.0, 1.0), np.float32)
