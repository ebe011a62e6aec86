"""A CUDA device through pycuda: the only file that imports pycuda or cuda-bindings, and only when it is opened.

Everything lives in the primary context, which TensorRT, the runtime API and cuda-bindings share. pycuda knows streams,
events, page-locked memory and asynchronous copies; graphs it does not know, so capture goes through cuda-bindings on
the same stream handles, and where that package is missing work is issued plainly.

A stream is a thread that issues: it blocks only on host work of other streams, never on the device, so the order of
device work is the device's business alone.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from inference.devices.base import Buffer, BufferSpec, Event, Space, Stream
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
        self._native.record(native_stream)
        self._on_device = True
        self.reach(number)

    def block(self, number: int) -> None:
        """Block the calling thread until record `number` is issued, and reached by the device."""
        super().block(number)
        if self._on_device:
            with self._device.current():
                self._native.synchronize()

    def chain(self, number: int, native_stream: Any) -> None:
        """Let a CUDA stream wait for record `number`; blocks until it is issued, not until it is reached."""
        super().block(number)
        if self._on_device:
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
        self._seen: set[Hashable] = set()
        self._graphs: dict[Hashable, Any] = {}
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
        """Issue plainly the first time, capture the second, replay from then on; see `Stream.replay`.

        The first run is plain: engines set themselves up in it. What cannot be captured is issued plainly for good.
        """
        graphs = self._device.graphs
        if key not in self._seen or graphs is None:
            self._seen.add(key)
            work()
            return
        if key not in self._graphs:
            self._graphs[key] = self._capture(graphs, key, work)
        if self._graphs[key] is None:
            work()
        else:
            _check(graphs.cuGraphLaunch(self._graphs[key], self.handle))

    def _capture(self, graphs: Any, key: Hashable, work: Callable[[], None]) -> Any:
        """Return the executable graph of what `work` issues; None if it cannot be captured."""
        mode = graphs.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _check(graphs.cuStreamBeginCapture(self.handle, mode))
        try:
            try:
                work()
            finally:  # a capture that was begun has to end, whatever happened in it
                ended = graphs.cuStreamEndCapture(self.handle)
            (graph,) = _check(ended)
            (executable,) = _check(graphs.cuGraphInstantiate(graph, 0))
            _check(graphs.cuGraphDestroy(graph))
        except (EngineError, RuntimeError) as error:
            log.warning("stage %s is issued plainly, it cannot be captured as a CUDA graph: %s", key, error)
            return None
        return executable

    def close(self) -> None:
        """End the thread after what it was given, and wait for the device."""
        super().close()
        with self._device.current():
            self.native.synchronize()
            for executable in self._graphs.values():
                if executable is not None:
                    _check(self._device.graphs.cuGraphExecDestroy(executable))
        self._graphs.clear()


def _own(event: Event) -> CudaEvent:
    point = own(event)
    if not isinstance(point, CudaEvent):
        raise TypeError(f"{type(event).__name__} was not made by this device")
    return point


def _check(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a cuda-bindings call gave.

    Raises:
        EngineError: it failed.
    """
    status, *values = result
    if int(status) != 0:
        raise EngineError(f"CUDA: {getattr(status, 'name', status)}")
    return tuple(values)


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

    def monotonic_ns(self, mark: Any) -> int:
        """Return the host time of a reached event with timing, monotonic ns."""
        with self.current():
            return self._epoch_ns + round(float(self._epoch.time_till(mark)) * 1e6)

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
        with self.current():
            try:
                host = self.driver.pagelocked_zeros(spec.shape, spec.dtype)
                native = self.driver.mem_alloc(max(1, host.nbytes))
                self.driver.memset_d8(native, 0, max(1, host.nbytes))
            except (MemoryError, self.driver.Error) as error:
                raise EngineError(
                    f"no GPU memory for a buffer of {spec.dtype} {spec.shape}: {error}; use fewer views or slots"
                ) from error
        return Buffer(host, native)

    def close(self) -> None:
        """See `Device.close`. The context goes with the last buffer that was made in it."""
        with self._lock:
            streams, self._streams = self._streams, []
        for stream in streams:
            stream.close()
