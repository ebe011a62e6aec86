"""Run a model over a take, as fast as it goes: a new take with the same pictures, or a new layer of the take.

What comes out depends on the take, the model, the engine and the precision alone: two runs give equal bytes, and a set
that was reconstructed live gives the same mesh again.
"""

import queue
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from inference.engines import Precision
from inference.model_store import ModelFiles
from inference.networks import NetworkFactory
from inference.pipeline import Outcome
from inference.reconstruct import Reconstructor
from streamer.config import RecordConfig, SyncConfig
from streamer.errors import CalibrationError, TakeError
from streamer.takes import Take, TakeWriter, open_take
from streamer.takes.layout import LAYERS, check_name
from streamer.types import Calibration, FrameSet, MeshFrame
from streamer.wire import Message

COPIED = ("frame", "truth", "calibration", "topology")
"""Channels that the new take has in common with the old one; meshes and health are its own."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is other than when the take was recorded."""

    sync: SyncConfig | None = None
    """How frames become sets; None: as the take says."""
    calibration: Calibration | None = None
    """The cameras; None: as they were."""
    config_text: str | None = None
    """The configuration of this run, kept with the result; None: that of the take."""
    lossless: bool = False
    """Keep every bit of the meshes."""


DEFAULT = Setting()


@dataclass(frozen=True, slots=True)
class Reprocessed:
    """What was done."""

    sets: int
    """Frame sets of the take."""
    meshes: int
    """Meshes written."""
    failed: int
    """Sets that gave no mesh."""
    first_error: str
    """Why the first of them failed; empty if none did."""
    precision: str
    """What the networks computed in."""


def set_times(take: Take) -> dict[tuple[str, int, int], int]:
    """Return the log time in ns of every frame of a take, by camera, frame id and exposure time."""
    times: dict[tuple[str, int, int], int] = {}
    for camera in take.cameras:
        topic = f"frame/{camera}"
        logged = take.topics[topic]["log_time"].tolist()
        for (frame_id, exposure_ns), log_ns in zip(take.keys(topic).tolist(), logged, strict=True):
            times[camera, frame_id, exposure_ns] = int(log_ns)
    return times


def offline_sync(take: Take, min_cameras: int) -> SyncConfig:
    """Return how to match the frames of a take: as it says itself, with a smallest set that its rig can reach."""
    return replace(take.sync, min_cameras=max(1, min(min_cameras, len(take.calibration.cameras))))


def layer_path(source: Path, name: str) -> Path:
    """Return the folder of a new layer of a take.

    Raises:
        ConfigError: it cannot be a folder name.
        TakeError: there is such a layer already.
    """
    out = source / LAYERS / check_name("layer", name)
    if out.exists():
        raise TakeError(f"{source} has a layer '{name}' already; give another name, or remove {out}")
    return out


def reprocess_take(
    source: Path,
    out: Path,
    *,
    model: ModelFiles,
    engine: str = "openvino",
    precision: Precision = "f32",
    threads: int = 0,
    setting: Setting = DEFAULT,
    progress: Callable[[int, int], None] = lambda done, total: None,
    network: NetworkFactory | None = None,
) -> Reprocessed:
    """Reconstruct every frame set of a take into a new take or layer, complete or not at all.

    Args:
        source: the take; never changed.
        out: folder of the new take, or `layer_path`, which gets the meshes only; must not exist.
        model: the model.
        engine: name of the engine.
        precision: of the model's `net` graphs.
        threads: threads of the engine; 0: all cores.
        setting: another calibration or policy.
        progress: told sets done and sets in all.
        network: makes the network; None: the model's own.

    Raises:
        TakeError: the take cannot be read, `out` exists or cannot be written, or no set of it gave a mesh.
        EngineError: the engine cannot run here.
        CalibrationError: the model cannot work with the take's cameras.
    """
    if out.exists():
        raise TakeError(f"{out} exists already; give another folder or remove it")
    with (
        open_take(source) as take,
        Reconstructor(
            model, _cameras(take, setting.calibration), engine, precision, threads, network=network
        ) as reconstructor,
    ):
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        try:
            done = _write(take, partial, reconstructor, setting, progress, whole=out.parent != source / LAYERS)
            if done.failed and not done.meshes:
                raise TakeError(f"{source}: none of its {done.sets} sets gave a mesh, the first: {done.first_error}")
            partial.rename(out)
        except OSError as error:
            raise TakeError(f"{out}: cannot be written: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return done


def reconstruct_all(
    sets: Iterator[FrameSet], reconstructor: Reconstructor
) -> Generator[Outcome[FrameSet, MeshFrame], None, None]:
    """Yield what becomes of each set, in order, while the stages of several sets overlap; bounded in memory.

    Its threads end with it: whoever may leave before its end wraps it in `contextlib.closing`.
    """
    results: queue.SimpleQueue[Outcome[FrameSet, MeshFrame]] = queue.SimpleQueue()
    pipeline = reconstructor.pipeline(results.put, mode="every")
    drain = False
    try:
        for frame_set in sets:
            pipeline.submit(frame_set)
            while not results.empty():
                yield results.get()
        drain = True
    finally:
        pipeline.close(drain=drain)
    while not results.empty():
        yield results.get()


def _write(
    take: Take,
    folder: Path,
    reconstructor: Reconstructor,
    setting: Setting,
    progress: Callable[[int, int], None],
    *,
    whole: bool,
) -> Reprocessed:
    times, sync = set_times(take), setting.sync or take.sync
    copied = [name for name in COPIED if whole and (name != "calibration" or setting.calibration is None)]
    others = _Copy(take.messages(copied))
    sets = meshes = 0
    first_error = ""
    total = take.count_sets()
    info = take.info
    outcomes = closing(reconstruct_all(take.frame_sets(sync), reconstructor))
    with (
        TakeWriter(
            folder,
            calibration=_cameras(take, setting.calibration),
            config_text=take.config_text if setting.config_text is None else setting.config_text,
            show=info.show,
            slate=info.slate,
            take=info.take,
            record=RecordConfig(meshes="lossless" if setting.lossless else "quantised"),
            sync=replace(sync, match=info.match, tolerance_us=info.tolerance_us),
        ) as writer,
        outcomes as found,
    ):
        for outcome in found:
            members = outcome.item.members.values()
            log_ns = max(times[frame.camera, frame.frame_id, frame.exposure_time_ns] for frame in members)
            others.write_until(writer, log_ns)
            sets += 1
            if outcome.result is not None:
                if not meshes:
                    writer.write("topology", reconstructor.model.topology, log_ns)
                meshes += 1
                # Without its timings, so that equal runs give equal bytes.
                writer.write("mesh", replace(outcome.result, stages_ns={}), log_ns)
            elif not first_error:
                first_error = str(outcome.error)
            progress(sets, max(sets, total))
        others.write_until(writer, None)
    return Reprocessed(sets, meshes, sets - meshes, first_error, reconstructor.precision)


def _cameras(take: Take, given: Calibration | None) -> Calibration:
    if given is None:
        return take.calibration
    for camera in take.cameras:
        known, size = given[camera], take.calibration[camera]
        if (known.width, known.height) != (size.width, size.height):
            raise CalibrationError(
                f"camera '{camera}' is calibrated for {known.width}x{known.height}, it was {size.width}x{size.height} "
                "when the take was recorded; give a calibration of the same pictures"
            )
    return given


class _Copy:
    """Copies messages from one take to another, up to a time."""

    def __init__(self, messages: Iterator[tuple[str, int, Message]]) -> None:
        self._messages = messages
        self._next = next(messages, None)

    def write_until(self, writer: TakeWriter, log_ns: int | None) -> None:
        """Write everything that was logged up to `log_ns`, or all that is left."""
        while self._next is not None and (log_ns is None or self._next[1] <= log_ns):
            channel, time_ns, message = self._next
            writer.write(channel, message, time_ns)
            self._next = next(self._messages, None)
