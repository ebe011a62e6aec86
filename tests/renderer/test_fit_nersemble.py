"""A folder in NeRSemble's layout, from import to pictures of a camera that has no video."""

import threading
from pathlib import Path

import cv2
import numpy as np
import torch

from renderer.fitter.enqueue import job_for
from renderer.fitter.film import render_split
from renderer.fitter.finished import open_finished
from renderer.fitter.store import Store
from renderer.fitter.worker import Worker
from streamer.exports.export import export_take
from streamer.exports.options import ExportOptions
from streamer.imports.footage import Storage
from streamer.imports.nersemble import import_nersemble
from streamer.takes.reader import open_take
from tests.renderer.fit_makers import SIDE_PX, camera, centre_at
from tests.renderer.fit_takes import matte_of, write_take

CAMERAS, STEPS, HIDDEN = 6, 3, 5
QUICK = {
    "steps": 60, "samples": 2048, "rays": 256, "step_mm": 12.0, "occupancy": 16, "prior": False,
    "shape.grid.levels": 4, "shape.grid.finest": 32, "shape.grid.log2_rows": 10,
}  # fmt: skip


def participant(folder: Path) -> Path:
    """Videos of all cameras but one, and mattes as the first release has them."""
    with open_take(write_take(folder / "made", steps=STEPS, cameras=CAMERAS)) as take:
        export_take(take, "nersemble", folder / "p", ExportOptions(sequence="EXP-1", keep_lenses=True))
    sequence = folder / "p" / "sequences" / "EXP-1"
    (sequence / "images" / f"cam_serial_{HIDDEN}.mp4").unlink()
    for step in range(STEPS):
        mattes = sequence / f"frame_{step:05d}" / "alpha_map-73fps"
        mattes.mkdir(parents=True)
        for index in set(range(CAMERAS)) - {HIDDEN}:
            matte = matte_of(camera(index, CAMERAS), centre_at(step, STEPS))
            assert cv2.imwrite(str(mattes / f"cam_serial_{index}.png"), matte)
    return folder / "p"


def test_a_nersemble_folder_becomes_pictures_of_a_hidden_camera(tmp_path: Path) -> None:
    result = import_nersemble(participant(tmp_path), "EXP-1", Storage(tmp_path / "take"))
    assert result["layers"] == {"alpha": CAMERAS - 1}
    with Store(tmp_path / "q") as store:
        number = store.add(job_for(tmp_path / "take", preset="ci", overrides=QUICK), 0.0)
        torch.set_num_threads(1)
        Worker(tmp_path / "q", tmp_path / "runs", threading.Event()).work(once=True)
        assert store.get(number).state == "done", store.get(number).message
    finished = open_finished(tmp_path / "runs" / f"job_{number:04d}", torch.device("cpu"))
    assert finished.fit.footage.white, "every picture has a matte"
    assert render_split(finished, "held-out", tmp_path / "out") == STEPS
    for step in range(STEPS):
        shown = cv2.imread(str(tmp_path / "out" / f"frame_{step:05d}" / f"cam_serial_{HIDDEN}.png"))
        matte = matte_of(camera(HIDDEN, CAMERAS), centre_at(step, STEPS)) > 0
        assert shown.shape == (SIDE_PX, SIDE_PX, 3)
        away = ~cv2.dilate(matte.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
        core = cv2.erode(matte.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
        assert shown[away].mean() > 235, "white beside the person"
        assert shown[core].mean() < 200, "and not where the person is"
