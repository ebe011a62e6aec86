"""TensorRT as an engine: graphs on a CUDA device, called with numpy arrays.

A run takes a lane: a stream with activation memory that all graphs share in it, page-locked arrays for each graph, and
a CUDA graph of upload, run and download. There are as many lanes as stages may call at one time.
"""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

from inference.devices import Buffer, BufferSpec
from inference.devices.capture import Captures
from inference.devices.cuda import CudaDevice
from inference.engines.base import Precision, TensorSpec, check_inputs, choose_precision
from inference.plans import PlanStore
from inference.tensorrt.plan import import_tensorrt
from inference.tensorrt.session import Activation, LoadedPlan, PlanContext, Session
from streamer.errors import EngineError, MissingExtra, ModelError
from streamer.types import F32

log = logging.getLogger(__name__)

F16_TOLERANCE = 5e-3
"""Largest relative RMS difference from f32 that `auto` accepts: nets show 4e-4 to 2e-3, coordinates far more."""
LANES = 3
"""Stages of the live network that run side by side."""
TURING = 75


@dataclass(frozen=True, slots=True)
class Bound:
    """A graph in a lane."""

    context: PlanContext
    """Its tensors are bound to the buffers."""
    inputs: Mapping[str, Buffer]
    """By name."""
    outputs: Mapping[str, Buffer]
    """By name."""


class Lane:
    """A stream of its own, with what graphs need in it. Used by one thread at a time.

    Args:
        device: where.
        name: of the stream.
    """

    def __init__(self, device: CudaDevice, name: str) -> None:
        """Make the stream."""
        self._device = device
        with device.current():
            self._stream = device.driver.Stream(device.driver.stream_flags.NON_BLOCKING)
        self._captures = Captures(device.graphs, int(self._stream.handle))
        self._activation = Activation(device, name)
        self._bound: WeakKeyDictionary[LoadedPlan, Bound] = WeakKeyDictionary()

    def run(self, plan: LoadedPlan, inputs: Mapping[str, NDArray[Any]]) -> dict[str, F32]:
        """Run a graph once and wait.

        Raises:
            EngineError: there is not enough memory, or the device fails.
        """
        driver = self._device.driver
        with self._device.current():
            try:
                bound = self._bound.get(plan) or self._bind(plan)
                for name, array in inputs.items():
                    bound.inputs[name].host[...] = array
                try:
                    self._captures.replay((plan.name, plan.number), lambda: self._issue(bound))
                finally:  # nothing of a run that failed half way may still read or write the buffers
                    self._stream.synchronize()
            except (driver.Error, MemoryError) as error:
                raise EngineError(f"graph '{plan.name}': CUDA: {error}") from error
            return {name: buffer.host.copy() for name, buffer in bound.outputs.items()}

    def _bind(self, plan: LoadedPlan) -> Bound:
        ports = [
            {n: self._device.buffer(BufferSpec(s.shape)) for n, s in p.items()} for p in (plan.inputs, plan.outputs)
        ]
        context = plan.context(self._activation)
        context.bind({name: int(buffer.device) for name, buffer in (ports[0] | ports[1]).items()})
        self._bound[plan] = Bound(context, *ports)
        return self._bound[plan]

    def _issue(self, bound: Bound) -> None:
        driver = self._device.driver
        for buffer in bound.inputs.values():
            driver.memcpy_htod_async(buffer.device, buffer.host, self._stream)
        bound.context.enqueue(int(self._stream.handle))
        for buffer in bound.outputs.values():
            driver.memcpy_dtoh_async(buffer.host, buffer.device, self._stream)


class TensorRtGraph:
    """A graph on the device; see `inference.engines.base.Graph`."""

    def __init__(self, plan: LoadedPlan, lanes: "queue.LifoQueue[Lane]", precision: str) -> None:
        """Take a loaded plan and the engine's lanes."""
        self.plan = plan
        """For networks that enqueue it themselves."""
        self.name, self.precision = plan.name, precision
        self.inputs: Mapping[str, TensorSpec] = plan.inputs
        self.outputs: Mapping[str, TensorSpec] = plan.outputs
        self._lanes = lanes

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, F32]:
        """Run once and wait; see `Graph.run`."""
        check_inputs(self.name, self.inputs, inputs)
        lane = self._lanes.get()
        try:
            return lane.run(self.plan, inputs)
        finally:
            self._lanes.put(lane)


class TensorRtEngine:
    """TensorRT on the first CUDA device; see `inference.engines.base.Engine`."""

    name = "tensorrt"

    def __init__(self, *, cache_dir: Path | None = None, f16_tolerance: float = F16_TOLERANCE) -> None:
        """Open device and runtime.

        Args:
            cache_dir: where plans are kept between starts; None: nowhere.
            f16_tolerance: what `auto` accepts, see `prefer_lower`.

        Raises:
            MissingExtra: tensorrt or pycuda is not installed.
            EngineError: there is no driver, no device, or no runtime.
        """
        trt = import_tensorrt()
        self.device = CudaDevice()
        """Where the graphs are; streams that enqueue them are made by it."""
        self.version = f"{trt.__version__} on {self.device.identity}"
        self._session = Session(trt, self.device, None if cache_dir is None else PlanStore(cache_dir))
        self._tolerance = f16_tolerance
        self._lock = threading.Lock()
        self._lanes: queue.LifoQueue[Lane] = queue.LifoQueue()
        for number in range(LANES):
            self._lanes.put(Lane(self.device, f"lane {number}"))

    def compile(self, onnx_path: Path, *, precision: Precision = "f32") -> TensorRtGraph:
        """Compile a graph, or load the plan of an earlier start; see `Engine.compile`."""
        if not onnx_path.is_file():
            raise ModelError(f"{onnx_path}: no such graph; run: mien model check")
        if precision == "bf16":
            raise EngineError("inference.precision = 'bf16': tensorrt computes in f32 or f16 here; use one, or 'auto'")
        content = onnx_path.read_bytes()

        def make(kind: Literal["f32", "bf16", "f16"]) -> TensorRtGraph:
            model = content if kind == "f32" else self._halved(content)
            with self._lock:
                return TensorRtGraph(self._session.load(model, onnx_path.stem), self._lanes, kind)

        try:
            if precision != "auto":
                return make(precision)
            chosen = choose_precision(make, clock=time.perf_counter, tolerance=self._tolerance, lower="f16")
        except EngineError as error:
            raise EngineError(f"{onnx_path}: {error}") from error
        log.info("graph '%s': precision auto chose %s", onnx_path.stem, chosen.precision)
        return chosen

    def _halved(self, content: bytes) -> bytes:
        """A graph with its convolutions in float16; on Turing its products too."""
        try:
            import onnx

            from inference.tensorrt.half import CONVOLUTIONAL, PRODUCTS, half
        except ImportError as error:
            raise MissingExtra("onnx", "gpu") from error
        operators = CONVOLUTIONAL | (PRODUCTS if self.device.architecture == TURING else frozenset())
        halved: bytes = half(onnx.load_from_string(content), operators).SerializeToString()
        return halved
