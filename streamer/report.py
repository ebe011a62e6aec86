"""What a run did, from its take and the last Health of its processes: rates, latencies, errors, and where frames went.

Pure but for `write_report`. Frames are counted by two processes that know nothing of each other's numbers: the node
counts what it published, inference counts what it used and why it did not use the rest. `require_closed` holds them
against each other.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ProcessError
from streamer.types import F64, Health, MeshFrame

I64 = NDArray[np.int64]

BEFORE_JOIN = "before-join"
RESTART = "lost-at-restart"
PAIR_WINDOW = 512
"""Meshes and truths that wait for their partner; older ones have none (frames that were never used)."""
ERROR_STEP_M = 2e-6
ERROR_BINS = 100_000
"""Errors are kept to 2 micrometres up to 0.2 m, in constant memory however long the run."""
NETWORK_STAGE = "network"
"""The stage that is the network itself; `inference.node` books the rest as prepare, wait and publish."""


@dataclass(slots=True)
class Tally:
    """Collects the messages of one run, in log order."""

    latency_ms: list[float] = field(default_factory=list)
    """Exposure to publication, per mesh."""
    overhead_ms: list[float] = field(default_factory=list)
    """Arrival of the set to publication without the network's own stages, per mesh."""
    publish_ns: list[int] = field(default_factory=list)
    """Publication times."""
    views: Counter[int] = field(default_factory=Counter)
    """Number of views to number of meshes made from that many."""
    errors: I64 = field(default_factory=lambda: np.zeros(ERROR_BINS, np.int64))
    """Histogram of distances of vertices from the truth, in steps of `ERROR_STEP_M`; the last bin takes the rest."""
    compared: int = 0
    """Meshes whose truth was there and had the same topology."""
    health: dict[str, list[Health]] = field(default_factory=dict)
    """Process name to the last beat of each of its lives."""
    _meshes: dict[int, MeshFrame] = field(default_factory=dict)
    _truths: dict[int, MeshFrame] = field(default_factory=dict)

    def add(self, channel: str, message: object) -> None:
        """Take one message; what is neither mesh, truth nor health is ignored."""
        if isinstance(message, Health):
            add_beat(self.health.setdefault(message.process, []), message)
        elif isinstance(message, MeshFrame) and channel == "mesh":
            self._add_mesh(message)
            self._compare(message.frame_id, self._meshes, message, self._truths)
        elif isinstance(message, MeshFrame) and channel == "truth":
            self._compare(message.frame_id, self._truths, message, self._meshes)

    def _add_mesh(self, mesh: MeshFrame) -> None:
        self.views[len(mesh.views)] += 1
        self.publish_ns.append(mesh.publish_time_ns)
        self.latency_ms.append((mesh.publish_time_ns - mesh.exposure_time_ns) / 1e6)
        self.overhead_ms.append(sum(ns for name, ns in mesh.stages_ns.items() if name != NETWORK_STAGE) / 1e6)

    def _compare(
        self, frame_id: int, own: dict[int, MeshFrame], message: MeshFrame, others: dict[int, MeshFrame]
    ) -> None:
        other = others.pop(frame_id, None)
        if other is None:
            own[frame_id] = message
            if len(own) > PAIR_WINDOW:
                del own[next(iter(own))]
        elif other.topology_id == message.topology_id:
            distance = np.linalg.norm(other.vertices - message.vertices, axis=1)
            bins = np.minimum(distance / ERROR_STEP_M, ERROR_BINS - 1).astype(np.int64)
            self.errors += np.bincount(bins, minlength=ERROR_BINS)
            self.compared += 1


def add_beat(lives: list[Health], beat: Health) -> None:
    """Keep the last beat of each life of a process.

    Lives are told apart by the counter `life`; without one (older takes, other programs) a total of frames published or
    used that falls means that the process was started again. Not by times: clocks jump.

    Args:
        lives: extended or updated in place; in the order in which the beats were sent.
        beat: the next one.
    """
    if lives and _same_life(lives[-1].counters, beat.counters):
        lives[-1] = beat
    else:
        lives.append(beat)


def _same_life(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    if "life" in before and "life" in after:
        return before["life"] == after["life"]
    return all(after.get(key, 0) >= n for key, n in before.items() if key.startswith(("used.", "published.")))


def frames_account(node: Sequence[Health], infer: Sequence[Health]) -> dict[str, Any]:
    """Say where every published frame went.

    A process that was restarted counts from 0 again and books all that came earlier as `before-join`; what an earlier
    life had already booked is taken out of that, and the rest is `lost-at-restart`.

    Args:
        node: the last beat of each life of the camera node, as `add_beat` keeps them.
        infer: those of the inference process.

    Returns:
        `published`, `used` and `unused` {reason: count}.
    """
    used = 0
    unused: Counter[str] = Counter()
    for life in (each.counters for each in infer):
        booked = used + unused.total()
        counters = Counter({k[len("unused.") :]: v for k, v in life.items() if k.startswith("unused.")})
        if booked:
            before = counters.pop(BEFORE_JOIN, 0)
            counters[RESTART] = 0 if len(node) > 1 else before - booked
        used += _total(life, "used.")
        unused.update(counters)
    published = sum(_total(life.counters, "published.") for life in node)
    published += sum(life.counters.get("unannounced", 0) for life in infer)
    if len(node) > 1 and len(infer) > 1:  # which life of the node a join belongs to is not told: what is left was lost
        unused[RESTART] = max(0, published - used - unused.total())
    return {"published": published, "used": used, "unused": {k: n for k, n in sorted(unused.items()) if n}}


def require_closed(frames: Mapping[str, Any]) -> None:
    """Check that no frame is unaccounted for.

    Raises:
        ProcessError: published differs from used plus all unused.
    """
    booked = frames["used"] + sum(frames["unused"].values())
    if booked != frames["published"]:
        raise ProcessError(
            f"frames do not add up: {frames['published']} published, {booked} accounted for "
            f"({frames['used']} used, unused {dict(frames['unused'])}); a process was cut off before its last count"
        )


def build_report(tally: Tally, *, engine: str, model: str, restarts: Mapping[str, int]) -> dict[str, Any]:
    """Make the report; the keys are promised to tools outside.

    Args:
        tally: everything that was recorded.
        engine: name of the inference engine.
        model: name of the model.
        restarts: process name to number of restarts.

    Returns:
        A JSON-able object; a figure that nothing was measured for is None.
    """
    span_s = (max(tally.publish_ns) - min(tally.publish_ns)) / 1e9 if len(tally.publish_ns) > 1 else 0.0
    sets = Counter[str]()
    for life in tally.health.get("infer", []):
        sets.update({k[len("sets.") :]: n for k, n in life.counters.items() if k.startswith("sets.")})
    return {
        "meshes": len(tally.publish_ns),
        "meshes_per_s": round((len(tally.publish_ns) - 1) / span_s, 3) if span_s else None,
        "latency_ms": percentiles(tally.latency_ms, (50, 95, 99)),
        "overhead_ms": percentiles(tally.overhead_ms, (50, 95)),
        "sets": {key: sets[key] for key in ("assembled", "complete", "partial", "dropped")},
        "frames": frames_account(tally.health.get("node", []), tally.health.get("infer", [])),
        "truth_error_mm": {
            "median": _error_mm(tally.errors, 0.5),
            "p90": _error_mm(tally.errors, 0.9),
            "meshes": tally.compared,
        },
        "views": tally.views.most_common(1)[0][0] if tally.views else 0,
        "engine": engine,
        "model": model,
        "restarts": dict(restarts),
    }


def percentiles(values: Iterable[float], which: Sequence[int]) -> dict[str, float | None]:
    """Return `p<k>` for each k, None where there are no values."""
    array = np.fromiter(values, np.float64)
    return {f"p{k}": _percentile(array, k) for k in which}


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write atomically: the file is whole or absent."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def summary(report: Mapping[str, Any]) -> str:
    """Return the report for people."""
    frames, latency, error = report["frames"], report["latency_ms"], report["truth_error_mm"]
    unused = ", ".join(f"{count} {reason}" for reason, count in frames["unused"].items()) or "none"
    return "\n".join(
        (
            f"meshes     {report['meshes']} at {_show(report['meshes_per_s'])} per second from {report['views']} views "
            f"({report['model']} on {report['engine']})",
            f"latency    exposure to mesh p50 {_show(latency['p50'])}, p95 {_show(latency['p95'])}, "
            f"p99 {_show(latency['p99'])} ms; of it outside the network p50 {_show(report['overhead_ms']['p50'])} ms",
            "sets       " + ", ".join(f"{count} {kind}" for kind, count in report["sets"].items()),
            f"frames     {frames['published']} published, {frames['used']} used; not used: {unused}",
            f"error      vertex to vertex, median {_show(error['median'])}, p90 {_show(error['p90'])} mm "
            f"over {error['meshes']} meshes",
        )
    )


def _total(counters: Mapping[str, int], prefix: str) -> int:
    return sum(count for key, count in counters.items() if key.startswith(prefix))


def _percentile(values: F64, k: int) -> float | None:
    return round(float(np.percentile(values, k)), 4) if values.size else None


def _error_mm(histogram: I64, quantile: float) -> float | None:
    """Middle of the bin in which the quantile lies, mm."""
    cumulative = np.cumsum(histogram)
    if cumulative[-1] == 0:
        return None
    return round((int(np.searchsorted(cumulative, quantile * cumulative[-1])) + 0.5) * ERROR_STEP_M * 1e3, 3)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
