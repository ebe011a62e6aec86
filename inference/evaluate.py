"""`mien evaluate`: a model on takes whose true meshes are known, beside the mean head placed at the true pose.

A network that does not clearly beat that mean head has learned only pose, so its figures stand beside the network's,
always.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from inference.engines import Graph, Precision
from inference.framing import choose_evenly
from inference.metrics import Points, jitter_mm, point_to_surface, regions_of, summarise
from inference.model_store import ModelFiles
from inference.reconstruct import NetworkFactory, Reconstructor, compile_graphs, live_network
from inference.reprocess import offline_sync, reconstruct_all
from streamer.errors import ConfigError, TakeError
from streamer.geometry import transform
from streamer.takes import Take, open_take
from streamer.types import F64, I32, Calibration, FrameSet

MM = 1000.0
MOST_CHOICES = 10_000
"""Subsets of cameras that are listed; of more, as many are drawn."""


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What to evaluate."""

    engine: str = "openvino"
    """Name of the engine."""
    precision: Precision = "f32"
    """Of the model's `net` graphs."""
    threads: int = 0
    """Threads of the engine; 0: all cores."""
    views: int = 0
    """Use this many cameras, spread evenly and the same throughout; 0: all."""
    drop_cameras: int = 0
    """Leave out this many cameras of each set, another choice for each, through all choices in a shuffled order."""
    stride: int = 1
    """Evaluate every n-th frame set; with more than 1 there is no jitter."""
    seed: int = 0
    """Shuffles the choices of `drop_cameras`."""


@dataclass(slots=True)
class Figures:
    """Distances of one kind of mesh (the network's, or the mean head) from the truth, by region, mm."""

    surface: dict[str, list[Points]] = field(default_factory=dict)
    """True points to the surface."""
    vertex: dict[str, list[Points]] = field(default_factory=dict)
    """Vertex to vertex; empty if the topologies differ."""

    def add(self, truth_m: F64, vertices_m: F64, triangles: I32, regions: Mapping[str, I32], *, same: bool) -> None:
        """Measure one mesh.

        Args:
            truth_m: (M, 3) true vertices, m.
            vertices_m: (N, 3) vertices to measure, m.
            triangles: of these.
            regions: region to indices of true vertices.
            same: whether both have one topology.
        """
        surface = point_to_surface(truth_m, vertices_m, triangles) * MM
        vertex = np.linalg.norm(vertices_m - truth_m, axis=1) * MM if same else None
        for name, indices in regions.items():
            self.surface.setdefault(name, []).append(surface[indices])
            if vertex is not None:
                self.vertex.setdefault(name, []).append(vertex[indices])

    def regions(self) -> dict[str, dict[str, float]]:
        """Return region to `median_mm`, `mean_mm`, `p90_mm` of point to surface, and the same of vertices."""
        table = {}
        for name, distances in self.surface.items():
            row = asdict(summarise(distances))
            if name in self.vertex:
                row |= {f"vertex_{key}": value for key, value in asdict(summarise(self.vertex[name])).items()}
            table[name] = {key: round(value, 4) for key, value in row.items()}
        return table


def find_takes(paths: Sequence[Path]) -> list[Path]:
    """Return the takes among and below these folders, in order.

    Raises:
        TakeError: a path holds none.
    """
    takes: list[Path] = []
    for path in paths:
        found = sorted(file.parent for file in path.rglob("take.json")) if path.is_dir() else []
        if not found:
            raise TakeError(f"{path}: no take here (a folder with take.json); make some with: mien simulate")
        takes += found
    return list(dict.fromkeys(takes))


def evaluate(
    paths: Sequence[Path],
    model: ModelFiles,
    options: EvaluateOptions,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    network: NetworkFactory = live_network,
) -> dict[str, Any]:
    """Measure a model on takes with truth.

    Args:
        paths: takes, or folders of takes.
        model: the model.
        options: what to evaluate.
        progress: told takes done and takes in all.
        network: makes the network.

    Returns:
        `regions` and `jitter_mm` of the network; `template`: `regions` of the mean head at the true pose;
        `beats_template`: template / network of the face's (or head's) medians; counts and names.

    Raises:
        TakeError: a take has no truth, or none of its sets could be measured.
        ConfigError: options that no rig can meet.
    """
    takes = find_takes(paths)
    graphs = compile_graphs(model, options.engine, options.precision, options.threads)
    ours, mean_head = Figures(), Figures()
    shakes: list[float] = []
    counts = {"takes": len(takes), "sets": 0, "meshes": 0, "failed": 0}
    views: list[int] = []
    for number, path in enumerate(takes):
        with open_take(path) as take:
            found = _measure(take, model, graphs, options, network, ours, mean_head)
        counts["sets"] += found.sets
        counts["meshes"] += len(found.views)
        counts["failed"] += found.sets - len(found.views)
        views += found.views
        shakes += [] if found.jitter_mm is None else [found.jitter_mm]
        progress(number + 1, len(takes))
    if not views:
        where = ", ".join(map(str, paths))
        raise TakeError(f"{where}: no set with a truth gave a mesh; make takes with: mien simulate")
    precisions = {graph.precision for graph in graphs.values()}
    return {
        "model": model.name,
        "model_id": model.id,
        "engine": options.engine,
        "precision": "bf16" if "bf16" in precisions else "f32",
        "views": round(float(np.mean(views)), 2),
        **counts,
        "regions": ours.regions(),
        "template": {"regions": mean_head.regions()},
        "beats_template": _beats(ours.regions(), mean_head.regions()),
        "jitter_mm": round(float(np.median(shakes)), 4) if shakes else None,
    }


@dataclass(frozen=True, slots=True)
class _Found:
    sets: int
    views: list[int]
    jitter_mm: float | None


def _measure(
    take: Take,
    model: ModelFiles,
    graphs: Mapping[str, Graph],
    options: EvaluateOptions,
    network: NetworkFactory,
    ours: Figures,
    mean_head: Figures,
) -> _Found:
    truths = take.meshes("truth")
    rows = {int(frame_id): row for row, frame_id in enumerate(truths.frame_ids)}
    if not rows:
        raise TakeError(f"{take.path}: has no true meshes; evaluate on takes of: mien simulate")
    topology = take.topologies.get(truths[0].topology_id)
    if topology is None:
        raise TakeError(f"{take.path}: holds no topology of its true meshes; run: mien verify {take.path}")
    calibration = _chosen_cameras(take.calibration, options.views)
    regions = regions_of(topology.regions, topology.vertex_count)
    same = topology.id == model.topology.id
    chosen = itertools.islice(_subsets(take, calibration, rows, options), 0, None, options.stride)
    ids: list[int] = []
    errors: list[F64] = []
    views: list[int] = []
    sets = 0
    with (
        Reconstructor(model, calibration, threads=options.threads, graphs=graphs, network=network) as reconstructor,
        closing(reconstruct_all(chosen, reconstructor)) as outcomes,
    ):
        for outcome in outcomes:
            sets += 1
            if outcome.result is None:
                continue
            truth = truths[rows[outcome.item.frame_id]]
            placed = transform(truth.world_from_head.astype(np.float64), model.topology.template)
            true = truth.vertices.astype(np.float64)
            made = outcome.result.vertices.astype(np.float64)
            ours.add(true, made, model.topology.triangles, regions, same=same)
            mean_head.add(true, placed, model.topology.triangles, regions, same=same)
            views.append(len(outcome.result.views))
            if same:
                ids.append(truth.frame_id)
                errors.append((made - true) * MM)
    return _Found(sets, views, jitter_mm(ids, errors))


def _chosen_cameras(calibration: Calibration, views: int) -> Calibration:
    if not views:
        return calibration
    if views > len(calibration.cameras):
        raise ConfigError(f"--views {views}: the take has {len(calibration.cameras)} cameras")
    chosen = choose_evenly(calibration.cameras, views)
    return replace(calibration, cameras=tuple(calibration.cameras[i] for i in chosen))


def _subsets(
    take: Take, calibration: Calibration, rows: Mapping[int, int], options: EvaluateOptions
) -> Iterator[FrameSet]:
    """Yield the sets that have a truth, with the cameras that they are to be seen by."""
    kept = len(calibration.cameras) - options.drop_cameras
    if kept < 1:
        raise ConfigError(f"--drop-cameras {options.drop_cameras}: {len(calibration.cameras)} cameras leave none")
    rng = np.random.default_rng(options.seed)
    if math.comb(len(calibration.ids), kept) <= MOST_CHOICES:
        choices = list(itertools.combinations(calibration.ids, kept))
    else:  # too many to list: draw as many as could be used
        choices = [tuple(rng.choice(calibration.ids, kept, replace=False)) for _ in range(MOST_CHOICES)]
    order = rng.permutation(len(choices))
    number = 0
    for frame_set in take.frame_sets(offline_sync(take, 1)):
        if frame_set.frame_id not in rows:
            continue
        wanted = choices[order[number % len(choices)]]
        number += 1
        members = {camera: frame for camera, frame in frame_set.members.items() if camera in wanted}
        if members:
            left_out = {camera: "left-out" for camera in frame_set.members if camera not in wanted}
            yield replace(frame_set, members=members, absent={**frame_set.absent, **left_out})


def _beats(ours: Mapping[str, Mapping[str, float]], mean_head: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How many times better than the mean head, on the face if there is one."""
    name = "face" if "face" in ours else "head"
    pairs = {"surface": "median_mm", "vertex": "vertex_median_mm"}
    return {
        kind: round(mean_head[name][key] / ours[name][key], 3)
        for kind, key in pairs.items()
        if ours[name].get(key)
    }


def table(result: Mapping[str, Any]) -> str:
    """Return the figures for people: network and mean head side by side."""
    lines = [
        f"{result['model']} on {result['engine']} {result['precision']}, {result['meshes']} meshes from "
        f"{result['views']:g} views ({result['failed']} failed); mm, in brackets the mean head at the true pose",
        f"{'region':<12}{'point to surface: median':>30}{'mean':>18}{'p90':>18}{'vertices: median':>24}",
    ]
    for name, row in result["regions"].items():
        other = result["template"]["regions"][name]
        cells = [
            f"{row[key]:.2f} ({other[key]:.2f})" if key in row else "-"
            for key in ("median_mm", "mean_mm", "p90_mm", "vertex_median_mm")
        ]
        lines.append(f"{name:<12}{cells[0]:>30}{cells[1]:>18}{cells[2]:>18}{cells[3]:>24}")
    jitter = result["jitter_mm"]
    lines.append(f"jitter {'-' if jitter is None else f'{jitter:.3f} mm'}")
    return "\n".join(lines)


