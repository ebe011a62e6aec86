"""TensorRT on one CUDA device: plans from the store or built, checked after loading, and contexts that enqueue them."""

import hashlib
import itertools
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from inference.devices.cuda import CudaDevice
from inference.engines.base import TensorSpec
from inference.plans import Plan, PlanKey, PlanStore
from inference.tensorrt.plan import OPTIONS, last, make_logger, make_plan
from streamer.errors import EngineError

log = logging.getLogger(__name__)

NUMBERS = itertools.count()
F4 = np.dtype(np.float32)


class Activation:
    """Memory for what a graph holds while it runs. Shared by all engines whose runs stand on one stream.

    Args:
        device: where.
        name: of the stream, for messages.
    """

    def __init__(self, device: CudaDevice, name: str) -> None:
        """Start without memory."""
        self._device, self._name = device, name
        self._blocks: list[Any] = []
        self._size = 0

    def at_least(self, size: int) -> tuple[int, int]:
        """Return address and size of a block that is large enough; smaller ones stay for the contexts that have them.

        Raises:
            EngineError: there is not enough memory.
        """
        if size > self._size or not self._blocks:
            self._blocks.append(self._device.allocate(size, f"what graphs hold on stream '{self._name}'"))
            self._size = max(1, size)
        return int(self._blocks[-1]), self._size


class PlanContext:
    """One execution of a graph at a time: addresses of its tensors, and its place on one stream.

    Args:
        native: TensorRT's execution context.
        graph: name, for messages.
        ports: names of inputs and outputs.
        said: what TensorRT's logger heard.
    """

    def __init__(self, native: Any, graph: str, ports: frozenset[str], said: list[str]) -> None:
        """Remember what must be bound."""
        self._native, self._graph, self._ports, self._said = native, graph, ports, said
        self._bound: set[str] = set()

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Set where tensors lie on the device.

        Args:
            addresses: input or output name to address, a multiple of 256.

        Raises:
            EngineError: the graph has no such tensor, or TensorRT refuses the address.
        """
        for name, address in addresses.items():
            if name not in self._ports or not self._native.set_tensor_address(name, address):
                raise EngineError(
                    f"graph '{self._graph}': TensorRT refuses address {address:#x} for '{name}': {last(self._said)}"
                )
            self._bound.add(name)

    def enqueue(self, handle: int) -> None:
        """Issue a run to a stream, which has to be that of the activation memory.

        Args:
            handle: address of the native stream.

        Raises:
            EngineError: a tensor has no address, or TensorRT cannot enqueue: for want of memory, mostly.
        """
        if self._bound != self._ports:
            raise EngineError(f"graph '{self._graph}': no address for {sorted(self._ports - self._bound)}")
        if not self._native.execute_async_v3(handle):
            raise EngineError(f"graph '{self._graph}': TensorRT cannot enqueue it: {last(self._said)}")


class LoadedPlan:
    """A plan on the device.

    Args:
        native: TensorRT's engine.
        name: of the graph.
        plan: what it was loaded from.
        trt: the module.
        said: what TensorRT's logger heard.
    """

    def __init__(self, native: Any, name: str, plan: Plan, trt: Any, said: list[str]) -> None:
        """Take an engine that `Session` checked."""
        self.name = name
        self.number = next(NUMBERS)
        """No other plan of this process has it."""
        self.inputs = {port: TensorSpec(shape, F4) for port, shape in plan.inputs.items()}
        self.outputs = {port: TensorSpec(shape, F4) for port, shape in plan.outputs.items()}
        self._native, self._trt, self._said = native, trt, said

    def reserve(self, activation: Activation) -> None:
        """Let a stream's activation memory be large enough for this graph.

        Raises:
            EngineError: there is not enough memory.
        """
        activation.at_least(int(self._native.device_memory_size_v2))

    def context(self, activation: Activation) -> PlanContext:
        """Make a context whose runs use a stream's activation memory.

        Raises:
            EngineError: there is not enough memory.
        """
        address, size = activation.at_least(int(self._native.device_memory_size_v2))
        made = self._native.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if made is None:
            raise EngineError(f"graph '{self.name}': TensorRT makes no context: {last(self._said)}; free GPU memory")
        made.set_device_memory(address, size)
        return PlanContext(made, self.name, frozenset((*self.inputs, *self.outputs)), self._said)

    def bytes_of(self, port: str) -> int:
        """Size of an input or output."""
        return 4 * math.prod((self.inputs | self.outputs)[port].shape)


class Session:
    """TensorRT on one device. Used by one thread at a time.

    Args:
        trt: the module `tensorrt`.
        device: where.
        store: where plans are kept; None: nowhere.
    """

    def __init__(self, trt: Any, device: CudaDevice, store: PlanStore | None) -> None:
        """Open TensorRT's runtime.

        Raises:
            EngineError: it cannot be opened.
        """
        self._trt, self._device, self._store = trt, device, store
        self._said: list[str] = []
        self._logger = make_logger(trt, self._said)  # the runtime keeps no reference of its own
        with device.current():
            try:
                self._runtime = trt.Runtime(self._logger)
            except TypeError as error:  # how pybind11 reports a null pointer
                raise EngineError("TensorRT has no runtime here, it needs an NVIDIA driver") from error

    def load(self, onnx_model: bytes, name: str) -> LoadedPlan:
        """Return a graph on the device, its plan from the store or built now, which takes from seconds to minutes.

        Args:
            onnx_model: content of an ONNX file, precision and casts included.
            name: of the graph.

        Raises:
            EngineError: TensorRT cannot parse, compile or load it.
        """
        digest = hashlib.sha256(onnx_model).hexdigest()
        key = PlanKey(name, digest, f"tensorrt {self._trt.__version__}", self._device.identity, OPTIONS)
        with self._device.current():
            kept = None if self._store is None else self._store.load(key)
            if kept is not None and self._store is not None:
                try:
                    return self._loaded(kept, name)
                except EngineError as error:
                    log.warning("a plan that was kept is built again: %s", error)
                    self._store.forget(key)
            log.info("graph '%s': building the plan for %s", name, self._device.identity)
            plan = make_plan(self._trt, onnx_model, name)
            made = self._loaded(plan, name)
            if self._store is not None:
                self._store.save(key, plan)
            return made

    def _loaded(self, plan: Plan, name: str) -> LoadedPlan:
        """Load a plan, and hold what it says against what was asked for.

        Raises:
            EngineError: TensorRT does not load it, or it is another graph.
        """
        engine = self._runtime.deserialize_cuda_engine(plan.data)
        if engine is None:
            raise EngineError(f"graph '{name}': TensorRT does not load the plan: {last(self._said)}")
        found = {}
        for k in range(engine.num_io_tensors):
            port = engine.get_tensor_name(k)
            enters = engine.get_tensor_mode(port) == self._trt.TensorIOMode.INPUT
            floats = engine.get_tensor_dtype(port) == self._trt.DataType.FLOAT
            found[str(port)] = (enters, floats, tuple(int(n) for n in engine.get_tensor_shape(port)))
        wanted = {port: (True, True, shape) for port, shape in plan.inputs.items()}
        wanted |= {port: (False, True, shape) for port, shape in plan.outputs.items()}
        if found != wanted:
            raise EngineError(f"graph '{name}': the plan has tensors {found}, wanted are {wanted}")
        return LoadedPlan(engine, name, plan, self._trt, self._said)
