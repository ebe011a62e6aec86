"""The 3D nets of both stages: a residual encoder and decoder on volumes (V2V, Moon et al., CVPR 2018)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from inference.tempeh.blocks import cbr3


class Residual3(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut, which is a 1x1x1 convolution where the channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """All convolutions have a bias, as published."""
        super().__init__()
        self.first = cbr3(inputs, outputs, bias=True)
        self.second = nn.Sequential(nn.Conv3d(outputs, outputs, 3, 1, 1), nn.BatchNorm3d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, D, D) to (B, outputs, D, D, D)."""
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


def up3(inputs: int, outputs: int) -> nn.Sequential:
    """Double the resolution: transposed convolution, batch norm, ReLU."""
    conv = nn.ConvTranspose3d(inputs, outputs, 2, 2)
    return nn.Sequential(conv, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


class EncoderDecoder(nn.Module):
    """Residual blocks down `pooled` halvings and up again, with summed skips.

    Levels beyond `pooled` keep the resolution (the refinement's last one).
    """

    def __init__(self, width: int, levels: Sequence[int], pooled: int) -> None:
        """Use `levels[n]` channels after level n."""
        super().__init__()
        finer = (width, *levels[:-1])
        self.pooled = pooled
        self.skip = nn.ModuleList(Residual3(c, c) for c in finer)
        self.down = nn.ModuleList(Residual3(a, b) for a, b in zip(finer, levels, strict=True))
        self.middle = Residual3(levels[-1], levels[-1])
        self.decode = nn.ModuleList(Residual3(c, c) for c in levels)
        self.up = nn.ModuleList(up3(levels[n], finer[n]) for n in range(pooled))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, D, D, D) to the same."""
        skips = []
        for n, (skip, down) in enumerate(zip(self.skip, self.down, strict=True)):
            skips.append(skip(x))
            x = down(functional.max_pool3d(x, 2) if n < self.pooled else x)
        x = self.middle(x)
        for n in range(len(self.decode) - 1, -1, -1):
            x = self.decode[n](x)
            x = (self.up[n](x) if n < self.pooled else x) + skips[n]
        return x


class V2V(nn.Module):
    """(B, inputs, D, D, D) to keys (B, back[-1], D, D, D); `output` makes logits of them."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        front: int,
        width: int,
        levels: Sequence[int],
        pooled: int,
        back: Sequence[int],
    ) -> None:
        """Make the net; weights drawn Xavier-normal, biases zero, as published."""
        super().__init__()
        self.front = nn.Sequential(
            cbr3(inputs, front, 7, bias=True), Residual3(front, width), Residual3(width, width), Residual3(width, width)
        )
        self.middle = EncoderDecoder(width, levels, pooled)
        widths = (width, *back)
        self.back = nn.Sequential(
            Residual3(width, width), *(cbr3(a, b, 1, bias=True) for a, b in zip(widths, back, strict=False))
        )
        self.output = nn.Conv3d(widths[-1], outputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, volume: Tensor) -> Tensor:
        """Run the net without its output layer."""
        keys: Tensor = self.back(self.middle(self.front(volume)))
        return keys
