"""Operations and bytes per stage, and the times that they bound: on this CPU measured, on GPUs by datasheets.

    python benchmarks/roofline.py --views 16 [--write docs/roofline.md] [--json]

A bound is no result: no program is faster than it, and ours are slower. Multiply-adds of the full size are counted by
torch on tensors without memory, those of the live size from its ONNX files. `computed` is what the CPU path multiplies
after Winograd's and Fourier's savings. Bytes are weights once, and what enters and leaves a stage once.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inference.model_store import load_model
from inference.tempeh.compiled.lines import multiply
from inference.tempeh.published.sizes import FULL
from inference.tempeh.published.weights import blank_coarse, blank_refine

GPUS = {
    "RTX 3060": (51.0, 360.0),
    "RTX 4090": (165.2, 1008.0),
    "L4": (60.5, 300.0),
    "A100 80 GB SXM": (312.0, 2039.0),
    "H100 SXM": (989.4, 3350.0),
}
"""Name to dense fp16 tensor TFLOP/s with float32 accumulation, and GB/s; NVIDIA's datasheets."""
LOCAL = 512


@dataclass(frozen=True)
class Work:
    """One stage."""

    name: str
    macs: float
    """Multiply-adds as the network is written."""
    computed: float
    """Multiply-adds of the CPU path."""
    bytes: float
    """Weights, inputs and outputs, float32."""


def counted(module: torch.nn.Module, *shape: int) -> float:
    """Multiply-adds of a module for one input."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2


def size_of(module: torch.nn.Module) -> float:
    """Bytes of its weights."""
    return 4.0 * sum(p.numel() for p in module.parameters())


def local_computed() -> float:
    """Products of the refinement's 3D net per vertex on the CPU: see inference/tempeh/compiled."""
    width, (a, b, _) = FULL.width, FULL.local_levels
    eight = 1728 * (FULL.front * width + 9 * width * width)
    four = 216 * (width * a + 5 * a * a)
    two = 27 * (a * b + 11 * b * b)
    seven = 1008 * 4 * 16 * 16
    ones = LOCAL * (FULL.front * width + 2 * width * width + width) + 64 * width * a + 8 * a * b
    return float(eight + four + two + seven + ones + LOCAL * a * width + 64 * b * a)


def full_size(views: int) -> list[Work]:
    """Stages of the published network."""
    n, points, keys = FULL.vertices, FULL.grid**3, FULL.coarse_back[-1]
    coarse = blank_coarse(FULL, quirks=True).eval()
    template, triangles = np.zeros((n, 3), np.float32), np.zeros((1, 3), np.int32)
    refine = blank_refine(FULL, template, triangles, quirks=True).eval()
    small = counted(coarse.features, 1, 3, 150, 200) * views
    fine = counted(refine.features, 1, 3, 300, 400) * views
    trunk = counted(coarse.net, 1, FULL.fused, *(FULL.grid,) * 3)
    local = counted(refine.net, 8, FULL.fused + 3, 8, 8, 8) / 8 * n
    maps = 4.0 * views * 8
    samples = n * LOCAL * views
    return [
        Work("coarse features", small, small, size_of(coarse.features) + views * 4.0 * 3 * 30000 + maps * 7500),
        Work("coarse volumes", 2 * points * views * 56, 2 * points * views * 56, 2 * maps * 7500 + 128.0 * points),
        Work("coarse 3D net", trunk, trunk, size_of(coarse.net) + 4.0 * points * (16 + keys)),
        Work("attention", n * points * (keys + 4.0), n * points * (keys + 4.0), 4.0 * keys * (points + n)),
        Work("fine features", fine, fine, size_of(refine.features) + views * 4.0 * 3 * 120000 + maps * 30000),
        Work("local sampling", samples * 56.0, samples * 56.0, maps * 30000 + 64.0 * n * LOCAL),
        Work("local 3D net", local, local_computed() * n, size_of(refine.net) + 64.0 * n * LOCAL),
    ]


def live_size() -> list[Work]:
    """Graphs of the model that ships, convolutions and matrix products."""
    found = []
    for name, graph in load_model("live").graphs.items():
        model = onnx.shape_inference.infer_shapes(onnx.load(str(graph.path)))
        shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in [*model.graph.value_info, *model.graph.input, *model.graph.output]
        }
        weights = {w.name: list(w.dims) for w in model.graph.initializer}
        for node in model.graph.node:  # weights kept in float16 stand behind a cast
            if node.op_type == "Cast" and node.input[0] in weights:
                weights[node.output[0]] = weights[node.input[0]]
        shapes |= weights
        macs = 0.0
        for node in model.graph.node:
            if node.op_type in ("Conv", "ConvTranspose"):
                kernel = weights[node.input[1]]
                place = node.output[0] if node.op_type == "Conv" else node.input[0]
                spread = np.prod(shapes[place]) / shapes[place][1]
                macs += float(spread * np.prod(kernel))
            elif node.op_type in ("MatMul", "Gemm"):
                macs += float(np.prod(shapes[node.input[0]]) * shapes[node.input[1]][-1])
        ends = [v.name for v in [*model.graph.input, *model.graph.output]]
        moved = 4.0 * sum(float(np.prod(shapes[end])) for end in ends) + graph.path.stat().st_size
        found.append(Work(name, macs, macs, moved))
    return found


def ceilings() -> dict[str, float]:
    """Float32 multiply-adds per second and bytes per second of one core, best of several."""
    random = np.random.default_rng(0)
    a, b = random.random((64, 256), np.float32), random.random((256, 32), np.float32)
    c = np.zeros((64, 32), np.float32)
    args = (a.ctypes.data, b.ctypes.data, c.ctypes.data, 64, 256, 32)
    multiply(*args)
    best = 1e9
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            multiply(*args)
        best = min(best, (time.perf_counter() - start) / 200)
    source = random.random(1 << 25)
    target = np.empty_like(source)
    copy = 1e9
    for _ in range(6):
        start = time.perf_counter()
        np.copyto(target, source)
        copy = min(copy, time.perf_counter() - start)
    return {"gmac_per_s": 64 * 256 * 32 / best / 1e9, "gb_per_s": 2 * source.nbytes / copy / 1e9}


def bound_ms(macs: float, moved: float, gmac_per_s: float, gb_per_s: float) -> float:
    """Time below which no program comes, ms."""
    return 1e3 * max(macs / (gmac_per_s * 1e9), moved / (gb_per_s * 1e9))


def table(title: str, work: list[Work], cpu: dict[str, float]) -> list[str]:
    """A table in Markdown."""
    names = ["this CPU, one core", *GPUS]
    lines = [f"## {title}", "", "| stage | GMAC | computed on the CPU | MB | " + " | ".join(names) + " |"]
    lines.append("|---" * (4 + len(names)) + "|")
    total = Work("all", *(sum(getattr(w, f) for w in work) for f in ("macs", "computed", "bytes")))
    sums = np.zeros(len(names))
    for stage in [*work, total]:
        times = [bound_ms(stage.computed, stage.bytes, cpu["gmac_per_s"], cpu["gb_per_s"])]
        times += [bound_ms(stage.macs, stage.bytes / 2, tflops * 500, rate) for tflops, rate in GPUS.values()]
        if stage is total:
            times = list(sums)
        else:
            sums += times
        shown = " | ".join(f"{t:.3g}" for t in times)
        counts = " | ".join(f"{value:.3g}" for value in (stage.macs / 1e9, stage.computed / 1e9, stage.bytes / 1e6))
        lines.append(f"| {stage.name} | {counts} | {shown} |")
    return [*lines, ""]


def page(result: dict[str, Any], views: int) -> str:
    """The page of the documents."""
    cpu = result["cpu"]
    head = [
        "# Rooflines: what bounds the time of a mesh",
        "",
        "Made by `python benchmarks/roofline.py --write docs/roofline.md`. Times are **bounds in ms and no results**:",
        "no program is faster, ours are slower; what was measured is printed by `mien bench model`. The ceilings were",
        f"measured on one core of the machine that made this page ({cpu['gmac_per_s']:.0f} GMAC/s in float32,",
        f"{cpu['gb_per_s']:.0f} GB/s); GPUs: dense fp16 tensor throughput and bandwidth of the datasheets, fp16 data.",
        "Nothing here ran on a GPU.",
        "",
    ]
    body = table(f"Full size (the release), {views} views", result["full"], cpu)
    title = "Live size, 8 views (convolutions and products; the geometry between them is numpy)"
    body += table(title, result["live"], cpu)
    return "\n".join(head + body)


def main() -> int:
    """Count, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--views", type=int, default=16, help="of the full size")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page of the documents")
    args = parser.parse_args()
    result = {"cpu": ceilings(), "full": full_size(args.views), "live": live_size()}
    if args.write:
        args.write.write_text(page(result, args.views), "utf-8")
    plain = {**result, "full": [w.__dict__ for w in result["full"]], "live": [w.__dict__ for w in result["live"]]}
    print(json.dumps(plain) if args.json else page(result, args.views))
    return 0


if __name__ == "__main__":
    sys.exit(main())
