"""Figures as words: which lines the screen shows and how they are formatted. Pure."""

from dataclasses import dataclass
from typing import Literal

from renderer.viewer.figures import Figures, Spread

Tone = Literal["plain", "good", "warn", "bad", "dim"]

_STATE_TONES: dict[str, Tone] = {"running": "good", "starting": "warn", "degraded": "warn", "stopping": "dim"}


@dataclass(frozen=True, slots=True)
class Row:
    """A label and its value."""

    label: str
    """What it is."""
    value: str
    """Number with its unit, or `–` where nothing is known."""
    tone: Tone = "plain"
    """How it is coloured."""


@dataclass(frozen=True, slots=True)
class HudText:
    """All words on the screen but the names of the cameras."""

    source: str
    """Take name or `live bus`."""
    badge: tuple[str, Tone]
    """State of the connection."""
    identity: str
    """Frame id and timecode of what is seen."""
    headline: Row
    """Exposure to mesh, the figure that matters most."""
    headline_note: str
    """Its spread."""
    rows: tuple[Row, ...]
    """Everything else, in reading order, two columns."""
    unused: str
    """Reasons why frames made no mesh, with counts, most frequent first."""
    processes: tuple[tuple[str, Tone], ...]
    """Name of each process and how it is."""
    message: str
    """Line for the operator, empty if all is well."""
    recording: str = ""
    """That and for how long a take is being recorded, empty if none is."""


def milliseconds(value: float) -> str:
    """Format a duration in ms: one decimal below 10, whole above, seconds from 10 s on."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if abs(value) < 9.95 else f"{value:.0f} ms"


def clock(seconds: float) -> str:
    """Format a duration as a stop watch does: 1:23, from an hour on 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(value: int) -> str:
    """Format a count with thin groups of three."""
    return f"{value:,}".replace(",", " ")


def _median(spread: Spread | None) -> str:
    return "–" if spread is None else milliseconds(spread.p50)


def _note(spread: Spread | None) -> str:
    return "" if spread is None else f"p95 {milliseconds(spread.p95)}   now {milliseconds(spread.newest)}"


def _badge(figures: Figures) -> tuple[str, Tone]:
    match figures.connection:
        case "live":
            return "LIVE", "good"
        case "stale":
            return f"NO MESH FOR {figures.silent_s:.0f} s", "bad"
        case "take":
            return "TAKE", "plain"
    return "WAITING FOR A MESH", "warn"


def hud_text(figures: Figures) -> HudText:
    """Put figures into words."""
    sets, unused = figures.sets, figures.unused
    assembled = sets.get("assembled", sum(sets.values()))
    complete, partial, lost = (sets.get(name, 0) for name in ("complete", "partial", "dropped"))
    unused_total = sum(unused.values())
    reasons = sorted((-number, reason) for reason, number in unused.items() if number)
    refused = sum(figures.refused.values())
    latency = figures.exposure_to_mesh_ms
    skew = figures.skew_us
    full = figures.views == figures.cameras
    rows = [
        Row("Meshes", f"{figures.mesh_rate:.1f} /s"),
        Row("Screen", f"{figures.screen_rate:.1f} /s"),
        Row("Mesh → screen", _median(figures.mesh_to_screen_ms)),
        Row("Skew", "–" if skew is None else (f"{skew:.0f} µs" if skew < 9_950 else milliseconds(skew / 1e3))),
        Row("Views", f"{figures.views} of {figures.cameras}" if figures.views else "–", "plain" if full else "warn"),
        Row("Sets complete", f"{count(complete)} of {count(assembled)}" if sets else "–"),
        Row("Sets partial", count(partial) if sets else "–", "warn" if partial else "plain"),
        Row("Sets dropped", count(lost) if sets else "–", "warn" if lost else "plain"),
        Row("Frames unused", count(unused_total) if unused else "–"),
        Row("Camera drops", count(figures.dropped), "warn" if figures.dropped else "plain"),
    ]
    if refused:
        rows.append(Row("Refused", count(refused), "bad"))
    headline = Row("Exposure → mesh", _median(latency))
    if (
        figures.connection == "take"
    ):  # what a take does not hold would be dashes only; how fast it is drawn is not its own
        rows = [row for row in rows if row.value != "–" and row.label != "Screen"]
        if latency is None:
            headline = rows.pop(0)
    identity = "no mesh yet" if figures.frame_id is None else f"frame {figures.frame_id}"
    return HudText(
        source=figures.take or ("live bus" if figures.source == "bus" else figures.source),
        badge=_badge(figures),
        identity=f"{identity}   {figures.timecode}".rstrip(),
        headline=headline,
        headline_note=_note(latency),
        rows=tuple(rows),
        unused=" · ".join(f"{reason} {count(-number)}" for number, reason in reasons),
        processes=tuple((name, _STATE_TONES.get(state, "bad")) for name, state in figures.processes),
        message=figures.message,
        recording=f"REC {clock(figures.recorded_s)}" if figures.take else "",
    )
