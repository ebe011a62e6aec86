"""What Mien asks of a GenICam node map: features, trigger, chunks, PTP, by the names of the SFNC. No SDK is imported.

Old GigE cameras have other names for PTP and for the tick frequency; both are tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rig.driver import TriggerMode
from streamer.errors import DriverError

PTP_ENABLE, PTP_STATUS = ("PtpEnable", "GevIEEE1588"), ("PtpStatus", "GevIEEE1588Status")
PTP_LATCH = ("PtpDataSetLatch", "GevIEEE1588DataSetLatch")
FOLLOWS = {"Slave", "Master", "Uncalibrated"}
"""States in which the camera takes part; `Slave` and `Master` are locked."""
TICKS = ("GevTimestampTickFrequency", "DeviceTimestampFrequency", "TimestampTickFrequency")
CHUNKS = ("Timestamp", "FrameID", "ExposureTime")


@dataclass(frozen=True, slots=True)
class Chunks:
    """What travels inside each buffer."""

    timestamp: bool
    """`ChunkTimestamp`."""
    frame_id: bool
    """`ChunkFrameID`."""
    exposure: bool
    """`ChunkExposureTime`."""


def node(nodes: Any, *names: str) -> Any:
    """Return the first of these nodes that the camera has, None if it has none."""
    for name in names:
        if nodes.has_node(name):
            return nodes.get_node(name)
    return None


def value(nodes: Any, *names: str) -> Any:
    """Return the value of the first of these features that can be read, None if none can."""
    found = node(nodes, *names)
    if found is None:
        return None
    try:
        return found.value
    except Exception as error:  # the binding has one class per fault and no common base that it exports
        if type(error).__module__.split(".")[0].lstrip("_") in ("genapi", "gentl", "genicam"):
            return None
        raise


def write(nodes: Any, camera: str, name: str, wanted: object) -> None:
    """Set a feature.

    Args:
        nodes: node map of the camera.
        camera: its id, for messages.
        name: of the feature.
        wanted: text is converted to the feature's own type.

    Raises:
        DriverError: there is no such feature, or it does not take the value.
    """
    found = node(nodes, name)
    if found is None:
        raise DriverError(f"camera '{camera}' has no feature {name}; see its manual, or rig.genicam.features")
    try:
        if isinstance(wanted, str) and hasattr(found, "from_string"):
            found.from_string(wanted)
        else:
            found.value = wanted
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DriverError(f"camera '{camera}': {name} = {wanted!r} is refused ({line}); see its manual") from error


def set_trigger(nodes: Any, camera: str, trigger: TriggerMode, line: str) -> None:
    """Arm the frame trigger.

    Args:
        nodes: node map of the camera.
        camera: its id.
        trigger: `free-run`, `hardware` or `software`.
        line: `TriggerSource` of hardware triggers.

    Raises:
        DriverError: the camera cannot do this mode.
    """
    has = node(nodes, "TriggerMode") is not None
    if trigger == "free-run":
        if has:
            if node(nodes, "TriggerSelector") is not None:
                write(nodes, camera, "TriggerSelector", "FrameStart")
            write(nodes, camera, "TriggerMode", "Off")
        return
    if not has:
        raise DriverError(
            f"rig.trigger = {trigger!r}: camera '{camera}' has no TriggerMode and cannot be triggered; use 'free-run'"
        )
    if node(nodes, "TriggerSelector") is not None:
        write(nodes, camera, "TriggerSelector", "FrameStart")
    write(nodes, camera, "TriggerSource", "Software" if trigger == "software" else line)
    if trigger == "hardware" and node(nodes, "TriggerActivation") is not None:
        write(nodes, camera, "TriggerActivation", "RisingEdge")
    write(nodes, camera, "TriggerMode", "On")


def enable_chunks(nodes: Any, camera: str) -> Chunks:
    """Have stamp, number and exposure time travel with each picture, as far as the camera can."""
    selector = node(nodes, "ChunkSelector")
    if node(nodes, "ChunkModeActive") is None or selector is None:
        return Chunks(False, False, False)
    write(nodes, camera, "ChunkModeActive", True)
    got = []
    for name in CHUNKS:
        can = name in tuple(selector.symbolics)
        if can:
            write(nodes, camera, "ChunkSelector", name)
            write(nodes, camera, "ChunkEnable", True)
        got.append(can and node(nodes, f"Chunk{name}") is not None)
    return Chunks(*got)


def enable_ptp(nodes: Any, camera: str) -> bool:
    """Have the camera follow PTP; return whether it can."""
    found = next((name for name in PTP_ENABLE if nodes.has_node(name)), None)
    if found is None:
        return False
    write(nodes, camera, found, True)
    return True


def ptp_status(nodes: Any) -> str:
    """Return `Slave`, `Master`, `Listening`, ... as the camera says; empty if it does not."""
    latch = node(nodes, *PTP_LATCH)
    if latch is not None:
        latch.execute()
    return str(value(nodes, *PTP_STATUS) or "")


def ns_per_tick(nodes: Any) -> float:
    """Return the length of a tick of the camera's clock, ns; 1 where it does not say."""
    frequency = value(nodes, *TICKS)
    return 1e9 / float(frequency) if frequency else 1.0


def set_features(nodes: Any, camera: str, features: Mapping[str, str]) -> None:
    """Set the configured features in their order.

    Raises:
        DriverError: see `write`.
    """
    for name, wanted in features.items():
        write(nodes, camera, name, wanted)
