"""Weights and pose as UDP packets to tools that know no Mien: Live Link Face, OSC, VMC. A lost packet is lost."""

import logging
import re
import socket
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from streamer.config import DatagramConfig, ServeConfig
from streamer.errors import TransportError
from streamer.gateway import osc
from streamer.gateway.live_link import LiveLinkFace, by_name
from streamer.types import MeshFrame, Topology

log = logging.getLogger(__name__)

Packets = Callable[[dict[str, float], MeshFrame], Iterable[bytes]]
_TARGET = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


class Pacer:
    """Lets heads through at a rate. Times are arguments.

    Args:
        max_fps: the rate, in the long run; a stream of this very rate passes whole, whatever its jitter.
    """

    def __init__(self, max_fps: float) -> None:
        """Let the first one through."""
        self._period_s = 1.0 / max_fps
        self._next_s = float("-inf")

    def admit(self, now_s: float) -> bool:
        """Return whether this one goes."""
        if now_s < self._next_s - 0.5 * self._period_s:
            return False
        self._next_s = max(self._next_s + self._period_s, now_s + 0.75 * self._period_s)
        return True


class _Output:
    def __init__(self, name: str, config: DatagramConfig, packets: Packets) -> None:
        self.name, self.packets, self.pacer = name, packets, Pacer(config.max_fps)
        self.sent = self.failed = 0
        self._complained = False
        family, self._address = _resolve(name, config.target)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, weights: dict[str, float], mesh: MeshFrame) -> None:
        for packet in self.packets(weights, mesh):
            try:
                self._socket.sendto(packet, self._address)
            except OSError as error:
                self.failed += 1
                if not self._complained:
                    self._complained = True
                    log.warning("serve.%s: a packet could not be sent: %s", self.name, error)
                continue
            self.sent += 1

    def close(self) -> None:
        self._socket.close()


def _resolve(name: str, target: str) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    match = _TARGET.fullmatch(target)
    if match is None or not 0 < int(match[2]) < 65536:
        raise TransportError(f"serve.{name}.target = {target!r}: expected host:port, for example 127.0.0.1:11111")
    try:
        found = socket.getaddrinfo(match[1].strip("[]"), int(match[2]), type=socket.SOCK_DGRAM)
    except OSError as error:
        raise TransportError(f"serve.{name}.target = {target!r}: {error}; give an address of this network") from error
    return found[0][0], found[0][4]


class Datagrams:
    """Every output that is configured.

    Args:
        config: `live_link`, `osc` and `vmc` are read.

    Raises:
        TransportError: a target is no address.
    """

    def __init__(self, config: ServeConfig) -> None:
        """Open a socket for each target."""
        face = LiveLinkFace(config.live_link.subject)
        prefix = re.sub(r"[^a-z0-9_-]", "_", config.osc.subject.lower()) or "mien"

        def live_link(weights: dict[str, float], mesh: MeshFrame) -> Iterable[bytes]:
            return [face.encode(weights, mesh.world_from_head, mesh.exposure_time_ns)] if weights else []

        def plain(weights: dict[str, float], mesh: MeshFrame) -> Iterable[bytes]:
            return osc.bundles(osc.plain(prefix, weights, mesh.world_from_head, mesh.exposure_time_ns / 1e9))

        def vmc(weights: dict[str, float], mesh: MeshFrame) -> Iterable[bytes]:
            told = osc.vmc(config.vmc.subject, weights, mesh.world_from_head, mesh.exposure_time_ns / 1e9)
            return osc.bundles(told)

        wanted = (("live_link", config.live_link, live_link), ("osc", config.osc, plain), ("vmc", config.vmc, vmc))
        self._outputs: list[_Output] = []
        try:
            for name, section, packets in wanted:
                if section.target:
                    self._outputs.append(_Output(name, section, packets))
        except TransportError:
            self.close()
            raise

    def send(self, mesh: MeshFrame, topology: Topology, now_s: float) -> None:
        """Send a head to every target whose rate allows it.

        Args:
            mesh: the head; without weights nothing goes to Live Link, and poses only to the others.
            topology: names its weights.
            now_s: the present on a monotonic clock.
        """
        due = [output for output in self._outputs if output.pacer.admit(now_s)]
        if due:
            weights = {} if mesh.weights is None else by_name(topology.units, mesh.weights)
            for output in due:
                output.send(weights, mesh)

    def counters(self) -> dict[str, int]:
        """Return the packets sent and failed, by output."""
        return {
            f"packets.{what}.{output.name}": getattr(output, what)
            for output in self._outputs
            for what in ("sent", "failed")
        }

    def close(self) -> None:
        """Close the sockets."""
        for output in self._outputs:
            output.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the sockets."""
        self.close()
