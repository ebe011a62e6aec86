"""`tensorrt` 11 on a machine that is not there: what Mien uses of it. Graphs are computed by torch."""

import hashlib
import json
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from inference.tempeh.torch_engine import TorchGraph
from tests.inference.fake_gpu.machine import Machine

VERSION = "11.4.0.106"
MAGIC = b"FAKE PLAN"
_compiled: dict[str, TorchGraph] = {}


class ILogger:
    """As NVIDIA's, to be inherited from."""

    ERROR = 1
    WARNING = 2

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


def computed(model: bytes) -> TorchGraph:
    """The graph in torch, kept over tests."""
    key = hashlib.sha256(model).hexdigest()
    if key not in _compiled:
        _compiled[key] = TorchGraph(onnx.load_from_string(model), "fake", "f32", 1)
    return _compiled[key]


def make_tensorrt(machine: Machine, version: str = VERSION) -> ModuleType:
    """The module."""
    m = ModuleType("tensorrt")
    modes = SimpleNamespace(NONE=0, INPUT=1, OUTPUT=2)
    types = SimpleNamespace(FLOAT=0, HALF=1, INT64=8)
    strategies = SimpleNamespace(STATIC=0, ON_PROFILE_CHANGE=1, USER_MANAGED=2)
    flags = SimpleNamespace(TF32=5)

    class ITensor:
        def __init__(self, value: Any) -> None:
            kind = value.type.tensor_type
            self.name = value.name
            self.shape = tuple(n.dim_value or -1 for n in kind.shape.dim)
            self.dtype = {1: types.FLOAT, 10: types.HALF}.get(kind.elem_type, types.INT64)

    class INetworkDefinition:
        model: bytes = b""
        _inputs: tuple[ITensor, ...] = ()
        _outputs: tuple[ITensor, ...] = ()

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        def get_input(self, index: int) -> ITensor:
            return self._inputs[index]

        def get_output(self, index: int) -> ITensor:
            return self._outputs[index]

    class IBuilderConfig:
        def __init__(self) -> None:
            self.flags = {flags.TF32}

        def clear_flag(self, flag: int) -> None:
            self.flags.discard(flag)

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            machine.require_context("Builder")
            self._logger = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            if flags:
                raise machine.fault("networks are strongly typed by themselves")
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
            machine.count("build")
            if config.flags:
                raise machine.fault("float32 would be computed in TF32")
            if "build" in machine.refuse:
                self._logger.log(ILogger.ERROR, "[defaultAllocator] out of memory")
                return None
            head = json.dumps({"version": version, "gpu": [machine.name, *machine.capability]}).encode()
            return MAGIC + len(head).to_bytes(4, "big") + head + network.model

    class ParserError:
        def __init__(self, text: str) -> None:
            self._text = text

        def desc(self) -> str:
            return self._text

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            self._network = network
            self._errors: list[ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

        def parse(self, model: bytes, path: str | None = None) -> bool:
            try:
                parsed = onnx.load_from_string(model)
                onnx.checker.check_model(parsed)
            except (DecodeError, onnx.checker.ValidationError) as error:
                self._errors.append(ParserError(f"failed to parse: {type(error).__name__}"))
                return False
            self._network.model = bytes(model)
            weights = {weight.name for weight in parsed.graph.initializer}
            self._network._inputs = tuple(ITensor(v) for v in parsed.graph.input if v.name not in weights)
            self._network._outputs = tuple(ITensor(v) for v in parsed.graph.output)
            return True

    class IExecutionContext:
        def __init__(self, graph: TorchGraph, size: int, logger: ILogger) -> None:
            self._graph, self._size, self._logger = graph, size, logger
            self._addresses: dict[str, int] = {}
            self._memory = 0
            self._ran = False

        def set_tensor_address(self, name: str, memory: int) -> bool:
            if memory % 256 or name not in self._graph.inputs | self._graph.outputs:
                self._logger.log(ILogger.ERROR, f"setTensorAddress: {name}, {memory:#x}")
                return False
            self._addresses[name] = int(memory)
            return True

        def set_device_memory(self, memory: int, size: int) -> None:
            if size < self._size or memory % 256:
                raise machine.fault(f"activation memory of {size} bytes at {memory:#x}, needed {self._size}")
            self._memory = memory

        def execute_async_v3(self, stream_handle: int) -> bool:
            stream = machine.stream(stream_handle, "execute_async_v3")
            if "enqueue" in machine.refuse:
                self._logger.log(ILogger.ERROR, "enqueueV3: out of memory")
                return False
            if stream.capturing is not None and not self._ran:
                self._logger.log(ILogger.ERROR, "the first enqueue cannot be captured")
                return False
            if not self._memory:
                raise machine.fault("execute_async_v3 without activation memory")
            self._ran = True
            user, number = machine.activation.get(self._memory, (stream, 0))
            if user is not stream and user.done < number:
                raise machine.fault("activation memory is in use on another stream")
            addresses = dict(self._addresses)
            number = machine.issue(stream, lambda: self._compute(addresses), "execute_async_v3")
            machine.activation[self._memory] = (stream, number)
            return True

        def _compute(self, addresses: dict[str, int]) -> None:
            def held(name: str, shape: tuple[int, ...]) -> np.ndarray:
                raw = machine.view(addresses[name], 4 * int(np.prod(shape)), f"tensor {name}")
                return raw.view(np.float32).reshape(shape)

            machine.view(self._memory, self._size, "activation memory")[:] = machine.ticks % 251
            inputs = {name: held(name, spec.shape).copy() for name, spec in self._graph.inputs.items()}
            for name, value in self._graph.run(inputs).items():
                held(name, value.shape)[:] = value

    class ICudaEngine:
        def __init__(self, model: bytes, logger: ILogger) -> None:
            self._graph, self._logger = computed(model), logger
            self._names = [*self._graph.inputs, *self._graph.outputs]
            self.device_memory_size_v2 = 512 + len(model) % 4096

        @property
        def num_io_tensors(self) -> int:
            return len(self._names)

        def get_tensor_name(self, index: int) -> str:
            return self._names[index]

        def get_tensor_mode(self, name: str) -> int:
            return modes.INPUT if name in self._graph.inputs else modes.OUTPUT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (self._graph.inputs | self._graph.outputs)[name].shape

        def get_tensor_dtype(self, name: str) -> int:
            return types.FLOAT

        def create_execution_context(self, strategy: int = 0) -> IExecutionContext | None:
            machine.require_context("create_execution_context")
            if strategy != strategies.USER_MANAGED:
                raise machine.fault("a context with activation memory of its own")
            if "context" in machine.refuse:
                self._logger.log(ILogger.ERROR, "out of memory")
                return None
            return IExecutionContext(self._graph, self.device_memory_size_v2, self._logger)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            machine.require_context("Runtime")
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            machine.count("deserialize")
            length = int.from_bytes(serialized_engine[len(MAGIC) : len(MAGIC) + 4], "big")
            head = serialized_engine[len(MAGIC) + 4 : len(MAGIC) + 4 + length]
            if json.loads(head) != {"version": version, "gpu": [machine.name, *machine.capability]}:
                self._logger.log(ILogger.ERROR, "the engine plan file is not compatible with this version of TensorRT")
                return None
            return ICudaEngine(serialized_engine[len(MAGIC) + 4 + length :], self._logger)

    classes = (
        ILogger, ITensor, INetworkDefinition, IBuilderConfig, Builder, ParserError, OnnxParser, IExecutionContext,
        ICudaEngine, Runtime,
    )  # fmt: skip
    m.__dict__.update({made.__name__: made for made in classes})
    m.__dict__.update(
        __version__=version, TensorIOMode=modes, DataType=types, BuilderFlag=flags,
        ExecutionContextAllocationStrategy=strategies,
    )  # fmt: skip
    return m
