"""Small takes with known content."""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from streamer.config import RecordConfig, SyncConfig
from streamer.geometry import look_at
from streamer.takes import TakeWriter
from streamer.types import Calibration, Camera, Frame, MeshFrame, Topology

CAMERAS = ("left", "mid", "right")
PERIOD_NS = 33_333_333
START_NS = 1_700_000_000_000_000_000
TINY = RecordConfig(chunk_mb=0.01, roll_s=1.0, sync_s=0.2, meshes="lossless")
"""Lossless, so that what comes back can be compared bit by bit; test_take_meshes.py has the quantised ones."""
CONFIG_TEXT = "schema = 1\n\n[sync]\nmatch = 'frame_id'\n"


def calibration(cameras: Iterable[str] = CAMERAS, width: int = 64, height: int = 48) -> Calibration:
    matrix = np.array([[80.0, 0, width / 2], [0, 80.0, height / 2], [0, 0, 1]])
    rig = [
        Camera(name, f"sn{i}", width, height, matrix, np.zeros(5), look_at(np.array([i - 1.0, 0, 1.5]), np.zeros(3)))
        for i, name in enumerate(cameras)
    ]
    return Calibration(tuple(rig), "test")


def topology() -> Topology:
    """An asymmetric tetrahedron with texture coordinates."""
    template = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3]], np.float32)
    triangles = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)
    uv = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    return Topology("tetra", triangles, uv, triangles % 3, template, ("jawOpen",))


def frame(camera: str, number: int, size: int = 400) -> Frame:
    """The frame `number` of a camera; every byte follows from camera and number."""
    seed = zlib.crc32(f"{camera}{number}".encode())
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    time = START_NS + number * PERIOD_NS
    return Frame(camera, number, number + 7, number, time, "host", time + 900, time + 1000, 64, 48, "jpeg", data)


def mesh(number: int, weights: bool = True) -> MeshFrame:
    vertices = topology().template + np.float32(number * 0.001)
    pose = np.eye(4, dtype=np.float32)
    pose[0, 3] = number
    unit = np.array([number / 100], np.float32) if weights else None
    return MeshFrame(number, START_NS + number * PERIOD_NS, 0, topology().id, vertices, pose, CAMERAS, unit, {"net": 5})


def write_take(
    path: Path,
    count: int = 20,
    *,
    meshes: bool = True,
    record: RecordConfig = TINY,
    sync: SyncConfig | None = None,
    size: int = 400,
) -> Path:
    """A closed take of `count` sets of all cameras."""
    with open_writer(path, record=record, sync=sync) as writer:
        fill(writer, count, meshes=meshes, size=size)
    return path


def open_writer(path: Path, *, record: RecordConfig = TINY, sync: SyncConfig | None = None) -> TakeWriter:
    return TakeWriter(
        path,
        calibration=calibration(),
        config_text=CONFIG_TEXT,
        show="show",
        slate="slate",
        take=1,
        record=record,
        sync=sync,
    )


def fill(writer: TakeWriter, count: int, *, meshes: bool = True, size: int = 400) -> None:
    for number in range(count):
        log = START_NS + number * PERIOD_NS
        writer.write("topology", topology(), log)
        for offset, camera in enumerate(CAMERAS):
            writer.write("frame", frame(camera, number, size), log + offset)
        if meshes:
            writer.write("mesh", mesh(number), log + 10)


def same_frame(a: Frame, b: Frame) -> bool:
    fields = [name for name in Frame.__dataclass_fields__ if name != "data"]
    return all(getattr(a, name) == getattr(b, name) for name in fields) and np.array_equal(a.data, b.data)
