"""What an engine is: it compiles ONNX files of static shape and runs them on float32 arrays."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamer.errors import EngineError
from streamer.types import F32

log = logging.getLogger(__name__)

Precision = Literal["auto", "f32", "bf16", "f16"]
Lower = Literal["bf16", "f16"]


class TensorSpec(NamedTuple):
    """Shape and element type of a graph's input or output."""

    shape: tuple[int, ...]
    """Static shape."""
    dtype: np.dtype[Any]
    """Always float32 at the border, whatever the engine computes in."""


class Graph(Protocol):
    """A compiled graph. Safe to call from several threads: the runs of one graph take turns."""

    @property
    def name(self) -> str:
        """Stem of the ONNX file."""

    @property
    def precision(self) -> str:
        """What it computes in: `f32`, `bf16` or `f16`; never `auto`."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Input name to shape and type, in the order of the file."""

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Output name to shape and type, in the order of the file."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, F32]:
        """Run once and wait.

        Args:
            inputs: every input by name, float32, of exactly its shape; C-contiguous arrays are not copied.

        Returns:
            Every output by name, in fresh arrays that belong to the caller.

        Raises:
            EngineError: an input is missing, unknown, or of another shape or type; or the run failed.
        """


class Engine(Protocol):
    """A runtime that is ready to compile graphs on this machine."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def version(self) -> str:
        """Version of the runtime: what is kept about one says nothing about another."""

    def compile(self, onnx_path: Path, *, precision: Precision = "f32") -> Graph:
        """Compile a graph.

        Args:
            onnx_path: an ONNX file with static shapes and float32 inputs and outputs.
            precision: what it may compute in. `auto` takes the engine's lower precision (bf16 on a CPU, f16 on a GPU)
                only if the machine has it, it is faster here in a short trial, and it agrees with f32.

        Raises:
            EngineError: the file cannot be compiled, or this machine lacks the precision asked for.
            ModelError: there is no such file.
        """


def check_inputs(graph: str, specs: Mapping[str, TensorSpec], inputs: Mapping[str, NDArray[Any]]) -> None:
    """Refuse inputs that do not fit a graph.

    Args:
        graph: name of the graph, for the message.
        specs: what it takes.
        inputs: what it was given.

    Raises:
        EngineError: names the graph, the input, what was given and what is needed.
    """
    if specs.keys() != inputs.keys():
        missing, unknown = sorted(specs.keys() - inputs.keys()), sorted(inputs.keys() - specs.keys())
        raise EngineError(f"graph '{graph}': inputs missing: {missing}, unknown: {unknown}; it takes {list(specs)}")
    for name, spec in specs.items():
        given = inputs[name]
        if given.shape != spec.shape or given.dtype != spec.dtype:
            raise EngineError(
                f"graph '{graph}', input '{name}': got {given.dtype} {given.shape}, needs {spec.dtype} {spec.shape}"
            )


@dataclass(frozen=True, slots=True)
class Trial:
    """One precision in the trial that decides `auto`."""

    seconds: float
    """Median wall time of a run."""
    outputs: Mapping[str, F32]
    """Its outputs for the common inputs."""


def disagreement(reference: Mapping[str, F32], other: Mapping[str, F32]) -> float:
    """Return the worst relative RMS difference over the outputs.

    Args:
        reference: outputs in float32.
        other: the same outputs in a lower precision.

    Returns:
        rms(other - reference) / rms(reference) of the worst output; infinite where `other` is not finite.
    """
    worst = 0.0
    for name, value in reference.items():
        if not np.isfinite(other[name]).all():
            return float("inf")
        scale = float(np.sqrt(np.mean(np.square(value, dtype=np.float64))))
        error = float(np.sqrt(np.mean(np.square(np.subtract(other[name], value, dtype=np.float64)))))
        if error > 0:
            worst = max(worst, error / scale if scale > 0 else float("inf"))
    return worst


def prefer_lower(f32: Trial, lower: Trial, *, tolerance: float, gain: float = 1.1) -> bool:
    """Decide `auto`: whether a lower precision is worth taking on this machine.

    Args:
        f32: trial in float32.
        lower: trial in the lower precision.
        tolerance: largest `disagreement` that is accepted; convolution nets show 3e-3 to 1e-2 in bf16.
        gain: how many times faster it must be. More than 1, so that noise does not choose: where bf16 is emulated it is
            6 times slower, where it is native 2 to 8 times faster.
    """
    return lower.seconds * gain < f32.seconds and disagreement(f32.outputs, lower.outputs) <= tolerance


Made = TypeVar("Made", bound=Graph)


def trial_inputs(specs: Mapping[str, TensorSpec]) -> dict[str, F32]:
    """Make reproducible inputs for a trial: uniform in 0..1, as pictures and masks are."""
    random = np.random.default_rng(0)
    return {name: random.random(spec.shape, np.float32) for name, spec in specs.items()}


def choose_precision(
    make: Callable[[Literal["f32", "bf16", "f16"]], Made],
    *,
    clock: Callable[[], float],
    tolerance: float,
    lower: Lower = "bf16",
    runs: int = 5,
) -> Made:
    """Compile in f32 and a lower precision, run both in turn on equal inputs and return the one to keep.

    Args:
        make: compiles the graph in a precision.
        clock: monotonic seconds.
        tolerance: see `prefer_lower`.
        lower: the lower precision.
        runs: timed runs of each, after one that warms up; interleaved, so that a busy moment hits both.
    """
    graphs = {"f32": make("f32")}
    try:
        graphs[lower] = make(lower)
    except EngineError as error:  # listed, yet refused: seen on processors with AVX2 only
        log.info("precision auto stays with f32: %s", error)
        return graphs["f32"]
    inputs = trial_inputs(graphs["f32"].inputs)
    outputs = {key: graph.run(inputs) for key, graph in graphs.items()}
    times: dict[str, list[float]] = {key: [] for key in graphs}
    for _ in range(runs):
        for key, graph in graphs.items():
            start = clock()
            graph.run(inputs)
            times[key].append(clock() - start)
    trials = {key: Trial(float(np.median(times[key])), outputs[key]) for key in graphs}
    return graphs[lower if prefer_lower(trials["f32"], trials[lower], tolerance=tolerance) else "f32"]
