"""Published networks in a rig: takes and frames from the bus become meshes, by the compiled path and by torch."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mien
from inference import published
from inference.config import InferenceConfig
from inference.manifest import Provenance
from inference.model_store import ModelFiles, save_model
from inference.networks import compile_graphs
from inference.node import run_infer
from inference.published import Straightener
from inference.published_graphs import GRAPHS, prepared
from inference.published_raw import run_compiled
from inference.reconstruct import Reconstructor
from inference.reprocess import reconstruct_all
from inference.stand_in import stand_in_rig, stand_in_sets
from inference.tempeh.gpu.bench import exported_for
from inference.tempeh.published import export
from inference.tempeh.published.inputs import read_inputs
from inference.tempeh.published.run import run_published
from inference.tempeh.published.seeded import round_head
from inference.tempeh.published.sizes import FULL, SMALL, PublishedSizes
from inference.tempeh.published.store import published_parts
from inference.tempeh.published.weights import initial_coarse, initial_refine, stir
from streamer.config import BusConfig, SyncConfig
from streamer.errors import CalibrationError, EngineError, MienError, ModelError
from streamer.geometry import project
from streamer.takes import TakeWriter, open_take
from streamer.transport import Publisher, Subscriber
from streamer.types import Calibration, FrameSet, MeshFrame, Topology
from tests.inference.fake_gpu.install import Libraries, install
from tests.inference.fake_gpu.machine import Machine
from tests.inference.published_makers import noise_pictures, rig

NARROW = replace(
    FULL, vertices=72, trunk_channels=(8, 12, 16, 24), trunk_blocks=(1, 1, 1, 1), grid=8, step_mm=100.0,
    localiser_channels=8, localiser_hidden=16, coarse_levels=(32, 64), coarse_back=(64, 48),
)  # fmt: skip
"""The release's refinement behind narrow 2D nets."""
WIDTH, HEIGHT, VIEWS = 96, 64, 4
MEDIAN_MM, LARGEST_MM, COARSE_MM = 0.02, 0.6, 0.05
"""What the compiled path promises."""


def made(folder: Path, sizes: PublishedSizes) -> ModelFiles:
    """A published model with seeded weights that move vertices by millimetres."""
    template, triangles = round_head(sizes.vertices)
    coarse, refine = (
        initial_coarse(sizes, seed=1, quirks=True),
        initial_refine(sizes, template, triangles, seed=3, quirks=True),
    )
    stir(coarse, seed=2, peak=30.0)
    stir(refine, seed=4, peak=10.0)
    topology = Topology(
        "round-head", triangles, np.zeros((1, 2), np.float32), np.zeros_like(triangles), template / np.float32(1000)
    )
    weights = {
        name: {k: v.numpy() for k, v in s.state_dict().items()} for name, s in (("coarse", coarse), ("refine", refine))
    }
    parts = published_parts("narrow", topology, sizes, weights, Provenance("test"), quirks=True)
    return save_model(folder, replace(parts, width=WIDTH, height=HEIGHT, max_views=VIEWS))


def rig_with_real_lenses() -> Calibration:
    """Cameras of which two have lenses that the network does not know."""
    cameras = list(stand_in_rig(VIEWS, WIDTH, HEIGHT).cameras)
    for k in (1, 3):
        cameras[k] = replace(cameras[k], distortion=np.array([-0.06, 0.02, 4e-3, -3e-3, 0.01]))
    return Calibration(tuple(cameras), "real lenses")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    """The model; its graphs are exported by the process that Mien starts for it, into a cache of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        found = made(tmp_path_factory.mktemp("narrow") / "model", NARROW)
        _, folder = prepared(str(found.folder))
        assert {path.stem for path in folder.glob("*.onnx")} == set(GRAPHS)
        yield found


@pytest.fixture(scope="module")
def sets(model: ModelFiles) -> list[FrameSet]:
    """Two sets; a picture of the second is missing."""
    first, second = stand_in_sets(model.topology, rig_with_real_lenses(), 2)
    return [first, replace(second, members={k: v for k, v in second.members.items() if k != "cam_2"})]


def meshes(model: ModelFiles, engine: str, sets: Sequence[FrameSet]) -> list[MeshFrame]:
    with Reconstructor(model, rig_with_real_lenses(), engine, threads=1) as reconstructor:
        return [reconstructor(one) for one in sets]


@pytest.fixture(scope="module")
def compiled(model: ModelFiles, sets: list[FrameSet]) -> list[MeshFrame]:
    """What the compiled path makes of the sets."""
    return meshes(model, "openvino", sets)


def test_the_compiled_path_gives_torchs_meshes(
    model: ModelFiles, sets: list[FrameSet], compiled: list[MeshFrame]
) -> None:
    for got, expected in zip(compiled, meshes(model, "torch", sets), strict=True):
        apart = np.linalg.norm(got.vertices - expected.vertices, axis=1) * 1000
        assert np.median(apart) < MEDIAN_MM + COARSE_MM and apart.max() < LARGEST_MM + COARSE_MM
        assert got.views == expected.views and got.weights is None
        np.testing.assert_allclose(got.world_from_head[:3, 3], got.vertices.mean(0), atol=1e-6)
    assert got.views == ("cam_0", "cam_1", "cam_3")


def test_a_network_of_any_size_runs_by_torch_and_the_compiled_path_says_what_it_cannot(
    model: ModelFiles, sets: list[FrameSet], tmp_path: Path
) -> None:
    small = made(tmp_path / "small", SMALL)
    assert meshes(small, "torch", sets[:1])[0].vertices.shape == (64, 3)
    for what, message in (
        (("tensorrt", "f32"), "tensorrt"),
        (("openvino", "bf16"), "published networks in f32"),
    ):
        with pytest.raises(MienError, match=message):
            compile_graphs(model, *what, 1)  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="1 camera: the published network needs two"):
        Reconstructor(small, Calibration(rig_with_real_lenses().cameras[:1], "one"), "torch")
    graphs = compile_graphs(model, "openvino", "f32", 1)
    with pytest.raises(EngineError, match="sizes of the release only; use the engine 'torch'"):
        Reconstructor(small, rig_with_real_lenses(), graphs=graphs)


def test_a_gpu_gives_the_compiled_paths_meshes_for_every_rig(
    model: ModelFiles,
    sets: list[FrameSet],
    compiled: list[MeshFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GPU that is not there: sets that overlap, one by one, and a new rig of fewer cameras."""
    machine = Machine()
    (tmp_path / "gpu").mkdir()
    install(machine, Libraries(tmp_path), tmp_path / "gpu", monkeypatch)
    monkeypatch.setattr(export, "LOCAL_BATCH", 40)
    monkeypatch.setattr(published, "exported", lambda *what: exported_for(*what))  # its own process knows no such batch
    fewer = Calibration(rig_with_real_lenses().cameras[:3], "fewer")
    seen = replace(sets[0], members={name: sets[0].members[name] for name in fewer.ids})
    with Reconstructor(model, rig_with_real_lenses(), "tensorrt", threads=1) as reconstructor:
        found = [outcome.result for outcome in reconstruct_all(iter([*sets, *sets]), reconstructor)]
    with Reconstructor(model, fewer, "tensorrt", threads=1) as reconstructor:
        alone = reconstructor(seen)
        with pytest.raises(CalibrationError, match="two or more"):
            reconstructor(replace(seen, members={"cam_0": seen.members["cam_0"]}))
    with Reconstructor(model, fewer, threads=1) as reconstructor:
        pairs = [*zip(found, [*compiled, *compiled], strict=True), (alone, reconstructor(seen))]
    for number, (got, wanted) in enumerate(pairs):
        assert got is not None and got.views == wanted.views
        apart, other = (
            float(np.median(np.linalg.norm(got.vertices - mesh.vertices, axis=1)) * 1000)
            for mesh in (wanted, compiled[1 - number % 2])
        )
        # the kernel halves pictures without rounding to 8 bits (docs/gpu.md): seeded weights make tenths of a mm of it
        assert apart < 0.5 and apart < 0.2 * other, (number, apart, other)
    machine.check_fences()
    assert machine.faults == []


def test_a_take_is_reprocessed_and_a_bad_set_costs_itself(
    model: ModelFiles,
    sets: list[FrameSet],
    compiled: list[MeshFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calibration = rig_with_real_lenses()
    alone = replace(sets[1], frame_id=9, members={"cam_0": replace(sets[1].members["cam_0"], frame_id=9)})
    with TakeWriter(tmp_path / "take", calibration=calibration, config_text="", show="s", slate="s", take=1) as writer:
        for one in (*sets, alone):
            for frame in one.members.values():
                writer.write("frame", frame, frame.exposure_time_ns + 1_000_000_000 * (one is alone))
    command = ["reprocess", str(tmp_path / "take"), "--model", str(model.folder), "--out", str(tmp_path / "new")]
    assert mien.main([*command, "--set", "sync.min_cameras=1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sets"], told["meshes"], told["failed"]) == (3, 2, 1) and "two or more" in told["first_error"]
    with open_take(tmp_path / "new") as take:
        for got, expected in zip(take.meshes(), compiled, strict=True):
            np.testing.assert_allclose(got.vertices, expected.vertices, atol=6e-6)  # the grid of the take
            assert take.topologies[got.topology_id].vertex_count == 72


def test_frames_from_the_bus_become_meshes(model: ModelFiles, sets: list[FrameSet], compiled: list[MeshFrame]) -> None:
    stop, bound, result = threading.Event(), threading.Event(), []
    endpoints: list[str] = []

    def tell(endpoint: str) -> None:
        endpoints.append(endpoint)
        bound.set()

    with Publisher("tcp://127.0.0.1:0") as node:
        config = InferenceConfig(model=str(model.folder), threads=1)
        bus = BusConfig(nodes=(node.endpoint,), infer_port=0)
        sync = SyncConfig(deadline_ms=20_000, stall_ms=20_000)
        thread = threading.Thread(
            target=lambda: result.append(run_infer(config, bus, sync, stop=stop, bound=tell)), daemon=True
        )
        thread.start()
        assert bound.wait(60)
        found: list[MeshFrame] = []
        with Subscriber(endpoints, ("mesh",)) as listener:
            deadline, number = time.monotonic() + 120, 0
            while not found and time.monotonic() < deadline:
                node.send("calibration", rig_with_real_lenses())
                for frame in sets[0].members.values():
                    node.send("frame", replace(frame, sequence=number, frame_id=number, counter=number))
                number += 1
                if (received := listener.receive(0.2)) is not None:
                    found.append(received[1])  # type: ignore[arg-type]
        stop.set()
        thread.join(60)
    assert not thread.is_alive() and result[0]["errors"] == 0
    np.testing.assert_array_equal(found[0].vertices, compiled[0].vertices)


def raw_inputs(folder: Path, **changes: object) -> Path:
    """What IN.npz holds, for pictures of 96x64."""
    coarse, refine = rig(VIEWS, (WIDTH // 2, HEIGHT // 2)), rig(VIEWS, (WIDTH, HEIGHT))
    arrays = {
        "images_coarse": noise_pictures(VIEWS, HEIGHT // 2, WIDTH // 2).numpy(),
        "images_refine": noise_pictures(VIEWS, HEIGHT, WIDTH, seed=8).numpy(),
        "K_coarse": coarse["K"], "K_refine": refine["K"],
        "distortion_coarse": coarse["distortion"], "distortion_refine": refine["distortion"],
        "camera_from_world": coarse["camera_from_world"],
    }  # fmt: skip
    np.savez(folder / "in.npz", **(arrays | changes))  # type: ignore[arg-type]
    return folder / "in.npz"


def test_raw_inputs_give_the_same_by_either_engine(
    model: ModelFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = raw_inputs(tmp_path)
    command = ["model", "run", str(model.folder), "--inputs", str(inputs), "--out", str(tmp_path / "out.npz")]
    assert mien.main([*command, "--engine", "openvino", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "openvino"
    with np.load(tmp_path / "out.npz") as file:
        got = dict(file)
    expected = run_published(model, read_inputs(inputs, 72), lambda *_: None)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert (got[name].shape, got[name].dtype) == (value.shape, value.dtype), name
    assert np.linalg.norm(got["coarse_vertices"] - expected["coarse_vertices"], axis=1).max() < COARSE_MM
    np.testing.assert_allclose(got["localiser_rotation"], expected["localiser_rotation"], atol=1e-5)
    np.testing.assert_allclose(got["localiser_translation_mm"], expected["localiser_translation_mm"], atol=COARSE_MM)
    # from the same points
    start = {"coarse_vertices": expected["coarse_vertices"], "visibility": expected["visibility"]}
    again = read_inputs(raw_inputs(tmp_path, **start), 72)
    both = [
        run_compiled(model, again, lambda *_: None, engine="openvino", threads=1),
        run_published(model, again, lambda *_: None),
    ]
    apart = np.linalg.norm(both[0]["vertices"] - both[1]["vertices"], axis=1)
    assert np.median(apart) < MEDIAN_MM and apart.max() < LARGEST_MM
    assert np.median(np.linalg.norm(both[1]["vertices"] - start["coarse_vertices"], axis=1)) > 0.5
    assert np.isnan(both[0]["localiser_scale"]).all()
    odd = read_inputs(raw_inputs(tmp_path, images_coarse=noise_pictures(VIEWS, 40, 40).numpy()), 72)
    with pytest.raises(ModelError, match="40x40, images_refine 96x64: the compiled path takes halves"):
        run_compiled(model, odd, lambda *_: None, engine="openvino", threads=1)


def test_straightened_pictures_are_those_of_a_lens_without_distortion(model: ModelFiles) -> None:
    bent = rig_with_real_lenses().cameras
    straighten = Straightener(bent)
    assert [camera.distortion.any() for camera in straighten.cameras] == [False] * VIEWS
    points = np.asarray(model.topology.template)
    pictures = np.zeros((VIEWS, HEIGHT, WIDTH, 3), np.uint8)
    expected = np.zeros((VIEWS, 2))
    for slot, camera in enumerate(bent):  # one soft dot per picture, where the bent lens shows a point
        pixel, _ = project(camera, points[40][None])
        expected[slot] = project(straighten.cameras[slot], points[40][None])[0][0]
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        dot = 255 * np.exp(-((x - pixel[0, 0]) ** 2 + (y - pixel[0, 1]) ** 2) / 8)
        pictures[slot] = dot[..., None].astype(np.uint8)
    out = straighten(pictures, np.ones(VIEWS, np.float32))
    for slot in range(VIEWS):
        weight = out[slot, :, :, 0].astype(float)
        centre = [(weight.sum(axis) * np.arange(weight.shape[1 - axis])).sum() / weight.sum() for axis in (0, 1)]
        assert np.abs(centre - expected[slot]).max() < 0.05
    assert straighten(pictures, np.zeros(VIEWS, np.float32))[1].tolist() == pictures[1].tolist()  # no picture, no work
