"""Commands by Open Sound Control over UDP, as other stage tools send them. Loopback only: OSC knows no passwords.

Addresses are those that Live Link Face and Switchboard use, so a stock console starts and stops this recorder too.
"""

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket, ParseError

from streamer.control import refusal
from streamer.errors import ConfigError, MienError, TransportError

Command = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
MAX_BYTES = 65_536
POLL_S = 0.1
HOST = "127.0.0.1"

ADDRESSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "/RecordStart": ("start", ("slate", "take", "notes")),
    "/RecordStop": ("stop", ()),
    "/Slate": ("set", ("slate",)),
    "/Take": ("set", ("take",)),
    "/TakeDescription": ("set", ("notes",)),
    "/Marker": ("mark", ("text",)),
    "/mien/status": ("status", ()),
}
"""Address to command and the names of its arguments in order."""
CONFIRM = {"start": ("/RecordStartConfirm", "take"), "stop": ("/RecordStopConfirm", "last")}


class OscServer:
    """Obeys OSC messages in a thread of its own and answers to their sender.

    Args:
        port: UDP port on loopback; 0 takes a free one.
        command: obeys a command; called in the server's thread.

    Raises:
        TransportError: the port is in use.
    """

    def __init__(self, port: int, command: Command) -> None:
        """Bind and begin to listen."""
        self._command = command
        self.refused = 0
        """Packets that were no OSC, or nothing that is known here."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((HOST, port))
        except OSError as error:
            self._socket.close()
            raise TransportError(
                f"UDP port {port} is in use: another program listens for OSC there; set record.osc_port to another"
            ) from error
        self._socket.settimeout(POLL_S)
        self.port = int(self._socket.getsockname()[1])
        """UDP port."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="osc", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                packet, sender = self._socket.recvfrom(MAX_BYTES)
            except TimeoutError:
                continue
            for address, values in self._answers(packet):
                builder = OscMessageBuilder(address)
                for value in values:
                    builder.add_arg(value)
                with suppress(OSError):  # whoever asked cannot be reached
                    self._socket.sendto(builder.build().dgram, sender)

    def _answers(self, packet: bytes) -> list[tuple[str, Sequence[str]]]:
        try:
            messages = [timed.message for timed in OscPacket(packet).messages]
        except (ParseError, ValueError, RecursionError):  # the last two: text that is none, bundles in bundles
            self.refused += 1
            return []
        return [self._obey(message.address, list(message.params)) for message in messages]

    def _obey(self, address: str, values: list[Any]) -> tuple[str, Sequence[str]]:
        try:
            if address not in ADDRESSES:
                self.refused += 1
                raise ConfigError(f"no address {address!r}; there are {', '.join(ADDRESSES)}")
            command, names = ADDRESSES[address]
            if len(values) > len(names):
                raise ConfigError(f"{address} takes at most {len(names)} values")
            status = self._command(command, dict(zip(names, values, strict=False)))
        except (MienError, OSError) as error:
            return "/mien/error", [refusal(error)]
        if command in CONFIRM:
            answer, key = CONFIRM[command]
            return answer, [str(status[key])]
        return "/mien/status", [str(status["state"]), str(status["take"])]

    def close(self) -> None:
        """Listen no more. Closing twice is allowed."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._socket.close()

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
