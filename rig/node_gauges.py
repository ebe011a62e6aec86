"""What a node says of itself and its cameras in each heartbeat."""

from collections.abc import Mapping

from rig.driver import CameraDriver, StatusSource
from rig.sync.alarm import SkewWatch


class Rates:
    """Pictures per second, from one heartbeat to the next.

    Args:
        ring_slots: pictures that the ring of each camera holds.
    """

    def __init__(self, ring_slots: int) -> None:
        """Nothing was measured."""
        self._slots = ring_slots
        self._before: tuple[float, dict[str, int]] | None = None

    def gauges(self, published: Mapping[str, int], now_s: float) -> dict[str, float]:
        """Return `fps`, `fps.<camera>`, and `ring_ms`: how long a picture stays in the ring for a late reader.

        Args:
            published: camera id to pictures so far.
            now_s: any clock that does not go back, s.
        """
        before, self._before = self._before, (now_s, dict(published))
        if before is None or now_s <= before[0]:
            return {}
        rates = {c: (count - before[1].get(c, 0)) / (now_s - before[0]) for c, count in published.items()}
        gauges = {f"fps.{camera}": rate for camera, rate in rates.items()}
        gauges["fps"] = sum(rates.values()) / max(len(rates), 1)
        fastest = max(rates.values(), default=0.0)
        if fastest > 0:
            gauges["ring_ms"] = 1000 * self._slots / fastest
        return gauges


def camera_gauges(driver: CameraDriver, watch: SkewWatch) -> dict[str, float]:
    """Return skew, temperature and clock of each camera, as far as they are known."""
    offsets = watch.offsets_us
    gauges = {f"skew_us.{camera}": offset for camera, offset in offsets.items()}
    if offsets:
        gauges["skew_us"] = max(offsets.values()) - min(offsets.values())
    if not isinstance(driver, StatusSource):
        return gauges
    for camera, status in driver.status.items():
        if status.temperature_c is not None:
            gauges[f"temperature_c.{camera}"] = status.temperature_c
        if status.clock is not None:
            gauges[f"clock_locked.{camera}"] = float(status.clock.locked)
            gauges[f"clock_drift_ppm.{camera}"] = status.clock.drift_ppm
            gauges[f"clock_residual_us.{camera}"] = status.clock.residual_us
    return gauges


def camera_trouble(driver: CameraDriver) -> str:
    """Return one line about cameras that are away, or whose PTP clock is not the shared one."""
    if not isinstance(driver, StatusSource):
        return ""
    status = driver.status
    lines = [each.trouble for each in status.values() if each.trouble]
    free = [
        c
        for c, each in status.items()
        if each.clock is not None and each.clock.source == "ptp" and not each.clock.locked
    ]
    if free:
        lines.append(f"the clocks of {', '.join(free)} are not the shared one; look at the PTP grandmaster")
    return "; ".join(lines)
