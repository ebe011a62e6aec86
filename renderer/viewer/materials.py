"""Surfaces that the head can be shown with, and the scales of those that show a number. Pure."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from streamer.types import U8

Material = Literal["skin", "clay", "wire", "normals", "uv", "speed", "views", "uncertainty", "distance"]

MATERIALS: tuple[Material, ...] = (
    "skin",
    "clay",
    "wire",
    "normals",
    "uv",
    "speed",
    "views",
    "uncertainty",
    "distance",
)


@dataclass(frozen=True, slots=True)
class Scale:
    """What the colours of a heat map mean."""

    title: str
    """For people."""
    unit: str
    """Behind the numbers; empty for counts."""
    low: float
    """Value of the first colour."""
    high: float
    """Value of the last colour; more is drawn like it."""
    colours: Literal["viridis", "turbo"]
    """Map: viridis where more is better, turbo where more is worse."""
    empty: str
    """What is said where the numbers are missing."""


def scale_of(material: Material, cameras: int = 0) -> Scale | None:
    """Return the scale of a material, None for those that show no number.

    Args:
        material: which.
        cameras: of the rig; the most that can see a vertex.
    """
    match material:
        case "speed":
            return Scale("Speed", "mm/s", 0.0, 400.0, "turbo", "needs two meshes")
        case "views":
            most = float(max(cameras, 1))
            return Scale("Cameras that see it", "", 0.0, most, "viridis", "needs a calibration")
        case "uncertainty":
            return Scale("Position, per pixel of error", "mm", 0.0, 2.0, "turbo", "needs a calibration")
        case "distance":
            return Scale("Distance to the reference", "mm", 0.0, 5.0, "turbo", "needs --scans, --against or a truth")
    return None


def colour_table(scale: Scale) -> U8:
    """(256, 3) RGB of a scale, from low to high."""
    which = cv2.COLORMAP_VIRIDIS if scale.colours == "viridis" else cv2.COLORMAP_TURBO
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(np.asarray(cv2.applyColorMap(ramp, which), np.uint8)[:, 0, ::-1])
