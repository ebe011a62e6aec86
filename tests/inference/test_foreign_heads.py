"""benchmarks/foreign_heads.py: a scan of any triangles finds its place, its regions and its skin, and is measured."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import foreign_heads
from benchmarks.foreign.film import bent
from benchmarks.foreign.scans import read_head
from inference.meshes import SurfaceMesh, write_obj
from rig.simulation.head import head_topology, load_head, random_identity
from streamer.errors import DriverError, MeshError


def somebody() -> tuple[np.ndarray, np.ndarray]:
    """A face alone, (N, 3) mm and (T, 3): vertices in another order, cut at the ears and at the hair, moved away."""
    rng, head, topology = np.random.default_rng(12), load_head(), head_topology()
    vertices = head.person(random_identity(rng))[: head.skin_count].astype(np.float64) * 1000
    keep = np.zeros(len(vertices), bool)
    keep[topology.regions["face"]] = True
    triangles = topology.triangles[keep[topology.triangles].all(1)]
    used, index = np.unique(triangles, return_inverse=True)
    order = rng.permutation(len(used))
    shuffled = np.empty_like(order)
    shuffled[order] = np.arange(len(used))
    turn = cv2.Rodrigues(np.array([0.08, -0.12, 0.05]))[0]
    return vertices[used][order] @ turn.T + [40, -300, 90], shuffled[index].reshape(-1, 3)


def test_a_face_alone_is_completed_filmed_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vertices, triangles = somebody()
    mesh = SurfaceMesh(vertices.astype(np.float32), triangles.astype(np.int32))
    write_obj(tmp_path / "face.obj", mesh, "mm")
    asked = ["foreign_heads", str(tmp_path / "face.obj"), "--models", "live", "--sets", "1", "--json"]
    monkeypatch.setattr(sys, "argv", [*asked, "--pictures", str(tmp_path / "pictures")])
    try:
        assert foreign_heads.main() == 0
    except DriverError as error:
        pytest.skip(str(error))
    told = json.loads(capsys.readouterr().out)["live"]
    assert set(told) == {"face", "all"} and set(told["face"]) == set(foreign_heads.ROWS)
    medians = {row: regions["face"]["median_mm"] for row, regions in told["face"].items()}
    # somebody whom the training could have seen: the network is near, the prior nearer, the mean head far
    assert medians["network"] < 1.6 and medians["best of the shape prior"] < 0.5
    assert medians["mean head at the true pose"] > 1.2 * medians["network"]
    picture = cv2.imread(str(tmp_path / "pictures" / "face-live.png"))
    assert picture is not None and picture.shape == (3 * 480, 4 * 640, 3)
    green = (picture[480:960] == [0, 255, 0]).all(2).mean()
    assert 0.02 < green < 0.5  # the mesh lies over the head


def test_what_is_no_head_is_named(tmp_path: Path) -> None:
    vertices, triangles = somebody()
    mesh = SurfaceMesh(vertices.astype(np.float32), triangles.astype(np.int32))
    upright = np.eye(3)
    write_obj(tmp_path / "metres.obj", replace(mesh, vertices=mesh.vertices / 1000), "m")
    with pytest.raises(MeshError, match=r"mm across if its unit is mm: no head; give --unit"):
        read_head(tmp_path / "metres.obj", "mm", upright)
    assert len(read_head(tmp_path / "metres.obj", "m", upright).vertices) == len(vertices)
    (tmp_path / "points.ply").write_text("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n")
    with pytest.raises(MeshError, match=r"points\.ply: "):
        read_head(tmp_path / "points.ply", "mm", upright)


def test_a_lattice_bends_smoothly_and_keeps_the_place() -> None:
    template = head_topology().template.astype(np.float64) * 1000
    moved = bent(template, np.random.default_rng(1), 8.0)
    change = moved - template
    np.testing.assert_allclose(change.mean(0), 0, atol=1e-9)
    assert 1.5 < np.linalg.norm(change, axis=1).mean() < 12
    edges = head_topology().triangles[:, :2]
    stretch = np.linalg.norm(change[edges[:, 0]] - change[edges[:, 1]], axis=1)
    lengths = np.linalg.norm(template[edges[:, 0]] - template[edges[:, 1]], axis=1)
    assert (stretch < 0.6 * lengths + 0.01).all()  # cubic splines: no folds
