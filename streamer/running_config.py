"""The configuration that `mien live` was started with, kept for its processes beside their logs.

Processes that are started again hours later have to read what the first ones read, whatever the user's file says by
then. It lies beside the logs, not among the temporary files: a supervisor that is killed leaves nothing behind that the
next one does not take over.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.errors import ProcessError

NAME = "config.toml"


@contextmanager
def running_config(logs: Path, text: str) -> Iterator[Path]:
    """Write a configuration into a folder of logs and hold the folder, so that no second `mien live` writes into it.

    Args:
        logs: made if absent.
        text: TOML.

    Yields:
        The file. Its lock ends with the process, however that ends.

    Raises:
        ProcessError: another process holds the folder.
    """
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / NAME
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProcessError(
                f"{logs}: another mien live keeps its logs here; stop it, or add --set live.logs=OTHER/FOLDER"
            ) from error
        file.truncate(0)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        yield path
