"""Devices by name; each imports its own runtime, lazily, in its one file."""

from collections.abc import Callable

from inference.devices.base import Buffer, BufferSpec, Device, Event, Space, Stream
from streamer.errors import EngineError

__all__ = ["DEVICES", "Buffer", "BufferSpec", "Device", "Event", "Space", "Stream", "open_device"]


def _cpu() -> Device:
    from inference.devices.cpu import CpuDevice

    return CpuDevice()


def _cuda() -> Device:
    from inference.devices.cuda import CudaDevice

    return CudaDevice()


DEVICES: dict[str, Callable[[], Device]] = {"cpu": _cpu, "cuda": _cuda}
"""Name to maker. Every device in it passes the contract suite in tests/inference/test_devices.py."""


def open_device(name: str) -> Device:
    """Open a device by name; never another one in its place.

    Args:
        name: a key of `DEVICES`.

    Raises:
        EngineError: no device of this name, or this machine has none.
        MissingExtra: its package is not installed.
    """
    if name not in DEVICES:
        raise EngineError(f"device {name!r}: this Mien has no such device; known: {', '.join(sorted(DEVICES))}")
    return DEVICES[name]()
