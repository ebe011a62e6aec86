"""CURVE keys of a rig: a folder of ZeroMQ certificate files.

    server.key_secret   pair of every publishing process; on publishing hosts
    server.key          its public half; on every host
    client.key_secret   pair of the subscribing processes; on subscribing hosts
    clients/*.key       public keys that may subscribe; on publishing hosts

`create_keys` makes a folder that holds all of them, which is right for one machine; for more, copy to each host what it
needs. Secrets that other users can read are refused.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from streamer.errors import TransportError


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, Z85 text."""

    public: bytes
    """Public half."""
    secret: bytes
    """Secret half."""


def create_keys(folder: Path) -> None:
    """Make a folder with new server and client keys; the client may subscribe.

    Raises:
        TransportError: the folder already holds keys.
    """
    if (folder / "server.key_secret").exists():
        raise TransportError(f"{folder} already holds keys; give another folder, or remove it if the rig may lose them")
    (folder / "clients").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    before = os.umask(0o077)
    try:
        zmq.auth.create_certificates(folder, "server")
        public, _ = zmq.auth.create_certificates(folder, "client")
    finally:
        os.umask(before)
    os.replace(public, folder / "clients" / "client.key")


def load_server(folder: Path) -> tuple[KeyPair, Path]:
    """Read what a publisher needs: its pair and the folder of the keys that may subscribe.

    Raises:
        TransportError: a file is absent, not a certificate, or readable by others.
    """
    clients = folder / "clients"
    try:
        allowed = zmq.auth.load_certificates(clients)
    except (OSError, ValueError) as error:
        raise TransportError(f"{clients}: {error}; put the *.key file of each subscribing host there") from error
    if not allowed:
        raise TransportError(f"{clients} holds no *.key file, so nobody could subscribe; put those of your hosts there")
    return _pair(folder / "server.key_secret"), clients


def load_client(folder: Path) -> tuple[KeyPair, bytes]:
    """Read what a subscriber needs: its pair and the public key of the publishers.

    Raises:
        TransportError: a file is absent, not a certificate, or readable by others.
    """
    return _pair(folder / "client.key_secret"), _load(folder / "server.key")[0]


def admit_known(
    socket: zmq.Socket[bytes], context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, clients: Path
) -> ThreadAuthenticator:
    """Make a socket, before it is bound, speak CURVE and let in only those whose keys are known.

    Args:
        socket: that will be bound.
        context: the socket's.
        pair: of the server; see `load_server`.
        clients: folder of the keys that may come in.

    Returns:
        What checks them; stop it after the socket is closed and before its context ends.
    """
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    try:
        authenticator.configure_curve(domain="*", location=str(clients))
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = pair.public, pair.secret
    except zmq.ZMQError:
        authenticator.stop()
        raise
    return authenticator


def _pair(path: Path) -> KeyPair:
    public, secret = _load(path)
    if secret is None:
        raise TransportError(f"{path} holds no secret key; make new keys for this rig")
    if path.stat().st_mode & 0o077:
        raise TransportError(f"{path} can be read by other users of this machine; run: chmod 600 {path}")
    return KeyPair(public, secret)


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise TransportError(f"{path}: {error}; copy the key file of this rig there (bus.keys_dir)") from error
    if not all(key is None or len(key) == 40 for key in (public, secret)):
        raise TransportError(f"{path} is not a CURVE certificate: keys have 40 characters")
    return public, secret
