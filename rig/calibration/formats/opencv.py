"""OpenCV's YAML storage."""

from pathlib import Path

import cv2
import numpy as np

from streamer.errors import CalibrationError
from streamer.imports.calibrations import METRES, opencv5
from streamer.types import F64, Calibration, Camera


def write_opencv(calibration: Calibration, out: Path) -> list[str]:
    """Write `units` and a list `cameras` of id, serial, size, K, D, R, T (camera from world); see `write_as`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    storage = cv2.FileStorage("out.yml", cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    storage.write("units", "m")
    storage.write("convention", "x_camera = R x_world + T, OpenCV axes; D = k1 k2 p1 p2 k3")
    storage.startWriteStruct("cameras", cv2.FILE_NODE_SEQ)
    for camera in calibration.cameras:
        storage.startWriteStruct("", cv2.FILE_NODE_MAP)
        storage.write("id", camera.id)
        storage.write("serial", camera.serial)
        storage.write("image_width", camera.width)
        storage.write("image_height", camera.height)
        for name, value in (
            ("K", camera.K),
            ("D", camera.distortion[None]),
            ("R", camera.camera_from_world[:3, :3]),
            ("T", camera.camera_from_world[:3, 3:]),
        ):
            storage.write(name, np.ascontiguousarray(value))
        storage.endWriteStruct()
    storage.endWriteStruct()
    out.write_text(storage.releaseAndGetString(), "utf-8")
    return []


def read_opencv(path: Path, scale: float | None) -> Calibration:
    """Read what `write_opencv` writes, or the file of one camera (camera_matrix, distortion_coefficients, image_width).

    Args:
        path: the file.
        scale: metres of a unit of T, for files that do not tell.

    Raises:
        CalibrationError: see `read_any`.
    """
    try:
        text = path.read_text("utf-8")
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    except (OSError, UnicodeDecodeError, cv2.error, SystemError) as error:
        raise CalibrationError(f"{path}: not readable as OpenCV YAML: {error}") from error
    node = storage.getNode("cameras")
    if node.empty():
        return _single(path, storage)
    units = storage.getNode("units")
    factor = METRES.get(units.string()) if not units.empty() else scale
    if factor is None or (scale is not None and factor != scale):
        raise CalibrationError(f"{path}: does not tell its units, or others than --units; give --units m, cm or mm")
    cameras = []
    for index in range(node.size()):
        row = node.at(index)
        where = f"{path}: camera {index + 1}"
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = _matrix(row, "R", (3, 3), where), _matrix(row, "T", (3, 1), where).ravel() * factor
        name = row.getNode("id").string()
        serial = row.getNode("serial")
        cameras.append(
            Camera(
                name or f"cam_{index}",
                serial.string() if not serial.empty() else name,
                int(row.getNode("image_width").real()),
                int(row.getNode("image_height").real()),
                _matrix(row, "K", (3, 3), where),
                opencv5(row.getNode("D").mat(), where),
                pose,
            )
        )
    return Calibration(tuple(cameras), path.name)


def _single(path: Path, storage: cv2.FileStorage) -> Calibration:
    needed = ("camera_matrix", "image_width", "image_height")
    if any(storage.getNode(name).empty() for name in needed):
        raise CalibrationError(f"{path}: holds neither a list `cameras` nor one camera ({', '.join(needed)})")
    root = storage.root()
    size = [int(storage.getNode(name).real()) for name in needed[1:]]
    K = _matrix(root, "camera_matrix", (3, 3), str(path))
    node = storage.getNode("distortion_coefficients")
    distortion = opencv5([] if node.empty() else node.mat(), str(path))
    camera = Camera(path.stem, path.stem, size[0], size[1], K, distortion, np.eye(4))
    return Calibration((camera,), f"{path.name}; intrinsics only, camera_from_world is the identity")


def _matrix(row: cv2.FileNode, name: str, shape: tuple[int, int], where: str) -> F64:
    value = row.getNode(name)
    matrix = None if value.empty() else value.mat()
    if matrix is None or np.size(matrix) != shape[0] * shape[1]:
        raise CalibrationError(f"{where}: {name} is missing, or not {shape[0]} x {shape[1]}")
    return np.asarray(matrix, np.float64).reshape(shape)
