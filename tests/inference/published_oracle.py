"""The published network once more, from the words of its specification alone: plain functions of official state dicts.

Nothing of `inference.tempeh.published` is used; float64; every heat map and every sample of every view is made. It is
what the implementation is compared with where the published code itself cannot be had.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]


def norm(state: State, key: str, x: Tensor) -> Tensor:
    mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    shape = (1, -1, *[1] * (x.ndim - 2))
    scale = state[f"{key}.weight"] / torch.sqrt(var + 1e-5)
    return x * scale.reshape(shape) + (state[f"{key}.bias"] - mean * scale).reshape(shape)


def conv3(state: State, key: str, x: Tensor) -> Tensor:
    weight = state[f"{key}.weight"]
    return F.conv3d(x, weight, state[f"{key}.bias"], padding=weight.shape[-1] // 2)


def basic(state: State, key: str, x: Tensor) -> Tensor:
    return norm(state, f"{key}.block.1", conv3(state, f"{key}.block.0", x)).relu()


def res(state: State, key: str, x: Tensor) -> Tensor:
    branch = norm(state, f"{key}.res_branch.1", conv3(state, f"{key}.res_branch.0", x)).relu()
    branch = norm(state, f"{key}.res_branch.4", conv3(state, f"{key}.res_branch.3", branch))
    if f"{key}.skip_con.0.weight" in state:
        x = norm(state, f"{key}.skip_con.1", conv3(state, f"{key}.skip_con.0", x))
    return (branch + x).relu()


def up(state: State, key: str, x: Tensor) -> Tensor:
    x = F.conv_transpose3d(x, state[f"{key}.block.0.weight"], state[f"{key}.block.0.bias"], stride=2)
    return norm(state, f"{key}.block.1", x).relu()


def v2v(state: State, key: str, x: Tensor, levels: int, pooled: int) -> Tensor:
    x = basic(state, f"{key}.front_layers.0", x)
    for n in (1, 2, 3):
        x = res(state, f"{key}.front_layers.{n}", x)
    middle, skips = f"{key}.encoder_decoder", {}
    for n in range(1, levels + 1):
        skips[n] = res(state, f"{middle}.skip_res{n}", x)
        x = F.max_pool3d(x, 2) if n <= pooled else x
        x = res(state, f"{middle}.encoder_res{n}", x)
    x = res(state, f"{middle}.mid_res", x)
    for n in range(levels, 0, -1):
        x = res(state, f"{middle}.decoder_res{n}", x)
        x = up(state, f"{middle}.decoder_upsample{n}", x) if n <= pooled else x
        x = x + skips[n]
    x = res(state, f"{key}.back_layers.0", x)
    x = basic(state, f"{key}.back_layers.2", basic(state, f"{key}.back_layers.1", x))
    return conv3(state, f"{key}.output_layer", x)


def repeat(x: Tensor, height: int, width: int) -> Tensor:
    rows = torch.arange(height) * x.shape[2] // height
    columns = torch.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


def features(state: State, images: Tensor, blocks: tuple[int, ...]) -> Tensor:
    trunk = "feature_net.model.resnet34_32s"

    def conv(key: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{key}.weight"]
        return F.conv2d(x, weight, state.get(f"{key}.bias"), stride, weight.shape[-1] // 2)

    x = norm(state, f"{trunk}.bn1", conv(f"{trunk}.conv1", images, 2)).relu()
    levels = [x]
    x = F.max_pool2d(x, 3, 2, 1)
    for n, count in enumerate(blocks, 1):
        for k in range(count):
            key = f"{trunk}.layer{n}.{k}"
            stride = 2 if n > 1 and k == 0 else 1
            y = norm(state, f"{key}.bn1", conv(f"{key}.conv1", x, stride)).relu()
            y = norm(state, f"{key}.bn2", conv(f"{key}.conv2", y))
            if f"{key}.downsample.0.weight" in state:
                x = norm(state, f"{key}.downsample.1", conv(f"{key}.downsample.0", x, stride))
            x = (x + y).relu()
        levels.append(x)
    out = None
    for n in range(len(levels), 0, -1):
        skip = conv(f"feature_net.model.skip{n}", levels[n - 1])
        out = skip if out is None else skip + repeat(out, *skip.shape[2:])
    assert out is not None
    return repeat(out, *images.shape[2:])


def normalised(points: Tensor, K: Tensor, distortion: Tensor, camera: Tensor, width: int, height: int) -> Tensor:
    """(P, 3) in one view: 2 u / (W - 1) - 1, points behind the camera and all."""
    p = points @ camera[:, :3].T + camera[:, 3]
    z = torch.where(p[:, 2].abs() < 1e-7, 1.0, p[:, 2])
    x, y = p[:, 0] / z, p[:, 1] / z
    r2 = x * x + y * y
    s = 1 + distortion[0] * r2 + distortion[1] * r2 * r2
    pixel = torch.stack([s * x, s * y, torch.ones_like(x)]).T @ K.T
    return 2 * pixel[:, :2] / torch.tensor([width - 1, height - 1], dtype=points.dtype) - 1


def read(maps: Tensor, uv: Tensor) -> Tensor:
    """(C, H, W) at (P, 2): source position x = (u + 1) W / 2 - 0.5, zeros outside. By hand, four corners."""
    _, height, width = maps.shape
    x, y = ((uv[:, 0] + 1) * width - 1) / 2, ((uv[:, 1] + 1) * height - 1) / 2
    left, top = x.floor(), y.floor()
    total = torch.zeros(maps.shape[0], len(uv), dtype=maps.dtype)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = left + dx, top + dy
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            valid = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            total += maps.reshape(maps.shape[0], -1)[:, index] * (weight * valid)
    return total


def displacements(size: int, step: float) -> Tensor:
    axis = [step * (i - size // 2) for i in range(size)]
    return torch.tensor([[x, y, z] for x in axis for y in axis for z in axis], dtype=torch.float64)


def mean_var(maps: Tensor, points: Tensor, views: tuple[Tensor, Tensor, Tensor], size: int) -> Tensor:
    height, width = maps.shape[-2:]
    seen = torch.stack(
        [read(m, normalised(points, *view, width, height)) for m, *view in zip(maps, *views, strict=True)]
    )
    mean = seen.sum(0) / len(seen)
    variance = ((seen - mean) ** 2).sum(0) / (len(seen) - 1)
    return torch.cat([mean, variance]).reshape(1, -1, size, size, size)


def localise(state: State, volume: Tensor, largest: float, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    key = "sparse_point_net.grid_refiner"
    x = volume
    for n in (0, 4):
        x = norm(state, f"{key}.localization.{n + 1}", conv3(state, f"{key}.localization.{n}", x))
        x = F.max_pool3d(x, 2).relu()
    x = x.flatten() @ state[f"{key}.mapping.0.weight"].T + state[f"{key}.mapping.0.bias"]
    o = state[f"{key}.mapping.2.weight"] @ x.relu() + state[f"{key}.mapping.2.bias"]
    a, b = o[3:6], o[6:9]
    first = a / a.norm()
    second = b - first.dot(b) * first
    second = second / second.norm()
    rotation = torch.stack([first, second, torch.linalg.cross(first, second)])
    return largest * 0.5 * (o[:3].tanh() + 1), rotation, reach * o[9:].tanh()


def coarse(
    state: State,
    images: Tensor,
    views: tuple[Tensor, Tensor, Tensor],
    *,
    blocks: tuple[int, ...],
    grid: int,
    step: float,
    centre: tuple[float, ...],
    levels: int,
    largest: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices (N, 3), scale, rotation, translation in mm."""
    maps = features(state, images, blocks)
    middle = torch.tensor(centre, dtype=torch.float64)
    d = displacements(grid, step)
    scale, rotation, shift = localise(state, mean_var(maps, d + middle, views, grid), largest, 0.5 * (grid - 1) * step)
    warped = d @ (torch.diag(scale) @ rotation).T + shift + middle
    logits = v2v(state, "sparse_point_net.global_net", mean_var(maps, warped, views, grid), levels, levels)
    return logits.reshape(logits.shape[1], -1).softmax(-1) @ warped, scale, rotation, shift


def normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    total = torch.zeros_like(vertices)
    for a, b, c in triangles.tolist():
        total[[a, b, c]] += torch.linalg.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
    return total / total.norm(dim=1, keepdim=True)


def refine(
    state: State,
    images: Tensor,
    views: tuple[Tensor, Tensor, Tensor],
    vertices: Tensor,
    visibility: Tensor,
    template: Tensor,
    triangles: Tensor,
    *,
    blocks: tuple[int, ...],
    grid: int,
    step: float,
    levels: int,
) -> Tensor:
    """Refined vertices (N, 3)."""
    maps = features(state, images, blocks)
    height, width = maps.shape[-2:]
    facing, d = normals(vertices, triangles), displacements(grid, step)
    result = []
    for k, vertex in enumerate(vertices):
        points = vertex + d
        weights, seen = [], []
        for m, matrix, bend, camera, sight in zip(maps, *views, visibility, strict=True):
            uv = normalised(points, matrix, bend, camera, width, height)
            ray = points + camera[:, :3].T @ camera[:, 3]
            cosine = -(ray / ray.norm(dim=1, keepdim=True)) @ facing[k]
            weight = torch.sigmoid(100 * sight[k]) * cosine.clamp(min=0) * (uv.abs() <= 1).all(1)
            weights.append(torch.log1p(torch.exp((50 * weight).clamp(max=60))) / 50)
            weights[-1] = torch.where(50 * weight > 5, weight, weights[-1])
            seen.append(read(m, uv))
        w = torch.stack(weights) / torch.stack(weights).sum(0)
        f = torch.stack(seen)
        mean = (w[:, None] * f).sum(0)
        variance = (w[:, None] * f * f).sum(0) - mean**2
        where = (template[k] * 0.01)[:, None].expand(-1, len(d))
        volume = torch.cat([mean, variance, where]).reshape(1, -1, grid, grid, grid)
        logits = v2v(state, "local_densify_net.local_net", volume, levels, levels - 1)
        result.append(vertex + logits.flatten().softmax(0) @ d)
    return torch.stack(result)
