"""From pieces of skin found in many views to the camera that moved. Pure.

Each piece may lie anywhere (the mesh is only where the search began), each camera may have moved a little. Summed over
all pieces of all instants this gives normal equations in the cameras alone; a camera has moved if letting it move, and
no other, explains the offsets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rig.calibration.patches import Tracks
from rig.calibration.poses import matrix_of
from streamer.errors import CalibrationError
from streamer.geometry import skew
from streamer.types import F64, Calibration, Camera

MESH_SIGMA_M = 0.004
"""How far the mesh may be off the surface."""
PRIOR_MM, PRIOR_DEG = 3.0, 0.3
"""How far cameras move, for a first look at what fits."""
FLOOR_PX = 0.15
"""Offsets are never believed to less than this: light, and skin that is not flat."""
TUNING_PX = 1.0
ROUNDS = 6
CORRELATED = 3.0
"""Offsets err together, in space and over the instants: deviations are this much larger than those of single ones."""
SYSTEMATIC_PX = 0.12
"""Light that moves with the view shifts what is found, rms, at a focal length of 1324 px; more sets do not help."""
ALARM_SIGMAS = 4.0
"""A camera has moved if its picture of the head shifted by so many standard deviations, both of the above in them. Of
2,400 simulated cameras that stood still the worst reached 2.8; benchmarks/calibration.py."""
MAX_MOVED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Rows:
    """Linearised offsets of one or many instants."""

    piece: NDArray[np.int64]
    """(R,) pieces, numbered through."""
    camera: NDArray[np.int64]
    """(R,)."""
    instant: NDArray[np.int64]
    """(R,) index of the instant."""
    offset: F64
    """(R, 2) px."""
    root: F64
    """(R, 2, 2) square root of the information."""
    by_point: F64
    """(R, 2, 3) px per metre of the piece."""
    by_camera: F64
    """(R, 2, 6) px per rotation (rad) and translation (m) of the camera, in its own frame."""


def linearise(tracks: Sequence[Tracks], cameras: tuple[Camera, ...]) -> Rows:
    """Put the tracks of all instants together.

    Args:
        tracks: of each instant.
        cameras: the rig as it is calibrated.

    Raises:
        CalibrationError: nothing was found.
    """
    tracks = [t for t in tracks if len(t.piece)]
    if not tracks:
        raise CalibrationError(
            "no piece of the head was found in two views; is the mesh on the head in the pictures? look at it: "
            "mien reprocess TAKE --out TAKE2 --overlay VIDEO.mp4"
        )
    parts, begin = [], 0
    for number, own in enumerate(tracks):
        by_point, by_camera = np.empty((len(own.piece), 2, 3)), np.empty((len(own.piece), 2, 6))
        for index, camera in enumerate(cameras):
            mine = own.camera == index
            by_point[mine], by_camera[mine] = _derivatives(camera, own.points[mine])
        values, vectors = np.linalg.eigh(own.information)
        sigma = np.sqrt(1 / np.maximum(values, 1e-6) + FLOOR_PX**2)
        root = (vectors / sigma[:, None, :]) @ vectors.transpose(0, 2, 1)
        _, piece = np.unique(own.piece, return_inverse=True)
        parts.append((piece + begin, own.camera, np.full(len(piece), number), own.offset, root, by_point, by_camera))
        begin += int(piece.max()) + 1
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _derivatives(camera: Camera, points: F64) -> tuple[F64, F64]:
    from rig.calibration.lens import image_with_derivatives, pack_intrinsics

    rotation, shift = camera.camera_from_world[:3, :3], camera.camera_from_world[:3, 3]
    seen = points @ rotation.T + shift
    _, by_seen, _ = image_with_derivatives(seen, pack_intrinsics(camera.K, camera.distortion))
    return by_seen @ rotation, np.concatenate([-by_seen @ skew(seen), by_seen], 2)


@dataclass(frozen=True, slots=True)
class Equations:
    """Normal equations of the cameras, pieces eliminated."""

    matrix: F64
    """(6 C, 6 C)."""
    side: F64
    """(6 C,)."""

    def alone(self, camera: int) -> tuple[F64, F64, float]:
        """Let one camera move and no other: its motion (6,), the covariance (6, 6), and the gain in chi²."""
        at = slice(6 * camera, 6 * camera + 6)
        own = self.matrix[at, at]
        inverse = np.linalg.inv(own + _prior(1))
        move = inverse @ self.side[at]
        return move, np.asarray(inverse, np.float64), float(self.side[at] @ move)


def equations(rows: Rows, count: int, weight: F64) -> Equations:
    """Sum up the rows.

    Args:
        rows: the offsets.
        count: number of cameras C.
        weight: (R,) of each row.
    """
    root = rows.root * np.sqrt(weight)[:, None, None]
    point, camera = root @ rows.by_point, root @ rows.by_camera
    offset = np.einsum("rij,rj->ri", root, rows.offset)
    pieces = int(rows.piece.max()) + 1
    own = np.tile(np.eye(3) / MESH_SIGMA_M**2, (pieces, 1, 1))
    pull = np.zeros((pieces, 3))
    np.add.at(own, rows.piece, point.transpose(0, 2, 1) @ point)
    np.add.at(pull, rows.piece, np.einsum("rij,ri->rj", point, offset))
    both = np.zeros((pieces, 3, 6 * count))
    matrix, side = np.zeros((6 * count, 6 * count)), np.zeros(6 * count)
    cross = point.transpose(0, 2, 1) @ camera
    for index in range(count):
        mine = rows.camera == index
        at = slice(6 * index, 6 * index + 6)
        np.add.at(both[:, :, at], rows.piece[mine], cross[mine])
        flat = camera[mine].reshape(-1, 6)
        matrix[at, at] += flat.T @ flat
        side[at] += flat.T @ offset[mine].ravel()
    solved = np.linalg.solve(own, np.concatenate([both, pull[..., None]], 2))
    flat_both = both.reshape(-1, 6 * count)
    matrix -= flat_both.T @ solved[..., :-1].reshape(-1, 6 * count)
    side -= flat_both.T @ solved[..., -1].ravel()
    return Equations(matrix, side)


def left_over(rows: Rows, count: int, weight: F64, moves: F64) -> F64:
    """Return the offsets (R, 2) px that remain when cameras moved (C, 6) and each piece lies where it fits best."""
    offset = rows.offset - np.einsum("rij,rj->ri", rows.by_camera, moves[rows.camera])
    root = rows.root * np.sqrt(weight)[:, None, None]
    point, wanted = root @ rows.by_point, np.einsum("rij,rj->ri", root, offset)
    pieces = int(rows.piece.max()) + 1
    own, pull = np.tile(np.eye(3) / MESH_SIGMA_M**2, (pieces, 1, 1)), np.zeros((pieces, 3))
    np.add.at(own, rows.piece, point.transpose(0, 2, 1) @ point)
    np.add.at(pull, rows.piece, np.einsum("rij,ri->rj", point, wanted))
    place = np.linalg.solve(own, pull[..., None])[..., 0]
    return np.asarray(offset - np.einsum("rij,rj->ri", rows.by_point, place[rows.piece]), np.float64)


def believe(rows: Rows, count: int) -> F64:
    """Return weights (R,): 1 for offsets that fit some motion of the cameras, falling to 0 for wrong finds."""
    weight = np.ones(len(rows.piece))
    prior = _prior(count)
    tuning = 4.0
    for _ in range(ROUNDS):
        found = equations(rows, count, weight)
        moves = np.asarray(np.linalg.solve(found.matrix + prior, found.side), np.float64).reshape(-1, 6)
        off = np.linalg.norm(left_over(rows, count, weight, moves), axis=1)
        weight = 1 / (1 + (off / tuning) ** 2) ** 2
        tuning = max(tuning / 1.6, TUNING_PX)
    return weight


def _prior(count: int) -> F64:
    """Return the information (6 C, 6 C) that cameras moved by millimetres and tenths of a degree, not more."""
    return np.diag(np.tile([np.radians(PRIOR_DEG) ** -2] * 3 + [(PRIOR_MM / 1000) ** -2] * 3, count))


@dataclass(frozen=True, slots=True)
class Motion:
    """What is thought of one camera."""

    camera: str
    """Id."""
    moved: bool
    """Whether it is named."""
    shift_px: float
    """By how much its picture of the head is off, rms."""
    sigmas: float
    """The same in standard deviations."""
    place_mm: float
    """How far the camera moved."""
    turn_deg: float
    """By how much it turned."""
    pieces: int
    """Pieces of skin that speak of it."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What became of a rig."""

    motions: tuple[Motion, ...]
    """Of each camera in rig order."""
    refined: Calibration
    """The rig with moved cameras where they are now."""
    instants: int
    """Frame sets looked at."""

    @property
    def moved(self) -> tuple[str, ...]:
        """Cameras that are named."""
        return tuple(m.camera for m in self.motions if m.moved)

    def as_json(self) -> dict[str, object]:
        """Return plain data."""
        cameras = {
            m.camera: {name: getattr(m, name) for name in Motion.__slots__ if name != "camera"} for m in self.motions
        }
        places = {c.id: c.camera_from_world.tolist() for c in self.refined.cameras}
        return {"moved": list(self.moved), "cameras": cameras, "sets": self.instants, "camera_from_world": places}

    def lines(self) -> list[str]:
        """Return it in words."""
        found = []
        for m in self.motions:
            if m.pieces == 0:
                found.append(f"{m.camera:<12} not seen well enough to tell")
                continue
            told = f"MOVED by {m.place_mm:.1f} mm and {m.turn_deg:.2f} degrees; " if m.moved else "in place; "
            found.append(f"{m.camera:<12} {told}off by {m.shift_px:.2f} px ({m.sigmas:.1f} sigma), {m.pieces} pieces")
        return found


def find_drift(tracks: Sequence[Tracks], calibration: Calibration) -> Drift:
    """Tell which cameras moved since calibration.

    Args:
        tracks: pieces of skin of each instant.
        calibration: the rig as it is believed to stand.

    Raises:
        CalibrationError: nothing was found in two views.
    """
    cameras, count = calibration.cameras, len(calibration.cameras)
    rows = linearise(tracks, cameras)
    weight = believe(rows, count)
    moves = np.zeros((count, 6))
    named: list[int] = []
    shown = {}
    while True:
        rest = replace_offsets(rows, moves)
        found = equations(rest, count, weight)
        for index in range(count):
            if index not in named:
                shown[index] = _motion(rows, weight, index, found, cameras[index])
        candidates = [i for i in range(count) if i not in named and shown[i].moved]
        if not candidates or len(named) + 1 > MAX_MOVED_SHARE * count:
            break
        worst = max(candidates, key=lambda i: found.alone(i)[2])
        named.append(worst)
        # all that are named move together, the others stand
        columns = np.concatenate([np.arange(6 * i, 6 * i + 6) for i in named])
        whole = equations(rows, count, weight)
        own = whole.matrix[np.ix_(columns, columns)] + _prior(len(named))
        moves[named] = np.linalg.solve(own, whole.side[columns]).reshape(-1, 6)
    motions = []
    for index, camera in enumerate(cameras):
        one = shown[index]
        if index in named:
            one = _sized(rows, weight, index, moves[index], camera, one.sigmas, moved=True)
        motions.append(replace(one, moved=index in named))
    refined = tuple(
        replace(c, camera_from_world=matrix_of(moves[i]) @ c.camera_from_world) if i in named else c
        for i, c in enumerate(cameras)
    )
    words = f"{calibration.source}; refined by a head: {', '.join(cameras[i].id for i in named) or 'nothing moved'}"
    return Drift(tuple(motions), Calibration(refined, words), len(tracks))


def replace_offsets(rows: Rows, moves: F64) -> Rows:
    """Return the rows with known motions (C, 6) taken out."""
    return replace(rows, offset=rows.offset - np.einsum("rij,rj->ri", rows.by_camera, moves[rows.camera]))


def _motion(rows: Rows, weight: F64, index: int, found: Equations, camera: Camera) -> Motion:
    move, covariance, _ = found.alone(index)
    mine = (rows.camera == index) & (weight > 0.2)
    if mine.sum() < 20:
        return Motion(camera.id, False, 0.0, 0.0, 0.0, 0.0, 0)
    by = rows.by_camera[mine]
    spread = np.einsum("rij,jk,rik->", by, covariance, by) / len(by)
    one = _sized(rows, weight, index, move, camera, 0.0, moved=False)
    # pictures of other sizes: a pixel of a picture half as fine weighs twice
    systematic = SYSTEMATIC_PX * camera.K[0, 0] / 1324.0
    sigmas = one.shift_px / float(np.hypot(CORRELATED * np.sqrt(spread), systematic))
    return replace(one, sigmas=sigmas, moved=sigmas > ALARM_SIGMAS)


def _sized(rows: Rows, weight: F64, index: int, move: F64, camera: Camera, sigmas: float, *, moved: bool) -> Motion:
    mine = (rows.camera == index) & (weight > 0.2)
    way = np.einsum("rij,j->ri", rows.by_camera[mine], move)
    shift = float(np.sqrt((way**2).sum(1).mean())) if mine.any() else 0.0
    # the optical centre is what exp(move) maps to the origin
    centre = -np.linalg.inv(matrix_of(move)[:3, :3]) @ move[3:]
    place, turn = float(1000 * np.linalg.norm(centre)), float(np.degrees(np.linalg.norm(move[:3])))
    return Motion(camera.id, moved, shift, sigmas, place, turn, int(mine.sum()))
