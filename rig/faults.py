"""What the simulated cameras do to the pictures of a pulse: counters, clocks, and the faults asked for. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rig.clock import NS, CameraClock, Pulse
from rig.config import FaultConfig
from rig.driver import RawFrame
from streamer.errors import DriverError
from streamer.types import U8, Encoding


@dataclass(frozen=True, slots=True)
class Delivery:
    """A picture on its way from a camera to the host."""

    due_ns: int
    """Earliest arrival, CLOCK_REALTIME, ns."""
    frame: RawFrame
    """The picture."""


def check_faults(faults: FaultConfig, cameras: int) -> None:
    """Refuse faults that a rig of so many cameras cannot have.

    Raises:
        DriverError: `stall_camera` names no camera.
    """
    if faults.stall_camera >= cameras:
        raise DriverError(
            f"rig.simulated.faults.stall_camera = {faults.stall_camera}: the rig has cameras 0 to {cameras - 1}"
        )


class SimulatedCameras:
    """The cameras between the rendered pictures and the host.

    A fault is what a real rig does: a lost picture leaves a gap in the counter of its camera, a stalled camera is
    silent while its counter goes on (one that was unplugged begins anew), a drifting clock stamps truthful exposures
    wrongly, a skewed camera exposes later (and sees something else), a slow link keeps the order of each camera. Losses
    and delays are drawn per camera from `seed`, one after the other, so a run can be repeated and a change of one fault
    does not reshuffle another.

    Args:
        cameras: ids in rig order.
        faults: what goes wrong.
        seed: chooses which pictures are lost and how late the others are.
        start_ns: the clocks agree at this time, and `stall_after_s` counts from it.
    """

    def __init__(self, cameras: Sequence[str], faults: FaultConfig, seed: int, start_ns: int) -> None:
        """Set all counters to 0."""
        self._cameras = tuple(cameras)
        self._faults = faults
        self._start_ns = start_ns
        self._exposed = 0
        self._losses = [np.random.default_rng([seed, index, 0]) for index in range(len(cameras))]
        self._delays = [np.random.default_rng([seed, index, 1]) for index in range(len(cameras))]
        self._last_due = [0] * len(cameras)
        self._first = [0] * len(cameras)
        drifting = CameraClock(start_ns, faults.drift_ppm)
        self._clocks = [drifting if index == 0 else CameraClock(start_ns) for index in range(len(cameras))]
        self.counters: Counter[str] = Counter()
        """`injected-drops.<camera>` and `injected-stalls.<camera>`: pictures withheld on purpose."""

    @property
    def skew_ns(self) -> int:
        """How much later than the others the last camera exposes, ns."""
        return self._faults.skew_us * 1000

    def expose(self, pulse: Pulse, pictures: Mapping[str, U8], late: Mapping[str, U8]) -> list[Delivery]:
        """Expose all cameras once.

        Args:
            pulse: the pulse.
            pictures: camera id to its picture at the pulse, (H, W) or (H, W, 3) uint8.
            late: pictures of the instant `skew_ns` later; used for the last camera.

        Returns:
            What arrives at the host, in rig order; lost pictures are missing.
        """
        counter = self._exposed
        self._exposed += 1
        last = len(self._cameras) - 1
        deliveries = []
        for index, camera in enumerate(self._cameras):
            exposure_ns = pulse.exposure_ns + (self.skew_ns if index == last else 0)
            delay_ns = self._delay_ns(index)
            if self._is_lost(index, exposure_ns, counter):
                continue
            due_ns = max(exposure_ns + delay_ns, self._last_due[index])
            self._last_due[index] = due_ns
            pixels = (late if index == last else pictures)[camera]
            height, width = pixels.shape[:2]
            stamp = self._clocks[index].reading(pulse.exposure_ns if self._faults.skew_hidden else exposure_ns)
            encoding: Encoding = "mono8" if pixels.ndim == 2 else "rgb8"
            frame = RawFrame(camera, counter - self._first[index], stamp, "host", pixels, encoding, width, height)
            deliveries.append(Delivery(due_ns, frame))
        return deliveries

    def _delay_ns(self, index: int) -> int:
        if not self._faults.latency_ms:
            return 0
        return round(self._delays[index].uniform(0.0, 2.0 * self._faults.latency_ms) * 1e6)

    def _is_lost(self, index: int, exposure_ns: int, counter: int) -> bool:
        faults = self._faults
        # Drawn for every picture, stalled or not, so that a stall does not change which later pictures are lost.
        drop = faults.drop_probability > 0 and self._losses[index].random() < faults.drop_probability
        since_stall_ns = exposure_ns - self._start_ns - round(faults.stall_after_s * NS)
        if index == faults.stall_camera and 0 <= since_stall_ns < round(faults.stall_for_s * NS):
            self.counters[f"injected-stalls.{self._cameras[index]}"] += 1
            if faults.stall_unplugged:
                self._first[index] = counter + 1
            return True
        if drop:
            self.counters[f"injected-drops.{self._cameras[index]}"] += 1
        return drop
