"""What the verbs of `mien calibrate` do: arguments to sources, results to files and to JSON."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rig.calibration.boards import load_board
from rig.calibration.extrinsics import Rig
from rig.calibration.footage import Source, cameras_of, images_of, sets_of, video_of
from rig.calibration.harvest import Harvest, Progress, clean, harvest, thin
from rig.calibration.intrinsics import Intrinsics
from rig.calibration.lens import camera_matrix
from rig.calibration.measures import distances, rms
from streamer.errors import CalibrationError
from streamer.takes import open_take
from streamer.types import Calibration, Camera


@dataclass(frozen=True, slots=True)
class Material:
    """What the user gave to look at."""

    board: Path
    """BOARD.toml."""
    images: Sequence[str] = ()
    """`NAME=GLOB`, one per camera."""
    videos: Sequence[str] = ()
    """`NAME=FILE`, one per camera."""
    times: Sequence[str] = ()
    """`NAME=CSV` per video, or one CSV of all cameras."""
    take: str = ""
    """A take, in place of images and videos."""
    max_sets: int = 400
    """Sets looked at."""
    max_used: int = 120
    """Sets used."""


def named(texts: Sequence[str], flag: str) -> dict[str, str]:
    """Read `NAME=VALUE` arguments.

    Raises:
        CalibrationError: one is not of this form, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name and value) or "/" in name:
            raise CalibrationError(f"{flag} {text}: expected NAME={'GLOB' if flag == '--images' else 'FILE'}")
        if name in found:
            raise CalibrationError(f"{flag}: camera '{name}' is given twice")
        found[name] = value
    return found


def sources_of(material: Material, stack: ExitStack) -> list[Source]:
    """Open what the user gave.

    Args:
        material: what was given.
        stack: closes the take.

    Raises:
        CalibrationError: nothing or two kinds are given, or something cannot be read.
        TakeError: a video or take cannot be read.
    """
    kinds = [bool(material.images), bool(material.videos), bool(material.take)]
    if sum(kinds) != 1:
        raise CalibrationError("give --images NAME=GLOB ..., or --videos NAME=FILE ..., or --take TAKE, one of them")
    if material.times and not material.videos:
        raise CalibrationError("--times belongs to --videos")
    if material.take:
        return list(cameras_of(stack.enter_context(open_take(material.take))))
    if material.images:
        return [images_of(name, pattern) for name, pattern in named(material.images, "--images").items()]
    videos = named(material.videos, "--videos")
    shared = [text for text in material.times if "=" not in text]
    times = named([text for text in material.times if "=" in text], "--times")
    if len(shared) > 1 or (shared and times):
        raise CalibrationError("--times: give one CSV of all cameras, or NAME=CSV for each")
    if unknown := times.keys() - videos.keys():
        raise CalibrationError(f"--times {min(unknown)}=...: no video of this camera is given")
    if times and len(times) < len(videos):
        raise CalibrationError(f"--times: none for camera {min(videos.keys() - times.keys())}; give all or none")
    given = dict.fromkeys(videos, shared[0]) if shared else times
    return [video_of(name, Path(path), Path(given[name]) if name in given else None) for name, path in videos.items()]


def gather(material: Material, progress: Progress | None = None) -> Harvest:
    """Find the board in everything that the user gave, and choose what to use.

    Args:
        material: what was given.
        progress: told pictures done and pictures in all.

    Raises:
        CalibrationError: see `harvest.harvest`.
        TakeError: a video or take cannot be read.
    """
    board = load_board(material.board)
    with ExitStack() as stack:
        sources = sources_of(material, stack)
        found = harvest(sources, board, max_sets=material.max_sets, progress=progress)
        if len(sets_of(sources)) > material.max_sets:
            found.notes.append(f"{material.max_sets} of {len(sets_of(sources))} sets were looked at (--max-sets)")
    clean(found)
    thin(found, material.max_used)
    return found


def lens_calibration(found: Harvest, lenses: dict[str, Intrinsics], source: str) -> Calibration:
    """Return cameras without places: all stand at the origin, and the source says so."""
    cameras = [
        Camera(name, name, *found.sizes[name], camera_matrix(one.values), one.values[4:], np.eye(4))
        for name, one in lenses.items()
    ]
    return Calibration(tuple(cameras), f"{source}; intrinsics only, every camera_from_world is the identity")


def lens_json(found: Harvest, lenses: dict[str, Intrinsics]) -> dict[str, Any]:
    """Return the result of `calibrate intrinsic`."""
    return {
        "cameras": {name: {"rms_px": one.rms_px, **_numbers(one), "views": one.views} for name, one in lenses.items()},
        "camera_from_world": {},
        "board_error_mm": {"rmse": None, "bias": None},
        "left_out": found.left_out,
        "notes": found.notes,
    }


def _numbers(one: Intrinsics) -> dict[str, Any]:
    evidence = {} if one.evidence is None else dict(one.evidence.held_out_px)
    wanted = "" if one.evidence is None else one.evidence.wanted
    fx, fy, cx, cy = one.values[:4].tolist()
    return {
        "fx": fx,
        "fy": fy,
        "cx": cx,
        "cy": cy,
        "distortion": one.values[4:].tolist(),
        "lens": one.lens,
        "held_out_px": evidence,
        "richer_lens_wanted": wanted,
    }


def rig_json(rig: Rig, found: Harvest) -> dict[str, Any]:
    """Return the result of `calibrate extrinsic`."""
    off = rig.errors_px()
    size = np.linalg.norm(off, axis=1)
    cameras = {}
    for index, camera in enumerate(rig.calibration.cameras):
        mine = rig.corners.camera == index
        used = mine & rig.kept
        single = rig.singles.get(camera.id)
        values, places = rig.spread[camera.id]
        cameras[camera.id] = {
            "rms_px": rms(off[used]),
            "median_px": float(np.median(size[used])) if used.any() else None,
            "fx": float(camera.K[0, 0]),
            "fy": float(camera.K[1, 1]),
            "cx": float(camera.K[0, 2]),
            "cy": float(camera.K[1, 2]),
            "distortion": camera.distortion.tolist(),
            "lens": rig.lenses[camera.id],
            "alone_rms_px": None if single is None else single.rms_px,
            "held_out_px": {} if single is None or single.evidence is None else dict(single.evidence.held_out_px),
            "richer_lens_wanted": "" if single is None or single.evidence is None else single.evidence.wanted,
            "deviation": {"fx_px": float(values[0]), "place_mm": float(1000 * np.linalg.norm(places[3:]))},
            "views": len(np.unique(rig.corners.set[used])),
            "corners": int(used.sum()),
            "wrong_corners": int((mine & ~rig.kept).sum()),
        }
    known = distances(rig.corners.where(rig.kept), rig.calibration, rig.board.points())
    return {
        "cameras": cameras,
        "camera_from_world": {c.id: c.camera_from_world.tolist() for c in rig.calibration.cameras},
        "board_error_mm": {
            "rmse": _none_if_nan(known.rmse_mm),
            "bias": _none_if_nan(known.bias_mm),
            "scale": _none_if_nan(known.scale),
            "distances": len(known.set),
        },
        "rms_px": rms(off[rig.kept]),
        "sets": len(rig.numbers),
        "left_out": found.left_out,
        "notes": found.notes,
    }


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else value
