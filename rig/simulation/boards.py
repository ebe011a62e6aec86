"""What simulated cameras see of a calibration board: exact geometry with lens distortion, blur and noise. No GL."""

from dataclasses import dataclass

import cv2
import numpy as np

from rig.calibration.boards import Board
from streamer.geometry import distort, project, transform
from streamer.types import F64, U8, Calibration, Camera

TEXELS = 64
"""Of the print, per square."""
OVERSAMPLED = 3
NODE_PX = 4
"""The way from picture to print is computed at every fourth pixel and interpolated: lenses are smooth."""
WHITE, BLACK, WALL = 210.0, 35.0, 105.0


@dataclass(frozen=True, slots=True)
class BoardLook:
    """How a board is seen."""

    blur_px: float = 0.6
    """Sigma of defocus."""
    noise_dn: float = 2.0
    """Standard deviation of the sensor's noise, grey levels of 255."""
    motion_px: float = 0.0
    """Length of motion blur, to the right."""


def print_board(board: Board) -> U8:
    """Draw the board with a margin of one square: (H, W) grey, `TEXELS` per square."""
    drawn = board.picture(TEXELS)
    paper = 0 if board.inverted else 255
    return np.asarray(cv2.copyMakeBorder(drawn, *(TEXELS,) * 4, cv2.BORDER_CONSTANT, value=(paper,)), np.uint8)


def see_board(
    camera: Camera, board: Board, texture: U8, world_from_board: F64, look: BoardLook, rng: np.random.Generator
) -> U8:
    """Render what a camera sees.

    Args:
        camera: the camera.
        board: the board.
        texture: `print_board` of it.
        world_from_board: (4, 4) where it is.
        look: blur and noise.
        rng: of the noise.

    Returns:
        (H, W) grey; without the board where the camera sees its back.
    """
    picture = np.full((camera.height, camera.width), WALL, np.float32)
    camera_from_board = camera.camera_from_world @ world_from_board
    middle = transform(camera_from_board, board.points().mean(0))
    if camera_from_board[:3, 2] @ middle > 0 and middle[2] > 0.05:
        _paint(picture, camera, board, texture, camera_from_board, world_from_board)
    if look.motion_px > 1:
        kernel = np.ones((1, round(look.motion_px)), np.float32) / round(look.motion_px)
        picture = np.asarray(cv2.filter2D(picture, -1, kernel), np.float32)
    if look.blur_px > 0:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), look.blur_px), np.float32)
    picture += rng.standard_normal(picture.shape, np.float32) * np.float32(look.noise_dn)
    return np.asarray(np.clip(np.round(picture), 0, 255), np.uint8)


def _paint(
    picture: np.ndarray, camera: Camera, board: Board, texture: U8, camera_from_board: F64, world_from_board: F64
) -> None:
    square = board.square_mm / 1000
    outline = board.outline()
    wide = outline + np.sign(outline - outline.mean(0)) * square
    edge = np.concatenate([wide[i] + (wide[(i + 1) % 4] - wide[i]) * np.linspace(0, 1, 20)[:, None] for i in range(4)])
    pixels, depth = project(camera, transform(world_from_board, edge))
    if (depth < 0.05).any():
        return
    low = np.clip(np.floor(pixels.min(0)).astype(int) - 3, 0, None)
    high = np.minimum(np.ceil(pixels.max(0)).astype(int) + 4, [camera.width, camera.height])
    if (high - low < 2).any():
        return
    # nodes in pixels, then the print's texels there, then all samples between them
    fine = [(np.arange((b - a) * OVERSAMPLED) + 0.5) / OVERSAMPLED - 0.5 + a for a, b in zip(low, high, strict=True)]
    nodes = [np.arange(a - 1, b + NODE_PX + 1, NODE_PX, dtype=float) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(nodes[0], nodes[1]), -1)
    rays = _undistorted(camera, grid)
    board_from_ray = np.linalg.inv(camera_from_board[:3, [0, 1, 3]])
    flat = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], -1) @ board_from_ray.T
    metres = flat[..., :2] / flat[..., 2:]
    texels = ((metres - outline[0, :2]) / square + 1) * TEXELS - 0.5
    across, down = _between(fine[0], nodes[0]), _between(fine[1], nodes[1])
    maps = [(down @ texels[..., axis] @ across.T).astype(np.float32) for axis in (0, 1)]
    inside = (maps[0] > -0.5) & (maps[1] > -0.5)
    inside &= (maps[0] < texture.shape[1] - 0.5) & (maps[1] < texture.shape[0] - 0.5)
    print_levels = texture.astype(np.float32) / 255 * (WHITE - BLACK) + BLACK
    seen = cv2.remap(print_levels, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mixed = np.where(inside, seen, np.float32(WALL))
    rows, columns = high[1] - low[1], high[0] - low[0]
    small = mixed.reshape(rows, OVERSAMPLED, columns, OVERSAMPLED).mean((1, 3))
    picture[low[1] : high[1], low[0] : high[0]] = small


def _undistorted(camera: Camera, pixels: F64) -> F64:
    """Return the ideal coordinates (..., 2) of pixels, by fixed-point iteration to 1e-10."""
    seen = (pixels - camera.K[:2, 2]) / np.diag(camera.K)[:2]
    ideal = seen.copy()
    for _ in range(30):
        ideal = ideal + seen - distort(ideal, camera.distortion)
    return np.asarray(ideal, np.float64)


def _between(fine: F64, nodes: F64) -> F64:
    """Return the matrix (F, N) of linear interpolation from evenly spaced nodes."""
    place = (fine - nodes[0]) / NODE_PX
    left = np.clip(np.floor(place).astype(int), 0, len(nodes) - 2)
    matrix = np.zeros((len(fine), len(nodes)))
    rows = np.arange(len(fine))
    matrix[rows, left] = 1 - (place - left)
    matrix[rows, left + 1] = place - left
    return matrix


def random_board_poses(rng: np.random.Generator, calibration: Calibration, board: Board, count: int) -> list[F64]:
    """Return places `world_from_board` (4, 4) of a board waved about the stage's middle before all cameras in turn."""
    poses = []
    middle = board.points().mean(0)
    for number in range(count):
        camera = calibration.cameras[number % len(calibration.cameras)]
        back = camera.centre_world / np.linalg.norm(camera.centre_world)
        z = -back + rng.uniform(-0.55, 0.55, 3)
        z /= np.linalg.norm(z)
        x = np.cross([0.0, 1.0, 0.0], -z)
        x = x / np.linalg.norm(x)
        y = np.cross(z, x)
        roll = rng.uniform(-0.6, 0.6)
        rotation = np.stack([np.cos(roll) * x + np.sin(roll) * y, -np.sin(roll) * x + np.cos(roll) * y, z], 1)
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = rng.uniform(-0.09, 0.09, 3) + back * rng.uniform(-0.12, 0.2) - rotation @ middle
        poses.append(pose)
    return poses
