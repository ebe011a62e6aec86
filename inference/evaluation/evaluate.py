"""`mien evaluate`: a model on takes whose true meshes are known, beside the mean head placed at the true pose.

A network that does not clearly beat that mean head has learned only pose, so its figures stand beside the network's,
always.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inference.engines import Graph, Precision
from inference.evaluation.figures import CURVE_MM, MM, Figures, Gap, Openings, find_gaps
from inference.evaluation.metrics import jitter_mm, regions_of
from inference.evaluation.truths import MeshTruths, ScanTruths, TrueHead, Truths, nearest_regions
from inference.expressions import unpack_basis
from inference.framing import choose_evenly
from inference.model_store import ModelFiles
from inference.networks import NetworkFactory, compile_graphs, live_network
from inference.precision import lowest
from inference.reconstruct import Reconstructor
from inference.reprocess import offline_sync, reconstruct_all
from streamer.errors import ConfigError, TakeError
from streamer.geometry import transform
from streamer.takes import Take, open_take
from streamer.types import F32, F64, Calibration, FrameSet, MeshFrame, Topology

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
    ablate: str = ""
    """Part of the method that is left out, see `inference.tempeh.live.PARTS`."""
    scans: Path | None = None
    """Folder of raw scans (`<frame id>.obj|ply`, or a folder of them per take) that are the truth instead of meshes."""
    scan_unit: str = "mm"
    """Unit of the scans, `mm` or `m`."""


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
    network: NetworkFactory | None = None,
) -> dict[str, Any]:
    """Measure a model on takes with truth.

    Args:
        paths: takes, or folders of takes.
        model: the model.
        options: what to evaluate.
        progress: told takes done and takes in all.
        network: makes the network; None: the model's own.

    Returns:
        `regions` (true points to the surface) and `jitter_mm` of the network; `mesh_to_scan`, the other way round;
        `template`: `regions` of the mean head at the true pose, or at the found one where the truth is a scan;
        `beats_template`: template / network of the face's (or head's) medians; `curve`: share of the true points
        within each of `mm`; `coverage` by views; `openings` of mouth and eyes; `expressions`; counts and names.

    Raises:
        TakeError: a take has no truth, or none of its sets could be measured.
        ConfigError: options that no rig can meet.
    """
    takes = find_takes(paths)
    if options.ablate:
        network = _without(network, model, options.ablate)
    graphs = compile_graphs(model, options.engine, options.precision, options.threads)
    tally = Tally(_gaps(model))
    for number, path in enumerate(takes):
        with open_take(path) as take:
            _measure(take, model, graphs, options, network, tally)
        progress(number + 1, len(takes))
    if not tally.views:
        where = ", ".join(map(str, paths))
        raise TakeError(f"{where}: no set with a truth gave a mesh; make takes with: mien simulate")
    return _result(model, graphs, options, len(takes), tally)


def _result(
    model: ModelFiles, graphs: Mapping[str, Graph], options: EvaluateOptions, takes: int, tally: "Tally"
) -> dict[str, Any]:
    precisions = {graph.precision for graph in graphs.values()}
    ours, mean_head = tally.ours.regions(), tally.mean_head.regions()
    return {
        "model": model.name,
        "model_id": model.id,
        "engine": options.engine,
        "precision": lowest(precisions),
        "without": options.ablate,
        "views": round(float(np.mean(tally.views)), 2),
        "takes": takes,
        "sets": tally.sets,
        "meshes": len(tally.views),
        "failed": tally.sets - len(tally.views),
        "regions": ours,
        "mesh_to_scan": tally.ours.mesh_regions(),
        "template": {"regions": mean_head, "posed_by": "network" if options.scans else "truth"},
        "beats_template": _beats(ours, mean_head),
        "jitter_mm": round(float(np.median(tally.shakes)), 4) if tally.shakes else None,
        "curve": {"mm": list(CURVE_MM), "share": tally.ours.curve()},
        "coverage": tally.coverage(),
        "openings": tally.openings.summary(),
        "expressions": tally.expressions(),
    }


@dataclass(slots=True)
class Tally:
    """What is gathered over all sets."""

    gaps: list[Gap]
    """Openings that are watched."""
    ours: Figures = field(default_factory=Figures)
    """Of the network's meshes."""
    mean_head: Figures = field(default_factory=Figures)
    """Of the mean head at the true pose."""
    openings: Openings = field(default_factory=Openings)
    """True and found widths of the gaps."""
    sets: int = 0
    """Sets that had a truth."""
    views: list[int] = field(default_factory=list)
    """Pictures used for each mesh."""
    cameras: Counter[str] = field(default_factory=Counter)
    """Meshes that each camera took part in."""
    shakes: list[float] = field(default_factory=list)
    """Jitter of each take, mm."""
    weights: list[tuple[F32, F32]] = field(default_factory=list)
    """True and solved expression weights."""

    def coverage(self) -> dict[str, Any]:
        """Return how many meshes were made of how many pictures, and each camera's share of the meshes."""
        counts = Counter(self.views)
        share = {camera: round(n / len(self.views), 4) for camera, n in sorted(self.cameras.items())}
        return {"views": {str(n): counts[n] for n in sorted(counts)}, "cameras": share}

    def expressions(self) -> dict[str, float] | None:
        """Return the mean error of the weights, and the median correlation of those that move; None without both."""
        if len(self.weights) < 3:
            return None
        true, found = (np.stack([pair[k] for pair in self.weights]) for k in range(2))
        moving = np.flatnonzero((true.std(0) > 0.05) & (found.std(0) > 0))
        both = [float(np.corrcoef(true[:, unit], found[:, unit])[0, 1]) for unit in moving]
        return {
            "mean_error": round(float(np.abs(found - true).mean()), 4),
            "mean_weight": round(float(true.mean()), 4),
            "correlation": round(float(np.median(both)), 4) if both else 0.0,
        }


def _gaps(model: ModelFiles) -> list[Gap]:
    basis = unpack_basis(model.constants)
    if basis is None:
        return []
    return find_gaps(model.topology, basis.at, basis.units)


def _without(network: NetworkFactory | None, model: ModelFiles, part: str) -> NetworkFactory:
    """The network with a part of the method left out.

    Raises:
        ConfigError: this model has no such part.
    """
    if network is not None or "keys" not in model.graphs:
        raise ConfigError(f"--ablate: model '{model.name}' is not one of Mien's own networks")
    if part == "point-to-surface" and "detail" not in model.graphs:
        raise ConfigError(
            f"--ablate point-to-surface: model '{model.name}' has no second stage, nothing to leave out; take reprocess"
        )
    if part == "close-ups" and "eyes" not in model.graphs:
        raise ConfigError(f"--ablate close-ups: model '{model.name}' has none, nothing to leave out")
    return partial(live_network, without=part)


def _measure(
    take: Take,
    model: ModelFiles,
    graphs: Mapping[str, Graph],
    options: EvaluateOptions,
    network: NetworkFactory | None,
    tally: Tally,
) -> None:
    truths: Truths
    if options.scans is None:
        truths = MeshTruths(take, model.topology)
    else:
        truths = ScanTruths(take, options.scans, options.scan_unit)
    calibration = _chosen_cameras(take.calibration, options.views)
    chosen = itertools.islice(_subsets(take, calibration, truths, options), 0, None, options.stride)
    ids: list[int] = []
    errors: list[F64] = []
    with (
        Reconstructor(
            model,
            calibration,
            options.engine,
            options.precision,
            options.threads,
            graphs=graphs,
            network=network,
        ) as reconstructor,
        closing(reconstruct_all(chosen, reconstructor)) as outcomes,
    ):
        for outcome in outcomes:
            tally.sets += 1
            if outcome.result is None:
                continue
            truth = truths.of(outcome.item.frame_id)
            _compare(truth, outcome.result, model.topology, tally)
            if truth.same:
                ids.append(outcome.item.frame_id)
                errors.append((outcome.result.vertices - truth.vertices) * MM)
    jitter = jitter_mm(ids, errors)
    tally.shakes += [] if jitter is None else [jitter]


def _compare(truth: TrueHead, mesh: MeshFrame, topology: Topology, tally: Tally) -> None:
    """Hold one mesh, and the mean head in its place, against the truth."""
    own = regions_of(topology.regions, topology.vertex_count)
    made = mesh.vertices.astype(np.float64)
    pose = mesh.world_from_head.astype(np.float64) if truth.world_from_head is None else truth.world_from_head
    regions = nearest_regions(truth.vertices, made, own) if truth.regions is None else truth.regions
    held = (truth.vertices, truth.triangles, regions)
    tally.ours.add(held, (made, topology.triangles, own), same=truth.same)
    placed = transform(pose, topology.template)
    tally.mean_head.add(held, (placed, topology.triangles, own), same=truth.same, both_ways=False)
    tally.views.append(len(mesh.views))
    tally.cameras.update(mesh.views)
    if truth.same:
        tally.openings.add(tally.gaps, truth.vertices, made)
    if truth.same and truth.weights is not None and mesh.weights is not None:
        tally.weights.append((truth.weights, mesh.weights))


def _chosen_cameras(calibration: Calibration, views: int) -> Calibration:
    if not views:
        return calibration
    if views > len(calibration.cameras):
        raise ConfigError(f"--views {views}: the take has {len(calibration.cameras)} cameras")
    chosen = choose_evenly(calibration.cameras, views)
    return replace(calibration, cameras=tuple(calibration.cameras[i] for i in chosen))


def _subsets(take: Take, calibration: Calibration, truths: Truths, options: EvaluateOptions) -> Iterator[FrameSet]:
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
        if not truths.has(frame_set.frame_id):
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
        kind: round(mean_head[name][key] / ours[name][key], 3) for kind, key in pairs.items() if ours[name].get(key)
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
    lines.append("mesh to scan: " + ", ".join(f"{n} {r['median_mm']:.2f}" for n, r in result["mesh_to_scan"].items()))
    for name, row in result["openings"].items():
        lines.append(f"{name} opens with slope {row['slope']:.2f}, correlation {row['correlation']:.2f}")
    if result["expressions"] is not None:
        lines.append(
            "weights: error {mean_error:.3f} of {mean_weight:.3f}, correlation {correlation:.2f}".format(
                **result["expressions"]
            )
        )
    jitter = result["jitter_mm"]
    lines.append(f"jitter {'-' if jitter is None else f'{jitter:.3f} mm'}")
    return "\n".join(lines)
