"""The container of glTF 2.0: accessors over one buffer, written as .glb or as .gltf with the buffer inside.

A few dozen lines of JSON and little-endian arrays; the packages for it hold the same arrays in objects and get details
of sparse accessors wrong. The Khronos validator is the judge (tests/streamer/test_export_gltf.py).
"""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
_COMPONENT = {"float32": 5126, "uint32": 5125, "uint16": 5123}
_TYPE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


class Buffer:
    """Collects arrays, and the views and accessors that name them."""

    def __init__(self) -> None:
        """Begin an empty buffer."""
        self.accessors: list[dict[str, Any]] = []
        """glTF `accessors`."""
        self.views: list[dict[str, Any]] = []
        """glTF `bufferViews`."""
        self._data = bytearray()

    def add(self, array: NDArray[Any], *, target: int | None = None, limits: bool = False) -> int:
        """Append an array; return the number of its accessor.

        Args:
            array: (count,) or (count, 2..4), float32, uint32 or uint16.
            target: what the graphics card uses it for, if it does.
            limits: write its smallest and largest values, which some uses must.
        """
        accessor = self._accessor(array)
        accessor["bufferView"] = self._view(array, target)
        if limits:
            accessor |= _limits(array)
        return self._append(accessor)

    def add_sparse(self, array: NDArray[np.float32], *, limits: bool = False) -> int:
        """Append an array that is mostly zero; return the number of its accessor.

        Args:
            array: (count, 3) float32.
            limits: as in `add`.
        """
        changed = np.flatnonzero(array.any(1))
        if 16 * len(changed) >= 12 * len(array):
            return self.add(array, limits=limits)
        if not len(changed):
            changed = np.array([0])  # a sparse accessor has at least one entry
        accessor = self._accessor(array)
        accessor["sparse"] = {
            "count": len(changed),
            "indices": {"bufferView": self._view(changed.astype(np.uint32), None), "componentType": 5125},
            "values": {"bufferView": self._view(array[changed], None)},
        }
        if limits:
            accessor |= _limits(array)
        return self._append(accessor)

    def write(self, path: Path, document: dict[str, Any]) -> None:
        """Write the file.

        Args:
            path: `.glb`: binary; else JSON with the buffer as base64.
            document: everything but buffers, views and accessors.
        """
        binary = path.suffix.lower() == ".glb"
        buffer: dict[str, Any] = {"byteLength": len(self._data)}
        if not binary:
            buffer["uri"] = "data:application/octet-stream;base64," + base64.b64encode(self._data).decode("ascii")
        whole = document | {"accessors": self.accessors, "bufferViews": self.views, "buffers": [buffer]}
        text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode("utf-8")
        if not binary:
            path.write_bytes(text)
            return
        text += b" " * (-len(text) % 4)
        data = bytes(self._data) + b"\0" * (-len(self._data) % 4)
        with path.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(data)))
            file.write(struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", len(data), b"BIN\0") + data)

    def _accessor(self, array: NDArray[Any]) -> dict[str, Any]:
        width = 1 if array.ndim == 1 else array.shape[1]
        return {"componentType": _COMPONENT[array.dtype.name], "count": len(array), "type": _TYPE[width]}

    def _view(self, array: NDArray[Any], target: int | None) -> int:
        self._data += b"\0" * (-len(self._data) % 4)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self._data), "byteLength": array.nbytes}
        if target is not None:
            view["target"] = target
        self._data += np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        self.views.append(view)
        return len(self.views) - 1

    def _append(self, accessor: dict[str, Any]) -> int:
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _limits(array: NDArray[Any]) -> dict[str, Any]:
    rows = array.reshape(len(array), -1)
    return {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
