"""What each kernel must give, against float64 and against its twin on the CPU; each raises AssertionError."""

from types import SimpleNamespace

import cv2
import numpy as np

from inference.framing import Resampler, Window
from inference.tempeh.compiled.sampling import local_volumes
from inference.tempeh.published.visibility import BIAS as SEEN
from inference.tempeh.published.visibility import SIDE, depth_picture, outline, read_picture
from streamer.geometry import vertex_normals
from tests.inference.kernels_on_cpu import Kernels, blocks
from tests.inference.published_makers import CENTRE, bumpy_head, rig

EMPTY = np.uint64(0x7FFFFFFF_FFFFFFFF)
"""A pixel without a triangle: height 0, ordered and inverted, and no triangle."""
NOBODY = 0xFFFFFFFF
BROKEN = 299
LAYOUTS = {
    2: cv2.COLOR_BayerRGGB2RGB,
    3: cv2.COLOR_BayerGRBG2RGB,
    4: cv2.COLOR_BayerGBRG2RGB,
    5: cv2.COLOR_BayerBGGR2RGB,
}
COLOURS = {2: ((0, 1), (1, 2)), 3: ((1, 0), (2, 1)), 4: ((1, 2), (0, 1)), 5: ((2, 1), (1, 0))}
"""Colour of each pixel of a mosaic's 2 x 2 cell, rows first."""


def outlined(kernels: Kernels, points: np.ndarray, cameras: dict[str, np.ndarray]) -> SimpleNamespace:
    """Places and depths of the vertices in every view."""
    views, count = len(cameras["K"]), len(points)
    made = SimpleNamespace(
        boxes=np.zeros((views, 6), np.uint32),
        pictures=np.zeros((views, SIDE, SIDE), np.uint64),
        flat=np.full((views, count, 3), 7, np.float32),
    )
    kernels("outline_begin", (blocks(SIDE * SIDE, 256), views), (256,), made.boxes, made.pictures)
    assert (made.pictures == EMPTY).all()
    grid = (blocks(count, 64), views)
    kernels(
        "outline_project", grid, (64,), points, cameras["K"], cameras["camera_from_world"], count, made.flat, made.boxes
    )
    kernels("outline_place", grid, (64,), count, made.flat, made.boxes)
    return made


def drawn(kernels: Kernels, flat: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights and triangles (V, SIDE, SIDE) of the depth pictures, and what is seen (V, N)."""
    views, count = flat.shape[:2]
    pictures = np.full((views, SIDE, SIDE), EMPTY, np.uint64)
    kernels("depth_draw", (blocks(len(triangles), 32), views), (32,), flat, triangles, count, len(triangles), pictures)
    seen = np.full((views, count), 9, np.uint8)
    kernels("depth_test", (blocks(count, 64), views), (64,), flat, pictures, count, seen)
    bits = ~(pictures >> np.uint64(32)).astype(np.uint32)
    heights = np.where(bits >> 31 == 1, bits & np.uint32(0x7FFFFFFF), ~bits).astype(np.uint32).view(np.float32)
    return heights, pictures.astype(np.uint32).astype(np.int64), seen


def check_outline(kernels: Kernels) -> None:
    """The outline in float64; what is not finite stays out of it."""
    points = (bumpy_head()[0] + CENTRE).astype(np.float32)
    points[5, 1] = np.nan
    good = np.arange(len(points)) != 5
    cameras = rig(3, (200, 150))
    flat = outlined(kernels, points, cameras).flat
    assert np.isnan(flat[:, 5]).all()
    for view in range(3):
        T, K = (cameras[k][view].astype(np.float64) for k in ("camera_from_world", "K"))
        local = points[good].astype(np.float64) @ T[:, :3].T + T[:, 3]
        pixel = (local @ K.T)[:, :2] / local[:, 2:]
        low, high = np.floor(pixel.min(0)), np.ceil(pixel.max(0))
        near, far = np.floor(local[:, 2].min()), np.ceil(local[:, 2].max())
        place = (pixel - (low + high) / 2) * 2 / (high - low).max()
        # 1000 mm and 300 px in float32 are good to some 1e-4 mm and 1e-4 px, of extents of 40 px and 200 mm
        np.testing.assert_allclose(flat[view, good, :2], place, atol=2e-5)
        np.testing.assert_allclose(flat[view, good, 2], (local[:, 2] - near) / (far - near), atol=5e-6)


def hard_triangles(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (300, 3), some exactly on pixel centres, and triangles (200, 3): all sizes, lines, points, a NaN."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1.2, 1.2, (300, 2))
    place[100:200] = (2 * rng.integers(0, SIDE, (100, 2)) + 1 - SIDE) / SIDE
    place[200:260] = place[140:200] + rng.normal(0, 0.02, (60, 2))
    flat = np.concatenate([place, rng.uniform(0, 1, (300, 1))], 1).astype(np.float32)
    flat[BROKEN] = np.nan
    triangles = rng.integers(0, BROKEN, (200, 3)).astype(np.int32)
    triangles[:40] = np.arange(40)[:, None] + np.array([140, 200, 141])
    triangles[40:50, 2] = triangles[40:50, 0]
    triangles[50:55] = triangles[50:55, :1]
    triangles[60:90] = rng.integers(100, 200, (30, 3))
    triangles[199] = (1, 2, BROKEN)
    return flat, triangles


def check_depth(kernels: Kernels) -> None:
    """The same bits as the CPU's for the same outlines, whatever the order; a pixel knows its triangle."""
    first, triangles = hard_triangles(0)
    flat = np.stack([first, hard_triangles(1)[0]])
    kernels.threads, kernels.step = 1, 1
    heights, owners, seen = drawn(kernels, flat, triangles)
    for view in range(2):
        place, depth = np.ascontiguousarray(flat[view, :BROKEN, :2]), flat[view, :BROKEN, 2].copy()
        expected = depth_picture(place, depth, triangles[:199])
        assert np.array_equal(heights[view], expected)
        sees = depth - SEEN <= np.float32(1) - read_picture(expected, place)
        drawable = (np.abs(place) <= 1).all(1)  # an outline holds all vertices; beyond it the CPU's reading is off
        assert np.array_equal(seen[view, :BROKEN][drawable], sees[drawable]) and seen[view, BROKEN] == 0
        assert 0.1 < sees.mean() < 0.9 and (expected > 0).mean() > 0.5
        assert np.array_equal(owners[view] == NOBODY, expected == 0)
        for owner in np.unique(owners[view])[:20]:
            if owner != NOBODY:
                mine, alone = owners[view] == owner, depth_picture(place, depth, triangles[owner : owner + 1])
                assert np.array_equal(alone[mine], expected[mine])
    kernels.threads, kernels.step = 2, -1
    for a, b in zip((heights, owners, seen), drawn(kernels, flat, triangles), strict=True):
        assert np.array_equal(a, b)


def check_visibility(kernels: Kernels) -> None:
    """The whole chain against the CPU's on a head; no extent: nothing is seen."""
    points, triangles = bumpy_head()
    points = (points + CENTRE).astype(np.float32)
    cameras = rig(4, (200, 150))
    flat = outlined(kernels, points, cameras).flat
    heights, _, seen = drawn(kernels, flat, triangles)
    for view in range(4):
        place, depth = outline(points, cameras["K"][view], cameras["camera_from_world"][view])
        np.testing.assert_allclose(flat[view, :, :2], place, atol=2e-5)  # sums in another order
        expected = depth_picture(np.ascontiguousarray(flat[view, :, :2]), flat[view, :, 2].copy(), triangles)
        assert np.array_equal(heights[view], expected)
        margin = depth - SEEN - (1 - read_picture(depth_picture(place, depth, triangles), place))
        clear = np.abs(margin) > 0.02  # an edge may gain or lose a pixel for another rounding of the outline
        assert clear.mean() > 0.5 and np.array_equal(seen[view, clear], margin[clear] <= 0)
    point = np.repeat(points[:1], len(points), 0)
    point[:, :] = CENTRE
    cameras["K"][:, :2, 2] = np.round(cameras["K"][:, :2, 2])
    cameras["camera_from_world"][0] = np.eye(3, 4)
    cameras["camera_from_world"][0, :, 3] = (0, 50, 1000)
    flat = outlined(kernels, point, cameras).flat
    assert np.isnan(flat[0]).all() and not drawn(kernels, flat, triangles)[2][0].any()


def check_normals(kernels: Kernels) -> None:
    """Normals in float64, of which the CPU's are the float32; none for vertices without triangles."""
    points, triangles = bumpy_head()
    triangles = triangles[(triangles != 11).all(1)]
    owner = triangles.ravel()
    around = (np.argsort(owner, kind="stable") // 3).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(points)))]).astype(np.int32)
    normals = np.full((len(points), 3), 7, np.float32)
    kernels(
        "vertex_normals", (blocks(len(points), 64),), (64,), points, triangles, starts, around, len(points), normals
    )
    assert (normals[11] == 0).all()
    np.testing.assert_allclose(normals, vertex_normals(points.astype(np.float64), triangles), atol=2e-6)


def _exact_volumes(case: SimpleNamespace, quirks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (M, 19, P) in float64 through full maps, and where no view's picture ends near by (M, P)."""
    width, height = case.size
    full = case.maps.astype(np.float64).repeat(2, 1).repeat(2, 2)[:, :height, :width]
    padded = np.pad(full, ((0, 0), (1, 1), (1, 1), (0, 0)))
    points = case.vertices[:, None].astype(np.float64) + case.grid
    weights, samples, certain = [], [], np.ones(points.shape[:2], bool)
    for view in np.flatnonzero(case.mask):
        T, K, (k1, k2) = (a[view].astype(np.float64) for a in (case.poses, case.K, case.lens))
        local = points @ T[:, :3].T + T[:, 3]
        hidden = np.abs(local[..., 2]) < 1e-7 if quirks else local[..., 2] < 1
        xy = local[..., :2] / np.where(hidden, 1, local[..., 2])[..., None]
        r2 = (xy * xy).sum(-1, keepdims=True)
        pixel = xy * (1 + k1 * r2 + k2 * r2 * r2) @ K[:, :2].T + K[:, 2]
        extent = np.array(case.size)
        if quirks:
            grid = 2 * pixel / (extent - 1) - 1
        else:
            grid = np.where(hidden[..., None], 4.0, (2 * pixel + 1) / extent - 1)
        inside = (np.abs(grid) <= 1).all(-1)
        certain &= (np.abs(np.abs(grid) - 1) > 1e-4).all(-1)
        rays = points + T[:, :3].T @ T[:, 3]
        facing = -(rays * case.normals[:, None]).sum(-1) / np.linalg.norm(rays, axis=-1)
        seen = case.seen[view][:, None].astype(np.float64)
        steep = 50 * (seen * 0.5 + 0.5 if quirks else seen) * np.maximum(facing, 0) * inside
        weights.append(np.where(steep > 5, steep, np.log1p(np.exp(np.minimum(steep, 5)))) / 50)
        position = np.clip(((grid + 1) * extent - 1) / 2, -1, extent)
        base = np.minimum(np.floor(position).astype(int), extent - 1)
        part = position - base
        x, y = base[..., 0] + 1, base[..., 1] + 1
        fx, fy = part[..., :1], part[..., 1:]
        upper = padded[view, y, x] * (1 - fx) + padded[view, y, x + 1] * fx
        samples.append(upper * (1 - fy) + (padded[view, y + 1, x] * (1 - fx) + padded[view, y + 1, x + 1] * fx) * fy)
    w, f = np.stack(weights)[..., None], np.stack(samples)
    w = w / w.sum(0)
    mean = (w * f).sum(0)
    there = np.broadcast_to(case.embedding[:, None], (*points.shape[:2], 3))
    return np.concatenate([mean, (w * f * f).sum(0) - mean**2, there], -1).transpose(0, 2, 1), certain


def _sampling_case() -> SimpleNamespace:
    rng = np.random.default_rng(3)
    points, triangles = bumpy_head()
    cameras = rig(5, (65, 49))  # odd: the last column and row of the maps stand for one pixel
    cameras["camera_from_world"][4, 2, 3] = 30.0  # a wide camera in the head's middle: points behind it
    cameras["K"][4, :2, :2] *= 0.1
    axis = (np.arange(4) - 1.5) * 7
    vertices = (points * [3, 1.6, 3] + CENTRE).astype(np.float32)  # part of it leaves the pictures
    return SimpleNamespace(
        size=(65, 49), mask=np.array([1, 1, 0, 1, 1], np.uint8),
        maps=rng.normal(size=(5, 25, 33, 8)).astype(np.float32),
        K=np.ascontiguousarray(cameras["K"][:, :2]), lens=cameras["distortion"], poses=cameras["camera_from_world"],
        grid=np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3).astype(np.float32),
        vertices=vertices, normals=vertex_normals(points, triangles),
        seen=rng.integers(0, 2, (5, len(points))).astype(np.uint8),
        embedding=rng.normal(size=(len(points), 3)).astype(np.float32),
    )  # fmt: skip


def check_volumes(kernels: Kernels, quirks: bool) -> None:
    """Fusion in float64, and the compiled CPU kernel on the views that exist; nothing without views."""
    case = _sampling_case()
    count, voxels = len(case.vertices), len(case.grid)
    out = np.full((count, 19, voxels), np.nan, np.float32)
    inputs = (case.K, case.lens, case.poses, case.grid, case.vertices, case.normals, case.seen, case.embedding)
    sizes = (5, count, voxels, *case.size, int(quirks))
    kernels("local_volumes", (count,), (48,), case.maps, case.mask, *inputs, *sizes, out)
    exact, certain = _exact_volumes(case, quirks)
    assert 0.9 < certain.mean() < 1 or not quirks
    difference = np.abs(out - exact).transpose(0, 2, 1)[certain]
    # places are good to 1e-4 px, maps differ by some 4 per px; near the camera in the head by more
    assert np.percentile(difference, 99.5) < 1e-3 and difference.max() < 0.05
    held = np.flatnonzero(case.mask)
    turned = np.ascontiguousarray(np.einsum("vij,pj->vip", case.poses[held, :, :3], case.grid), np.float32)
    factor = np.asarray(case.seen[held] * 0.5 + 0.5 if quirks else case.seen[held], np.float32)
    twin = np.empty((count, voxels, 16), np.float32)
    scratch = (np.empty((3, voxels), np.float32), np.empty((4, voxels), np.float32), np.empty(voxels, np.float32))
    cameras = (case.K[held], case.lens[held], case.poses[held])
    local_volumes(
        case.maps[held], case.size, *cameras, turned, case.vertices, case.normals, factor, quirks, twin, *scratch
    )
    difference = np.abs(out[:, :16] - twin.transpose(0, 2, 1)).transpose(0, 2, 1)[certain]
    assert np.percentile(difference, 99.5) < 1e-3 and difference.max() < 0.05
    kernels("local_volumes", (count,), (48,), case.maps, np.zeros(5, np.uint8), *inputs, *sizes, out)
    assert (out[:, :16] == 0).all() and np.array_equal(out[:, 16:, 0], case.embedding)


def _demosaiced(mosaic: np.ndarray, layout: int) -> np.ndarray:
    """(H, W) to (H, W, 3) in float64: each colour's mean over the nearest pixels that have it."""
    height, width = mosaic.shape
    padded = np.pad(mosaic.astype(np.float64), 1, mode="reflect")
    rows, columns = np.mgrid[-1 : height + 1, -1 : width + 1] % 2
    colour = np.array(COLOURS[layout])[rows, columns]
    out = np.empty((height, width, 3))
    near = {0: [(0, 0)], 1: [(0, 1), (0, -1), (1, 0), (-1, 0)], 2: [(1, 1), (1, -1), (-1, 1), (-1, -1)]}
    for y in range(height):
        for x in range(width):
            for k in range(3):
                for distance in near.values():
                    hits = [padded[y + 1 + j, x + 1 + i] for j, i in distance if colour[y + 1 + j, x + 1 + i] == k]
                    if hits:
                        out[y, x, k] = np.mean(hits)
                        break
    return out


def _averaged(picture: np.ndarray, window: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) window averaged to `size`, float64."""
    for axis, (start, length, target) in enumerate([(window[1], window[3], size[1]), (window[0], window[2], size[0])]):
        edges = start + length * np.arange(target + 1) / target
        i = np.arange(picture.shape[axis])
        part = np.maximum(np.minimum(edges[1:, None], i + 1) - np.maximum(edges[:-1, None], i), 0) * target / length
        picture = np.moveaxis(np.tensordot(part, picture, (1, axis)), 0, axis)
    return picture


def check_pictures(kernels: Kernels) -> None:
    """Every layout in float64, over windows within and beyond the picture; the CPU's way for RGB; no picture: black."""
    rng = np.random.default_rng(4)
    width, height, size = 38, 31, (9, 7)
    windows = np.array([[0, 0, 38, 31], [3.3, 1.7, 20.2, 19.9], [-6, -4, 50, 40], [0, 0, 38, 31]], np.float32)
    mask = np.array([1, 1, 1, 0], np.uint8)
    mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    for layout in range(6):
        sources = rng.integers(0, 256, (4, height, width, *([3] if layout == 0 else []))).astype(np.uint8)
        out = np.full((4, 3, size[1], size[0]), np.nan, np.float32)
        grid = (blocks(size[0], 8), blocks(size[1], 4), 4)
        numbers = (width, height, layout, *size)
        kernels("pictures", grid, (8, 4), sources, mask, windows, mean, deviation, *numbers, out)
        for view in range(4):
            rgb = sources[view] if layout == 0 else sources[view][..., None].repeat(3, -1)
            rgb = rgb.astype(np.float64) if layout < 2 else _demosaiced(sources[view], layout)
            if layout >= 2 and view == 0:  # OpenCV rounds to whole levels, and has its own rule at the border
                theirs = cv2.cvtColor(sources[view], LAYOUTS[layout])
                assert np.abs(theirs - rgb)[1:-1, 1:-1].max() <= 0.5
            exact = _averaged(rgb * mask[view], tuple(windows[view].tolist()), size)
            values = (exact / 255 - mean) / deviation
            # edges in float32 are off by 4e-6 px, of parts of 2 px and steps of 4.4 units
            np.testing.assert_allclose(out[view].transpose(1, 2, 0), values, atol=5e-5)
            if layout == 0 and mask[view]:
                twin = np.empty((size[1], size[0], 3), np.uint8)
                Resampler(width, height, Window(*windows[view].tolist()), *size).into(sources[view], twin)
                levels = (out[view].transpose(1, 2, 0) * deviation + mean) * 255
                assert np.abs(levels - twin).max() < 0.51  # the CPU's are rounded to whole levels
