"""Compiled graphs on disk: found by all that they depend on, and believed only if this user's Mien wrote them.

A plan is code for a machine, so nothing is loaded that anybody else could have put there: every file carries a
keyed hash (HMAC-SHA256) of its header and its plan, and the key lies beside the plans, readable by the user alone. A
file that is cut, changed, of another version, GPU or profile, or signed with another key is not used; whoever asks
builds anew. Standard library only.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from streamer.errors import EngineError

log = logging.getLogger(__name__)

MAGIC = b"mien plan 1\n"
"""First bytes of a file; another number is another format."""
KEY_BYTES = 32
SIGNATURE_BYTES = 32
LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled graph."""

    data: bytes
    """What the engine loads: code of a machine, so only plans of one's own may be loaded."""
    inputs: Mapping[str, tuple[int, ...]]
    """Input name to static shape, float32, in the order of the file."""
    outputs: Mapping[str, tuple[int, ...]]
    """Output name to static shape, float32, in the order of the file."""


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that a plan depends on; the profile follows from the ONNX file, whose shapes are static."""

    graph: str
    """Name of the graph."""
    onnx_sha256: str
    """Of the graph as the engine gets it: shapes, which are the profile, stand in it, for TensorRT precision too."""
    runtime: str
    """Name and version of the library that runs."""
    machine: str
    """Of a GPU model, compute capability and driver: `CudaDevice.identity`; else the processor."""
    options: str
    """What the compiler is told."""

    @property
    def digest(self) -> str:
        """48 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:48]


class PlanStore:
    """A folder of plans.

    Args:
        folder: made when it is written to.
    """

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self._folder = folder

    def path(self, key: PlanKey) -> Path:
        """Where the plan of a key is kept."""
        return self._folder / f"{key.graph}-{key.digest}.plan"

    def load(self, key: PlanKey) -> Plan | None:
        """Return a plan that this user's Mien wrote for exactly this key; None if there is none."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read (%s); the plan is built again", path, error.strerror)
            return None
        try:
            return self._opened(content, key)
        except ValueError as error:
            log.warning("%s is not trusted (%s); the plan is built again", path, error)
            return None

    def _opened(self, content: bytes, key: PlanKey) -> Plan:
        """Return what a file holds.

        Raises:
            ValueError: it is not what was asked for, or not ours; says how.
        """
        if not content.startswith(MAGIC):
            raise ValueError("another format")
        signed, signature = content[:-SIGNATURE_BYTES], content[-SIGNATURE_BYTES:]
        secret = self._secret(make=False)
        if secret is None or not hmac.compare_digest(_sign(secret, signed), signature):
            raise ValueError("cut, changed, or not written here")
        start = len(MAGIC) + LENGTH_BYTES
        length = int.from_bytes(signed[len(MAGIC) : start], "big")
        header = json.loads(signed[start : start + length])
        if header["key"] != asdict(key):
            raise ValueError("made for something else")
        inputs, outputs = ({n: tuple(shape) for n, shape in header[side].items()} for side in ("inputs", "outputs"))
        return Plan(signed[start + length :], inputs, outputs)

    def save(self, key: PlanKey, plan: Plan) -> None:
        """Keep a plan: whole or not at all. A folder that cannot be written only costs the next start a build."""
        header = json.dumps({"key": asdict(key), "inputs": dict(plan.inputs), "outputs": dict(plan.outputs)}).encode()
        signed = MAGIC + len(header).to_bytes(LENGTH_BYTES, "big") + header + plan.data
        try:
            secret = self._secret(make=True)
            if secret is None:
                raise EngineError(f"{self._folder / 'key'} is not a key of this user alone; remove the folder")
            handle, partial = tempfile.mkstemp(prefix=".plan.", dir=self._folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(signed + _sign(secret, signed))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, self.path(key))
            except OSError:
                Path(partial).unlink(missing_ok=True)
                raise
        except (OSError, EngineError) as error:
            log.warning("the plan of '%s' is not kept: %s", key.graph, error)

    def forget(self, key: PlanKey) -> None:
        """Remove a plan that the engine refused."""
        self.path(key).unlink(missing_ok=True)

    def _secret(self, *, make: bool) -> bytes | None:
        """Return the key of the signatures; None if there is none, or others may read or have written it."""
        path = self._folder / "key"
        if make:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_secret(path)
        try:
            state = path.stat(follow_symlinks=False)
            content = path.read_bytes()
        except OSError:
            return None
        own = state.st_uid == os.geteuid() and not state.st_mode & 0o077
        return content if own and len(content) == KEY_BYTES else None

    def _make_secret(self, path: Path) -> None:
        """Write a key if there is none; of several processes at once, one wins and all use its key."""
        if path.exists():
            return
        handle, partial = tempfile.mkstemp(prefix=".key.", dir=self._folder)  # readable by the user alone
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            try:
                os.link(partial, path)
            except FileExistsError:
                log.debug("another process made %s", path)
        finally:
            Path(partial).unlink(missing_ok=True)


def _sign(secret: bytes, signed: bytes) -> bytes:
    return hmac.new(secret, signed, hashlib.sha256).digest()
