"""Small worlds that several tests share: a topology, a ring of cameras, frames and a model on disk."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from inference.manifest import Provenance
from inference.model_store import GraphFile, ModelFiles, ModelParts, save_model
from streamer.geometry import look_at
from streamer.types import U8, Calibration, Camera, Frame, FrameSet, Topology
from tests.inference.tiny_graphs import mean_of_views

EXPOSURE_NS = 1_700_000_000_000_000_000


def octahedron(name: str = "octahedron", radius: float = 0.1) -> Topology:
    """Six vertices, eight triangles that look outwards, two regions."""
    template = radius * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
    triangles = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    uv = (template[:, :2] / radius + 1) / 2
    return Topology(
        name,
        np.array(triangles),
        uv,
        np.array(triangles),
        template,
        ("jawOpen", "mouthClose"),
        {"face": np.array([0, 1, 2, 3, 4]), "back": np.array([5])},
    )


def camera(name: str, angle: float, *, width: int = 64, height: int = 48) -> Camera:
    """A camera 1 m from the origin that looks at it from `angle` (radians, 0: from +Z)."""
    centre = np.array([np.sin(angle), 0.1, np.cos(angle)])
    K = np.array([[height * 1.5, 0, width / 2 - 0.5], [0, height * 1.5, height / 2 - 0.5], [0, 0, 1]])
    return Camera(name, f"serial-{name}", width, height, K, np.zeros(5), look_at(centre, np.zeros(3)))


def ring(count: int = 8, **size: int) -> Calibration:
    """Cameras `cam_0`.. on a full circle."""
    return Calibration(tuple(camera(f"cam_{i}", 2 * np.pi * i / count, **size) for i in range(count)), "test ring")


def jpeg(rgb: U8, quality: int = 95) -> U8:
    """Encode as JPEG."""
    done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.ravel()


def frame(name: str, frame_id: int, rgb: U8, *, encoding: str = "rgb8", sequence: int | None = None) -> Frame:
    """A frame taken at `frame_id` / 30 s."""
    time_ns = EXPOSURE_NS + frame_id * 33_333_333
    sequence = frame_id if sequence is None else sequence
    data = jpeg(rgb) if encoding == "jpeg" else rgb
    return Frame(
        name,
        frame_id,
        frame_id,
        sequence,
        time_ns,
        "host",
        time_ns,
        time_ns,
        rgb.shape[1],
        rgb.shape[0],
        encoding,
        data,
    )  # type: ignore[arg-type]


def grey(level: int, width: int = 64, height: int = 48) -> U8:
    """A picture of one colour, its channels apart so that RGB and BGR cannot be mistaken."""
    return np.broadcast_to(np.array([level, level // 2, level // 4], np.uint8), (height, width, 3)).copy()


def frame_set(frames: Iterable[Frame], absent: Iterable[str] = (), frozen: Iterable[str] = ()) -> FrameSet:
    """A set of these frames."""
    members = {f.camera: f for f in frames}
    times = [f.exposure_time_ns for f in members.values()]
    return FrameSet(
        next(iter(members.values())).frame_id,
        members,
        dict.fromkeys(absent, "missing"),
        max(times) - min(times),
        next(iter(members)),
        0,
        frozenset(frozen),
    )


def grey_set(calibration: Calibration, frame_id: int, cameras: Iterable[str] | None = None) -> FrameSet:
    """One grey picture per camera, its level told by frame id and camera."""
    ids = list(calibration.ids if cameras is None else cameras)
    return frame_set(
        (frame(c, frame_id, grey((37 * frame_id + 20 * int(c[4:])) % 200 + 40)) for c in ids),
        [c for c in calibration.ids if c not in ids],
    )


def tiny_model(folder: Path, *, views: int = 8, width: int = 16, height: int = 12, **changes: object) -> ModelFiles:
    """Save a model of one `net` graph on the octahedron."""
    topology = octahedron()
    folder.parent.mkdir(parents=True, exist_ok=True)
    graph = mean_of_views(folder.parent / f"{folder.name}-source.onnx", views, height, width)
    values: dict[str, object] = {
        "name": "tiny",
        "width": width,
        "height": height,
        "max_views": views,
        "topology": topology,
        "constants": {"template": topology.template},
        "vertex_axes": {"template": 0},
        "graphs": {"mean": GraphFile(graph, "geometry")},
        "provenance": Provenance("mien train takes --seed 7", 7, "0123abc", 12, {"face_median_mm": 1.5}),
    }
    return save_model(folder, ModelParts(**(values | changes)))  # type: ignore[arg-type]
