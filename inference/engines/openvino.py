"""OpenVINO on the CPU: the only file that imports openvino, and only when an engine is opened.

The precision hint is always given: left alone, OpenVINO computes in bf16 on some CPUs and in f32 on others.
"""

import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inference.engines.base import Precision, TensorSpec, check_inputs, choose_precision
from inference.plans import Plan, PlanKey, PlanStore
from inference.precision import processor
from streamer.errors import EngineError, MissingExtra, ModelError
from streamer.types import F32

log = logging.getLogger(__name__)

_first_use = threading.Lock()

BF16_TOLERANCE = 2e-2
"""Largest relative RMS difference from f32 that `auto` accepts: nets show 3e-3 to 1e-2, coordinates far more."""


def _reason(error: Exception) -> str:
    """Return the line of an OpenVINO message that says something: the first lines only name source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("Exception from")]
    return (telling or lines or [type(error).__name__])[0][:300]


class OpenVinoGraph:
    """A graph compiled by OpenVINO; see `inference.engines.base.Graph`."""

    def __init__(self, compiled: Any, name: str, precision: str) -> None:
        """Take a compiled model with static float32 inputs and outputs."""
        self.name = name
        self.precision = precision
        self.inputs = {_declared(port): _spec(port, name) for port in compiled.inputs}
        self.outputs = {_declared(port): _spec(port, name) for port in compiled.outputs}
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, F32]:
        """Run once and wait; see `Graph.run`."""
        check_inputs(self.name, self.inputs, inputs)
        arrays = [np.ascontiguousarray(inputs[name]) for name in self.inputs]
        try:
            with self._lock:
                # Inputs are shared. Outputs are copied: the request writes into the same buffers at its next run. The
                # copy costs nothing beside a run; binding fresh arrays by set_tensor was slower (11.3 to 8.6 ms).
                results = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            raise EngineError(f"graph '{self.name}': OpenVINO failed: {_reason(error)}") from error
        return {name: results[index] for index, name in enumerate(self.outputs)}


def _declared(port: Any) -> str:
    """Return the name that the ONNX file gives a port; its tensor takes on further ones where a no-op is removed."""
    return str(port.get_node().get_friendly_name()).removesuffix("/sink_port_0")


def _spec(port: Any, graph: str) -> TensorSpec:
    shape, kind = port.get_partial_shape(), port.get_element_type().get_type_name()
    if shape.is_dynamic or kind != "f32":
        raise EngineError(
            f"graph '{graph}', '{port.any_name}': {kind} {shape}; export it with static shapes and float32 tensors"
        )
    return TensorSpec(tuple(shape.to_shape()), np.dtype(np.float32))


def _import_openvino() -> Any:
    """Import openvino without its telemetry: left alone, the import alone reports to an analytics server.

    The first array that it is handed makes its binding look up numpy, once in a process and with the interpreter's lock
    let go: two threads that come at that moment wait for each other for ever (seen in 14 of 25 processes whose streams
    ran their first graphs at once). So the first array is handed over here, by one thread.

    Raises:
        MissingExtra: openvino is not installed.
    """
    # With the telemetry package out of reach openvino takes the stub that it brings for this case.
    hidden = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino

        with _first_use:
            _ = openvino.Tensor(np.zeros(1, np.float32)).data
        return openvino
    except ImportError as error:
        raise MissingExtra("openvino", "live") from error
    finally:
        if hidden:
            del sys.modules["openvino_telemetry"]


class OpenVinoEngine:
    """OpenVINO's CPU plugin; see `inference.engines.base.Engine`."""

    name = "openvino"

    def __init__(
        self, *, threads: int = 0, cache_dir: Path | None = None, bf16_tolerance: float = BF16_TOLERANCE
    ) -> None:
        """Open the runtime.

        Args:
            threads: threads of a run; 0: all cores that this process may use.
            cache_dir: where compiled graphs are kept between starts, see `PlanStore`; None: nowhere. OpenVINO's own
                cache is not used: it believes damaged files.
            bf16_tolerance: what `auto` accepts, see `prefer_lower`.

        Raises:
            MissingExtra: openvino is not installed.
            EngineError: it has no CPU device here.
        """
        openvino = _import_openvino()
        self.version = str(openvino.__version__)
        self._core = openvino.Core()
        if "CPU" not in self._core.available_devices:
            raise EngineError("openvino finds no CPU device here; reinstall it: pip install --force-reinstall openvino")
        self._tolerance = bf16_tolerance
        self._lists_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
            # Left alone, every graph of one thread pins its caller to the first core while it runs: the stages of two
            # sets then share one core and the others idle.
            "ENABLE_CPU_PINNING": False,
        }
        self._store = None if cache_dir is None else PlanStore(cache_dir)
        self._machine = f"{processor()} {' '.join(sorted(self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')))}"

    def compile(self, onnx_path: Path, *, precision: Precision = "f32") -> OpenVinoGraph:
        """Compile a graph; see `Engine.compile`."""
        if not onnx_path.is_file():
            raise ModelError(f"{onnx_path}: no such graph; run: mien model check")
        if precision == "f16":
            raise EngineError("inference.precision = 'f16': openvino computes in f32 or bf16 here; use one, or 'auto'")
        if precision == "auto" and not self._lists_bf16:
            precision = "f32"
        if precision == "bf16" and not self._lists_bf16:
            raise EngineError("inference.precision = 'bf16': this CPU does not list BF16; use 'f32' or 'auto'")
        digest = hashlib.sha256(onnx_path.read_bytes()).hexdigest()

        def make(kind: Literal["f32", "bf16", "f16"]) -> OpenVinoGraph:
            return OpenVinoGraph(self._compiled(onnx_path, digest, kind), onnx_path.stem, kind)

        if precision != "auto":
            return make(precision)
        chosen = choose_precision(make, clock=time.perf_counter, tolerance=self._tolerance)
        log.info("graph '%s': precision auto chose %s", onnx_path.stem, chosen.precision)
        return chosen

    def _compiled(self, onnx_path: Path, digest: str, kind: str) -> Any:
        """Compile a graph, or take what was compiled at an earlier start."""
        options = self._options | {"INFERENCE_PRECISION_HINT": kind}
        told = json.dumps(options, sort_keys=True)
        key = PlanKey(onnx_path.stem, digest, f"openvino {self.version}", self._machine, told)
        kept = None if self._store is None else self._store.load(key)
        if kept is not None and self._store is not None:
            try:
                return self._core.import_model(kept.data, "CPU", options)
            except RuntimeError as error:
                log.warning("a graph that was kept is compiled again: %s", _reason(error))
                self._store.forget(key)
        try:
            model = self._core.read_model(onnx_path)
        except RuntimeError as error:
            raise EngineError(f"{onnx_path}: OpenVINO cannot read it: {_reason(error)}") from error
        try:
            compiled = self._core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise EngineError(f"{onnx_path}: OpenVINO cannot compile it in {kind}: {_reason(error)}") from error
        if self._store is not None:
            self._store.save(key, Plan(compiled.export_model().getvalue(), {}, {}))
        return compiled
