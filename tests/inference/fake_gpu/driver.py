"""`pycuda.driver` on a machine that is not there: the names and arguments that Mien uses, and their rules."""

import re
import struct
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.inference.fake_gpu.machine import Machine, Stream
from tests.inference.kernels_on_cpu import ENTRY

PARAMETER = re.compile(r"[^,()]+")


class Error(RuntimeError):
    """Of all errors of the driver."""


class MemoryError(Error):
    """There is not enough memory."""


class LogicError(Error):
    """A call that makes no sense."""


class LaunchError(Error):
    """A kernel failed."""


def signature(source: str, kernel: str) -> str:
    """Types of a kernel's parameters as `struct` has them."""
    text = source[source.index(f"void {kernel}(") + len(f"void {kernel}(") :]
    parameters = PARAMETER.findall(text[: text.index(")")])
    return "".join("P" if "*" in parameter else "i" for parameter in parameters)


def make_driver(machine: Machine, library: Any) -> ModuleType:
    """The module.

    Args:
        machine: behind it.
        library: source text to a C library whose `launch_<kernel>` runs it.
    """
    m = ModuleType("pycuda.driver")

    class Device:
        def __init__(self, ordinal: int) -> None:
            if ordinal:
                raise LogicError("cuDeviceGet failed: invalid device ordinal")

        def retain_primary_context(self) -> "Context":
            return Context()

        def name(self) -> str:
            return machine.name

        def compute_capability(self) -> tuple[int, int]:
            return machine.capability

    class Context:
        def push(self) -> None:
            machine.stack.append(self)

        @staticmethod
        def pop() -> None:
            machine.require_context("Context.pop")
            machine.stack.pop()

    class NativeStream:
        def __init__(self, flags: int = 0) -> None:
            if flags != 1:
                raise machine.fault("a stream that waits for the default stream")
            self._stream = machine.make_stream()

        @property
        def handle(self) -> int:
            return self._stream.handle

        def synchronize(self) -> None:
            machine.require_context("Stream.synchronize")
            machine.refuse_in_capture("Stream.synchronize")
            machine.drain(self._stream)

        def wait_for_event(self, evt: "Event") -> None:
            source, number = evt.point
            if source is not None:
                machine.issue(self._stream, lambda: machine.drain(source, number), "wait_for_event")

    class Event:
        def __init__(self, flags: int = 0) -> None:
            machine.require_context("Event")
            self._timing = not flags & 2
            self.point: tuple[Stream | None, int] = (None, 0)
            self.tick: int | None = None

        def record(self, stream: NativeStream | None = None) -> "Event":
            if stream is None:  # the default stream: nothing stands on it here
                self.tick = machine.ticks
                return self
            native, self.tick = stream._stream, None

            def reach() -> None:
                self.tick = machine.ticks

            self.point = (native, machine.issue(native, reach, "Event.record"))
            return self

        def synchronize(self) -> "Event":
            machine.require_context("Event.synchronize")
            machine.refuse_in_capture("Event.synchronize")
            source, number = self.point
            if source is not None:
                machine.drain(source, number)
            return self

        def time_till(self, end: "Event") -> float:
            if not (self._timing and end._timing):
                raise LogicError("cuEventElapsedTime failed: invalid resource handle")
            if self.tick is None or end.tick is None:
                raise LogicError("cuEventElapsedTime failed: not ready")
            return (end.tick - self.tick) * 1e-3

    class DeviceAllocation:
        def __init__(self, address: int, size: int) -> None:
            self._address, self.size, self._live = address, size, True

        def __int__(self) -> int:
            if not self._live:
                raise machine.fault("the address of memory that was freed")
            return self._address

        def free(self) -> None:
            if self._live:
                self._live = False
                machine.free(self._address)

        def __del__(self) -> None:
            self.free()

    class Function:
        def __init__(self, name: str, source: str) -> None:
            self._name, self._expected, self._source = name, signature(source, name), source
            self.arg_format = ""

        def prepare(self, arg_types: Any, texrefs: Any = None) -> "Function":
            self.arg_format = "".join(arg_types)
            if self.arg_format != self._expected:
                raise machine.fault(f"kernel {self._name} takes {self._expected}, prepared for {self.arg_format}")
            return self

        def prepared_async_call(
            self, grid: tuple[int, ...], block: tuple[int, ...], stream: NativeStream, *args: Any, **kwargs: Any
        ) -> None:
            struct.pack(self.arg_format, *args)  # as pycuda does: whole numbers only
            if kwargs or len(grid) != 3 or len(block) != 3 or min(*grid, *block) < 1:
                raise machine.fault(f"kernel {self._name}: grid {grid}, block {block}, {kwargs}")
            if np.prod(block) > 1024 or grid[1] > 65535 or grid[2] > 65535:
                raise LogicError("cuLaunchKernel failed: invalid argument")
            if "launch" in machine.refuse:
                raise LaunchError("cuLaunchKernel failed: launch failed")

            def run() -> None:
                for kind, value in zip(self.arg_format, args, strict=True):
                    if kind == "P":
                        machine.view(int(value), 1, f"kernel {self._name}")
                if "kernels" in machine.refuse:
                    machine.broken = LaunchError("cuEventSynchronize failed: an illegal memory access was encountered")
                    return
                library(self._source)(self._name, grid, block, self.arg_format, args)

            machine.issue(stream._stream, run, f"kernel {self._name}")

    class Module:
        def __init__(self, cubin: bytes) -> None:
            header, _, text = cubin.partition(b"\n")
            if header != f"cubin sm_{machine.capability[0]}{machine.capability[1]}".encode():
                raise LogicError("cuModuleLoadDataEx failed: no kernel image is available for execution on the device")
            self._source = text.decode()

        def get_function(self, name: str) -> Function:
            if name not in ENTRY.findall(self._source):
                raise LogicError("cuModuleGetFunction failed: named symbol not found")
            return Function(name, self._source)

    def module_from_buffer(buffer: bytes, options: Any = (), message_handler: Any = None) -> Module:
        machine.require_context("module_from_buffer")
        return Module(bytes(buffer))

    def mem_alloc(bytes: int) -> DeviceAllocation:
        machine.refuse_in_capture("mem_alloc")
        if bytes > 2**63:
            raise OverflowError("too large")
        address = machine.allocate(bytes)
        if address < 0:
            raise MemoryError("cuMemAlloc failed: out of memory")
        return DeviceAllocation(address, bytes)

    def memset_d8(dest: DeviceAllocation, data: int, count: int) -> None:
        machine.refuse_in_capture("memset_d8")
        machine.view(int(dest), count, "memset_d8")[:] = data

    def memcpy_htod(dest: DeviceAllocation, src: np.ndarray) -> None:
        machine.refuse_in_capture("memcpy_htod")
        if not src.flags.c_contiguous:
            raise machine.fault("memcpy_htod: the host array is not contiguous")
        machine.view(int(dest), src.nbytes, "memcpy_htod")[:] = src.reshape(-1).view(np.uint8)

    def copy(name: str, dest: Any, src: Any, stream: NativeStream, *, up: bool) -> None:
        host, device = (src, dest) if up else (dest, src)
        machine.require_pinned(host, name)
        address, flat = int(device), host.reshape(-1).view(np.uint8)

        def run() -> None:
            held = machine.view(address, flat.nbytes, name)
            if up:
                held[:] = flat
            else:
                flat[:] = held

        machine.issue(stream._stream, run, name)

    def memcpy_htod_async(dest: Any, src: np.ndarray, stream: Any = None) -> None:
        copy("memcpy_htod_async", dest, src, stream, up=True)

    def memcpy_dtoh_async(dest: np.ndarray, src: Any, stream: Any = None) -> None:
        copy("memcpy_dtoh_async", dest, src, stream, up=False)

    def memcpy_dtod_async(dest: int, src: int, size: int, stream: Any = None) -> None:
        def run() -> None:
            machine.view(int(dest), size, "memcpy_dtod_async")[:] = machine.view(int(src), size, "memcpy_dtod_async")

        machine.issue(stream._stream, run, "memcpy_dtod_async")

    def pagelocked_zeros(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        machine.require_context("pagelocked_zeros")
        made = np.zeros(shape, dtype)
        machine.pinned.append(made)
        return made

    m.__dict__.update(
        Error=Error, MemoryError=MemoryError, LogicError=LogicError, LaunchError=LaunchError,
        Device=Device, Context=Context, Stream=NativeStream, Event=Event,
        stream_flags=SimpleNamespace(NON_BLOCKING=1), event_flags=SimpleNamespace(DISABLE_TIMING=2),
        init=lambda flags=0: None, get_driver_version=lambda: machine.driver_version,
        module_from_buffer=module_from_buffer, mem_alloc=mem_alloc, memset_d8=memset_d8, memcpy_htod=memcpy_htod,
        memcpy_htod_async=memcpy_htod_async, memcpy_dtoh_async=memcpy_dtoh_async, memcpy_dtod_async=memcpy_dtod_async,
        pagelocked_zeros=pagelocked_zeros,
    )  # fmt: skip
    return m


def make_bindings(machine: Machine) -> ModuleType:
    """`cuda.bindings.driver`, the part about graphs."""
    m = ModuleType("cuda.bindings.driver")
    fine, failed = 0, 900
    graphs: dict[int, list[Any]] = {}

    def new(ops: list[Any]) -> int:
        graphs[len(graphs) + 1] = ops
        return len(graphs)

    def cuStreamBeginCapture(hStream: int, mode: int) -> tuple[int]:
        machine.require_context("cuStreamBeginCapture")
        if mode != 1:
            raise machine.fault("a capture that other threads disturb")
        stream = machine.stream(hStream, "cuStreamBeginCapture")
        stream.capturing, stream.capturer = [], threading.get_ident()
        return (fine,)

    def cuStreamEndCapture(hStream: int) -> tuple[int, Any]:
        stream = machine.stream(hStream, "cuStreamEndCapture")
        ops, stream.capturing = stream.capturing, None
        if ops is None:
            raise machine.fault("the end of a capture that was not begun")
        return (failed, None) if "capture" in machine.refuse else (fine, new(ops))

    def cuGraphInstantiate(hGraph: int, flags: int) -> tuple[int, int]:
        return fine, new(list(graphs[hGraph]))

    def cuGraphDestroy(hGraph: int) -> tuple[int]:
        graphs[hGraph] = []
        return (fine,)

    def cuGraphLaunch(hGraphExec: int, hStream: int) -> tuple[int]:
        stream = machine.stream(hStream, "cuGraphLaunch")
        if not graphs[hGraphExec]:
            raise machine.fault("launch of a graph that was destroyed, or is empty")
        for op in graphs[hGraphExec]:
            machine.issue(stream, op.run, "captured")
        machine.count("cuGraphLaunch")
        return (fine,)

    def cuGraphExecDestroy(hGraphExec: int) -> tuple[int]:
        graphs[hGraphExec] = []
        return (fine,)

    functions = (
        cuStreamBeginCapture, cuStreamEndCapture, cuGraphInstantiate, cuGraphDestroy, cuGraphLaunch, cuGraphExecDestroy,
    )  # fmt: skip
    m.__dict__.update({function.__name__: function for function in functions})
    m.CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    return m
