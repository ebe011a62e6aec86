"""Is there room for a take."""

import shutil
from pathlib import Path

from streamer.errors import TakeError


def free_bytes(path: Path) -> int:
    """Return the free space where a path is or will be, bytes; 0 on a disk that does not answer."""
    try:
        while not path.exists():
            path = path.parent
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def check_place(path: Path, least: float) -> None:
    """Refuse a place for a take.

    Args:
        path: of the take.
        least: bytes that have to be free.

    Raises:
        TakeError: it exists, or there is less space.
    """
    if path.exists():
        raise TakeError(f"{path} exists already; give another folder or remove it")
    if (free := free_bytes(path)) < least:
        raise TakeError(
            f"{path}: {free / 1e9:.2f} GB free, record.min_free_gb = {least / 1e9:g}; free space on this disk"
        )
