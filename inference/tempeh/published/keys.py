"""Names of the official state dicts: which key of a checkpoint is which weight here."""

import re

import numpy as np
import torch

from inference.tempeh.published.coarse import CoarseStage
from inference.tempeh.published.refine import RefineStage
from inference.tempeh.published.sizes import PublishedSizes
from inference.tempeh.published.weights import blank_coarse, blank_refine

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Key to shape and type."""

TRUNK = "feature_net.model.resnet34_32s"
VOLUME_NETS = {"coarse": "sparse_point_net.global_net", "refine": "local_densify_net.local_net"}
LOCALISER = "sparse_point_net.grid_refiner"

RULES: tuple[tuple[str, str], ...] = (
    (r"features\.stem\.0\.(\w+)", rf"{TRUNK}.conv1.\1"),
    (r"features\.stem\.1\.(\w+)", rf"{TRUNK}.bn1.\1"),
    (r"features\.levels\.(\d+)\.(\d+)\.first\.0\.(\w+)", rf"{TRUNK}.layer{{\1+1}}.\2.conv1.\3"),
    (r"features\.levels\.(\d+)\.(\d+)\.first\.1\.(\w+)", rf"{TRUNK}.layer{{\1+1}}.\2.bn1.\3"),
    (r"features\.levels\.(\d+)\.(\d+)\.second\.0\.(\w+)", rf"{TRUNK}.layer{{\1+1}}.\2.conv2.\3"),
    (r"features\.levels\.(\d+)\.(\d+)\.second\.1\.(\w+)", rf"{TRUNK}.layer{{\1+1}}.\2.bn2.\3"),
    (r"features\.levels\.(\d+)\.(\d+)\.shortcut\.(\d)\.(\w+)", rf"{TRUNK}.layer{{\1+1}}.\2.downsample.\3.\4"),
    (r"features\.laterals\.(\d+)\.(\w+)", r"feature_net.model.skip{\1+1}.\2"),
    (r"localiser\.convs\.(.+)", rf"{LOCALISER}.localization.\1"),
    (r"localiser\.mapping\.(.+)", rf"{LOCALISER}.mapping.\1"),
    (r"net\.output\.(\w+)", r"NET.output_layer.\1"),
    (r"net\.front\.0\.(.+)", r"NET.front_layers.0.block.\1"),
    (r"net\.front\.(\d+)\.(.+)", r"NET.front_layers.\1.RESIDUAL.\2"),
    (r"net\.back\.0\.(.+)", r"NET.back_layers.0.RESIDUAL.\1"),
    (r"net\.back\.(\d+)\.(.+)", r"NET.back_layers.\1.block.\2"),
    (r"net\.middle\.skip\.(\d+)\.(.+)", r"NET.encoder_decoder.skip_res{\1+1}.RESIDUAL.\2"),
    (r"net\.middle\.down\.(\d+)\.(.+)", r"NET.encoder_decoder.encoder_res{\1+1}.RESIDUAL.\2"),
    (r"net\.middle\.decode\.(\d+)\.(.+)", r"NET.encoder_decoder.decoder_res{\1+1}.RESIDUAL.\2"),
    (r"net\.middle\.up\.(\d+)\.(.+)", r"NET.encoder_decoder.decoder_upsample{\1+1}.block.\2"),
    (r"net\.middle\.middle\.(.+)", r"NET.encoder_decoder.mid_res.RESIDUAL.\1"),
)
"""Our names to official ones; `{n+1}` counts from one, NET is the 3D net of the stage."""

RESIDUAL: tuple[tuple[str, str], ...] = (
    ("RESIDUAL.first.0", "res_branch.0"),
    ("RESIDUAL.first.1", "res_branch.1"),
    ("RESIDUAL.second.0", "res_branch.3"),
    ("RESIDUAL.second.1", "res_branch.4"),
    ("RESIDUAL.shortcut", "skip_con"),
)
"""Inside a 3D residual block."""


def official_name(name: str, stage: str) -> str:
    """The official key of one of our weights.

    Args:
        name: key of our state dict.
        stage: `coarse` or `refine`.

    Raises:
        KeyError: no rule for it.
    """
    for pattern, official in RULES:
        if match := re.fullmatch(pattern, name):
            text = match.expand(official.replace("{", "<").replace("}", ">"))
            text = re.sub(r"<(\d+)\+1>", lambda count: str(int(count[1]) + 1), text)
            for ours, theirs in RESIDUAL:
                text = text.replace(ours, theirs)
            return text.replace("NET", VOLUME_NETS[stage])
    raise KeyError(name)


def our_names(sizes: PublishedSizes, stage: str) -> dict[str, str]:
    """Every key that an official checkpoint of this size must have, with our name for it."""
    return {official_name(name, stage): name for name in _blank_state(sizes, stage)}


def official_shapes(sizes: PublishedSizes, stage: str) -> Shapes:
    """Every key that an official checkpoint of this size must have, with shape and type."""
    state = _blank_state(sizes, stage)
    return {official_name(name, stage): (tuple(value.shape), value.dtype) for name, value in state.items()}


def _blank_state(sizes: PublishedSizes, stage: str) -> dict[str, torch.Tensor]:
    blank: CoarseStage | RefineStage
    if stage == "coarse":
        blank = blank_coarse(sizes, quirks=True)
    else:
        template, triangles = np.zeros((sizes.vertices, 3), np.float32), np.zeros((1, 3), np.int32)
        blank = blank_refine(sizes, template, triangles, quirks=True)
    return dict(blank.state_dict())
