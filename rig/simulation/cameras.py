"""Rings of calibrated cameras around a head at the world's origin."""

from dataclasses import dataclass

import numpy as np

from streamer.geometry import look_at
from streamer.types import Calibration, Camera


def demo_ring(count: int, width: int, height: int, seed: int) -> Calibration:
    """A tidy stage: cameras on an arc of 200 degrees in two heights, 1 m away, the head two thirds of the picture high.

    Args:
        count: number of cameras.
        width: picture width, px.
        height: picture height, px.
        seed: small mounting errors and lens differences.
    """
    rng = np.random.default_rng([seed, 0xCA3])
    half_arc = np.radians(100.0 if count > 1 else 0.0)
    cameras = []
    for index, azimuth in enumerate(np.linspace(-half_arc, half_arc, count)):
        elevation = np.radians(18.0 if index % 2 else -4.0) + rng.normal(0, 0.02)
        place = _on_sphere(azimuth + rng.normal(0, 0.03), elevation, 1.0 + rng.normal(0, 0.02))
        focal = height / 0.37 * float(np.linalg.norm(place))
        distortion = np.array([rng.normal(-0.06, 0.02), rng.normal(0.02, 0.01), *rng.normal(0, 3e-4, 2), 0.0])
        cameras.append(
            _camera(
                index, width, height, focal, rng.normal(0, 0.006, 2), distortion, place, rng.normal(0, 0.01, 3), 0.0
            )
        )
    return Calibration(tuple(cameras), source=f"simulated ring, seed {seed}")


@dataclass(frozen=True, slots=True)
class RingRange:
    """What random rings are drawn from."""

    radius_m: tuple[float, float]
    """Distance of the cameras."""
    framing_m: tuple[float, float]
    """Height of the field of view at the stage."""
    aim_m: float
    """How far an optical axis passes by the stage's centre, at most, along each axis."""


STUDIO = RingRange(radius_m=(0.6, 1.5), framing_m=(0.30, 0.56), aim_m=0.027)
"""Cameras that were set up for heads."""
ROOM = RingRange(radius_m=(0.8, 2.2), framing_m=(0.5, 1.7), aim_m=0.12)
"""Webcams somewhere in a room."""


def random_ring(
    rng: np.random.Generator, count: int, width: int, height: int, within: RingRange = STUDIO
) -> Calibration:
    """Any stage somebody may build: an arc or a ring, tight or loose framing, real lenses."""
    half_arc, centre = np.radians(rng.uniform(150, 300)) / 2, rng.normal(0, 0.2)
    low, radius, framing = rng.uniform(-15, 20), rng.uniform(*within.radius_m), rng.uniform(*within.framing_m)
    cameras = []
    for index, azimuth in enumerate(np.linspace(-half_arc, half_arc, count)):
        elevation = np.radians(low + rng.uniform(-15, 25))
        place = _on_sphere(centre + azimuth + rng.normal(0, 0.09), elevation, radius * rng.uniform(0.88, 1.12))
        focal = height / (framing * rng.uniform(0.92, 1.08)) * float(np.linalg.norm(place))
        distortion = np.array([rng.uniform(-0.15, 0.1), rng.uniform(-0.05, 0.05), *rng.normal(0, 5e-4, 2), 0.0])
        target, roll = rng.uniform(-within.aim_m, within.aim_m, 3), rng.normal(0, 0.06)
        cameras.append(_camera(index, width, height, focal, rng.normal(0, 0.025, 2), distortion, place, target, roll))
    return Calibration(tuple(cameras), source="simulated random ring")


def _on_sphere(azimuth: float, elevation: float, radius: float) -> np.ndarray:
    return radius * np.array(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    )


def _camera(
    index: int,
    width: int,
    height: int,
    focal_px: float,
    centre_shift: np.ndarray,
    distortion: np.ndarray,
    place: np.ndarray,
    target: np.ndarray,
    roll_rad: float,
) -> Camera:
    centre = (np.array([width, height]) - 1) / 2 + centre_shift * height
    return Camera(
        id=f"cam_{index}",
        serial=f"SIM{index:04d}",
        width=width,
        height=height,
        K=np.array([[focal_px, 0, centre[0]], [0, focal_px, centre[1]], [0, 0, 1]]),
        distortion=distortion,
        camera_from_world=look_at(place, target, roll_rad),
    )
