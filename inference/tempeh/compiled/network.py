"""The published network on the CPU: engine graphs for its large convolutions, compiled code for everything else.

    pictures/2 ─► coarse features ─► volume ─► localiser ─► warped volume ─► 3D net ─► attention ─► coarse vertices
    pictures ─► fine features ─────────────────────────────────┐  (beside the coarse stage)          │
                    visibility, normals ─► sampling and fusion ─► 3D net per vertex ─► offsets ◄─────┘

Everything is float32. Imports no torch; the graphs were exported by `inference.tempeh.published.export`.
"""

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.engines import Graph
from inference.schedule import PICTURES, RESULT, Access, Stage, run_in_order
from inference.tempeh.compiled.attention import attend
from inference.tempeh.compiled.depth import visibility
from inference.tempeh.compiled.local_net import LocalNet
from inference.tempeh.compiled.sampling import coarse_volume, local_volumes
from inference.tempeh.frames import MM
from inference.tempeh.published.sizes import PublishedSizes
from streamer.errors import CalibrationError, EngineError
from streamer.geometry import vertex_normals
from streamer.types import F32, I32, U8

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
EMBEDDING_PER_MM = np.float32(0.01)
HIDDEN = np.float32(0.5)
"""Quirk: factor of a view that does not see a vertex."""


@dataclass(frozen=True, slots=True)
class PublishedCameras:
    """Cameras of both stages."""

    K_coarse: F32
    """(V, 3, 3) px of the coarse stage's pictures."""
    distortion_coarse: F32
    """(V, 2) radial."""
    K_refine: F32
    """(V, 3, 3) px of the refinement's pictures."""
    distortion_refine: F32
    """(V, 2) radial."""
    camera_from_world: F32
    """(V, 3, 4) mm."""


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """A head."""

    vertices: F32
    """(N, 3) metres, world."""
    world_from_head: F32
    """(4, 4): the published network knows no head frame, so this is a shift to the mean of the vertices."""
    coarse_mm: F32
    """(N, 3) mm, world."""
    vertices_mm: F32
    """(N, 3) mm, world."""
    seen: U8
    """(V, N) 1 where a view sees a vertex."""


@dataclass(frozen=True, slots=True)
class PublishedParts:
    """What a published network is made of, without torch."""

    sizes: PublishedSizes
    """Its sizes."""
    quirks: bool
    """See the package `published`."""
    coarse: Mapping[str, NDArray[Any]]
    """Weights of the coarse stage."""
    refine: Mapping[str, NDArray[Any]]
    """Weights of the refinement."""
    template_mm: F32
    """(N, 3)."""
    triangles: I32
    """(T, 3)."""


RawValues = dict[str, NDArray[Any]]
"""What `PublishedNetwork.run_raw` gives."""


def grid_points(size: int, step_mm: float, *, quirks: bool) -> F32:
    """(size^3, 3) displacements of a volume's voxels, x slowest; as `published.volumes.grid_points`."""
    axis = (np.arange(size, dtype=np.float32) - (size // 2 if quirks else (size - 1) / 2)) * np.float32(step_mm)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)


class PublishedNetwork:
    """The published network for one rig.

    Args:
        parts: the network.
        graphs: `coarse_features`, `localise`, `coarse_net`, `refine_features` of `published.export.cpu_graphs`.
        cameras: of the pictures.
        threads: threads of the compiled code.

    Raises:
        EngineError: the compiled code does not know networks of this size.
        CalibrationError: fewer than two views.
    """

    def __init__(
        self, parts: PublishedParts, graphs: Mapping[str, Graph], cameras: PublishedCameras, threads: int
    ) -> None:
        """Transform the weights, and place the volumes."""
        if len(cameras.K_refine) < 2:
            raise CalibrationError("the published network needs two views or more")
        sizes = parts.sizes
        if sizes.descriptor != 8 or sizes.grid**3 % 32:
            raise EngineError("the compiled path knows the sizes of the release only; use the engine 'torch'")
        self._parts, self._graphs, self._cameras = parts, graphs, cameras
        self._grid = grid_points(sizes.grid, sizes.step_mm, quirks=parts.quirks)
        self._centre = np.array(sizes.centre_mm, np.float32)
        local = grid_points(sizes.local_grid, sizes.local_step_mm, quirks=parts.quirks)
        rotation = cameras.camera_from_world[:, :, :3]
        self._local_grid = np.ascontiguousarray(np.einsum("vij,pj->vip", rotation, local), np.float32)
        embedding = np.ascontiguousarray(parts.template_mm * EMBEDDING_PER_MM, np.float32)
        self._net = LocalNet(parts.refine, sizes, embedding, local, threads)
        self._pool: Executor | None = ThreadPoolExecutor(threads, "attend") if threads > 1 else None
        self._queries = np.ascontiguousarray(parts.coarse["net.output.weight"], np.float32).reshape(sizes.vertices, -1)

    def close(self) -> None:
        """End the threads."""
        self._net.close()
        if self._pool is not None:
            self._pool.shutdown()

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of a run, from uint8 `PICTURES` at the refinement's size to `RESULT`."""
        return (Stage("normalise", "coarse", self._normalise, (PICTURES,), ("coarse in", "fine in")), *self._core())

    def _core(self) -> tuple[Stage, ...]:
        return (
            Stage("coarse features", "coarse", self._coarse_features, ("coarse in",), ("coarse maps",)),
            Stage("fine features", "features", self._fine_features, ("fine in",), ("fine maps",), after=("normalise",)),
            Stage("volume", "coarse", self._volume, ("coarse maps",), ("volume", "warp")),
            Stage("coarse net", "coarse", self._coarse_net, ("volume",), ("keys",)),
            Stage("attend", "coarse", self._attend, ("keys", "warp"), ("coarse",)),
            Stage("visibility", "refine", self._visibility, ("coarse",), ("seen", "normals"), after=("attend",)),
            Stage(
                "refine",
                "refine",
                self._refine,
                ("coarse", "seen", "normals", "fine maps"),
                ("refined",),
                after=("fine features",),
            ),
            Stage("place", "refine", self._place, ("coarse", "refined", "seen"), (RESULT,)),
        )

    def run(self, pictures: U8, mask: F32) -> PublishedResult:
        """Reconstruct one set, its stages one after the other.

        Args:
            pictures: (V, H, W, 3) RGB at the refinement's size.
            mask: (V,) 1 where there is a picture.
        """
        result: PublishedResult = run_in_order(self.stages(), {PICTURES: (pictures, mask)}).values[RESULT]
        return result

    def run_raw(self, coarse: F32 | None, fine: F32, *, start: F32 | None = None, seen: U8 | None = None) -> RawValues:
        """Reconstruct from normalised pictures (V, 3, H, W) of both stages, or of the refinement from given vertices.

        Args:
            coarse: pictures of the coarse stage; None: it does not run.
            fine: pictures of the refinement.
            start: (N, 3) mm to refine in place of coarse vertices, which are computed all the same if they can be.
            seen: (V, N) in {0, 1}; None: computed.

        Returns:
            Values of the stages by name: `coarse` (N, 3) mm and `warp` of the coarse stage, if it ran; `start` and
            `refined` (N, 3) mm; `seen` (V, N); `normals` (N, 3).
        """
        views = np.arange(len(fine))
        stages = {stage.name: stage for stage in self._core()}
        first = [] if coarse is None else ["coarse features", "volume", "coarse net", "attend"]
        given: dict[str, Any] = {"coarse in": (coarse, views), "fine in": (fine, views)}
        values = dict(run_in_order([stages[name] for name in (*first, "fine features")], given).values)
        found = {} if coarse is None else {"coarse": values["coarse"][0], "warp": values["warp"][3]}
        if start is not None:
            values["coarse"] = (start, views)
        values = dict(run_in_order([stages["visibility"]], values).values)
        if seen is not None:
            values["seen"] = seen
        values = dict(run_in_order([stages["refine"]], values).values)
        kept = {name: np.asarray(values[name]) for name in ("refined", "seen", "normals")}
        return found | kept | {"start": values["coarse"][0]}

    def _normalise(self, access: Access) -> None:
        """Both stages' pictures of the views that are there; a missing view is left out everywhere."""
        pictures, mask = access[PICTURES]
        coarse, fine, there = stage_pictures(pictures, mask, len(self._cameras.K_refine))
        access["coarse in"] = (coarse, there)
        access["fine in"] = (fine, there)

    def _features(self, graph: str, pictures: F32) -> F32:
        """Compact maps (V, h, w, 8), in batches of the graph's size."""
        net = self._graphs[graph]
        batch = net.inputs["pictures"].shape[0]
        expected = net.inputs["pictures"].shape[1:]
        if pictures.shape[1:] != expected:
            raise EngineError(f"graph '{graph}': pictures are {pictures.shape[1:]}, it was exported for {expected}")
        parts = []
        for first in range(0, len(pictures), batch):
            some = pictures[first : first + batch]
            filled = some if len(some) == batch else np.concatenate([some, np.repeat(some[-1:], batch - len(some), 0)])
            parts.append(net.run({"pictures": filled})["maps"][: len(some)])
        return np.ascontiguousarray(np.concatenate(parts).transpose(0, 2, 3, 1))

    def _coarse_features(self, access: Access) -> None:
        pictures, there = access["coarse in"]
        size = (pictures.shape[3], pictures.shape[2])
        access["coarse maps"] = (self._features("coarse_features", pictures), size, there)

    def _fine_features(self, access: Access) -> None:
        pictures, there = access["fine in"]
        size = (pictures.shape[3], pictures.shape[2])
        access["fine maps"] = (self._features("refine_features", pictures), size, there)

    def _sample(self, access: Access, points: F32) -> F32:
        maps, size, there = access["coarse maps"]
        cameras, cube = self._cameras, (self._parts.sizes.grid,) * 3
        volume = np.empty((len(points), 16), np.float32)
        coarse_volume(
            maps, size, np.ascontiguousarray(cameras.K_coarse[there, :2]), cameras.distortion_coarse[there],
            cameras.camera_from_world[there], points, self._parts.quirks, volume,
        )  # fmt: skip
        return np.ascontiguousarray(volume.T).reshape(1, 16, *cube)

    def _volume(self, access: Access) -> None:
        """Localise the head in the first volume, and make the second around it."""
        first = self._sample(access, self._grid + self._centre)
        warp = self._graphs["localise"].run({"volume": first})["warp"][0]
        linear = warp[:3, None] * warp[3:12].reshape(3, 3)
        access["warp"] = (linear, warp[12:], access["coarse maps"][2], warp)
        access["volume"] = self._sample(access, self._grid @ linear.T + warp[12:] + self._centre)

    def _coarse_net(self, access: Access) -> None:
        access["keys"] = self._graphs["coarse_net"].run({"volume": access["volume"]})["keys"][0]

    def _attend(self, access: Access) -> None:
        linear, shift, there, _ = access["warp"]
        mean = attend(self._queries, access["keys"], self._grid, self._pool)
        coarse = np.asarray(mean @ linear.T + shift + self._centre, np.float32)
        if self._parts.quirks:
            coarse = (coarse * np.float32(1 / MM)) * np.float32(MM)  # the release hands over by a file in metres
        access["coarse"] = (coarse, there)

    def _visibility(self, access: Access) -> None:
        coarse, there = access["coarse"]
        if not np.isfinite(coarse).all():
            raise EngineError("the coarse vertices are not finite; the weights do not fit these pictures")
        triangles, cameras = self._parts.triangles, self._cameras
        access["seen"] = visibility(coarse, triangles, cameras.K_refine[there], cameras.camera_from_world[there])
        access["normals"] = vertex_normals(coarse.astype(np.float64), triangles)

    def _refine(self, access: Access) -> None:
        coarse, _ = access["coarse"]
        maps, size, there = access["fine maps"]
        seen, normals, quirks = access["seen"], access["normals"], self._parts.quirks
        factor = np.asarray(seen * (1 - HIDDEN) + HIDDEN if quirks else seen, np.float32)
        cameras = self._cameras
        K, poses = np.ascontiguousarray(cameras.K_refine[there, :2]), cameras.camera_from_world[there]
        distortion, grid = cameras.distortion_refine[there], self._local_grid[there]
        voxels = grid.shape[2]

        def fill(first: int, last: int, volumes: F32) -> None:
            flat = volumes.reshape(len(volumes), voxels, 16)[: last - first]
            points, places = np.empty((3, voxels), np.float32), np.empty((4, voxels), np.float32)
            local_volumes(
                maps, size, K, distortion, poses, grid, coarse[first:last], normals[first:last],
                np.ascontiguousarray(factor[:, first:last]), quirks, flat, points, places, np.empty(voxels, np.float32),
            )  # fmt: skip

        access["refined"] = coarse + self._net.offsets(fill, len(coarse))

    def _place(self, access: Access) -> None:
        access[RESULT] = placed(access["coarse"][0], access["refined"], access["seen"])


def stage_pictures(pictures: U8, mask: F32, views: int) -> tuple[F32, F32, NDArray[np.intp]]:
    """Normalise what both stages see.

    Args:
        pictures: (V, H, W, 3) RGB at the refinement's size.
        mask: (V,) 1 where there is a picture.
        views: of the rig; slots beyond are empty.

    Returns:
        (n, 3, H / 2, W / 2), (n, 3, H, W), and which views (n,) have a picture.

    Raises:
        CalibrationError: fewer than two have.
    """
    there = np.flatnonzero(mask[:views])
    if len(there) < 2:
        raise CalibrationError(f"{len(there)} views have a picture; the published network needs two or more")
    fine = pictures[there]
    size = (fine.shape[2] // 2, fine.shape[1] // 2)
    coarse = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in fine])
    return _normalised(coarse), _normalised(fine), there


def placed(coarse_mm: F32, refined_mm: F32, seen: U8) -> PublishedResult:
    """A result from vertices (N, 3) of both stages, mm, and what each view sees (V, N)."""
    vertices = np.asarray(refined_mm / np.float32(MM), np.float32)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 3] = vertices.mean(0)
    return PublishedResult(vertices, pose, coarse_mm, refined_mm, seen)


def _normalised(pictures: U8) -> F32:
    """(V, H, W, 3) uint8 to (V, 3, H, W)."""
    values = (pictures.astype(np.float32) * np.float32(1 / 255) - MEAN) / DEVIATION
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
