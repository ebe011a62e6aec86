"""The last pictures of a camera, still encoded, so that a mesh is shown with the pictures it was made from. Pure."""

from collections import deque

from streamer.types import Frame


class PictureHistory:
    """Bounded memory of one camera's frames.

    A mesh appears some frames after its pictures; drawn over the newest picture it would trail the head.

    Args:
        frames: how many frames are kept at most.
        size_bytes: how many bytes of payload are kept at most; the newest frame always stays.
    """

    def __init__(self, frames: int = 48, size_bytes: int = 32 << 20) -> None:
        """Start empty."""
        self._frames: deque[Frame] = deque()
        self._limit = frames
        self._size_limit = size_bytes
        self._size = 0

    def __len__(self) -> int:
        """Number of frames kept."""
        return len(self._frames)

    def push(self, frame: Frame) -> None:
        """Keep a frame, let go of the oldest ones beyond the limits."""
        self._frames.append(frame)
        self._size += frame.data.nbytes
        while len(self._frames) > 1 and (len(self._frames) > self._limit or self._size > self._size_limit):
            self._size -= self._frames.popleft().data.nbytes

    @property
    def newest(self) -> Frame | None:
        """The frame that came last."""
        return self._frames[-1] if self._frames else None

    def match(self, frame_id: int, exposure_time_ns: int) -> Frame | None:
        """Return the frame of a frame set: the same id, else the nearest exposure; None while empty."""
        best: Frame | None = None
        nearest_ns = 0
        for frame in reversed(self._frames):
            if frame.frame_id == frame_id:
                return frame
            distance_ns = abs(frame.exposure_time_ns - exposure_time_ns)
            if best is None or distance_ns < nearest_ns:
                best, nearest_ns = frame, distance_ns
        return best
