"""From the painter's RGBA to what a sensor delivers: background, exposure, blur, noise."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.types import U8

NOISE_TILE = 1 << 22
"""Samples of precomputed sensor noise; each picture starts at a random place in it."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One camera's response."""

    curve: NDArray[np.uint8] | None
    """(256, 1, 3) look-up table for exposure, gamma and white balance; None: the picture as it is."""
    blur_px: float
    """Sigma of defocus, 0: none."""
    noise_dn: float
    """Standard deviation of the noise, grey levels of 255."""
    grey: bool
    """Monochrome sensor: all channels equal."""


@dataclass(frozen=True, slots=True)
class Grain:
    """Sensor noise of one strength, by its sign: bytes are added and subtracted far quicker than signed ones."""

    brighter: NDArray[np.uint8]
    """(M,) grey levels to add."""
    darker: NDArray[np.uint8]
    """(M,) grey levels to take away where nothing is added."""


def grain(noise: NDArray[np.float32], noise_dn: float) -> Grain:
    """Make the noise of a sensor.

    Args:
        noise: (M,) standard normal samples.
        noise_dn: standard deviation, grey levels of 255.
    """
    levels = np.round(noise * np.float32(noise_dn))
    return Grain(np.clip(levels, 0, 127).astype(np.uint8), np.clip(-levels, 0, 127).astype(np.uint8))


def clean_sensor(noise_dn: float) -> Sensor:
    """A well exposed camera with noise of this standard deviation (grey levels)."""
    return Sensor(None, 0.0, noise_dn, grey=False)


def random_sensor(rng: np.random.Generator, height: int, grey: bool) -> Sensor:
    """Some camera with some exposure."""
    ramp = np.arange(256) / 255.0
    gain = rng.uniform(0.6, 1.35) * rng.uniform(0.92, 1.08, 3)
    curve = np.clip(gain * ramp[:, None] ** rng.uniform(0.75, 1.35) + rng.uniform(0, 0.08), 0, 1) * 255
    blur = rng.uniform(0.3, 1.0) * height / 240 if rng.random() < 0.5 else 0.0
    return Sensor(curve.astype(np.uint8)[:, None], blur, float(rng.gamma(2.0, 1.5)), grey)


def noise_tile(rng: np.random.Generator) -> NDArray[np.float32]:
    """(NOISE_TILE,) standard normal samples."""
    return rng.standard_normal(NOISE_TILE, np.float32)


def expose(rgba: U8, background: U8, sensor: Sensor, noise: Grain, offset: int) -> U8:
    """Make the picture.

    Args:
        rgba: (H, W, 4) painted head, alpha 0 or 255.
        background: (H, W, 3) what the camera sees behind it.
        sensor: the camera.
        noise: of the sensor's standard deviation.
        offset: where in `noise` to begin, below M - H * W * 3.

    Returns:
        (H, W, 3) RGB, fresh.
    """
    picture: NDArray[Any] = background.copy()
    rgb = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
    cv2.copyTo(rgb, rgba[..., 3], picture)
    if sensor.blur_px > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), sensor.blur_px)
    if sensor.grey:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if sensor.curve is not None:
        picture = cv2.LUT(picture, sensor.curve)
    if sensor.noise_dn > 0:
        window = slice(offset, offset + picture.size)
        cv2.add(picture, noise.brighter[window].reshape(picture.shape), picture)
        cv2.subtract(picture, noise.darker[window].reshape(picture.shape), picture)
    return np.asarray(picture, np.uint8)
