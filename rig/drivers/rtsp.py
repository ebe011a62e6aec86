"""Network cameras over RTSP, and video files as if they were cameras, through PyAV."""

import time
from typing import Any, ClassVar, Self

import av
import numpy as np

from rig.config import RigConfig
from rig.driver import TriggerMode
from rig.drivers.pool import CameraPool, DeviceInfo, Shot
from streamer.errors import DriverError

OPEN_S, READ_S = 10.0, 5.0
"""How long a server may take to answer, and to deliver."""


class NetworkCamera:
    """One stream. Its presentation times are the ticks: they count from any origin, so arrivals give the time.

    Args:
        camera: its id.
        address: rtsp:// address or file.
        options: of FFmpeg's demuxer.
    """

    temperature_c: float | None = None

    def __init__(self, camera: str, address: str, options: dict[str, str]) -> None:
        """Remember; nothing is opened."""
        self._camera, self._address, self._options = camera, address, options
        self._container: Any = None
        self._pictures: Any = None
        self._counter = 0
        self._start_ns: int | None = None

    @property
    def _is_file(self) -> bool:
        return "://" not in self._address

    def open(self) -> DeviceInfo:
        """Connect and read what the stream is."""
        options = {} if self._is_file else self._options
        try:
            self._container = av.open(self._address, options=options, timeout=(OPEN_S, READ_S))
            stream = self._container.streams.video[0]
        except (av.FFmpegError, IndexError) as error:
            self.close()
            raise DriverError(
                f"camera '{self._camera}': {self._shown} gives no video ({_reason(error)}); look at address and network"
            ) from error
        return DeviceInfo(self._shown, stream.width, stream.height, str(stream.codec_context.name))

    @property
    def _shown(self) -> str:
        """The address without user and password."""
        scheme, mark, rest = self._address.rpartition("://")
        return f"{scheme}{mark}{rest.rpartition('@')[2]}"

    def start(self, trigger: TriggerMode) -> None:
        """Begin to decode."""
        self._pictures = self._container.decode(video=0)
        self._counter, self._start_ns = 0, None

    def read(self, timeout_s: float) -> Shot | None:
        """Return the next picture; a file is paced by its own times."""
        try:
            picture = next(self._pictures)
        except StopIteration:
            raise DriverError(f"camera '{self._camera}': {self._shown} has ended") from None
        except av.FFmpegError as error:
            raise DriverError(f"camera '{self._camera}': {self._shown} was lost ({_reason(error)})") from error
        ticks = round(picture.pts * picture.time_base * 1_000_000_000) if picture.pts is not None else time.time_ns()
        if self._is_file:
            now_ns = time.monotonic_ns()
            self._start_ns = now_ns - ticks if self._start_ns is None else self._start_ns
            time.sleep(max(0, self._start_ns + ticks - now_ns) / 1e9)
        pixels = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
        shot = Shot(self._counter, ticks, pixels, "rgb8", pixels.shape[1], pixels.shape[0])
        self._counter += 1
        return shot

    def close(self) -> None:
        """Disconnect."""
        container, self._container, self._pictures = self._container, None, None
        if container is not None:
            container.close()


def _reason(error: Exception) -> str:
    """Return what went wrong; the whole message would repeat the address with its password."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else "no picture stream"


class RtspDriver(CameraPool):
    """The network cameras of `[rig.rtsp]`."""

    triggers: ClassVar[tuple[TriggerMode, ...]] = ("free-run",)

    @classmethod
    def from_config(cls, rig: RigConfig) -> Self:
        """Build the driver.

        Raises:
            DriverError: no camera is named.
        """
        if not rig.rtsp.cameras:
            raise DriverError('rig.rtsp.cameras is empty; name the cameras: { cam_0 = "rtsp://10.0.0.7/stream" }')
        options = dict(rig.rtsp.options)
        return cls("rtsp", rig, {c: NetworkCamera(c, address, options) for c, address in rig.rtsp.cameras.items()})
