"""A page about a fit: pictures beside the truth, where they differ, and how the fit went. One file, no network."""

import base64
import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from renderer.fitter.chart import chart
from renderer.fitter.evaluate import evaluation_pictures
from renderer.fitter.finished import Finished
from renderer.fitter.metrics import psnr, ssim
from renderer.fitter.render import render_view
from renderer.fitter.run import CURVE
from streamer.progress import Report
from streamer.types import U8

PICTURES = 12
INSTANTS = 3
ERROR_FULL = 64
"""Differences of this many grey levels and more are brightest."""
DOTS = 120
"""Points of a curve."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1120px;padding:0 1em;color:#222}"
    "h1{margin-bottom:0}table{border-collapse:collapse;margin:1em 0}td,th{padding:3px 14px 3px 0;text-align:left}"
    "th{font-weight:600}.row{display:grid;grid-template-columns:repeat(3,1fr);gap:6px;margin:0 0 2px}"
    "img{image-rendering:pixelated;width:100%;display:block}figure{margin:0 0 18px}.head{font-weight:600}"
    "figcaption{color:#555}svg{margin:0 12px 12px 0;max-width:100%}.note{color:#555}"
)


def _png(rgb: U8) -> str:
    import cv2

    _, data = cv2.imencode(".png", rgb[..., ::-1])
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()


def _curve(folder: Path) -> list[dict[str, Any]]:
    path = folder / CURVE
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def write_report(finished: Finished, path: Path, report: Report = lambda done, total: None) -> Path:
    """Write the page.

    Args:
        finished: the fit.
        path: the HTML file.
        report: progress.

    Returns:
        The path.

    Raises:
        OSError: it cannot be written.
    """
    fit = finished.fit
    chosen, held_out = evaluation_pictures(fit, INSTANTS)
    figures = []
    for done, (step, camera, truth) in enumerate(chosen[:PICTURES]):
        rgb = render_view(fit, camera, step).rgb
        triple = "".join(f'<img src="{_png(picture)}" alt="">' for picture in (rgb, truth, error_map(rgb, truth)))
        text = f"camera {camera.id}, frame {step}: {psnr(rgb, truth):.2f} dB, SSIM {ssim(rgb, truth):.3f}"
        figures.append(f'<figure><div class="row">{triple}</div><figcaption>{html.escape(text)}</figcaption></figure>')
        report(done + 1, min(len(chosen), PICTURES))
    whose = "cameras that were not trained on" if held_out else "a camera that WAS trained on: none was held out"
    heads = "".join(
        f'<div class="head">{text}</div>' for text in ("rendered", "true", f"difference (full: {ERROR_FULL})")
    )
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Radiance field</title><style>{STYLE}</style>'
        f"<h1>Radiance field</h1>{_table(finished.manifest)}{_charts(_curve(finished.folder))}"
        f'<h2>Seen by {whose}</h2><div class="row">{heads}</div>{"".join(figures)}</html>'
    )
    part = path.with_suffix(".part")
    part.write_text(page, "utf-8")
    part.replace(path)
    return path


def error_map(rgb: U8, truth: U8) -> U8:
    """Return (H, W, 3) the mean difference of channels by colour: dark none, bright `ERROR_FULL` of 255 and more."""
    import cv2

    error = np.abs(rgb.astype(np.float32) - truth).mean(-1) * (255 / ERROR_FULL)
    coloured = cv2.applyColorMap(np.clip(error, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(coloured[..., ::-1], np.uint8)


def _charts(curve: list[dict[str, Any]]) -> str:
    """Draw the losses, and the PSNR of glances at held-out pictures."""
    names = sorted({key for line in curve for key in line} - {"step", "seconds", "loss", "psnr_db"})
    losses = {
        name: _smooth([(line["step"], line[name]) for line in curve if line.get(name, 0.0) > 0]) for name in names
    }
    glances = [(line["seconds"], line["psnr_db"]) for line in curve if line.get("psnr_db") is not None]
    return chart(losses, "losses, weighted", "step", logarithmic=True) + chart(
        {"PSNR": glances}, "PSNR of glances, dB", "seconds"
    )


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return means over stretches, at most `DOTS`: single steps see few rays and jump."""
    stretches = np.array_split(np.array(points, float), min(DOTS, len(points))) if points else []
    return [(float(one[:, 0].mean()), float(one[:, 1].mean())) for one in stretches]


def _table(manifest: dict[str, Any]) -> str:
    scores = manifest["scores"] or {}
    rows = {
        "take": manifest["take"],
        "preset": manifest["preset"]["name"],
        "held out": ", ".join(manifest["hold_out"]) or "cameras without pictures",
        "steps": f"{manifest['steps']} in {manifest['seconds']:.0f} s",
    }
    for key, label, form in (
        ("psnr_db", "PSNR", "{:.2f} dB"),
        ("masked_psnr_db", "PSNR of the person alone", "{:.2f} dB"),
        ("ssim", "SSIM", "{:.3f}"),
        ("lpips", "LPIPS", "{:.3f}"),
        ("jod", "JOD (ColorVideoVDP)", "{:.2f}"),
    ):
        if scores.get(key) is not None:
            rows[label] = form.format(scores[key])
        elif key in scores.get("without", {}):
            rows[label] = f"left out: {scores['without'][key]}"
    return (
        "<table>"
        + "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows.items())
        + "</table>"
    )
