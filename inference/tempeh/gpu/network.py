"""The published network on a CUDA device, for one rig: stages that issue to its streams and never wait for it.

    upload ─► compute: pictures/2 ─► features ─► volume ─► localiser ─► warped volume ─► 3D net ─► attention ─► vertices
          └─► beside:  pictures ─► fine features ──────────────────────┐                                           │
              compute: visibility, normals ─► (volumes ─► 3D net) of 157 vertices, 32 times ─► offsets ─► download ◄┘

Nets, sampling of the coarse volume and attention are TensorRT graphs (`published.export.gpu_graphs`); pictures,
visibility, normals and the local volumes are kernels. What only one stream touches exists once, what crosses streams
once per slot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.devices import Buffer, BufferSpec, Space
from inference.devices.cuda import CudaDevice
from inference.kernels.launch import Kernels
from inference.schedule import PICTURES, RESULT, Access, Stage
from inference.tempeh.compiled.network import PublishedCameras, PublishedParts, PublishedResult
from inference.tempeh.frames import MM
from inference.tempeh.gpu.constants import Held, place_constants
from inference.tensorrt.session import Activation, LoadedPlan, PlanContext
from streamer.errors import CalibrationError, EngineError
from streamer.types import F32

GRAPHS = (
    "coarse_features", "first_volume", "localise", "second_volume", "coarse_net", "attend", "place", "refine_features",
    "local_net",
)  # fmt: skip
"""Those of `published.export.gpu_graphs`."""
BESIDE = frozenset({"refine_features"})
"""Graphs that run beside the coarse stage."""
THERE = "there"
"""Value of a slot: views that have a picture."""
ROW = 64
"""Floats that a batch's offsets are rounded up to: TensorRT wants addresses that are multiples of 256 bytes."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers that the stages use."""

    views: int
    """V."""
    size: tuple[int, int]
    """Width and height of the refinement's pictures, px."""
    vertices: int
    """N."""
    voxels: int
    """P of a vertex's volume."""
    batch: int
    """Vertices of a run of `local_net`."""

    @property
    def row(self) -> int:
        """Floats of a batch's offsets, padding included."""
        return -(-3 * self.batch // ROW) * ROW

    @property
    def batches(self) -> int:
        """Runs of `local_net`."""
        return -(-self.vertices // self.batch)


class CudaPublishedNetwork:
    """The published network for one rig on a CUDA device.

    Args:
        parts: the network.
        plans: `GRAPHS`, on the device.
        cameras: of the pictures.
        size: width and height of the refinement's pictures, px; the coarse stage takes half of it.
        device: of the plans; `Pipeline` has to run the stages on this one.
        from_template: refine the template instead of the coarse vertices, which are computed all the same: for weights
            that know no heads.

    Raises:
        EngineError: there is not enough memory, nvcc is missing, or the network is not of the release's kind.
        CalibrationError: fewer than two views.
    """

    def __init__(
        self,
        parts: PublishedParts,
        plans: Mapping[str, LoadedPlan],
        cameras: PublishedCameras,
        size: tuple[int, int],
        device: CudaDevice,
        *,
        from_template: bool = False,
    ) -> None:
        """Place the constants, and allocate what streams work in."""
        views = len(cameras.K_refine)
        if views < 2:
            raise CalibrationError("the published network needs two views or more")
        if parts.sizes.descriptor != 8 or not parts.quirks:
            raise EngineError("the CUDA path knows networks with 8 features and the release's quirks; use 'openvino'")
        wanted = (views, 3, size[1], size[0])
        if plans["refine_features"].inputs["pictures"].shape != wanted:
            raise EngineError(f"the graphs are made for {plans['refine_features'].inputs}, the rig needs {wanted}")
        batch = plans["local_net"].inputs["volumes"].shape[0]
        self._n = Sizes(views, size, parts.sizes.vertices, parts.sizes.local_grid**3, batch)
        self.device, self._plans, self._from_template = device, plans, from_template
        self._kernels = Kernels(device)
        self._held = Held(device)
        self._rig = place_constants(self._held, parts, cameras, size)
        self._activation = {name: Activation(device, name) for name in ("compute", "beside")}
        for name, plan in plans.items():
            plan.reserve(self._activation["beside" if name in BESIDE else "compute"])
        self._scratch = self._make_scratch()
        self._contexts: dict[tuple[int, str], PlanContext] = {}

    def _make_scratch(self) -> dict[str, int]:
        """Allocate what one stream alone works in: outputs that become inputs."""
        plans, n = self._plans, self._n
        wanted = {
            "coarse in": plans["coarse_features"].bytes_of("pictures"),
            "fine in": plans["refine_features"].bytes_of("pictures"),
            "coarse maps": plans["coarse_features"].bytes_of("maps"),
            "volume": plans["localise"].bytes_of("volume"),
            "warp": plans["localise"].bytes_of("warp"),
            "keys": plans["coarse_net"].bytes_of("keys"),
            "expectation": plans["attend"].bytes_of("expectation"),
            "normals": 12 * n.vertices,
            "volumes": plans["local_net"].bytes_of("volumes"),
        }
        return {name: self._held.scratch(size, name) for name, size in wanted.items()}

    @property
    def buffers(self) -> dict[str, BufferSpec]:
        """What every slot holds."""
        n = self._n
        return {
            "pictures in": BufferSpec((n.views, n.size[1], n.size[0], 3), "uint8"),
            "mask": BufferSpec((n.views,), "uint8"),
            "weights": BufferSpec((n.views, 1, 1)),
            "inverse": BufferSpec((2, 1)),
            "fine maps": BufferSpec(self._plans["refine_features"].outputs["maps"].shape, device_only=True),
            "vertices": BufferSpec((n.vertices, 3)),
            "seen": BufferSpec((n.views, n.vertices), "uint8"),
            "offsets": BufferSpec((n.batches, n.row)),
        }

    @property
    def spaces(self) -> dict[str, Space]:
        """Where each stream's work runs."""
        return dict.fromkeys(("upload", "compute", "beside", "download"), "device")

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of a run, from `PICTURES` ((V, H, W, 3) uint8 RGB and (V,) mask) to `RESULT`."""
        given = ("mask", "weights", "inverse")
        return (
            Stage("stage in", "stage in", self._stage_in, (PICTURES,), ("pictures in", *given, THERE)),
            Stage(
                "upload", "upload", self._upload, ("pictures in", *given), ("pictures in", *given), after=("stage in",)
            ),
            Stage(
                "coarse", "compute", self._coarse, ("pictures in", *given), ("vertices",), after=("upload",),
                capture=True,
            ),
            Stage(
                "fine features", "beside", self._fine, ("pictures in", "mask"), ("fine maps",), after=("upload",),
                capture=True,
            ),
            Stage("visibility", "compute", self._visibility, ("vertices",), ("seen",), capture=True),
            Stage(
                "refine", "compute", self._refine, ("vertices", "seen", "mask", "fine maps"), ("offsets",),
                after=("fine features",), capture=True,
            ),
            Stage(
                "download", "download", self._download, ("vertices", "seen", "offsets"),
                ("vertices", "seen", "offsets"), after=("refine",),
            ),
            Stage(
                "place", "place", self._place, ("vertices", "seen", "offsets", THERE), (RESULT,), after=("download",)
            ),
        )  # fmt: skip

    def _stage_in(self, access: Access) -> None:
        """Into page-locked memory: pictures, and which there are."""
        self.device.require()
        pictures, mask = access[PICTURES]
        held: Buffer = access["pictures in"]
        n, there = self._n, np.flatnonzero(mask[: self._n.views])
        if pictures.shape[1:] != held.host.shape[1:] or len(pictures) < n.views or pictures.dtype != np.uint8:
            raise EngineError(f"pictures are {pictures.dtype} {pictures.shape}, the graphs need {held.host.shape}")
        if len(there) < 2:
            raise CalibrationError(f"{len(there)} views have a picture; the published network needs two or more")
        held.host[...] = pictures[: n.views]
        access["mask"].host[...] = access["weights"].host[:, 0, 0] = mask[: n.views] != 0
        access["inverse"].host[:, 0] = 1 / len(there), 1 / (len(there) - 1)
        access[THERE] = there

    def _upload(self, access: Access) -> None:
        for name in ("pictures in", "mask", "weights", "inverse"):
            access.stream.upload(access[name])

    def _run(self, access: Access, graph: str, addresses: Mapping[str, int]) -> None:
        """Enqueue a graph; each slot has contexts of its own, since a captured one keeps its addresses."""
        key = (access.slot.index, graph)
        if key not in self._contexts:
            activation = self._activation["beside" if graph in BESIDE else "compute"]
            self._contexts[key] = self._plans[graph].context(activation)
        self._contexts[key].bind(addresses)
        self._contexts[key].enqueue(access.stream.handle)

    def _pictures(self, access: Access, size: tuple[int, int], out: str) -> None:
        sources, mask, n = int(access["pictures in"].device), int(access["mask"].device), self._n
        native, rules = native_of(access), self._rig.rules_fine
        self._kernels.pictures(native, sources, mask, rules, n.size, size, n.views, self._scratch[out])

    def _coarse(self, access: Access) -> None:
        """Pictures to coarse vertices."""
        held, rig = self._scratch, self._rig
        whole = {"mask": int(access["weights"].device), "inverse": int(access["inverse"].device)}
        cameras = {"K": rig.K_coarse, "distortion": rig.lens_coarse, "pose": rig.pose}
        maps, volume, warp = (
            {name: held[key]} for name, key in (("maps", "coarse maps"), ("volume",) * 2, ("warp",) * 2)
        )
        self._pictures(access, (self._n.size[0] // 2, self._n.size[1] // 2), "coarse in")
        self._run(access, "coarse_features", {"pictures": held["coarse in"]} | maps)
        self._run(access, "first_volume", {"grid": rig.first_grid} | maps | whole | volume)
        self._run(access, "localise", volume | warp)
        self._run(access, "second_volume", maps | warp | cameras | whole | volume)
        keys, expectation = {"keys": held["keys"]}, {"expectation": held["expectation"]}
        self._run(access, "coarse_net", volume | keys)
        self._run(access, "attend", keys | expectation)
        vertices = access["vertices"].device
        self._run(access, "place", expectation | warp | {"vertices": int(vertices)})
        if self._from_template:
            size, driver = 12 * self._n.vertices, self.device.driver
            driver.memcpy_dtod_async(int(vertices), self._rig.template, size, native_of(access))

    def _fine(self, access: Access) -> None:
        """Pictures to the refinement's maps."""
        self._pictures(access, self._n.size, "fine in")
        addresses = {"pictures": self._scratch["fine in"], "maps": int(access["fine maps"].device)}
        self._run(access, "refine_features", addresses)

    def _visibility(self, access: Access) -> None:
        """What each view sees, and normals."""
        native, rig, vertices = native_of(access), self._rig, int(access["vertices"].device)
        self._kernels.visibility(native, rig.mesh, rig.sight, vertices, int(access["seen"].device))
        self._kernels.normals(native, rig.mesh, vertices, self._scratch["normals"])

    def _refine(self, access: Access) -> None:
        """Offsets of all vertices, a batch after the other through one volume that stays in the cache."""
        n, rig, native, volumes = self._n, self._rig, native_of(access), self._scratch["volumes"]
        views = (int(access["fine maps"].device), int(access["mask"].device), rig.K_refine, rig.lens_refine, rig.pose)
        offsets, seen = int(access["offsets"].device), int(access["seen"].device)
        places = (int(access["vertices"].device), self._scratch["normals"])
        numbers = (n.views, n.vertices, n.voxels, *n.size, 1)
        for number in range(n.batches):
            first = number * n.batch
            some = min(n.batch, n.vertices - first)
            here = (*(place + 12 * first for place in places), seen + first, rig.embedding + 12 * first)
            self._kernels.local_volumes(native, some, (*views, rig.local_grid, *here), numbers, volumes)
            self._run(access, "local_net", {"volumes": volumes, "offsets": offsets + 4 * n.row * number})

    def _download(self, access: Access) -> None:
        for name in ("vertices", "seen", "offsets"):
            access.stream.download(access[name])

    def _place(self, access: Access) -> None:
        """Out of page-locked memory, checked and in metres."""
        self.device.require()
        n, there = self._n, access[THERE]
        coarse: F32 = access["vertices"].host.copy()
        if not np.isfinite(coarse).all():
            raise EngineError("the coarse vertices are not finite; the weights do not fit these pictures")
        rows = access["offsets"].host[:, : 3 * n.batch].reshape(-1, 3)
        refined = coarse + rows[: n.vertices]
        if not np.isfinite(refined).all():
            raise EngineError("the refined vertices are not finite; the weights do not fit these pictures")
        vertices = np.asarray(refined / np.float32(MM), np.float32)
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = vertices.mean(0)
        access[RESULT] = PublishedResult(vertices, pose, coarse, refined, access["seen"].host[there])


def native_of(access: Access) -> Any:
    """Return the native stream that a stage runs on.

    Raises:
        EngineError: it runs on another device.
    """
    native = getattr(access.stream, "native", None)
    if native is None:
        raise EngineError("stages of the CUDA path need a Pipeline on the CUDA device of their plans")
    return native
