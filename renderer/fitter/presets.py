"""What a fit is made of: the field's size, its schedule, its losses; and the presets that a job names.

Published values are NeRSemble's (300,000 steps on one 48 GB GPU); the presets for CPUs keep the proportions of its
schedule and shrink the rest. Steps in schedules are fractions of the whole, so that a shorter fit opens up sooner.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from renderer.fitter.grids import GridShape
from streamer.errors import ConfigError

EncoderName = Literal["auto", "torch", "numba"]
"""A way to read tables, see `renderer.fitter.encoders.base`; `auto`: the fastest of the device."""


@dataclass(frozen=True)
class FieldShape:
    """Sizes of the networks."""

    grid: GridShape = field(default_factory=lambda: GridShape(8, 2, 15, 8, 256))
    """Levels of every table."""
    tables: int = 4
    """Hash tables of the ensemble; 1: none."""
    deform_layers: int = 3
    """Layers of the deformation network; 0: no deformation."""
    deform_width: int = 48
    """Their width."""
    deform_bands: int = 5
    """Frequencies of its positional encoding."""
    deform_code: int = 16
    """Length of its code per time step."""
    hidden: int = 48
    """Width of the density and colour networks."""
    colour_layers: int = 1
    """Hidden layers of the colour network."""
    background: bool = True
    """A network of the ray paints what lies behind the box; without it the background is white."""


@dataclass(frozen=True)
class Schedule:
    """When what opens, in fractions of all steps, and how fast things are learned."""

    deform_opens: tuple[float, float] = (0.0, 1 / 15)
    """From when to when the deformation's frequencies open."""
    ensemble_opens: tuple[float, float] = (2 / 15, 4 / 15)
    """From when to when the tables after the first fade in."""
    decay_every: float = 1 / 15
    """Learning rates decay once in this."""
    rate_fields: float = 5e-3
    """Learning rate of tables and of the density and colour networks."""
    rate_deform: float = 1e-3
    """Learning rate of the deformation network, and of camera colours."""
    deform_warms: float = 0.1
    """Until this part of the fit the deformation learns slower, from `SLOW` of its rate on: else it bends what is
    still a fog, which then never clears (published: at once)."""
    rate_behind: float = 5e-3
    """Learning rate of what lies behind the box."""
    shrink_behind: float = 0.3
    """Its weights shrink by this times the rate at each step (decoupled weight decay, Loshchilov and Hutter, ICLR
    2019): what lies between cameras stays smooth however long the fit."""
    rate_codes: float = 5e-3
    """Learning rate of the codes per time step."""
    decay_fields: float = 0.8
    """Decay of tables, networks and codes."""
    decay_deform: float = 0.8
    """Decay of the deformation network (published: 0.5)."""
    strides: tuple[float, float] = (4.0, 0.2)
    """At the start samples are this many times as far apart, shrinking to once at this part of the fit: a coarse field
    needs no fine steps, and a full box makes them dear (published: 1)."""
    rays_end: float = 0.3
    """From this part of the fit on rays end behind the meshes' skin, so that a step has more of them; before, a head is
    still a fog that shows what lies behind it."""
    depth_closes: float = 1 / 30
    """When the tolerance of the depth losses has closed."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses, NeRSemble's by default; colour has weight 1."""

    mask: float = 1e-2
    """|accumulation - alpha| where the alpha is known."""
    empty: float = 1e-2
    """Squared weight of samples well before the known depth."""
    near: float = 1e-4
    """Accumulated weight around the known depth against a normal's."""
    depth: float = 1e-4
    """Squared difference of expected and known depth."""
    air: float = 1e-3
    """Mean opacity of all samples: what no picture asks for goes away (not in NeRSemble, whose masks do this)."""
    grades: float = 1e-2
    """Squared departure of learned camera colours from the mean's (not in NeRSemble, which calibrates before)."""
    distortion: float = 1e-4
    """Spread of the weights along a ray (Barron et al., CVPR 2022, eq. 15)."""


@dataclass(frozen=True)
class PriorParts:
    """What a fit takes from the take's meshes; each can be left out, to see what it is worth."""

    pose: bool = True
    """The canonical head follows the head's rigid motion; without it there is no motion from the meshes at all."""
    skin: bool = True
    """Near the skin points move as the skin does: expressions too."""
    density: bool = True
    """Where the canonical head is solid and where the air before it is clear."""
    mask: bool = True
    """Pixels on the head are not empty."""
    depth: bool = True
    """Distances along rays: the depth losses, and that rays end behind the skin."""


@dataclass(frozen=True)
class Preset:
    """One recipe."""

    name: str
    """As jobs name it."""
    steps: int
    """Steps of the optimiser."""
    rays: int
    """Most rays of a step."""
    time_steps: int = 2
    """Instants that the rays of one step come from; the tables are blended once for each."""
    step_mm: float = 5.0
    """Distance of samples on a ray."""
    samples: int = 1 << 15
    """Samples of one step that are aimed at: while the box is full, a step has fewer rays."""
    occupancy: int = 48
    """Cells along an edge of the occupancy grid."""
    picture_width: int = 0
    """Pictures are reduced to at most this width; 0: as recorded."""
    memory_gb: float = 2.0
    """Memory of the device that it needs."""
    shape: FieldShape = field(default_factory=FieldShape)
    """Sizes of the networks."""
    schedule: Schedule = field(default_factory=Schedule)
    """When what opens."""
    losses: LossWeights = field(default_factory=LossWeights)
    """Weights of the losses."""
    prior: bool = True
    """Use the take's meshes."""
    prior_parts: PriorParts = field(default_factory=PriorParts)
    """What of them."""
    camera_colours: bool = False
    """Learn an affine map of colours for each camera: for rigs that were not balanced against each other."""
    published: bool = False
    """Keep the errors of the published code, for comparison (docs/fitter.md lists them)."""
    encoder: EncoderName = "auto"
    """Lookup: `auto`, `torch`, `numba`."""
    seed: int = 1
    """Of every random number."""


_FULL = FieldShape(GridShape(16, 2, 19, 16, 4096), 32, 6, 128, 7, 128, 64, 2)
PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "ci", 250, 512, 2, 10.0, 1 << 13, occupancy=24, picture_width=64, memory_gb=0.5,
            schedule=Schedule(decay_every=0.2, rate_fields=3e-2),
            shape=FieldShape(GridShape(6, 2, 13, 6, 64), 2, 2, 32, 4, 8, 32, 1),
        ),
        Preset(
            "preview", 12_000, 4096, 2, 5.0, 1 << 13,
            schedule=Schedule(rate_fields=2e-2),
            shape=FieldShape(GridShape(8, 2, 14, 8, 256)),
        ),
        Preset(
            "gpu-24", 300_000, 4096, 4, 1.2, 1 << 19, 128, memory_gb=22.0,
            shape=dataclasses.replace(_FULL, tables=8),
        ),
        Preset("gpu-48", 300_000, 4096, 4, 1.2, 1 << 20, 128, memory_gb=44.0, shape=_FULL),
    )
}  # fmt: skip


def preset_of(name: str, overrides: Mapping[str, Any] | None = None) -> Preset:
    """Return a preset, some values replaced.

    Args:
        name: one of `PRESETS`.
        overrides: dotted names to values, e.g. `{"steps": 100, "shape.tables": 1, "shape.grid.levels": 4}`.

    Raises:
        ConfigError: no such preset, no such value, or a value of another type.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset '{name}'; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    for key, value in (overrides or {}).items():
        preset = _with(preset, key, key.split("."), value)
    return preset


MAY_BE_ZERO = ("deform_layers", "colour_layers", "picture_width", "seed")
"""Whole numbers that mean something when they are none."""
MORE_THAN_ZERO = ("step_mm", "decay_every")
"""Others that are divided by."""


def _check(key: str, value: object) -> None:
    """Refuse numbers that no fit can be made with.

    Raises:
        ConfigError: negative, not finite, or zero where that means nothing; no such encoder.
    """
    name = key.rpartition(".")[2]
    if name == "encoder" and value not in get_args(EncoderName):
        raise ConfigError(f"encoder is {value!r}; choose one of {', '.join(get_args(EncoderName))}")
    for number in value if isinstance(value, list | tuple) else [value]:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        least = 1 if isinstance(number, int) and name not in MAY_BE_ZERO and not isinstance(value, list | tuple) else 0
        if not (math.isfinite(number) and number >= least) or (name in MORE_THAN_ZERO and not number):
            raise ConfigError(f"'{key}' is {value!r}; expected {'1 or more' if least else 'a number from 0'}")


def beyond(gpu_gb: float) -> tuple[str, ...]:
    """Return the presets that a worker has too little memory for; GB of its GPU, 0 without one."""
    return tuple(name for name, preset in PRESETS.items() if name.startswith("gpu") and preset.memory_gb > gpu_gb)


def preset_for_memory(gpu_gb: float) -> str:
    """Return the largest preset for a worker: `preview` without a GPU, else by the GPU's memory in GB."""
    fitting = [name for name in PRESETS if name.startswith("gpu") and name not in beyond(gpu_gb)]
    return max(fitting, key=lambda name: PRESETS[name].memory_gb, default="preview")


def _with(node: Any, key: str, path: list[str], value: Any) -> Any:
    names = [one.name for one in dataclasses.fields(node)]
    if path[0] not in names:
        raise ConfigError(f"a fit has no value '{key}'; there are {', '.join(names)}")
    old = getattr(node, path[0])
    if len(path) > 1 and dataclasses.is_dataclass(old):
        return dataclasses.replace(node, **{path[0]: _with(old, key, path[1:], value)})
    if dataclasses.is_dataclass(old) or len(path) > 1:
        raise ConfigError(f"'{key}' does not name one value of a fit")
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(old) or (isinstance(old, tuple) and len(value) != len(old)):
        raise ConfigError(f"'{key}' is {value!r}; expected something like {old!r}")
    _check(key, value)
    return dataclasses.replace(node, **{path[0]: value})
