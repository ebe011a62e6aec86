"""Raw inputs of a published network, from an npz: checked, so that nonsense is named before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.topology_file import read_arrays
from streamer.errors import CalibrationError, ModelError
from streamer.types import F32, U8

COARSE = ("images_coarse", "K_coarse", "distortion_coarse")
REFINE = ("images_refine", "K_refine", "distortion_refine")
OPTIONAL = ("coarse_vertices", "visibility")
NORMALISED = 50.0
"""Normalised pictures stay well below."""
SMALLEST_PX = 32
METRES_MM = 20.0
"""Cameras all nearer than this to the origin are given in metres."""
Outputs = dict[str, NDArray[Any]]
"""What `mien model run` writes, by name."""


@dataclass(frozen=True, slots=True)
class StageInputs:
    """Pictures of one stage."""

    images: F32
    """(V, 3, H, W) normalised."""
    K: F32
    """(V, 3, 3) px of these pictures."""
    distortion: F32
    """(V, 2)."""


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What `mien model run` reads."""

    coarse: StageInputs | None
    """None: the refinement runs alone."""
    refine: StageInputs
    """Of the refinement."""
    camera_from_world: F32
    """(V, 3, 4) mm."""
    coarse_vertices: F32 | None
    """(N, 3) mm, if given."""
    visibility: U8 | None
    """(V, N) in {0, 1}, if given."""
    ignored: tuple[str, ...]
    """Further arrays of the file."""


def read_inputs(path: Path, vertices: int) -> RunInputs:
    """Read and check an npz.

    Args:
        path: the npz; its keys are the fields of `StageInputs` with `_coarse` and `_refine` behind, and those of
            `RunInputs`.
        vertices: of the network.

    Raises:
        ModelError: not a readable npz; arrays missing, of another shape, not finite, not normalised.
        CalibrationError: cameras that are none, or in metres; a single view.
    """
    arrays = read_arrays(path)
    alone = "coarse_vertices" in arrays
    wanted = [*REFINE, "camera_from_world", *(() if alone else COARSE)]
    missing = [key for key in wanted if key not in arrays]
    if missing:
        raise ModelError(f"{path}: lacks {', '.join(missing)}")
    views = len(arrays["camera_from_world"]) if arrays["camera_from_world"].ndim else 0
    reader = _Reader(path, arrays)
    cameras = reader.numbers("camera_from_world", (views, 3, 4))
    _check_cameras(path, cameras)
    visibility = None
    if "visibility" in arrays:
        values = arrays["visibility"]
        if values.shape != (views, vertices) or not np.isin(values, (0, 1)).all():
            raise ModelError(
                f"{path}: visibility is {values.shape} {values.dtype}; expected ({views}, {vertices}) of 0 and 1"
            )
        visibility = values.astype(np.uint8)
    return RunInputs(
        coarse=None if alone else reader.stage("coarse", views),
        refine=reader.stage("refine", views),
        camera_from_world=cameras,
        coarse_vertices=reader.numbers("coarse_vertices", (vertices, 3)) if alone else None,
        visibility=visibility,
        ignored=tuple(sorted(set(arrays) - {*COARSE, *REFINE, *OPTIONAL, "camera_from_world"})),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path
    arrays: Mapping[str, NDArray[Any]]

    def numbers(self, key: str, shape: tuple[int | None, ...]) -> F32:
        """A float array of this shape (None: any length), finite, as float32."""
        value = self.arrays[key]
        fits = value.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, value.shape, strict=True))
        if not fits or value.dtype.kind != "f":
            wanted = ", ".join("n" if n is None else str(n) for n in shape)
            raise ModelError(f"{self.path}: {key} is {value.shape} {value.dtype}; expected ({wanted}) float32")
        if not np.isfinite(value).all():
            raise ModelError(f"{self.path}: {key} holds values that are not finite numbers")
        return np.asarray(value, np.float32)

    def stage(self, name: str, views: int) -> StageInputs:
        """Pictures and cameras of a stage."""
        images = self.numbers(f"images_{name}", (views, 3, None, None))
        if min(images.shape[2:]) < SMALLEST_PX:
            raise ModelError(f"{self.path}: images_{name} are {images.shape[3]}x{images.shape[2]}; too small to see")
        if np.abs(images).max() > NORMALISED:
            raise ModelError(
                f"{self.path}: images_{name} reach {np.abs(images).max():g}; normalised ones are expected: [0, 1] less "
                "(0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)"
            )
        blind = np.flatnonzero(np.ptp(images.reshape(views, 3, -1), axis=2).max(1) == 0)
        if len(blind):
            raise ModelError(f"{self.path}: images_{name} of view {_list(blind)} are of one value; leave it out")
        K = self.numbers(f"K_{name}", (views, 3, 3))
        flat = np.flatnonzero(np.abs(np.linalg.det(K[:, :2, :2].astype(np.float64))) < 1e-6)
        if len(flat):
            raise CalibrationError(f"{self.path}: K_{name} of view {_list(flat)} is singular")
        return StageInputs(images, K, self.numbers(f"distortion_{name}", (views, 2)))


def _check_cameras(path: Path, cameras: F32) -> None:
    if len(cameras) < 2:
        raise CalibrationError(f"{path}: {len(cameras)} view; a head cannot be triangulated from less than two")
    rotation = cameras[:, :, :3].astype(np.float64)
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    bad = np.flatnonzero((off > 1e-3) | (np.linalg.det(rotation) < 0))
    if len(bad):
        raise CalibrationError(f"{path}: camera_from_world of view {_list(bad)} is no rigid transform")
    if np.linalg.norm(cameras[:, :, 3], axis=1).max() < METRES_MM:
        raise CalibrationError(
            f"{path}: every camera is within {METRES_MM:g} mm of the origin: camera_from_world seems to be in metres; "
            "millimetres are expected"
        )


def sight(points: F32, stage_inputs: StageInputs, camera_from_world: F32) -> F32:
    """(V,) share of points (P, 3) that lie in front of a camera and, without distortion, inside its picture."""
    local = points @ camera_from_world[:, :, :3].transpose(0, 2, 1) + camera_from_world[:, None, :, 3]
    ahead = local[..., 2] > 1.0
    flat = local / np.where(ahead, local[..., 2], np.float32(1))[..., None]
    pixel = (flat @ stage_inputs.K.transpose(0, 2, 1))[..., :2]
    height, width = stage_inputs.images.shape[2:]
    within = ((pixel > -0.5) & (pixel < np.array([width, height], np.float32) - 0.5)).all(-1)
    return np.asarray((ahead & within).mean(1), np.float32)


def alone(coarse_vertices: F32) -> Outputs:
    """Outputs of a coarse stage that did not run, since its vertices (N, 3) mm were given."""
    nothing = np.full((3, 3), np.nan, np.float32)
    return {
        "coarse_vertices": coarse_vertices,
        "localiser_scale": nothing[0],
        "localiser_rotation": nothing,
        "localiser_translation_mm": nothing[0],
    }


def checked(outputs: Outputs) -> Outputs:
    """Return outputs whose vertices are finite.

    Raises:
        ModelError: they are not.
    """
    for name in ("coarse_vertices", "vertices"):
        if not np.isfinite(outputs[name]).all():
            raise ModelError(f"{name} are not finite; the weights do not fit these inputs")
    return outputs


def require_sight(shares: F32, what: str) -> None:
    """Refuse views that see nothing of what is looked at.

    Args:
        shares: (V,) share of the points that lie in front of the camera and inside its picture.
        what: name of the points, for the message.

    Raises:
        CalibrationError: there are such views.
    """
    blind = np.flatnonzero(shares <= 0)
    if len(blind):
        raise CalibrationError(
            f"view {_list(blind)} of {len(shares)} sees nothing of {what}; leave it out, or correct its calibration"
        )


def _list(indices: NDArray[np.intp]) -> str:
    return ", ".join(map(str, indices.tolist()))
