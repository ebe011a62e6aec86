"""Progress on the terminal, for work that takes longer than two seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DELAY_S = 2.0
Report = Callable[[int, int], None]
"""Called with what is done and what there is in all."""


@contextmanager
def progress(label: str, *, quiet: bool) -> Iterator[Report]:
    """Give a function to report progress to; a bar appears on standard error after two seconds.

    Args:
        label: what is being done.
        quiet: never show a bar; nor is one shown where standard error is not a terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    begin_s = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task(label, visible=False)
        last_s = 0.0

        def report(done: int, total: int) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - begin_s >= DELAY_S and (now_s - last_s >= 0.1 or done == total):
                last_s = now_s
                bar.update(task, completed=done, total=total, visible=True)
                bar.refresh()

        yield report
