"""The state in the format of Prometheus (`/metrics`), and as counters and gauges of a heartbeat."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from streamer.console.state import ConsoleState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Row = tuple[str, str, str, str, Mapping[str, float | None]]
"""Kind, name, help, label and label value to number; an empty label: the one number has none."""


def rows(state: ConsoleState) -> Iterator[Row]:
    """Yield every number of the state."""
    cameras, processes, flow, take = state.cameras, state.processes, state.flow, state.take
    yield "gauge", "ready", "whether all processes are ready", "", {"": float(state.ready)}
    yield "gauge", "uptime_seconds", "since the run began", "", {"": state.up_s}
    up = {p.name: float(p.state in ("ready", "elsewhere")) for p in processes}
    yield "gauge", "process_up", "1: ready", "process", up
    yield (
        "counter",
        "process_restarts",
        "failures after it was ready",
        "process",
        {p.name: p.restarts for p in processes},
    )
    yield "gauge", "process_cpu_percent", "of one core", "process", {p.name: p.cpu_percent for p in processes}
    yield "gauge", "process_memory_megabytes", "resident", "process", {p.name: p.rss_mb for p in processes}
    yield (
        "gauge",
        "process_silence_seconds",
        "since the last heartbeat",
        "process",
        {p.name: p.age_s for p in processes},
    )
    yield "gauge", "camera_fps", "pictures published per second", "camera", {c.name: c.fps for c in cameras}
    yield "gauge", "camera_skew_microseconds", "beside the median", "camera", {c.name: c.skew_us for c in cameras}
    yield "gauge", "camera_temperature_celsius", "its own", "camera", {c.name: c.temperature_c for c in cameras}
    yield "counter", "camera_published", "pictures published", "camera", {c.name: c.published for c in cameras}
    yield "counter", "camera_lost", "pictures lost", "camera", {c.name: sum(c.lost.values()) for c in cameras}
    yield "counter", "sets", "frame sets", "kind", flow.sets
    yield "counter", "meshes", "meshes published", "", {"": flow.meshes}
    yield "gauge", "meshes_per_second", "rate", "", {"": flow.meshes_per_s}
    yield "gauge", "latency_milliseconds", "exposure to mesh", "quantile", flow.latency_ms
    yield "gauge", "network_milliseconds", "time in the network", "quantile", flow.network_ms
    yield "gauge", "engine_load", "share of the time in which the engine works", "", {"": flow.load}
    yield "counter", "frames_used", "frames that a mesh was made of", "", {"": flow.used}
    yield "counter", "frames_unused", "frames that none was made of", "reason", flow.unused
    yield "gauge", "recording", "whether a take is being recorded", "", {"": float(take.state == "recording")}
    yield "gauge", "take_seconds", "length of the take", "", {"": take.seconds}
    yield "gauge", "take_lost", "messages that the take lacks", "reason", take.lost
    yield "gauge", "disk_free_gigabytes", "where takes go", "", {"": take.disk_free_gb}
    yield "gauge", "disk_megabytes_per_second", "growth of the take", "", {"": take.disk_mb_per_s}
    yield "gauge", "disk_minutes_left", "at that rate", "", {"": take.minutes_left}
    yield "gauge", "fits", "jobs of the fit queue", "state", state.fits
    levels = {level: float(sum(each.level == level for each in state.alarms)) for level in ("alarm", "warning")}
    yield "gauge", "alarms", "what is wrong now", "level", levels


class _Collector:
    def __init__(self, latest: Callable[[], ConsoleState]) -> None:
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        for kind, name, text, label, values in rows(self._latest()):
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            metric = family(f"mien_{name}", text, labels=[label] if label else [])
            for key, value in values.items():
                if value is not None:
                    metric.add_metric([key] if label else [], value)
            yield metric


def exposition(latest: Callable[[], ConsoleState]) -> bytes:
    """Return the metrics as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(latest))
    return generate_latest(registry)


def for_the_bus(state: ConsoleState) -> tuple[dict[str, int], dict[str, float]]:
    """Return the numbers as counters and gauges of a heartbeat, with dotted names."""
    counters: dict[str, int] = {}
    gauges: dict[str, float] = {}
    for kind, name, _text, _label, values in rows(state):
        for key, value in values.items():
            dotted = f"{name}.{key}" if key else name
            if value is not None and kind == "counter":
                counters[dotted] = int(value)
            elif value is not None:
                gauges[dotted] = float(value)
    return counters, gauges
