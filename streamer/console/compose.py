"""Heartbeats, the supervisor and the recorder's status to one `ConsoleState`. Pure: times are arguments."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamer.console.state import CameraView, FlowView, ProcessView, TakeView
from streamer.restarts import ProcessState
from streamer.types import Health

LATELY_S = 10.0
"""How far back `lately` looks."""
LOSSES = ("dropped-by-camera", "dropped-in-queue", "damaged")


class Lately:
    """Counts of the last seconds, of counters that only grow; one that falls began anew."""

    def __init__(self, span_s: float = LATELY_S) -> None:
        """Have seen nothing."""
        self._span_s = span_s
        self._kept: deque[tuple[float, Mapping[str, int]]] = deque()

    def add(self, now_s: float, counters: Mapping[str, int]) -> dict[str, int]:
        """Note counters and return by how much each has grown over the span; those that did not are left out."""
        kept = self._kept
        if kept and any(counters.get(key, 0) < value for key, value in kept[-1][1].items()):
            kept.clear()
        kept.append((now_s, dict(counters)))
        while len(kept) > 2 and kept[1][0] <= now_s - self._span_s:
            kept.popleft()
        first = kept[0][1]
        return {key: n - first.get(key, 0) for key, n in counters.items() if n > first.get(key, 0)}


class Growth:
    """The rate at which something grows, MB/s, over the last seconds; between takes that of the last one."""

    def __init__(self, span_s: float = LATELY_S) -> None:
        """Have seen nothing."""
        self._span_s = span_s
        self._of = ""
        self._kept: deque[tuple[float, float]] = deque()
        self.mb_per_s: float | None = None
        """The rate; None: never measured."""

    def add(self, of: str, now_s: float, nbytes: float) -> None:
        """Note a size.

        Args:
            of: whose; empty: nothing grows now.
            now_s: monotonic s.
            nbytes: its size.
        """
        if of != self._of:
            self._of = of
            self._kept.clear()
        if not of:
            return
        self._kept.append((now_s, nbytes))
        while len(self._kept) > 2 and self._kept[1][0] <= now_s - self._span_s:
            self._kept.popleft()
        (first_s, first), (last_s, last) = self._kept[0], self._kept[-1]
        if last_s - first_s >= 2.0:
            self.mb_per_s = max(0.0, last - first) / 1e6 / (last_s - first_s)


@dataclass(frozen=True, slots=True)
class Heard:
    """The latest heartbeat of a process, and how long ago it came."""

    health: Health
    """It."""
    age_s: float
    """s."""


@dataclass(slots=True)
class Recent:
    """What the composition remembers from one moment to the next."""

    counters: dict[str, Lately] = field(default_factory=dict)
    """Process name to its counts of late."""
    growth: Growth = field(default_factory=Growth)
    """Of the take."""
    changed: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """Node and camera to pictures published, and since when it is so many, monotonic s."""

    def lately(self, name: str, heard: Heard, now_s: float) -> dict[str, int]:
        """Return by how much the counters of a process have grown of late."""
        return self.counters.setdefault(name, Lately()).add(now_s, heard.health.counters)

    def still_s(self, node: str, heard: Heard, now_s: float) -> dict[str, float]:
        """Return for how long the number of pictures of each camera of a node has not changed, s."""
        still = {}
        for key, count in heard.health.counters.items():
            if key.startswith("published."):
                before, since_s = self.changed.get((node, key), (-1, now_s))
                since_s = since_s if before == count else now_s
                self.changed[node, key] = count, since_s
                still[key.removeprefix("published.")] = now_s - since_s
        return still


def process_views(
    states: Sequence[ProcessState],
    heard: Mapping[str, Heard],
    usage: Mapping[str, tuple[float | None, float | None]],
) -> tuple[ProcessView, ...]:
    """Join what the supervisor, the processes and the system say.

    Args:
        states: of the supervisor.
        heard: process name to its latest heartbeat.
        usage: process name to CPU, % of a core, and resident memory, MB.
    """
    views = []
    for each in states:
        beat = heard.get(each.name)
        cpu, rss = usage.get(each.name, (None, None))
        views.append(
            ProcessView(
                name=each.name,
                state=each.state,
                health=beat.health.state if beat else "",
                message=beat.health.message if beat else "",
                age_s=beat.age_s if beat else None,
                pid=each.pid,
                up_s=each.up_s,
                restarts=each.restarts,
                retry_in_s=each.retry_in_s,
                why=each.why,
                cpu_percent=cpu,
                rss_mb=rss,
            )
        )
    known = {each.name for each in states}
    for name, beat in heard.items():
        if name not in known and name != "demo":
            views.append(
                ProcessView(name, "elsewhere", health=beat.health.state, message=beat.health.message, age_s=beat.age_s)
            )
    return tuple(views)


def camera_views(
    nodes: Sequence[tuple[Heard, Mapping[str, int]]], still_s: Mapping[str, float] | None = None
) -> tuple[CameraView, ...]:
    """Return every camera of every node.

    Args:
        nodes: the latest heartbeat of each, and by how much its counters grew of late.
        still_s: camera to the time for which its number of pictures has not changed, s; None: not known.
    """
    views = []
    for heard, lately in nodes:
        counters, gauges = heard.health.counters, heard.health.gauges
        for key in sorted(key for key in counters if key.startswith("published.")):
            name = key.removeprefix("published.")
            views.append(
                CameraView(
                    name,
                    fps=gauges.get(f"fps.{name}"),
                    skew_us=gauges.get(f"skew_us.{name}"),
                    temperature_c=gauges.get(f"temperature_c.{name}"),
                    clock=_clock(gauges, name),
                    published=counters[key],
                    still_s=(still_s or {}).get(name),
                    lost={why: n for why in LOSSES if (n := counters.get(f"{why}.{name}", 0))},
                    lost_lately={why: n for why in LOSSES if (n := lately.get(f"{why}.{name}", 0))},
                )
            )
    return tuple(sorted(views, key=lambda view: (len(view.name), view.name)))


def _clock(gauges: Mapping[str, float], name: str) -> str:
    locked = gauges.get(f"clock_locked.{name}")
    if locked is None:
        return ""
    drift = gauges.get(f"clock_drift_ppm.{name}")
    return ("locked" if locked else "free") + ("" if drift is None else f" {drift:+.1f} ppm")


def flow_view(heard: Heard | None, lately: Mapping[str, int]) -> FlowView:
    """Return how sets and meshes do.

    Args:
        heard: of inference; None: it was never heard.
        lately: by how much its counters grew of late.
    """
    if heard is None:
        return FlowView()
    counters, gauges = heard.health.counters, heard.health.gauges
    rate, network = gauges.get("meshes_per_s"), gauges.get("network_ms.p50")
    return FlowView(
        sets=_below(counters, "sets."),
        sets_lately=_below(lately, "sets."),
        meshes=counters.get("meshes", 0),
        meshes_lately=lately.get("meshes", 0),
        meshes_per_s=rate,
        latency_ms=_below(gauges, "latency_ms."),
        network_ms=_below(gauges, "network_ms."),
        skew_us=gauges.get("skew_us.p95"),
        views=gauges.get("views.p50"),
        load=None if rate is None or network is None else round(rate * network / 1000, 3),
        used=sum(_below(counters, "used.").values()),
        unused=_below(counters, "unused."),
        unused_lately=_below(lately, "unused."),
    )


def take_view(
    status: Mapping[str, Any] | None, mb_per_s: float | None, min_free_gb: float, silent_s: float | None = None
) -> TakeView:
    """Return the recorder's part.

    Args:
        status: its answer to `status`; None: it does not answer.
        mb_per_s: what a take grows by.
        min_free_gb: free space at which it stops.
        silent_s: since it last answered, s, if it does not; None: there is none to ask.
    """
    if status is None:
        return TakeView(silent_s=silent_s, disk_mb_per_s=mb_per_s)
    free_gb = float(status["disk_free_gb"])
    minutes = max(0.0, free_gb - min_free_gb) * 1e3 / mb_per_s / 60 if mb_per_s else None
    return TakeView(
        state=status["state"],
        take=status["take"],
        last=status["last"],
        show=status["show"],
        slate=status["slate"],
        number=status["next_take"],
        notes=status["notes"],
        seconds=status["seconds"],
        messages=status["messages"],
        markers=status["markers"],
        lost=status["lost"],
        timecode=status["timecode"],
        alarm=status["alarm"],
        disk_free_gb=free_gb,
        disk_mb_per_s=mb_per_s,
        minutes_left=minutes,
    )


def _below(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
