"""The parts of the screen as tables of text. Pure: functions of the state."""

import time
from collections.abc import Mapping

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from streamer.console.state import ConsoleState

GOOD, WARN, BAD, FAINT = "green", "yellow", "bold red", "bright_black"
_STATES = {"ready": GOOD, "elsewhere": GOOD, "starting": WARN, "stopping": WARN, "pause": BAD}
_WHERE = {"dropped-by-camera": "link", "dropped-in-queue": "queue"}
_WORDS = ("", "camera", "process", "state", "why", "clock")


def clock(seconds: float) -> str:
    """Return a length as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def header(state: ConsoleState) -> RenderableType:
    """Return the first line: what is being recorded, and whether all is well."""
    take = state.take
    line = Text(no_wrap=True, overflow="ellipsis")
    if take.state == "recording":
        line.append(" ● REC ", "bold white on red")
        line.append(f" {clock(take.seconds)}  {take.take.rpartition('/')[2]}", "bold")
        line.append(f"  {take.timecode}  {take.markers} marks", "")
    else:
        line.append(f" {take.state} ", "bold black on green" if take.state == "armed" else "bold black on yellow")
        line.append(f" next {take.show}/{take.slate}_T{take.number:03d}" if take.show else " no recorder", "bold")
    if take.notes:
        line.append(f"  “{take.notes}”", "italic")
    count = len(state.alarms)
    line.append("    ")
    if count:
        line.append(f"{count} alarm{'s' * (count > 1)}", BAD)
    else:
        line.append(*(("all is well", GOOD) if state.ready else ("not everything is ready yet", WARN)))
    now = time.strftime("%H:%M:%S", time.localtime(state.time_ns / 1e9))
    line.append(f"    up {clock(state.up_s)}    {now}", FAINT)
    return line


def cameras(state: ConsoleState) -> RenderableType:
    """Return a row per camera."""
    table = _table("camera", "fps", "skew us", "lost", "why", "clock", "°C")
    rates = [each.fps for each in state.cameras if each.fps]
    usual = sorted(rates)[len(rates) // 2] if rates else 0.0
    for each in state.cameras:
        lost = {why: n for why, n in each.lost.items() if n}
        good = each.fps is not None and each.fps > 0.8 * usual
        _add(
            table,
            each.name,
            Text(_number(each.fps, 1), GOOD if good else BAD if not each.fps else WARN),
            _number(each.skew_us, 0),
            Text(str(sum(lost.values())), WARN if each.lost_lately else ""),
            Text(", ".join(f"{n} {_WHERE.get(why, why)}" for why, n in lost.items()), FAINT),
            each.clock or "-",
            _number(each.temperature_c, 0),
        )
    return table if state.cameras else Text("no camera node heard yet", FAINT)


def processes(state: ConsoleState, chosen: str = "") -> RenderableType:
    """Return a row per process; `chosen` is the one that keys are for."""
    table = _table("", "process", "state", "up", "cpu %", "MB", "restarts")
    for each in state.processes:
        told = f"in {each.retry_in_s:.0f} s" if each.state == "pause" else each.state
        silent = each.age_s is not None and each.age_s > 3
        _add(
            table,
            "›" if each.name == chosen else " ",
            Text(each.name, "bold" if each.name == chosen else ""),
            Text(f"silent {each.age_s:.0f} s" if silent else told, BAD if silent else _STATES.get(each.state, "")),
            clock(each.up_s) if each.pid else "-",
            _number(each.cpu_percent, 0),
            _number(each.rss_mb, 0),
            Text(str(each.restarts), WARN if each.restarts else FAINT),
        )
    return table


def flow(state: ConsoleState) -> RenderableType:
    """Return sets, meshes, latency, engine load and what was not used."""
    flow = state.flow
    latency, network, sets = flow.latency_ms, flow.network_ms, flow.sets
    table = _pairs()
    load = "-" if flow.load is None else f"{100 * flow.load:.0f} %"
    _add(table, "meshes", f"{flow.meshes} at {_number(flow.meshes_per_s, 1)}/s from {_number(flow.views, 0)} views")
    _add(table, "latency", f"p50 {_at(latency, 'p50')}  p95 {_at(latency, 'p95')}  p99 {_at(latency, 'p99')} ms")
    _add(table, "engine", f"load {load}  network p50 {_at(network, 'p50')}  p95 {_at(network, 'p95')} ms")
    named = "  ".join(f"{sets[kind]} {kind}" for kind in ("complete", "partial", "dropped") if kind in sets)
    _add(table, "sets", f"{named or '-'}  skew p95 {_number(flow.skew_us, 0)} us")
    _add(table, "not used", _counts(flow.unused) or "nothing")
    _add(table, "of late", Text(_counts(flow.unused_lately) or "nothing", WARN if flow.unused_lately else FAINT))
    return table


def storage(state: ConsoleState) -> RenderableType:
    """Return disk, take and fit queue."""
    take = state.take
    table = _pairs()
    minutes = take.minutes_left
    left = "-" if minutes is None else f"{minutes:.0f} min" if minutes < 600 else f"{minutes / 60:.0f} h"
    style = BAD if minutes is not None and minutes < 2 else WARN if minutes is not None and minutes < 10 else ""
    rate = _number(take.disk_mb_per_s, 1)
    _add(table, "disk", Text(f"{_number(take.disk_free_gb, 1)} GB free, {rate} MB/s, {left} left", style))
    _add(table, "take", f"{take.messages} messages, lost: {_counts(take.lost) or 'nothing'}")
    _add(table, "last", take.last or "-")
    _add(table, "fits", _counts(state.fits) or "no queue")
    return table


def alarms(state: ConsoleState, most: int = 8) -> RenderableType:
    """Return a line per alarm, and what to do below it."""
    lines = []
    for each in state.alarms[:most]:
        style = BAD if each.level == "alarm" else WARN
        lines.append(Text.assemble((f"{each.what}: ", style), each.cause, (f"  → {each.remedy}", "cyan")))
    if len(state.alarms) > most:
        lines.append(Text(f"and {len(state.alarms) - most} more", FAINT))
    return Group(*lines) if lines else Text("none", FAINT)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, header_style=FAINT)
    for column in columns:
        side: JustifyMethod = "left" if column in _WORDS else "right"
        table.add_column(column, justify=side, no_wrap=True, ratio=2 if column == "why" else None)
    return table


def _pairs() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(style=FAINT, no_wrap=True, width=9)
    table.add_column(ratio=1)
    return table


def _add(table: Table, *cells: str | Text) -> None:
    """Add a row in which texts stand as they are: rich reads brackets in a plain one, of a path say, as its markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _at(values: Mapping[str, float], key: str) -> str:
    return _number(values.get(key), 0)


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {why}" for why, n in sorted(values.items(), key=lambda item: -item[1]) if n)
