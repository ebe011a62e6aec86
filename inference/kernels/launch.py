"""The kernels of this folder on a device: compiled for it, loaded, and launched on a stream with checked arguments.

Addresses are those of device memory; what they hold stands at each kernel's head in its source. Launches only issue.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.devices.cuda import CudaDevice
from inference.kernels.compile import Kernel, cubin

FORMATS: Mapping[Kernel, Mapping[str, str]] = {
    "visibility": {
        "outline_begin": "PP",
        "outline_project": "PPPiPP",
        "outline_place": "iPP",
        "depth_draw": "PPiiP",
        "depth_test": "PPiP",
        "vertex_normals": "PPPPiP",
    },
    "local_volumes": {"local_volumes": "PPPPPPPPPPiiiiiiP"},
    "pictures": {"pictures": "PPPPPiiiiiP"},
}
"""Source to kernels to the types of their arguments, P: address, i: whole number."""
SIDE = 200
"""Pixels along an edge of a depth picture."""
BOX_BYTES, PIXEL_BYTES, PLACE_BYTES = 6 * 4, 8, 3 * 4
"""Of a view's outline, a depth picture's pixel, a vertex in an outline."""
RGB = 0
THREADS = 128


def blocks(count: int, size: int = THREADS) -> int:
    """Blocks of `size` threads for `count` elements."""
    return -(-count // size)


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh on the device, as `visibility` reads it."""

    vertex_count: int
    """N."""
    triangle_count: int
    """T."""
    triangles: int
    """(T, 3) int32."""
    starts: int
    """(N + 1,) int32: the triangles around vertex i are around[starts[i] : starts[i + 1]]."""
    around: int
    """(3 T,) int32."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a test of visibility needs beside mesh and vertices."""

    views: int
    """V."""
    K: int
    """(V, 3, 3)."""
    camera_from_world: int
    """(V, 3, 4) mm."""
    boxes: int
    """Scratch, V times `BOX_BYTES`."""
    pictures: int
    """Scratch, V times `SIDE`^2 times `PIXEL_BYTES`."""
    flat: int
    """Scratch, V N times `PLACE_BYTES`."""


class Kernels:
    """All kernels, loaded on a device.

    Args:
        device: a device.

    Raises:
        EngineError: nvcc is missing or refuses, or the device does not load what it made.
    """

    def __init__(self, device: CudaDevice) -> None:
        """Compile, or take what was compiled before."""
        self._functions: dict[str, Any] = {}
        for source, formats in FORMATS.items():
            self._functions |= device.kernels(cubin(source, device.architecture), formats)

    def _launch(self, name: str, grid: tuple[int, int, int], native: Any, *arguments: int) -> None:
        block = (16, 8, 1) if name == "pictures" else (THREADS, 1, 1)
        self._functions[name].prepared_async_call(grid, block, native, *arguments)

    def pictures(
        self,
        native: Any,
        sources: int,
        mask: int,
        rules: tuple[int, int, int],
        source_size: tuple[int, int],
        size: tuple[int, int],
        views: int,
        out: int,
    ) -> None:
        """Average and normalise RGB pictures.

        Args:
            native: the stream.
            sources: (V, h, w, 3) uint8.
            mask: (V,) uint8.
            rules: addresses of windows, mean and deviation.
            source_size: width and height, px.
            size: width and height of the result, px.
            views: V.
            out: (V, 3, height, width).
        """
        grid = (blocks(size[0], 16), blocks(size[1], 8), views)
        self._launch("pictures", grid, native, sources, mask, *rules, *source_size, RGB, *size, out)

    def visibility(self, native: Any, mesh: Mesh, sight: Sight, vertices: int, seen: int) -> None:
        """Find what every view sees: seen (V, N) uint8 of vertices (N, 3) mm."""
        count, views = mesh.vertex_count, sight.views
        points, boxes, flat = (blocks(count), views, 1), sight.boxes, sight.flat
        self._launch("outline_begin", (blocks(SIDE * SIDE), views, 1), native, boxes, sight.pictures)
        cameras = (sight.K, sight.camera_from_world)
        self._launch("outline_project", points, native, vertices, *cameras, count, flat, boxes)
        self._launch("outline_place", points, native, count, flat, boxes)
        drawn = (blocks(mesh.triangle_count), views, 1)
        self._launch("depth_draw", drawn, native, flat, mesh.triangles, count, mesh.triangle_count, sight.pictures)
        self._launch("depth_test", points, native, flat, sight.pictures, count, seen)

    def normals(self, native: Any, mesh: Mesh, vertices: int, normals: int) -> None:
        """Find unit vertex normals (N, 3) of vertices (N, 3)."""
        grid = (blocks(mesh.vertex_count), 1, 1)
        rest = (mesh.triangles, mesh.starts, mesh.around, mesh.vertex_count, normals)
        self._launch("vertex_normals", grid, native, vertices, *rest)

    def local_volumes(
        self, native: Any, some: int, addresses: tuple[int, ...], numbers: tuple[int, ...], volumes: int
    ) -> None:
        """Fuse the views in the volumes around `some` vertices.

        Args:
            native: the stream.
            some: number of vertices, one block each.
            addresses: maps, mask, K, lens, camera_from_world, grid, vertices, normals, seen, embedding; the last four
                at the first of these vertices.
            numbers: views, vertices of the whole mesh, voxels, width, height, quirks.
            volumes: (some, 19, voxels).
        """
        self._launch("local_volumes", (some, 1, 1), native, *addresses, *numbers, volumes)
