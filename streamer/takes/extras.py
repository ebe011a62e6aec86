"""What lies beside the messages for people and other programs: thumbnails, and Epic's take metadata.

Made from a closed take, so a take that was recovered gets them too. Without room for them the take stands as it is.
"""

import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from streamer import timecode
from streamer.audio.ltc import read_ltc
from streamer.audio.wav import SOUND, TIMES, read_sound
from streamer.errors import MienError
from streamer.pixels import decode_pixels
from streamer.takes.cptake import CPTAKE, cptake_bytes
from streamer.takes.disk import crc_of, replace_file
from streamer.takes.layout import Anchor, read_info, write_info
from streamer.takes.reader import Take
from streamer.takes.stored import TIMED

THUMBNAILS = "thumbnails"
WIDTH_PX = 160
LTC_SECONDS = 20
"""Sound that is searched for the first timecode."""


def write_extras(path: Path, ltc: tuple[Fraction, int] | None = None) -> tuple[str, ...]:
    """Write thumbnails and `metadata.cptake` into a closed take; their checksums and those of its sound in take.json.

    Args:
        path: the take's folder.
        ltc: rate of timecode, and the channel of the sound, from 0, that carries it; None: there is none.

    Returns:
        What was left out and why, one line each; the take itself is whole in any case.
    """
    left_out: list[str] = []
    made: dict[str, int] = {}
    try:
        with Take(path) as take:
            info = take.info
            first_ns = take.first_ns if any(topic.partition("/")[0] in TIMED for topic in take.topics) else None
            made |= _thumbnails(take, left_out)
        made |= {name: crc_of(path / name) for name in (SOUND, TIMES) if (path / name).exists()}
        anchor = info.timecode if ltc is None else _read_anchor(path, *ltc, left_out)
        info = replace(info, timecode=anchor)
        thumbnail, sound = min((name for name in made if name.startswith(THUMBNAILS)), default=""), read_sound(path)
        replace_file(path / CPTAKE, cptake_bytes(info, first_ns, thumbnail=thumbnail, sound=sound))
        made[CPTAKE] = crc_of(path / CPTAKE)
        write_info(path, replace(read_info(path), checksums={**info.checksums, **made}, timecode=anchor))
    except (OSError, MienError) as error:
        left_out.append(f"{path.name}: thumbnails and {CPTAKE}: {error}")
        shutil.rmtree(path / THUMBNAILS, ignore_errors=True)
        (path / CPTAKE).unlink(missing_ok=True)
    return tuple(left_out)


def _read_anchor(path: Path, rate: Fraction, channel: int, left_out: list[str]) -> Anchor | None:
    """Tie timecode to time by the first labels in the sound that follow one another."""
    sound = read_sound(path)
    if sound is None or channel >= sound.samples.shape[1]:
        left_out.append(f"{path.name}: no sound on channel {channel + 1} to read timecode from")
        return None
    samples = sound.samples[: LTC_SECONDS * sound.rate_hz, channel].astype(np.float32)
    labels = read_ltc(samples, sound.rate_hz, rate)
    for one, other in pairwise(labels):
        if timecode.frame_number(other.timecode) - timecode.frame_number(one.timecode) == 1:
            code = one.timecode
            return Anchor("ltc", code.text, str(rate), code.drop_frame, sound.time_of(one.sample))
    left_out.append(f"{path.name}: no timecode in the first {LTC_SECONDS} s of sound channel {channel + 1}")
    return None


def _thumbnails(take: Take, left_out: list[str]) -> dict[str, int]:
    made: dict[str, int] = {}
    for number, camera in enumerate(take.cameras):
        try:
            picture = decode_pixels(take.frame(camera, 0))
        except MienError as error:
            left_out.append(f"thumbnail of camera '{camera}': {error}")
            continue
        height = max(1, round(picture.shape[0] * WIDTH_PX / picture.shape[1]))
        small = cv2.resize(picture, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 85))
        if done:
            (take.path / THUMBNAILS).mkdir(exist_ok=True)
            name = f"{THUMBNAILS}/{number:02d}.jpg"  # by number in rig order: a camera may have any name
            replace_file(take.path / name, bytes(data))
            made[name] = crc_of(take.path / name)
    return made
