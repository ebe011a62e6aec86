"""Who may connect: where the gateway listens, the secret that clients say, TLS. Checked before anything is served."""

import errno
import ipaddress
import socket
import ssl
from pathlib import Path

from streamer.config import ServeConfig
from streamer.errors import TransportError

SEND_BUFFER = 1 << 17
"""Bytes of kernel buffer per client (Linux doubles it): a few frames, so that a client is soon live after a stall."""
SHORTEST_TOKEN = 16
LONGEST_TOKEN = 1024


def address(config: ServeConfig) -> str:
    """Return the address to listen on.

    Raises:
        TransportError: it can be reached from outside, and no secret is asked for.
    """
    host = "127.0.0.1" if config.host == "localhost" else config.host.strip("[]")
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass  # a name: may be reached from outside
    if not config.token_file:
        raise TransportError(
            f"refusing to serve on {config.host!r}: anybody on the network could watch the head. Set serve.token_file "
            "(and serve.tls_certificate, serve.tls_key: a token alone does not encrypt), or set serve.host to "
            "127.0.0.1 and use, on the other machine: ssh -L PORT:127.0.0.1:PORT"
        )
    return host or "0.0.0.0"


def read_token(token_file: str, key: str) -> str:
    """Return a secret without white space around it; empty if none is asked for.

    Args:
        token_file: where it lies; empty: none is asked for.
        key: under which that is configured, as `serve.token_file`; for messages.

    Raises:
        TransportError: the file cannot be read, others can read it, or the secret is too short or not ASCII.
    """
    if not token_file:
        return ""
    path = Path(token_file)
    try:
        if path.stat().st_mode & 0o077:
            raise TransportError(f"{key} = '{path}' can be read by other users of this machine; run: chmod 600 {path}")
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TransportError(
            f"{key} = '{path}': {error}; make one: (umask 077; openssl rand -hex 16 > {path})"
        ) from error
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
        raise TransportError(
            f"{key}: the secret in {path} has {len(token)} characters, {SHORTEST_TOKEN} to {LONGEST_TOKEN} are wanted; "
            f"make one: (umask 077; openssl rand -hex 16 > {path})"
        )
    return token


def tls_context(config: ServeConfig) -> ssl.SSLContext | None:
    """Return what TLS needs, None if both ports speak plainly.

    Raises:
        TransportError: half of the pair is missing, or the files are no certificate and key.
    """
    if not config.tls_certificate and not config.tls_key:
        return None
    if not (config.tls_certificate and config.tls_key):
        raise TransportError("TLS needs both serve.tls_certificate and serve.tls_key; set the other one too")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Connections last, so tickets to resume them are of no use; and they come after the handshake, where a client that
    # reads and writes in two threads (websockets.sync over Python's ssl before 3.13) now and then hangs on them.
    context.num_tickets = 0
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise TransportError(
            f"serve.tls_certificate = '{config.tls_certificate}', serve.tls_key = '{config.tls_key}': {error}; "
            "give PEM files of one pair"
        ) from error
    return context


def listen(host: str, port: int, key: str) -> socket.socket:
    """Return a bound, listening, non-blocking socket.

    Args:
        host: address, as `address` returns it.
        port: TCP port, 0 for a free one.
        key: its name in `[serve]`, for messages.

    Raises:
        TransportError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # inherited by accepted sockets
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise TransportError(
                f"port {port} is in use ({host}): another program has it. Stop that one "
                f"(ss -ltnp 'sport = :{port}' names it), or move this one: --set serve.{key}=PORT"
            ) from error
        raise TransportError(f"cannot serve on {host}:{port}: {error}; correct [serve] in config.toml") from error
    return listener
