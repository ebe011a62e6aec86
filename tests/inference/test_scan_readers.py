"""Raw scans are found in every layout; cameras follow their pictures; what cannot be learned from is named."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.meshes import SurfaceMesh
from inference.tempeh.published.sizes import SMALL
from inference.training.famos import network_camera, read_famos, read_scan, shrink, turned
from inference.training.scan_corpus import centre_of, check_corpus, fit, in_mm, sample_surface
from inference.training.scan_readers import read_folder, read_takes, scan_of
from streamer.errors import CalibrationError, MeshError, TakeError
from streamer.geometry import project
from streamer.imports.tka import read_tka
from tests.inference.makers import camera
from tests.inference.scan_world import famos_folder, plain_folder, poses, template, write_mesh, write_tka

SIZE = (66, 50)


def test_a_plain_folder_is_read(tmp_path: Path) -> None:
    plain_folder(tmp_path)
    corpus = check_corpus(read_folder(tmp_path, template()), SIZE)
    assert [entry.name for entry in corpus.entries] == ["frame_000", "frame_001", "frame_002"]
    assert corpus.remarks == () and all(len(entry.views) == 3 for entry in corpus.entries)
    entry = corpus.entries[1]
    assert entry.registration is not None
    np.testing.assert_allclose(entry.registration(), poses(2)[1] * 1000, atol=1e-3)
    assert len(entry.scan().triangles) > 1000
    assert np.abs(centre_of(corpus)).max() <= 20
    view = entry.views[0].view(SIZE)
    assert view.picture.shape == (50, 66, 3) and view.picture.max() > 100  # the head is in it
    assert corpus.digest() != replace(corpus, entries=corpus.entries[1:]).digest()


@pytest.mark.parametrize("shape", [(100, 132), (132, 100), (90, 132)])
def test_pictures_and_cameras_are_made_to_fit_together(shape: tuple[int, int]) -> None:
    """A bright spot is where the camera says, after turning, undistorting, shrinking and framing."""
    height, width = shape
    distortion = np.array([0.05, -0.02, 0.01, -0.01, 0.0])
    one = replace(camera("a", 0.4, width=width, height=height), distortion=distortion)
    point = np.array([[0.03, 0.06, 0.05]])
    pixel, _ = project(one, point)
    v, u = np.mgrid[:height, :width]
    spot = np.exp(-((u - pixel[0, 0]) ** 2 + (v - pixel[0, 1]) ** 2) / 8) * 255
    found = fit(np.repeat(spot[..., None], 3, 2).astype(np.uint8), one, SIZE)
    local = found.camera_from_world[:, :3] @ point[0] * 1000 + found.camera_from_world[:, 3]
    x, y = local[:2] / local[2]
    r2 = x * x + y * y
    where = found.K @ [*(np.array([x, y]) * (1 + found.distortion[0] * r2 + found.distortion[1] * r2**2)), 1]
    bright = found.picture[..., 0].astype(float)
    centre = [(bright * axis).sum() / bright.sum() for axis in np.mgrid[:50, :66][::-1]]
    np.testing.assert_allclose(where[:2], centre, atol=0.15)


def test_numbers_of_the_calibration(tmp_path: Path) -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    lens = {"f": 16, "k1": 0.0004, "k2": 0.000002, "sx": 0.0055, "sy": 0.0055}
    values = lens | {"a": 610, "b": 790, "w": 1200, "h": 1600}
    write_tka(tmp_path / "a.tka", np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.array([250, -30, -900.0]), **values)
    tka = read_tka(tmp_path / "a.tka")
    for factor, fx, cx, cy, k1, k2 in (
        (1, 2909.0909, 610, 790, -0.110846471, -0.040135415),
        (4, 727.272727, 152.5, 197.5, -0.006401891, -0.00037496),
        (8, 363.636364, 76.25, 98.75, -0.001600029, -2.410045e-05),
    ):
        K, distortion, outer, size = network_camera(tka, factor, quirks=True)
        np.testing.assert_allclose([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], [fx, fx, cx, cy], rtol=1e-7)
        np.testing.assert_allclose(distortion, [k1, k2], rtol=2e-6)
        np.testing.assert_allclose(outer[:, 3], [27.13406376, 30, 933.6828919], rtol=1e-8)
        assert size == (1200 // factor, 1600 // factor)
    np.testing.assert_allclose(
        turned(K, 150, quirks=True), [[0, 363.636364, 98.75], [-363.636364, 0, 73.75], [0, 0, 1]], rtol=1e-8
    )
    picture = np.zeros((200, 150))
    picture[10, 20] = 1
    assert np.argwhere(np.rot90(picture)).tolist() == [[129, 10]]
    _, true, _, _ = network_camera(tka, 8, quirks=False)
    np.testing.assert_allclose(true, [-0.110846471, -0.040135415], rtol=2e-6)  # whatever the size of the picture


def test_numbers_of_the_shrinking() -> None:
    picture = np.zeros((8, 8, 3), np.float32)
    picture[2, 2] = 1e6  # read as floats, then rounded: parts in a million
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(picture, [0.5, 0.5, 0], mode="mirror")
    small = cv2.resize(smooth, (4, 4), interpolation=cv2.INTER_LINEAR) / 1e6
    np.testing.assert_allclose(
        [small[1, 1, 0], small[0, 1, 0], small[1, 0, 0], small[0, 0, 0]],
        [0.19937, 0.023884, 0.023884, 0.0028611],
        rtol=1e-4,
    )
    bright = np.zeros((8, 8, 3), np.uint8)
    bright[2, 2] = 250
    np.testing.assert_array_equal(shrink(bright, (4, 4))[..., 0], np.rint(small[..., 0] * 250))


def test_the_famos_layout_is_read(tmp_path: Path) -> None:
    famos_folder(tmp_path)
    corpus = check_corpus(read_famos(tmp_path, template(), quirks=True), (200, 150))
    entry = corpus.entries[0]
    assert [view.name for view in entry.views] == ["23_A of 000032", "23_B of 000032"]  # no colour camera
    assert entry.registration is None and len(entry.scan().vertices) == 64
    assert corpus.remarks == ("1 of 1 scans have no triangles: their points are used as they are",)
    view = entry.views[0].view((200, 150))
    assert view.picture.shape == (150, 200, 3) and view.K[0, 0] == 0 and view.K[1, 2] == 150 - 590 / 8
    (tmp_path / "calibrations/subject_1/smile/23_B.tka").write_text("calibration\n1 0\n")
    with pytest.raises(CalibrationError, match=r"23_B.tka: not a readable .tka"):
        check_corpus(read_famos(tmp_path, template(), quirks=True), (208, 156))


def test_units_are_believed_only_if_they_make_sense() -> None:
    vertices, triangles = template().template, template().triangles
    metres, millimetres = SurfaceMesh(vertices, triangles), SurfaceMesh(vertices * 1000, triangles)
    np.testing.assert_array_equal(in_mm(metres, "m", "s").vertices, millimetres.vertices)
    with pytest.raises(TakeError, match=r"s: .* in metres where millimetres are expected; give --scan-unit m$"):
        in_mm(metres, "mm", "s")
    with pytest.raises(TakeError, match=r"seems to be in millimetres where metres are expected; give --scan-unit mm"):
        in_mm(millimetres, "m", "s")
    with pytest.raises(TakeError, match="no head in millimetres or in metres"):
        in_mm(SurfaceMesh(vertices * np.float32(1e-4), triangles), "mm", "s")


def test_points_are_sampled_evenly_over_the_surface() -> None:
    corners = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [10, 0, 0], [11, 0, 0], [10, 1, 0]], np.float32)
    mesh = SurfaceMesh(corners, np.array([[0, 1, 2], [3, 4, 5]], np.int32))
    points = sample_surface(mesh, 40_000, np.random.default_rng(0))
    first = points[points[:, 0] < 5]
    assert abs(len(first) / 40_000 - 0.75) < 0.01  # by area: 1.5 and 0.5
    np.testing.assert_allclose(first.mean(0), [1, 1 / 3, 0], atol=0.02)
    assert (first[:, 0] / 3 + first[:, 1] <= 1 + 1e-6).all() and first.min() >= 0
    cloud = SurfaceMesh(corners, np.zeros((0, 3), np.int32))
    found = {tuple(point) for point in sample_surface(cloud, 200, np.random.default_rng(0)).tolist()}
    assert found == {tuple(corner) for corner in corners.tolist()}


def test_blind_cameras_are_left_out_by_name(tmp_path: Path) -> None:
    plain_folder(tmp_path, cameras=4)
    text = (tmp_path / "calibration.toml").read_text()
    corpus = read_folder(tmp_path, template())
    away = r"\1[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -5], [0, 0, 0, 1]]"
    turned_away = re.sub(r"(camera_from_world = )\[.*?\]\]", away, text, count=1, flags=re.DOTALL)
    assert turned_away != text
    (tmp_path / "calibration.toml").write_text(turned_away)
    checked = check_corpus(read_folder(tmp_path, template()), SIZE)
    assert checked.remarks == ("camera cam_0 sees nothing of 3 scans: left out there",)
    assert [len(entry.views) for entry in checked.entries] == [3, 3, 3]
    moved = replace(corpus.entries[0], scan=lambda: SurfaceMesh(template().template * 1000 + 1e5, template().triangles))
    with pytest.raises(CalibrationError, match="frame_000: 0 of 4 views see its scan"):
        check_corpus(replace(corpus, entries=(moved,)), SIZE)
    single = replace(corpus.entries[0], views=corpus.entries[0].views[:1])
    with pytest.raises(CalibrationError, match="frame_000: 1 of 1 views see its scan, two are needed"):
        check_corpus(replace(corpus, entries=(single,)), SIZE)


def test_what_is_missing_or_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such file"):
        read_folder(tmp_path, template())
    plain_folder(tmp_path)
    write_mesh(tmp_path / "registrations/frame_001.obj", template().template[:60], template().triangles[:10])
    with pytest.raises(TakeError, match="frame_001: its registration has 60 vertices, the template 64"):
        check_corpus(read_folder(tmp_path, template()), SIZE)
    (tmp_path / "scans/frame_000.obj").write_text("v 0 0\n")
    with pytest.raises(MeshError, match="line 1"):
        check_corpus(read_folder(tmp_path, template()), SIZE)
    np.save(tmp_path / "p.npy", np.zeros((4, 2)))
    with pytest.raises(TakeError, match=r"is \(4, 2\) float64; points \(N, 3\)"):
        read_scan(tmp_path / "p.npy", "mm")
    for file in (tmp_path / "scans").iterdir():
        file.unlink()
    with pytest.raises(TakeError, match="no scans/<frame>"):
        read_folder(tmp_path, template())
    with pytest.raises(TakeError, match="no take under"):
        read_takes([tmp_path], None)
    with pytest.raises(TakeError, match="expected a list of"):
        read_famos(tmp_path, template(), quirks=True)
    assert SMALL.vertices == 64


def test_scans_beside_takes_go_by_frame_id(tmp_path: Path) -> None:
    for name in ("7.obj", "0017.ply", "17.txt", "x7.obj"):
        (tmp_path / name).touch()
    assert scan_of(tmp_path, 7) == tmp_path / "7.obj"
    assert scan_of(tmp_path, 17) == tmp_path / "0017.ply"
    assert scan_of(tmp_path, 1) is None
