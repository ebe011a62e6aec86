"""Raw scans with their pictures: what a published network learns from. Lengths in millimetres, world frame.

A corpus is lazy: it knows where pictures, scans and registrations lie, and reads them when a sample is made.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.meshes import SurfaceMesh
from inference.tempeh.frames import MM
from streamer.errors import CalibrationError, TakeError
from streamer.geometry import scaled
from streamer.types import F32, F64, U8, Camera, Topology

CACHED_PICTURES = 4096
"""Pictures at the network's size that stay in memory: 0.4 GB of 200x150."""
SCAN_MM = (20.0, 5000.0)
"""Diagonal of a scan in millimetres."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A picture at the network's size with its camera."""

    picture: U8
    """(H, W, 3) RGB."""
    K: F64
    """(3, 3) px of this picture."""
    distortion: F64
    """(2,) radial."""
    camera_from_world: F64
    """(3, 4) mm."""


class ViewSource(Protocol):
    """A picture of one camera, wherever it lies."""

    @property
    def name(self) -> str:
        """For messages."""

    def view(self, size: tuple[int, int]) -> NetworkView:
        """Read it at a size (width, height), px."""


@dataclass(frozen=True, slots=True)
class ScanSet:
    """One instant."""

    name: str
    """For messages and file names."""
    views: tuple[ViewSource, ...]
    """Its pictures."""
    scan: Callable[[], SurfaceMesh]
    """Reads the raw scan, mm; without triangles it is a cloud of points."""
    registration: Callable[[], F32] | None
    """Reads the registered mesh (N, 3), mm, if there is one."""


@dataclass(frozen=True, slots=True)
class ScanCorpus:
    """All instants."""

    topology: Topology
    """Template, triangles and regions of what is learned."""
    entries: tuple[ScanSet, ...]
    """In a fixed order."""
    remarks: tuple[str, ...] = ()
    """What was found odd and how it is treated."""

    @property
    def sets(self) -> int:
        """Number of instants."""
        return len(self.entries)

    def digest(self) -> str:
        """What a checkpoint must have been trained on to be continued."""
        names = "\n".join(f"{entry.name} {len(entry.views)}" for entry in self.entries)
        return hashlib.sha256(f"{self.topology.id}\n{names}".encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class CameraView:
    """A picture of a calibrated camera."""

    camera: Camera
    """Of the full picture."""
    load: Callable[[], U8]
    """Reads the picture (H, W, 3) RGB."""
    where: str = ""
    """File or take, for messages."""

    @property
    def name(self) -> str:
        """See `ViewSource`."""
        return f"{self.camera.id} of {self.where}" if self.where else self.camera.id

    def view(self, size: tuple[int, int]) -> NetworkView:
        """Read the picture; kept for the next time."""
        return _fitted(self, size)


@lru_cache(CACHED_PICTURES)
def _fitted(source: CameraView, size: tuple[int, int]) -> NetworkView:
    return fit(source.load(), source.camera, size)


def fit(picture: U8, camera: Camera, size: tuple[int, int]) -> NetworkView:
    """Make a picture and its camera fit the network.

    Portrait pictures are turned to landscape for landscape networks; tangential and higher distortion, which the
    network does not know, is taken out of the picture; what is left is shrunk and filled up with black.

    Args:
        picture: (H, W, 3), of any size with the camera's proportions.
        camera: of the full picture.
        size: width and height of the network's pictures, px.
    """
    camera = scaled(camera, picture.shape[1], picture.shape[0])
    K, distortion = camera.K.copy(), camera.distortion.copy()
    if np.any(distortion[2:]):
        picture = np.asarray(cv2.undistort(picture, K, distortion), np.uint8)
        distortion[:] = 0.0
    width, height = size
    if (picture.shape[0] > picture.shape[1]) != (height > width) and height != width:
        K = np.array([[0.0, 1, 0], [-1, 0, picture.shape[1] - 1.0], [0, 0, 1]]) @ K
        picture = np.rot90(picture)
    factor = min(width / picture.shape[1], height / picture.shape[0])
    inner = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    sx, sy = inner[0] / picture.shape[1], inner[1] / picture.shape[0]
    small = cv2.resize(
        np.ascontiguousarray(picture), inner, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    framed = np.zeros((height, width, 3), np.uint8)
    framed[: inner[1], : inner[0]] = small
    K = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]]) @ K
    outer = camera.camera_from_world[:3].copy()
    outer[:, 3] *= MM
    return NetworkView(framed, K, distortion[:2], outer)


def in_mm(mesh: SurfaceMesh, unit: str, where: str) -> SurfaceMesh:
    """A raw scan in millimetres, its unit believed only if it makes sense.

    Args:
        mesh: as read.
        unit: `mm` or `m`, as the user says.
        where: file, for messages.

    Raises:
        TakeError: it is of no head's size in that unit; the message says which unit it seems to be in.
    """
    low, high = SCAN_MM
    size = mesh.extent * (MM if unit == "m" else 1.0)
    if not low <= size <= high:
        other = "m" if unit == "mm" else "mm"
        if low <= mesh.extent * (MM if other == "m" else 1.0) <= high:
            names = {"m": "metres", "mm": "millimetres"}
            raise TakeError(
                f"{where}: the scan is {mesh.extent:.3g} across, so it seems to be in {names[other]} where "
                f"{names[unit]} are expected; give --scan-unit {other}"
            )
        raise TakeError(f"{where}: the scan is {mesh.extent:.3g} across, no head in millimetres or in metres")
    return SurfaceMesh(mesh.vertices * np.float32(MM), mesh.triangles) if unit == "m" else mesh


def sample_surface(mesh: SurfaceMesh, count: int, rng: np.random.Generator) -> F32:
    """Random points (count, 3) of a scan: evenly over its surface, or of its points if it has no triangles."""
    if not len(mesh.triangles):
        return np.asarray(mesh.vertices[rng.integers(0, len(mesh.vertices), count)], np.float32)
    chosen, weights = draw_places(mesh, count, rng)
    return np.asarray(np.einsum("pk,pki->pi", weights, mesh.vertices[mesh.triangles[chosen]]), np.float32)


def draw_places(mesh: SurfaceMesh, count: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], F64]:
    """Random places spread evenly over a surface: triangles (count,), and barycentric weights (count, 3)."""
    corners = mesh.vertices[mesh.triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    total = np.cumsum(areas.astype(np.float64))
    chosen = np.searchsorted(total, rng.random(count) * total[-1], "right").clip(max=len(areas) - 1)
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    return chosen, np.stack([1 - u, u * (1 - v), u * v], 1)


def seeing(entry: ScanSet, points: F32, size: tuple[int, int]) -> tuple[tuple[ViewSource, ...], list[str]]:
    """The views of an instant that see its scan, and the names of those that do not.

    Args:
        entry: the instant.
        points: (P, 3) of its scan, mm.
        size: of the network's pictures.

    Raises:
        CalibrationError: fewer than two views see it.
    """
    good: list[ViewSource] = []
    blind: list[ViewSource] = []
    for source in entry.views:
        found = source.view(size)
        local = points @ found.camera_from_world[:, :3].T + found.camera_from_world[:, 3]
        ahead = local[:, 2] > 1.0
        pixel = (local / np.where(ahead, local[:, 2], 1.0)[:, None]) @ found.K.T
        within = (pixel[:, :2] > -0.5).all(1) & (pixel[:, :2] < np.array(size) - 0.5).all(1)
        (good if (ahead & within).any() else blind).append(source)
    names = [source.name for source in blind]
    if len(good) < 2:
        raise CalibrationError(
            f"{entry.name}: {len(good)} of {len(entry.views)} views see its scan, two are needed; blind: "
            f"{', '.join(names) or 'none'}; are scan and calibration in one frame and unit?"
        )
    return tuple(good), names


def check_corpus(
    corpus: ScanCorpus, size: tuple[int, int], progress: Callable[[int, int], None] | None = None
) -> ScanCorpus:
    """Read every scan once: what cannot be learned from is refused, what is odd is named and left out.

    Raises:
        TakeError: no instant at all, or a registration of another vertex count.
        CalibrationError: see `seeing`.
        MeshError: a scan cannot be read.
    """
    if not corpus.sets:
        raise TakeError("no instant with pictures and a scan was found")
    entries: list[ScanSet] = []
    clouds, blind = 0, dict[str, int]()
    for done, entry in enumerate(corpus.entries):
        mesh = entry.scan()
        clouds += not len(mesh.triangles)
        views, names = seeing(entry, mesh.vertices[:: max(1, len(mesh.vertices) // 2000)], size)
        for name in names:
            camera = name.partition(" of ")[0]
            blind[camera] = blind.get(camera, 0) + 1
        if entry.registration is not None and len(found := entry.registration()) != corpus.topology.vertex_count:
            raise TakeError(
                f"{entry.name}: its registration has {len(found)} vertices, the template "
                f"{corpus.topology.vertex_count}; both must be of one topology"
            )
        entries.append(ScanSet(entry.name, views, entry.scan, entry.registration))
        if progress:
            progress(done + 1, corpus.sets)
    remarks = [*corpus.remarks]
    if clouds:
        remarks.append(f"{clouds} of {corpus.sets} scans have no triangles: their points are used as they are")
    remarks += [f"camera {camera} sees nothing of {count} scans: left out there" for camera, count in blind.items()]
    return ScanCorpus(corpus.topology, tuple(entries), tuple(remarks))


def centre_of(corpus: ScanCorpus, most: int = 64) -> tuple[float, float, float]:
    """Middle of the scans, mm, to whole centimetres: where the coarse volume belongs in this rig's world."""
    chosen: Sequence[ScanSet] = corpus.entries[:: max(1, corpus.sets // most)]
    boxes = [(mesh.vertices.min(0) + mesh.vertices.max(0)) / 2 for mesh in (entry.scan() for entry in chosen)]
    x, y, z = (10.0 * round(float(value) / 10.0) for value in np.mean(boxes, 0))
    return x, y, z
