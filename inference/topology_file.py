"""A topology as an npz file. Nothing in it is pickled."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelError
from streamer.types import Topology

REGION = "region."
UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile and numpy raise on damaged files."""
KEYS = ("name", "triangles", "uv", "uv_triangles", "template", "units")


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read every array of an npz file.

    Raises:
        ModelError: the file is absent, no npz, damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; run: mien model check") from error
    except UNREADABLE as error:
        raise ModelError(f"{path}: not a readable npz of plain arrays ({error}); fetch the model again") from error
    for key, value in arrays.items():
        if not isinstance(value, np.ndarray):
            raise ModelError(f"{path}: member '{key}' is no array; fetch the model again")
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as a compressed npz: equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    path.write_bytes(buffer.getvalue())


def topology_to_arrays(topology: Topology) -> dict[str, NDArray[Any]]:
    """Return the content of a topology as plain arrays; the inverse of `topology_from_arrays`."""
    arrays: dict[str, NDArray[Any]] = {
        "name": np.array(topology.name),
        "triangles": topology.triangles,
        "uv": topology.uv,
        "uv_triangles": topology.uv_triangles,
        "template": topology.template,
        "units": np.array(topology.units, np.str_),
    }
    return arrays | {REGION + key: value for key, value in topology.regions.items()}


def topology_from_arrays(arrays: Mapping[str, NDArray[Any]], where: str) -> Topology:
    """Build a topology from plain arrays.

    Args:
        arrays: as from `topology_to_arrays`; further keys are ignored.
        where: file name, for messages.

    Raises:
        ModelError: an array is missing or has another shape, or an index points outside.
    """
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise ModelError(f"{where}: holds no '{missing[0]}'; a topology needs {', '.join(KEYS)}")
    for key, columns in (("triangles", 3), ("uv", 2), ("uv_triangles", 3), ("template", 3)):
        if arrays[key].ndim != 2 or arrays[key].shape[1] != columns:
            raise ModelError(f"{where}: '{key}' has shape {arrays[key].shape}, expected (n, {columns})")
    return Topology(
        name=str(arrays["name"]),
        triangles=arrays["triangles"],
        uv=arrays["uv"],
        uv_triangles=arrays["uv_triangles"],
        template=arrays["template"],
        units=tuple(str(unit) for unit in arrays["units"].ravel()),
        regions={key.removeprefix(REGION): value for key, value in arrays.items() if key.startswith(REGION)},
    )


def load_topology(path: Path) -> Topology:
    """Read a topology.

    Raises:
        ModelError: see `read_arrays` and `topology_from_arrays`.
    """
    return topology_from_arrays(read_arrays(path), str(path))


def save_topology(topology: Topology, path: Path) -> None:
    """Write a topology."""
    write_arrays(path, topology_to_arrays(topology))
