"""The report of a calibration: one HTML file that needs nothing else."""

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rig.calibration.coverage import coverage, draw
from rig.calibration.diagnosis import board_places, worst_views
from rig.calibration.extrinsics import Rig
from rig.calibration.harvest import Harvest
from streamer.errors import CalibrationError
from streamer.types import F64, U8

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1d2530; }
table { border-collapse: collapse; margin: .6rem 0 1.6rem; } td, th { padding: .25rem .8rem; text-align: right; }
th { border-bottom: 2px solid #8895a7; } td:first-child, th:first-child { text-align: left; }
tr:nth-child(even) td { background: #f2f4f7; }
.problem { color: #a31515; font-weight: 600; } .warning { color: #8a5a00; }
.note { color: #4c5868; }
figure { display: inline-block; margin: .4rem; } figcaption { font-size: 13px; color: #4c5868; }
"""
WIDTH, HEIGHT = 480, 160
COLOURS = ("#1668b3", "#c2561a", "#1c8a4b", "#8d3fb0", "#a8273d", "#5c6b1e", "#0f8a93", "#7a5a3c")


def write_report(out: Path, rig: Rig, found: Harvest, result: Mapping[str, Any]) -> None:
    """Write the report.

    Args:
        out: HTML to write.
        rig: the calibration with its corners.
        found: what was seen.
        result: what `--json` prints, with `findings`.

    Raises:
        CalibrationError: it cannot be written.
    """
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Calibration</title><style>{STYLE}</style>",
        f"<h1>Calibration of {len(rig.names)} cameras</h1>",
        _summary(result),
        _findings(result),
        "<h2>Cameras</h2>",
        _cameras(result),
        "<h2>From above</h2><p>Cameras and where the board was, metres; the world's +Z points down.</p>",
        _plan(rig),
        "<h2>Errors over the session</h2><p>Root mean square of each view, px, by set.</p>",
        _sessions(rig),
        "<h2>Coverage and errors</h2><p>Red cells lack corners. Lines: errors, 30 times as long; red: thrown out.</p>",
        *(_camera(rig, found, index) for index in range(len(rig.names))),
        "<h2>Worst views</h2>",
        _table(
            ("camera", "set", "picture", "rms px"),
            [(v["camera"], v["set"], v["picture"], f"{v['rms_px']:.2f}") for v in worst_views(rig, found)],
        ),
        "</html>",
    ]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n".join(parts), "utf-8")
    except OSError as error:
        raise CalibrationError(f"{out}: cannot be written: {error}") from error


def _summary(result: Mapping[str, Any]) -> str:
    board = result["board_error_mm"]
    text = f"Reprojection error {result['rms_px']:.3f} px over {result['sets']} sets. "
    if board["rmse"] is not None:
        text += (
            f"Known distances on the board, triangulated: rmse {board['rmse']:.3f} mm, bias {board['bias']:+.3f} mm "
            f"(lengths {100 * (board['scale'] - 1):+.3f} %), from {board['distances']} distances."
        )
    return f"<p>{html.escape(text)}</p>"


def _findings(result: Mapping[str, Any]) -> str:
    lines = [(f["severity"], f["text"]) for f in result.get("findings", [])]
    lines += [("note", note) for note in result["notes"]]
    if not lines:
        return "<p>Nothing is wrong.</p>"
    items = "".join(f"<li class='{kind}'>{kind}: {html.escape(text)}</li>" for kind, text in lines)
    return f"<h2>What is wrong, and where</h2><ul>{items}</ul>"


def _cameras(result: Mapping[str, Any]) -> str:
    head = (
        "camera",
        "rms px",
        "median px",
        "fx",
        "fy",
        "cx",
        "cy",
        "lens",
        "fx ±",
        "place ± mm",
        "views",
        "wrong corners",
    )
    rows = []
    for name, one in result["cameras"].items():
        median = "-" if one["median_px"] is None else f"{one['median_px']:.3f}"
        spread = one["deviation"]
        numbers = tuple(f"{one[key]:.2f}" for key in ("fx", "fy", "cx", "cy"))
        sizes = (f"{spread['fx_px']:.2f}", f"{spread['place_mm']:.2f}", one["views"], one["wrong_corners"])
        rows.append((name, f"{one['rms_px']:.3f}", median, *numbers, one["lens"], *sizes))
    return _table(head, rows)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _camera(rig: Rig, found: Harvest, index: int) -> str:
    name = rig.names[index]
    size = found.sizes[name]
    mine = rig.corners.camera == index
    pixels, off, kept = rig.corners.pixels[mine], rig.errors_px()[mine], rig.kept[mine]
    plane = rig.board.points()[:, :2]
    own = list(found.views[name].values())
    seen = coverage([d.pixels for d in own], [plane[d.ids] for d in own], size)
    tile = _arrows(draw(seen, size, []), size, pixels, off, kept)
    done, data = cv2.imencode(".png", np.ascontiguousarray(tile[..., ::-1]))
    encoded = base64.b64encode(data.tobytes() if done else b"").decode()
    caption = f"{name}: {seen.share:.0%} covered, {seen.views} views, {seen.tilted} tilted"
    image = f"<img alt='' src='data:image/png;base64,{encoded}'>"
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _arrows(tile: U8, size: tuple[int, int], pixels: F64, off: F64, kept: Any) -> U8:
    scale = tile.shape[1] / size[0]
    for place, error, good in zip(pixels, off, kept, strict=True):
        begin = (place + 0.5) * scale
        end = begin + np.clip(error, -4, 4) * 30 * scale
        colour = (225, 235, 240) if good else (255, 70, 60)
        cv2.line(tile, tuple(map(round, begin)), tuple(map(round, end)), colour, 1, cv2.LINE_AA)
    return tile


def _plan(rig: Rig) -> str:
    centres = np.stack([c.centre_world for c in rig.calibration.cameras])
    boards = board_places(rig)
    flat = np.concatenate([centres, boards])[:, [0, 2]]
    low, high = flat.min(0), flat.max(0)
    span = float(max(np.ptp(flat, axis=0).max(), 0.1))
    middle = (low + high) / 2

    def put(p: F64) -> tuple[float, float]:
        return 200 + 324 * (p[0] - middle[0]) / span, 200 + 324 * (p[2] - middle[1]) / span

    marks = "".join(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2' fill='#9aa7b5'/>" for x, y in map(put, boards))
    for index, camera in enumerate(rig.calibration.cameras):
        x, y = put(camera.centre_world)
        ahead = camera.centre_world + camera.camera_from_world[2, :3] * span * 0.12
        ax, ay = put(ahead)
        colour = COLOURS[index % len(COLOURS)]
        marks += (
            f"<line x1='{x:.1f}' y1='{y:.1f}' x2='{ax:.1f}' y2='{ay:.1f}' stroke='{colour}' stroke-width='2'/>"
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='{colour}'/>"
            f"<text x='{x + 7:.1f}' y='{y - 6:.1f}' font-size='12'>{html.escape(camera.id)}</text>"
        )
    return f"<svg width='420' height='420' viewBox='0 0 400 400'>{marks}</svg>"


def _sessions(rig: Rig) -> str:
    off = (rig.errors_px() ** 2).sum(1)
    lines, top = "", 1e-9
    series = []
    for index in range(len(rig.names)):
        mine = (rig.corners.camera == index) & rig.kept
        sets = np.unique(rig.corners.set[mine])
        values = [float(np.sqrt(off[mine & (rig.corners.set == k)].mean())) for k in sets]
        series.append((sets, values))
        top = max([top, *values])
    last = max(len(rig.numbers) - 1, 1)
    for index, (sets, values) in enumerate(series):
        x, y = 40 + sets / last * (WIDTH * 2 - 60), HEIGHT - 20 - np.array(values) / top * (HEIGHT - 30)
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        colour = COLOURS[index % len(COLOURS)]
        lines += f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.5'/>"
        lines += f"<text x='{50 + 90 * (index % 10)}' y='{12 + 12 * (index // 10)}' font-size='11' fill='{colour}'>"
        lines += f"{html.escape(rig.names[index])}</text>"
    axis = f"<text x='2' y='16' font-size='11'>{top:.2f}</text><text x='2' y='{HEIGHT - 20}' font-size='11'>0</text>"
    return f"<svg width='{WIDTH * 2}' height='{HEIGHT}'>{axis}{lines}</svg>"
