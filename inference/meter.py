"""Momentary figures of the inference process, over the last few hundred meshes. Safe to use from several threads."""

import threading
from collections import deque
from collections.abc import Mapping

import numpy as np

WINDOW = 300
"""Meshes that the figures look back on: ten seconds at 30 per second."""
PERCENTILES: Mapping[str, tuple[int, ...]] = {
    "latency_ms": (50, 95, 99),
    "overhead_ms": (50, 95),
    "queue_ms": (50, 95),
    "network_ms": (50, 95),
    "skew_us": (95,),
}


class Meter:
    """Collects figures mesh by mesh."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._values: dict[str, deque[float]] = {}
        self._times_ns: deque[int] = deque(maxlen=WINDOW)

    def add(self, time_ns: int, figures: Mapping[str, float]) -> None:
        """Note a mesh.

        Args:
            time_ns: monotonic time of its publication, ns.
            figures: name with unit to value.
        """
        with self._lock:
            self._times_ns.append(time_ns)
            for name, value in figures.items():
                self._values.setdefault(name, deque(maxlen=WINDOW)).append(value)

    def gauges(self, now_ns: int) -> dict[str, float]:
        """Return the gauges: percentiles where `PERCENTILES` names them, medians of the rest, and `meshes_per_s`.

        Args:
            now_ns: monotonic ns; the rate falls while nothing comes.
        """
        with self._lock:
            values = {name: np.array(window) for name, window in self._values.items()}
            times = list(self._times_ns)
        gauges: dict[str, float] = {}
        for name, window in values.items():
            for k in PERCENTILES.get(name, (50,)):
                gauges[f"{name}.p{k}"] = round(float(np.percentile(window, k)), 3)
        if len(times) > 1:
            # The longer of the last interval and the present silence counts, so that a stop shows at once.
            span_ns = max(times[-1] - times[0], round((now_ns - times[0]) * (len(times) - 1) / len(times)))
            gauges["meshes_per_s"] = round((len(times) - 1) * 1e9 / max(span_ns, 1), 3)
        return gauges
