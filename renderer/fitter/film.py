"""Pictures of a fitted take on disk: from the rig's own cameras, or from one that moves."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from renderer.fitter.finished import Finished
from renderer.fitter.fit import Fit
from renderer.fitter.render import render_view, render_views
from streamer.errors import FitError
from streamer.geometry import look_at, scaled
from streamer.progress import Report
from streamer.types import U8, Camera

SWING_M = 0.3
"""Radius of the circle that a camera goes round, metres (NeRSemble's films)."""
MOST_SWING = 0.7
"""Of the camera's distance, where it stands nearer than that."""
TURNS = 1.0
"""Rounds of the circle in a film."""
RATE = 24


def frames_of(fit: Fit, frames: tuple[int | None, int | None]) -> list[int]:
    """Return the time steps of a range of frames.

    Raises:
        FitError: there are none.
    """
    chosen = list(range(fit.footage.steps))[slice(*frames)]
    if not chosen:
        raise FitError(f"the fit has frames 0 to {fit.footage.steps - 1}; none of them is in {frames[0]}:{frames[1]}")
    return chosen


def write_png(path: Path, rgb: U8) -> None:
    """Write a (H, W, 3) picture as 8-bit RGB.

    Raises:
        OSError: it cannot be written.
    """
    import cv2

    ok, data = cv2.imencode(".png", rgb[..., ::-1])
    if not ok:
        raise OSError(f"cannot encode {path}")
    path.write_bytes(data.tobytes())


def render_split(
    finished: Finished,
    split: Literal["held-out", "training"],
    out: Path,
    *,
    frames: tuple[int | None, int | None] = (None, None),
    report: Report = lambda done, total: None,
) -> int:
    """Render what the rig's cameras see: `frame_<ttttt>/cam_<serial>.png`, frames of the fit from 0.

    Pictures have the size of the take's, whatever size the fit was trained at.

    Args:
        finished: the fit.
        split: cameras it was not trained on, or those it was.
        out: folder, made if needed.
        frames: first and one after the last.
        report: progress.

    Returns:
        Number of pictures.

    Raises:
        FitError: no such cameras or frames.
        OSError: a picture cannot be written.
    """
    fit = finished.fit
    trained = {camera.id for camera in fit.footage.cameras}
    cameras = [camera for camera in fit.footage.recorded if (camera.id in trained) == (split == "training")]
    if not cameras:
        raise FitError("no camera was held out; add the take again with --hold-out, or use --split training")
    return render_cameras(finished, cameras, out, frames=frames, report=report)


def render_cameras(
    finished: Finished,
    cameras: Sequence[Camera],
    out: Path,
    *,
    frames: tuple[int | None, int | None] = (None, None),
    report: Report = lambda done, total: None,
) -> int:
    """Render what cameras see, any cameras in the take's world: `frame_<ttttt>/cam_<serial>.png`.

    Args:
        finished: the fit.
        cameras: at the size of the pictures.
        out: folder, made if needed.
        frames: first and one after the last.
        report: progress.

    Returns:
        Number of pictures.

    Raises:
        FitError: no such frames.
        OSError: a picture cannot be written.
    """
    fit, done = finished.fit, 0
    steps = frames_of(fit, frames)
    for step in steps:
        folder = out / f"frame_{step:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        for camera, view in zip(cameras, render_views(fit, cameras, step), strict=True):
            write_png(folder / f"cam_{camera.serial or camera.id}.png", view.rgb)
            done += 1
            report(done, len(steps) * len(cameras))
    return done


def path_cameras(fit: Fit, kind: str, count: int, size: tuple[int, int] | None) -> Iterator[Camera]:
    """Yield the cameras of a film: like the rig's frontal one, moving, always looking at the middle of the box.

    Args:
        fit: the field.
        kind: `circle` around the frontal view, `spiral` into it, `front` stands still.
        count: pictures.
        size: width and height, px; default: the frontal camera's.
    """
    middle = np.asarray(fit.box.centre)
    cameras = fit.footage.recorded
    frontal = max(cameras, key=lambda camera: float((camera.centre_world - middle)[2]))
    base = scaled(frontal, *size) if size else frontal
    distance = float(np.linalg.norm(frontal.centre_world - middle))
    swing_m = {"circle": 1.0, "spiral": 1.0, "front": 0.0}[kind] * min(SWING_M, MOST_SWING * distance)
    for index in range(count):
        part = index / max(count, 1)
        angle = 2 * math.pi * TURNS * part
        radius = swing_m * (1 - part if kind == "spiral" else 1.0)
        centre = middle + np.array(
            [radius * math.sin(angle), radius * math.cos(angle), math.sqrt(distance**2 - radius**2)]
        )
        yield dataclasses.replace(
            base, id=f"{kind}_{index:05d}", distortion=np.zeros(5), camera_from_world=look_at(centre, middle)
        )


def render_path(
    finished: Finished,
    kind: Literal["circle", "spiral", "front"],
    out: Path,
    *,
    frames: tuple[int | None, int | None] = (None, None),
    size: tuple[int, int] | None = None,
    report: Report = lambda done, total: None,
) -> int:
    """Render a film, one picture a frame while the camera moves: `path_<ttttt>.png` and `path.mp4`.

    Args:
        finished: the fit.
        kind: see `path_cameras`.
        out: folder, made if needed.
        frames: first and one after the last.
        size: of the pictures, width and height, px.
        report: progress.

    Returns:
        Number of pictures.

    Raises:
        FitError: no such frames.
        OSError: something cannot be written.
    """
    import av

    fit = finished.fit
    steps = frames_of(fit, frames)
    out.mkdir(parents=True, exist_ok=True)
    cameras = list(path_cameras(fit, kind, len(steps), size))
    part = out / "path.part.mp4"
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height = cameras[0].width // 2 * 2, cameras[0].height // 2 * 2
        stream.pix_fmt = "yuv420p"
        for done, (step, camera) in enumerate(zip(steps, cameras, strict=True)):
            rgb = render_view(fit, camera, step).rgb
            write_png(out / f"path_{step:05d}.png", rgb)
            even = np.ascontiguousarray(rgb[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            report(done + 1, len(steps))
        container.mux(stream.encode(None))
    part.replace(out / "path.mp4")
    return len(steps)
