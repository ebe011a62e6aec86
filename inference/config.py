"""`[inference]`: which network turns frame sets into meshes, and how."""

from dataclasses import dataclass, field
from typing import Literal

from streamer.config import limits


@dataclass(frozen=True, slots=True)
class InferenceConfig:
    """`[inference]`: the network and the engine that runs it."""

    model: str = "live"
    """Name of a model that ships with Mien, or a folder with a `model.toml`."""
    engine: Literal["openvino", "tensorrt", "torch"] = "openvino"
    """What runs the graphs: `openvino` on the CPU, `tensorrt` on an NVIDIA GPU (docs/gpu.md), `torch` as reference.
    Never replaced by another in silence."""
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"
    """Precision of the convolution graphs; geometry is always float32. `auto` takes bf16 (openvino) or f16 (tensorrt)
    for graphs whose rounding moves no vertex by 0.05 mm, where a trial at the first start shows it faster."""
    threads: int = field(default=0, metadata=limits(0, 256))
    """Threads of each graph; 0: half of all cores, since stages of two sets overlap."""
    track: bool = True
    """Live, the head is followed from set to set, which spares finding it anew each time. Every guess is checked by
    what comes out of it; a set whose guess was wrong is made again without. Takes are always reconstructed without."""
