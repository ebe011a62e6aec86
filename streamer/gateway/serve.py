"""`mien serve`: from the bus to the engines. What waits on the bus is taken at once, what clients get is the newest."""

import math
import threading
import time
from collections.abc import Callable
from typing import Literal

from streamer.config import BusConfig, ServeConfig
from streamer.gateway.clients import Edition, Shown
from streamer.gateway.datagrams import Datagrams
from streamer.gateway.feed import Feed
from streamer.gateway.pulse import Pulse
from streamer.gateway.server import GatewayServer
from streamer.processes import HealthBeat, Vitals
from streamer.smoothing.live import LiveFilter
from streamer.smoothing.one_euro import OneEuroParameters
from streamer.transport import Publisher, Subscriber, endpoint_for, infer_endpoint, node_endpoints

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

    Publishers of the bus may come, go and come back: clients stay connected and get nothing but health meanwhile.

    Args:
        config: where to listen, and where packets of weights go.
        bus: where meshes come from: inference, and nodes (a replay with meshes; the truth of a simulated rig); the
            gateway's own health goes to `serve_port`.
        stop: ends the run cleanly: every client gets an end.
        seconds: length of the run; None: no limit.
        channel: which meshes.
        bound: told the two endpoints, raw TCP and WebSocket.

    Returns:
        The final counters: meshes that came from the bus, clients, frames sent and skipped, packets.

    Raises:
        TransportError: `serve.host` is not loopback and asks for no secret, a port is in use, or a target of packets
            is none.
        MissingExtra: websockets is not installed.
    """
    end_s = math.inf if seconds is None else time.monotonic() + seconds
    endpoints = list(dict.fromkeys([infer_endpoint(bus), *node_endpoints(bus)]))
    feed, pulse = Feed(_filter(config)), Pulse()

    def counters() -> dict[str, int]:
        return feed.counters() | server.counters() | datagrams.counters()

    def vitals() -> Vitals:
        state, numbers, message = pulse.report(time.monotonic())
        gauges = {"clients": float(len(server)), **numbers}
        return Vitals("running" if state == "live" else "degraded", counters(), gauges, message)

    with (
        Datagrams(config) as datagrams,
        GatewayServer(config) as server,
        Publisher(endpoint_for(bus, "serve"), keys_dir=bus.keys_dir) as publisher,
        Subscriber(endpoints, (channel, "topology"), keys_dir=bus.keys_dir) as subscriber,
        HealthBeat(publisher, "serve", vitals),
    ):
        if bound is not None:
            bound(server.endpoints)
        while not stop.is_set() and time.monotonic() < end_s:
            first = subscriber.receive(WAIT_S)
            now_s = time.monotonic()
            if first is not None:
                shown, edition = feed.push([message for _, message in (first, *subscriber.drain())])
                _hand_on(shown, edition, feed, server, datagrams, pulse, now_s)
            if pulse.due(now_s):
                server.tell(*pulse.report(now_s))
    return counters()


def _filter(config: ServeConfig) -> LiveFilter | None:
    if config.filter == "none":
        return None
    return LiveFilter(OneEuroParameters(config.filter_cutoff_hz, config.filter_motion_hz))


def _hand_on(
    shown: Shown | None,
    edition: Edition | None,
    feed: Feed,
    server: GatewayServer,
    datagrams: Datagrams,
    pulse: Pulse,
    now_s: float,
) -> None:
    if shown is not None:
        server.announce(shown)
    if edition is not None:
        server.offer(edition)
        if feed.newest is not None:
            datagrams.send(*feed.newest, now_s)
            pulse.beat(now_s, time.time_ns() - feed.newest[0].exposure_time_ns)
