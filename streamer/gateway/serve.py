"""`mien serve`: from the bus to the engines. What waits on the bus is taken at once, what clients get is the newest."""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Literal

from streamer.config import BusConfig, ServeConfig
from streamer.gateway.feed import Feed
from streamer.gateway.records import encode_hello
from streamer.gateway.server import GatewayServer
from streamer.transport import Subscriber, infer_endpoint, node_endpoints

log = logging.getLogger(__name__)

WAIT_S = 0.05
"""Longest wait for a message: bounds how late the end of the run is noticed."""


def run_serve(
    config: ServeConfig,
    bus: BusConfig,
    *,
    stop: threading.Event,
    seconds: float | None = None,
    channel: Literal["mesh", "truth"] = "mesh",
    bound: Callable[[tuple[str, str]], object] | None = None,
) -> dict[str, int]:
    """Serve the live head until told to stop, or for some time.

    Publishers of the bus may come, go and come back: clients stay connected and get nothing meanwhile.

    Args:
        config: where to listen.
        bus: where meshes come from: inference, and nodes (a replay with meshes; the truth of a simulated rig).
        stop: ends the run cleanly: every client gets an end.
        seconds: length of the run; None: no limit.
        channel: which meshes.
        bound: told the two endpoints, raw TCP and WebSocket.

    Returns:
        The final counters: meshes that came from the bus, clients, frames sent and skipped.

    Raises:
        TransportError: `serve.host` is not loopback, or a port is in use.
        MissingExtra: websockets is not installed.
    """
    end_s = math.inf if seconds is None else time.monotonic() + seconds
    endpoints = list(dict.fromkeys([infer_endpoint(bus), *node_endpoints(bus)]))
    feed, refusal = Feed(), ""
    with (
        GatewayServer(config, encode_hello()) as server,
        Subscriber(endpoints, (channel, "topology"), keys_dir=bus.keys_dir) as subscriber,
    ):
        if bound is not None:
            bound(server.endpoints)
        while not stop.is_set() and time.monotonic() < end_s:
            first = subscriber.receive(WAIT_S)
            if first is None:
                continue
            topology, frame = feed.push([message for _, message in (first, *subscriber.drain())])
            if topology is not None:
                server.announce(topology)
            if frame is not None:
                server.offer(frame)
            if feed.last_refusal != refusal:
                refusal = feed.last_refusal
                log.warning("%s", refusal)
    return feed.counters() | server.counters()
