"""Convolution blocks shared by the networks: convolution, batch norm, ReLU, in two and three dimensions."""

from torch import Tensor, nn


def cbr2(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """2D convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def cbr3(inputs: int, outputs: int, kernel: int = 3, bias: bool = False) -> nn.Sequential:
    """3D convolution, batch norm, ReLU."""
    conv = nn.Conv3d(inputs, outputs, kernel, 1, kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


class Residual2(nn.Module):
    """Two 3x3 convolutions beside an identity (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        """Keep the number of channels."""
        super().__init__()
        self.first = cbr2(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        out: Tensor = self.act(x + self.second(self.first(x)))
        return out


class UNet3(nn.Module):
    """A three-level 3D U-Net with additive skips: (B, inputs, D, D, D) to (B, outputs, D, D, D), D divisible by 4."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        """Use `width`, 2 `width` and 4 `width` channels on the three levels."""
        super().__init__()
        self.enter = nn.Sequential(cbr3(inputs, width), cbr3(width, width))
        self.middle = nn.Sequential(cbr3(width, 2 * width), cbr3(2 * width, 2 * width))
        self.bottom = nn.Sequential(cbr3(2 * width, 4 * width), cbr3(4 * width, 4 * width))
        self.lift_bottom = nn.Conv3d(4 * width, 2 * width, 1)
        self.join = cbr3(2 * width, 2 * width)
        self.lift_middle = nn.Conv3d(2 * width, width, 1)
        self.leave = nn.Sequential(nn.ReLU(inplace=True), cbr3(width, width), nn.Conv3d(width, outputs, 1))
        self.pool = nn.MaxPool3d(2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        fine = self.enter(x)
        middle = self.middle(self.pool(fine))
        bottom = self.bottom(self.pool(middle))
        middle = self.join(middle + self.up(self.lift_bottom(bottom)))
        out: Tensor = self.leave(fine + self.up(self.lift_middle(middle)))
        return out
