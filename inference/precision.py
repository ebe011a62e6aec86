"""Which graphs of a model `precision = "auto"` lets run in bfloat16 or float16 on this machine, decided once and kept.

Two conditions. Vertices must stay within 0.05 mm of float32: that holds for the graphs in `HARMLESS` and no others, as
measured on takes (docs/network.md); a map that is off by one per cent moves vertices by 0.3 mm. And it must be faster
here, which a short trial at the first start tells: where bfloat16 is emulated it is six times slower. The outcome is
kept in the cache for this model, engine, its version and processor; a file that does not read is made anew.
"""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from inference.cache import cache_folder

log = logging.getLogger(__name__)

HARMLESS = frozenset({"keys"})
"""Graphs whose bfloat16 moved vertices by less than 0.05 mm; by 0.003 mm at most in fact."""
HARMLESS_IN_F16 = frozenset({"features", "keys"})
"""Graphs whose float16, simulated, moved vertices by less than 0.05 mm together: by 0.035. All four nets: 0.052."""
SCHEMA = 1
PRECISIONS: tuple[Literal["f32", "bf16", "f16"], ...] = ("f32", "bf16", "f16")


def harmless(engine: str) -> frozenset[str]:
    """Graphs that an engine may run in its lower precision when it is asked for `auto`; `torch` is the reference."""
    return {"openvino": HARMLESS, "tensorrt": HARMLESS_IN_F16}.get(engine, frozenset())


def lowest(precisions: Iterable[str]) -> str:
    """Return the lowest of some precisions: the one that says most about an answer."""
    return next((kind for kind in ("bf16", "f16") if kind in set(precisions)), "f32")


def plan_folder(engine: str) -> Path | None:
    """Where an engine keeps what it compiled; None for `torch`, which compiles nothing."""
    return None if engine == "torch" else cache_folder() / "plans"


def processor() -> str:
    """Name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def decision_file(model_id: str, engine: str, version: str, threads: int) -> Path:
    """Where the decision for this model, engine, machine and number of threads is kept."""
    key = json.dumps([SCHEMA, model_id, engine, version, processor(), threads or len(os.sched_getaffinity(0))])
    return cache_folder() / "precision" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def kept_decision(path: Path, graphs: frozenset[str]) -> dict[str, Literal["f32", "bf16", "f16"]] | None:
    """Return graph name to precision; None if nothing valid is kept for exactly these graphs."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.keys() != graphs or not all(v in PRECISIONS for v in found.values()):
        log.info("%s does not fit and is made anew", path)
        return None
    return {str(name): PRECISIONS[PRECISIONS.index(value)] for name, value in found.items()}


def keep_decision(path: Path, decision: Mapping[str, str]) -> None:
    """Keep a decision; whole or not at all. A cache that cannot be written only costs the next start a trial."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(dict(sorted(decision.items()))), "utf-8")
        partial.replace(path)
    except OSError as error:
        log.info("the choice of precision is not kept: %s", error)
