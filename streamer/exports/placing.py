"""A file or folder appears whole or not at all: written beside its place, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from streamer.errors import TakeError


def refuse_existing(outputs: Sequence[Path], *, force: bool) -> None:
    """Stop before any work is done.

    Raises:
        TakeError: one of them exists and `force` is not given.
    """
    for out in outputs:
        if not force and (out.exists() or out.is_symlink()):
            raise TakeError(f"{out} exists already; give --force to replace it, or another --out")


@contextmanager
def placing(out: Path, beside: Sequence[str] = ()) -> Iterator[Path]:
    """Give a path in a fresh folder to write to; when the block succeeds it becomes `out`, else nothing is left.

    Args:
        out: the file or folder to make, or to replace. Its parents are made.
        beside: names of further files and folders next to `out` that the block may write next to its path; they appear
            before `out` does.

    Raises:
        TakeError: the system does not let us.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            fresh, old = Path(scratch) / "new", Path(scratch) / "old"
            fresh.mkdir()
            old.mkdir()
            yield fresh / out.name
            _swap([name for name in (*beside, out.name) if (fresh / name).exists()], fresh, out.parent, old)
    except OSError as error:
        raise TakeError(f"{out}: cannot be written: {error.strerror or error}") from error


def _swap(names: Sequence[str], fresh: Path, place: Path, old: Path) -> None:
    """Move what is there away and the new in; if a move fails, all is as it was."""
    undo: list[tuple[Path, Path]] = []
    try:
        for name in names:
            if (place / name).exists() or (place / name).is_symlink():
                os.replace(place / name, old / name)
                undo.append((old / name, place / name))
            os.replace(fresh / name, place / name)
            undo.append((place / name, fresh / name))
    except OSError:
        for source, target in reversed(undo):
            shutil.move(source, target)
        raise
