"""Every graph times every GPU generation through NVIDIA's compiler, without a GPU: what is taken, plan sizes, times.

Live graphs in float16 as docs/gpu.md says; graphs of the published network in full size and float32, `--views` views,
pictures of 300 x 400 (coarse stage: 150 x 200), and for 7.5 with convolutions and products in float16. Needs the extras
gpu-check and train.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import onnx

from inference.tempeh.export import export_graphs
from inference.tempeh.published.export import gpu_graphs
from inference.tempeh.published.seeded import seeded_model
from inference.tempeh.published.store import HEIGHT, WIDTH, load_coarse, load_refine
from inference.tensorrt.half import CONVOLUTIONAL, PRODUCTS, half
from inference.tensorrt.plan import CAPABILITIES, build_plan, import_rtx
from streamer.errors import EngineError

LIVE = Path(__file__).parents[1] / "inference/weights/live"
NETS = ("thumbs", "heat", "features", "keys")


def compiled(trt: Any, path: Path, capability: int) -> dict[str, Any]:
    """Compile one graph and say how it went."""
    start = time.perf_counter()
    try:
        size = len(build_plan(trt, path, capability=capability))
    except EngineError as error:
        return {"graph": path.stem, "capability": capability, "error": str(error)}
    return {"graph": path.stem, "capability": capability, "bytes": size, "seconds": time.perf_counter() - start}


def live(trt: Any, folder: Path) -> list[dict[str, Any]]:
    """The shipped graphs."""
    rows = []
    for path in sorted(LIVE.glob("*.onnx")):
        for capability in CAPABILITIES:
            products = PRODUCTS if capability == 75 else frozenset()
            target = folder / path.name
            onnx.save(half(onnx.load(str(path)), CONVOLUTIONAL if path.stem in NETS else products), str(target))
            rows.append(compiled(trt, target, capability))
    return rows


def published(trt: Any, folder: Path, views: int) -> list[dict[str, Any]]:
    """The published network's graphs with seeded weights."""
    model = seeded_model()
    specs = gpu_graphs(load_coarse(model), load_refine(model), views, (HEIGHT, WIDTH))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants of the graph, and are meant to
        export_graphs(specs, folder)
    rows = []
    for name in specs:
        path = folder / f"{name}.onnx"
        rows += [compiled(trt, path, capability) for capability in CAPABILITIES if capability != 75]
        onnx.save(half(onnx.load(str(path)), CONVOLUTIONAL | PRODUCTS), str(path))
        rows.append(compiled(trt, path, 75))
    return rows


def main() -> int:
    """Print a line per graph and capability, or one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--views", type=int, default=16, help="views of the published network (default 16)")
    parser.add_argument("--live-only", action="store_true", help="leave the published network out")
    args = parser.parse_args()
    trt = import_rtx()
    with tempfile.TemporaryDirectory() as folder:
        rows = live(trt, Path(folder))
        if not args.live_only:
            rows += published(trt, Path(folder), args.views)
    failed = sum("error" in row for row in rows)
    if args.json:
        print(json.dumps({"version": trt.__version__, "failed": failed, "graphs": rows}))
    else:
        for row in rows:
            end = row.get("error") or f"{row['bytes'] / 1e6:7.2f} MB {row['seconds']:6.2f} s"
            print(f"{row['graph']:16} {row['capability']:4} {end}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
