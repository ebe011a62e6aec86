"""The packet of Epic's Live Link Face app, version 6: 52 ARKit weights and the turn of the head. No socket, no clock.

Layout as read by Unreal's Apple ARKit plugin and by PyLiveLinkFace (MIT), big-endian: u8 6; i32 length and text of the
device's id; i32 length and text of the subject's name; i32 frame, f32 part of a frame, i32 rate, i32 its denominator;
u8 61; 61 f32.
"""

import math
import struct
import uuid
from collections.abc import Mapping, Sequence

import numpy as np

from streamer.geometry import AXES
from streamer.types import F32

_SIDES = ("Left", "Right")
_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
_BOTH = ("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch")
_LATE = ("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown")
NAMES: tuple[str, ...] = (
    *(name + side for side in _SIDES for name in _EYE),
    *("jawForward", "jawLeft", "jawRight", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight"),
    *(name + side for name in _BOTH for side in _SIDES),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *(name + side for name in _LATE for side in _SIDES),
    *("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut"),
)
"""The 52 ARKit weights in the order of the packet."""
ANGLES = ("headYaw", "headPitch", "headRoll", "leftEyeYaw", "leftEyePitch", "leftEyeRoll", "rightEyeYaw",
          "rightEyePitch", "rightEyeRoll")  # fmt: skip
"""What follows them. The eyes' are zero: the eyeLook weights say where they look."""
RATE = 60
"""Frames per second in which the packet counts the time of day."""
DAY_NS = 86_400_000_000_000


def by_name(units: Sequence[str], weights: F32) -> dict[str, float]:
    """Return weights by ARKit's names, `jawOpen` and so on, whatever the case of the first letter of a unit."""
    return {unit[:1].lower() + unit[1:]: float(weight) for unit, weight in zip(units, weights, strict=False)}


def head_angles(world_from_head: F32) -> tuple[float, float, float]:
    """Return yaw (positive to the person's right), pitch (up) and roll (to the right shoulder) of a head, radians.

    They are those of Unreal's FRotator for the pose in Unreal's axes.
    """
    axes = np.sign(AXES["unreal"].matrix)
    forward, right, up = (axes @ world_from_head[:3, :3] @ axes.T).T
    yaw = math.atan2(forward[1], forward[0])
    pitch = math.atan2(forward[2], math.hypot(forward[0], forward[1]))
    level = np.array([-math.sin(yaw), math.cos(yaw), 0.0])
    return yaw, pitch, math.atan2(float(up @ level), float(right @ level))


class LiveLinkFace:
    """Makes the packets of one subject.

    Args:
        subject: name under which Live Link shows it, ASCII.
    """

    def __init__(self, subject: str) -> None:
        """Make the part that stays."""
        device, name = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"mien.{subject}")).upper().encode(), subject.encode()
        self._head = struct.pack(f">Bi{len(device)}si{len(name)}s", 6, len(device), device, len(name), name)

    def encode(self, weights: Mapping[str, float], world_from_head: F32, capture_time_ns: int) -> bytes:
        """Return a packet.

        Args:
            weights: by ARKit's names; one that is absent is sent as 0.
            world_from_head: (4, 4) pose of the head.
            capture_time_ns: becomes the time of day (UTC on the clocks `host` and `ptp`) in frames of 1/60 s.
        """
        frame, rest_ns = divmod(capture_time_ns % DAY_NS * RATE, 1_000_000_000)
        values = [weights.get(name, 0.0) for name in NAMES] + [*head_angles(world_from_head), 0, 0, 0, 0, 0, 0]
        time = struct.pack(">ifii", frame, rest_ns / 1e9, RATE, 1)
        return self._head + time + struct.pack(f">B{len(values)}f", len(values), *values)
