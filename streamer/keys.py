"""CURVE keys of a rig: a folder of ZeroMQ certificate files.

    server.key_secret   pair of every publishing process; on publishing hosts
    server.key          its public half; on every host
    client.key_secret   pair of the subscribing processes; on subscribing hosts
    clients/*.key       public keys that may subscribe; on publishing hosts

`create_keys` makes a folder that holds all of them, which is right for one machine; for more, `add_client` makes a pair
for each further host: copy to it what it needs. Secrets that other users can read are refused.
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zmq
import zmq.auth

from streamer.errors import TransportError

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


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


def add_client(folder: Path, name: str) -> Path:
    """Make a pair for a further subscribing host, which may subscribe from the next start of the publishers on.

    Args:
        folder: the rig's keys.
        name: of the host: letters, digits, `-` and `_`.

    Returns:
        The folder to copy to that host as its `bus.keys_dir`.

    Raises:
        TransportError: the folder holds no keys of a rig, the name is taken or cannot be a file name.
    """
    if not (folder / "server.key_secret").is_file():
        raise TransportError(f"{folder} holds no keys of a rig; run: mien keys make {folder}")
    if not _NAME.fullmatch(name):
        raise TransportError(f"{name!r}: the name of a host has letters, digits, - and _")
    if (folder / "clients" / f"{name}.key").exists():
        raise TransportError(f"{folder} has a client {name!r} already; rotate, or choose another name")
    _make_clients(folder, [name])
    return _parcel(folder, name)


def rotate_keys(folder: Path, now_s: float) -> Path:
    """Replace every key of a rig by a new one; what runs goes on with the old ones until it is started again.

    Args:
        folder: the rig's keys.
        now_s: CLOCK_REALTIME, s: names the folder of the old ones.

    Returns:
        Where the old ones are now; remove it when nobody needs them.

    Raises:
        TransportError: the folder holds no keys of a rig.
    """
    if not (folder / "server.key_secret").is_file():
        raise TransportError(f"{folder} holds no keys of a rig; run: mien keys make {folder}")
    names = sorted(path.stem for path in (folder / "clients").glob("*.key"))
    retired = folder / "retired" / time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_s))
    if retired.exists():
        raise TransportError(f"{folder} was rotated in this very second; wait for one")
    retired.mkdir(parents=True, mode=0o700)
    for part in ("server.key_secret", "server.key", "client.key_secret", "clients", "hosts"):
        if (folder / part).exists():
            os.replace(folder / part, retired / part)
    create_keys(folder)
    _make_clients(folder, [name for name in names if name != "client"])
    for name in names:
        if name != "client":
            _parcel(folder, name)
    return retired


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One key, without its secret."""

    name: str
    """Of its file."""
    public: str
    """Public half, Z85."""
    role: str
    """`server` (publishes), `client` (subscribes), `admitted` (may subscribe)."""
    age_days: float
    """Since it was made."""
    trouble: str = ""
    """What is wrong with it, empty if nothing is."""


def list_keys(folder: Path, now_s: float) -> list[KeyFile]:
    """Return the keys of a folder; secrets are neither returned nor told.

    Args:
        folder: the rig's keys.
        now_s: CLOCK_REALTIME, s.

    Raises:
        TransportError: there is no such folder, or no key in it.
    """
    paths = [*sorted(folder.glob("*.key_secret")), *sorted((folder / "clients").glob("*.key"))]
    if not paths:
        raise TransportError(f"{folder} holds no keys; run: mien keys make {folder}")
    found = []
    for path in paths:
        role = "admitted" if path.suffix == ".key" else "server" if path.stem == "server" else "client"
        trouble, public = "", ""
        try:
            public = (_load(path)[0] if role == "admitted" else _pair(path).public).decode()
        except TransportError as error:
            trouble = str(error)
        age_days = max(0.0, now_s - path.stat().st_mtime) / 86_400
        found.append(KeyFile(path.name, public, role, round(age_days, 2), trouble))
    return found


def _make_clients(folder: Path, names: list[str]) -> None:
    """Make pairs; the public halves go to `clients`, the secret ones to `hosts/<name>`."""
    before = os.umask(0o077)
    try:
        for name in names:
            place = folder / "hosts" / name
            place.mkdir(parents=True)
            public, secret = zmq.auth.create_certificates(place, "client")
            (folder / "clients" / f"{name}.key").write_bytes(Path(public).read_bytes())
            os.remove(public)
            os.chmod(secret, 0o600)
    finally:
        os.umask(before)


def _parcel(folder: Path, name: str) -> Path:
    """Put what a subscribing host needs together: its pair and the server's public key."""
    place = folder / "hosts" / name
    (place / "server.key").write_bytes((folder / "server.key").read_bytes())
    return place


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
) -> "ThreadAuthenticator":
    """Make a socket, before it is bound, speak CURVE and let in only those whose keys are known.

    Args:
        socket: that will be bound.
        context: the socket's.
        pair: of the server; see `load_server`.
        clients: folder of the keys that may come in.

    Returns:
        What checks them; stop it after the socket is closed and before its context ends.
    """
    from zmq.auth.thread import ThreadAuthenticator  # brings asyncio along, which is half of a process's start

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
