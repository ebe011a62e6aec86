"""A run in trouble, as heartbeats: for the tests of the console and for its picture."""

from collections.abc import Mapping
from typing import Any

from streamer.console import compose
from streamer.console.alarms import find
from streamer.console.state import ConsoleState
from streamer.restarts import ProcessState
from streamer.types import Health

NOW_NS = 1_790_000_000_000_000_000
CAMERAS = tuple(f"cam_{k}" for k in range(8))


def node(**changes: float) -> Health:
    """A node of eight cameras: cam_5 is unplugged, cam_3 slow and hot, cam_6 loses pictures on its link."""
    counters = {f"published.{name}": 21_600 for name in CAMERAS}
    counters |= {"dropped-by-camera.cam_6": 41, "dropped-in-queue.cam_6": 3, "dropped-by-camera.cam_0": 0}
    gauges = {f"fps.{name}": 30.0 for name in CAMERAS} | {"fps.cam_5": 0.0, "fps.cam_3": 22.1}
    gauges |= {f"skew_us.{name}": 3.0 * k - 9.0 for k, name in enumerate(CAMERAS)}
    gauges |= {f"temperature_c.{name}": 48.0 + k for k, name in enumerate(CAMERAS)} | {"temperature_c.cam_3": 78.0}
    for k, name in enumerate(CAMERAS):
        gauges |= {f"clock_locked.{name}": 1.0, f"clock_drift_ppm.{name}": 0.3 * k - 1.0}
    return Health("node", NOW_NS, "running", counters, gauges | changes)


def infer() -> Health:
    counters = {f"used.{name}": 20_900 for name in CAMERAS}
    counters |= {"unused.superseded": 3_120, "unused.late": 96, "unused.lost-on-bus": 8, "meshes": 20_900}
    counters |= {"sets.assembled": 21_480, "sets.complete": 21_300, "sets.partial": 180, "sets.dropped": 0}
    gauges = {"meshes_per_s": 29.4, "network_ms.p50": 21.3, "network_ms.p95": 27.9, "views.p50": 8.0}
    gauges |= {"latency_ms.p50": 48.1, "latency_ms.p95": 61.7, "latency_ms.p99": 88.0, "skew_us.p95": 12.0}
    return Health("infer", NOW_NS, "running", counters, gauges)


def processes() -> tuple[ProcessState, ...]:
    return (
        ProcessState("view", "pause", None, 2, 0.0, 3.2, "was killed by SIGKILL: nothing"),
        ProcessState("record", "ready", 4021, 0, 722.0),
        ProcessState("serve", "ready", 4022, 0, 722.0),
        ProcessState("infer", "ready", 4023, 1, 301.0),
        ProcessState("node", "ready", 4024, 0, 718.0),
    )


def status(**changes: Any) -> dict[str, Any]:
    plain = {
        "state": "recording", "take": "takes/atlas/s12_T004", "last": "takes/atlas/s12_T003", "show": "atlas",
        "slate": "s12", "next_take": 5, "notes": "angry, eyes open", "seconds": 83.4, "messages": 20_016, "markers": 2,
        "lost": {}, "preroll_s": 2.0, "disk_free_gb": 41.7, "alarm": "", "audio": "", "timecode": "10:32:11:07",
    }  # fmt: skip
    return plain | changes


def trouble() -> ConsoleState:
    """Everything at once."""
    heard = {"node": compose.Heard(node(), 0.4), "infer": compose.Heard(infer(), 0.2)}
    heard["record"] = compose.Heard(Health("record", NOW_NS, "running"), 0.7)
    heard["serve"] = compose.Heard(Health("serve", NOW_NS, "running"), 5.2)
    usage: Mapping[str, tuple[float | None, float | None]] = {
        "record": (9.0, 141.0), "serve": (4.0, 96.0), "infer": (121.0, 611.0), "node": (88.0, 402.0),
    }  # fmt: skip
    lately = {"dropped-by-camera.cam_6": 12, "published.cam_0": 300}
    used = {"meshes": 256, "unused.superseded": 44, "unused.late": 9, "sets.complete": 260, "sets.partial": 40}
    state = ConsoleState(
        time_ns=NOW_NS,
        up_s=722.0,
        processes=compose.process_views(processes(), heard, usage),
        cameras=compose.camera_views([(heard["node"], lately)]),
        flow=compose.flow_view(heard["infer"], used),
        take=compose.take_view(status(), 118.0, 1.0),
        fits={"done": 3, "running": 1, "queued": 2},
        events=(
            "10:19:02 record started: life 1, process 4021",
            "10:19:03 infer started: life 1, process 4023",
            "10:26:07 infer failed: was killed by SIGKILL; it is started again at once",
            "10:26:08 infer started: life 2, process 4023",
            "10:26:10 infer ready: after 2.1 s",
            "10:31:04 view failed: was killed by SIGKILL; it is started again in 0.1 s",
        ),
    )
    from dataclasses import replace

    return replace(state, alarms=find(state))
