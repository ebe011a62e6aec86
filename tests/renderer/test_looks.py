"""Every material, overlay and addition to the free view, measured on pixels or against its definition."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import moderngl
import numpy as np
import pytest

from renderer.viewer.company import Company
from renderer.viewer.controls import Look
from renderer.viewer.edges import Edges
from renderer.viewer.frusta import corners_of
from renderer.viewer.head_view import Through
from renderer.viewer.heat import distance_mm, speed_mm_s, uncertainty_mm, view_count
from renderer.viewer.layout import arrange
from renderer.viewer.lens_pass import FLESH
from renderer.viewer.materials import colour_table, scale_of
from renderer.viewer.overlay import draw_overlay
from renderer.viewer.scans import Scans
from renderer.viewer.scene import Scene
from renderer.viewer.state import ViewState
from renderer.viewer.surface import Shape, Surface
from renderer.viewer.tile_view import Tile
from renderer.viewer.visibility import Visibility
from streamer.errors import MeshError, TakeError
from streamer.geometry import look_at, project, scaled
from streamer.types import U8, Calibration, Camera, Topology
from tests.renderer.makers import HEIGHT, WIDTH, camera, head_topology, head_vertices, mesh, on_gl, picture, rig
from tests.renderer.shots import FRONT, LOOK, SIZE, shown, spot_of


def test_normals_are_colours_of_the_eye_axes() -> None:
    rgb = shown(replace(LOOK, material="normals")).astype(int)
    vertices = head_vertices()
    for point, towards in ((vertices[:, 1].argmax(), 1), (vertices[:, 0].argmin(), 0)):
        row, column = spot_of(0.93 * vertices[point])
        value = rgb[row, column, towards]
        assert value > 190 if towards == 1 else value < 90, "green grows upwards, red to the right"
    cheek = rgb[spot_of(np.array([0.0, 0.05, 0.08]))]
    assert cheek[2] > 225, "blue is what looks at the viewer"


def test_texture_coordinates_make_squares_and_seams_are_respected() -> None:
    """A quad whose two triangles have unrelated texture coordinates: colours follow the corners, not the vertices."""
    corners = np.array([[-0.1, -0.1, 0], [0.1, -0.1, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0]], np.float32)
    uv = np.array([[0.51, 0.01], [0.52, 0.01], [0.52, 0.02], [0.91, 0.91], [0.92, 0.92], [0.91, 0.92]], np.float32)
    quad = Topology("quad", np.array([[0, 1, 2], [0, 2, 3]]), uv, np.array([[0, 1, 2], [3, 4, 5]]), corners)

    def unfaded(scene: Scene) -> None:
        assert scene.surface is not None
        marks = np.tile(np.array([1, 0, 1, 0], np.float32), (4, 1))  # all of it is edge: it would fade away
        scene.surface.shape.marks.write(marks.tobytes())

    rgb = shown(replace(LOOK, material="uv"), unfaded, quad).astype(int)
    lower, upper = rgb[spot_of(np.array([0.05, -0.05, 0]))], rgb[spot_of(np.array([-0.05, 0.05, 0]))]
    assert lower[0] > 1.5 * lower[1] and abs(upper[0] - upper[1]) < 25, "red is u, green is v"
    shades = {tuple(value) for value in rgb[100:260:4, 240:400:4].reshape(-1, 3) // 32}
    assert len(shades) > 1


@pytest.mark.parametrize("material", ["speed", "views", "uncertainty", "distance"])
def test_heat_maps_have_the_colours_of_their_legend(material: str) -> None:
    scale = scale_of(material, 8)
    assert scale is not None
    table = colour_table(scale).astype(float)

    def coloured(value: float) -> Callable[[Scene], None]:
        def prepare(scene: Scene) -> None:
            assert scene.surface is not None
            scene.surface.set_numbers(np.full(head_topology().vertex_count, value, np.float32))
            scene.set_company((), rig(8).cameras, {})

        return prepare

    spot = spot_of(np.array([-0.02, 0.05, 0.08]))
    for share in (0.0, 0.5, 1.0):
        value = scale.low + share * (scale.high - scale.low)
        seen = shown(replace(LOOK, material=material), coloured(value))[spot].astype(float)
        wanted = table[min(round(255 * share), 255)]
        brightness = seen.sum() / wanted.sum()
        assert 0.5 < brightness < 1.2
        np.testing.assert_allclose(seen, wanted * brightness, atol=26), "lit, but of that colour"
    unknown = shown(replace(LOOK, material=material), coloured(float("nan")))[spot].astype(int)
    assert np.ptp(unknown) < 6, "grey where nothing is known"


def test_heat_numbers() -> None:
    topology = head_topology()
    before, now = mesh(10, topology), mesh(11, topology)
    moved = replace(now, vertices=before.vertices + np.array([0.003, 0.0, 0.004], np.float32))
    np.testing.assert_allclose(speed_mm_s(moved, before), 150.0, rtol=1e-4)  # 5 mm in a thirtieth
    assert np.isnan(speed_mm_s(moved, None)).all() and np.isnan(speed_mm_s(mesh(99, topology), before)).all()
    np.testing.assert_allclose(distance_mm(moved.vertices, before.vertices), 5.0, rtol=1e-4)
    assert np.isnan(distance_mm(moved.vertices, before.vertices[:5])).all()


def test_distances_to_a_raw_scan_are_those_to_its_surface(tmp_path: Path) -> None:
    """A scan in millimetres whose vertices are elsewhere than the head's: a finer grid of the same plane, 3 mm away."""
    grid = np.stack(np.meshgrid(np.arange(-60, 61, 4.0), np.arange(-60, 61, 4.0)), -1).reshape(-1, 2)
    corners = np.c_[grid, np.full(len(grid), 3.0)]
    index = np.arange(31 * 31).reshape(31, 31)
    quads = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], -1).reshape(-1, 4) + 1
    lines = [*(f"v {x} {y} {z}" for x, y, z in corners), *(f"f {a}/{a} {b} {c} {d}//{d}" for a, b, c, d in quads)]
    folder = tmp_path / "scans" / "take"
    folder.mkdir(parents=True)
    (folder / "000108.obj").write_text("# scan\n" + "\n".join(lines))
    scans = Scans(tmp_path / "scans", tmp_path / "take", "mm")
    scan = scans.of(108)
    assert scan is not None and scans.of(109) is None
    points = np.random.default_rng(1).uniform(-0.05, 0.05, (200, 3)).astype(np.float32)
    points[:, 2] = 0.001
    np.testing.assert_allclose(scan.distance_mm(points), 2.0, atol=1e-3)
    np.testing.assert_allclose(scan.distance_mm(np.array([[0.09, 0.0, 0.003]], np.float32)), 30.0, atol=1e-3)
    as_text = [f"{a} {b} {c}" for a, b, c in corners]
    header = f"ply\nformat ascii 1.0\nelement vertex {len(corners)}\n" + "".join(f"property float {k}\n" for k in "xyz")
    quads_text = [f"4 {a - 1} {b - 1} {c - 1} {d - 1}" for a, b, c, d in quads]
    faces = f"element face {len(quads)}\nproperty list uchar int vertex_indices\nend_header\n"
    (folder / "110.ply").write_text(header + faces + "\n".join([*as_text, *quads_text]) + "\n")
    (folder / "111.ply").write_text("ply\nformat ascii 1.0\nelement vertex 3\nend_header\n1 2")
    np.save(folder / "112.npy", corners)
    others = Scans(tmp_path / "scans", tmp_path / "take", "mm")
    for frame_id, apart in ((110, 2.0), (112, 2.0)):
        other = others.of(frame_id)
        assert other is not None and len(other.points) == len(corners)
        nearest = other.distance_mm((corners[:50] / 1e3 - [0, 0, 0.002]).astype(np.float32))
        np.testing.assert_allclose(nearest, apart, atol=1e-3)
    with pytest.raises(MeshError, match=r"111\.ply"):
        others.of(111)
    (folder / "000109.obj").write_text("v 1 2 x")
    with pytest.raises(MeshError, match="000109"):
        Scans(tmp_path / "scans", tmp_path / "take", "mm").of(109)
    with pytest.raises(TakeError, match=r"123\.obj"):
        Scans(tmp_path, tmp_path / "none", "m")


def test_a_raw_scan_is_drawn_beside_the_head_or_alone(tmp_path: Path) -> None:
    plate = np.array([[-0.02, 0.04, 0.13], [0.02, 0.04, 0.13], [0.02, 0.08, 0.13], [-0.02, 0.08, 0.13]])
    lines = [*(f"v {x} {y} {z}" for x, y, z in plate), "f 1 2 3 4"]
    (tmp_path / "7.obj").write_text("\n".join(lines))
    scan = Scans(tmp_path, tmp_path / "take", "m").of(7)
    assert scan is not None
    points, normals = scan.spread(500)
    assert len(points) == 500 and (abs(points[:, 0]) <= 0.0201).all() and np.ptp(points[:, 1]) > 0.035
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 500, atol=1e-6)

    def with_scan(scene: Scene) -> None:
        scene.set_company((), (), {}, scan)

    before = spot_of(np.array([0.0, 0.06, 0.13]))
    cheek = spot_of(np.array([0.02, -0.05, 0.08]))
    none, beside, alone = (
        shown(replace(LOOK, scan=kind), with_scan).astype(int) for kind in ("none", "beside", "alone")
    )
    for rgb in (beside, alone):
        around = rgb[before[0] - 3 : before[0] + 4, before[1] - 3 : before[1] + 4].reshape(-1, 3)
        assert (around[:, 1] > around[:, 0] + 10).mean() > 0.9, "green points before the head, close together"
    np.testing.assert_array_equal(beside[cheek], none[cheek])
    assert np.abs(alone[cheek] - none[cheek]).max() > 60, "no head behind it"


def test_uncertainty_is_that_of_a_simulated_triangulation() -> None:
    calibration, point = rig(4), np.array([[0.02, 0.03, 0.09]], np.float32)
    seen = np.ones((4, 1), bool)
    plain = [replace(eye, distortion=np.zeros(5)) for eye in calibration.cameras]
    told = float(uncertainty_mm(point, plain, seen)[0])
    rng, step = np.random.default_rng(3), 1e-6
    jacobian = np.concatenate(
        [
            np.stack(
                [(project(eye, point[0] + step * axis)[0] - project(eye, point[0])[0]) / step for axis in np.eye(3)], 1
            )
            for eye in plain
        ]
    )
    errors = np.linalg.lstsq(jacobian, rng.normal(size=(len(jacobian), 20000)), rcond=None)[0]
    simulated = 1e3 * np.sqrt((errors**2).sum(0).mean())
    assert told == pytest.approx(simulated, rel=0.02)
    assert np.isnan(uncertainty_mm(point, plain, np.array([[True], [False], [False], [False]]))).all()
    np.testing.assert_array_equal(view_count(np.array([[True, False], [True, True]])), [2, 1])


def test_cameras_see_their_side_of_the_head_and_not_through_it() -> None:
    cameras = [camera("front", 0.0), camera("left", np.pi / 2)]

    def work(context: moderngl.Context) -> np.ndarray:
        surface = Surface(context, Shape(context, head_topology(), bake=False))
        return Visibility(context).seen(surface, cameras)

    seen, vertices = on_gl(work), head_vertices()
    front, side = seen
    assert front[vertices[:, 2] > 0.06].mean() > 0.9 and not front[vertices[:, 2] < -0.01].any()
    assert side[vertices[:, 0] > 0.055].mean() > 0.85 and not side[vertices[:, 0] < -0.01].any()
    behind_nose = (vertices[:, 2] > 0.05) & (vertices[:, 0] < -0.012) & (np.abs(vertices[:, 1]) < 0.02)
    assert behind_nose.any() and not side[behind_nose].any()


def overlaid(mode: str, opacity: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tile with the overlay and without, and where the vertices are in it."""
    eye, layout = camera("cam", 0.3), arrange(1280, 720, [WIDTH / HEIGHT], figures=False)

    def work(context: moderngl.Context) -> list[U8]:
        scene = Scene(context, layout)
        scene.set_topology(head_topology())
        scene.set_mesh(head_vertices())
        shots = []
        for overlay in (mode, "off"):
            scene.draw(replace(LOOK, overlay=overlay, opacity=opacity), [Tile(eye, picture())])
            shots.append(scene.read())
        return shots

    tile = layout.tiles[0]
    cut = np.s_[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
    with_mesh, bare = (rgb[cut].astype(int) for rgb in on_gl(work))
    return with_mesh, bare, project(scaled(eye, tile.width, tile.height), head_vertices())[0]


def test_the_silhouette_is_a_line_around_the_head_and_nothing_inside() -> None:
    with_mesh, bare, spots = overlaid("silhouette")
    changed = np.abs(with_mesh - bare).max(-1) > 24
    xs = np.nonzero(changed)[1]
    assert xs.min() == pytest.approx(spots[:, 0].min(), abs=3) and xs.max() == pytest.approx(spots[:, 0].max(), abs=3)
    solid = (np.abs(overlaid("solid")[0] - bare).max(-1) > 12).sum()
    assert 0.005 * solid < changed.sum() < 0.12 * solid
    forehead = spots[(head_vertices()[:, 1] > 0.05) & (head_vertices()[:, 2] > 0.06)].mean(0).astype(int)
    assert not changed[forehead[1] - 4 : forehead[1] + 4, forehead[0] - 4 : forehead[0] + 4].any()


def test_the_difference_is_that_of_picture_and_head_by_opacity() -> None:
    full, bare, spots = overlaid("difference")
    half, _, _ = overlaid("difference", 0.5)
    forehead = spots[(head_vertices()[:, 1] > 0.05) & (head_vertices()[:, 2] > 0.06)].mean(0).astype(int)
    spot = forehead[1], forehead[0]
    np.testing.assert_allclose(half[spot], (full[spot] + bare[spot]) / 2, atol=2)
    flesh = draw_overlay(picture(), camera("cam", 0.3), head_vertices(), head_topology(), opacity=1.0, tint=FLESH)
    small = spot[0] * HEIGHT // len(full), spot[1] * WIDTH // full.shape[1]
    np.testing.assert_allclose(full[spot], np.abs(flesh[small].astype(int) - bare[spot]), atol=6)


def test_silhouettes_are_the_edges_between_seen_and_unseen_faces() -> None:
    cube = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))], np.int32)
    edges = Edges(faces)
    assert len(edges.pairs) == 18 and (edges.faces >= 0).all()
    planes = edges.planes(cube)
    from_corner = edges.silhouettes(planes, np.array([9.0, 9.0, 9.0, 1.0]))
    assert len(from_corner) == 6 and not {0, 7} & set(from_corner.ravel().tolist()), "a cube on its corner: a hexagon"
    along = edges.silhouettes(planes, np.array([0.0, 0.0, 1.0, 0.0]))
    assert {tuple(pair) for pair in along.tolist()} == {(1, 3), (1, 5), (3, 7), (5, 7)}
    opened = Edges(faces[:-2])
    assert len(opened.silhouettes(opened.planes(cube), np.array([0.0, 0.0, -1.0, 0.0]))) >= 4


def test_ribbons_soften_the_outline_and_leave_the_rest() -> None:
    """Along the outline there are colours between head and paper; without ribbons there would be none."""
    rgb = shown(LOOK).astype(float)
    bare = shown(replace(LOOK, camera=replace(FRONT, target=(9.0, 0.0, 0.0)))).astype(float)
    row = rgb[spot_of(np.array([0.0, 0.03, 0.0]))[0]]
    head = np.abs(row - bare[150]).max(-1) > 40
    left = int(np.nonzero(head)[0].min())
    inside, outside = row[left + 3].sum(), row[left - 5].sum()
    steps = np.diff(row[left - 5 : left + 4].sum(-1))
    assert abs(steps).max() < 0.93 * abs(inside - outside), "no single step from paper to head"


def test_a_ball_of_few_triangles_has_a_round_outline() -> None:
    down, round_ = np.linspace(0.02, np.pi - 0.02, 7), np.linspace(-np.pi, np.pi, 12, endpoint=False)
    u, v = np.meshgrid(down, round_, indexing="ij")
    ball = 0.1 * np.stack([np.sin(u) * np.sin(v), np.cos(u), np.sin(u) * np.cos(v)], -1).reshape(-1, 3)
    index = np.arange(84).reshape(7, 12)
    a, b, c, d = index[:-1], np.roll(index[:-1], -1, 1), index[1:], np.roll(index[1:], -1, 1)
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    topology = Topology("coarse", faces, np.zeros((1, 2)), np.zeros_like(faces), ball)

    def unfaded(scene: Scene) -> None:
        assert scene.surface is not None
        scene.surface.shape.marks.write(np.tile(np.array([1, 0, 1, 0], np.float32), (84, 1)).tobytes())

    look = Look(replace(FRONT, orthographic=True), material="normals")
    with_ball = shown(look, unfaded, topology).astype(int)
    paper = shown(replace(look, camera=replace(look.camera, target=(9.0, 0, 0))), unfaded, topology).astype(int)
    covered = (np.abs(with_ball - paper).max(-1) > 60)[: SIZE[1] // 2].sum() * 2  # the floor's shadow is below
    per_metre = SIZE[1] / (2 * 0.7 * np.tan(FRONT.fov_y_rad / 2))
    circle = np.pi * (0.1 * per_metre) ** 2
    hull = cv2.contourArea(cv2.convexHull((ball[:, :2] * per_metre).astype(np.float32)))
    assert hull < 0.965 * circle, "the polygon itself misses a good part of the circle"
    assert abs(covered - circle) < 0.45 * abs(hull - circle), (covered, circle, hull)


def test_edges_of_the_mesh_are_drawn_over_the_surface() -> None:
    plain, lined = shown(replace(LOOK, material="clay")), shown(replace(LOOK, material="clay", edges=True))
    region = np.s_[130:220, 290:350]
    darker = plain[region].astype(int).mean(-1) - lined[region].astype(int).mean(-1)
    assert 0.08 < (darker > 12).mean() < 0.8 and darker.min() > -4


def test_wire_shows_lines_on_a_dark_head() -> None:
    rgb, clay = (shown(replace(LOOK, material=kind)).astype(int) for kind in ("wire", "clay"))
    region = np.s_[130:220, 290:350]
    bright = (rgb[region][..., 2] > 120) & (rgb[region][..., 2] > rgb[region][..., 0] + 20)
    assert 0.05 < bright.mean() < 0.7, "cyan lines"
    assert np.median(rgb[region]) < 0.6 * np.median(clay[region])


def test_frusta_stand_where_the_cameras_are_and_carry_their_pictures() -> None:
    K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    eye = Camera(
        "cam", "S", 320, 240, K, np.zeros(5), look_at(np.array([0.25, 0.05, 0.3]), np.array([0.25, 0.05, 0.0]))
    )
    look = Look(replace(FRONT, distance_m=1.2), frusta="pictures")
    red = np.zeros((24, 32, 3), np.uint8)
    red[..., 0] = 250

    def with_pictures(scene: Scene) -> None:
        scene.set_company((), (eye,), {"cam": red})

    rgb = shown(look, with_pictures).astype(int)
    outlines = shown(replace(look, frusta="outlines"), with_pictures).astype(int)
    none = shown(replace(look, frusta="none"), with_pictures).astype(int)
    corners = corners_of(eye, 0.05)
    np.testing.assert_allclose(corners[0], eye.centre_world, atol=1e-12)
    # The length is a share of the distance, so the middle of the picture lies on the optical axis somewhere before it.
    middle = [spot_of(eye.centre_world + np.array([0, 0, -depth]), look) for depth in (0.04, 0.06, 0.08)]
    assert any(rgb[spot][0] > 200 and rgb[spot][1] < 60 for spot in middle)
    assert not any(outlines[spot][0] > 200 for spot in middle)
    lines = np.abs(outlines - none).max(-1) > 30
    assert lines.any() and (outlines - none)[lines][:, 2].mean() > 20, "cyan lines"


def test_heads_seen_through_show_beside_the_head_and_not_through_it() -> None:
    def ghost(scene: Scene) -> None:
        assert scene.surface is not None
        other = Surface(scene.context, scene.surface.shape)
        other.load(head_vertices() + np.array([0.06, 0, 0], np.float32))
        scene.set_company([Through(other, (1.0, 0.5, 0.2), 0.9)], (), {})

    plain, with_ghost = shown(LOOK).astype(int), shown(LOOK, ghost).astype(int)
    beside = spot_of(np.array([0.105, 0.05, 0.0]))
    assert (with_ghost - plain)[beside][0] > 25, "orange light beside the head"
    hidden = spot_of(np.array([-0.03, 0.04, 0.07]))
    assert np.abs(with_ghost - plain)[hidden].max() < 8


def test_onion_skins_are_earlier_meshes_and_layers_can_be_swapped() -> None:
    topology, state = head_topology(), ViewState("bus")
    state.apply(Calibration(rig().cameras), 0)
    state.apply(topology, 0)
    for k in range(9):
        state.apply(replace(mesh(100 + k, topology), vertices=head_vertices() + np.float32(0.001 * k)), 0)

    class Other:
        name = "other"

        def beside(self, shown: object) -> object:
            return replace(mesh(108, topology), vertices=head_vertices() + np.float32(0.5)), topology

        def close(self) -> None: ...

    def work(context: moderngl.Context) -> tuple[list[float], float, float, np.ndarray | None]:
        scene = Scene(context, arrange(*SIZE, (), figures=False))
        company = Company(scene, Other())  # type: ignore[arg-type]
        scene.set_topology(topology)
        offset = head_vertices()[0, 0]
        look = replace(LOOK, onion=True)
        head, _ = company.head(state, look)
        assert head is state.mesh
        scene.set_mesh(head.vertices)
        company.update(state, head, look, ())
        skins = [float(through.surface.vertices[0, 0] - offset) for through in company.through]
        swapped, _ = company.head(state, replace(look, swapped=True))
        company.update(state, swapped, replace(look, swapped=True, onion=False), ())
        ghost = float(company.through[-1].surface.vertices[0, 0] - offset)
        point = company.point_at(0.5, 0.5, replace(FRONT, target=(0.008, 0.008, 0.008)), SIZE[0] / SIZE[1])
        return skins, float(swapped.vertices[0, 0] - offset), ghost, point

    skins, swapped, ghost, point = on_gl(work)
    np.testing.assert_allclose(skins, [0.006, 0.004, 0.001, 0.5], atol=1e-5)  # and the ghost
    assert swapped == pytest.approx(0.5) and ghost == pytest.approx(0.008, abs=1e-6)
    assert point is not None and point[2] > 0.1, "the middle of the view is the nose, not the back of the head"
