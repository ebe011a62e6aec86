"""What a client may ask for: axes, unit and winding of its program, normals, quantised numbers. No socket, no clock.

A client that asks for nothing gets Mien's own space. What is in effect stands in the hello that answers a request.
"""

import json
from dataclasses import dataclass, fields, replace
from typing import Any

from streamer.errors import WireError
from streamer.geometry import AXES, Axes, axis_names, signed_axes

UNITS = {"m": 1.0, "cm": 100.0, "mm": 1000.0}
"""Names of units, and how many of them make a metre."""
TARGETS = {
    "mien": "mien",
    "web": "gltf",
    "gltf": "gltf",
    "godot": "godot",
    "blender": "blender",
    "unity": "unity",
    "unreal": "unreal",
}
"""Programs that a client may name, and their row in `streamer.geometry.AXES`."""
MAX_REQUEST = 1 << 14
"""Bytes of a request; a client that says more is let go."""


@dataclass(frozen=True, slots=True)
class Variant:
    """In which form a client gets its records."""

    target: str = "mien"
    """Program whose conventions these are, or `own`."""
    axes: tuple[str, str, str] = ("x", "y", "z")
    """Which axis of Mien (x left of the person, y up, z out of the face) each coordinate is."""
    unit: str = "m"
    """`m`, `cm` or `mm`."""
    clockwise: bool = False
    """Whether the indices of a triangle go clockwise, seen from outside the head."""
    mesh: bool = True
    """Whether frames hold positions; without them they are records of weights."""
    normals: bool = False
    """Whether frames hold a normal per vertex."""
    quantised: bool = False
    """Whether positions come as 16 bits in the box of the frame, and normals as 8 bits."""
    split: bool = False
    """Whether vertices are repeated at the seams of the texture, so that each has one pair of texture coordinates."""

    @property
    def space(self) -> Axes:
        """Axes, unit and winding as numbers."""
        return signed_axes(self.axes, UNITS[self.unit], reverse_winding=self.clockwise)

    def about(self) -> dict[str, Any]:
        """Return what a hello says of it."""
        winding = "clockwise" if self.clockwise else "counter-clockwise"
        return {
            "target": self.target,
            "axes": list(self.axes),
            "unit": self.unit,
            "winding": winding,
            "mesh": self.mesh,
            "normals": self.normals,
            "quantised": self.quantised,
            "split": self.split,
        }


PLAIN = Variant()
"""What a client gets that asks for nothing."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client said."""

    variant: Variant
    """The form it wants."""
    token: str = ""
    """The secret that `serve.token` of the gateway asks for."""


def for_target(name: str) -> Variant:
    """Return the variant in the conventions of a program.

    Raises:
        WireError: no such program.
    """
    if name not in TARGETS:
        raise WireError(f"target {name!r} is unknown; one of: {', '.join(TARGETS)}; or give axes, unit and winding")
    space = AXES[TARGETS[name]]
    axes, per_metre = axis_names(space)
    unit = next(unit for unit, count in UNITS.items() if count == per_metre)
    return Variant(name, axes, unit, space.reverse_winding)


def parse_request(payload: bytes | memoryview) -> Request:
    """Read the payload of a request.

    Keys: `target`; `axes`, `unit`, `winding` in place of the target's; `mesh`, `normals`, `quantised`, `split`;
    `token`. Other keys are a later version's and ignored: the hello that follows says what is in effect.

    Raises:
        WireError: no JSON object, or a value that is not allowed.
    """
    try:
        asked = json.loads(str(payload, "utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WireError(f"the request is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise WireError(f"the request is no JSON object: {asked!r:.40}")
    variant = for_target(_text(asked, "target", "mien"))
    own: dict[str, Any] = {name: _truth(asked, name, getattr(variant, name)) for name in _TRUTHS}
    if "axes" in asked:
        own["axes"] = _axes(asked["axes"])
    if "unit" in asked:
        own["unit"] = _one_of(asked, "unit", tuple(UNITS))
    if "winding" in asked:
        own["clockwise"] = _one_of(asked, "winding", ("counter-clockwise", "clockwise")) == "clockwise"
    changed = replace(variant, **own)
    if (changed.axes, changed.unit, changed.clockwise) != (variant.axes, variant.unit, variant.clockwise):
        changed = replace(changed, target="own")
    return Request(changed, _text(asked, "token", ""))


_TRUTHS = tuple(field.name for field in fields(Variant) if field.name in ("mesh", "normals", "quantised", "split"))


def _text(asked: dict[str, Any], key: str, default: str) -> str:
    value = asked.get(key, default)
    if not isinstance(value, str):
        raise WireError(f"{key} = {value!r:.40} in the request is no text")
    return value


def _truth(asked: dict[str, Any], key: str, default: bool) -> bool:
    value = asked.get(key, default)
    if not isinstance(value, bool):
        raise WireError(f"{key} = {value!r:.40} in the request is neither true nor false")
    return value


def _one_of(asked: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = asked[key]
    if value not in allowed:
        raise WireError(f"{key} = {value!r:.40} in the request is not allowed; one of: {', '.join(allowed)}")
    return str(value)


def _axes(value: Any) -> tuple[str, str, str]:
    names: tuple[Any, ...] = tuple(value) if isinstance(value, list) else ()
    if sorted(name.removeprefix("-") for name in names if isinstance(name, str)) != ["x", "y", "z"] or len(names) != 3:
        raise WireError(f"axes = {value!r:.60} in the request: expected three of x, y, z with or without -, once each")
    first, second, third = names
    return first, second, third
