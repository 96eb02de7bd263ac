"""The regression report: one static HTML file, failures first, with new, reference and difference side by side.

In: judged shots (`regress.py`). Out: index.html, pictures inline as PNG, styles inline, no script, nothing fetched from anywhere.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.measure import id_colours
from shot.frames import file_publish

if TYPE_CHECKING:
    from pipeline.regress import Check, Judged

AMPLIFIED = 8  # differences are shown this many times larger

STYLE = """
:root { color-scheme: light dark; --bad: #c62828; --good: #2e7d32; --quiet: #8886; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
.bad { color: var(--bad); } .good { color: var(--good); } .muted { opacity: .65; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15rem 1rem .15rem 0; border-bottom: 1px solid var(--quiet); }
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(560px, 1fr)); gap: .8rem 1.2rem; }
figure { margin: 0; } figcaption { padding: .1rem 0 .2rem; }
figure div { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: 3px; }
img { width: 100%; image-rendering: pixelated; display: block; }
details { margin: .5rem 0; } summary { cursor: pointer; }
"""


def report_write(folder: Path, suite: str, judged: Sequence[Judged]) -> Path:
    """Write folder/index.html and return its path."""
    ranked = sorted(judged, key=lambda j: (not j.failed, j.shot))
    failed = sum(bool(j.failed) for j in judged)
    words = f"{failed} of {len(judged)} shots differ" if failed else "all as the reference"
    verdict = f'<span class="{"bad" if failed else "good"}">{words}</span>'
    body = "".join(_section(j) for j in ranked)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(suite)}: regression</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(suite)}: {verdict}</h1>"
        f'<p class="muted">Pictures: new, reference, difference x{AMPLIFIED}.</p>{body}</body></html>\n'
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    file_publish(path, page.encode())
    return path


def _section(judged: Judged) -> str:
    failed = judged.failed
    rest = [check for check in judged.checks if check not in failed]
    word = f'<span class="bad">{len(failed)} failed</span>' if failed else '<span class="good">passed</span>'
    head = f'<h2>{html.escape(judged.shot)}: {word} <span class="muted">({html.escape(judged.grade)})</span></h2>'
    quiet = f"<details><summary>{len(rest)} that passed or are not judged</summary>{_table(rest)}{_figures(rest)}</details>" if rest else ""
    return head + _table(failed) + _figures(failed) + quiet


def _table(checks: Sequence[Check]) -> str:
    rows = "".join(
        f'<tr><td class="{_class(check)}">{html.escape(check.name)}</td>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in (check.value, check.reference, check.room))
        + "</tr>"
        for check in checks
        if check.images is None
    )
    return f"<table><tr><th>what</th><th>new</th><th>reference</th><th>room</th></tr>{rows}</table>" if rows else ""


def _figures(checks: Sequence[Check]) -> str:
    figures = []
    for check in checks:
        if check.images is None:
            continue
        new, reference = check.images
        shown = [new, reference, _difference(new, reference)]
        if check.name.endswith("/id"):
            shown[:2] = [id_colours(new), id_colours(reference)]
        row = "".join(f'<img src="data:image/png;base64,{_png(image)}" alt="">' for image in shown)
        caption = f'<b class="{_class(check)}">{html.escape(check.name)}</b> <span class="muted">{html.escape(check.value)}</span>'
        figures.append(f"<figure><figcaption>{caption}</figcaption><div>{row}</div></figure>")
    return f'<div class="shots">{"".join(figures)}</div>' if figures else ""


def _difference(new: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Absolute difference, amplified; red where the sizes differ."""
    if new.shape != reference.shape:
        return np.broadcast_to(np.array([255, 0, 0], np.uint8), new.shape)
    return np.minimum(np.abs(new.astype(np.int32) - reference) * AMPLIFIED, 255).astype(np.uint8)


def _class(check: Check) -> str:
    return "muted" if not check.judged else "good" if check.ok else "bad"


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()
