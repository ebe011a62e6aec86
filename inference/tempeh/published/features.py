"""The 2D feature net of both stages: a ResNet-34 trunk and a top-down sum of its levels (He et al., CVPR 2016)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from inference.tempeh.blocks import cbr2
from inference.tempeh.published.sizes import PublishedSizes


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where size or channels change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Halve the resolution if `stride` is 2."""
        super().__init__()
        self.first = cbr2(inputs, outputs, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


def level(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """One level of the trunk."""
    rest = [Residual(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Residual(inputs, outputs, stride), *rest)


def nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, h, w) to `size` by index floor(i h / H)."""
    return functional.interpolate(x, size=tuple(size), mode="nearest")


class PublishedFeatures(nn.Module):
    """(B, 3, H, W) normalised pictures to (B, descriptor, H, W).

    The result is computed at half the resolution and repeated: constant on blocks of 2 x 2 pixels.
    """

    def __init__(self, sizes: PublishedSizes) -> None:
        """Make the trunk and one 1x1 convolution per level."""
        super().__init__()
        widths = sizes.trunk_channels
        inputs = (widths[0], *widths[:-1])
        self.stem = cbr2(3, widths[0], 7, stride=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.levels = nn.ModuleList(
            level(i, o, blocks, 1 if n == 0 else 2)
            for n, (i, o, blocks) in enumerate(zip(inputs, widths, sizes.trunk_blocks, strict=True))
        )
        self.laterals = nn.ModuleList(nn.Conv2d(c, sizes.descriptor, 1) for c in (widths[0], *widths))

    def forward(self, pictures: Tensor) -> Tensor:
        """Run the net."""
        return nearest(self.compact(pictures), pictures.shape[-2:])

    def compact(self, pictures: Tensor) -> Tensor:
        """(B, descriptor, ceil(H / 2), ceil(W / 2)): all that the net says, before it is repeated."""
        x = self.stem(pictures)
        lateral = [self.laterals[0](x)]
        x = self.pool(x)
        for stage, project in zip(self.levels, self.laterals[1:], strict=True):
            x = stage(x)
            lateral.append(project(x))
        out: Tensor = lateral.pop()
        while lateral:
            finer = lateral.pop()
            out = finer + nearest(out, finer.shape[-2:])
        return out
