"""A small file of ledger tables alone, for what has to be entered when the files of a take are finished."""

from collections.abc import Callable, Sequence
from pathlib import Path

from streamer.takes.disk import AppendFile
from streamer.takes.framing import Buffer, Keys
from streamer.takes.layout import FileInfo
from streamer.takes.mcap_file import McapFile
from streamer.takes.stored import Topic
from streamer.takes.tables import SCHEMA_NAME

STEM = "ledger"
CHUNK_BYTES = 1_000_000

Tables = Sequence[tuple[str, Sequence[Buffer]]]
"""Topic and parts of tables."""


def write_ledger_file(
    folder: Path, tables: Tables, log_time_ns: int, open_file: Callable[[Path], AppendFile] = AppendFile
) -> FileInfo:
    """Write `ledger_<nnnn>.mcap` with the next number that is free.

    Args:
        folder: of the take.
        tables: what is in it.
        log_time_ns: when it was found out, ns.
        open_file: makes the file.

    Raises:
        OSError: no room for it; nothing is left.
    """
    number = len(list(folder.glob(f"{STEM}_*.mcap")))
    while (path := folder / f"{STEM}_{number:04d}.mcap").exists():
        number += 1
    file = open_file(path)
    try:
        mcap = McapFile(file, CHUNK_BYTES)
        for topic, parts in tables:
            mcap.add(Topic(topic, SCHEMA_NAME), Keys(max(log_time_ns, 0), 0, 0), 0, parts)
        mcap.finish()
        file.sync()
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        file.close()
    return FileInfo(path.name, file.size, 0)
