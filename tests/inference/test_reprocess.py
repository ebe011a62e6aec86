"""A take through a model: the same meshes as live, equal bytes each time, complete or not at all."""

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from inference.reconstruct import Reconstructor
from inference.reprocess import Setting, layer_path, offline_sync, reprocess_take
from streamer.errors import CalibrationError, ConfigError, TakeError
from streamer.takes import TakeWriter, open_take
from streamer.takes.recover import recover_take
from streamer.takes.verify import verify_take
from streamer.types import F32, U8
from tests.inference.fake_network import FakeNetwork, Result
from tests.inference.makers import EXPOSURE_NS, frame, grey, octahedron, ring, tiny_model
from tests.inference.takes import write_take


def test_the_new_take_is_self_contained_and_bit_identical_each_time(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny")
    sets = write_take(tmp_path / "take")
    told: list[tuple[int, int]] = []
    for name in ("a", "b"):
        done = reprocess_take(
            tmp_path / "take", tmp_path / name, model=model, threads=1, network=FakeNetwork,
            progress=lambda *n: told.append(n),
        )  # fmt: skip
        assert (done.sets, done.meshes, done.failed, done.first_error) == (6, 6, 0, "")
    assert told[:6] == [(k, 6) for k in range(1, 7)]
    files = {p.name for p in (tmp_path / "a").iterdir()}
    assert files == {p.name for p in (tmp_path / "b").iterdir()}
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    with (
        open_take(tmp_path / "take") as source,
        open_take(tmp_path / "a") as take,
        Reconstructor(model, ring(8), threads=1, network=FakeNetwork) as live,
    ):
        assert take.calibration.ids == source.calibration.ids and take.frame_count == source.frame_count == 48
        assert len(take.meshes("truth")) == 6 and octahedron().id in take.topologies
        for mesh, frame_set in zip(take.meshes(), sets, strict=True):
            expected = live(frame_set)
            np.testing.assert_allclose(mesh.vertices, expected.vertices, rtol=0, atol=5e-6)  # the grid of the take
            np.testing.assert_array_equal(mesh.world_from_head, expected.world_from_head)
            assert (mesh.frame_id, mesh.views, mesh.publish_time_ns) == (expected.frame_id, expected.views, 0)
        for one, other in zip(take.frames("cam_3"), source.frames("cam_3"), strict=True):
            np.testing.assert_array_equal(one.data, other.data)
        times = [time_ns for _, time_ns, _ in take.messages(["mesh"])]
        assert times == [s.exposure_time_ns + 7000 for s in sets]  # of the last picture of each set


def test_one_bad_set_is_told_and_the_others_are_made(tmp_path: Path) -> None:
    calibration = ring(3)
    with TakeWriter(tmp_path / "take", calibration=calibration, config_text="", show="s", slate="s", take=1) as writer:
        for k in range(3):
            for camera in calibration.ids:
                size = (60, 50) if (k, camera) == (1, "cam_2") else (64, 48)
                writer.write("frame", frame(camera, k, grey(90, *size)), EXPOSURE_NS + k)
    model = tiny_model(tmp_path / "tiny")
    done = reprocess_take(tmp_path / "take", tmp_path / "out", model=model, threads=1, network=FakeNetwork)
    assert (done.sets, done.meshes, done.failed) == (3, 2, 1) and "cam_2" in done.first_error
    with open_take(tmp_path / "out") as take:
        assert take.meshes().frame_ids.tolist() == [0, 2] and take.frame_count == 9


class BrokenNetwork(FakeNetwork):
    """Fails as told: with vertices that are not finite, or by a disk that is full."""

    def __init__(self, error: OSError | None, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self._error = error

    def run(self, pictures: U8, mask: F32) -> Result:
        return Result(np.full((6, 3), np.nan, np.float32), np.eye(4, dtype=np.float32))


def test_nothing_is_left_of_a_run_that_failed(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny")
    write_take(tmp_path / "take", sets=2)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(TakeError, match=r"none of its 2 sets gave a mesh, the first: .*not finite"):
        reprocess_take(
            tmp_path / "take", tmp_path / "out", model=model, threads=1, network=partial(BrokenNetwork, None)
        )  # fmt: skip

    def no_disk(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(TakeError, match="No space left"):
        reprocess_take(
            tmp_path / "take", tmp_path / "out", model=model, threads=1, network=FakeNetwork, progress=no_disk
        )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    with pytest.raises(TakeError, match="exists already"):
        reprocess_take(tmp_path / "take", tmp_path / "tiny", model=model, network=FakeNetwork)


def test_the_smallest_set_is_one_that_the_rig_can_reach(tmp_path: Path) -> None:
    write_take(tmp_path / "take", sets=1, calibration=ring(2))
    with open_take(tmp_path / "take") as take:
        assert [offline_sync(take, wanted).min_cameras for wanted in (1, 2, 3)] == [1, 2, 2]


def test_an_interruption_ends_the_threads_and_leaves_nothing(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny")
    write_take(tmp_path / "take")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        reprocess_take(
            tmp_path / "take", tmp_path / "out", model=model, threads=1, network=FakeNetwork, progress=interrupt
        )
    # What was raised still holds the frames, so that no garbage collection can have ended the threads.
    assert caught.tb is not None
    assert [t.name for t in threading.enumerate() if t.name.startswith(("pipeline", "decode"))] == []
    assert not [path.name for path in tmp_path.iterdir() if "out" in path.name]


def test_a_layer_holds_the_meshes_only_and_leaves_the_take_alone(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny")
    source = tmp_path / "take"
    write_take(source)
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    out = layer_path(source, "second")
    done = reprocess_take(source, out, model=model, threads=1, network=FakeNetwork)
    moved = replace(ring(8), cameras=tuple(replace(c, distortion=np.full(5, 0.01)) for c in ring(8).cameras))
    setting = Setting(calibration=moved, config_text="schema = 1\n")
    third = layer_path(source, "third")
    reprocess_take(source, third, model=model, threads=1, network=FakeNetwork, setting=setting)
    assert {p.name: p.read_bytes() for p in source.iterdir() if p.is_file()} == before
    assert verify_take(source).ok
    with open_take(source) as take:
        assert take.layers == ("second", "third")
        with take.layer("second") as layer, take.layer("third") as other:
            assert len(layer.meshes()) == done.meshes == 6
            assert layer.frame_count == 0 and set(layer.topics) == {"calibration", "topology", "mesh"}
            assert layer.meshes()[0].topology_id in layer.topologies
            assert other.config_text == "schema = 1\n"
            assert other.calibration["cam_0"].distortion[0] == 0.01 != layer.calibration["cam_0"].distortion[0]
    with pytest.raises(TakeError, match="has a layer 'second' already"):
        layer_path(source, "second")
    with pytest.raises(ConfigError, match="use 1 to 64 letters"):
        layer_path(source, "../second")
    small = replace(ring(8), cameras=tuple(replace(c, width=c.width + 1) for c in ring(8).cameras))
    with pytest.raises(CalibrationError, match="it was"):
        reprocess_take(
            source, layer_path(source, "x"), model=model, network=FakeNetwork, setting=Setting(calibration=small)
        )
    file = out / "main_0000.mcap"
    file.write_bytes(file.read_bytes()[:-50])
    assert any(line.startswith("layers/second: ") for line in verify_take(source).damaged)
    assert recover_take(source).ok
    assert verify_take(source).ok
