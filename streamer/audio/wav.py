"""A sound file of a take: 16-bit WAV with the times of its samples beside it; whole again after a crash.

The sizes in the head of a WAV are known at its end only; here they are written then, and `repair` writes them after a
crash. The times stand in a CSV (`sample,time_ns`): a sound card runs by its own clock, so one start time is not enough.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.errors import TakeError

SOUND, TIMES = "audio.wav", "audio.csv"
HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")
I16 = NDArray[np.int16]
LARGEST = 2**32 - 1 - HEAD.size


class SoundFile:
    """Writes the sound of a take; for one thread."""

    def __init__(self, folder: Path, rate_hz: int, channels: int) -> None:
        """Create both files.

        Raises:
            OSError: they exist, or cannot be created.
        """
        self._rate_hz, self._channels = rate_hz, channels
        self.samples = 0
        """Samples per channel so far."""
        self._noted_ns = -(10**18)
        self._sound = (folder / SOUND).open("xb")
        self._times = (folder / TIMES).open("x", encoding="ascii")
        self._sound.write(_head(rate_hz, channels, 0))
        self._times.write("sample,time_ns\n")

    def write(self, samples: I16, time_ns: int) -> None:
        """Append a block.

        Args:
            samples: (S, channels).
            time_ns: when its first sample was taken, CLOCK_REALTIME.

        Raises:
            OSError: the disk is full, or the file at the limit of its format (4 GiB, six hours of stereo at 48 kHz).
        """
        if self._sound.tell() + samples.nbytes > LARGEST:
            raise OSError(27, "a WAV holds 4 GiB at most")
        if time_ns - self._noted_ns >= 10**9:  # once a second is enough to follow a clock
            self._times.write(f"{self.samples},{time_ns}\n")
            self._times.flush()
            self._noted_ns = time_ns
        self._sound.write(np.ascontiguousarray(samples, "<i2").data.cast("B"))
        self._sound.flush()
        self.samples += len(samples)

    def close(self) -> None:
        """Write the sizes. Closing twice is allowed."""
        if not self._sound.closed:
            self._sound.seek(0)
            self._sound.write(_head(self._rate_hz, self._channels, self.samples))
            self._sound.close()
            self._times.close()


def _head(rate_hz: int, channels: int, samples: int) -> bytes:
    size, step = samples * channels * 2, channels * 2
    wave = (b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, channels, rate_hz, rate_hz * step, step, 16, b"data", size)
    return HEAD.pack(*wave)


def repair(folder: Path) -> int:
    """Make the sound of a take whole after a crash: sizes as the file is long, a torn block or line left out.

    Returns:
        Samples per channel; 0 if there is no sound.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / SOUND
    if not path.exists() or path.stat().st_size < HEAD.size:
        for name in (SOUND, TIMES):
            (folder / name).unlink(missing_ok=True)
        return 0
    with path.open("r+b") as file:
        fields = HEAD.unpack(file.read(HEAD.size))
        channels, rate_hz = max(1, fields[6]), fields[7]
        samples = int(path.stat().st_size - HEAD.size) // int(2 * channels)
        file.truncate(HEAD.size + samples * 2 * channels)
        file.seek(0)
        file.write(_head(rate_hz, channels, samples))
    times = folder / TIMES
    text = times.read_text("ascii", "replace") if times.exists() else "sample,time_ns\n"
    times.write_text(text[: text.rfind("\n") + 1], "ascii")
    return samples


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of a take."""

    samples: I16
    """(S, channels), mapped from the file, not read."""
    rate_hz: int
    """Nominal rate, samples per second."""
    marks: NDArray[np.int64]
    """(M, 2) sample and the time at which it was taken, ns."""

    def time_of(self, sample: float) -> int:
        """Return when a sample was taken, ns: on the line through all marks, since single ones jitter."""
        places, times = self.marks[:, 0].astype(np.float64), self.marks[:, 1] - self.marks[0, 1]
        if len(self.marks) < 3:
            return int(self.marks[0, 1] + (sample - places[0]) * 1e9 / self.rate_hz)
        slope, start = np.polyfit(places, times.astype(np.float64), 1)
        passed: int = round(float(start + slope * sample))
        return int(self.marks[0, 1]) + passed


def read_sound(folder: Path) -> Sound | None:
    """Open the sound of a take, None if it has none.

    Raises:
        TakeError: it is damaged.
    """
    path = folder / SOUND
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            fields = HEAD.unpack(file.read(HEAD.size))
        shape = (fields[12] // (2 * fields[6]), fields[6])
        samples: I16 = np.memmap(path, "<i2", "r", HEAD.size, shape) if shape[0] else np.empty(shape, np.int16)
        rows = [line.split(",") for line in (folder / TIMES).read_text("ascii").splitlines()[1:]]
        marks = np.array([[int(sample), int(time)] for sample, time in rows], np.int64).reshape(-1, 2)
    except (OSError, ValueError, struct.error, ZeroDivisionError) as error:
        raise TakeError(f"{path}: the sound cannot be read ({error}); run: mien recover {folder}") from error
    return Sound(samples, fields[7], marks) if len(marks) else None
