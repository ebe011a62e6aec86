"""What does not change on the device while a rig does not: cameras, grids, the mesh. And the scratch of streams."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.devices.cuda import CudaDevice
from inference.kernels.launch import BOX_BYTES, PIXEL_BYTES, PLACE_BYTES, SIDE, Mesh, Sight
from inference.tempeh.compiled.network import (
    DEVIATION,
    EMBEDDING_PER_MM,
    MEAN,
    PublishedCameras,
    PublishedParts,
    grid_points,
)
from streamer.types import F32, I32

NEVER = np.float32(1e-7)
"""Depths below this, mm, are those of points in the plane of the camera."""
OUTSIDE = np.float32(4.0)
"""Grids end here; pictures at 1."""


def sampling_grid(points: F32, K: F32, distortion: F32, camera_from_world: F32, size: tuple[int, int]) -> F32:
    """Where points lie in each view, as GridSample takes it; with the quirks of the release.

    Args:
        points: (P, 3) world, mm.
        K: (V, 3, 3) px.
        distortion: (V, 2) radial.
        camera_from_world: (V, 3, 4) mm.
        size: width and height of the pictures, px.

    Returns:
        (V, P, 2), pictures from -1 to 1 between their outer edges.
    """
    local = points @ camera_from_world[:, :, :3].transpose(0, 2, 1) + camera_from_world[:, None, :, 3]
    depth = local[..., 2:]
    flat = local[..., :2] / np.where(np.abs(depth) < NEVER, np.float32(1), depth)
    r2 = (flat * flat).sum(-1, keepdims=True)
    k1, k2 = distortion[:, None, None, 0], distortion[:, None, None, 1]
    flat = flat * (1 + k1 * r2 + k2 * (r2 * r2))
    pixel = flat @ K[:, :2, :2].transpose(0, 2, 1) + K[:, None, :2, 2]
    # the release takes pixels for places between the middles of the outer pixels, and samples between their edges
    grid = pixel * (2 / (np.array(size, np.float32) - 1)) - 1
    return np.asarray(np.clip(grid, -OUTSIDE, OUTSIDE), np.float32)


def triangles_around(triangles: I32, vertices: int) -> tuple[I32, I32]:
    """Starts (N + 1,) and numbers (3 T,) of the triangles around each vertex, in their order."""
    owner = triangles.ravel()
    around = (np.argsort(owner, kind="stable") // 3).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=vertices))]).astype(np.int32)
    return starts, around


class Held:
    """Allocations that live as long as this.

    Args:
        device: where.
    """

    def __init__(self, device: CudaDevice) -> None:
        """Start with none."""
        self._device = device
        self._native: list[Any] = []

    def constant(self, values: NDArray[Any], what: str) -> int:
        """Return the address of an array."""
        self._native.append(self._device.constant(values, what))
        return int(self._native[-1])

    def scratch(self, size: int, what: str) -> int:
        """Return the address of `size` bytes."""
        self._native.append(self._device.allocate(size, what))
        return int(self._native[-1])


@dataclass(frozen=True, slots=True)
class RigConstants:
    """Addresses for one rig."""

    views: int
    """V."""
    rules_fine: tuple[int, int, int]
    """Windows, mean and deviation of the pictures, both stages."""
    first_grid: int
    """(V, P, 2) of the coarse volume."""
    K_coarse: int
    """(V, 3, 3)."""
    lens_coarse: int
    """(V, 2)."""
    pose: int
    """(V, 3, 4) mm."""
    K_refine: int
    """(V, 2, 3): the first rows."""
    lens_refine: int
    """(V, 2)."""
    local_grid: int
    """(P, 3) displacements of a vertex's voxels, mm."""
    embedding: int
    """(N, 3)."""
    template: int
    """(N, 3) mm."""
    mesh: Mesh
    """Of the head."""
    sight: Sight
    """For the test of visibility."""


def place_constants(
    held: Held, parts: PublishedParts, cameras: PublishedCameras, size: tuple[int, int]
) -> RigConstants:
    """Put on the device what a rig needs.

    Args:
        held: owns it.
        parts: the network.
        cameras: the rig.
        size: width and height of the refinement's pictures, px.

    Raises:
        EngineError: there is not enough memory.
    """
    sizes, views, count = parts.sizes, len(cameras.K_refine), len(parts.template_mm)
    half = (size[0] // 2, size[1] // 2)
    points = grid_points(sizes.grid, sizes.step_mm, quirks=True) + np.array(sizes.centre_mm, np.float32)
    grid = sampling_grid(points, cameras.K_coarse, cameras.distortion_coarse, cameras.camera_from_world, half)
    windows = np.tile(np.array([0, 0, *size], np.float32), (views, 1))
    starts, around = triangles_around(parts.triangles, count)
    pose = held.constant(cameras.camera_from_world, "poses")
    mesh = Mesh(
        count,
        len(parts.triangles),
        held.constant(parts.triangles.astype(np.int32), "triangles"),
        held.constant(starts, "triangles"),
        held.constant(around, "triangles"),
    )
    sight = Sight(
        views,
        held.constant(cameras.K_refine, "cameras"),
        pose,
        held.scratch(views * BOX_BYTES, "outlines"),
        held.scratch(views * SIDE * SIDE * PIXEL_BYTES, "depth pictures"),
        held.scratch(views * count * PLACE_BYTES, "outlines"),
    )
    return RigConstants(
        views=views,
        rules_fine=(
            held.constant(windows, "windows"),
            held.constant(MEAN, "normalisation"),
            held.constant(DEVIATION, "normalisation"),
        ),
        first_grid=held.constant(grid, "sampling grid"),
        K_coarse=held.constant(cameras.K_coarse, "cameras"),
        lens_coarse=held.constant(cameras.distortion_coarse, "cameras"),
        pose=pose,
        K_refine=held.constant(cameras.K_refine[:, :2], "cameras"),
        lens_refine=held.constant(cameras.distortion_refine, "cameras"),
        local_grid=held.constant(grid_points(sizes.local_grid, sizes.local_step_mm, quirks=True), "local grid"),
        embedding=held.constant(parts.template_mm * EMBEDDING_PER_MM, "template"),
        template=held.constant(parts.template_mm, "template"),
        mesh=mesh,
        sight=sight,
    )
