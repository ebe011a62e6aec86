"""Camera drivers by name. A driver's module, and with it its SDK, is imported when the configuration asks for it."""

import importlib

from rig.config import RigConfig
from rig.driver import CameraDriver, TriggerMode, choose_trigger
from streamer.errors import DriverError

DRIVERS: dict[str, tuple[str, str]] = {
    "simulated": ("rig.drivers.simulated", "SimulatedDriver"),
    "opencv": ("rig.drivers.opencv", "OpencvDriver"),
    "genicam": ("rig.drivers.genicam", "GenicamDriver"),
    "rtsp": ("rig.drivers.rtsp", "RtspDriver"),
    "playback": ("rig.drivers.playback", "PlaybackDriver"),
}
"""Name in `rig.driver` to module and class."""


def driver_class(name: str) -> type[CameraDriver]:
    """Import and return the driver of this name.

    Raises:
        DriverError: no such driver.
        MissingExtra: its SDK is not installed.
    """
    if name not in DRIVERS:
        raise DriverError(f"rig.driver = {name!r}: no such driver; there are {', '.join(sorted(DRIVERS))}")
    module, attribute = DRIVERS[name]
    found: type[CameraDriver] = getattr(importlib.import_module(module), attribute)
    return found


def make_driver(rig: RigConfig) -> tuple[CameraDriver, TriggerMode]:
    """Build the driver that the configuration asks for, not yet opened, and the trigger mode to arm it with.

    Raises:
        DriverError: no such driver, or settings and trigger mode that it cannot do.
        MissingExtra: its SDK is not installed.
    """
    cls = driver_class(rig.driver)
    return cls.from_config(rig), choose_trigger(rig.driver, cls.triggers, rig.trigger)
