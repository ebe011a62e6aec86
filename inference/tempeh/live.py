"""The live path: compiled graphs for the networks, numpy for the geometry between them. Imports no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.schedule import PICTURES, RESULT, WHEN, Access, Stage, run_in_order
from inference.tempeh import frames, shape, thumbs
from inference.tempeh.frames import MM
from inference.tempeh.layout import THUMB_SPAN_MM, LiveConstants, stage_points
from inference.tempeh.refine import Refiner
from inference.tempeh.shape import Fit
from inference.tempeh.tracking import Guess, Tracker
from streamer.errors import NoHeadError
from streamer.geometry import rigid_from_points, transform
from streamer.types import F32, F64, U8, Camera

CLOSER_LOOKS = 4
"""At most so many after the first."""
SETTLED_MM = 25.0
"""The head is found when a closer look moves it by less; half of what a first look in a room misses by."""
SEEN = 0.002
"""Information per view and vertex (1 / mm^2) below which nothing was seen. Heads before two cameras gave 0.0044 and
more, before eight 0.015 to 0.03 (20 takes); black, blurred, noisy, swapped and upturned pictures, and one camera alone,
0.001 and less nine times in ten."""
LEARNED_MM = 25.0
"""Models whose landmarks err by more on held-out heads have learned too little to say that there is no head (`live`:
7; after a few steps of training: 50)."""
ENOUGH = 0.8
"""Closer looks are spared where windows would be higher than this share of the pictures: rigs set up for heads."""
FEW = range(3, 7)
"""Views among which a single one that shows something else can hide the head; more outvote it."""

PARTS = ("localizer", "surface-aware", "point-to-surface", "refinement", "close-ups")
"""Parts of the method that can be left out; `point-to-surface` (heights from the pictures) is of the second stage,
`close-ups` of models that have them."""
REFUSAL = "refusal"
"""No part of the method, but left out like one where a mesh is wanted of any pictures: to time the work."""


class Runnable(Protocol):
    """A compiled graph."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, F32]:
        """Run it once."""


@dataclass(frozen=True, slots=True)
class LiveResult:
    """A head."""

    vertices: F32
    """(N, 3) metres, world."""
    world_from_head: F32
    """(4, 4) rigid, metres."""


def is_head(information: float, constants: LiveConstants, without: str) -> bool:
    """Whether the maps tell of a head; arguments as of `require_head`."""
    return information >= SEEN or constants.landmark_sigma_mm > LEARNED_MM or without == REFUSAL


def require_head(information: float, constants: LiveConstants, without: str) -> None:
    """Refuse what the maps tell nothing of: whatever the prior makes of it is no head that was seen.

    Args:
        information: of `Refiner.told`, per view, 1 / mm^2.
        constants: of the model.
        without: part that is left out; `REFUSAL`: never refuse.

    Raises:
        NoHeadError: it is less than what a head gives that two cameras see.
    """
    if is_head(information, constants, without):
        return
    raise NoHeadError(
        f"no head in sight of two cameras or more (their maps tell {information:.4f} of one, 0.004 to 0.04 are usual); "
        "check that they see it, that each is the one that the calibration says, and that none is upside down"
    )


class LiveNetwork:
    """Reconstructs heads for one rig.

    Args:
        constants: fixed arrays of the model.
        graphs: `thumbs`, `stage`, `heat`, `features`, `volume`, `keys`, `attend`, compiled for `max_views` slots.
        cameras: cameras of the pictures in slot order, at the pictures' size; at most `max_views`.
        max_views: slots of the graphs.
        source: value that the stages read pictures and mask from.
        without: part of the method that is left out, see `PARTS`; for ablations.
        tracker: follows the head from set to set in `stages`, which then also read `WHEN`; None: every set is looked
            at for itself. `run` always does that.

    Raises:
        CalibrationError: the cameras do not look at one place.
    """

    def __init__(
        self,
        constants: LiveConstants,
        graphs: Mapping[str, Runnable],
        cameras: Sequence[Camera],
        max_views: int,
        *,
        source: str = PICTURES,
        without: str = "",
        tracker: Tracker | None = None,
    ) -> None:
        """Project what does not change: the stage volume of the first look."""
        self._constants, self._graphs, self._slots, self._source = constants, graphs, max_views, source
        self._without, self._tracker = without, tracker
        world_from_rig = frames.rig_frame(cameras)
        self._world_from_rig = world_from_rig
        self._views = frames.views_of(cameras, world_from_rig)
        self._whole = thumbs.whole(self._views)
        self._first_grid = self._stage_grid(self._whole, np.zeros(3))
        prior = constants.prior
        self._landmark_prior = prior.at(constants.landmarks)
        self._control_prior = prior.at(constants.controls)
        aware = without != "surface-aware"
        self._refiner = Refiner(prior, constants.triangles, constants.template, constants.looked_at, aware=aware)

    def _padded(self, rows: F32) -> F32:
        """Append zero rows for the slots without a camera."""
        out = np.zeros((self._slots, *rows.shape[1:]), np.float32)
        out[: len(rows)] = rows
        return out

    def run(self, pictures: U8, mask: F32) -> LiveResult:
        """Reconstruct one frame set, the stages one after the other; see `stages`."""
        stages = (*self._search(self._run_persist), self._place())
        result: LiveResult = run_in_order(stages, {self._source: (pictures, mask)}).values[RESULT]
        return result

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of a run, on streams with much the same work.

        They read the value `source`, a pair of (V, H, W, 3) RGB, zero where a view is missing, V = number of cameras
        or of slots, and (V,) 1 where there is a picture; with a tracker also `WHEN`; and leave a `LiveResult` under
        `RESULT`.
        """
        if self._tracker is None:
            return (*self._search(self._run_persist), self._place())
        localise, *between, refine = self._search(self._run_judge)
        return (
            replace(localise, work=self._run_follow, reads=(self._source, WHEN), writes=(*localise.writes, "guess")),
            *between,
            replace(refine, reads=(*refine.reads, WHEN, "guess")),
            self._place(),
        )

    def _search(self, refine: Callable[[Access], None]) -> tuple[Stage, ...]:
        """The stages that end with `refined`, for a set that is looked at for itself; `refine`: work of the last."""
        return (
            Stage("localise", "locate", self._run_localise, (self._source,), ("located",)),
            Stage("crop", "locate", self._run_crop, (self._source, "located"), ("crops", "affine")),
            Stage("features", "features", self._run_features, ("crops",), ("features",), after=("crop",)),
            Stage(
                "coarse",
                "coarse",
                self._run_coarse,
                (self._source, "located", "affine", "features"),
                ("fit", "crop_views"),
                after=("features",),
            ),
            Stage(
                "refine",
                "refine",
                refine,
                (self._source, "fit", "crop_views", "features"),
                ("refined", "information"),
                after=("coarse",),
            ),
        )

    def _place(self) -> Stage:
        return Stage("place", "refine", self._run_place, ("refined", "information"), (RESULT,))

    def _inputs(self, access: Access) -> tuple[U8, F32]:
        pictures, mask = access[self._source]
        views = len(self._views.K)
        return pictures[:views], mask[:views].astype(np.float32)

    def _run_localise(self, access: Access) -> None:
        if self._without == "localizer":  # the head stands upright where the axes meet
            access["located"] = Fit(np.eye(4), np.zeros(self._constants.prior.components))
        else:
            access["located"] = self._locate(*self._inputs(access))

    def _run_crop(self, access: Access) -> None:
        """Cut the head out of every picture."""
        pictures, present = self._inputs(access)
        affine = frames.crop_affines(frames.moved(self._views, access["located"].a_from_head))
        crops = np.stack([frames.cut(p, a) for p, a in zip(pictures, affine, strict=True)])
        access["affine"] = affine
        access["crops"] = self._padded(frames.standardise(crops) * present[:, None, None, None])

    def _run_features(self, access: Access) -> None:
        access["features"] = self._graphs["features"].run({"crops": access["crops"]})["features"]

    def _run_coarse(self, access: Access) -> None:
        """Controls from the head volume, fitted by the prior."""
        _, present = self._inputs(access)
        located: Fit = access["located"]
        in_head = frames.cropped(frames.moved(self._views, located.a_from_head), access["affine"])
        grid, inside = frames.sampling_grid(frames.project_all(in_head, self._constants.points), in_head.size)
        weight = self._padded(inside * present[:, None])
        inputs = {"features": access["features"], "grid": self._padded(grid), "weight": weight}
        keys = self._graphs["keys"].run(self._graphs["volume"].run(inputs))
        controls = self._graphs["attend"].run(keys)["controls"][0].astype(np.float64)
        in_rig = transform(located.a_from_head, controls)
        access["fit"] = shape.fit_points(self._control_prior, located, in_rig, self._constants.control_sigma_mm)
        access["crop_views"] = frames.cropped(self._views, access["affine"])

    def _run_refine(self, access: Access) -> None:
        if self._without == "refinement":  # nobody looks, so nobody can say that there is no head
            access["refined"], access["information"] = access["fit"], np.inf
            return
        _, present = self._inputs(access)
        features = access["features"][: len(present)]
        access["refined"], total = self._refiner.told(access["fit"], features, access["crop_views"], present)
        access["information"] = total / max(1.0, float(present.sum()))

    def _run_follow(self, access: Access) -> None:
        """Take the tracker's word for where the head is, or localise."""
        guess = self._known().guess(access[WHEN])
        access["guess"] = guess
        if guess.trusted:
            access["located"] = guess.fit
        else:
            self._run_localise(access)

    def _run_judge(self, access: Access) -> None:
        """Refine; where the tracker's word does not stand, begin anew without it."""
        self._run_refine(access)
        tracker, guess = self._known(), access["guess"]
        if not tracker.judge(access[WHEN], guess, access["refined"], access["information"]):
            again = self._anew(*access[self._source])
            access["refined"], access["information"] = again["refined"], again["information"]
            tracker.judge(access[WHEN], Guess(guess.fit, trusted=False), again["refined"], again["information"])

    def _run_persist(self, access: Access) -> None:
        """Refine; where no head is seen, begin anew without each of few views: it may be the one that misleads."""
        self._run_refine(access)
        if is_head(access["information"], self._constants, self._without):
            return
        pictures, mask = access[self._source]
        shown = np.flatnonzero(mask[: len(self._views.K)])
        for view in shown if len(shown) in FEW else ():
            fewer = mask.copy()
            fewer[view] = 0
            again = self._anew(pictures, fewer)
            if again["information"] > access["information"]:
                access["refined"], access["information"] = again["refined"], again["information"]

    def _anew(self, pictures: U8, mask: F32) -> Mapping[str, Any]:
        """Look at a set for itself, one stage after the other; `refined` and `information` are among the values."""
        return run_in_order(self._search(self._run_refine), {self._source: (pictures, mask)}).values

    def _known(self) -> Tracker:
        if self._tracker is None:
            raise RuntimeError("stages of a network without a tracker")
        return self._tracker

    def _run_place(self, access: Access) -> None:
        """Put the head into the world, in metres."""
        require_head(access["information"], self._constants, self._without)
        refined: Fit = access["refined"]
        world_from_head = self._world_from_rig @ refined.a_from_head
        local = self._constants.prior.vertices(refined.coefficients).astype(np.float64)
        vertices = transform(world_from_head, local) / MM
        pose = world_from_head.copy()
        pose[:3, 3] /= MM
        access[RESULT] = LiveResult(vertices.astype(np.float32), pose.astype(np.float32))

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
