"""The network of the close-ups: patches of all views in, how far the vertices there are off out."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.tempeh.blocks import cbr2
from inference.tempeh.close_ups import VIEW_FIGURES

WIDTHS = (16, 32, 48, 64)
"""Channels of the convolutions; all but the first halve the picture."""
SIGHT = 128
"""Numbers that a view contributes."""
SHAPES, MOVES = 24, 40
"""Components of the present shape that are looked at, and of the movement that is said."""


class CloseUpNet(nn.Module):
    """Reads one kind of patch.

    Args:
        size: width and height of the patches, px.
        vertices: number R of vertices that are moved.
    """

    shape_mean: Tensor
    """(3 R,) mm."""
    move_mean: Tensor
    """(3 R,) mm."""

    def __init__(self, size: tuple[int, int], vertices: int) -> None:
        """Make the layers; the components wait for `begin_with`."""
        super().__init__()
        channels = (3, *WIDTHS)
        self.look = nn.Sequential(
            *(cbr2(channels[k], channels[k + 1], stride=1 if k == 0 else 2) for k in range(len(WIDTHS)))
        )
        width, height = size
        for _ in WIDTHS[1:]:
            width, height = (width + 1) // 2, (height + 1) // 2
        self.sum_up = nn.Sequential(nn.Linear(WIDTHS[-1] * width * height, SIGHT), nn.ReLU(inplace=True))
        self.judge = nn.Linear(SIGHT + VIEW_FIGURES, 1 + SIGHT)
        self.shape = nn.Linear(3 * vertices, SHAPES, bias=False)
        self.decide = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(SIGHT + SHAPES, SIGHT), nn.ReLU(inplace=True), nn.Linear(SIGHT, MOVES)
        )
        self.move = nn.Linear(MOVES, 3 * vertices, bias=False)
        self.register_buffer("shape_mean", torch.zeros(3 * vertices))
        self.register_buffer("move_mean", torch.zeros(3 * vertices))

    def begin_with(self, shape_mean: Tensor, shape: Tensor, move_mean: Tensor, move: Tensor) -> None:
        """Begin with linear components: `shape` (SHAPES, 3 R) that read, `move` (3 R, MOVES) that write, mm per sd."""
        with torch.no_grad():
            self.shape_mean.copy_(shape_mean)
            self.move_mean.copy_(move_mean)
            self.shape.weight.copy_(shape)
            self.move.weight.copy_(move)

    def forward(self, patches: Tensor, seen: Tensor, present: Tensor, near: Tensor) -> Tensor:
        """Say how far vertices are off.

        Args:
            patches: (B, V, 3, h, w) standardised.
            seen: (B, V, VIEW_FIGURES).
            present: (B, V) or (V,) 1 where there is a picture.
            near: (B, R, 3) mm, the vertices as they are, in the patch's frame.

        Returns:
            (B, R, 3) mm in the patch's frame.
        """
        batch, views = seen.shape[:2]
        sights = self.sum_up(self.look(patches.flatten(0, 1)).flatten(1))
        judged = self.judge(torch.cat([sights, seen.flatten(0, 1)], 1)).view(batch, views, 1 + SIGHT)
        # a view that is missing gets e^-20 of the weight of one that is there: a view alone still sums to one
        share = torch.softmax(judged[..., 0] - 20.0 * (1.0 - present), 1)
        sight = (share[..., None] * functional.relu(judged[..., 1:])).sum(1)
        shape = self.shape(near.flatten(1) - self.shape_mean)
        moved: Tensor = self.move(self.decide(torch.cat([sight, shape], 1))) + self.move_mean
        return moved.view_as(near)
