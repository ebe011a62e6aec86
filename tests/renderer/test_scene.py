from dataclasses import replace

import moderngl
import numpy as np
import pytest

from renderer.config import ViewConfig
from renderer.viewer import context as context_module
from renderer.viewer.context import PACKAGES, headless_context
from renderer.viewer.controls import Look
from renderer.viewer.layout import arrange
from renderer.viewer.marks import neck_fade
from renderer.viewer.occlusion import look_around
from renderer.viewer.orbit import OrbitCamera
from renderer.viewer.pictures import reduction
from renderer.viewer.presenter import Presenter
from renderer.viewer.rim import boundary_loops
from renderer.viewer.scene import Scene
from renderer.viewer.state import ViewState
from renderer.viewer.studio import LAMPS, reached
from renderer.viewer.tile_view import Tile
from streamer.errors import GraphicsError
from streamer.geometry import look_at, project, scaled
from streamer.types import U8, Calibration, Topology
from tests.renderer.makers import HEIGHT, WIDTH, camera, frame, head_topology, head_vertices, mesh, on_gl, picture, rig

SIZE = (640, 360)
TURNED = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
FRONT = OrbitCamera(yaw_rad=0.0, pitch_rad=0.0, distance_m=0.7)


def head_scene(context: moderngl.Context, turn: float = 0.0, cameras: tuple[float, ...] = ()) -> Scene:
    scene = Scene(context, arrange(*SIZE, [WIDTH / HEIGHT for _ in cameras], figures=False))
    scene.set_topology(head_topology())
    scene.set_mesh(head_vertices(turn))
    return scene


def shot(context: moderngl.Context, look: Look, turn: float = 0.0) -> U8:
    scene = head_scene(context, turn)
    scene.draw(look)
    return scene.read()


def test_the_head_stands_where_the_orbit_camera_sees_it() -> None:
    with_head = on_gl(lambda context: shot(context, Look(FRONT)))
    bare = on_gl(lambda context: shot(context, Look(replace(FRONT, target=(9.0, 0.0, 0.0)))))
    changed = (np.abs(with_head.astype(int) - bare).max(-1) > 24)[: SIZE[1] * 2 // 3]
    ys, xs = np.nonzero(changed)
    clip = FRONT.clip_from_world(SIZE[0] / SIZE[1])
    homogeneous = np.c_[head_vertices(), np.ones(len(head_vertices()))] @ clip.T
    spots = homogeneous[:, :2] / homogeneous[:, 3:] * [SIZE[0] / 2, -SIZE[1] / 2] + [SIZE[0] / 2, SIZE[1] / 2]
    assert xs.min() == pytest.approx(spots[:, 0].min(), abs=2) and xs.max() == pytest.approx(spots[:, 0].max(), abs=2)
    assert ys.min() == pytest.approx(spots[:, 1].min(), abs=2)
    middle = SIZE[0] / 2
    assert xs.max() - middle > middle - xs.min() + 5, "the left ear is on the right of a face seen from the front"


def test_the_key_light_comes_from_the_upper_left_whatever_the_angle() -> None:
    for yaw in (0.0, 2.0):
        rgb = on_gl(lambda context, yaw=yaw: shot(context, Look(replace(FRONT, yaw_rad=yaw)))).astype(int)
        left, right = rgb[120:160, 290:300].mean(), rgb[120:160, 340:350].mean()
        assert left > right + 8


def test_materials_differ_and_nothing_burns_out() -> None:
    skin, clay = (on_gl(lambda c, m=m: shot(c, Look(FRONT, material=m)))[130:200, 290:350] for m in ("skin", "clay"))
    assert (skin[..., 0].astype(int) - skin[..., 2]).mean() > 25 > abs((clay[..., 0].astype(int) - clay[..., 2]).mean())
    for part in (skin, clay):
        assert (part.max(-1) > 252).mean() < 0.01 and 70 < part.mean() < 215


def test_the_neck_fades_out_and_the_inside_is_dark() -> None:
    rgb = on_gl(lambda context: shot(context, Look(replace(FRONT, pitch_rad=-1.2))))
    centre = rgb[SIZE[1] // 2 + 10, SIZE[0] // 2].astype(int)
    assert centre.max() < 90, "one looks into a dark head, not through it"
    topology = head_topology()
    fade, height = neck_fade(topology), topology.template[:, 1]
    assert [len(loop) for loop in boundary_loops(topology.triangles)] == [32, 32]
    assert fade[height == height.min()].max() == 0.0 and fade[height > 0].min() == 1.0
    ball = Topology("ball", np.array([[0, 1, 2], [0, 2, 1]]), np.zeros((1, 2)), np.zeros((2, 3), int), np.eye(3))
    assert (neck_fade(ball) == 1.0).all(), "what has no open edge fades nowhere"


def test_the_sky_is_open_on_a_ball_and_closed_in_a_pit_which_lamps_reach_from_ahead_only() -> None:
    topology = head_topology()
    ball = topology.template / np.array([0.075, 0.11, 0.095], np.float32)
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    pit = np.array(ball)
    deep = ball[:, 2] > 0.93
    pit[deep] *= 0.3
    on_ball, in_pit = on_gl(lambda c: [look_around(c, shape, topology.triangles) for shape in (ball, pit)])
    inside = (ball[:, 1] > -0.5) & (ball[:, 1] < 0.9)
    assert on_ball.share[inside].min() > 0.9
    assert in_pit.share[deep].mean() < 0.5 < in_pit.share[ball[:, 2] < -0.5].mean()
    key = np.array(LAMPS[0].towards)
    facing = (ball @ key > 0.2) & inside
    assert reached(on_ball.transfer, on_ball.free, np.eye(3))[facing].min() > 0.85, "a ball keeps no light off itself"
    ahead = look_at(np.zeros(3), -key)[:3, :3].T @ np.diag([1.0, -1.0, -1.0])  # turns the pit, +Z, to the lamp
    np.testing.assert_allclose(ahead @ [0, 0, 1], key / np.linalg.norm(key), atol=1e-6)
    into, past = (reached(in_pit.transfer, in_pit.free, turn)[deep].mean() for turn in (ahead, ahead @ TURNED))
    assert into > past + 0.15, "a lamp shines into the pit from ahead, not from aside"


@pytest.mark.parametrize("overlay", ["solid", "wire"])
def test_tiles_show_picture_and_overlay_in_place(overlay: str) -> None:
    eye = camera("cam", 0.3)
    layout = arrange(1280, 720, [WIDTH / HEIGHT], figures=False)

    def work(context: moderngl.Context) -> U8:
        scene = Scene(context, layout)
        scene.set_topology(head_topology())
        scene.set_mesh(head_vertices())
        look = Look(FRONT, overlay=overlay, opacity=1.0)
        scene.draw(look, [Tile(eye, picture())])
        return scene.read()

    rgb, tile = on_gl(work), layout.tiles[0]
    part = rgb[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width].astype(int)
    corner = part[-3:, :3].mean((0, 1))
    np.testing.assert_allclose(corner, picture()[-2:, :2].mean((0, 1)), atol=4)  # not flipped, not swapped
    cyan = (part[..., 2] > 110) & (part[..., 1] > 90)
    xs = np.nonzero(cyan)[1]
    pixels, _ = project(scaled(eye, tile.width, tile.height), head_vertices())
    assert xs.max() == pytest.approx(pixels[:, 0].max(), abs=3) and xs.min() == pytest.approx(pixels[:, 0].min(), abs=3)


def test_a_presenter_decodes_only_what_it_shows_and_draws_only_changes() -> None:
    state, topology = ViewState("bus"), head_topology()
    state.apply(Calibration(tuple(camera(f"cam_{i}", 0.2 * i) for i in range(6))), 0)
    for i in range(6):
        state.apply(frame(f"cam_{i}", 7), 0)
    state.apply(topology, 0)
    state.apply(mesh(7, topology), 0)

    def work(context: moderngl.Context) -> tuple[list[bool], set[str], bool]:
        presenter = Presenter(context, ViewConfig(cameras=2), (640, 360))
        drew = [presenter.refresh(state, 0, 100.0), presenter.refresh(state, 0, 100.01)]
        state.apply(mesh(8, topology), 0)
        drew += [presenter.refresh(state, 0, 100.02), presenter.refresh(state, 0, 100.03)]
        presenter.look = presenter.look.press("m")
        drew += [presenter.refresh(state, 0, 100.04), presenter.refresh(state, 0, 100.05)]
        drew.append(presenter.refresh(state, 0, 100.9))  # figures have their own pace
        presenter.look = presenter.look.press("space")
        presenter.refresh(state, 0, 100.95)
        state.apply(mesh(9, topology), 0)
        drew.append(presenter.refresh(state, 0, 100.96))  # held
        presenter.resize((800, 500))
        presenter.refresh(state, 0, 101.0)
        shape = presenter.read().shape
        assert shape == (500, 800, 3)
        decoded = {name for name in ("cam_0", "cam_1", "cam_2", "cam_3") if presenter._pictures.get(name)}
        complete = presenter.complete
        presenter.release()
        return drew, decoded, complete

    drew, decoded, complete = on_gl(work)
    assert drew == [True, False, True, False, True, False, True, False]
    assert decoded == {"cam_0", "cam_3"} and complete, "a held screen keeps its pictures when it is resized"


def test_damaged_pictures_are_counted_once_and_the_last_good_one_stays() -> None:
    state, good = ViewState("bus"), frame("cam_0", 7)
    bad = replace(frame("cam_0", 8), data=good.data[:50])
    state.apply(rig(1), 0)
    state.apply(good, 0)

    def work(context: moderngl.Context) -> bool:
        presenter = Presenter(context, ViewConfig(cameras=1), (640, 360))
        presenter.refresh(state, 0, 1.0)
        state.apply(bad, 0)
        for step in range(3):
            presenter.refresh(state, 0, 2.0 + step)
        kept = presenter._pictures.get("cam_0")
        presenter.release()
        return kept is not None and kept.frame is good

    assert on_gl(work)
    assert state.refused == {"picture": 1}


def test_reductions_keep_enough_pixels() -> None:
    assert [reduction(640, 480, w) for w in (80, 81, 160, 240, 320, 700)] == [8, 4, 4, 2, 2, 1]
    assert reduction(641, 480, 80) == 1


def test_without_egl_the_error_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_: object) -> None:
        raise ImportError("libEGL.so not loaded")

    monkeypatch.setattr(context_module.moderngl, "create_context", missing)
    with pytest.raises(GraphicsError, match=f"libEGL.so not loaded.*apt-get install {PACKAGES}"):
        headless_context()
    assert set(PACKAGES.split()) == {"libegl1", "libgl1-mesa-dri", "libgles2"}
