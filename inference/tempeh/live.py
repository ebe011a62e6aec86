"""The live path: compiled graphs for the networks, numpy for the geometry between them. Imports no torch."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.tempeh import frames, shape, thumbs
from inference.tempeh.frames import MM, Views
from inference.tempeh.layout import THUMB_SPAN_MM, LiveConstants, stage_points
from inference.tempeh.refine import Refiner
from inference.tempeh.shape import Fit
from streamer.geometry import rigid_from_points, transform
from streamer.types import F32, F64, U8, Camera

CLOSER_LOOKS = 4
"""At most so many after the first."""
SETTLED_MM = 25.0
"""The head is found when a closer look moves it by less; half of what a first look in a room misses by."""
ENOUGH = 0.8
"""Closer looks are spared where windows would be higher than this share of the pictures: rigs set up for heads."""


class Runnable(Protocol):
    """A compiled graph."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, F32]:
        """Run it once."""


@dataclass(frozen=True, slots=True)
class LiveResult:
    """A head, and where the time went."""

    vertices: F32
    """(N, 3) metres, world."""
    world_from_head: F32
    """(4, 4) rigid, metres."""
    stages_ns: dict[str, int] = field(default_factory=dict)
    """Stage name to wall time, ns."""


class LiveNetwork:
    """Reconstructs heads for one rig.

    Args:
        constants: fixed arrays of the model.
        graphs: `thumbs`, `stage`, `heat`, `features`, `volume`, `keys`, `attend`, compiled for `max_views` slots.
        cameras: cameras of the pictures in slot order, at the pictures' size; at most `max_views`.
        max_views: slots of the graphs.

    Raises:
        CalibrationError: the cameras do not look at one place.
    """

    def __init__(
        self, constants: LiveConstants, graphs: Mapping[str, Runnable], cameras: Sequence[Camera], max_views: int
    ) -> None:
        """Project what does not change: the stage volume of the first look."""
        self._constants, self._graphs, self._slots = constants, graphs, max_views
        world_from_rig = frames.rig_frame(cameras)
        self._world_from_rig = world_from_rig
        self._views = frames.views_of(cameras, world_from_rig)
        self._whole = thumbs.whole(self._views)
        self._first_grid = self._stage_grid(self._whole, np.zeros(3))
        prior = constants.prior
        self._landmark_prior = prior.at(constants.landmarks)
        self._control_prior = prior.at(constants.controls)
        self._refiner = Refiner(prior, constants.triangles, constants.template, constants.looked_at)

    def _padded(self, rows: F32) -> F32:
        """Append zero rows for the slots without a camera."""
        out = np.zeros((self._slots, *rows.shape[1:]), np.float32)
        out[: len(rows)] = rows
        return out

    def run(self, pictures: U8, mask: F32) -> LiveResult:
        """Reconstruct one frame set.

        Args:
            pictures: (V, H, W, 3) RGB, zero where a view is missing; V = number of cameras or of slots.
            mask: (V,) 1 where there is a picture.
        """
        views = len(self._views.K)
        pictures, present = pictures[:views], mask[:views].astype(np.float32)
        clock = _Clock()
        located = self._locate(pictures, present)
        clock.lap("localise")
        coarse, features, crop_views = self._coarse(pictures, present, located, clock)
        refined = self._refiner(coarse, features[:views], crop_views, present)
        clock.lap("refine")
        world_from_head = self._world_from_rig @ refined.a_from_head
        local = self._constants.prior.vertices(refined.coefficients).astype(np.float64)
        vertices = transform(world_from_head, local) / MM
        pose = world_from_head.copy()
        pose[:3, 3] /= MM
        clock.lap("place")
        return LiveResult(vertices.astype(np.float32), pose.astype(np.float32), clock.laps)

    def _stage_grid(self, windows: thumbs.Windows, centre: F64) -> tuple[F32, F32]:
        """Where the voxels around a centre lie in the thumbnails, and whether inside."""
        views = thumbs.thumb_views(self._views, windows)
        points = stage_points() + centre.astype(np.float32)
        grid, inside = frames.sampling_grid(frames.project_all(views, points), views.size)
        return self._padded(grid), self._padded(inside)

    def _locate(self, pictures: U8, present: F32) -> Fit:
        """Pose and rough shape in the rig frame.

        A look at whole pictures, then closer ones at where the head seemed to be, if they show it larger, until it
        stays.
        """
        found = self._look(pictures, present, self._whole, self._first_grid, np.zeros(3))
        for _ in range(CLOSER_LOOKS):
            centre = found.a_from_head[:3, 3]
            windows = thumbs.around(self._views, centre, THUMB_SPAN_MM)
            if np.median(windows[:, 3]) > ENOUGH * self._views.size[1]:
                break
            found = self._look(pictures, present, windows, self._stage_grid(windows, centre), centre)
            if np.linalg.norm(found.a_from_head[:3, 3] - centre) < SETTLED_MM:
                break
        return found

    def _look(
        self, pictures: U8, present: F32, windows: thumbs.Windows, grid_inside: tuple[F32, F32], centre: F64
    ) -> Fit:
        """Landmarks in the volume around a centre, fitted by the prior."""
        grid, inside = grid_inside
        small = np.stack([thumbs.shrink(picture, window) for picture, window in zip(pictures, windows, strict=True)])
        shown = self._padded(frames.standardise(small) * present[:, None, None, None])
        maps = self._graphs["thumbs"].run({"thumbs": shown})
        weight = inside * self._padded(present)[:, None]
        volume = self._graphs["stage"].run({"features": maps["features"], "grid": grid, "weight": weight})
        heat = self._graphs["heat"].run(volume)["heat"][0]
        share = np.exp(heat - heat.max(1, keepdims=True))
        landmarks = (share @ stage_points()) / share.sum(1, keepdims=True)
        return self._rigid_then_shape(landmarks + centre)

    def _rigid_then_shape(self, landmarks: F64) -> Fit:
        prior, constants = self._landmark_prior, self._constants
        start = Fit(rigid_from_points(prior.mean, landmarks), np.zeros(prior.components))
        return shape.fit_points(prior, start, landmarks, constants.landmark_sigma_mm)

    def _coarse(self, pictures: U8, present: F32, located: Fit, clock: "_Clock") -> tuple[Fit, F32, Views]:
        """Controls from the head volume, fitted by the prior."""
        in_head = frames.moved(self._views, located.a_from_head)
        affine = frames.crop_affines(in_head)
        crops = np.stack([frames.cut(p, a) for p, a in zip(pictures, affine, strict=True)])
        padded = self._padded(frames.standardise(crops) * present[:, None, None, None])
        clock.lap("crop")
        features = self._graphs["features"].run({"crops": padded})["features"]
        clock.lap("features")
        crop_views = frames.cropped(in_head, affine)
        grid, inside = frames.sampling_grid(frames.project_all(crop_views, self._constants.points), crop_views.size)
        weight = self._padded(inside * present[:, None])
        volume = self._graphs["volume"].run({"features": features, "grid": self._padded(grid), "weight": weight})
        keys = self._graphs["keys"].run(volume)
        controls = self._graphs["attend"].run(keys)["controls"][0].astype(np.float64)
        in_rig = transform(located.a_from_head, controls)
        coarse = shape.fit_points(self._control_prior, located, in_rig, self._constants.control_sigma_mm)
        clock.lap("coarse")
        return coarse, features, frames.cropped(self._views, affine)


class _Clock:
    """Wall time of named stages."""

    def __init__(self) -> None:
        self.laps: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def lap(self, name: str) -> None:
        now = time.perf_counter_ns()
        self.laps[name] = now - self._last
        self._last = now
