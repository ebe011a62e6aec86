"""Strict TOML to dataclasses: an unknown key, a wrong type or a value out of range is an error that names the key.

Each room keeps its section as a frozen dataclass in its own `config.py`; defaults live only there. The command line
joins the sections (`load`), applies `--set section.key=value`, and hands each process its own.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from streamer.channels import PORTS
from streamer.errors import ConfigError

Section = TypeVar("Section")

SCHEMA = 1


def limits(low: float, high: float) -> dict[str, Any]:
    """Metadata for a dataclass field whose number must lie in [low, high]."""
    return {"limits": (low, high)}


@dataclass(frozen=True, slots=True)
class BusConfig:
    """`[bus]`: where processes meet."""

    host: str = "127.0.0.1"
    """Address that publishers bind. Anything but loopback needs `keys_dir`."""
    node_port: int = field(default=PORTS["node"], metadata=limits(1, 65535))
    """TCP port of the camera node."""
    infer_port: int = field(default=PORTS["infer"], metadata=limits(1, 65535))
    """TCP port of the inference process."""
    record_port: int = field(default=PORTS["record"], metadata=limits(1, 65535))
    """TCP port of the recorder (its health)."""
    demo_port: int = field(default=PORTS["demo"], metadata=limits(1, 65535))
    """TCP port of the supervisor (its health)."""
    serve_port: int = field(default=PORTS["serve"], metadata=limits(1, 65535))
    """TCP port of the gateway's health; engines connect to those of `[serve]`."""
    control_port: int = field(default=5721, metadata=limits(0, 65535))
    """TCP port at which the recorder takes commands (`mien take start`); 0: none."""
    nodes: tuple[str, ...] = ()
    """Endpoints of camera hosts, `tcp://host:port`; empty: the local node."""
    infer: str = ""
    """Endpoint of the inference process; empty: the local one."""
    shared_memory: bool = True
    """Pixels of a node on this host go through shared memory; off: always in the message."""
    ring_slots: int = field(default=16, metadata=limits(2, 1024))
    """Frames that the shared-memory ring of each camera holds."""
    keys_dir: str = ""
    """Folder with CURVE key files; needed to bind beyond loopback."""


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """`[sync]`: how frames become frame sets."""

    match: Literal["frame_id", "time"] = "frame_id"
    """`frame_id` for triggered cameras, `time` (within the tolerance) for free-running ones."""
    tolerance_us: int = field(default=8000, metadata=limits(0, 1_000_000))
    """Largest spread of exposure times inside a set."""
    deadline_ms: float = field(default=120.0, metadata=limits(1, 60_000))
    """A set is released this long after its first member arrived, whoever is missing."""
    on_missing: Literal["omit", "freeze", "drop", "stop"] = "omit"
    """What a missing camera does to its set."""
    per_camera: Mapping[str, str] = field(default_factory=dict)
    """Camera id to its own `on_missing`."""
    min_cameras: int = field(default=3, metadata=limits(1, 256))
    """Sets with fewer members are dropped."""
    stall_ms: float = field(default=500.0, metadata=limits(1, 60_000))
    """A camera silent for this long is `stalled`: sets no longer wait for it until it speaks again."""


@dataclass(frozen=True, slots=True)
class RecordConfig:
    """`[record]`: takes on disk."""

    directory: str = "takes"
    """Folder of shows."""
    show: str = "demo"
    """Show name: a folder."""
    slate: str = "slate"
    """Slate: letters, digits, `-` and `_`."""
    roll_s: float = field(default=30.0, metadata=limits(1, 3600))
    """A new MCAP file begins after this time."""
    chunk_mb: float = field(default=1.0, metadata=limits(0.01, 64))
    """Size of an MCAP chunk: what a killed recorder can lose."""
    sync_s: float = field(default=1.0, metadata=limits(0.1, 60))
    """Period of fdatasync, done by a helper thread."""
    queue_mb: float = field(default=256.0, metadata=limits(1, 65536))
    """Memory for messages that wait for the disk; what does not fit is counted and named."""
    preroll_s: float = field(default=2.0, metadata=limits(0, 60))
    """An armed recorder keeps this much in memory; a take begins with it. Half of `queue_mb` at most."""
    timecode: Literal["system", "ltc", "none"] = "system"
    """Where timecode comes from: time of day of this machine, LTC on the audio input, or nowhere."""
    timecode_rate: str = "30"
    """Frames per second of timecode, exact: `25`, `30000/1001`."""
    drop_frame: bool = False
    """Drop-frame counting, at 30000/1001 and 60000/1001 only."""
    audio: str = ""
    """Audio input recorded with the pictures: part of its name, its number, or `default`; empty: none."""
    audio_rate_hz: int = field(default=48_000, metadata=limits(8000, 192_000))
    """Samples per second."""
    audio_channels: int = field(default=1, metadata=limits(1, 64))
    """Channels of the input; LTC, if it is asked for, is on the last."""
    osc_port: int = field(default=0, metadata=limits(0, 65535))
    """UDP port on loopback for OSC commands (`/RecordStart`); 0: none."""
    meshes: Literal["quantised", "lossless"] = "quantised"
    """How vertices are kept: on a grid of 9.8 um (within 0.005 mm, a sixth of the size), or every bit of the floats."""
    min_free_gb: float = field(default=1.0, metadata=limits(0, 1e6))
    """Recording does not start with less free space, and stops cleanly when it runs out."""


@dataclass(frozen=True, slots=True)
class DatagramConfig:
    """`[serve.live_link]`, `[serve.osc]`, `[serve.vmc]`: expression weights as UDP packets that other tools know."""

    target: str = ""
    """Where packets go, `host:port`; empty: nowhere. Live Link Face: 11111, OSC: as the receiver says, VMC: 39539."""
    max_fps: float = field(default=60.0, metadata=limits(1, 1000))
    """Heads that come sooner than this rate allows are left out."""
    subject: str = "Mien"
    """Subject name in Live Link; first part of OSC addresses, in small letters; name of the tracker in VMC."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """`[serve]`: the gateway to engines and tools."""

    live: bool = False
    """Whether `mien live` runs the gateway beside the other processes."""
    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs `token_file`, and should have TLS."""
    tcp_port: int = field(default=5750, metadata=limits(1, 65535))
    """TCP port for raw records."""
    websocket_port: int = field(default=5751, metadata=limits(1, 65535))
    """TCP port for WebSocket, a record per binary message."""
    max_clients: int = field(default=32, metadata=limits(1, 1024))
    """Clients at a time, over both ports; one more is told so and let go."""
    token_file: str = ""
    """File with a secret of at least 16 characters that each client has to say; empty: none is asked for."""
    tls_certificate: str = ""
    """PEM file with a certificate chain: both ports then speak TLS (`wss://`)."""
    tls_key: str = ""
    """PEM file with its private key."""
    filter: Literal["none", "one-euro"] = "none"
    """What calms the live head for clients: `one-euro` trades lag for calm where the head rests (docs/export.md has
    figures). Takes, the viewer and the bus keep what inference made."""
    filter_cutoff_hz: float = field(default=2.0, metadata=limits(0.01, 100))
    """Cut-off of the filter at rest; lower is calmer."""
    filter_motion_hz: float = field(default=200.0, metadata=limits(0, 100_000))
    """What a speed of 1 m/s adds to the cut-off; higher lags less in motion."""
    live_link: DatagramConfig = DatagramConfig()
    """Live Link Face packets: a stock Unreal shows the expression with no plugin of ours."""
    osc: DatagramConfig = DatagramConfig()
    """Open Sound Control: `/mien/<unit>` and the head's pose."""
    vmc: DatagramConfig = DatagramConfig()
    """Virtual Motion Capture protocol, for VTuber tools."""


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """`[live]`: the operator's console of `mien live`."""

    screen: bool = True
    """Draw the console where there is a terminal; off: lines of text only."""
    silence_s: float = field(default=20.0, metadata=limits(2, 3600))
    """A process without a heartbeat for this long is killed and started again."""
    host: str = "127.0.0.1"
    """Address at which state and metrics are told; anything but loopback needs `token_file`."""
    http_port: int = field(default=5760, metadata=limits(0, 65535))
    """TCP port of `/state` (JSON) and `/metrics` (Prometheus); 0: none."""
    token_file: str = ""
    """File with a secret of at least 16 characters that readers send as `Authorization: Bearer`; empty: none."""
    logs: str = "out/logs"
    """Folder for the log of each process and `events.jsonl`."""


def parse_section(cls: type[Section], values: Mapping[str, Any], where: str) -> Section:
    """Build a section from a TOML table.

    Args:
        cls: a frozen dataclass whose fields have defaults; nested dataclasses are sub-tables.
        values: the table.
        where: file and dotted name of the table, for messages.

    Raises:
        ConfigError: unknown key, wrong type, value not allowed or out of range.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    kwargs: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, 1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; known keys: {', '.join(sorted(fields))}"
            raise ConfigError(f"{where}.{key}: unknown key{hint}")
        kwargs[key] = _convert(hints[key], value, f"{where}.{key}")
        low, high = fields[key].metadata.get("limits", (None, None))
        if low is not None and not low <= kwargs[key] <= high:
            raise ConfigError(f"{where}.{key} = {value!r} is out of range; allowed: {low:g} to {high:g}")
    return cls(**kwargs)


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} = {value!r}: expected a table")
        return parse_section(kind, value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} = {value!r} is not allowed; one of: {', '.join(map(repr, get_args(kind)))}")
        return value
    if origin in (Union, types.UnionType):
        inner = [arg for arg in get_args(kind) if arg is not type(None)]
        return None if value is None else _convert(inner[0], value, where)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigError(f"{where} = {value!r}: expected a list")
        args = get_args(kind)
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise ConfigError(f"{where} = {value!r}: expected {len(args)} values")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        return tuple(_convert(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True)))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} = {value!r}: expected a table")
        return {str(k): _convert(get_args(kind)[1], item, f"{where}.{k}") for k, item in value.items()}
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where} = {value!r}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is absent or not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; give --config FILE, or copy the config.toml of Mien") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def load(path: Path | None, sections: Mapping[str, type[Any]], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a configuration file and build every section.

    Args:
        path: the TOML file; None: nothing but the defaults.
        sections: section name to dataclass.
        overrides: `section.key=value`, the value in TOML syntax; a bare word counts as a string.

    Returns:
        Section name to instance, defaults where the file says nothing.

    Raises:
        ConfigError: see `parse_section`; also an unknown section, schema, or a malformed override.
    """
    if overrides and path is not None:
        load(path, sections)  # what is wrong in the file is the file's; all else the overrides'
    tables = {} if path is None else read_toml(path)
    where = "--set" if overrides or path is None else path
    schema = tables.pop("schema", SCHEMA)
    if schema != SCHEMA:
        raise ConfigError(f"{where}: schema = {schema!r}, this Mien reads {SCHEMA}")
    for override in overrides:
        _apply(tables, override)
    for name in tables:
        if name not in sections:
            known = ", ".join(f"[{section}]" for section in sorted(sections))
            raise ConfigError(f"{where}: unknown section [{name}]; known: {known}")
        if not isinstance(tables[name], Mapping):
            raise ConfigError(f"{where}: {name} = {tables[name]!r} stands outside a section")
    return {name: parse_section(cls, tables.get(name, {}), f"{where}: {name}") for name, cls in sections.items()}


def _apply(tables: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise ConfigError(f"--set {override}: expected section.key=value, for example --set rig.fps=60")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = tables
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {key} is a value, not a section")
    table[keys[-1]] = value
