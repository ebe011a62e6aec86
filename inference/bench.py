"""`mien bench model`: what a mesh costs on this machine, one after the other and with the stages overlapping."""

import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np

from inference.engines import Precision
from inference.model_store import ModelFiles, load_model
from inference.networks import NetworkFactory, live_network
from inference.reconstruct import NETWORK, Reconstructor
from inference.reprocess import reconstruct_all
from inference.schedule import Stage
from inference.stand_in import drawn
from inference.stand_in import stand_in_rig as arc
from inference.tempeh.live import REFUSAL
from streamer.errors import ConfigError, EngineError
from streamer.pixels import encode_pixels
from streamer.types import Calibration, Frame, FrameSet, Topology

PERIOD_NS = 33_333_333
DISTINCT_SETS = 4
"""Different frame sets that are shown in turn: caches see no single picture again and again."""
NOISE = 0.03
"""Share of noise in their pictures."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure."""

    engine: str = "openvino"
    """Name of the engine."""
    precision: Precision = "f32"
    """Of the model's `net` graphs."""
    threads: int = 0
    """Threads of the engine; 0: all cores."""
    views: int = 8
    """Cameras."""
    width: int = 640
    """Width of their pictures, px."""
    height: int = 480
    """Height of their pictures, px."""
    meshes: int = 60
    """Meshes per measurement."""


def stand_in_rig(options: BenchOptions) -> Calibration:
    """Return cameras of the options' size on an arc around the head."""
    return arc(options.views, options.width, options.height)


def stand_in_sets(options: BenchOptions, topology: Topology | None = None) -> list[FrameSet]:
    """Return frame sets of a head and some smooth noise as JPEG: as costly to decode as real pictures.

    Args:
        options: number and size of the pictures.
        topology: of the head; None: that of `live`.
    """
    shape = load_model("live").topology if topology is None else topology
    heads = [drawn(shape, shape.template, camera) for camera in stand_in_rig(options).cameras]
    random = np.random.default_rng(0)
    sets = []
    for number in range(DISTINCT_SETS):
        members = {}
        for i, head in enumerate(heads):
            coarse = random.integers(0, 256, (options.height // 8, options.width // 8, 3), np.uint8)
            noise = cv2.resize(coarse, (options.width, options.height), interpolation=cv2.INTER_CUBIC)
            rgb = cv2.addWeighted(head, 1 - NOISE, np.asarray(noise, np.uint8), NOISE, 0)
            encoding, data = encode_pixels(np.asarray(rgb, np.uint8), "jpeg")
            time_ns = number * PERIOD_NS
            members[f"cam_{i}"] = Frame(
                f"cam_{i}", number, number, number, time_ns, "host", time_ns, time_ns,
                options.width, options.height, encoding, data,
            )  # fmt: skip
        sets.append(FrameSet(number, members, {}, 0, "cam_0", 0))
    return sets


def bench_model(model: ModelFiles, options: BenchOptions, *, network: NetworkFactory | None = None) -> dict[str, Any]:
    """Measure a model.

    Args:
        model: the model.
        options: what to measure.
        network: makes the network; None: the model's own.

    Returns:
        Of one mesh after the other `cpu_s_per_mesh`, `wall_s_per_mesh` and `stages_ms` (medians); overlapping
        `meshes_per_s`, `overlap_gain` = that rate times the mean wall time, `overlap_ideal` what it would be if the
        busiest stream or the processor never waited, `latency_ms` from a free slot on; `peak_memory_mb`, and what ran.

    Raises:
        ConfigError: fewer than one view or mesh.
        EngineError: the engine cannot run here, or a set fails.
    """
    if options.views < 1 or options.meshes < 1:
        raise ConfigError(f"--views {options.views} --meshes {options.meshes}: both must be 1 or more")
    sets = stand_in_sets(options, model.topology)
    if network is None and "keys" in model.graphs:  # of few cameras beside the head some see too little to be believed
        network = partial(live_network, without=REFUSAL)
    with Reconstructor(
        model, stand_in_rig(options), options.engine, options.precision, options.threads, network=network
    ) as reconstructor:
        for number, frame_set in enumerate(sets):  # over seconds: expression weights first get to know the person
            reconstructor(_retimed(frame_set, 30 * number))
        settled = 30 * len(sets)
        walls, stages = [], []
        cpu_start = time.process_time()
        for number in range(options.meshes):
            frame_set = _retimed(sets[number % len(sets)], settled + number)
            start = time.perf_counter()
            stages.append(reconstructor(frame_set).stages_ns)
            walls.append(time.perf_counter() - start)
        cpu_s = (time.process_time() - cpu_start) / options.meshes
        start = time.perf_counter()
        outcomes = list(reconstruct_all(_in_turn(sets, settled + options.meshes, options.meshes), reconstructor))
        rate = options.meshes / (time.perf_counter() - start)
        failed = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failed:
            raise EngineError(f"model '{model.name}': {len(failed)} sets failed, the first: {failed[0]}") from failed[0]
        precision = reconstructor.precision
        took = {name: float(np.median([s[name] for s in stages])) / 1e6 for name in stages[0]}
        ideal = ideal_overlap(reconstructor.stages, took, float(np.mean(walls)), cpu_s)
        latencies = [(outcome.timing.end_ns - outcome.timing.eligible_ns) / 1e6 for outcome in outcomes]
    return {
        "model": model.name,
        "engine": options.engine,
        "precision": precision,
        "views": options.views,
        "cpu_s_per_mesh": round(cpu_s, 5),
        "wall_s_per_mesh": round(float(np.median(walls)), 5),
        "meshes_per_s": round(rate, 3),
        "overlap_gain": round(rate * float(np.mean(walls)), 3),
        "overlap_ideal": round(ideal, 3),
        "latency_ms": {f"p{k}": round(float(np.percentile(latencies, k)), 2) for k in (50, 95, 99)},
        "stages_ms": {name: round(ms, 3) for name, ms in took.items()},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def ideal_overlap(stages: Sequence[Stage], took_ms: Mapping[str, float], wall_s: float, cpu_s: float) -> float:
    """Return the gain of stages that overlap perfectly: bounded by the busiest stream and by the processor.

    Args:
        stages: the stages.
        took_ms: what each stage took, one after the other; named as by `stage_times`.
        wall_s: of a mesh, one stage after the other.
        cpu_s: of a mesh.
    """
    busy: dict[str, float] = {}
    for stage in stages:
        ms = took_ms[stage.name] if stage.name in took_ms else took_ms[f"{NETWORK}.{stage.name}"]
        busy[stage.stream] = busy.get(stage.stream, 0.0) + ms
    return wall_s / max(*(ms / 1e3 for ms in busy.values()), cpu_s / len(os.sched_getaffinity(0)))


def _in_turn(sets: list[FrameSet], first: int, count: int) -> Iterator[FrameSet]:
    return (_retimed(sets[number % len(sets)], number) for number in range(first, first + count))


def _retimed(frame_set: FrameSet, number: int) -> FrameSet:
    """The set as the `number`-th of a rig at 30 Hz: a bench that went back in time would look like another person."""
    members = {name: replace(frame, exposure_time_ns=number * PERIOD_NS) for name, frame in frame_set.members.items()}
    return replace(frame_set, members=members)
