"""What a fit reads from takes, and takes that cannot be fitted: one line each that a person can act on."""

import dataclasses
import errno
import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from renderer.fitter import footage as reader
from renderer.fitter.enqueue import job_for
from renderer.fitter.finished import open_finished
from renderer.fitter.fit import Fit
from renderer.fitter.footage import read_footage
from renderer.fitter.jobs import Job
from renderer.fitter.layers import slant_of
from renderer.fitter.presets import preset_of
from renderer.fitter.store import Store
from renderer.fitter.worker import Worker, cause_of
from streamer.errors import FitError, MienError
from streamer.pixels import encode_plane
from streamer.takes.layout import CALIBRATION
from streamer.takes.reader import open_take
from tests.renderer.fit_makers import SIDE_PX, centre_at
from tests.renderer.fit_takes import matte_of, write_planes, write_take

TINY = {
    "steps": 3, "samples": 512, "rays": 128, "step_mm": 20.0, "occupancy": 8, "prior": False,
    "shape.grid.levels": 2, "shape.grid.log2_rows": 8, "shape.tables": 1, "shape.deform_layers": 0,
}  # fmt: skip
GREY = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)
ALL = [(step, camera) for step in range(4) for camera in range(5)]


def read(take: Path, **options: Any) -> Any:
    with open_take(take) as opened:
        return read_footage(opened, hold_out=("cam_4",), mesh_channel="truth", **options)


def test_mattes_and_depth_of_a_take_are_read(tmp_path: Path) -> None:
    footage = read(write_take(tmp_path / "take", mattes=(SIDE_PX, SIDE_PX), depth=True))
    view, matte = footage.cameras[2], matte_of(footage.cameras[2], centre_at(1, 4))
    begin = int(footage.begins[1, 2]) // 3
    own = slice(begin, begin + SIDE_PX**2)
    assert footage.white and (footage.mattes[own].reshape(SIDE_PX, SIDE_PX) == matte).all()
    picture = footage.picture(1, 2)
    assert (picture[matte == 0] == 255).all(), "pictures with mattes stand on white"
    assert (picture[matte > 0] < 250).any(-1).mean() > 0.2
    assert (footage.held_out_pictures[1, "cam_4"][footage.held_out_mattes[1, "cam_4"] == 0] == 255).all()
    distance = footage.depths[own].reshape(SIDE_PX, SIDE_PX) / 10_000
    assert np.abs(distance[matte > 0] - 0.9 * slant_of(view)[matte > 0]).max() < 1e-4 and not distance[matte == 0].any()
    batch = Fit(footage, preset_of("ci", TINY), torch.device("cpu"))._sampler.draw(64, 2, np.random.default_rng(0))
    assert set(batch.alpha.tolist()) == {0.0, 1.0} and ((batch.distance > 0) == (batch.alpha > 0)).all()


def test_half_sized_mattes_are_scaled_and_those_of_some_cameras_only_judge(tmp_path: Path) -> None:
    half = read(write_take(tmp_path / "half", mattes=(SIDE_PX // 2, SIDE_PX // 2)))
    assert half.white and half.mattes.size * 3 == half.bytes.size
    narrow = read(write_take(tmp_path / "whole", mattes=(SIDE_PX, SIDE_PX)))
    some = dataclasses.replace(narrow, matted=narrow.matted & (np.arange(4) != 1))
    assert not some.white


def colourless(path: Path) -> Path:
    write_take(path)
    (path / CALIBRATION).unlink()
    return path


def odd_sizes(path: Path) -> Path:
    return write_take(path, pictures={(step, 1): GREY[:, : SIDE_PX // 2] for step in range(4)})


BAD: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "no calibration": (colourless, {}, r"calibration\.toml"),
    "no pictures": (lambda p: write_take(p, pictures=dict.fromkeys(ALL)), {}, "holds no pictures to fit"),
    "one camera": (
        lambda p: write_take(p, pictures={(s, c): None for s, c in ALL if c}), {}, "pictures of 1 cameras to train on",
    ),
    "another shape": (odd_sizes, {}, "not the shape of its calibration"),
    "mattes": (lambda p: write_take(p, mattes=(SIDE_PX, SIDE_PX // 2)), {}, "has maps of 32x16"),
    "black": (lambda p: write_take(p, pictures=dict.fromkeys(ALL, GREY * 0)), {}, "are black or missing"),
    "a mesh that is not finite": (
        lambda p: write_take(p, broken_mesh=True), {"prior": True}, "frame 1 is not finite",
    ),
    "no meshes": (lambda p: write_take(p, meshes=False), {"prior": True}, "has no meshes"),
    "gone": (lambda p: p, {}, "no such take|not a take|no take|is no take"),
}  # fmt: skip


REFUSED = {"no calibration", "no pictures", "one camera", "no meshes", "gone"}
"""What is seen without reading pictures, when the job is added."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_take_fails_with_one_line_and_the_next_is_done(tmp_path: Path, name: str) -> None:
    make, values, text = BAD[name]
    bad, good = make(tmp_path / "bad"), write_take(tmp_path / "good")
    with Store(tmp_path / "q") as store:
        first = store.add(Job(0, str(bad), "ci", {**TINY, **values}, mesh_channel="truth"), 0.0)
        second = store.add(Job(0, str(good), "ci", TINY, mesh_channel="truth"), 1.0)
        torch.set_num_threads(1)
        Worker(tmp_path / "q", tmp_path / "runs", threading.Event()).work(once=True)
        failed, done = store.get(first), store.get(second)
    assert failed.state == "failed" and "\n" not in failed.message
    assert re.search(text, failed.message), failed.message
    assert done.state == "done", done.message
    if name in REFUSED:
        with pytest.raises(MienError):
            job_for(bad, preset="ci", overrides={**TINY, **values}, mesh_channel="truth")


def test_depth_of_eight_bits_and_torn_maps_are_told(tmp_path: Path) -> None:
    """Depth maps are whole numbers of 16 bit, so that no NaN can be in one; what else is wrong fails the job."""
    for name, plane, text in (
        ("eight", encode_plane(np.full((SIDE_PX, SIDE_PX), 7, np.uint8)), "have 8 bit|has 8 bit, expected 16"),
        ("torn", encode_plane(np.full((SIDE_PX, SIDE_PX), 7, np.uint16))[:-9], "is cut"),
    ):
        take = write_take(tmp_path / name)
        write_planes(take, "depth", plane)
        with Store(tmp_path / f"q_{name}") as store:
            number = store.add(Job(0, str(take), "ci", TINY, mesh_channel="truth"), 0.0)
            torch.set_num_threads(1)
            Worker(tmp_path / f"q_{name}", tmp_path / f"runs_{name}", threading.Event()).work(once=True)
            job = store.get(number)
        assert job.state == "failed" and re.search(text, job.message) and "\n" not in job.message, job.message


def test_artefacts_of_another_version_are_told_and_the_next_job_is_done(tmp_path: Path) -> None:
    take = write_take(tmp_path / "take")
    runs = tmp_path / "runs"
    (runs / "job_0001").mkdir(parents=True)
    header = {"format": "0", "fit": "{}", "state": "{}"}
    save_file({"x": torch.zeros(1)}, runs / "job_0001" / "checkpoint-00000002.safetensors", header)
    with Store(tmp_path / "q") as store:
        numbers = [store.add(Job(0, str(take), "ci", TINY, mesh_channel="truth"), 0.0) for _ in range(2)]
        torch.set_num_threads(1)
        Worker(tmp_path / "q", runs, threading.Event()).work(once=True)
        old, new = (store.get(number) for number in numbers)
    assert old.state == "failed" and "has format 0" in old.message and new.state == "done"
    manifest = runs / "job_0002" / "field.json"
    known = json.loads(manifest.read_text("utf-8"))
    for change, text in (
        ({"schema": 99}, "has schema 99"),
        ({"preset": {**known["preset"], "future": 1}}, "written by another version"),
        ({"steps": 99}, "lacks its last checkpoint"),
    ):
        manifest.write_text(json.dumps({**known, **change}), "utf-8")
        with pytest.raises(FitError, match=text):
            open_finished(runs / "job_0002", torch.device("cpu"))


def test_frames_that_some_cameras_lack_are_left_out(tmp_path: Path) -> None:
    """Holes in the take: a whole instant of one camera, and most of another; the fit goes on with what there is."""
    smaller = {(step, 1): GREY[::2, ::2] for step in range(4)}
    take = write_take(tmp_path / "take", pictures={(1, 0): None, (2, 0): None, (3, 2): None, **smaller})
    footage = read(take)
    assert footage.cameras[1].width == SIDE_PX // 2, "a camera may have pictures of a size of its own"
    assert (footage.begins < 0).sum() == 3 and footage.picture(1, 0) is None
    fit = Fit(footage, preset_of("ci", {**TINY, "prior": True}), torch.device("cpu"))
    for _ in range(3):
        fit.advance()
    drawn = fit._sampler.draw(200, 1, np.random.default_rng(1))
    missing = (torch.tensor(drawn.steps).repeat_interleave(torch.tensor(drawn.counts)), drawn.camera)
    assert (footage.begins[missing[0].numpy(), missing[1].numpy()] >= 0).all()


def test_more_pictures_than_memory_have_a_file_that_needs_its_room_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that a full disk has no room for would end the process; so the file is filled before it is mapped."""
    monkeypatch.setattr(reader, "IN_MEMORY_BYTES", 1000)
    room = reader._room(5000, np.uint8, tmp_path)
    room[:] = 7
    assert isinstance(room, np.memmap) and room.sum() == 35000
    assert not list(tmp_path.iterdir()), "nobody else can open it, and nothing stays"
    asked: list[int] = []

    def full(descriptor: int, offset: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space") as error:
        reader._room(5000, np.uint16, tmp_path)
    assert asked == [10000] and cause_of(error.value) == "disk"
