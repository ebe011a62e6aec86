"""A head of any origin: read, brought into the head frame, and registered, so that regions and skin are known on it."""

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inference.meshes import SurfaceMesh
from inference.training.register import Registrar
from inference.training.surface import closest_points
from rig.simulation.head import head_topology, load_head, random_identity
from streamer.errors import MeshError
from streamer.geometry import rigid_from_points, rotation_matrices, transform, vertex_normals
from streamer.types import F32, F64, I32, U8

UNITS = {"m": 1000.0, "cm": 10.0, "mm": 1.0}
HEAD_MM = (90.0, 900.0)
"""Diagonal of what can be a head, or a face, or a bust, in millimetres."""
TRUSTED_MM, HAIR_MM = 6.0, 8.0
"""Points of a scan farther from the registered head, or from the likeliest person, belong to hair, clothes or dirt: no
truth for a bald head."""
PEOPLE, COMPONENTS = 300, 40
"""Random people that tell how people differ, and the components kept."""
RIDGE = 20.0
"""Weight of a component's squared strength beside the squared millimetres of the face's 1,600 vertices."""


@dataclass(frozen=True, slots=True)
class OwnSkin:
    """The texture that a head came with."""

    uv: F64
    """(C, 2), v up."""
    triangles: I32
    """(T, 3) corners in `uv`."""
    picture: U8
    """(H, W, 3), row 0 at v = 1."""


@dataclass(frozen=True, slots=True)
class ForeignHead:
    """A head in the head frame of the mean head, millimetres."""

    name: str
    vertices: F64
    """(N, 3)."""
    triangles: I32
    """(T, 3) counter-clockwise from outside."""
    skin: OwnSkin | None
    """None: it came without a texture."""
    registered: F64 = field(default_factory=lambda: np.zeros((0, 3)))
    """(S, 3) the skin of the default topology, registered to it."""
    likely: F64 = field(default_factory=lambda: np.zeros((0, 3)))
    """(S, 3) the likeliest person of the default topology on it: has no hair, and does not follow any."""
    regions: dict[str, I32] = field(default_factory=dict)
    """Region to vertices that are truth there."""


def read_head(path: Path, unit: str, turn: F64) -> ForeignHead:
    """Read a mesh with its texture, if it has one.

    Args:
        path: anything that trimesh reads: PLY, OBJ with its MTL, GLB, STL, OFF.
        unit: `m`, `cm` or `mm`.
        turn: (3, 3) that brings it upright: +Y up, the face along +Z.

    Raises:
        MeshError: it cannot be read, has no triangles, or is of no head's size.
    """
    import trimesh

    try:
        mesh = trimesh.load(path, process=False, force="mesh")
    except Exception as error:
        raise MeshError(f"{path}: cannot be read: {error}") from error
    if not len(getattr(mesh, "faces", ())):
        raise MeshError(f"{path}: has no triangles; distances are to surfaces: mesh the scan first")
    triangles = np.asarray(mesh.faces, np.int32)
    used, index = np.unique(triangles, return_inverse=True)
    vertices = np.asarray(mesh.vertices, np.float64)[used] * UNITS[unit] @ turn.T
    size = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    if not HEAD_MM[0] < size < HEAD_MM[1]:
        raise MeshError(f"{path}: is {size:.4g} mm across if its unit is {unit}: no head; give --unit")
    triangles = index.reshape(-1, 3).astype(np.int32)
    places, image = getattr(mesh.visual, "uv", None), None
    if places is not None:
        material = mesh.visual.material
        image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    if image is None:
        return ForeignHead(path.stem, vertices, triangles, None)
    texture = np.asarray(image.convert("RGB"), np.uint8)
    skin = OwnSkin(np.asarray(places, np.float64)[used], triangles, texture)
    return ForeignHead(path.stem, vertices, triangles, skin)


def placed(head: ForeignHead) -> ForeignHead:
    """Bring a head to the mean head: nose to nose, then closest points of the face, rigidly."""
    topology = head_topology()
    mean = topology.template.astype(np.float64) * 1000
    face = topology.regions["face"]
    nose = mean[face][mean[face, 2].argmax()]
    facing = vertex_normals(mean, topology.triangles)[face]
    upper = head.vertices[head.vertices[:, 1] > head.vertices[:, 1].max() - 260]
    slab = upper[np.abs(upper[:, 0] - np.median(upper[:, 0])) < 35]
    vertices = head.vertices - slab[slab[:, 2].argmax()] + nose
    normals = vertex_normals(vertices, head.triangles).astype(np.float64)
    for number in range(60):
        width = max(4.0, 40 * 0.9**number)
        distance, near = cKDTree(vertices).query(mean[face])
        weight = (width**2 / (width**2 + distance**2)) ** 2
        weight *= (distance < 3 * width) & ((normals[near] * facing).sum(1) > 0.3)
        if weight.sum() < 20:
            raise MeshError(f"{head.name}: no face looks along +Z where the mean head's does; turn it with --turn")
        mean_from_here = rigid_from_points(vertices[near], mean[face], weight)
        vertices, normals = transform(mean_from_here, vertices), normals @ mean_from_here[:3, :3].T
    return replace(head, vertices=vertices)


@cache
def likely_people() -> tuple[F64, F64]:
    """How people differ: mean (S, 3) and components (K, S, 3) of one standard deviation each, mm."""
    rng, head = np.random.default_rng(5), load_head()
    people = np.stack([head.person(random_identity(rng))[: head.skin_count] for _ in range(PEOPLE)]) * 1000.0
    mean = people.mean(0)
    flat = (people - mean).reshape(PEOPLE, -1)
    spread, basis = np.linalg.eigh(flat @ flat.T / PEOPLE)
    best = np.argsort(-spread)[:COMPONENTS]
    return mean, (basis[:, best].T @ flat / np.sqrt(PEOPLE)).reshape(COMPONENTS, -1, 3)


def first_guess(head: ForeignHead) -> F32:
    """The likeliest person of the default topology on a placed head, (S, 3) mm: closest points of the face, in rounds.

    It comes before the free registration, which would slide where a fringe hides a forehead.
    """
    topology = head_topology()
    mean, components = likely_people()
    face = topology.regions["face"]
    vertices = topology.template.astype(np.float64) * 1000
    vertices = rigidly(mean, vertices, face)
    strengths = np.zeros(len(components))
    normals = vertex_normals(head.vertices, head.triangles).astype(np.float64)
    tree = cKDTree(head.vertices)
    for number in range(30):
        width = max(3.0, 15 * 0.9**number)
        facing = vertex_normals(vertices, topology.triangles)[face].astype(np.float64)
        distance, near = tree.query(vertices[face])
        weight = (width**2 / (width**2 + distance**2)) ** 2
        weight *= (distance < 3 * width) & ((normals[near] * facing).sum(1) > 0.5)
        person = mean + np.tensordot(strengths, components, 1)
        here_from_person = rigid_from_points(person[face], vertices[face])
        moving = components[:, face] @ here_from_person[:3, :3].T
        lever = vertices[face] - vertices[face].mean(0)
        columns = [(moving[k] * facing).sum(1) for k in range(len(components))]
        columns += [*np.cross(lever, facing).T / 100, *facing.T]
        system = np.stack(columns, 1)
        offset = ((head.vertices[near] - vertices[face]) * facing).sum(1)
        ridge = np.r_[np.full(len(components), RIDGE), np.full(6, 1e-6)]
        pull = np.r_[-RIDGE * strengths, np.zeros(6)]
        weighted = system * weight[:, None]
        change = np.linalg.solve(weighted.T @ system + np.diag(ridge), weighted.T @ offset + pull)
        strengths = strengths + change[: len(components)]
        person = mean + np.tensordot(strengths, components, 1)
        small = rotation_matrices(change[len(components) : -3] / 100)
        middle = vertices[face].mean(0)
        vertices = (transform(here_from_person, person) - middle) @ small.T + middle + change[-3:]
    return vertices.astype(np.float32)


def rigidly(points: F64, others: F64, at: I32) -> F64:
    """Points (N, 3) moved to where those of `at` lie nearest to the others."""
    return transform(rigid_from_points(points[at], others[at]), points)


def registered(head: ForeignHead, seed: int = 0) -> ForeignHead:
    """Register the default topology to a placed head, and tell its regions by it."""
    topology = head_topology()
    start = first_guess(head)
    surface = SurfaceMesh(head.vertices.astype(np.float32), head.triangles)
    found = Registrar(topology, 8000)(surface, start, np.random.default_rng(seed))
    fitted = found.vertices.astype(np.float64)
    outer = outer_triangles()
    triangle, weights = closest_points(head.vertices, fitted, outer)
    corners = outer[triangle]
    distance = np.linalg.norm(head.vertices - np.einsum("pk,pki->pi", weights, fitted[corners]), axis=1)
    guessed, weights_there = closest_points(head.vertices, start.astype(np.float64), outer)
    likely = np.einsum("pk,pki->pi", weights_there, start[outer[guessed]])
    bald = np.linalg.norm(head.vertices - likely, axis=1) < HAIR_MM
    truth = (distance < TRUSTED_MM) & bald & ~border(head.triangles, len(head.vertices))
    nearest = corners[np.arange(len(corners)), weights.argmax(1)]
    regions = {
        name: np.flatnonzero(truth & np.isin(nearest, indices)).astype(np.int32)
        for name, indices in topology.regions.items()
    }
    if len(regions["face"]) < 50:
        raise MeshError(f"{head.name}: nothing of a face could be found on it; is it upright, looking along +Z?")
    regions = {name: at for name, at in regions.items() if len(at) >= 20}
    return replace(head, registered=fitted, likely=start.astype(np.float64), regions=regions)


def outer_triangles() -> I32:
    """(T, 3) triangles of the default topology that can be seen from outside."""
    topology = head_topology()
    outside = np.zeros(topology.vertex_count, bool)
    outside[topology.regions["head"]] = True
    return np.ascontiguousarray(topology.triangles[outside[topology.triangles].all(1)])


def border(triangles: I32, count: int) -> NDArray[np.bool_]:
    """(count,) vertices on an edge of one triangle only."""
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    edges, counts = np.unique(pairs, axis=0, return_counts=True)
    found = np.zeros(count, bool)
    found[edges[counts == 1].ravel()] = True
    return found


def mean_beside(target: F64, face: I32) -> F32:
    """The mean head (S, 3) where it lies nearest to a registered one, by the vertices of the face, mm."""
    return rigidly(head_topology().template.astype(np.float64) * 1000, target, face).astype(np.float32)


def nearest_to(points: F64, vertices: F64, triangles: I32) -> F64:
    """Vertices (S, 3) moved rigidly to where their surface lies nearest to points (P, 3)."""
    for _ in range(12):
        triangle, weights = closest_points(points, vertices, triangles)
        there = np.einsum("pk,pki->pi", weights, vertices[triangles[triangle]])
        near = 1 / (1 + ((points - there) ** 2).sum(1) / 9.0)
        vertices = transform(rigid_from_points(there, points, near), vertices)
    return vertices
