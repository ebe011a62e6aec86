"""Open Sound Control 1.0, and the Virtual Motion Capture protocol on it: weights and pose. No socket, no clock.

An own encoder: what is sent is two kinds of message, some fifty for each mesh (benchmarks/gateway.py --osc measures it
beside python-osc, which reads it back in the tests). Layout: opensoundcontrol.stanford.edu; addresses of VMC:
protocol.vmc.info (English page).
"""

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamer.geometry import AXES, quaternion
from streamer.types import F32

IMMEDIATELY = b"#bundle\0\0\0\0\0\0\0\0\x01"
LARGEST = 1400
"""Bytes of a bundle: an Ethernet packet, so that none is torn on the way."""


def message(address: str, *values: float | int | str) -> bytes:
    """Return a message; floats are sent as float32, whole numbers as int32."""
    tags, parts = ",", []
    for value in values:
        if isinstance(value, str):
            tags += "s"
            parts.append(_text(value))
        else:
            whole = isinstance(value, int)
            tags += "i" if whole else "f"
            parts.append(struct.pack(">i" if whole else ">f", value))
    return b"".join((_text(address), _text(tags), *parts))


@lru_cache(maxsize=1024)
def _text(value: str) -> bytes:
    data = value.encode()
    return data + bytes(4 - len(data) % 4)


def bundles(messages: list[bytes]) -> Iterator[bytes]:
    """Yield the messages in as few bundles as fit into packets, in order."""
    parts, size = [IMMEDIATELY], len(IMMEDIATELY)
    for one in messages:
        if size + 4 + len(one) > LARGEST and len(parts) > 1:
            yield b"".join(parts)
            parts, size = [IMMEDIATELY], len(IMMEDIATELY)
        parts += [len(one).to_bytes(4, "big"), one]
        size += 4 + len(one)
    if len(parts) > 1:
        yield b"".join(parts)


def turn(rotation: NDArray[np.floating]) -> tuple[float, float, float, float]:
    """Return x, y, z, w of a (3, 3) rotation, in the order of OSC trackers; w is not negative."""
    w, x, y, z = quaternion(rotation).tolist()
    return x, y, z, w


def plain(subject: str, weights: Mapping[str, float], world_from_head: F32, capture_time_s: float) -> list[bytes]:
    """Return what `[serve.osc]` sends: `/<subject>/<unit>` f, and the head's pose in Mien's axes.

    Args:
        subject: first part of every address.
        weights: by name, 0 to 1.
        world_from_head: (4, 4) pose, metres.
        capture_time_s: exposure on the rig's clock; sent as whole seconds of a day and the rest: float32 is too short.
    """
    position = (float(value) for value in world_from_head[:3, 3])
    day_s = capture_time_s % 86400
    return [
        message(f"/{subject}/time", int(day_s), float(day_s % 1)),
        message(f"/{subject}/head/position", *position),
        message(f"/{subject}/head/rotation", *turn(world_from_head[:3, :3])),
        *(message(f"/{subject}/{name}", float(value)) for name, value in weights.items()),
    ]


def vmc(subject: str, weights: Mapping[str, float], world_from_head: F32, capture_time_s: float) -> list[bytes]:
    """Return what `[serve.vmc]` sends: blend shapes with capital first letters (as "perfect sync" avatars name them).

    The head bone turns and does not move; the pose in full is that of a tracker. Unity's axes, metres.

    Args:
        subject: serial of the tracker.
        weights: by name, 0 to 1.
        world_from_head: (4, 4) pose, metres.
        capture_time_s: exposure on the rig's clock.
    """
    mirror = AXES["unity"].matrix
    turned = turn(mirror @ world_from_head[:3, :3] @ mirror.T)
    position = (float(value) for value in mirror @ world_from_head[:3, 3])
    blends = (
        message("/VMC/Ext/Blend/Val", name[:1].upper() + name[1:], float(value)) for name, value in weights.items()
    )
    return [
        message("/VMC/Ext/OK", 1),
        message("/VMC/Ext/T", float(capture_time_s % 86400)),
        message("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.0, 0.0, *turned),
        message("/VMC/Ext/Tra/Pos", subject, *position, *turned),
        *blends,
        *([message("/VMC/Ext/Blend/Apply")] if weights else []),
    ]
