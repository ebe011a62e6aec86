"""Products and line transforms by address, for any number of channels: what the convolutions are made of."""

import numba

from inference.tempeh.compiled import vectors as v

low_1, high_1, alone_1 = v.into_six_low[1], v.into_six_high[1], v.into_six_alone[1]
low_2, high_2, alone_2 = v.into_six_low[2], v.into_six_high[2], v.into_six_alone[2]
four_1, four_2, three_1, three_2 = v.into_four[1], v.into_four[2], v.into_three[1], v.into_three[2]
two_1, two_2 = v.into_two[1], v.into_two[2]
tile_8x1, tile_8x2 = v.tile_8x1, v.tile_8x2
finish_plain, finish_relu, finish_sum = v.finish_plain, v.finish_relu, v.finish_sum
finish_sum_skip, finish_skip = v.finish_sum_skip, v.finish_skip
compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
RELU, SUM, SUM_SKIP, SKIP, PLAIN = 0, 1, 2, 3, 4
"""Ends of a layer: relu(x), relu(x + before), relu(x + before) + after, relu(x) + after, x; a bias is always added."""


@compiled
def finish(kind: int, source: int, bias: int, before: int, after: int, target: int, channels: int) -> None:
    """End a layer for some channels of one voxel; see `RELU` and the others."""
    if kind == 0:
        finish_relu(source, bias, before, after, target, channels)
    elif kind == 1:
        finish_sum(source, bias, before, after, target, channels)
    elif kind == 2:
        finish_sum_skip(source, bias, before, after, target, channels)
    elif kind == 3:
        finish_skip(source, bias, before, after, target, channels)
    else:
        finish_plain(source, bias, before, after, target, channels)


@compiled
def multiply(a: int, b: int, c: int, rows: int, depth: int, columns: int) -> None:
    """C = A B of addresses: (rows, depth) (depth, columns); rows a multiple of 8, columns of 16."""
    column = 0
    while column < columns:
        if columns - column >= 32:
            for row in range(0, rows, 8):
                tile_8x2(
                    a + 4 * row * depth,
                    b + 4 * column,
                    c + 4 * (row * columns + column),
                    depth,
                    depth,
                    columns,
                    columns,
                )
            column += 32
        else:
            for row in range(0, rows, 8):
                tile_8x1(
                    a + 4 * row * depth,
                    b + 4 * column,
                    c + 4 * (row * columns + column),
                    depth,
                    depth,
                    columns,
                    columns,
                )
            column += 16


@compiled
def into_six(source: int, step: int, target: int, step_out: int, channels: int, place: int) -> None:
    """Line of a tile: 0 at the lower border, 1 at the upper one, 2 between both."""
    if channels == 16:
        if place == 0:
            low_1(source, step, target, step_out)
        elif place == 1:
            high_1(source, step, target, step_out)
        else:
            alone_1(source, step, target, step_out)
        return
    for part in range(0, 4 * channels, 128):
        if place == 0:
            low_2(source + part, step, target + part, step_out)
        elif place == 1:
            high_2(source + part, step, target + part, step_out)
        else:
            alone_2(source + part, step, target + part, step_out)


@compiled
def into_four(source: int, step: int, target: int, step_out: int, channels: int) -> None:
    """Line of a tile, back."""
    if channels == 16:
        four_1(source, step, target, step_out)
        return
    for part in range(0, 4 * channels, 128):
        four_2(source + part, step, target + part, step_out)


@compiled
def into_three(source: int, step: int, target: int, step_out: int, channels: int) -> None:
    """Line of a volume of two voxels."""
    if channels == 16:
        three_1(source, step, target, step_out)
        return
    for part in range(0, 4 * channels, 128):
        three_2(source + part, step, target + part, step_out)


@compiled
def into_two(source: int, step: int, target: int, step_out: int, channels: int) -> None:
    """Line of a volume of two voxels, back."""
    if channels == 16:
        two_1(source, step, target, step_out)
        return
    for part in range(0, 4 * channels, 128):
        two_2(source + part, step, target + part, step_out)
