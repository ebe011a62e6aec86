"""The configuration that `mien live` or `mien demo` was started with, kept for its processes for as long as it runs.

Processes that are started again hours later have to read what the first ones read, whatever the user's file says by
then. A configuration may hold passwords of cameras, so the file is for its owner alone and does not lie beside the
logs, which people send to others. It is locked while it is used: what a supervisor that was killed has left behind is
known by having no lock, and the next one removes it.
"""

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX, SUFFIX = "mien-live-", ".toml"
YOUNG_S = 60.0
"""A file this young may not have its lock yet."""


@contextmanager
def running_config(text: str, folder: Path | None = None) -> Iterator[Path]:
    """Write a configuration for other processes of this user to read; removed at the end.

    Args:
        text: TOML.
        folder: where; default: the system's folder of temporary files.

    Yields:
        The file.
    """
    folder = Path(tempfile.gettempdir()) if folder is None else folder
    remove_left_behind(folder, time.time())
    descriptor, name = tempfile.mkstemp(SUFFIX, PREFIX, folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(text)
        file.flush()
        try:
            yield Path(name)
        finally:
            with suppress(FileNotFoundError):  # somebody has cleaned up
                os.unlink(name)


def remove_left_behind(folder: Path, now_s: float) -> None:
    """Remove what processes that were killed have left there.

    Whatever else bears such a name (anybody may put a directory, a link or a pipe there) is left alone.

    Args:
        folder: of such files; those of other users are left alone.
        now_s: CLOCK_REALTIME, s.
    """
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):  # in use, gone already, or nothing of ours
            _remove_stale(path, now_s)


def _remove_stale(path: Path, now_s: float) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if now_s - found.st_mtime > YOUNG_S:
            path.unlink()
    finally:
        os.close(descriptor)
