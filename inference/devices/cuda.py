"""A CUDA device through pycuda: the only file that imports pycuda or cuda-bindings, and only when it is opened.

Everything lives in the primary context, which TensorRT, the runtime API and cuda-bindings share. pycuda knows streams,
events, page-locked memory and asynchronous copies; graphs it does not know, so capture goes through cuda-bindings on
the same stream handles, and where that package is missing work is issued plainly.

A stream is a thread that issues: it blocks only on host work of other streams, never on the device, so the order of
device work is the device's business alone.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.devices.base import Buffer, BufferSpec, Event, Space, Stream
from inference.devices.capture import Captures
from inference.devices.cpu import CpuEvent, CpuStream, own
from streamer.errors import EngineError, MissingExtra

log = logging.getLogger(__name__)


def _import_pycuda() -> Any:
    """Import pycuda's driver module.

    Raises:
        MissingExtra: pycuda is not installed.
        EngineError: it is, but finds no NVIDIA driver: its import then fails at a symbol.
    """
    try:
        import pycuda
    except ImportError as error:
        raise MissingExtra("pycuda", "gpu") from error
    try:
        import pycuda.driver as driver
    except (ImportError, OSError) as error:
        raise EngineError(
            f"pycuda {pycuda.VERSION_TEXT} finds no NVIDIA driver here ({error}); install the driver, "
            "or set inference.engine = 'openvino'"
        ) from error
    return driver


def _import_graphs() -> Any:
    """Import cuda-bindings' driver module; None where it is missing."""
    try:
        from cuda.bindings import driver as bindings
    except (ImportError, OSError) as error:
        log.info("without CUDA graphs, cuda-bindings cannot be imported: %s", error)
        return None
    return bindings


class CudaEvent(CpuEvent):
    """A point in a CUDA stream or in a host thread; see `inference.devices.base.Event`.

    `reach` means issued: a record by a device stream is issued first and reached by the device later.
    """

    def __init__(self, device: "CudaDevice") -> None:
        """Make the native event, without timing: those are cheaper to wait for."""
        super().__init__()
        self._device = device
        with device.current():
            self._native = device.driver.Event(device.driver.event_flags.DISABLE_TIMING)
        self._on_device = False

    def reach_on(self, number: int, native_stream: Any) -> None:
        """Record natively, then tell who waits that it is issued."""
        with self._device.watched():
            self._native.record(native_stream)
        self._on_device = True
        self.reach(number)

    def block(self, number: int) -> None:
        """Block the calling thread until record `number` is issued, and reached by the device."""
        super().block(number)
        if self._on_device:
            with self._device.current(), self._device.watched():
                self._native.synchronize()

    def chain(self, number: int, native_stream: Any) -> None:
        """Let a CUDA stream wait for record `number`; blocks until it is issued, not until it is reached."""
        super().block(number)
        if self._on_device:
            with self._device.watched():
                native_stream.wait_for_event(self._native)


class CudaHostStream(CpuStream):
    """A thread for host arithmetic, with the context current; see `inference.devices.base.Stream`."""

    def __init__(self, name: str, device: "CudaDevice") -> None:
        """Start the thread."""
        self._device = device
        super().__init__(name)

    def _run(self) -> None:
        with self._device.current():
            super()._run()


class CudaStream(CudaHostStream):
    """A thread that issues to one CUDA stream; see `inference.devices.base.Stream`."""

    def __init__(self, name: str, device: "CudaDevice") -> None:
        """Make the native stream, and start the thread."""
        with device.current():
            self.native = device.driver.Stream(device.driver.stream_flags.NON_BLOCKING)
        self.handle = int(self.native.handle)
        self._captures = Captures(device.graphs, self.handle)
        super().__init__(name, device)

    def record(self, event: Event) -> None:
        """See `Stream.record`."""
        point = _own(event)
        number = point.issue()
        self._work.put(lambda: point.reach_on(number, self.native))

    def wait(self, event: Event) -> None:
        """See `Stream.wait`."""
        point = _own(event)
        number = point.issued
        self._work.put(lambda: point.chain(number, self.native))

    def stamp(self) -> Callable[[], int]:
        """Record an event with timing; see `Stream.stamp`."""
        mark = None
        with self._device.watched():
            mark = self._device.driver.Event()
            mark.record(self.native)
        return lambda: self._device.monotonic_ns(mark)

    def upload(self, buffer: Buffer) -> None:
        """See `Stream.upload`."""
        self._device.driver.memcpy_htod_async(buffer.device, buffer.host, self.native)

    def download(self, buffer: Buffer) -> None:
        """See `Stream.download`."""
        self._device.driver.memcpy_dtoh_async(buffer.host, buffer.device, self.native)

    def replay(self, key: Hashable, work: Callable[[], None]) -> None:
        """See `Stream.replay` and `inference.devices.capture`."""
        self._captures.replay(key, work)

    def close(self) -> None:
        """End the thread after what it was given, and wait for the device."""
        super().close()
        with self._device.current(), self._device.watched():
            self.native.synchronize()
            self._captures.close()


def _own(event: Event) -> CudaEvent:
    point = own(event)
    if not isinstance(point, CudaEvent):
        raise TypeError(f"{type(event).__name__} was not made by this device")
    return point


class CudaDevice:
    """The first CUDA device; see `inference.devices.base.Device`."""

    name = "cuda"

    def __init__(self, ordinal: int = 0) -> None:
        """Retain the primary context.

        Args:
            ordinal: which device, of those that CUDA_VISIBLE_DEVICES shows.

        Raises:
            MissingExtra: pycuda is not installed.
            EngineError: there is no driver or no device.
        """
        self.driver = _import_pycuda()
        try:
            self.driver.init()
            self.native = self.driver.Device(ordinal)
            self.context = self.native.retain_primary_context()
        except (RuntimeError, self.driver.Error) as error:
            raise EngineError(f"no CUDA device {ordinal} here: {error}; set inference.engine = 'openvino'") from error
        self.graphs = _import_graphs()
        self._lost = ""
        self._streams: list[CpuStream] = []
        self._lock = threading.Lock()
        with self.current():
            self._epoch = self.driver.Event()
            self._epoch.record()
            self._epoch.synchronize()
        self._epoch_ns = time.monotonic_ns()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the primary context current in the calling thread."""
        self.context.push()
        try:
            yield
        finally:
            self.driver.Context.pop()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note an error of the device and go on: threads that issue must live, or whoever waits for them never ends.

        CUDA tells of a kernel that failed at whatever comes next, and from then on the device does nothing more. What
        leaves it is refused by `require`.
        """
        try:
            yield
        except (self.driver.Error, EngineError) as error:
            if not self._lost:
                log.error("the GPU has failed: %s", error)
            self._lost = self._lost or str(error) or type(error).__name__

    def require(self) -> None:
        """Refuse to go on with a device that has failed: what it gave since then is not to be believed.

        Raises:
            EngineError: it has failed.
        """
        if self._lost:
            raise EngineError(f"the GPU has failed ({self._lost}); restart, and see its log: nvidia-smi -q")

    def monotonic_ns(self, mark: Any) -> int:
        """Return the host time of a reached event with timing, monotonic ns; the present of one that never will be."""
        found_ns = time.monotonic_ns()
        with self.current(), self.watched():
            if mark is not None:
                found_ns = self._epoch_ns + round(float(self._epoch.time_till(mark)) * 1e6)
        return found_ns

    def stream(self, name: str, space: Space) -> Stream:
        """See `Device.stream`."""
        made = CudaStream(name, self) if space == "device" else CudaHostStream(name, self)
        with self._lock:
            self._streams.append(made)
        return made

    def event(self) -> CudaEvent:
        """See `Device.event`."""
        return CudaEvent(self)

    def buffer(self, spec: BufferSpec) -> Buffer:
        """See `Device.buffer`."""
        shape = (0,) if spec.device_only else spec.shape
        what = f"a buffer of {spec.dtype} {spec.shape}"
        native = self.allocate(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize, what)
        with self.current():
            try:
                return Buffer(self.driver.pagelocked_zeros(shape, spec.dtype), native)
            except (MemoryError, self.driver.Error) as error:
                raise EngineError(f"no page-locked memory for {what}: {error}; use fewer views or slots") from error

    def allocate(self, size: int, what: str) -> Any:
        """Allocate device memory, zero; it is given back with the last reference to what is returned.

        Args:
            size: bytes.
            what: for the message.

        Raises:
            EngineError: there is not enough memory.
        """
        with self.current():
            try:
                native = self.driver.mem_alloc(max(1, size))
                self.driver.memset_d8(native, 0, max(1, size))
            except (MemoryError, OverflowError, self.driver.Error) as error:
                raise EngineError(
                    f"no GPU memory for {what} ({size / 1e6:.1f} MB): {error}; use fewer views or slots"
                ) from error
        return native

    def constant(self, values: NDArray[Any], what: str) -> Any:
        """Return device memory that holds an array, C-contiguous; see `allocate`."""
        held = np.ascontiguousarray(values)
        native = self.allocate(held.nbytes, what)
        with self.current():
            self.driver.memcpy_htod(native, held)
        return native

    def kernels(self, cubin: bytes, formats: Mapping[str, str]) -> dict[str, Any]:
        """Load a module.

        Args:
            cubin: what `inference.kernels.compile` made for this device's `architecture`.
            formats: kernel name to the types of its arguments, as `struct` writes them.

        Returns:
            Kernel name to function, to be launched with `prepared_async_call`.

        Raises:
            EngineError: it does not load, or lacks a kernel.
        """
        with self.current():
            try:
                module = self.driver.module_from_buffer(cubin)
                return {name: module.get_function(name).prepare(kinds) for name, kinds in formats.items()}
            except self.driver.Error as error:
                raise EngineError(f"the GPU does not load the kernels {', '.join(formats)}: {error}") from error

    @property
    def architecture(self) -> int:
        """Compute capability times ten, 89 for 8.9."""
        major, minor = self.native.compute_capability()
        return 10 * int(major) + int(minor)

    @property
    def identity(self) -> str:
        """Model, compute capability and driver: what a plan that was built on it depends on."""
        return f"{self.native.name()} {self.architecture} driver {self.driver.get_driver_version()}"

    def close(self) -> None:
        """See `Device.close`. The context goes with the last buffer that was made in it."""
        with self._lock:
            streams, self._streams = self._streams, []
        for stream in streams:
            stream.close()
