"""Readers of what comes from outside, and how a fuzzer spoils what is sound. Used by the tests and benchmarks/fuzz.py.

A reader may refuse with one of our errors; anything else that it raises is a finding, as is one that takes too long.
"""

import os
import random
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien import SECTIONS
from streamer.calibration import calibration_from_text, calibration_to_text
from streamer.channels import CHANNELS
from streamer.config import load
from streamer.config_text import to_toml
from streamer.errors import MienError
from streamer.takes.reader import open_take
from streamer.takes.recover import recover_take
from streamer.takes.verify import verify_take
from streamer.types import Health
from streamer.wire import PREAMBLE, decode, encode
from tests.streamer.take_makers import calibration, frame, mesh, topology, write_take

PATIENCE_S = 20.0
INTERESTING = (
    b"",
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"-1",
    b"1e999",
    b"nan",
    b"[[",
    b"]]",
    b"=",
    b'"',
    b"\n[x]\n",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A reader, and sound input to spoil."""

    sound: tuple[bytes, ...]
    """Inputs that it takes."""
    read: Callable[[bytes], object]
    """Reads spoilt input; raises MienError to refuse."""


def spoil(rng: random.Random, sound: bytes) -> bytes:
    """Return a spoilt copy: bits flipped, parts cut, doubled, moved, or replaced by what often hurts."""
    data = bytearray(sound)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        begin = rng.randrange(len(data) + 1)
        end = min(len(data), begin + rng.choice((1, 2, 4, 8, 64, 1024)))
        match rng.randrange(7):
            case 0 if begin < len(data):
                data[begin] ^= 1 << rng.randrange(8)
            case 1:
                data[begin:end] = rng.randbytes(end - begin)
            case 2:
                del data[begin:end]
            case 3:
                data[begin:begin] = data[begin:end]
            case 4:
                data[begin:end] = rng.choice(INTERESTING)
            case 5 if begin + 8 <= len(data):
                value = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
                struct.pack_into(rng.choice(("<Q", ">Q")), data, begin, value)
            case _:
                del data[begin + rng.randrange(64) :]
    return bytes(data)


def _wire() -> Target:
    messages = [("calibration", calibration()), ("topology", topology()), ("mesh", mesh(3)), ("frame", frame("mid", 2))]
    messages.append(("health", Health("node", 5, "running", {"a.b": 3}, {"fps": 30.0}, "well")))  # type: ignore[arg-type]
    joined = [b"\0\1PART".join(bytes(part) for part in encode(channel, message)) for channel, message in messages]

    def read(data: bytes) -> object:
        parts = data.split(b"\0\1PART")
        if len(parts) > 1 and len(parts[1]) > PREAMBLE.size and zlib.crc32(data) & 1:  # half get past the checksum
            magic, version, code, zero, _, _ = PREAMBLE.unpack_from(parts[1])
            packed = parts[1][PREAMBLE.size :]
            parts[1] = PREAMBLE.pack(magic, version, code, zero, len(packed), zlib.crc32(packed)) + packed
        return decode(parts)

    return Target(tuple(joined), read)


def _calibration() -> Target:
    text = calibration_to_text(calibration()).encode()
    return Target((text,), lambda data: calibration_from_text(data.decode("utf-8", "replace")))


def _config(folder: Path) -> Target:
    text = to_toml({name: cls() for name, cls in SECTIONS.items()}).encode()
    path = folder / "config.toml"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return load(path, SECTIONS)

    return Target((text, b"schema = 1\n[rig]\nfps = 30.0\n"), read)


def _take(folder: Path) -> Target:
    """A take as one string: name, length and content of each file; read whole, verified and repaired."""
    take = write_take(folder / "sound", 6)
    packed = b"".join(_packed(path.name, path.read_bytes()) for path in sorted(take.iterdir()) if path.is_file())

    def read(data: bytes) -> object:
        place = folder / "spoilt"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, content in _files(packed, data).items():
            (place / name).write_bytes(content)
        report = verify_take(place)
        try:
            with open_take(place) as opened:
                for _ in opened.messages([name for name, channel in CHANNELS.items() if channel.recorded]):
                    pass
        except MienError:
            report = recover_take(place)
        return report

    return Target((packed,), read)


def _packed(name: str, content: bytes) -> bytes:
    return struct.pack("<I", len(name)) + name.encode() + struct.pack("<I", len(content)) + content


def _files(sound: bytes, data: bytes) -> Mapping[str, bytes]:
    """Cut spoilt bytes where the sound ones have their files, so that names stay and only contents are spoilt."""
    files, at = {}, 0
    while at < len(sound):
        length = struct.unpack_from("<I", sound, at)[0]
        name = sound[at + 4 : at + 4 + length].decode()
        at += 4 + length
        size = struct.unpack_from("<I", sound, at)[0]
        files[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return files


def targets(folder: Path) -> Mapping[str, Target]:
    """Return the readers by name.

    Args:
        folder: for their files.
    """
    return {"wire": _wire(), "calibration": _calibration(), "config": _config(folder), "take": _take(folder)}


def finding(target: Target, data: bytes) -> str:
    """Return what is wrong about reading this, empty if nothing is."""
    begin = time.process_time()
    try:
        with np.errstate(all="ignore"):
            target.read(data)
    except MienError as error:
        if "\n" in str(error).strip():
            return f"an error of several lines: {error!r}"
    except Exception as error:  # noqa: BLE001 - what is not ours is the finding
        return f"{type(error).__name__}: {error}"
    took_s = time.process_time() - begin
    return f"took {took_s:.0f} s of CPU" if took_s > PATIENCE_S else ""


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder, in memory where that is possible: a fuzzer writes much."""
    return tempfile.TemporaryDirectory(prefix="mien-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
