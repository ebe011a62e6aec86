"""Networks without training: seeded ones of any size for tests, benchmarks and parity checks, and blank ones."""

import torch
from torch import nn

from inference.tempeh.published.coarse import CoarseStage
from inference.tempeh.published.refine import RefineStage
from inference.tempeh.published.sizes import PublishedSizes
from streamer.types import F32, I32


def initial_coarse(sizes: PublishedSizes, *, seed: int, quirks: bool) -> CoarseStage:
    """A coarse stage with the published initial weights; a function of sizes and seed alone. In training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CoarseStage(sizes, quirks=quirks)


def initial_refine(sizes: PublishedSizes, template_mm: F32, triangles: I32, *, seed: int, quirks: bool) -> RefineStage:
    """A refinement stage with the published initial weights; a function of its arguments alone. In training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RefineStage(sizes, template_mm, triangles, quirks=quirks)


def blank_coarse(sizes: PublishedSizes, *, quirks: bool) -> CoarseStage:
    """A coarse stage whose weights have shapes and no memory: `load_state_dict(..., assign=True)` gives it some."""
    with torch.device("meta"):
        return CoarseStage(sizes, quirks=quirks)


def blank_refine(sizes: PublishedSizes, template_mm: F32, triangles: I32, *, quirks: bool) -> RefineStage:
    """A refinement stage whose weights have shapes and no memory."""
    with torch.device("meta"):
        return RefineStage(sizes, template_mm, triangles, quirks=quirks)


def stir(stage: CoarseStage | RefineStage, *, seed: int, peak: float = 1.0) -> None:
    """Make an untrained stage hard to get right, in place, and put it into evaluation mode.

    With initial weights the batch norms are identities, the localiser a constant, and the heat maps so flat that most
    errors vanish in the mean. So running statistics and biases become random, the localiser depends on its input, and
    the output layer is multiplied.

    Args:
        stage: a coarse or a refinement stage.
        seed: of all that is drawn.
        peak: factor on the output layer's weights; with 1 heat maps are nearly flat, with 100 a voxel or two decide.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor, deviation: float) -> torch.Tensor:
        return deviation * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for module in stage.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.running_mean = normal(module.weight, 0.1)
                module.running_var = 0.5 + torch.rand(module.weight.shape, generator=generator)
                module.weight.add_(normal(module.weight, 0.1))
                module.bias.add_(normal(module.bias, 0.1))
            elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d) and module.bias is not None:
                module.bias.add_(normal(module.bias, 0.05))
        if isinstance(stage, CoarseStage):
            for module in stage.localiser.convs:
                if isinstance(module, nn.Conv3d):
                    module.weight.mul_(30.0)
            for name, weight in stage.localiser.mapping.named_parameters():
                if name == "2.weight":
                    weight.copy_(normal(weight, 0.05))
        stage.net.output.weight.mul_(peak)
    stage.eval()
