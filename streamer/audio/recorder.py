"""An audio input that runs all the time: its last moments are kept, and written with the take that begins.

The only file that knows `sounddevice`. The callback of the sound card only copies its block into a queue; a thread
writes. A disk that is too slow, or a card that overruns, costs blocks, and each is counted.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.audio.wav import I16, SoundFile
from streamer.errors import DriverError, MissingExtra

WAITING_S = 10.0
"""Sound that may wait for the disk."""
Block = tuple[I16, int]
"""(S, channels) samples, and the time of the first, ns."""


class Stream(Protocol):
    """What is used of `sounddevice.InputStream`."""

    def start(self) -> None:
        """Begin to call back."""

    def close(self) -> None:
        """Call back no more."""


Callback = Callable[[NDArray[np.int16], int, Any, Any], None]
OpenStream = Callable[[str, int, int, Callback], Stream]


def open_stream(device: str, rate_hz: int, channels: int, callback: Callback) -> Stream:
    """Open an input of this machine.

    Args:
        device: part of its name, its number, or `default`.
        rate_hz: samples per second.
        channels: channels.
        callback: as `sounddevice` calls it.

    Raises:
        MissingExtra: sounddevice is not installed.
        DriverError: there is no such input, or it cannot do this.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio itself is missing
        raise MissingExtra("sounddevice", "audio") from error
    name: str | int | None = None if device == "default" else int(device) if device.isdigit() else device
    try:
        stream: Stream = sounddevice.InputStream(
            rate_hz, device=name, channels=channels, dtype="int16", callback=callback
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise DriverError(f"record.audio = {device!r}: {error}; python -m sounddevice lists the inputs") from error
    return stream


class AudioInput:
    """A running input.

    Args:
        device: which one.
        rate_hz: samples per second.
        channels: channels.
        preroll_s: how much is kept while no take is on.
        open_stream: opens the device; another one in tests.
    """

    def __init__(
        self, device: str, rate_hz: int, channels: int, preroll_s: float, open_stream: OpenStream = open_stream
    ) -> None:
        """Begin to listen; raises as `open_stream`."""
        self.rate_hz, self.channels = rate_hz, channels
        self._kept_ns = round(preroll_s * 1e9)
        self._ready = threading.Condition()
        self._kept: deque[Block] = deque()
        self._waiting: deque[Block] = deque()
        self._writing = False
        self.lost_blocks = 0
        """Blocks that the card or the disk could not take in time."""
        self.failure: OSError | None = None
        """Why the disk refused the sound of the last take, if it did."""
        self._file: SoundFile | None = None
        self._thread: threading.Thread | None = None
        self._stream = open_stream(device, rate_hz, channels, self._called)
        self._stream.start()

    def _called(self, samples: NDArray[np.int16], count: int, info: Any, status: Any) -> None:
        delay_s = float(info.currentTime - info.inputBufferAdcTime)
        time_ns = time.time_ns() - round(max(delay_s, 0.0) * 1e9)
        block = (np.array(samples, np.int16), time_ns)
        with self._ready:
            if status:  # the card had to drop something before this
                self.lost_blocks += 1
            self._kept.append(block)
            while self._kept and time_ns - self._kept[0][1] > self._kept_ns:
                self._kept.popleft()
            if self._writing:
                if len(self._waiting) * count > WAITING_S * self.rate_hz:
                    self.lost_blocks += 1
                    return
                self._waiting.append(block)
                self._ready.notify()

    def begin(self, folder: Path) -> None:
        """Write into a take from now on, beginning with what was kept.

        Raises:
            OSError: the files cannot be made.
        """
        self._file = SoundFile(folder, self.rate_hz, self.channels)
        with self._ready:
            self._waiting = deque(self._kept)
            self._writing, self.failure, self.lost_blocks = True, None, 0
        self._thread = threading.Thread(target=self._write, name="take-audio", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while True:
            with self._ready:
                while self._writing and not self._waiting:
                    self._ready.wait()
                if not self._waiting:
                    return
                block = self._waiting.popleft()
            if self._file is not None and self.failure is None:
                try:
                    self._file.write(*block)
                except OSError as error:
                    self.failure = error

    def end(self) -> None:
        """Write what waits and close the files of the take. Ending twice is allowed."""
        with self._ready:
            self._writing = False
            self._ready.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self.failure = error
            self._file = None

    def close(self) -> None:
        """End the take's sound and let go of the device."""
        self._stream.close()
        self.end()
