"""Watches the skew of a running rig by its time stamps. Pure."""

import statistics
from collections import deque
from collections.abc import Mapping, Sequence

PENDING = 16
"""Pulses that may be incomplete; an older one is judged by those that are there."""
REMEMBERED = 64
"""Pulses over which a camera's offset is the median."""
LEAST = 8
"""Pulses before anything is said."""


class SkewWatch:
    """Per camera, how much later its stamps are than the median camera's of the same pulse.

    Args:
        cameras: ids of the cameras of this host.
        alarm_us: offsets beyond it are an alarm, microseconds; 0: never.
    """

    def __init__(self, cameras: Sequence[str], alarm_us: int) -> None:
        """Nothing has been seen."""
        self._count, self._alarm_ns = len(cameras), alarm_us * 1000
        self._pulses: dict[int, dict[str, int]] = {}
        self._offsets: dict[str, deque[int]] = {camera: deque(maxlen=REMEMBERED) for camera in cameras}

    def push(self, camera: str, frame_id: int, exposure_ns: int) -> None:
        """Take the stamp of one picture."""
        pulse = self._pulses.setdefault(frame_id, {})
        pulse[camera] = exposure_ns
        if len(pulse) == self._count:
            self._judge(self._pulses.pop(frame_id))
        elif len(self._pulses) > PENDING:
            self._judge(self._pulses.pop(min(self._pulses)))

    def _judge(self, pulse: Mapping[str, int]) -> None:
        if len(pulse) > 1:
            middle = round(statistics.median(pulse.values()))
            for camera, time_ns in pulse.items():
                self._offsets[camera].append(time_ns - middle)

    @property
    def offsets_us(self) -> Mapping[str, float]:
        """Camera id to the median offset of its last pulses, microseconds; those with too few are left out."""
        told = {camera: list(offsets) for camera, offsets in self._offsets.items()}
        return {camera: statistics.median(each) / 1000 for camera, each in told.items() if len(each) >= LEAST}

    @property
    def alarm(self) -> str:
        """One line about the worst camera beyond the limit, empty if there is none."""
        offsets = self.offsets_us
        if not self._alarm_ns or not offsets:
            return ""
        camera = max(offsets, key=lambda each: abs(offsets[each]))
        if abs(offsets[camera]) * 1000 <= self._alarm_ns:
            return ""
        side = "later" if offsets[camera] > 0 else "earlier"
        return (
            f"camera '{camera}' exposes {abs(offsets[camera]) / 1000:.1f} ms {side} than the others by its stamps; "
            "look at its trigger and clock (mien sync check)"
        )
