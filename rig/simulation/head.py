"""The parametric head: MakeHuman (CC0) with identity sliders and the 52 ARKit expression units.

Head frame: metres, +Y up, the face looks along +Z, origin at the centroid of the neutral person's skin.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.types import F32, I32, Topology

ASSET = Path(__file__).parent / "assets" / "makehuman_head.npz"
PAIRS = (
    ("decr", "incr"),
    ("in", "out"),
    ("down", "up"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)
"""Opposite ends of one slider: at most one of them is active."""
LARGEST_SHIFT_M = 0.009
"""A slider at full strength moves no vertex further than this; some of MakeHuman's move 5 cm."""


@dataclass(frozen=True, slots=True)
class HeadModel:
    """The packed head, unpacked to float32 metres."""

    neutral: F32
    """(V, 3) mean young adult; the skin is vertices 0..S-1, then eyes, teeth and tongue."""
    triangles: I32
    """(T, 3) of all parts."""
    uv: F32
    """(C, 2), v up."""
    uv_triangles: I32
    """(T, 3)."""
    triangle_part: NDArray[np.int8]
    """(T,) index into `part_names`."""
    part_names: tuple[str, ...]
    """`skin`, `eye_left`, ... in index order."""
    exposure: F32
    """(V,) fraction of the sky that each vertex of the neutral sees, 0..1."""
    identity: F32
    """(K, V, 3) offsets of the sliders at strength 1."""
    identity_names: tuple[str, ...]
    """`folder/slider` names of the sliders."""
    expression: F32
    """(52, V, 3) offsets of the ARKit units."""
    units: tuple[str, ...]
    """ARKit names."""
    skin_count: int
    """Number of skin vertices S."""

    def person(self, identity: F32) -> F32:
        """Neutral vertices (V, 3) of one person, centred on the skin's centroid."""
        vertices = self.neutral + np.tensordot(identity, self.identity, 1)
        return np.asarray(vertices - vertices[: self.skin_count].mean(0), np.float32)

    def part_vertices(self, name: str) -> I32:
        """Vertex indices of a part."""
        part = self.part_names.index(name)
        return np.unique(self.triangles[self.triangle_part == part]).astype(np.int32)


@cache
def load_head() -> HeadModel:
    """Unpack the asset that ships with Mien (cached: 0.3 s, 90 MB)."""
    with np.load(ASSET, allow_pickle=False) as packed:
        data = {name: packed[name] for name in packed.files}
    skin = np.unique(data["triangles"][data["triangle_part"] == 0])
    metres = np.float32(0.01)
    neutral = data["vertices"] * metres
    modes = {
        name: data[f"{name}_q"].astype(np.float32) * (data[f"{name}_scale"] * metres)[:, None, None]
        for name in ("identity", "expression")
    }
    return HeadModel(
        neutral=neutral - neutral[skin].mean(0),
        triangles=data["triangles"],
        uv=data["uv"],
        uv_triangles=data["uv_triangles"],
        triangle_part=data["triangle_part"],
        part_names=tuple(map(str, data["part_names"])),
        exposure=data["exposure"],
        identity=modes["identity"],
        identity_names=tuple(map(str, data["identity_names"])),
        expression=modes["expression"],
        units=tuple(map(str, data["expression_names"])),
        skin_count=len(skin),
    )


@cache
def head_topology() -> Topology:
    """The topology of all simulated meshes: the skin of the head, with regions and the names of the 52 units."""
    head = load_head()
    skin = head.triangle_part == 0
    uv_used = np.unique(head.uv_triangles[skin])
    return Topology(
        name="makehuman-head",
        triangles=head.triangles[skin],
        uv=head.uv[uv_used],
        uv_triangles=np.searchsorted(uv_used, head.uv_triangles[skin]).astype(np.int32),
        template=head.neutral[: head.skin_count],
        units=head.units,
        regions=_regions(head),
    )


def _regions(head: HeadModel) -> dict[str, I32]:
    """Regions of the outer skin, by place on the neutral (centimetres from the centroid of the skin)."""
    x, y, z = (head.neutral[: head.skin_count] * 100).T
    eyes = [head.neutral[head.part_vertices(f"eye_{side}")].mean(0) * 100 for side in ("left", "right")]
    outside = head.exposure[: head.skin_count] > 0.25
    unit_reach = np.linalg.norm(head.expression[:, : head.skin_count], axis=2) * 100
    ear = np.zeros(head.skin_count, bool)
    for name, offset in zip(head.identity_names, head.identity, strict=True):
        if name.startswith("ears/") and "-shape-" in name:
            ear |= np.linalg.norm(offset[: head.skin_count], axis=1) * 100 > 0.15
    face_plane = eyes[0][2] - 6.0
    face = outside & ~ear & (z > face_plane) & (y > -9.5) & (y < eyes[0][1] + 5.0) & (np.abs(x) < 6.8)
    lips = face & (unit_reach[head.units.index("mouthPucker")] > 0.35) & (y < 0)
    around = [np.linalg.norm(np.stack([x, y, z], 1) - eye, axis=1) < 2.3 for eye in eyes]
    regions = {
        "head": outside & (y > -9.5),
        "face": face,
        "scalp": outside & ~face & ~ear & (y > eyes[0][1] - 1.0),
        "ears": ear,
        "neck": outside & (y <= -7.5) & ~face,
        "eyes": face & (around[0] | around[1]),
        "lips": lips,
    }
    return {name: np.flatnonzero(mask).astype(np.int32) for name, mask in regions.items()}


def random_identity(rng: np.random.Generator) -> F32:
    """Slider strengths (K,) of a random adult.

    One to three phenotypes are mixed; each slider pair is active with probability 0.3 (asymmetries 0.12); left and
    right move together but for one pair in seven.
    """
    head = load_head()
    strengths = np.zeros(len(head.identity_names), np.float32)
    macros = [i for i, name in enumerate(head.identity_names) if name.startswith("macro/")]
    chosen = rng.choice(macros, rng.integers(1, 4), replace=False)
    strengths[chosen] = rng.dirichlet(np.ones(len(chosen))) * rng.uniform(0.5, 1.0)
    for members in _slider_groups():
        active = rng.random() < (0.12 if head.identity_names[members[0][0]].startswith("asym/") else 0.3)
        side, amount = rng.integers(len(members)), rng.uniform()
        unequal = rng.random() < 0.15
        if active:
            for slider in members[side]:
                strengths[slider] = amount * (rng.uniform(0.3, 1.0) if unequal else 1.0) * _ceiling()[slider]
    return strengths


@cache
def _ceiling() -> F32:
    reach = np.linalg.norm(load_head().identity, axis=2).max(1)
    return np.asarray(np.minimum(1.0, LARGEST_SHIFT_M / np.maximum(reach, 1e-9)), np.float32)


@cache
def _slider_groups() -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Groups of alternatives: each alternative is a tuple of sliders that move together (left and right)."""
    groups: dict[str, dict[str, list[int]]] = {}
    for index, name in enumerate(load_head().identity_names):
        if name.startswith("macro/"):
            continue
        stem, end = name, ""
        for pair in PAIRS:
            for word in pair:
                if name.endswith(f"-{word}"):
                    stem, end = name.removesuffix(f"-{word}"), word
        if name.startswith("asym/"):
            stem, end = name.rsplit("-", 1)
        group = stem.replace("/l-", "/").replace("/r-", "/")
        groups.setdefault(group, {}).setdefault(end, []).append(index)
    return tuple(tuple(map(tuple, ends.values())) for ends in groups.values())


def eye_turns(weights: F32, units: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Gaze that goes with the eyeLook units: part name to (yaw, pitch) in rad; yaw turns towards +X, pitch up."""
    value = dict(zip(units, weights.tolist(), strict=True))
    turns = {}
    for side, sign in (("Left", 1.0), ("Right", -1.0)):  # the performer's left eye is at +X
        yaw = sign * (value[f"eyeLookOut{side}"] - value[f"eyeLookIn{side}"]) * 0.55
        pitch = (value[f"eyeLookUp{side}"] - value[f"eyeLookDown{side}"]) * 0.45
        turns[f"eye_{side.lower()}"] = (yaw, pitch)
    return turns
