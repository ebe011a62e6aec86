from pathlib import Path

import av
import numpy as np
import pytest

from renderer.viewer.overlay import OverlayRenderer, draw_overlay, overlay_take
from streamer.errors import ModelError, TakeError
from streamer.geometry import project
from streamer.takes import TakeWriter, open_take
from streamer.types import Topology
from tests.renderer.makers import (
    HEIGHT,
    PERIOD_NS,
    WIDTH,
    camera,
    frame,
    head_topology,
    head_vertices,
    in_thread,
    mesh,
    picture,
    rig,
)

FRONT = camera("front", 0.0)


def squares(*specs: tuple[float, float, bool]) -> Topology:
    """Squares before the front camera: (depth along +Z, half size, whether they face it), in drawing order.

    Those behind lean away, so that they are lit differently.
    """
    points, faces = [], []
    for z, half, facing in specs:
        start = len(points)
        lean = 2.0 * half if z < 0 else 0.0
        points += [[-half, -half, z], [half, -half, z - lean], [half, half, z - lean], [-half, half, z]]
        quad = [[0, 1, 2], [0, 2, 3]] if facing else [[0, 2, 1], [0, 3, 2]]
        faces += [[start + i for i in face] for face in quad]
    return Topology("squares", np.array(faces), np.zeros((1, 2)), np.zeros((len(faces), 3)), np.array(points))


def draw(topology: Topology, **options: object) -> np.ndarray:
    return in_thread(lambda: draw_overlay(picture(), FRONT, topology.template, topology, **options))


def test_what_lies_behind_is_hidden_whatever_is_drawn_first() -> None:
    near, far = (0.10, 0.02, True), (-0.10, 0.06, True)
    alone, front_first, back_first = draw(squares(near)), draw(squares(near, far)), draw(squares(far, near))
    off = np.abs(front_first.astype(int) - back_first).max(-1)
    assert (off > 0).mean() < 1e-4 and off.max() < 24, "only where smoothed edges cross"
    far_alone = draw(squares(far))
    row, column = np.round(project(FRONT, np.array([0.0, 0.0, 0.10]))[0]).astype(int)[::-1]
    inside = np.s_[row - 3 : row + 4, column - 3 : column + 4]
    # One layer of colour, not two: as if the far square were not there, but for the shade that it casts on the sky.
    assert np.abs(front_first[inside].astype(int) - alone[inside]).max() <= 12
    assert np.abs(far_alone[inside].astype(int) - alone[inside]).max(-1).min() > 24, "the two are lit differently"


def test_the_side_that_faces_away_is_not_drawn() -> None:
    np.testing.assert_array_equal(draw(squares((0.0, 0.05, False))), picture())
    assert (draw(squares((0.0, 0.05, True))) != picture()).any()


def test_the_picture_outside_the_mesh_stays_bit_for_bit() -> None:
    drawn = in_thread(lambda: draw_overlay(picture(), FRONT, head_vertices(), head_topology(), opacity=1.0))
    changed = (drawn != picture()).any(-1)
    pixels, _ = project(FRONT, head_vertices())
    low, high = np.floor(pixels.min(0)).astype(int) - 1, np.ceil(pixels.max(0)).astype(int) + 1
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[low[1] : high[1] + 1, low[0] : high[0] + 1] = False
    assert not changed[outside].any() and changed.sum() > 5000


def test_opacity_mixes_with_the_picture() -> None:
    faint, strong = (
        in_thread(lambda o=o: draw_overlay(picture(), FRONT, head_vertices(), head_topology(), opacity=o))
        for o in (0.25, 1.0)
    )
    inside = np.s_[100:140, 130:170]
    expected = 0.75 * picture()[inside] + 0.25 * strong[inside].astype(float)
    assert np.abs(faint[inside] - expected).max() <= 1.5, "rounding to 8 bits, twice"
    np.testing.assert_array_equal(draw(head_topology(), mode="off"), picture())
    np.testing.assert_array_equal(draw(head_topology(), opacity=0.0), picture())


def test_edges_are_smooth() -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    white = in_thread(lambda: draw_overlay(black, FRONT, head_vertices(), head_topology(), opacity=1.0, tint=(9, 9, 9)))
    levels = set(np.unique(white[..., 0]).tolist())
    assert levels - {0, 255}, "partly covered pixels have values between"


def test_wire_shows_the_picture_between_its_lines() -> None:
    solid, wire = draw(head_topology(), opacity=1.0), draw(head_topology(), opacity=1.0, mode="wire")
    base = picture()
    touched_solid, touched_wire = ((drawn != base).any(-1) for drawn in (solid, wire))
    assert 0.2 < touched_wire.sum() / touched_solid.sum() < 0.95


def test_a_mesh_of_another_topology_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\(703, 3\).*704"):
        in_thread(lambda: draw_overlay(picture(), FRONT, head_vertices()[:-1], head_topology()))


def test_a_renderer_serves_many_sizes_and_meshes_and_closes() -> None:
    def run() -> None:
        renderer = OverlayRenderer()
        for size in (1, 2):
            rgb = np.ascontiguousarray(np.repeat(np.repeat(picture(), size, 0), size, 1))
            for turn in (0.0, 0.4):
                drawn = renderer.draw(rgb, FRONT, head_vertices(turn), head_topology())
                assert drawn.shape == rgb.shape and (drawn != rgb).any()
        renderer.close()

    in_thread(run)


def make_take(path: Path, *, meshes: bool) -> None:
    topology = head_topology()
    with TakeWriter(path, calibration=rig(), config_text="", show="show", slate="slate", take=1) as writer:
        writer.write("topology", topology, 0)
        for k in range(5):
            for seed, name in enumerate(rig().ids):
                if (k, name) != (3, "cam_1"):
                    writer.write("frame", frame(name, 100 + k, seed=seed), (100 + k) * PERIOD_NS)
            if meshes and k != 4:
                writer.write("mesh", mesh(100 + k, topology, turn=0.1 * k), (100 + k) * PERIOD_NS + 1)


def test_a_take_becomes_a_mosaic_video_with_the_times_of_the_take(tmp_path: Path) -> None:
    make_take(tmp_path / "take", meshes=True)
    out = tmp_path / "out" / "overlay.mp4"
    with open_take(tmp_path / "take") as take:
        assert in_thread(lambda: overlay_take(take, out, width=640)) == 4
    with av.open(str(out)) as video:
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in video.decode(video=0)]
    assert [time for time, _ in frames] == pytest.approx([k / 30 for k in range(5)], abs=1e-4)
    assert frames[0][1].shape == (480, 640, 3)
    first, last = frames[0][1].astype(int), frames[4][1].astype(int)
    face = np.s_[110:130, 150:170]
    assert first[face][..., 2].mean() > last[face][..., 2].mean() + 40, "the set without a mesh shows the bare picture"
    absent = frames[3][1][60:200, 340:620].astype(int)
    assert absent.mean() < 40, "the field of the absent camera is dark"
    assert [p.name for p in out.parent.iterdir()] == ["overlay.mp4"]


def test_a_take_without_meshes_leaves_no_video(tmp_path: Path) -> None:
    make_take(tmp_path / "take", meshes=False)
    with open_take(tmp_path / "take") as take, pytest.raises(TakeError, match="no mesh on channel 'mesh'"):
        overlay_take(take, tmp_path / "overlay.mp4")
    assert not (tmp_path / "overlay.mp4").exists()
