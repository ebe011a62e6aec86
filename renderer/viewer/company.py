"""What stands beside the head or lies on it: a second layer, onion skins, numbers per vertex."""

import numpy as np

from renderer.viewer.controls import Look
from renderer.viewer.head_view import Through
from renderer.viewer.heat import distance_mm, speed_mm_s, uncertainty_mm, view_count
from renderer.viewer.layers import Layer
from renderer.viewer.lens import same_rig
from renderer.viewer.materials import Material
from renderer.viewer.orbit import OrbitCamera
from renderer.viewer.scans import Scan, Scans
from renderer.viewer.scene import Scene
from renderer.viewer.state import ViewState
from renderer.viewer.surface import Surface
from renderer.viewer.visibility import Visibility
from streamer.types import F32, F64, Camera, MeshFrame, Topology

GHOST = (1.00, 0.55, 0.20)
ONION = (0.45, 0.75, 1.00)
_ONION_STEPS = (2, 4, 7)
_PICK = 0.04


class Company:
    """Everything beside the head.

    Args:
        scene: whose head.
        layer: second layer of meshes; None: there is none.
        scans: raw scans to measure distances to; None: there are none.
    """

    def __init__(self, scene: Scene, layer: Layer | None = None, scans: Scans | None = None) -> None:
        """Start alone."""
        self._scans = scans
        self._scene = scene
        self._layer = layer
        self._visibility: Visibility | None = None
        self._surfaces: dict[str, tuple[Surface, MeshFrame]] = {}
        self._head: MeshFrame | None = None
        self._asked: tuple[object, ...] = ()
        self._rig: tuple[Camera, ...] = ()
        self._pair: tuple[MeshFrame | None, tuple[MeshFrame, Topology] | None] = (None, None)
        self.through: tuple[Through, ...] = ()
        """Heads seen through, as `update` found them."""
        self.scan: Scan | None = None
        """Raw scan of the head's frame set, where it is shown and there is one."""
        self.known = False
        """Whether the heat map that is shown has numbers."""

    def _beside(self, state: ViewState) -> tuple[MeshFrame, Topology] | None:
        """The second layer's mesh for the one that is known; the layer is asked once per mesh."""
        if self._layer is None or state.mesh is None:
            return None
        if self._pair[0] is not state.mesh:
            self._pair = state.mesh, self._layer.beside(state.mesh)
        return self._pair[1]

    def head(self, state: ViewState, look: Look) -> tuple[MeshFrame | None, Topology | None]:
        """Return the mesh that is the head: the first layer's, or the second's where they are swapped."""
        second = self._beside(state) if look.swapped else None
        return (state.mesh, state.topology) if second is None else second

    def update(self, state: ViewState, head: MeshFrame | None, look: Look, rig: tuple[Camera, ...]) -> None:
        """Load what the look asks for; nothing is done again for the same mesh and look."""
        asked = (look.material, look.onion, look.ghost, look.swapped, look.scan)
        unchanged = head is self._head and asked == self._asked and same_rig(rig, self._rig)
        if unchanged or head is None:
            return
        self._head, self._asked, self._rig = head, asked, rig
        found = []
        if look.onion:
            earlier = list(state.earlier)
            for rank, step in enumerate(_ONION_STEPS):
                if len(earlier) >= step and earlier[-step].topology_id == head.topology_id:
                    surface = self._load(f"onion {rank}", earlier[-step], self._scene_topology())
                    found.append(Through(surface, ONION, 0.55 - 0.15 * rank))
        second = self._beside(state)
        if second is not None and look.ghost:
            mesh, topology = (state.mesh, state.topology) if look.swapped else second
            if mesh is not None and topology is not None:
                found.append(Through(self._load("ghost", mesh, topology), GHOST, 0.80))
        self.through = tuple(found)
        self.scan = None if self._scans is None or look.scan == "none" else self._scans.of(head.frame_id)
        self._heat(state, head, look.material)

    def _scene_topology(self) -> Topology:
        surface = self._scene.surface
        if surface is None:
            raise ValueError("there is no head yet")
        return surface.shape.topology

    def _load(self, name: str, mesh: MeshFrame, topology: Topology) -> Surface:
        kept = self._surfaces.get(name)
        if kept is not None and kept[0].shape.topology.id != topology.id:
            self._surfaces.pop(name)[0].release()
            kept = None
        if kept is not None and kept[1] is mesh:
            return kept[0]
        surface = Surface(self._scene.context, self._scene.shape(topology)) if kept is None else kept[0]
        surface.load(mesh.vertices)
        self._surfaces[name] = surface, mesh
        return surface

    def _heat(self, state: ViewState, head: MeshFrame, material: Material) -> None:
        surface = self._scene.surface
        if surface is None or material not in ("speed", "views", "uncertainty", "distance"):
            return
        values = self._values(state, head, material, surface)
        self.known = bool(np.isfinite(values).any())
        surface.set_numbers(values)

    def _values(self, state: ViewState, head: MeshFrame, material: Material, surface: Surface) -> F32:
        if material == "speed":
            earlier = [mesh for mesh in state.earlier if mesh.topology_id == head.topology_id]
            return speed_mm_s(head, earlier[-1] if earlier else None)
        if material == "distance":
            scan = None if self._scans is None else self._scans.of(head.frame_id)
            if scan is not None:
                return scan.distance_mm(head.vertices)
            return distance_mm(head.vertices, self._reference(state, head))
        if not self._rig:
            return np.full(len(head.vertices), np.nan, np.float32)
        used = tuple(camera for camera in self._rig if camera.id in head.views) or self._rig
        if self._visibility is None:
            self._visibility = Visibility(self._scene.context)
        seen = self._visibility.seen(surface, used)
        return view_count(seen) if material == "views" else uncertainty_mm(head.vertices, used, seen)

    def _reference(self, state: ViewState, head: MeshFrame) -> F32 | None:
        """What distances are measured to: the other layer where there is one, else the true mesh."""
        second = self._beside(state)
        if second is not None:
            other = state.mesh if head is second[0] else second[0]
            if other is not None and other.topology_id == head.topology_id:
                return other.vertices
        truth = state.truth(head)
        return None if truth is None else truth.vertices

    def frame(self, camera: OrbitCamera, cameras: tuple[Camera, ...], aspect: float) -> OrbitCamera:
        """Frame the head from where a camera is turned, with the cameras of the rig where there are any."""
        box = self._scene.bounds
        if box is None:
            return camera
        if not cameras:
            return camera.fit(*box, aspect)
        return camera.hold(np.array([*box, *(eye.centre_world for eye in cameras)]), aspect)

    def point_at(self, x: float, y: float, camera: OrbitCamera, aspect: float) -> F64 | None:
        """Find the vertex of the head under a place of the free view.

        Args:
            x: 0 at the left edge of the view, 1 at the right.
            y: 0 at the top, 1 at the bottom.
            camera: of the view.
            aspect: width / height of the view.

        Returns:
            (3,) metres, world; None where there is no vertex within a twenty-fifth of the view's height.
        """
        surface = self._scene.surface
        if surface is None or not len(surface.vertices):
            return None
        clip = camera.clip_from_world(aspect)
        spots = surface.vertices.astype(np.float64) @ clip[:, :3].T + clip[:, 3]
        device = spots[:, :3] / spots[:, 3:]
        off = np.hypot((device[:, 0] - (2 * x - 1)) * aspect, device[:, 1] - (1 - 2 * y)) / 2
        near = np.flatnonzero((off < _PICK) & (spots[:, 3] > 0))
        if not len(near):
            return None
        return np.asarray(surface.vertices[near[np.argmin(device[near, 2] + off[near])]], np.float64)

    def release(self) -> None:
        """Free the GPU's memory; the layer is closed too."""
        for surface, _ in self._surfaces.values():
            surface.release()
        self._surfaces.clear()
        if self._visibility is not None:
            self._visibility.release()
