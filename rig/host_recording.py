"""Full pictures recorded on the camera host, beside what is published and without disturbing it.

The bus may carry proxies; the take made here holds every picture full size with the same identities, so that what is
made from it (a fit, for instance) finds the frame of each mesh by its id. Pictures wait in a queue of bounded memory; a
disk that is too slow costs pictures of this take, each counted, and never one on the wire.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rig.grabber import Grabbed
from streamer.config import RecordConfig, SyncConfig
from streamer.errors import MienError
from streamer.pixels import encode_pixels
from streamer.takes import TakeWriter
from streamer.takes.intake import Intake, Losses
from streamer.takes.layout import new_take_path, take_number
from streamer.types import Calibration, Encoding, Frame

IDLE_S = 0.5


@dataclass(frozen=True, slots=True)
class HostRecordingOptions:
    """What `mien node --record` was asked for."""

    record: RecordConfig
    """Folder, names and sizes."""
    sync: SyncConfig
    """How frames of the take become sets."""
    config_text: str
    """The effective configuration as TOML, kept in the take."""
    path: Path | None = None
    """Folder of the take; None: the next of show and slate."""


class HostRecording:
    """One take of full pictures. `offer` never waits.

    Args:
        options: where and how.
        calibration: the cameras.
        encoding: of the take: pictures that are no JPEG are compressed by the writing thread, or kept raw.
        quality: of JPEG.

    Raises:
        TakeError: the take cannot begin.
    """

    def __init__(self, options: HostRecordingOptions, calibration: Calibration, encoding: str, quality: int) -> None:
        """Open the take and start the writing thread."""
        record = options.record
        self.path = options.path or new_take_path(record)
        self._jpeg, self._quality = encoding == "jpeg", quality
        self._intake = Intake(int(record.queue_mb * 1e6))
        self._offered: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._losses = Losses()
        self._failure = ""
        self._writer = TakeWriter(
            self.path,
            calibration=calibration,
            config_text=options.config_text,
            show=record.show,
            slate=record.slate,
            take=take_number(self.path),
            record=record,
            sync=options.sync,
            name="full",
        )
        self._thread = threading.Thread(target=self._write, name="host-recording", daemon=True)
        self._thread.start()

    def offer(self, grabbed: Grabbed) -> None:
        """Put a picture on its way to the disk; one that finds no room is named in the ledger."""
        raw = grabbed.raw
        sequence = self._offered[raw.camera]
        self._offered[raw.camera] += 1
        now_ns = time.time_ns()
        frame = Frame(
            camera=raw.camera,
            frame_id=grabbed.frame_id,
            counter=raw.counter,
            sequence=sequence,
            exposure_time_ns=raw.exposure_time_ns,
            clock=raw.clock,
            receive_time_ns=grabbed.receive_time_ns,
            publish_time_ns=now_ns,
            width=raw.width,
            height=raw.height,
            encoding=raw.encoding,
            data=raw.pixels,
            timecode=raw.timecode,
        )
        if not self._intake.put(("frame", frame, now_ns)):
            self._drop(frame)

    @property
    def counters(self) -> Mapping[str, int]:
        """`disk-offered.<camera>` and `disk-dropped.<camera>`."""
        counts = {f"disk-offered.{camera}": count for camera, count in list(self._offered.items())}
        return counts | {f"disk-dropped.{camera}": self._dropped[camera] for camera in list(self._offered)}

    @property
    def gauges(self) -> Mapping[str, float]:
        """`disk_queue_mb`."""
        return {"disk_queue_mb": self._intake.waiting_bytes / 1e6}

    @property
    def trouble(self) -> str:
        """Why nothing is recorded any more, empty while it is."""
        return self._failure

    def close(self) -> None:
        """Write what waits and close the take with its ledger; a disk that failed was told in `trouble`."""
        self._intake.close()
        self._thread.join()
        while (item := self._intake.get(0.0)) is not None:
            if isinstance(item[1], Frame):
                self._drop(item[1])
        for loss in self._losses.take():
            self._writer.lose(loss)
        if self._failure:
            self._writer.rewrite_ledger()
        else:
            self._writer.close()

    def _drop(self, frame: Frame) -> None:
        self._dropped[frame.camera] += 1
        self._losses.lose(f"frame/{frame.camera}", frame, "queue-full")

    def _write(self) -> None:
        try:
            while not self._intake.done:
                item = self._intake.get(IDLE_S)
                for loss in self._losses.take():
                    self._writer.lose(loss)
                if item is None:
                    self._writer.flush()
                    continue
                channel, message, now_ns = item
                self._writer.write(channel, self._encoded(message) if isinstance(message, Frame) else message, now_ns)
        except MienError as error:
            self._failure = str(error)
        finally:
            self._intake.close()

    def _encoded(self, frame: Frame) -> Frame:
        if not self._jpeg or frame.encoding == "jpeg":
            return frame
        encoding: Encoding
        encoding, data = encode_pixels(frame.data, "jpeg", self._quality)
        return replace(frame, encoding=encoding, data=data)
