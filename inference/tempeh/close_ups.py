"""Close-ups: eyes and mouth, read once more from small pictures that ride on the reconstructed face. Numpy.

A lid is a few pixels of a whole picture and a few vertices of a mesh: neither the head volume nor a linear model of
heads tells whether it is shut. Here a curved patch is laid over each eye and the mouth, placed by the vertices around
it that an expression hardly moves, and drawn from every view. A small network sees the patches of all views and says
how far the vertices there are off. The right eye is read as a mirrored left one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.schedule import PICTURES, RESULT, Access, Stage, run_in_order
from inference.tempeh import frames
from inference.tempeh.frames import MM, Views, views_of
from inference.tempeh.layout import template_mm
from inference.tempeh.live import Runnable
from streamer.errors import ModelError
from streamer.geometry import rigid_from_points, transform
from streamer.types import F32, F64, I32, U8, Camera, Topology

GRAPHS = ("eyes", "mouth")
"""Graphs of a model that has close-ups."""
MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)
"""From one side of a head to the other."""
SYMMETRIC_MM = 0.5
"""A topology's two halves agree to this."""
VIEW_FIGURES = 4
"""Numbers that tell how a view sees a patch: cosines to its normal, its right and its up, and log pixels per mm."""


@dataclass(frozen=True, slots=True)
class Lens:
    """What a close-up takes in, millimetres from the middle of its part of the template."""

    size: tuple[int, int]
    """Width and height of the patch, px."""
    step_mm: float
    """Distance of its pixels."""
    squeeze: tuple[float, float, float]
    """Factors on x, y, z in the distances that follow."""
    reach_mm: float
    """Vertices nearer than this are moved."""
    soft_mm: float
    """Width of the seam in which moved vertices pass into those that stay."""


EYE = Lens((42, 30), 1.25, (0.8, 1.0, 0.5), 27.0, 10.0)
MOUTH = Lens((48, 42), 1.5, (1.0, 0.85, 0.6), 52.0, 18.0)
EYE_RING_MM = (20.0, 42.0)
"""The vertices that place an eye's patch are this far from its middle."""
MOUTH_RING_MM, MOUTH_ABOVE_MM = 75.0, 22.0
"""Those of the mouth's are nearer than this, and above its middle by so much: the jaw is not among them."""
MOUTH_DROP_MM = 4.0
"""The patch of the mouth lies lower than its lips: it opens downwards."""


@dataclass(frozen=True, slots=True)
class CloseUp:
    """One patch and the vertices that it tells of. The right eye's is told in the mirrored frame of the left one."""

    lens: Lens
    """What it takes in."""
    ring: I32
    """Vertices that place it."""
    region: I32
    """(R,) vertices that it moves; of mirrored patches in the order of those that they mirror."""
    share: F32
    """(R,) how much of the movement a vertex takes, 0..1."""
    grid: F32
    """(h, w, 3) mm, template frame."""
    mirrored: bool
    """Whether its picture and its vertices are mirrored."""

    def place(self, template: F32, vertices: NDArray[np.floating]) -> F64:
        """`a_from_patch` (4, 4) for vertices (N, 3) mm in frame a; the patch's frame is that of the template, mm."""
        return rigid_from_points(template[self.ring].astype(np.float64), vertices[self.ring].astype(np.float64))

    def local(self, a_from_patch: F64, vertices: NDArray[np.floating]) -> F32:
        """(R, 3) the region's vertices in the patch's frame, mirrored if it is."""
        patch_from_a: F64 = np.asarray(np.linalg.inv(a_from_patch), np.float64)
        found = transform(patch_from_a, vertices[self.region].astype(np.float64))
        return np.asarray(found * MIRROR if self.mirrored else found, np.float32)

    def draw(self, a_from_patch: F64, pictures: Sequence[U8] | U8, views: Views) -> tuple[U8, F32]:
        """Draw the patch as every view sees it.

        Args:
            a_from_patch: where it is.
            pictures: V pictures (H, W, 3).
            views: their cameras for points in frame a, mm.

        Returns:
            (V, h, w, 3), black where outside; and (V, VIEW_FIGURES).
        """
        width, height = self.lens.size
        points = transform(a_from_patch, self.grid.reshape(-1, 3).astype(np.float64))
        pixels = frames.project_all(views, points).reshape(-1, height, width, 2)
        drawn = [
            cv2.remap(picture, np.ascontiguousarray(at[..., 0]), np.ascontiguousarray(at[..., 1]), cv2.INTER_LINEAR)
            for picture, at in zip(pictures, pixels, strict=True)
        ]
        return np.stack(drawn).astype(np.uint8, copy=False), self._figures(a_from_patch, points.mean(0), views)

    def _figures(self, a_from_patch: F64, centre: F64, views: Views) -> F32:
        """How every view sees the patch."""
        rotation, shift = views.camera_from_a[:, :, :3], views.camera_from_a[:, :, 3]
        towards = -np.einsum("vij,vi->vj", rotation, shift) - centre
        distance = np.linalg.norm(towards, axis=1)
        focal = np.sqrt(np.abs(np.linalg.det(views.K[:, :, :2])))
        # right, up and out of the patch as its picture shows them
        across = self.grid[0, -1] - self.grid[0, 0] + self.grid[-1, -1] - self.grid[-1, 0]
        along = self.grid[0, 0] - self.grid[-1, 0] + self.grid[0, -1] - self.grid[-1, -1]
        outward = np.cross(across, along) * (-1 if self.mirrored else 1)
        axes = np.stack([outward, across, along]).astype(np.float64)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        cosines = (towards / distance[:, None]) @ (axes @ a_from_patch[:3, :3].T).T
        return np.concatenate([cosines, np.log(focal / distance)[:, None]], 1).astype(np.float32)


def close_ups_of(topology: Topology) -> dict[str, tuple[CloseUp, ...]]:
    """The close-ups of a topology by graph: both eyes for `eyes`, one for `mouth`.

    Raises:
        ModelError: it does not name face, eyes and lips, or is not symmetric.
    """
    missing = sorted({"face", "eyes", "lips"} - topology.regions.keys())
    if missing:
        raise ModelError(f"topology '{topology.name}' has no region {', '.join(missing)}; close-ups need it")
    template = template_mm(topology)
    left = _eye(topology, template)
    right = replace(
        left,
        ring=_opposite(topology, template, left.ring),
        region=_opposite(topology, template, left.region),
        grid=left.grid * MIRROR,
        mirrored=True,
    )
    return {"eyes": (left, right), "mouth": (_mouth(topology, template),)}


def _opposite(topology: Topology, template: F32, chosen: I32) -> I32:
    """The vertices opposite to some."""
    by_height = np.argsort(template[:, 1], kind="stable")
    heights = template[by_height, 1]
    found = np.empty(len(chosen), np.int32)
    for row, vertex in enumerate(chosen):
        wanted = template[vertex] * MIRROR
        first, last = np.searchsorted(heights, [wanted[1] - SYMMETRIC_MM, wanted[1] + SYMMETRIC_MM])
        near = by_height[first:last]
        apart = np.linalg.norm(template[near] - wanted, axis=1)
        if apart.min() > SYMMETRIC_MM:
            raise ModelError(
                f"topology '{topology.name}' is not symmetric: opposite to vertex {vertex} there is none within "
                f"{SYMMETRIC_MM} mm; close-ups read the right eye as a mirrored left one"
            )
        found[row] = near[apart.argmin()]
    return found


def _both_sides(topology: Topology, template: F32, *regions: I32) -> I32:
    """The vertices of regions and those opposite to them."""
    chosen = np.unique(np.concatenate(regions)).astype(np.int32)
    return np.union1d(chosen, _opposite(topology, template, chosen)).astype(np.int32)


def _eye(topology: Topology, template: F32) -> CloseUp:
    face, eyes = topology.regions["face"], topology.regions["eyes"]
    own = template[eyes[template[eyes, 0] > 0]]
    centre = (own.min(0) + own.max(0)) / 2
    # less deep than wide: the ring lies around the eye, on the face's front
    away = np.linalg.norm((template[face] - centre) * np.array([1.0, 1.0, 0.6], np.float32), axis=1)
    ring = face[(away > EYE_RING_MM[0]) & (away < EYE_RING_MM[1])]
    return _close_up(template, _both_sides(topology, template, face, eyes), centre, EYE, ring, face)


def _mouth(topology: Topology, template: F32) -> CloseUp:
    face, lips = topology.regions["face"], topology.regions["lips"]
    centre = (template[lips].min(0) + template[lips].max(0)) / 2 - np.array([0.0, MOUTH_DROP_MM, 0.0], np.float32)
    offset = template[face] - centre
    ring = face[(offset[:, 1] > MOUTH_ABOVE_MM) & (np.linalg.norm(offset, axis=1) < MOUTH_RING_MM)]
    return _close_up(template, _both_sides(topology, template, face, lips), centre, MOUTH, ring, face)


def _close_up(template: F32, skin: I32, centre: F32, lens: Lens, ring: I32, face: I32) -> CloseUp:
    """Take in what lies around a centre; the patch is a quadric through the face there."""
    away = np.linalg.norm((template[skin] - centre) * np.array(lens.squeeze, np.float32), axis=1)
    inside = away < lens.reach_mm
    rise = np.clip((lens.reach_mm - away[inside]) / lens.soft_mm, 0, 1)
    width, height = lens.size
    x = (np.arange(width) - (width - 1) / 2) * lens.step_mm
    y = ((height - 1) / 2 - np.arange(height)) * lens.step_mm
    offset = template[face] - centre
    under = (np.abs(offset[:, :2]) < [x[-1] + 4, y[0] + 4]).all(1) & (offset[:, 2] > -25)
    bend = np.linalg.lstsq(_quadric(offset[under, 0], offset[under, 1]), offset[under, 2], rcond=None)[0]
    across, along = np.meshgrid(x, y)
    grid = np.stack([across, along, _quadric(across, along) @ bend], -1) + centre
    share = rise * rise * (3 - 2 * rise)
    return CloseUp(
        lens, ring, skin[inside].astype(np.int32), share.astype(np.float32), grid.astype(np.float32), mirrored=False
    )


def _quadric(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


class StagedNetwork(Protocol):
    """The network that makes the head."""

    def stages(self) -> tuple[Stage, ...]:
        """Stages that leave a head under `RESULT`."""


class CloseUpNetwork:
    """A network whose heads get eyes and mouth from close-ups.

    Args:
        network: makes the heads.
        graphs: `eyes` and `mouth`, compiled for `max_views` slots.
        cameras: cameras of the pictures in slot order.
        max_views: slots of the graphs.
        topology: of the model.

    Raises:
        ModelError: the topology has no close-ups.
    """

    def __init__(
        self,
        network: StagedNetwork,
        graphs: Mapping[str, Runnable],
        cameras: Sequence[Camera],
        max_views: int,
        topology: Topology,
    ) -> None:
        """Lay the patches out."""
        self._network, self._slots = network, max_views
        self._graphs = {name: graphs[name] for name in GRAPHS}
        self._close_ups = close_ups_of(topology)
        self._template = template_mm(topology)
        self._views = views_of(cameras, np.eye(4))

    def run(self, pictures: U8, mask: F32) -> Any:
        """Reconstruct one frame set, the stages one after the other; the head is of the network's own kind."""
        return run_in_order(self.stages(), {PICTURES: (pictures, mask)}).values[RESULT]

    def stages(self) -> tuple[Stage, ...]:
        """The network's stages, and one more on a stream of its own."""
        inner = self._network.stages()
        last = Stage("close-ups", "close-ups", self._run, (PICTURES, RESULT), (RESULT,), after=(inner[-1].name,))
        return (*inner, last)

    def _run(self, access: Access) -> None:
        pictures, mask = access[PICTURES]
        head = access[RESULT]
        count = len(self._views.K)
        access[RESULT] = replace(head, vertices=self.improved(head.vertices, pictures[:count], mask[:count]))

    def improved(self, vertices: F32, pictures: U8, present: F32) -> F32:
        """Read eyes and mouth anew.

        Args:
            vertices: (N, 3) m, world.
            pictures: (V, H, W, 3).
            present: (V,) 1 where there is a picture.

        Returns:
            (N, 3) m, world.
        """
        found = vertices.astype(np.float64) * MM
        for name, close_ups in self._close_ups.items():
            places = [close_up.place(self._template, found) for close_up in close_ups]
            drawn = [c.draw(place, pictures, self._views) for c, place in zip(close_ups, places, strict=True)]
            shown, seen = zip(*drawn, strict=True)
            inputs = {
                "patches": self._padded([frames.standardise(patches) for patches in shown]),
                "seen": self._padded(list(seen)),
                "present": self._padded([present.astype(np.float32)])[0],
                "near": np.stack([c.local(place, found) for c, place in zip(close_ups, places, strict=True)]),
            }
            moves = self._graphs[name].run(inputs)["moved"]
            for close_up, place, moved in zip(close_ups, places, moves, strict=True):
                turned = moved * MIRROR if close_up.mirrored else moved
                found[close_up.region] += close_up.share[:, None] * (turned @ place[:3, :3].T)
        return (found / MM).astype(np.float32)

    def _padded(self, rows: Sequence[NDArray[np.floating]]) -> F32:
        """Stack arrays of V rows each, with zero rows for the slots without a camera."""
        out = np.zeros((len(rows), self._slots, *rows[0].shape[1:]), np.float32)
        for row, values in zip(out, rows, strict=True):
            row[: len(values)] = values
        return out
