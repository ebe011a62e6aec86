"""Machine-vision cameras through GenTL: harvesters with the producer of the camera's maker. The only file that does."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import cv2
import numpy as np

from rig.clock import Pacer, Pulses
from rig.config import RigConfig
from rig.driver import TriggerMode
from rig.drivers.genicam_nodes import (
    Chunks,
    enable_chunks,
    enable_ptp,
    node,
    ns_per_tick,
    ptp_status,
    set_features,
    set_trigger,
    value,
)
from rig.drivers.pool import CameraPool, DeviceInfo, Shot
from streamer.errors import DriverError, MissingExtra
from streamer.types import U8, Encoding

try:
    from harvesters.core import Harvester, NotAvailableException, NotImplementedException, TimeoutException
except ModuleNotFoundError as missing:
    raise MissingExtra(missing.name or "harvesters", "genicam") from missing

PATHS = "GENICAM_GENTL64_PATH"
"""Folders of producers, as their installers set them."""
BAYER = {
    "BayerRG8": cv2.COLOR_BayerRG2BGR, "BayerBG8": cv2.COLOR_BayerBG2BGR,
    "BayerGR8": cv2.COLOR_BayerGR2BGR, "BayerGB8": cv2.COLOR_BayerGB2BGR,
}  # fmt: skip
"""OpenCV names a pattern by its second row and column, so its BGR is our RGB."""
KEEP_BUFFERS = 8


class Producers:
    """The producers of a driver, loaded once and shared by its cameras.

    Args:
        files: `rig.genicam.producers`; empty: all that the environment names.
    """

    def __init__(self, files: tuple[str, ...]) -> None:
        """Remember; nothing is loaded."""
        self._files = files
        self._harvester: Any = None

    def open(self) -> Any:
        """Load the producers and look for cameras; return the harvester.

        Raises:
            DriverError: no producer, or one that cannot be loaded.
        """
        if self._harvester is not None:
            return self._harvester
        files = [Path(file) for file in self._files] or _installed()
        if not files:
            raise DriverError(
                f"no GenTL producer: install the SDK of the cameras' maker (it sets {PATHS}), or name its .cti in "
                "rig.genicam.producers"
            )
        harvester = Harvester()
        for file in files:
            try:
                harvester.add_file(str(file), check_existence=True, check_validity=True)
            except OSError as error:
                harvester.reset()
                raise DriverError(
                    f"{file} is no GenTL producer that can be loaded; correct rig.genicam.producers"
                ) from error
        harvester.update()
        self._harvester = harvester
        return harvester

    def serials(self) -> list[str]:
        """Return the serial numbers of all cameras that are there, sorted."""
        return sorted(_serial(info) for info in self.open().device_info_list)

    def look_again(self) -> None:
        """Look for cameras that came or went."""
        if self._harvester is not None:
            self._harvester.update()

    def close(self) -> None:
        """Unload the producers."""
        if self._harvester is not None:
            self._harvester.reset()
            self._harvester = None


def _installed() -> list[Path]:
    folders = [Path(part) for part in os.environ.get(PATHS, "").split(os.pathsep) if part]
    return sorted(file for folder in folders if folder.is_dir() for file in folder.glob("*.cti"))


def _serial(info: Any) -> str:
    try:
        return str(info.serial_number)
    except (NotAvailableException, NotImplementedException):
        return str(info.id_)


class GenicamCamera:
    """One camera.

    Args:
        camera: its id.
        serial: its serial number.
        producers: shared by the cameras of the driver.
        rig: features, trigger line, rate and source of time.
    """

    def __init__(self, camera: str, serial: str, producers: Producers, rig: RigConfig) -> None:
        """Remember; nothing is opened."""
        self._camera, self._serial, self._producers, self._rig = camera, serial, producers, rig
        self._acquirer: Any = None
        self._chunks = Chunks(False, False, False)
        self._first = 0
        self._counter = -1
        self._pacer: Pacer | None = None
        self._due_ns = 0
        self.ptp = ""
        """What the camera says of PTP, empty if nothing."""

    @property
    def temperature_c(self) -> float | None:
        """`DeviceTemperature`."""
        found = None if self._acquirer is None else value(self._acquirer.remote_device.node_map, "DeviceTemperature")
        return None if found is None else float(found)

    def open(self) -> DeviceInfo:
        """Open by serial number and set features."""
        harvester = self._producers.open()
        match = [k for k, info in enumerate(harvester.device_info_list) if _serial(info) == self._serial]
        if not match:
            self._producers.look_again()
            there = ", ".join(self._producers.serials()) or "none"
            raise DriverError(f"camera '{self._camera}' (serial {self._serial}) is not there; there are: {there}")
        try:
            self._acquirer = harvester.create(match[0])
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DriverError(f"camera '{self._camera}' (serial {self._serial}) cannot be opened: {line}") from error
        nodes = self._acquirer.remote_device.node_map
        set_features(nodes, self._camera, self._rig.genicam.features)
        self._chunks = enable_chunks(nodes, self._camera)
        follows = self._rig.clocks.get(self._camera, "auto") in ("auto", "ptp") and enable_ptp(nodes, self._camera)
        if self._rig.clocks.get(self._camera) == "ptp" and not follows:
            raise DriverError(
                f"rig.clocks.{self._camera} = 'ptp': it has no PtpEnable, GevIEEE1588; use 'pulses' or 'arrival'"
            )
        self.ptp = ptp_status(nodes) if follows else ""
        rate = node(nodes, "AcquisitionFrameRate")
        if rate is not None and node(nodes, "AcquisitionFrameRateEnable") is not None:
            node(nodes, "AcquisitionFrameRateEnable").value = True
            rate.value = self._rig.fps
        return DeviceInfo(
            serial=self._serial,
            width=int(nodes.Width.value),
            height=int(nodes.Height.value),
            model=str(value(nodes, "DeviceModelName") or ""),
            firmware=str(value(nodes, "DeviceFirmwareVersion", "DeviceVersion") or ""),
            ns_per_tick=1.0 if follows else ns_per_tick(nodes),
            clock="ptp" if follows else "arrival",
        )

    def start(self, trigger: TriggerMode) -> None:
        """Set the trigger and begin to acquire."""
        nodes = self._acquirer.remote_device.node_map
        set_trigger(nodes, self._camera, trigger, self._rig.genicam.trigger_line)
        self._acquirer.num_buffers = KEEP_BUFFERS
        self._counter, self._first = -1, 0
        self._pacer = Pacer(Pulses.at(self._rig.fps), time.time_ns()) if trigger == "software" else None
        self._acquirer.start()

    def read(self, timeout_s: float) -> Shot | None:
        """Return the next picture."""
        if self._pacer is not None:
            self._shoot()
        try:
            buffer = self._acquirer.fetch(timeout=max(timeout_s, 0.001))
        except TimeoutException:
            return None
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DriverError(f"camera '{self._camera}' (serial {self._serial}) was lost: {line}") from error
        if buffer is None:
            return None
        with buffer:
            return self._shot(buffer)

    def close(self) -> None:
        """Let go of the camera."""
        acquirer, self._acquirer = self._acquirer, None
        if acquirer is not None:
            acquirer.destroy()

    def _shoot(self) -> None:
        if self._pacer is not None and time.time_ns() >= self._due_ns:
            self._acquirer.remote_device.node_map.TriggerSoftware.execute()
            self._due_ns = self._pacer.next(time.time_ns()).exposure_ns

    def _shot(self, buffer: Any) -> Shot:
        nodes = self._acquirer.remote_device.node_map
        component = buffer.payload.components[0]
        encoding, pixels = convert(
            component.data, component.data_format, component.width, component.height, self._camera
        )
        return Shot(
            counter=self._count(buffer, nodes),
            ticks=self._ticks(buffer, nodes),
            pixels=pixels,
            encoding=encoding,
            width=int(component.width),
            height=int(component.height),
        )

    def _count(self, buffer: Any, nodes: Any) -> int:
        own = value(nodes, "ChunkFrameID") if self._chunks.frame_id else None
        if own is None:
            own = _told(buffer, "frame_id")
        if own is None:
            self._counter += 1
            return self._counter
        if self._counter < 0:
            # GigE Vision counts from 1. Later numbers at the start are losses of this run.
            self._first = 1 if int(own) >= 1 else 0
        self._counter = int(own) - self._first
        return self._counter

    def _ticks(self, buffer: Any, nodes: Any) -> int:
        """Stamp of the start of the exposure, moved to its middle."""
        own = value(nodes, "ChunkTimestamp") if self._chunks.timestamp else None
        if own is None:
            own = _told(buffer, "timestamp")
        if not own:
            return time.time_ns()  # a camera without a clock: its arrival is all there is
        exposure_us = value(nodes, "ChunkExposureTime") if self._chunks.exposure else value(nodes, "ExposureTime")
        half_ns = 500.0 * float(exposure_us or 0.0)
        return int(own) + round(half_ns / (1.0 if self.ptp else ns_per_tick(nodes)))


def _told(buffer: Any, name: str) -> int | None:
    try:
        return int(getattr(buffer, name) if hasattr(type(buffer), name) else getattr(buffer.module, name))
    except (NotAvailableException, NotImplementedException):
        return None


def convert(data: U8, form: str, width: int, height: int, camera: str) -> tuple[Encoding, U8]:
    """Return encoding and pixels of a picture, in memory of its own.

    Args:
        data: as the producer delivers it.
        form: PFNC name.
        width: px.
        height: px.
        camera: id, for messages.

    Raises:
        DriverError: a format that Mien does not read.
    """
    if form == "Mono8":
        return "mono8", np.array(data, np.uint8).reshape(height, width)
    if form in ("RGB8", "RGB8Packed"):
        return "rgb8", np.array(data, np.uint8).reshape(height, width, 3)
    if form in ("RGBa8", "RGBa8Packed"):
        return "rgb8", np.ascontiguousarray(np.asarray(data, np.uint8).reshape(height, width, 4)[..., :3])
    if form in ("BGR8", "BGR8Packed"):
        return "rgb8", np.ascontiguousarray(np.asarray(data, np.uint8).reshape(height, width, 3)[..., ::-1])
    if form in BAYER:
        return "rgb8", np.asarray(
            cv2.cvtColor(np.asarray(data, np.uint8).reshape(height, width), BAYER[form]), np.uint8
        )
    raise DriverError(
        f"camera '{camera}' delivers {form}; set PixelFormat in rig.genicam.features to Mono8, RGB8, BGR8 or Bayer..8"
    )


class GenicamDriver(CameraPool):
    """The GenICam cameras of this host.

    Args:
        rig: the configuration.
        cameras: camera id to serial number; empty: all that are there when it opens.
    """

    triggers: ClassVar[tuple[TriggerMode, ...]] = ("free-run", "hardware", "software")

    def __init__(self, rig: RigConfig, cameras: Mapping[str, str]) -> None:
        """Remember; nothing is opened."""
        self._producers = Producers(rig.genicam.producers)
        self._every = not cameras
        super().__init__("genicam", rig, self._devices(rig, cameras))

    @classmethod
    def from_config(cls, rig: RigConfig) -> Self:
        """Build the driver of `[rig.genicam]`."""
        return cls(rig, rig.genicam.cameras)

    def _devices(self, rig: RigConfig, cameras: Mapping[str, str]) -> dict[str, GenicamCamera]:
        return {camera: GenicamCamera(camera, serial, self._producers, rig) for camera, serial in cameras.items()}

    def open(self) -> None:
        """Open all cameras; those that are there, if none are named."""
        if self._every and not self.is_open:
            found = {f"cam_{k}": serial for k, serial in enumerate(self._producers.serials())}
            self.replace_devices(self._devices(self._rig, found))
        try:
            super().open()
        except BaseException:
            if not self.is_open:  # a producer that stays loaded keeps its cameras from everybody
                self._producers.close()
            raise

    def close(self) -> None:
        """Let go of cameras and producers."""
        super().close()
        self._producers.close()
