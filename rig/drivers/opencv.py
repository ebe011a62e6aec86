"""UVC webcams and capture cards: V4L2 gives the buffers, OpenCV the pixels."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import cv2
import numpy as np

from rig.config import OpencvConfig, RigConfig
from rig.driver import TriggerMode
from rig.drivers.pool import CameraPool, DeviceInfo, Shot
from rig.drivers.v4l2 import Filled, Format, Kernel, VideoDevice
from streamer.errors import DriverError
from streamer.types import U8, Encoding

FOLDERS = (Path("/dev/v4l/by-id"), Path("/dev/v4l/by-path"))
"""Names that stay with a device and with a socket; /dev/video<N> is dealt out anew at each start."""
FOURCC = {"mjpeg": "MJPG", "yuyv": "YUYV", "grey": "GREY"}
PICTURES = "-video-index0"
"""End of the names of nodes that deliver pictures; the others of a UVC camera deliver metadata."""


class Webcam:
    """One camera on V4L2.

    Args:
        name: its name below /dev/v4l, which stands for its serial number.
        device: the node.
        config: size and format.
        fps: rate asked for.
    """

    temperature_c: float | None = None

    def __init__(self, name: str, device: VideoDevice, config: OpencvConfig, fps: float) -> None:
        """Remember; nothing is opened."""
        self._name, self._device, self._config, self._fps = name, device, config, fps
        self._format: Format | None = None

    def open(self) -> DeviceInfo:
        """Open the node and set the format."""
        card = self._device.open()
        config = self._config
        self._format = self._device.set_format(config.width_px, config.height_px, FOURCC[config.format], self._fps)
        return DeviceInfo(self._name, config.width_px, config.height_px, card, clock="ntp")

    def start(self, trigger: TriggerMode) -> None:
        """Begin to stream."""
        self._device.start()

    def read(self, timeout_s: float) -> Shot | None:
        """Return the next picture."""
        filled = self._device.read(timeout_s)
        if filled is None or self._format is None:
            return None
        encoding, pixels = _picture(filled, self._format, self._device.path)
        return Shot(filled.sequence, filled.time_ns, pixels, encoding, self._format.width, self._format.height)

    def close(self) -> None:
        """Let go of the node."""
        self._device.close()


def _picture(filled: Filled, form: Format, path: str) -> tuple[Encoding, U8]:
    if form.fourcc == "MJPG":
        return "jpeg", filled.data
    wide = form.width * (2 if form.fourcc == "YUYV" else 1)
    stride = max(form.stride, wide)
    if filled.data.size < stride * form.height:
        raise DriverError(f"{path}: a picture of {filled.data.size} bytes instead of {stride * form.height}")
    rows = filled.data[: stride * form.height].reshape(form.height, stride)[:, :wide]
    if form.fourcc == "GREY":
        return "mono8", np.ascontiguousarray(rows)
    return "rgb8", np.asarray(cv2.cvtColor(rows.reshape(form.height, form.width, 2), cv2.COLOR_YUV2RGB_YUYV), np.uint8)


class OpencvDriver(CameraPool):
    """The webcams of this host.

    Args:
        rig: the configuration.
        paths: camera id to its name and the path of its node.
        kernel: the system calls.
    """

    triggers: ClassVar[tuple[TriggerMode, ...]] = ("free-run",)

    def __init__(self, rig: RigConfig, paths: Mapping[str, tuple[str, Path]], kernel: Kernel | None = None) -> None:
        """Remember; nothing is opened."""
        devices = {
            camera: Webcam(name, VideoDevice(str(path), kernel), rig.opencv, rig.fps)
            for camera, (name, path) in paths.items()
        }
        super().__init__("opencv", rig, devices)

    @classmethod
    def from_config(cls, rig: RigConfig) -> Self:
        """Build the driver of `[rig.opencv]`.

        Raises:
            DriverError: a camera is named by an index.
        """
        return cls(rig, find_nodes(rig.opencv.cameras))


def find_nodes(cameras: Mapping[str, str]) -> dict[str, tuple[str, Path]]:
    """Return camera id to its lasting name and the path of its node.

    Args:
        cameras: `rig.opencv.cameras`; empty: all that stand in by-id.

    Raises:
        DriverError: a camera is named by an index or by a node, which change from start to start.
    """
    if not cameras:
        found = sorted(FOLDERS[0].glob(f"*{PICTURES}")) if FOLDERS[0].is_dir() else []
        return {f"cam_{k}": (path.name.removesuffix(PICTURES), path) for k, path in enumerate(found)}
    return {camera: (name, _node(camera, name)) for camera, name in cameras.items()}


def _node(camera: str, name: str) -> Path:
    if name.isdigit() or name.startswith("/dev/video") or "/" in name or not name:
        raise DriverError(
            f"rig.opencv.cameras.{camera} = {name!r}: indices are dealt out anew at each start; name the camera as in "
            f"{FOLDERS[0]} or {FOLDERS[1]} (ls there)"
        )
    for folder in FOLDERS:
        for candidate in (folder / name, folder / f"{name}{PICTURES}"):
            if candidate.exists():
                return candidate
    return FOLDERS[0] / name
