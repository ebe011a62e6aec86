"""Simulated takes on disk, one by one or in bulk, by the ordinary take writer: pictures, calibration, true mesh."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.config import RigConfig
from rig.simulation.head import head_topology
from rig.simulation.stage import Stage
from rig.simulation.wide import WideWorld
from streamer.config_text import to_toml
from streamer.errors import ConfigError, TakeError
from streamer.pixels import encode_pixels, encode_plane
from streamer.takes import TakeWriter
from streamer.takes.layout import LAYERS
from streamer.types import F32, U8, Calibration, Encoding, Frame, MeshFrame

EPOCH_NS = 1_767_225_600 * 10**9
"""Exposure of the first frame of a simulated take: 2026-01-01 UTC. Takes depend on their arguments alone."""


ALPHA = "alpha"
"""Layer of the mattes, as imports name it."""


@dataclass(frozen=True, slots=True)
class Instant:
    """One frame set to be written."""

    pictures: dict[str, U8]
    """Camera id to (H, W, 3) RGB."""
    truth: MeshFrame
    """The true mesh; ids and times are filled in here."""
    jpeg_quality: int
    """1..100."""
    mattes: dict[str, U8]
    """Camera id to (H, W), 0 or 255; empty where none are wanted."""


def simulate_takes(
    out: Path,
    rig: RigConfig,
    *,
    takes: int,
    frames: int,
    world: str,
    jobs: int = 1,
    skins: Path | None = None,
    mattes: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write simulated takes.

    Args:
        out: the take's folder; with several takes a folder of `take_<nnnnn>`. Existing takes are an error.
        rig: picture size, number of cameras, rate, encoding; its seed chooses people and performances.
        takes: how many; take k of the `demo` world has seed + k.
        frames: frame sets per take.
        world: `demo` (the performance that `mien demo` shows), `wide` (unrelated moments, every take another person and
            stage) or `room` (the same with webcams in a room).
        jobs: processes.
        skins: npz with `skin_textures` (K, S, S, 3) uint8 in MakeHuman's layout; not for the demo world.
        mattes: write exact mattes as the layer `alpha` of each take; the demo world only.
        progress: called with takes done and takes in all.

    Returns:
        The folders.

    Raises:
        ConfigError: the skin file is not what it should be, or is given for the demo world.
        DriverError: OpenGL is not available.
        TakeError: a folder exists or cannot be written.
    """
    if mattes and world != "demo":
        raise ConfigError("--mattes: only the demo's world has them; leave --world out")
    if skins is not None:
        if world == "demo":
            raise ConfigError("--skins: the demo's world paints its skins; add --world wide or --world room")
        read_skins(skins)
    folders = [out] if takes == 1 else [out / f"take_{k:05d}" for k in range(takes)]
    plan = (folders, range(takes), repeat(rig), repeat(frames), repeat(world), repeat(skins), repeat(mattes))
    if jobs == 1:
        for done, arguments in enumerate(zip(*plan, strict=False)):
            _write(*arguments)
            if progress:
                progress(done + 1, takes)
        return folders
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(_write, *plan)):
            if progress:
                progress(done + 1, takes)
    return folders


def read_skins(path: Path) -> NDArray[np.uint8]:
    """Read skin textures (K, S, S, 3).

    Raises:
        ConfigError: no such file, or not such textures.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            skins = file["skin_textures"]
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: expected an npz with 'skin_textures' (K, S, S, 3) uint8: {error}") from error
    if skins.dtype != np.uint8 or skins.ndim != 4 or skins.shape[3] != 3 or skins.shape[1] != skins.shape[2]:
        raise ConfigError(f"{path}: skin_textures is {skins.dtype} {skins.shape}, expected uint8 (K, S, S, 3)")
    return np.asarray(skins, np.uint8)


@cache
def _world(width: int, height: int, cameras: int, seed: int, skins: Path | None, rooms: bool) -> WideWorld:
    return WideWorld(width, height, cameras, seed, None if skins is None else read_skins(skins), rooms=rooms)


def _write(folder: Path, index: int, rig: RigConfig, frames: int, world: str, skins: Path | None, mattes: bool) -> None:
    """Write one take (in a worker process)."""
    simulated = rig.simulated
    if world in ("wide", "room"):
        size = (simulated.width, simulated.height, simulated.cameras)
        take = _world(*size, simulated.seed, skins, world == "room").take(index, frames)
        ids = take.calibration.ids
        instants: Iterator[Instant] = (
            Instant(
                dict(zip(ids, shot.pictures, strict=True)),
                _truth(shot.vertices, shot.moment.world_from_head, shot.moment.weights, ids),
                shot.jpeg_quality,
                {},
            )
            for shot in take.shots
        )
        _save(folder, index, rig, take.calibration, instants)
        return
    rig = replace(rig, simulated=replace(simulated, seed=simulated.seed + index))
    stage = Stage(rig.simulated)
    try:
        moments = (
            Instant(*stage.render(k / rig.fps), rig.jpeg_quality, stage.mattes if mattes else {}) for k in range(frames)
        )
        _save(folder, index, rig, stage.calibration, moments)
    finally:
        stage.close()


def _truth(vertices: F32, world_from_head: NDArray[np.float64], weights: F32, views: tuple[str, ...]) -> MeshFrame:
    return MeshFrame(0, 0, 0, head_topology().id, vertices, world_from_head.astype(np.float32), views, weights)


def _save(folder: Path, index: int, rig: RigConfig, calibration: Calibration, instants: Iterator[Instant]) -> None:
    if folder.exists():
        raise TakeError(f"{folder} exists already; give another folder or remove it")
    scratch = folder.with_name(
        f".{folder.name}.partial-{os.getpid()}"
    )  # named when whole: training reads what it finds
    settings: dict[str, Any] = {
        "calibration": calibration,
        "config_text": to_toml({"rig": rig}),
        "show": "simulated",
        "slate": "sim",
        "take": index + 1,
    }
    try:
        with ExitStack() as stack:
            writer = stack.enter_context(TakeWriter(scratch, **settings))
            layers: list[TakeWriter] = []
            for instant in _fill(writer, rig, instants):
                if instant.mattes and not layers:
                    layers.append(stack.enter_context(TakeWriter(scratch / LAYERS / ALPHA, **settings)))
                for layer in layers:
                    _write_mattes(layer, instant)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fill(writer: TakeWriter, rig: RigConfig, instants: Iterator[Instant]) -> Iterator[Instant]:
    """Write instants; yields each, its truth with ids and times."""
    period_ns = 1e9 / rig.fps
    first_id = int(EPOCH_NS // period_ns) + 1
    writer.write("topology", head_topology(), EPOCH_NS)
    for sequence, instant in enumerate(instants):
        frame_id = first_id + sequence
        time_ns = round((frame_id + 0.5) * period_ns)
        for camera, picture in instant.pictures.items():
            encoding, data = encode_pixels(picture, rig.encoding, instant.jpeg_quality)
            writer.write("frame", _frame(camera, frame_id, sequence, time_ns, picture, encoding, data), time_ns)
        truth = replace(instant.truth, frame_id=frame_id, exposure_time_ns=time_ns)
        writer.write("truth", truth, time_ns)
        yield replace(instant, truth=truth)


def _write_mattes(layer: TakeWriter, instant: Instant) -> None:
    time_ns, frame_id = instant.truth.exposure_time_ns, instant.truth.frame_id
    for camera, matte in instant.mattes.items():
        data = encode_plane(np.ascontiguousarray(matte))
        layer.write("frame", _frame(camera, frame_id, frame_id, time_ns, matte, "png", data), time_ns)


def _frame(camera: str, frame_id: int, count: int, time_ns: int, shown: U8, encoding: Encoding, data: U8) -> Frame:
    identity = (camera, frame_id, count, count, time_ns, "simulated", time_ns, time_ns)
    height, width = shown.shape[:2]
    return Frame(*identity, width, height, encoding, data)
