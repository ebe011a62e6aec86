"""Calibration boards: BOARD.toml, where their corners are, and how they look.

Board frame: x along the columns, y along the rows (downwards in print), z into the board; the origin is the first inner
corner of a chessboard, the printed corner of a ChArUco board. A chessboard has `columns` x `rows` inner corners, as
OpenCV counts; a ChArUco board has `columns` x `rows` squares.

Example:
    kind = "charuco"
    columns = 7
    rows = 5
    square_mm = 30.0
    marker_mm = 22.0
    dictionary = "DICT_4X4_100"
    inverted = false            # white on black
"""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from streamer.errors import CalibrationError
from streamer.types import F64, U8

KEYS = ("kind", "columns", "rows", "square_mm", "marker_mm", "dictionary", "inverted", "legacy")
MAX_SQUARES = 100


@dataclass(frozen=True, slots=True)
class Board:
    """A flat calibration board."""

    kind: Literal["chessboard", "charuco"]
    """What is printed."""
    columns: int
    """Inner corners (chessboard) or squares (ChArUco) along x."""
    rows: int
    """Inner corners (chessboard) or squares (ChArUco) along y."""
    square_mm: float
    """Edge of a square, measured on the print."""
    marker_mm: float = 0.0
    """Edge of a marker; ChArUco only."""
    dictionary: str = ""
    """Name of the markers' dictionary in OpenCV (`DICT_4X4_100`); ChArUco only."""
    inverted: bool = False
    """Printed white on black."""
    legacy: bool = False
    """ChArUco with an even number of rows as OpenCV before 4.6 printed it: a marker in the first square."""

    @property
    def grid(self) -> tuple[int, int]:
        """Inner corners along x and y."""
        if self.kind == "chessboard":
            return self.columns, self.rows
        return self.columns - 1, self.rows - 1

    @property
    def corner_count(self) -> int:
        """Number of inner corners N."""
        return self.grid[0] * self.grid[1]

    @property
    def turned_alike(self) -> bool:
        """Whether a half turn leaves the pattern as it is, so that nobody can tell which corner is the first."""
        return self.kind == "chessboard" and (self.columns + self.rows) % 2 == 0

    def points(self) -> F64:
        """Return the inner corners (N, 3) in metres, board frame, row by row."""
        nx, ny = self.grid
        first = 0 if self.kind == "chessboard" else 1
        y, x = np.mgrid[first : ny + first, first : nx + first]
        flat = np.stack([x.ravel(), y.ravel(), np.zeros(nx * ny)], 1)
        return np.asarray(flat * (self.square_mm / 1000.0), np.float64)

    def outline(self) -> F64:
        """Return the four printed corners (4, 3) in metres, board frame, clockwise as printed."""
        nx, ny = self.grid
        low = -1.0 if self.kind == "chessboard" else 0.0
        x1, y1 = nx + low + 1, ny + low + 1
        square = np.array([[low, low, 0], [x1, low, 0], [x1, y1, 0], [low, y1, 0]])
        return np.asarray(square * (self.square_mm / 1000.0), np.float64)

    def charuco(self) -> cv2.aruco.CharucoBoard:
        """Return OpenCV's board, in millimetres.

        Raises:
            CalibrationError: this is a chessboard.
        """
        if self.kind != "charuco":
            raise CalibrationError("a chessboard has no markers; set kind = 'charuco'")
        made = cv2.aruco.CharucoBoard(
            (self.columns, self.rows), self.square_mm, self.marker_mm, marker_dictionary(self.dictionary)
        )
        made.setLegacyPattern(self.legacy)
        return made

    def picture(self, pixels_per_square: int) -> U8:
        """Draw the board as printed, without margin: (H, W) grey, one square `pixels_per_square` wide."""
        nx, ny = self.grid
        width, height = (nx + 1) * pixels_per_square, (ny + 1) * pixels_per_square
        if self.kind == "charuco":
            drawn = np.asarray(self.charuco().generateImage((width, height)), np.uint8)
        else:
            y, x = np.mgrid[0:height, 0:width] // pixels_per_square
            drawn = np.where((x + y) % 2 == 0, 0, 255).astype(np.uint8)
        return np.asarray(255 - drawn if self.inverted else drawn, np.uint8)


def marker_dictionary(name: str) -> cv2.aruco.Dictionary:
    """Return OpenCV's dictionary of this name.

    Raises:
        CalibrationError: no such dictionary.
    """
    number = getattr(cv2.aruco, name, None) if name.startswith("DICT_") else None
    if not isinstance(number, int):
        raise CalibrationError(f"dictionary = {name!r}: unknown; OpenCV has {', '.join(dictionary_names())}")
    return cv2.aruco.getPredefinedDictionary(number)


def dictionary_names() -> tuple[str, ...]:
    """Return the names of OpenCV's marker dictionaries."""
    return tuple(name for name in dir(cv2.aruco) if name.startswith("DICT_") and name[-2:] not in ("h5", "h9"))


def load_board(path: Path) -> Board:
    """Read BOARD.toml.

    Raises:
        CalibrationError: unreadable, unknown or missing keys, or values that are no board.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file; docs/calibration.md shows how a board is described") from error
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: the board cannot be read: {error}") from error
    return board_from_table(table, str(path))


def board_from_table(table: dict[str, Any], where: str) -> Board:
    """Read a board from the keys of BOARD.toml.

    Args:
        table: key to value.
        where: what to call it in messages.

    Raises:
        CalibrationError: see `load_board`.
    """
    if unknown := [key for key in table if key not in KEYS]:
        raise CalibrationError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(KEYS)}")
    kind = table.get("kind")
    if kind not in ("chessboard", "charuco"):
        raise CalibrationError(f"{where}: kind = {kind!r}; must be 'chessboard' or 'charuco'")
    least = 3 if kind == "chessboard" else 2
    what = "inner corners" if kind == "chessboard" else "squares"
    for key in ("columns", "rows"):
        value = table.get(key)
        if type(value) is not int or not least <= value <= MAX_SQUARES:
            raise CalibrationError(
                f"{where}: {key} = {value!r}; must be the number of {what}, {least} to {MAX_SQUARES}"
            )
    for key in ("inverted", "legacy"):
        if type(table.get(key, False)) is not bool:
            raise CalibrationError(f"{where}: {key} = {table[key]!r}; must be true or false")
    square = _length(table, "square_mm", where)
    flags = {"inverted": table.get("inverted", False), "legacy": table.get("legacy", False)}
    if kind == "chessboard":
        return Board(kind, table["columns"], table["rows"], square, **flags)
    marker = _length(table, "marker_mm", where)
    if not marker < square:
        raise CalibrationError(
            f"{where}: marker_mm = {marker:g} does not fit into square_mm = {square:g}; measure both"
        )
    dictionary = table.get("dictionary")
    if type(dictionary) is not str:
        raise CalibrationError(f"{where}: dictionary = {dictionary!r}; must name one of OpenCV's, e.g. 'DICT_4X4_100'")
    try:
        size = len(marker_dictionary(dictionary).bytesList)
    except CalibrationError as error:
        raise CalibrationError(f"{where}: {error}") from error
    board = Board(kind, table["columns"], table["rows"], square, marker, dictionary, **flags)
    needed = board.columns * board.rows // 2
    if needed > size or board.corner_count < 4:
        raise CalibrationError(
            f"{where}: {board.columns}x{board.rows} squares need {needed} markers, {dictionary} has {size}, and at "
            "least 4 inner corners; correct columns, rows or dictionary"
        )
    return board


def _length(table: dict[str, Any], key: str, where: str) -> float:
    value: Any = table.get(key)
    if type(value) not in (int, float) or not (math.isfinite(value) and 0.1 <= value <= 10_000):
        raise CalibrationError(f"{where}: {key} = {value!r}; must be millimetres, 0.1 to 10000, measured on the print")
    return float(value)
