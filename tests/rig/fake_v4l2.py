"""Capture devices in memory, at the edge of the system calls: the layouts are unpacked as the kernel would."""

import errno
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

from rig.drivers import v4l2

SIZES = {"MJPG", "YUYV", "GREY"}


@dataclass
class FakeCamera:
    """One device: a moving bar, exposed every `period_s` from STREAMON on."""

    width: int = 64
    height: int = 48
    period_s: float = 0.02
    capabilities: int = v4l2.CAN_CAPTURE | v4l2.CAN_STREAM
    damaged: frozenset[int] = frozenset()
    """Numbers of pictures that arrive with the error flag."""
    lost: frozenset[int] = frozenset()
    """Numbers of pictures that the driver loses."""
    unplugged: bool = False
    fourcc: str = "MJPG"
    start_s: float | None = None
    taken: int = -1
    """Number of the last picture fetched."""
    buffers: list[bytearray] = field(default_factory=list)
    queued: deque[int] = field(default_factory=deque)

    def picture(self, number: int) -> bytes:
        grey = np.full((self.height, self.width), 60, np.uint8)
        grey[:, number % self.width] = 220
        if self.fourcc == "GREY":
            return grey.tobytes()
        if self.fourcc == "YUYV":
            return np.stack([grey, np.full_like(grey, 128)], -1).tobytes()
        done, data = cv2.imencode(".jpg", grey)
        assert done
        return bytes(data)


class FakeKernel:
    """The system calls over `FakeCamera`s, by path."""

    def __init__(self, cameras: dict[str, FakeCamera]) -> None:
        self.cameras = cameras
        self.open_fds: dict[int, FakeCamera] = {}
        self._next = 100
        self._lock = threading.Lock()

    def open(self, path: str) -> int:
        camera = self.cameras.get(path)
        if camera is None or camera.unplugged:
            raise OSError(errno.ENOENT, "No such file or directory")
        with self._lock:
            self._next += 1
            self.open_fds[self._next] = camera
            return self._next

    def close(self, fd: int) -> None:
        camera = self.open_fds.pop(fd)
        camera.start_s, camera.taken = None, -1
        camera.queued.clear()

    def mmap(self, fd: int, length: int, offset: int) -> memoryview:
        return memoryview(self.open_fds[fd].buffers[offset // 4096])[:length]

    def ready(self, fd: int, timeout_s: float) -> bool:
        camera = self._camera(fd)
        assert camera.start_s is not None
        due_s = camera.start_s + (camera.taken + 1) * camera.period_s
        wait_s = due_s - time.monotonic()
        if wait_s > timeout_s:
            time.sleep(timeout_s)
            return False
        time.sleep(max(wait_s, 0.0))
        return True

    def ioctl(self, fd: int, request: int, data: bytearray) -> None:
        camera = self._camera(fd)
        assert len(data) == (request >> 16) & 0x3FFF, "the size in the request is that of the structure"
        if request == v4l2.QUERYCAP:
            data[:] = v4l2.CAPABILITY.pack(b"uvcvideo", b"Fake Camera", b"usb-1", 1, camera.capabilities, 0)
        elif request == v4l2.S_FMT:
            kind, width, height, code, *_ = v4l2.PIXELS.unpack(data)
            assert kind == v4l2.CAPTURE
            wanted = code.to_bytes(4, "little").decode()
            camera.fourcc = wanted if wanted in SIZES else "YUYV"
            if (width, height) != (camera.width, camera.height):
                width, height = camera.width, camera.height
            code = int.from_bytes(camera.fourcc.encode(), "little")
            stride = {"MJPG": 0, "YUYV": 2 * width, "GREY": width}[camera.fourcc]
            data[:] = v4l2.PIXELS.pack(kind, width, height, code, 1, stride, 4 * width * height)
        elif request == v4l2.REQBUFS:
            count, kind, memory = v4l2.REQUEST.unpack(data)
            camera.buffers = [bytearray(4 * camera.width * camera.height) for _ in range(count)]
            data[:] = v4l2.REQUEST.pack(count, kind, memory)
        elif request in (v4l2.QUERYBUF, v4l2.QBUF, v4l2.DQBUF):
            self._buffer(camera, request, data)
        elif request == v4l2.STREAMON:
            assert struct.unpack("<i", data) == (v4l2.CAPTURE,)
            camera.start_s = time.monotonic()
        elif request == v4l2.STREAMOFF:
            camera.start_s = None
        else:
            assert request == v4l2.S_PARM

    def _buffer(self, camera: FakeCamera, request: int, data: bytearray) -> None:
        index = v4l2.BUFFER.unpack(data)[0]
        length = len(camera.buffers[0])
        if request == v4l2.QUERYBUF:
            data[:] = v4l2.BUFFER.pack(index, 1, 0, 0, 0, 0, 0, b"", 0, 1, index * 4096, length, 0, 0)
            return
        if request == v4l2.QBUF:
            camera.queued.append(index)
            return
        assert camera.start_s is not None
        number = camera.taken + 1
        while number in camera.lost:
            number += 1
        index = camera.queued.popleft()
        content = camera.picture(number)
        camera.buffers[index][: len(content)] = content
        camera.taken = number
        flags = v4l2.MONOTONIC | v4l2.START_OF_EXPOSURE | (v4l2.DAMAGED if number in camera.damaged else 0)
        at_us = round((camera.start_s + number * camera.period_s) * 1e6)
        data[:] = v4l2.BUFFER.pack(
            index, 1, len(content), flags, 1, at_us // 10**6, at_us % 10**6, b"", number, 1, 0, length, 0, 0
        )

    def _camera(self, fd: int) -> FakeCamera:
        camera = self.open_fds[fd]
        if camera.unplugged:
            raise OSError(errno.ENODEV, "No such device")
        return camera
