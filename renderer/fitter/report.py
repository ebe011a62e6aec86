"""A page about a fit: pictures beside the truth, where they differ, and how the fit went. One file, no network."""

import base64
import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from renderer.fitter.evaluate import evaluation_pictures
from renderer.fitter.finished import Finished
from renderer.fitter.metrics import psnr, ssim
from renderer.fitter.render import render_view
from renderer.fitter.run import CURVE
from streamer.progress import Report
from streamer.types import U8

PICTURES = 12
ERROR_SCALE = 4
"""Differences are shown this many times as bright."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1100px;color:#222}"
    "table{border-collapse:collapse}td,th{padding:2px 10px;text-align:left}img{image-rendering:pixelated;width:260px}"
    "svg{background:#f6f6f6;border:1px solid #ddd}figure{display:inline-block;margin:4px}"
)


def _png(rgb: U8) -> str:
    import cv2

    _, data = cv2.imencode(".png", rgb[..., ::-1])
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()


def _chart(points: list[tuple[float, float]], title: str, *, logarithmic: bool) -> str:
    """Draw one curve as SVG."""
    if len(points) < 2:
        return ""
    x = np.array([point[0] for point in points])
    y = np.array([point[1] for point in points])
    height = np.log10(np.maximum(y, 1e-12)) if logarithmic else y
    span_x, span_y = max(float(np.ptp(x)), 1e-9), max(float(np.ptp(height)), 1e-9)
    place = [
        f"{50 + 430 * (a - x.min()) / span_x:.1f},{180 - 150 * (b - height.min()) / span_y:.1f}"
        for a, b in zip(x, height, strict=True)
    ]
    labels = f'<text x="4" y="34">{y[height.argmax()]:.4g}</text><text x="4" y="184">{y[height.argmin()]:.4g}</text>'
    foot = f'<text x="50" y="202">{x.min():.0f}</text><text x="440" y="202">{x.max():.0f}</text>'
    line = f'<polyline points="{" ".join(place)}" fill="none" stroke="#06c" stroke-width="1.5"/>'
    caption = f"<figcaption>{html.escape(title)}</figcaption>"
    return f'<figure><svg width="500" height="210" font-size="11">{labels}{foot}{line}</svg>{caption}</figure>'


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
    fit, manifest = finished.fit, finished.manifest
    chosen, held_out = evaluation_pictures(fit, 3)
    figures = []
    for done, (step, camera, truth) in enumerate(chosen[:PICTURES]):
        rgb = render_view(fit, camera, step).rgb
        error = np.abs(rgb.astype(np.int16) - truth.astype(np.int16)) * ERROR_SCALE
        triple = "".join(f'<img src="{_png(p)}">' for p in (rgb, truth, np.clip(error, 0, 255).astype(np.uint8)))
        text = f"camera {camera.id}, frame {step}: {psnr(rgb, truth):.2f} dB, SSIM {ssim(rgb, truth):.3f}"
        figures.append(f"<figure>{triple}<figcaption>{html.escape(text)}</figcaption></figure>")
        report(done + 1, min(len(chosen), PICTURES))
    curve = _curve(finished.folder)
    losses = [(line["step"], line["colour"]) for line in curve if "colour" in line]
    glances = [(line["seconds"], line["psnr_db"]) for line in curve if line.get("psnr_db") is not None]
    scores = manifest["scores"] or {}
    rows = {
        "take": manifest["take"],
        "preset": manifest["preset"]["name"],
        "steps": manifest["steps"],
        "seconds": f"{manifest['seconds']:.0f}",
        "PSNR": f"{scores.get('psnr_db', float('nan')):.2f} dB",
        "SSIM": f"{scores.get('ssim', float('nan')):.3f}",
    }
    table = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows.items())
    whose = "cameras that were not trained on" if held_out else "a camera that WAS trained on: none was held out"
    page = (
        f'<!doctype html><meta charset="utf-8"><title>Fit</title><style>{STYLE}</style><h1>Radiance field</h1>'
        f"<table>{table}</table>{_chart(losses, 'colour loss by step', logarithmic=True)}"
        f"{_chart(glances, 'PSNR (dB) by seconds', logarithmic=False)}"
        f"<h2>Rendered, true, difference x{ERROR_SCALE}: {whose}</h2>{''.join(figures)}"
    )
    part = path.with_suffix(".part")
    part.write_text(page, "utf-8")
    part.replace(path)
    return path
