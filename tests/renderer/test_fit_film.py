"""A fitted take seen again: by cameras of a file, as a film, in a report, over the bus."""

import dataclasses
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch

from renderer.fitter.by_hand import moved
from renderer.fitter.film import path_cameras, render_cameras, render_path
from renderer.fitter.finished import Finished, open_finished
from renderer.fitter.fit import Fit
from renderer.fitter.play import play
from renderer.fitter.render import render_view
from renderer.fitter.report import write_report
from streamer.config import BusConfig
from streamer.errors import FitError
from streamer.geometry import look_at, transform
from streamer.live import free_ports
from streamer.transport import Subscriber, endpoint_for
from streamer.types import Calibration, Frame, MeshFrame
from tests.renderer.fit_makers import camera
from tests.renderer.test_fit_lives import add, work

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("fit")
    add(folder, steps=30, prior=False, encoder="torch")
    assert work(folder).state == "done"
    return open_finished(folder / "runs" / "job_0001", torch.device("cpu"))


def test_given_cameras_need_not_be_the_rigs(finished: Finished, tmp_path: Path) -> None:
    strange = camera(2, 7, 24)
    assert render_cameras(finished, [strange], tmp_path, frames=(1, 3)) == 2
    picture = cv2.imread(str(tmp_path / "frame_00002" / "cam_serial_2.png"))
    assert picture.shape == (24, 24, 3)
    assert np.array_equal(picture[..., ::-1], render_view(finished.fit, strange, 2).rgb)


@pytest.mark.parametrize("kind", ["circle", "spiral"])
def test_films_are_pictures_and_a_video(finished: Finished, tmp_path: Path, kind: str) -> None:
    import av

    assert render_path(finished, kind, tmp_path, size=(32, 24)) == 4  # type: ignore[arg-type]
    assert len(list(tmp_path.glob("path_*.png"))) == 4
    with av.open(str(tmp_path / "path.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4


@pytest.mark.parametrize("distance_m", [0.1, 1.0])
def test_a_camera_that_goes_round_looks_at_the_middle_from_where_the_rig_stood(
    finished: Finished, distance_m: float
) -> None:
    fit = finished.fit
    middle = np.asarray(fit.box.centre)
    near = dataclasses.replace(
        fit.footage.recorded[0], camera_from_world=look_at(middle + np.array([0.0, 0.0, distance_m]), middle)
    )
    one = cast(Fit, SimpleNamespace(box=fit.box, footage=dataclasses.replace(fit.footage, recorded=(near,))))
    for moving in path_cameras(one, "circle", 8, None):
        assert np.linalg.norm(moving.centre_world - middle) == pytest.approx(distance_m)
        assert abs(transform(moving.camera_from_world, middle[None])[0, :2]).max() < 1e-9


def test_a_report_holds_pictures_and_curves(finished: Finished, tmp_path: Path) -> None:
    page = write_report(finished, tmp_path / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") >= 6 and "<polyline" in page and "not trained on" in page


def test_a_line_says_which_frame_is_wanted() -> None:
    asked = {"": 4, "+": 4, "-": 2, "+5": 8, "-2": 1, "7": 7, "99": 9, "-99": 0, " 0 ": 0, "x": None, "--": None}
    assert {text: moved(text, 3, 10) for text in asked} == asked


def test_a_person_goes_to_and_fro_in_time(finished: Finished) -> None:
    """Frames are asked for on a pipe as on a terminal; what comes over the bus is the field at those instants."""
    bus = BusConfig(node_port=free_ports(1)[0], shared_memory=False)
    reading, writing = os.pipe()
    shown: list[Frame] = []
    sent: list[int] = []
    options: dict[str, Any] = {"stop": threading.Event(), "cameras": ("cam_4",), "by_hand": reading}
    thread = threading.Thread(target=lambda: sent.append(play(finished, bus, **options)))
    wanted = (0, 2, 3, 2)
    try:
        with Subscriber([endpoint_for(bus, "node")], ["frame"]) as listener:
            thread.start()
            end = time.monotonic() + DEADLINE_S
            for number, line in enumerate((b"", b"2\n", b"+\n", b"what?\n-\n")):
                os.write(writing, line)
                while len(shown) <= number and time.monotonic() < end:
                    received = listener.receive(0.2)
                    if received is not None and isinstance(received[1], Frame):
                        shown.append(received[1])
        os.write(writing, b"q\n")
        thread.join(DEADLINE_S)
    finally:
        options["stop"].set()
        os.close(writing)
        os.close(reading)
    assert sent == [4] and not thread.is_alive()
    for frame, step in zip(shown, wanted, strict=True):
        assert np.array_equal(frame.data, render_view(finished.fit, finished.fit.footage.recorded[4], step).rgb)


def test_a_field_is_played_on_the_bus_as_a_camera(finished: Finished) -> None:
    """What a viewer needs: calibration, pictures with rising identities, the take's mesh with the same."""
    bus = BusConfig(node_port=free_ports(1)[0], shared_memory=False)
    with pytest.raises(FitError, match="no camera 'cam_9'"):
        play(finished, bus, stop=threading.Event(), cameras=("cam_9",))
    stop, sent = threading.Event(), []
    thread = threading.Thread(target=lambda: sent.append(play(finished, bus, stop=stop, cameras=("cam_4",), lead_s=0)))
    thread.start()
    frames: list[Frame] = []
    meshes: list[MeshFrame] = []
    seen: set[str] = set()
    end = time.monotonic() + DEADLINE_S
    try:
        with Subscriber([endpoint_for(bus, "node")], ["calibration", "topology", "frame", "mesh"]) as listener:
            while time.monotonic() < end and not (len(frames) > 5 and len(meshes) > 5 and len(seen) == 2):
                received = listener.receive(0.2)
                if received is None:
                    continue
                channel, message = received
                if isinstance(message, Frame):
                    frames.append(message)
                elif isinstance(message, MeshFrame):
                    meshes.append(message)
                else:
                    seen.add(channel)
                    assert not isinstance(message, Calibration) or message.ids == ("cam_4",)
    finally:
        stop.set()
        thread.join(DEADLINE_S)
    ids = [frame.frame_id for frame in frames]
    assert len(ids) > 5 and ids == sorted(set(ids)) and sent and sent[0] >= len(ids)
    shown = render_view(finished.fit, finished.fit.footage.recorded[4], ids[0] % 4).rgb
    assert np.array_equal(frames[0].data, shown)
    assert {mesh.frame_id for mesh in meshes} & set(ids)
