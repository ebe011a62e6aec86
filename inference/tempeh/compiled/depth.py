"""The depth test of `inference.tempeh.published.visibility`, its rasteriser compiled: the same numbers, sooner."""

from typing import Any

import numpy as np

from inference.tempeh.compiled.lines import compiled
from inference.tempeh.published.visibility import BIAS, EPSILON, MULTIPLIER, SIDE, outline, read_picture
from streamer.types import F32, I32, U8

SCALE = MULTIPLIER / np.float32(SIDE)


@compiled
def _draw(corners: Any, height: Any, picture: Any) -> None:
    """Draw triangles (T, 3, 2) of heights (T, 3) into a picture, keeping what is higher; all float32."""
    side = picture.shape[0]
    zero, one = np.float32(0), np.float32(1)
    for t in range(corners.shape[0]):
        ax, ay = corners[t, 0, 0], corners[t, 0, 1]
        low_x, high_x = min(ax, corners[t, 1, 0], corners[t, 2, 0]), max(ax, corners[t, 1, 0], corners[t, 2, 0])
        low_y, high_y = min(ay, corners[t, 1, 1], corners[t, 2, 1]), max(ay, corners[t, 1, 1], corners[t, 2, 1])
        left = max(0, int(np.floor(low_x / 2000.0 * side + (side - 1) / 2)))
        right = min(side - 1, int(np.ceil(high_x / 2000.0 * side + (side - 1) / 2)))
        top = max(0, int(np.floor((side - 1) / 2 - high_y / 2000.0 * side)))
        bottom = min(side - 1, int(np.ceil((side - 1) / 2 - low_y / 2000.0 * side)))
        m, p = corners[t, 1, 0] - ax, corners[t, 1, 1] - ay
        n, q = corners[t, 2, 0] - ax, corners[t, 2, 1] - ay
        area = m * q - n * p + EPSILON
        for row in range(top, bottom + 1):
            y = np.float32(side - 2 * row - 1) * SCALE
            if y < low_y or y >= high_y:
                continue
            for column in range(left, right + 1):
                x = np.float32(2 * column + 1 - side) * SCALE
                if x < low_x or x >= high_x:
                    continue
                s, r = x - ax, y - ay
                w1, w2 = (s * q - n * r) / area, (m * r - s * p) / area
                w0 = one - w1 - w2
                if w0 >= zero and w1 >= zero and w2 >= zero:
                    value = w0 * height[t, 0] + w1 * height[t, 1] + w2 * height[t, 2]
                    if value > picture[row, column]:
                        picture[row, column] = value


def visibility(vertices: F32, triangles: I32, K: F32, camera_from_world: F32) -> U8:
    """Find what every view sees; see `inference.tempeh.published.visibility.visibility`."""
    seen = np.empty((len(K), len(vertices)), np.uint8)
    for view in range(len(K)):
        place, depth = outline(vertices, K[view], camera_from_world[view])
        picture = np.zeros((SIDE, SIDE), np.float32)
        upright = place * np.array([1, -1], np.float32) * MULTIPLIER
        _draw(upright[triangles], np.float32(1) - depth[triangles], picture)
        seen[view] = depth - BIAS <= np.float32(1) - read_picture(picture, place)
    return seen
