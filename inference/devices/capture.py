"""CUDA graphs of work that issues the same every time: plainly first, captured second, replayed from then on."""

import logging
from collections.abc import Callable, Hashable
from typing import Any

from streamer.errors import EngineError

log = logging.getLogger(__name__)


def check(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a cuda-bindings call gave.

    Raises:
        EngineError: it failed.
    """
    status, *values = result
    if int(status) != 0:
        raise EngineError(f"CUDA: {getattr(status, 'name', status)}")
    return tuple(values)


class Captures:
    """The captured work of one stream. Used with the context current, by one thread at a time.

    Args:
        graphs: cuda-bindings' driver module; None: everything is issued plainly.
        handle: address of the native stream.
    """

    def __init__(self, graphs: Any, handle: int) -> None:
        """Start without captures."""
        self._graphs, self._handle = graphs, handle
        self._seen: set[Hashable] = set()
        self._held: dict[Hashable, Any] = {}

    def replay(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run work that issues the same to the same addresses every time.

        The first run is plain: engines set themselves up in it. What cannot be captured is issued plainly for good.

        Args:
            key: names the work.
            work: issues to the stream and nothing else.
        """
        if key not in self._seen or self._graphs is None:
            self._seen.add(key)
            work()
            return
        if key not in self._held:
            self._held[key] = self._capture(key, work)
        if self._held[key] is None:
            work()
        else:
            check(self._graphs.cuGraphLaunch(self._held[key], self._handle))

    def _capture(self, key: Hashable, work: Callable[[], None]) -> Any:
        """Return the executable graph of what `work` issues; None if it cannot be captured."""
        graphs = self._graphs
        mode = graphs.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(graphs.cuStreamBeginCapture(self._handle, mode))
        try:
            try:
                work()
            finally:  # a capture that was begun has to end, whatever happened in it
                ended = graphs.cuStreamEndCapture(self._handle)
            (graph,) = check(ended)
            (executable,) = check(graphs.cuGraphInstantiate(graph, 0))
            check(graphs.cuGraphDestroy(graph))
        except (EngineError, RuntimeError) as error:
            log.warning("%s is issued plainly, it cannot be captured as a CUDA graph: %s", key, error)
            return None
        return executable

    def close(self) -> None:
        """Give the captures back; the stream must be empty."""
        held, self._held = self._held, {}
        for executable in held.values():
            if executable is not None:
                check(self._graphs.cuGraphExecDestroy(executable))
