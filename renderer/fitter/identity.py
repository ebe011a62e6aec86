"""Which footage a fit learned from: a digest that two takes do not share, nor one take before and after its meshes."""

import hashlib

import numpy as np

from renderer.fitter.footage import Footage

LOOKS = 3
"""Instants whose pictures are looked at, evenly spaced; of the others the times tell enough."""


def digest(footage: Footage) -> str:
    """Return 32 hexadecimal digits of times, cameras, meshes, and pictures and mattes of some instants."""
    found = hashlib.blake2b(digest_size=16)

    def take_in(values: object, kind: type[np.generic]) -> None:
        array = np.ascontiguousarray(values, kind)
        found.update(repr(array.shape).encode() + array.tobytes())

    take_in(footage.times_ns, np.int64)
    take_in(footage.begins >= 0, np.bool_)
    take_in([footage.mattes is not None, footage.depths is not None, footage.white], np.bool_)
    for camera in footage.cameras:
        found.update(camera.id.encode())
        for values in ([camera.width, camera.height], camera.K, camera.distortion, camera.camera_from_world):
            take_in(values, np.float64)
    for step, mesh in sorted(footage.meshes.items()):
        take_in([step], np.int64)
        take_in(mesh.vertices, np.float32)
    for step in np.unique(np.linspace(0, footage.steps - 1, LOOKS).astype(int)).tolist():
        for column, camera in enumerate(footage.cameras):
            begin, size = int(footage.begins[step, column]), camera.width * camera.height
            if begin < 0:
                continue
            take_in(footage.bytes[begin : begin + 3 * size], np.uint8)
            if footage.mattes is not None:
                take_in(footage.mattes[begin // 3 : begin // 3 + size], np.uint8)
    return found.hexdigest()
