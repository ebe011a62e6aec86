"""The vocabulary of Mien: frozen values that cross the bus and the disk.

Conventions (docs/conventions.md): world in metres, right-handed, +Y up, the face looks along +Z. Camera axes as in
OpenCV: x right, y down, z forward; pixel centres at integer coordinates. A transform `b_from_a` maps coordinates in
frame a to coordinates in frame b. Times are integer nanoseconds of the clock that the field or its neighbour names.
Arrays are made read-only on construction.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamer.errors import CalibrationError, ModelError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]

Encoding = Literal["mono8", "rgb8", "jpeg", "png"]


def _freeze(array: NDArray[Any]) -> None:
    array.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Timecode:
    """A SMPTE label. Ambiguous above 30 fps, therefore never the only key of a frame."""

    text: str
    """`HH:MM:SS:FF`, or `HH:MM:SS;FF` with drop-frame counting."""
    rate: Fraction
    """Frames per second, exact (30000/1001)."""
    drop_frame: bool = False
    """Whether labels are dropped to follow the wall clock (NTSC rates)."""


@dataclass(frozen=True, slots=True)
class Camera:
    """One calibrated camera: pinhole with the OpenCV distortion model."""

    id: str
    """Stable name in this rig, used as key everywhere."""
    serial: str
    """Serial number of the device."""
    width: int
    """Width of the calibrated (full) picture, px."""
    height: int
    """Height of the calibrated (full) picture, px."""
    K: F64
    """(3, 3) intrinsic matrix of the full picture, px."""
    distortion: F64
    """(5,) OpenCV k1, k2, p1, p2, k3; applied per projected point, pictures are never undistorted."""
    camera_from_world: F64
    """(4, 4) rigid transform, metres."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a camera.

        Raises:
            CalibrationError: wrong shape, a singular K, a rotation that is none, or values that are not finite.
        """
        for name, shape in (("K", (3, 3)), ("distortion", (5,)), ("camera_from_world", (4, 4))):
            value = np.asarray(getattr(self, name), np.float64).copy()
            if value.shape != shape:
                raise CalibrationError(f"camera '{self.id}': {name} has shape {value.shape}, expected {shape}")
            if not np.isfinite(value).all():
                raise CalibrationError(f"camera '{self.id}': {name} holds values that are not finite; calibrate again")
            _freeze(value)
            object.__setattr__(self, name, value)
        if self.width < 1 or self.height < 1:
            raise CalibrationError(f"camera '{self.id}': picture size {self.width}x{self.height} is not positive")
        if abs(float(np.linalg.det(self.K))) < 1e-6:
            raise CalibrationError(f"camera '{self.id}': K is singular; focal lengths must be positive pixels")
        rotation = self.camera_from_world[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-4 or np.linalg.det(rotation) < 0:
            raise CalibrationError(f"camera '{self.id}': the rotation of camera_from_world is not a rotation matrix")

    @property
    def centre_world(self) -> F64:
        """(3,) optical centre in world coordinates, metres."""
        rotation, translation = self.camera_from_world[:3, :3], self.camera_from_world[:3, 3]
        return np.asarray(-rotation.T @ translation, np.float64)


@dataclass(frozen=True, slots=True)
class Calibration:
    """All cameras of a rig, in the rig's world frame (metres)."""

    cameras: tuple[Camera, ...]
    """In rig order; ids are unique."""
    source: str = ""
    """Where the numbers come from, for people."""

    def __post_init__(self) -> None:
        """Refuse an empty rig and repeated ids.

        Raises:
            CalibrationError: no camera, or two with one id.
        """
        ids = self.ids
        if not ids:
            raise CalibrationError("the calibration holds no camera")
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        if repeated:
            raise CalibrationError(f"the calibration names camera {repeated[0]!r} more than once")

    @property
    def ids(self) -> tuple[str, ...]:
        """Camera ids in rig order."""
        return tuple(camera.id for camera in self.cameras)

    def __getitem__(self, camera_id: str) -> Camera:
        """Return the camera with this id.

        Raises:
            CalibrationError: no such camera.
        """
        for camera in self.cameras:
            if camera.id == camera_id:
                return camera
        raise CalibrationError(f"no camera {camera_id!r} in the calibration, which holds {', '.join(self.ids)}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one camera."""

    camera: str
    """Id of the camera."""
    frame_id: int
    """Rig frame id: floor(exposure_time / period) on the shared clock. Equal across cameras of one pulse."""
    counter: int
    """The camera's own counter, as the device gave it; gaps mean the camera or its link lost pictures."""
    sequence: int
    """Counts the frames that this node published for this camera, from 0; gaps mean the bus lost messages."""
    exposure_time_ns: int
    """Middle of the exposure on `clock`, ns."""
    clock: str
    """Name of the clock of `exposure_time_ns`: `host` (CLOCK_REALTIME of the camera host), `ptp`, `media`, ..."""
    receive_time_ns: int
    """Arrival on the camera host, CLOCK_REALTIME, ns."""
    publish_time_ns: int
    """Hand-over to the bus, CLOCK_REALTIME, ns."""
    width: int
    """Width of the picture carried here, px."""
    height: int
    """Height of the picture carried here, px."""
    encoding: Encoding
    """How `data` holds the picture."""
    data: U8
    """`mono8` (H, W), `rgb8` (H, W, 3), `jpeg` or `png` (bytes,); may be a view of a bus buffer, valid while used."""
    timecode: Timecode | None = None
    """Label from LTC or the house clock, if there is one."""


@dataclass(frozen=True, slots=True)
class FrameSet:
    """The pictures of one instant, with a reason for every camera that is not among them."""

    frame_id: int
    """Rig frame id of the set."""
    members: Mapping[str, Frame]
    """Camera id to frame, in rig order."""
    absent: Mapping[str, str]
    """Camera id to reason: `missing`, `late`, `stalled`, `dropped-by-camera`, ..."""
    skew_ns: int
    """Worst difference of exposure times among the members."""
    waited_for: str
    """The camera that completed the set, or the one whose absence made it reach its deadline."""
    waited_ns: int
    """From the arrival of the first member to the release of the set."""
    frozen: frozenset[str] = frozenset()
    """Members that repeat an older frame under the `freeze` policy."""

    @property
    def exposure_time_ns(self) -> int:
        """Median exposure time of the members, ns."""
        times = sorted(frame.exposure_time_ns for frame in self.members.values())
        return times[len(times) // 2]

    @property
    def complete(self) -> bool:
        """Whether every camera of the rig is present with its own frame."""
        return not self.absent and not self.frozen


@dataclass(frozen=True, slots=True)
class Topology:
    """What all meshes of a stream share."""

    name: str
    """For people, e.g. `makehuman-head`."""
    triangles: I32
    """(T, 3) vertex indices, counter-clockwise seen from outside."""
    uv: F32
    """(C, 2) texture coordinates, v up."""
    uv_triangles: I32
    """(T, 3) indices into `uv`."""
    template: F32
    """(N, 3) neutral mean head, metres, head frame (origin at the head's centre, axes as the world's)."""
    units: tuple[str, ...] = ()
    """Names of the expression units (ARKit), empty if there are none."""
    regions: Mapping[str, I32] = field(default_factory=dict)
    """Region name (`face`, `scalp`, ...) to vertex indices."""
    id: str = field(init=False, default="")
    """Hash of the content: equal topologies have equal ids on every machine."""

    def __post_init__(self) -> None:
        """Freeze the arrays, check the indices and compute the id.

        Raises:
            ModelError: indices that point outside.
        """
        digest = hashlib.sha256(self.name.encode())
        casts = (("triangles", np.int32), ("uv", np.float32), ("uv_triangles", np.int32), ("template", np.float32))
        for name, dtype in casts:
            value = np.array(getattr(self, name), dtype)
            _freeze(value)
            object.__setattr__(self, name, value)
            digest.update(repr(value.shape).encode() + value.tobytes())
        indices = ((self.triangles, self.vertex_count, "vertex"), (self.uv_triangles, len(self.uv), "uv"))
        for index, count, what in indices:
            if index.size and (index.min() < 0 or index.max() >= count):
                raise ModelError(f"topology '{self.name}': a triangle names {what} {index.max()} of {count}")
        regions = {key: np.array(value, np.int32) for key, value in sorted(self.regions.items())}
        for key, value in regions.items():
            if value.size and (value.min() < 0 or value.max() >= self.vertex_count):
                count = self.vertex_count
                raise ModelError(f"topology '{self.name}': region '{key}' names vertex {value.max()} of {count}")
            _freeze(value)
            digest.update(key.encode() + value.tobytes())
        object.__setattr__(self, "regions", regions)
        digest.update("\0".join(self.units).encode())
        object.__setattr__(self, "id", digest.hexdigest()[:16])

    @property
    def vertex_count(self) -> int:
        """Number of vertices N."""
        return int(self.template.shape[0])


@dataclass(frozen=True, slots=True)
class MeshFrame:
    """One registered head."""

    frame_id: int
    """Rig frame id of the set it was made from."""
    exposure_time_ns: int
    """Exposure time of the set on the rig's clock, ns."""
    publish_time_ns: int
    """Hand-over to the bus, CLOCK_REALTIME, ns; 0 for meshes that were made offline."""
    topology_id: str
    """`Topology.id` that the vertices belong to."""
    vertices: F32
    """(N, 3) metres, world."""
    world_from_head: F32
    """(4, 4) rigid pose of the head frame in the world, metres."""
    views: tuple[str, ...] = ()
    """Cameras whose pictures were used."""
    weights: F32 | None = None
    """(U,) expression unit weights in 0..1 in the order of `Topology.units`, if they were solved."""
    stages_ns: Mapping[str, int] = field(default_factory=dict)
    """Where the time went: stage name to ns."""


@dataclass(frozen=True, slots=True)
class Health:
    """A process's heartbeat."""

    process: str
    """Name of the process: `node`, `infer`, `record`, ..."""
    time_ns: int
    """CLOCK_REALTIME, ns."""
    state: str
    """`starting`, `running`, `degraded`, `stopping`."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Monotonic counts, dotted names: `published.cam_0`, `unused.superseded`, ..."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    """Momentary values with their unit in the name: `fps`, `latency_ms.p50`, `skew_us`, ..."""
    message: str = ""
    """One line for the operator, empty if all is well."""
