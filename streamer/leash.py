"""A supervised process ends when its supervisor does, however that one dies.

The supervisor keeps the write end of a pipe open and hands the read end to every child. A read on it returns only when
no writer is left, which the kernel sees to even after SIGKILL. The child then stops as if it had been asked to
(SIGTERM: the recorder closes its files), and is cut off if it does not come to an end.
"""

import os
import signal
import threading
from collections.abc import Mapping, MutableMapping

VARIABLE = "MIEN_LEASH_FD"
GRACE_S = 5.0


class Leash:
    """The supervisor's end: hold it for as long as the children shall live."""

    def __init__(self) -> None:
        """Make the pipe; the write end is never inherited."""
        self.child_fd, self._own_fd = os.pipe()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return `base` with the variable that tells a child where its end of the leash is."""
        return {**base, VARIABLE: str(self.child_fd)}

    def close(self) -> None:
        """Let go: children that are still alive stop. May be called again."""
        if self._own_fd >= 0:
            os.close(self._own_fd)
            os.close(self.child_fd)
            self._own_fd = -1


def follow(environment: MutableMapping[str, str], grace_s: float = GRACE_S) -> threading.Thread | None:
    """In a child: watch the supervisor. Does nothing in a process that was started by hand.

    Args:
        environment: `os.environ`; the variable is taken out, so that grandchildren are not misled.
        grace_s: seconds between SIGTERM and the hard end.

    Returns:
        The daemon thread that watches, or None.
    """
    text = environment.pop(VARIABLE, "")
    if not text:
        return None
    descriptor = int(text)
    os.set_inheritable(descriptor, False)
    watcher = threading.Thread(target=_watch, args=(descriptor, grace_s), name="leash", daemon=True)
    watcher.start()
    return watcher


def _watch(descriptor: int, grace_s: float) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(grace_s)
    os._exit(1)
