"""Epic's take metadata 4.2 (Capture Manager, Unreal Engine 5.6): what `metadata.cptake` says.

The names are those of Epic's published reference of `.cptake` files and of `FTakeMetadata`. Paths are relative to the
file. Pictures inside a take lie in MCAP files, which are no videos: they are listed beside an export (`mien export
--format nersemble`), where they are videos.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from streamer import timecode
from streamer.audio.wav import SOUND, Sound
from streamer.takes.anchors import label_of
from streamer.takes.layout import TakeInfo

CPTAKE = "metadata.cptake"
SCHEMA = {"Major": 4, "Minor": 2}
EPOCH_NS = 946_684_800 * 10**9
"""2000-01-01: times before it are those of media that tell no date."""


@dataclass(frozen=True, slots=True)
class Video:
    """One camera's pictures as a file."""

    name: str
    """Of the camera."""
    path: str
    """Relative to the metadata."""
    size: tuple[int, int]
    """Width and height, px."""
    rate: Fraction
    """Frames per second."""
    frames: int
    """Frames in the file."""
    first_ns: int
    """Exposure of the first frame, ns."""
    dropped: Sequence[int] = ()
    """Frames that the file lacks, counted from its first one as if it had them all."""


def cptake_bytes(
    info: TakeInfo,
    first_ns: int | None,
    *,
    thumbnail: str = "",
    sound: Sound | None = None,
    videos: Sequence[Video] = (),
) -> bytes:
    """Return the content of the file.

    Args:
        info: of the take.
        first_ns: earliest exposure, ns; None: there is none.
        thumbnail: path of a picture; empty: none.
        sound: of the take, if it lies beside.
        videos: that lie beside.
    """
    said: dict[str, Any] = {
        "Version": SCHEMA,
        "UniqueId": info.unique_id,
        "TakeNumber": info.take,
        "Slate": info.slate,
        "Device": {
            "Type": "Mien",
            "Model": "Mien",
            "Name": info.show,
            "Software": [{"Name": "Mien", **_version()}],
        },
    }
    if first_ns is not None and first_ns > EPOCH_NS:
        moment = datetime.fromtimestamp(first_ns // 10**9, UTC)
        said["DateTime"] = f"{moment:%Y-%m-%dT%H:%M:%S}.{first_ns % 10**9 // 1000:06d}Z"
    if thumbnail:
        said["Thumbnail"] = thumbnail
    if videos:
        said["Video"] = [_video(info, video) for video in videos]
    if sound is not None and len(sound.samples):
        said["Audio"] = [_audio(info, sound)]
    return json.dumps(said, indent=1).encode() + b"\n"


def _version() -> dict[str, str]:
    try:
        return {"Version": version("mien")}
    except PackageNotFoundError:
        return {}


def _video(info: TakeInfo, video: Video) -> dict[str, Any]:
    label = _label(info, video.first_ns)
    return {
        "Name": video.name,
        "Path": video.path,
        "PathType": "File",
        "Format": video.path.rpartition(".")[2],
        "Orientation": "Original",
        "FrameRate": float(video.rate),
        "FramesCount": video.frames,
        "FrameWidth": video.size[0],
        "FrameHeight": video.size[1],
        **({"TimecodeStart": label} if label else {}),
        "DroppedFrames": list(video.dropped),
    }


def _audio(info: TakeInfo, sound: Sound) -> dict[str, Any]:
    label = _label(info, sound.time_of(0))
    rate = float(Fraction(info.timecode.rate)) if info.timecode else 0.0
    return {
        "Name": "audio",
        "Path": SOUND,
        "Duration": round(len(sound.samples) / sound.rate_hz, 6),
        **({"TimecodeStart": label, "TimecodeRate": rate} if label else {}),
    }


def _label(info: TakeInfo, time_ns: int) -> str:
    anchor = info.timecode
    return timecode.at(label_of(anchor), anchor.time_ns, time_ns).text if anchor else ""
