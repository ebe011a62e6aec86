"""Run a model over a take, as fast as it goes: a new take with the same pictures and new meshes.

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
from inference.pipeline import Outcome, Pipeline
from inference.reconstruct import NetworkFactory, Reconstructor, live_network
from streamer.config import SyncConfig
from streamer.errors import TakeError
from streamer.takes import Take, TakeWriter, open_take
from streamer.types import FrameSet, MeshFrame
from streamer.wire import Message

COPIED = ("frame", "truth", "calibration", "topology")
"""Channels that the new take has in common with the old one; meshes and health are its own."""


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


def reprocess_take(
    source: Path,
    out: Path,
    *,
    model: ModelFiles,
    engine: str = "openvino",
    precision: Precision = "f32",
    threads: int = 0,
    sync: SyncConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    network: NetworkFactory = live_network,
) -> Reprocessed:
    """Reconstruct every frame set of a take into a new take, complete or not at all.

    Args:
        source: the take.
        out: folder of the new take; must not exist.
        model: the model.
        engine: name of the engine.
        precision: of the model's `net` graphs.
        threads: threads of the engine; 0: all cores.
        sync: how frames become sets; None: as the take says.
        progress: told sets done and sets in all.
        network: makes the network.

    Raises:
        TakeError: the take cannot be read, `out` exists or cannot be written, or no set of it gave a mesh.
        EngineError: the engine cannot run here.
        CalibrationError: the model cannot work with the take's cameras.
    """
    if out.exists():
        raise TakeError(f"{out} exists already; give another folder or remove it")
    with (
        open_take(source) as take,
        Reconstructor(model, take.calibration, engine, precision, threads, network=network) as reconstructor,
    ):
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        try:
            done = _write(take, partial, reconstructor, sync or take.sync, progress)
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
    pipeline: Pipeline[FrameSet, MeshFrame] = Pipeline(reconstructor.stages, results.put, mode="every")
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
    sync: SyncConfig,
    progress: Callable[[int, int], None],
) -> Reprocessed:
    times = set_times(take)
    others = _Copy(take.messages(COPIED))
    sets = meshes = 0
    first_error = ""
    total = take.count_sets()
    info = take.info
    outcomes = closing(reconstruct_all(take.frame_sets(sync), reconstructor))
    with TakeWriter(
        folder,
        calibration=take.calibration,
        config_text=take.config_text,
        show=info.show,
        slate=info.slate,
        take=info.take,
        sync=replace(sync, match=info.match, tolerance_us=info.tolerance_us),
    ) as writer, outcomes as found:
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
