"""The network of `reprocess`: the live one on halved pictures, then a second stage on whole ones. Imports no torch.

The live network finds the head. Around it, larger crops are cut from pictures of twice the size and give a finer
correspondence map; the surface refiner reads that map and the pictures themselves.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from inference.schedule import PICTURES, RESULT, Access, Stage, run_in_order
from inference.tempeh import frames
from inference.tempeh.frames import LARGE_CROP, MM, views_of
from inference.tempeh.layout import DETAIL_SCALE_MM, LOOKED_AT, LiveConstants
from inference.tempeh.live import LiveNetwork, LiveResult, Runnable, require_head
from inference.tempeh.refine import Refiner
from inference.tempeh.shape import Fit
from inference.tempeh.surface import SurfaceRefiner
from inference.tempeh.tracking import Tracker
from streamer.errors import ModelError
from streamer.geometry import scaled, transform
from streamer.types import F32, I32, U8, Camera, Topology

HALVED = "halved"
"""Value of a slot: pictures at half the size, and mask."""
TRUST = 0.16
"""As `Refiner.trust`, for this finer map, whose neighbours err together even more."""
STEPS = 3
"""Gauss-Newton steps before heights are read."""
READ = ("face", "ears", "neck")
"""Regions whose heights are read: hair hides the scalp."""


class SecondStageNetwork:
    """Reconstructs heads for one rig.

    Args:
        constants: fixed arrays of the model.
        graphs: those of `LiveNetwork`, and `detail`.
        cameras: cameras of the pictures in slot order; at most `max_views`.
        max_views: slots of the graphs.
        topology: of the model.
        without: part of the method that is left out, see `live.PARTS`; for ablations.
        tracker: of the first stage, see `LiveNetwork`.

    Raises:
        CalibrationError: the cameras do not look at one place.
        ModelError: pictures that cannot be halved.
    """

    def __init__(
        self,
        constants: LiveConstants,
        graphs: Mapping[str, Runnable],
        cameras: Sequence[Camera],
        max_views: int,
        topology: Topology,
        *,
        without: str = "",
        tracker: Tracker | None = None,
    ) -> None:
        """Place the cameras of both stages."""
        width, height = cameras[0].width, cameras[0].height
        if width % 2 or height % 2:
            raise ModelError(f"a model with two stages needs pictures of even size, not {width}x{height}")
        self._half = (width // 2, height // 2)
        self._first = LiveNetwork(
            constants,
            graphs,
            [scaled(camera, *self._half) for camera in cameras],
            max_views,
            source=HALVED,
            without=without,
            tracker=tracker,
        )
        self._without = without
        self._detail, self._slots, self._constants = graphs["detail"], max_views, constants
        self._world_from_rig = frames.rig_frame(cameras)
        self._views = views_of(cameras, self._world_from_rig)
        outer = topology.regions["head"]
        trust = TRUST * LOOKED_AT / len(outer)
        refiner = Refiner(
            constants.prior,
            constants.triangles,
            constants.template,
            outer,
            trust,
            STEPS,
            DETAIL_SCALE_MM,
            without != "surface-aware",
        )
        self._surface = SurfaceRefiner(refiner, _read_at(topology), heights=without != "point-to-surface")

    def run(self, pictures: U8, mask: F32) -> LiveResult:
        """Reconstruct one frame set, the stages one after the other; see `LiveNetwork.stages`."""
        result: LiveResult = run_in_order(self.stages(), {PICTURES: (pictures, mask)}).values[RESULT]
        return result

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of a run, as `LiveNetwork.stages` does."""
        whole = self._first.stages()
        if self._without == "refinement":
            return (Stage("halve", whole[0].stream, self._run_halve, (PICTURES,), (HALVED,)), *whole)
        first = [stage for stage in whole if RESULT not in stage.writes]
        halve = Stage("halve", first[0].stream, self._run_halve, (PICTURES,), (HALVED,))
        last = first[-1].name
        return (
            halve,
            *first,
            Stage(
                "detail",
                "detail",
                self._run_detail,
                (PICTURES, "refined", "information"),
                ("maps", "large_affine"),
                after=(last,),
            ),
            Stage(
                "surface",
                "surface",
                self._run_surface,
                (PICTURES, "refined", "maps", "large_affine"),
                (RESULT,),
                after=("detail",),
            ),
        )

    def _inputs(self, access: Access) -> tuple[U8, F32]:
        pictures, mask = access[PICTURES]
        views = len(self._views.K)
        return pictures[:views], mask[:views].astype(np.float32)

    def _run_halve(self, access: Access) -> None:
        pictures, mask = access[PICTURES]
        small = [cv2.resize(picture, self._half, interpolation=cv2.INTER_AREA) for picture in pictures]
        access[HALVED] = (np.stack(small), mask)

    def _run_detail(self, access: Access) -> None:
        """Correspondence maps of large crops."""
        require_head(access["information"], self._constants, self._without)
        pictures, present = self._inputs(access)
        affine = frames.crop_affines(frames.moved(self._views, access["refined"].a_from_head), LARGE_CROP)
        crops = np.stack([frames.cut(p, a, LARGE_CROP) for p, a in zip(pictures, affine, strict=True)])
        shown = np.zeros((self._slots, 3, LARGE_CROP[1], LARGE_CROP[0]), np.float32)
        shown[: len(crops)] = frames.standardise(crops) * present[:, None, None, None]
        access["maps"] = self._detail.run({"crops": shown})["maps"][: len(crops)]
        access["large_affine"] = affine

    def _run_surface(self, access: Access) -> None:
        """Pose, shape and free surface, put into the world."""
        pictures, present = self._inputs(access)
        start: Fit = access["refined"]
        crop_views = frames.cropped(self._views, access["large_affine"], LARGE_CROP)
        fit, local = self._surface(start, access["maps"], crop_views, pictures, self._views, present)
        world_from_head = self._world_from_rig @ fit.a_from_head
        vertices = transform(world_from_head, local.astype(np.float64)) / MM
        pose = world_from_head.copy()
        pose[:3, 3] /= MM
        access[RESULT] = LiveResult(vertices.astype(np.float32), pose.astype(np.float32))


def _read_at(topology: Topology) -> I32:
    """Vertices whose heights are read."""
    named = [topology.regions[name] for name in READ if name in topology.regions]
    return np.unique(np.concatenate(named)).astype(np.int32) if named else topology.regions["head"]
