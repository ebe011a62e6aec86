"""Video4Linux: the system calls of one capture device, with its own frame numbers and exposure stamps.

Not `cv2.VideoCapture`: that hides the driver's sequence numbers, by which lost pictures are known, and decodes MJPEG
that could travel as it is. Layouts and numbers are those of <linux/videodev2.h> on 64-bit machines.
"""

import errno
import fcntl
import mmap
import os
import select
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamer.errors import DriverError
from streamer.types import U8

QUERYCAP, G_FMT, S_FMT = 0x80685600, 0xC0D05604, 0xC0D05605
REQBUFS, QUERYBUF, QBUF, DQBUF = 0xC0145608, 0xC0585609, 0xC058560F, 0xC0585611
STREAMON, STREAMOFF, S_PARM = 0x40045612, 0x40045613, 0xC0CC5616
CAPTURE, MMAP = 1, 1
CAN_CAPTURE, CAN_STREAM, HAS_DEVICE_CAPS = 0x1, 0x04000000, 0x80000000
DAMAGED, MONOTONIC, CLOCK_MASK, START_OF_EXPOSURE, SOURCE_MASK = 0x40, 0x2000, 0xE000, 0x10000, 0x70000
BUFFERS = 6

CAPABILITY = struct.Struct("<16s32s32s3I12x")
PIXELS = struct.Struct("<I4x6I176x")
"""`v4l2_format`: type, width, height, fourcc, field, bytes per line, size."""
REQUEST = struct.Struct("<3I8x")
BUFFER = struct.Struct("<5I4xqq16sIIQIIi4x")
"""`v4l2_buffer`: index, type, bytes, flags, field, seconds, microseconds, timecode, number, memory, offset, length."""
PARAMETERS = struct.Struct("<5I184x")


class Kernel(Protocol):
    """The system calls; tests put a device in memory here."""

    def open(self, path: str) -> int:
        """Return a descriptor."""

    def close(self, fd: int) -> None:
        """Let go of it."""

    def ioctl(self, fd: int, request: int, data: bytearray) -> None:
        """Change `data` in place."""

    def mmap(self, fd: int, length: int, offset: int) -> "memoryview | mmap.mmap":
        """Map a buffer of the device."""

    def ready(self, fd: int, timeout_s: float) -> bool:
        """Wait until a picture can be fetched."""


class LinuxKernel:
    """The real ones."""

    def open(self, path: str) -> int:
        """Return a descriptor."""
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Let go of it."""
        os.close(fd)

    def ioctl(self, fd: int, request: int, data: bytearray) -> None:
        """Change `data` in place."""
        fcntl.ioctl(fd, request, data)

    def mmap(self, fd: int, length: int, offset: int) -> "memoryview | mmap.mmap":
        """Map a buffer of the device."""
        return mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)

    def ready(self, fd: int, timeout_s: float) -> bool:
        """Wait until a picture can be fetched."""
        return bool(select.select([fd], [], [], timeout_s)[0])


@dataclass(frozen=True, slots=True)
class Format:
    """What the device was set to."""

    width: int
    """px."""
    height: int
    """px."""
    fourcc: str
    """`MJPG`, `YUYV`, `GREY`."""
    stride: int
    """Bytes per line; 0 for compressed formats."""


@dataclass(frozen=True, slots=True)
class Filled:
    """One buffer as the driver filled it."""

    sequence: int
    """Of the driver, from 0 since the stream began; gaps are lost pictures."""
    time_ns: int
    """Stamp, CLOCK_REALTIME, ns."""
    at_start: bool
    """Whether the stamp is of the start of the exposure; otherwise of the end of the transfer."""
    data: U8
    """(bytes,) a copy."""


class VideoDevice:
    """One capture device.

    Args:
        path: of the device node or a link to it.
        kernel: the system calls.
    """

    def __init__(self, path: str, kernel: Kernel | None = None) -> None:
        """Remember; nothing is opened."""
        self.path = path
        self._kernel = kernel or LinuxKernel()
        self._fd = -1
        self._maps: list[memoryview | mmap.mmap] = []
        self._streaming = False

    def open(self) -> str:
        """Open the device; return its name.

        Raises:
            DriverError: it is absent, in use, or cannot stream pictures.
        """
        try:
            self._fd = self._kernel.open(self.path)
        except OSError as error:
            remedies = {errno.EACCES: "add the user to the group video", errno.EBUSY: "close the program that uses it"}
            remedy = remedies.get(error.errno or 0, "plug it in, or correct rig.opencv.cameras")
            raise DriverError(f"{self.path}: {error.strerror}; {remedy}") from error
        with self._lost():
            data = bytearray(CAPABILITY.size)
            self._kernel.ioctl(self._fd, QUERYCAP, data)
            _, card, _, _, whole, own = CAPABILITY.unpack(data)
        able = own if whole & HAS_DEVICE_CAPS else whole
        if not (able & CAN_CAPTURE and able & CAN_STREAM):
            raise DriverError(f"{self.path} delivers no pictures ({able:#x}); name the camera's first node")
        return str(card.rstrip(b"\0").decode(errors="replace"))

    def set_format(self, width: int, height: int, fourcc: str, fps: float) -> Format:
        """Ask for pictures; return what the device agreed to.

        Raises:
            DriverError: it is lost, or agreed to something else.
        """
        with self._lost():
            data = bytearray(PIXELS.pack(CAPTURE, width, height, int.from_bytes(fourcc.encode(), "little"), 1, 0, 0))
            self._kernel.ioctl(self._fd, S_FMT, data)
            _, w, h, code, _, stride, _ = PIXELS.unpack(data)
            self._kernel.ioctl(
                self._fd, S_PARM, bytearray(PARAMETERS.pack(CAPTURE, 0, 0, 1000, round(1000 * fps)))
            )  # a device without rates keeps its own; the stamps tell
        got = code.to_bytes(4, "little").decode(errors="replace")
        if (w, h, got) != (width, height, fourcc):
            raise DriverError(
                f"{self.path} offers {w}x{h} {got} instead of {width}x{height} {fourcc}; set width_px, height_px "
                "and format of rig.opencv to what it can do (v4l2-ctl --list-formats-ext)"
            )
        return Format(w, h, got, stride)

    def start(self) -> None:
        """Map the buffers and begin to stream.

        Raises:
            DriverError: it is lost or gives no buffers.
        """
        with self._lost():
            data = bytearray(REQUEST.pack(BUFFERS, CAPTURE, MMAP))
            self._kernel.ioctl(self._fd, REQBUFS, data)
            count = REQUEST.unpack(data)[0]
            for index in range(count):
                buffer = self._buffer(QUERYBUF, index)
                self._maps.append(self._kernel.mmap(self._fd, buffer[11], buffer[10] & 0xFFFFFFFF))
                self._buffer(QBUF, index)
            if not self._maps:
                raise DriverError(f"{self.path} gives no buffers; close the program that uses it")
            self._kernel.ioctl(self._fd, STREAMON, bytearray(struct.pack("<i", CAPTURE)))
            self._streaming = True

    def read(self, timeout_s: float) -> Filled | None:
        """Return the next sound picture, None if none came in time.

        Raises:
            DriverError: the device is lost.
        """
        with self._lost():
            if not self._kernel.ready(self._fd, timeout_s):
                return None
            fields = self._buffer(DQBUF, 0)
            index, _, used, flags, _, seconds, micros, _, sequence = fields[:9]
            data = np.frombuffer(self._maps[index], np.uint8, used).copy()
            self._buffer(QBUF, index)
        if flags & DAMAGED:
            return None  # its number is missing from the sequence, so it is counted as lost
        time_ns = seconds * 1_000_000_000 + micros * 1000
        if flags & CLOCK_MASK == MONOTONIC:
            time_ns += time.time_ns() - time.monotonic_ns()
        return Filled(sequence, time_ns, flags & SOURCE_MASK == START_OF_EXPOSURE, data)

    def close(self) -> None:
        """Stop and let go; a device that is gone is let go of as well."""
        if self._fd < 0:
            return
        try:
            if self._streaming:
                self._kernel.ioctl(self._fd, STREAMOFF, bytearray(struct.pack("<i", CAPTURE)))
        except OSError:
            pass  # unplugged: there is nothing to stop
        finally:
            for each in self._maps:
                if isinstance(each, mmap.mmap):
                    each.close()
            self._maps.clear()
            self._kernel.close(self._fd)
            self._fd, self._streaming = -1, False

    def _buffer(self, request: int, index: int) -> tuple[int, ...]:
        data = bytearray(BUFFER.pack(index, CAPTURE, 0, 0, 0, 0, 0, b"", 0, MMAP, 0, 0, 0, 0))
        self._kernel.ioctl(self._fd, request, data)
        return BUFFER.unpack(data)

    @contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DriverError(f"{self.path}: {error.strerror}; look at the cable and the power of the hub") from error
