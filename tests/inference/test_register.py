"""Registration of raw scans: on the surface, in correspondence, unmoved by what is not the head."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from inference.meshes import SurfaceMesh, read_mesh
from inference.training.register import Registrar
from inference.training.scan_readers import read_takes
from streamer.errors import TakeError
from streamer.takes import TakeWriter
from streamer.types import MeshFrame
from tests.inference.makers import EXPOSURE_NS, grey_set, ring
from tests.inference.scan_world import write_mesh
from tests.inference.tiny_corpus import ellipsoid, tiny_topology


def bumped(vertices_m: np.ndarray) -> np.ndarray:
    """Another head in millimetres: larger, with a nose, and moved."""
    v = vertices_m * 1000.0
    nose = np.exp(-((v - [0, 0, 100]) ** 2).sum(1) / (2 * 25**2))
    v = v * [1.04, 0.98, 1.02] + nose[:, None] * [0, 0, 6.0]
    return np.asarray(v @ cv2.Rodrigues(np.array([0.03, -0.05, 0.04]))[0].T + [4.0, -3.0, 2.0], np.float32)


def raw_scan() -> SurfaceMesh:
    """Finer than the template and in other triangles."""
    fine, faces = ellipsoid(47, 61)
    return SurfaceMesh(bumped(fine), faces)


def test_the_mesh_comes_onto_the_scan_and_into_correspondence() -> None:
    topology = tiny_topology()
    start = topology.template * np.float32(1000)
    found = Registrar(topology, 3000)(raw_scan(), start, np.random.default_rng(0))
    truth = bumped(topology.template)
    error, before = (np.linalg.norm(v - truth, axis=1) for v in (found.vertices, start))
    assert found.before_mm > 2.0 and found.after_mm < 0.2 and found.p90_mm < 0.5
    assert np.median(error) < 0.35 * np.median(before)


def test_what_is_not_the_head_does_not_pull() -> None:
    """Half of the scan is missing, and a plate floats in front of it."""
    topology = tiny_topology()
    start = bumped(topology.template)  # right already: whatever moves it is wrong
    scan = raw_scan()
    kept = scan.triangles[(scan.vertices[scan.triangles][:, :, 0] > 0).all(1)]
    plate = np.array([[60, -60, 150], [0, -60, 150], [0, 60, 150], [60, 60, 150]], np.float32)
    plate += np.array([20, 0, 0], np.float32)
    count = len(scan.vertices)
    dirty = SurfaceMesh(
        np.concatenate([scan.vertices, plate]).astype(np.float32),
        np.concatenate([kept, [[count, count + 2, count + 1], [count, count + 3, count + 2]]]).astype(np.int32),
    )
    found = Registrar(topology, 3000)(dirty, start, np.random.default_rng(0))
    assert np.linalg.norm(found.vertices - start, axis=1).max() < 2.5
    cloud = SurfaceMesh(scan.vertices, np.zeros((0, 3), np.int32))
    assert Registrar(topology, 3000)(cloud, start, np.random.default_rng(0)).after_mm < 0.2


def test_scans_of_another_frame_are_refused() -> None:
    topology = tiny_topology()
    with pytest.raises(TakeError, match="mm \\(median\\) from the mesh of that frame"):
        Registrar(topology, 500)(raw_scan(), topology.template * 1000 + np.float32(200), np.random.default_rng(0))


@pytest.fixture
def take(tmp_path: Path) -> Path:
    """A take of two frame sets with a guessed mesh each, and scans of frames 0 and 1."""
    topology, calibration = tiny_topology(), ring(4)
    folder = tmp_path / "slate_T001"
    with TakeWriter(folder, calibration=calibration, config_text="", show="show", slate="slate", take=1) as writer:
        writer.write("topology", topology, EXPOSURE_NS)
        for frame_id in (0, 1):
            frames = grey_set(calibration, frame_id)
            for number, one in enumerate(frames.members.values()):
                writer.write("frame", one, frames.exposure_time_ns + 1000 * number)
            pose = np.eye(4, dtype=np.float32)
            mesh = MeshFrame(frame_id, frames.exposure_time_ns, 0, topology.id, topology.template, pose)
            writer.write("mesh", mesh, frames.exposure_time_ns)
    write_mesh(tmp_path / "scans" / "0000.obj", *_parts(raw_scan()))
    write_mesh(tmp_path / "scans" / "0001.obj", *_parts(raw_scan()))
    return folder


def _parts(mesh: SurfaceMesh) -> tuple[np.ndarray, np.ndarray]:
    return mesh.vertices, mesh.triangles


def test_the_verb_registers_every_scan_and_training_reads_them(
    take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "registered"
    command = ["register", str(take), "--scans", str(tmp_path / "scans"), "--out", str(out), "--points", "1500"]
    command.append("--json")
    assert mien.main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scans"] == 2 and told["after_mm"] < 0.3 < told["before_mm"] and told["remarks"] == []
    report = json.loads((out / "report.json").read_text())
    assert set(report["frames"]) == {"0", "1"}
    mesh = read_mesh(out / "00000001.obj")
    np.testing.assert_array_equal(mesh.triangles, tiny_topology().triangles)
    assert np.linalg.norm(mesh.vertices * 1000 - bumped(tiny_topology().template), axis=1).mean() < 2
    corpus = read_takes([take], tmp_path / "scans", registrations=out)
    registration = corpus.entries[1].registration
    assert registration is not None
    np.testing.assert_allclose(registration(), mesh.vertices * 1000, rtol=1e-6)
    assert mien.main(command) == 1
    assert "exists already" in capsys.readouterr().err
    (out / "00000001.obj").unlink()
    with pytest.raises(TakeError, match="no registered mesh of frame 1 of slate_T001"):
        read_takes([take], tmp_path / "scans", registrations=out)


def test_what_cannot_be_registered_is_named(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans, out = tmp_path / "scans", tmp_path / "registered"
    command = ["register", str(take), "--scans", str(scans), "--out", str(out)]
    assert mien.main([*command, "--scan-unit", "m"]) == 1
    assert "seems to be in millimetres where metres are expected; give --scan-unit mm" in capsys.readouterr().err
    mesh = raw_scan()
    write_mesh(scans / "0001.obj", mesh.vertices / 1000, mesh.triangles)
    assert mien.main(command) == 1
    assert "0001.obj: the scan is" in (told := capsys.readouterr().err) and "give --scan-unit m" in told
    write_mesh(scans / "0001.obj", mesh.vertices + np.float32(200), mesh.triangles)
    assert mien.main(command) == 1
    assert "slate_T001/1: its points are" in capsys.readouterr().err
    assert mien.main([*command[:3], str(tmp_path / "none"), *command[4:]]) == 1
    assert "no such folder of scans" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert mien.main([*command[:3], str(tmp_path / "empty"), *command[4:]]) == 1
    assert "no frame set with a scan" in capsys.readouterr().err
    assert not out.exists()
