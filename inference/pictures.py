"""Frame set to network input: decode, window, average, all cameras at once in a small pool of threads."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from inference.framing import Resampler, Window, choose_evenly, fit_window, framed
from streamer.errors import CalibrationError
from streamer.pixels import decode_pixels
from streamer.types import F32, U8, Calibration, Camera, Frame, FrameSet

log = logging.getLogger(__name__)

REDUCTIONS = (8, 4, 2)
"""Factors that a JPEG decoder can take on the way at a fraction of the cost."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the network eats."""

    values: U8
    """(V, H, W, 3) RGB; slots without a picture are zero."""
    mask: F32
    """(V,) 1 where there is a picture, else 0."""
    views: tuple[str, ...]
    """Cameras whose pictures are in it, in slot order."""


class PictureMaker:
    """Turns the frame sets of one calibration into network input. Use from one thread; `close` it.

    Args:
        calibration: the rig. Its cameras take the slots in rig order; of more than `max_views`, evenly spread ones.
        width: width of the network's pictures, px.
        height: their height, px.
        max_views: slots of the network, V.
        workers: threads that decode; 0: as many as cores.
    """

    def __init__(self, calibration: Calibration, *, width: int, height: int, max_views: int, workers: int = 0) -> None:
        """Choose the cameras and their windows."""
        chosen = [calibration.cameras[i] for i in choose_evenly(calibration.cameras, max_views)]
        if len(chosen) < len(calibration.cameras):
            left_out = ", ".join(i for i in calibration.ids if i not in {camera.id for camera in chosen})
            log.warning("the model takes %d views of %d; left out: %s", max_views, len(calibration.cameras), left_out)
        self._full = {camera.id: camera for camera in chosen}
        self._windows = {c.id: fit_window(c.width, c.height, width, height) for c in chosen}
        self._slots = {camera.id: slot for slot, camera in enumerate(chosen)}
        self._shape = (max_views, height, width, 3)
        self._plans: dict[tuple[str, int, int], tuple[int, Resampler]] = {}
        self.cameras: tuple[Camera, ...] = tuple(framed(c, self._windows[c.id], width, height) for c in chosen)
        """The cameras of the network's pictures, in slot order; slots beyond them stay empty."""
        self._pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)), thread_name_prefix="decode")

    @property
    def views(self) -> frozenset[str]:
        """Ids of the cameras that have a slot."""
        return frozenset(self._slots)

    def __call__(self, frame_set: FrameSet) -> Pictures:
        """Make the input for a frame set; cameras without a slot are passed over.

        Raises:
            CalibrationError: a picture's size does not fit its calibration, or no picture has a slot; names the camera.
            WireError: a picture cannot be decoded; names the camera.
        """
        frames = sorted(
            (self._slots[name], frame) for name, frame in frame_set.members.items() if name in self._slots
        )  # fmt: skip
        if not frames:
            raise CalibrationError(
                f"set {frame_set.frame_id}: none of its cameras ({', '.join(frame_set.members)}) is in the calibration "
                f"in use ({', '.join(self._slots)})"
            )
        values = np.empty(self._shape, np.uint8)
        mask = np.zeros(self._shape[0], np.float32)
        plans = [self._plan(frame) for _, frame in frames]
        jobs = [
            self._pool.submit(_fill, frame, *plan, values[slot])
            for (slot, frame), plan in zip(frames, plans, strict=True)
        ]
        for slot in range(self._shape[0]):
            if all(slot != used for used, _ in frames):
                values[slot] = 0
        try:
            for job in jobs:
                job.result()
        finally:  # pictures may be views of the bus: no thread may still read them once this call is over
            for job in jobs:
                job.cancel() or job.exception()
        mask[[slot for slot, _ in frames]] = 1
        return Pictures(values, mask, tuple(frame.camera for _, frame in frames))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _plan(self, frame: Frame) -> tuple[int, Resampler]:
        """Return decoder reduction and resampler for a frame's size, made at its first sight."""
        key = (frame.camera, frame.width, frame.height)
        if key not in self._plans:
            factor = proxy_factor(self._full[frame.camera], frame.width, frame.height)
            window = self._windows[frame.camera]
            _, height, width, _ = self._shape
            reduce = 1
            if frame.encoding == "jpeg":
                reduce = decoder_reduction(frame.width, frame.height, window.height / factor / height)
            step = factor * reduce
            part = Window(window.left / step, window.top / step, window.width / step, window.height / step)
            small = (frame.width // reduce, frame.height // reduce)
            self._plans[key] = (reduce, Resampler(*small, part, width, height))
        return self._plans[key]


def _fill(frame: Frame, reduce: int, resampler: Resampler, out: U8) -> None:
    resampler.into(decode_pixels(frame, reduce), out)


def proxy_factor(camera: Camera, width: int, height: int) -> int:
    """Return how many times smaller than calibrated a picture is; nodes may publish proxies.

    Raises:
        CalibrationError: it is not the calibrated picture divided by a whole number; names the camera and both sizes.
    """
    factor = camera.width // width if width else 0
    if factor < 1 or (width * factor, height * factor) != (camera.width, camera.height):
        raise CalibrationError(
            f"camera '{camera.id}': its pictures are {width}x{height}, but it was calibrated at "
            f"{camera.width}x{camera.height}; calibrate at the size it delivers, or publish whole fractions of it"
        )
    return factor


def decoder_reduction(width: int, height: int, shrink: float) -> int:
    """Return the largest reduction that the decoder can take exactly without going below the network's size.

    Args:
        width: width of the coded picture, px.
        height: its height, px.
        shrink: how many times larger it is than the network's picture.
    """
    for reduce in REDUCTIONS:
        if reduce <= shrink and width % reduce == 0 and height % reduce == 0:
            return reduce
    return 1
