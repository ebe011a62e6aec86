"""Close-ups: where their patches lie, what they move and learn, and that a blink of the shipped models blinks."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.evaluation.evaluate import EvaluateOptions, evaluate
from inference.evaluation.figures import Openings, find_gaps
from inference.expressions import unpack_basis
from inference.model_store import ModelFiles, load_model
from inference.networks import live_network
from inference.reconstruct import Reconstructor
from inference.schedule import PICTURES, RESULT, Stage
from inference.tempeh import frames
from inference.tempeh.close_up_net import CloseUpNet
from inference.tempeh.close_ups import GRAPHS, MIRROR, VIEW_FIGURES, CloseUpNetwork, close_ups_of
from inference.tempeh.layout import template_mm
from inference.tempeh.live import LiveResult
from inference.training.close_up_task import CloseUpOptions, CloseUpTask, learn_close_ups
from inference.training.close_ups import Seen, joined, look_closer
from inference.training.loop import Plan, train
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.errors import DriverError, ModelError, TakeError
from streamer.geometry import look_at, rotation_matrices, transform
from streamer.takes import open_take
from streamer.types import F32, Camera


@pytest.fixture(scope="module")
def live() -> ModelFiles:
    return load_model("live")


def moved_head(seed: int = 4) -> NDArray[np.float64]:
    """(4, 4) somewhere in the world, mm."""
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrices(rng.normal(0, 0.4, 3))
    pose[:3, 3] = rng.normal(0, 200, 3)
    return pose


def cameras(pose: NDArray[np.float64], count: int = 3) -> list[Camera]:
    """Cameras before a face, a metre away, in metres."""
    found = []
    for turn in np.linspace(-0.7, 0.7, count):
        eye = transform(pose, np.array([[900 * np.sin(turn), 0, 900 * np.cos(turn)]]))[0] / 1000
        k = np.array([[500.0, 0, 160], [0, 500.0, 120], [0, 0, 1]])
        found.append(Camera(f"cam_{len(found)}", "", 320, 240, k, np.zeros(5), look_at(eye, pose[:3, 3] / 1000)))
    return found


def test_patches_lie_on_the_face_and_the_eyes_mirror_each_other(live: ModelFiles) -> None:
    template = template_mm(live.topology)
    close_ups = close_ups_of(live.topology)
    left, right = close_ups["eyes"]
    assert not left.mirrored and right.mirrored
    np.testing.assert_allclose(template[right.region], template[left.region] * MIRROR, atol=1e-3)
    for close_up in (left, right, *close_ups["mouth"]):
        gap = np.linalg.norm(close_up.grid.reshape(-1, 1, 3) - template[close_up.region], axis=2).min(1)
        assert np.median(gap) < 6 and gap.max() < 25  # a smooth sheet over the skin; it spans the nose's side and lips
        assert close_up.share.max() == 1 and close_up.share.min() >= 0
        # the seam: shares fall to nothing before the region ends
        assert (
            close_up.share[np.linalg.norm(template[close_up.region] - close_up.grid.mean((0, 1)), axis=1).argmax()]
            < 0.1
        )
    basis = unpack_basis(live.constants)
    assert basis is not None
    (mouth,) = close_ups["mouth"]
    jaw = np.linalg.norm(basis.units[live.topology.units.index("jawOpen")], axis=1)
    held = np.isin(basis.at, mouth.ring)
    assert jaw.max() > 15 and np.median(jaw[held]) < 1  # an opening mouth does not take its own patch along


def test_a_patch_rides_on_the_face_and_shows_what_lies_under_it(live: ModelFiles) -> None:
    """Pictures whose pixels tell their own place: every pixel of the patch is where its point projects."""
    pose = moved_head()
    mesh = transform(pose, template_mm(live.topology).astype(np.float64))
    views = frames.views_of(cameras(pose), np.eye(4))
    x, y = np.meshgrid(np.arange(320), np.arange(240))
    picture = np.stack([x // 2, y, np.zeros_like(x)], -1).astype(np.uint8)
    for close_up in close_ups_of(live.topology)["eyes"]:
        place = close_up.place(template_mm(live.topology), mesh)
        np.testing.assert_allclose(place, pose, atol=1e-3)
        patches, figures = close_up.draw(place, [picture] * 3, views)
        expected = frames.project_all(views, transform(pose, close_up.grid.reshape(-1, 3).astype(np.float64)))
        drawn = patches.reshape(3, -1, 3)[..., :2] * [2, 1]
        assert np.abs(drawn - expected).max() < 2.5  # halves of pixels, rounding of both
        assert (figures[1, 0] > 0.7) and np.abs(figures[1, 1:3]).max() < 0.7  # the middle camera looks at the face
    left, right = (c.draw(pose, [picture] * 3, views)[1] for c in close_ups_of(live.topology)["eyes"])
    np.testing.assert_allclose(left, right[::-1], atol=2e-3)  # a mirrored rig sees the mirrored eye alike


class Still:
    """A network that leaves the same head each time."""

    def __init__(self, vertices: F32) -> None:
        self._vertices = vertices

    def stages(self) -> tuple[Stage, ...]:
        def work(access: Any) -> None:
            access[RESULT] = LiveResult(self._vertices, np.eye(4, dtype=np.float32))

        return (Stage("still", "still", work, (PICTURES,), (RESULT,)),)


class Pusher:
    """A graph that says that every vertex is off by the same in the patch's frame, and remembers what it was shown."""

    def __init__(self, push: tuple[float, float, float]) -> None:
        self.push, self.inputs = np.array(push, np.float32), {}  # type: ignore[var-annotated]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, F32]:
        self.inputs = dict(inputs)
        return {"moved": np.broadcast_to(self.push, inputs["near"].shape).astype(np.float32)}


def test_what_a_graph_says_moves_its_region_alone_and_the_right_eye_mirrored(live: ModelFiles) -> None:
    pose = moved_head()
    mesh = transform(pose, template_mm(live.topology).astype(np.float64)).astype(np.float32) / 1000
    graphs = {"eyes": Pusher((1, 2, 3)), "mouth": Pusher((0, 0, 0))}
    network = CloseUpNetwork(Still(mesh), graphs, cameras(pose), 5, live.topology)
    pictures = np.random.default_rng(0).integers(0, 255, (5, 240, 320, 3), np.uint8)
    found = network.run(pictures, np.array([1, 0, 1, 0, 0], np.float32)).vertices
    change = ((found - mesh).astype(np.float64) * 1000) @ pose[:3, :3]
    expected = np.zeros_like(change)
    for close_up, push in zip(close_ups_of(live.topology)["eyes"], ([1, 2, 3], [-1, 2, 3]), strict=True):
        expected[close_up.region] += close_up.share[:, None] * np.array(push)  # on the nose both have a share
    assert np.abs(expected).max() == 3
    np.testing.assert_allclose(change, expected, atol=2e-3)
    shown = graphs["eyes"].inputs
    assert shown["patches"].shape == (2, 5, 3, 30, 42) and shown["seen"].shape == (2, 5, VIEW_FIGURES)
    np.testing.assert_array_equal(shown["present"], [1, 0, 1, 0, 0])
    assert not shown["patches"][:, 3:].any()


def test_a_view_that_is_missing_says_nothing() -> None:
    torch.manual_seed(0)
    net = CloseUpNet((42, 30), 10).eval()
    patches, seen, near = torch.randn(2, 4, 3, 30, 42), torch.randn(2, 4, VIEW_FIGURES), torch.randn(2, 10, 3)
    present = torch.tensor([1.0, 0.0, 1.0, 1.0])
    with torch.no_grad():
        first = net(patches, seen, present, near)
        patches[:, 1] = torch.randn(2, 3, 30, 42)
        torch.testing.assert_close(net(patches, seen, present, near), first, atol=1e-5, rtol=0)
        patches[:, 2] = torch.randn(2, 3, 30, 42)
        assert (net(patches, seen, present, near) - first).abs().max() > 1e-4


def toy(sets: int) -> Seen:
    """Lids of one dimension: the height of a dark bar in the patch tells how far the vertices are off."""
    rng = np.random.default_rng(3)
    height = rng.uniform(4, 26, sets)
    rows = np.arange(30)[None, :, None]
    bar = np.abs(rows - height[:, None, None]) < 2.5
    bright = np.where(np.broadcast_to(bar, (sets, 30, 42)), 40, 200)[:, None, :, :, None]
    patches = (bright + rng.normal(0, 8, (sets, 6, 30, 42, 3))).clip(0, 255).astype(np.uint8)
    near = rng.normal(0, 1, (sets, 16, 3)).astype(np.float32)
    true = near + (np.stack([0 * height, 15 - height, 0 * height], 1) / 3)[:, None].astype(np.float32)
    figures, present = np.zeros((sets, 6, 4), np.float32), np.ones((sets, 6), np.float32)
    return Seen(patches, figures, present, near, true.astype(np.float32), near[0], np.ones(16, np.float32))


def test_it_learns_to_see_how_far_a_lid_is(tmp_path: Path) -> None:
    """Knowing nothing the best guess is off by 1.8 mm; a bar in plain sight must tell more than two thirds of it."""
    corpus = toy(160)
    blind = np.linalg.norm(corpus.true - corpus.near - np.median(corpus.true - corpus.near, 0), axis=2).mean()
    assert 1.6 < blind < 2.1
    torch.set_num_threads(1)
    torch.manual_seed(1)
    task, errors = CloseUpTask("eyes", corpus), []
    plan = Plan(90, 24, rate=3e-3, bf16=False, every=30)
    train(task, plan, tmp_path, lambda step, figures: errors.append(figures["eyes_mm"]))
    assert errors[-1] < 0.35 * blind
    again = CloseUpTask("eyes", replace(corpus, true=corpus.true + 1))
    with pytest.raises(ModelError, match="another plan"):
        train(again, plan, tmp_path, lambda step, figures: None)


def test_a_mouth_in_the_mirror_is_a_mouth(live: ModelFiles) -> None:
    (mouth,) = close_ups_of(live.topology)["mouth"]
    points = template_mm(live.topology)[mouth.region][None].repeat(2, 0)
    points[1, :, 0] += 3.0  # the jaw to the left
    pictures, figures = np.zeros((2, 1, 4, 4, 3), np.uint8), np.ones((2, 1, 4), np.float32)
    seen = Seen(pictures, figures, np.ones((2, 1), np.float32), points, points, points[0], mouth.share)
    mirrored = seen.mirrored()
    np.testing.assert_allclose(mirrored.true[0], points[0], atol=0.01)
    np.testing.assert_allclose(mirrored.true[1], points[0] - [3.0, 0, 0], atol=0.01)
    np.testing.assert_array_equal(mirrored.figures[0, 0], [1, -1, 1, 1])


def simulated(folder: Path, frames_: int = 2) -> Path:
    rig = RigConfig(simulated=SimulatedConfig(cameras=6, width=320, height=240, seed=21))
    try:
        simulate_takes(folder, rig, takes=1, frames=frames_, world="demo")
    except DriverError as error:
        pytest.skip(str(error))
    return folder


def test_a_model_learns_close_ups_from_its_own_errors_and_is_otherwise_as_before(
    live: ModelFiles, tmp_path: Path
) -> None:
    """The whole road of `mien train --close-ups`, too short to learn anything."""
    take = simulated(tmp_path / "take")
    corpus = look_closer([take], live)
    assert corpus["eyes"].sets == 4 and corpus["mouth"].sets == 2
    assert corpus["mouth"].present.sum(1).tolist() == [6, 6]
    off = np.linalg.norm(corpus["eyes"].near - corpus["eyes"].true, axis=2)
    assert 0.3 < np.median(off) < 8  # what the model lacks, in the frame that rides on it
    options = CloseUpOptions((take,), "live", tmp_path / "run", "closer", iterations=1, rate=1e-3)
    model = learn_close_ups(options, live, {k: _doubled(v) for k, v in corpus.items()}, quiet=True)
    assert model.name == "closer" and set(GRAPHS) <= model.graphs.keys()
    assert evaluate([take], model, EvaluateOptions(threads=1))["failed"] == 0
    without = evaluate([take], model, EvaluateOptions(threads=1, ablate="close-ups"))
    if set(GRAPHS) <= live.graphs.keys():
        before = evaluate([take], live, EvaluateOptions(threads=1, ablate="close-ups"))
    else:
        before = evaluate([take], live, EvaluateOptions(threads=1))
    assert without["regions"] == before["regions"]
    with pytest.raises(TakeError, match="2 heads are too few"):
        learn_close_ups(options, live, corpus, quiet=True)


def _doubled(seen: Seen) -> Seen:
    """As many close-ups as components need."""
    return joined([seen] * 24)


def test_takes_of_another_topology_teach_nothing(live: ModelFiles, tmp_path: Path) -> None:
    from tests.inference.takes import write_take

    write_take(tmp_path / "one")
    with pytest.raises(TakeError, match="no set with a true mesh"):
        look_closer([tmp_path / "one"], live)
    regions = {name: at for name, at in live.topology.regions.items() if name != "lips"}
    with pytest.raises(ModelError, match="no region lips"):
        close_ups_of(replace(live.topology, regions=regions))
    bent = live.topology.template.copy()
    bent[:, 0] += 0.3 * np.abs(bent[:, 0])
    with pytest.raises(ModelError, match="not symmetric"):
        close_ups_of(replace(live.topology, template=bent))


def test_a_blink_of_the_shipped_model_blinks(live: ModelFiles, tmp_path: Path) -> None:
    """Three seconds of somebody whom no training saw; every 3.1 s eyes shut for a quarter of a second."""
    rig = replace(RigConfig(), simulated=SimulatedConfig(width=320, height=240, seed=1005), fps=10.0)
    try:
        simulate_takes(tmp_path / "take", rig, takes=1, frames=31, world="demo")
    except DriverError as error:
        pytest.skip(str(error))
    basis = unpack_basis(live.constants)
    assert basis is not None
    gaps = find_gaps(live.topology, basis.at, basis.units)
    found = {}
    with open_take(tmp_path / "take") as take:
        truth = {mesh.frame_id: mesh.vertices for mesh in take.meshes("truth")}
        for without in ("", "close-ups"):
            openings = Openings()
            network = partial(live_network, without=without)
            with Reconstructor(live, take.calibration, threads=1, network=network) as reconstructor:
                for frame_set in take.frame_sets():
                    openings.add(gaps, truth[frame_set.frame_id], reconstructor(frame_set).vertices)
            found[without] = openings.summary()["eye_left"]
    assert found[""]["true_range_mm"] > 6
    assert found[""]["slope"] > 0.6 and found[""]["correlation"] > 0.8
    assert found["close-ups"]["slope"] < 0.4
