"""A thread with an OpenGL context of its own.

OpenGL works on the context that is current in a thread, and others may have one in the caller's.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import moderngl

from renderer.viewer.context import headless_context
from streamer.errors import GraphicsError

Result = TypeVar("Result")


class GlThread:
    """Does work on a context, one piece after the other; may be called from any thread. Close it when done.

    Args:
        name: of the thread.

    Raises:
        GraphicsError: there is no OpenGL here.
    """

    def __init__(self, name: str) -> None:
        """Open a context."""
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon: one that is never closed must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        try:
            self.context: moderngl.Context = self.call(headless_context)
        except GraphicsError:
            self._end()
            raise

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def call(self, work: Callable[[], Result]) -> Result:
        """Do something there and wait for it; what it raises is raised here."""
        done: Future[Result] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 handed to the caller's thread, which raises it
                done.set_exception(error)

        self._work.put(run)
        return done.result()

    def _end(self) -> None:
        self._work.put(None)
        self._thread.join()

    def close(self) -> None:
        """Free the context and end the thread."""
        self.call(self.context.release)
        self._end()
