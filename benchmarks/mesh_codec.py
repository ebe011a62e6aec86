"""The mesh codec of takes beside float32, zstd, float16 and Draco, in one run, on meshes of the simulated rig.

    python benchmarks/mesh_codec.py
    python benchmarks/mesh_codec.py --take takes/demo/slate_T001

Without `--take` it simulates two performances, and reconstructs one with the shipped model: `truth` are smooth meshes,
`inferred` have the jitter of a network. All codecs see the same meshes in turn; CPU times are medians over meshes.
DracoPy is no dependency of Mien: `pip install DracoPy==2.2.0`, or its rows are left out with a note. Ends with 1 if the
codec is less than 5 times smaller than float32, is off by more than 0.005 mm or takes more than 0.4 ms either way.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from inference.model_store import load_model
from inference.reprocess import Setting, reprocess_take
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.takes import open_take
from streamer.takes.mesh_codec import Base, MeshEncoder, decode_vertices, is_base, read_base
from streamer.types import F32, Topology

Coder = tuple[Callable[[F32], bytes], Callable[[bytes], F32]]


def mien(topology: Topology, lossless: bool) -> Coder:
    """Our codec; the decoder is given each base as a reader that goes through a take has it."""
    encoder, bases, clock = MeshEncoder(lossless=lossless), dict[tuple[int, int], Base](), iter(range(1 << 30))

    def encode(vertices: F32) -> bytes:
        now = next(clock)
        part = encoder.encode(vertices, topology.id, topology, now)
        if is_base(part):
            base = read_base(part, now, lambda *place: bases[place])
            bases[now, base.checksum] = base
        return part

    return encode, lambda part: decode_vertices(part, lambda _: topology, lambda *place: bases[place])


def zstd(level: int) -> Coder:
    """Float32 through zstd."""
    compress, expand = zstandard.ZstdCompressor(level=level).compress, zstandard.ZstdDecompressor().decompress
    return lambda v: compress(v.tobytes()), lambda part: np.frombuffer(expand(part), np.float32).reshape(-1, 3)


def float16() -> Coder:
    """Half precision, metres."""
    return (
        lambda v: v.astype(np.float16).tobytes(),
        lambda part: np.frombuffer(part, np.float16).reshape(-1, 3).astype(np.float32),
    )


def draco(topology: Topology, bits: int, size_m: float) -> Coder:
    """Draco in the order of the vertices (`preserve_order`), connectivity included; `bits` over a box of `size_m`."""
    import DracoPy

    def encode(vertices: F32) -> bytes:
        origin = vertices.min(axis=0)
        return bytes(
            DracoPy.encode(
                vertices, topology.triangles.astype(np.uint32), preserve_order=True, quantization_bits=bits,
                quantization_range=size_m, quantization_origin=origin.tolist(), compression_level=7,
            )
        )  # fmt: skip

    return encode, lambda part: np.asarray(DracoPy.decode(part).points, np.float32)


def measure(coder: Coder, meshes: Sequence[F32]) -> dict[str, float]:
    """Encode and decode all meshes in order."""
    encode, decode = coder
    encode_ms, decode_ms, size, error = [], [], 0, 0.0
    for vertices in meshes:
        began = time.process_time_ns()
        part = encode(vertices)
        encoded = time.process_time_ns()
        back = decode(part)
        decode_ms.append((time.process_time_ns() - encoded) / 1e6)
        encode_ms.append((encoded - began) / 1e6)
        size += len(part)
        if len(back) == len(vertices):
            error = max(error, float(np.abs(back.astype(np.float64) - vertices).max()))
        else:
            error = float("nan")  # vertices were merged
    return {
        "bytes": round(size / len(meshes), 1),
        "ratio": round(sum(vertices.nbytes for vertices in meshes) / size, 3),
        "encode_ms": round(statistics.median(encode_ms), 4),
        "decode_ms": round(statistics.median(decode_ms), 4),
        "max_error_mm": round(error * 1e3, 6),
    }


def compare(topology: Topology, meshes: Sequence[F32]) -> dict[str, dict[str, float]]:
    """Measure every codec on the same meshes."""
    coders: dict[str, Coder] = {
        "mien quantised": mien(topology, lossless=False),
        "mien lossless": mien(topology, lossless=True),
        "float32": (lambda v: v.tobytes(), lambda part: np.frombuffer(part, np.float32).reshape(-1, 3)),
        "float32 zstd 1": zstd(1),
        "float32 zstd 3": zstd(3),
        "float16": float16(),
    }
    try:
        coders["draco 15 bits over 0.328 m"] = draco(topology, 15, 0.32767)
    except ImportError:
        print("DracoPy is not installed: left out; pip install DracoPy==2.2.0", file=sys.stderr)
    mien(topology, lossless=False)[0](meshes[0])  # the walk is found once per topology
    return {name: measure(coder, meshes) for name, coder in coders.items()}


def load(take: Path) -> dict[str, tuple[Topology, list[F32]]]:
    """Return the meshes of both channels that a take holds."""
    with open_take(take) as opened:
        found = {channel: list(opened.meshes(channel)) for channel in ("truth", "mesh")}
        return {
            name: (opened.topologies[meshes[0].topology_id], [mesh.vertices for mesh in meshes])
            for name, meshes in found.items()
            if meshes
        }


def simulated(work: Path, frames: int) -> dict[str, Any]:
    """Simulate two people, and reconstruct the first."""
    rig = replace(RigConfig(), simulated=SimulatedConfig())
    folders = simulate_takes(work / "takes", rig, takes=2, frames=frames, world="demo")
    reprocess_take(folders[0], work / "inferred", model=load_model("live"), setting=Setting(lossless=True))
    return {
        "truth, person 1": load(folders[0])["truth"],
        "truth, person 2": load(folders[1])["truth"],
        "inferred, person 1": load(work / "inferred")["mesh"],
    }


def main() -> int:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--frames", type=int, default=60, help="of each simulated performance (default: 60)")
    parser.add_argument("--take", type=Path, help="measure the meshes of this take instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mien-codec-") as work:
        sources = load(args.take) if args.take else simulated(Path(work), args.frames)
        results = {name: compare(topology, meshes) for name, (topology, meshes) in sources.items()}
    missed = [
        name
        for name, rows in results.items()
        if (ours := rows["mien quantised"])["ratio"] < 5
        or ours["max_error_mm"] > 0.005
        or max(ours["encode_ms"], ours["decode_ms"]) > 0.4
    ]
    if args.json:
        print(json.dumps({"codecs": results, "missed": missed}))
    else:
        for name, rows in results.items():
            print(f"\n{name}\n{'':28s}{'bytes':>9s}{'ratio':>8s}{'enc ms':>8s}{'dec ms':>8s}{'max error mm':>14s}")
            for codec, row in rows.items():
                print(f"{codec:28s}" + "{:9.0f}{:8.2f}{:8.3f}{:8.3f}{:14.5f}".format(*row.values()))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
