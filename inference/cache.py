"""Where Mien keeps what it can make again: compiled graphs, precisions that were timed, exported networks."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/mien`, by default `~/.cache/mien`. Everything in it may be removed at any time."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root else Path.home() / ".cache") / "mien"
