"""Wedges: one shot, several values of a few parameters; labelled takes, one sheet, one table.

In: a shot, `key=a,b,c` or `key=a:b:n` (n values from a to b) per parameter. Out: in the wedge's folder a take for each combination,
`w000_key-value`, with what `demolish run` delivers; `sheet.png` with a labelled row of frames per take; `wedge.json` and
`wedge.csv` with the figures of `measure.py`. Several parameters multiply, the last one fastest; zipped they go in step.
All takes are checked before the first one runs. Takes share the store: what a parameter does not touch is made once.
A take that fails is reported with its error and the others go on; at the end FramesFailed (exit 4) names how many.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.measure import Metrics, finished, metrics
from pipeline.progress import Reporter
from pipeline.run import Run, run
from shot.errors import FramesFailed
from shot.frames import file_publish
from shot.load import Loaded

SHEET_FRAMES, SHEET_WIDTH = 4, 320  # pictures per take, pixels of each
SHOWN = ("broken", "clusters", "kinetic_peak", "rubble_extent", "rubble_height", "debris", "dust_emitted")  # columns on the console


@dataclass
class Take:
    """One combination of values, and what came of it."""

    label: str
    values: dict[str, str]  # key -> text of the value
    loaded: Loaded
    frames: list[int]
    folder: Path
    metrics: Metrics = field(default_factory=dict)
    pictures: dict[int, np.ndarray] = field(default_factory=dict)
    error: str = ""


def wedge_command(
    shot: str, overrides: Sequence[str], bundled: Path, wedges: Sequence[str], zipped: bool, preview: bool, frames: str | None,
    as_json: bool, out: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """`demolish wedge`."""
    from pipeline.command import say, table
    from pipeline.progress import reporter

    takes, folder = takes_planned(shot, overrides, bundled, wedges, zipped, preview, frames, out)
    with reporter(quiet) as told:
        for take in takes:
            take_run(take, told)
    written = wedge_write(folder, takes)
    if as_json:
        say({"folder": str(folder), "takes": [_plain(take) for take in takes], **{k: str(v) for k, v in written.items()}})
    else:
        columns = [name for name in SHOWN if any(name in take.metrics for take in takes)]
        rows = [[t.label, *(_figure(t.metrics.get(c)) for c in columns), t.error or "ok"] for t in takes]
        table(f"{folder}", ("take", *columns, ""), rows)
        print(written["sheet"])
    failed = [take.label for take in takes if take.error]
    if failed:
        raise FramesFailed(f"{len(failed)} of {len(takes)} takes failed: {', '.join(failed)}; the others are in {folder}")


def takes_planned(
    shot: str, overrides: Sequence[str], bundled: Path, wedges: Sequence[str], zipped: bool, preview: bool, frames: str | None,
    out: Path | None = None,
) -> tuple[list[Take], Path]:  # fmt: skip
    """All takes, their shots checked, and the wedge's folder. Raises UsageError and ShotError before any work."""
    from pipeline.command import loaded_frames

    axes = [wedge_parse(text) for text in wedges]
    takes = []
    for number, values in enumerate(_combined(axes, zipped)):
        asked = (*overrides, *(f"{key}={value}" for key, value in values.items()))
        loaded, wanted = loaded_frames(shot, asked, bundled, frames, preview)
        takes.append(Take(take_label(number, values), values, loaded, wanted, Path()))
    name = "_".join(["wedge", *(key for key, _ in axes)])
    folder = out or Path("runs") / takes[0].loaded.shot.name / name
    for take in takes:
        take.folder = folder / take.label
    return takes, folder


def wedge_parse(text: str) -> tuple[str, list[str]]:
    """Key and value texts of `key=a,b,c` or `key=a:b:n`; commas inside brackets and quotes belong to the value. Raises UsageError."""
    from pipeline.command import UsageError

    key, sign, raw = (part.strip() for part in text.partition("="))
    grammar = "want key=a,b,c or key=from:to:count"
    if not sign or not key or not raw:
        raise UsageError(f"--wedge {text}: {grammar}")
    number = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
    span = re.fullmatch(f"{number}:{number}:{number}", raw)
    if span:
        first, last, count = float(span[1]), float(span[2]), float(span[3])
        if count != int(count) or count < 2:
            raise UsageError(f"--wedge {text}: the count is {span[3]}: want a whole number of at least 2")
        whole = all(re.fullmatch(r"[-+]?\d+", span[k]) for k in (1, 2)) and (last - first) % (count - 1) == 0
        values = np.linspace(first, last, int(count))
        return key, [str(int(v)) if whole else repr(round(float(v), 12)) for v in values]
    values = _split(raw)
    if any(not value for value in values):
        raise UsageError(f"--wedge {text}: an empty value; {grammar}")
    return key, values


def take_label(number: int, values: dict[str, str]) -> str:
    """`w000_key-value`, usable as a folder name everywhere."""
    words = (f"{key}-{re.sub(r'[^A-Za-z0-9._+-]+', '_', value).strip('_')}" for key, value in values.items())
    return f"w{number:03d}_{'_'.join(words)[:100]}"


def take_run(take: Take, reporter: Reporter) -> None:
    """Run one take; an error becomes part of it."""
    reporter.line(take.label)
    try:
        done = run(take.loaded, take.frames, "deliver", take.folder, reporter=reporter)
        take.metrics = metrics(done)
        take.pictures = _pictures(done)
    except Exception as error:  # one take must not stop the others, whatever it is
        take.error = f"{type(error).__name__}: {error}"
        reporter.line(f"{take.label}: {take.error}")


def wedge_write(folder: Path, takes: Sequence[Take]) -> dict[str, Path]:
    """Table and sheet of a wedge: wedge.json, wedge.csv, sheet.png."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = list(takes[0].values)
    figures = sorted({name for take in takes for name, value in take.metrics.items() if not isinstance(value, list)})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["take", *keys, *figures, "error"])
    for take in takes:
        writer.writerow([take.label, *take.values.values(), *(take.metrics.get(name, "") for name in figures), take.error])
    paths = {"table": folder / "wedge.csv", "figures": folder / "wedge.json", "sheet": folder / "sheet.png"}
    file_publish(paths["table"], text.getvalue().encode())
    file_publish(paths["figures"], json.dumps([_plain(take) for take in takes], indent=1, sort_keys=True).encode())
    image = io.BytesIO()
    Image.fromarray(sheet(takes)).save(image, "png")
    file_publish(paths["sheet"], image.getvalue())
    return paths


def sheet(takes: Sequence[Take]) -> np.ndarray:
    """A row per take: its label above, its frames side by side; a failed take shows its error. (H, W, 3) u8."""
    some = next((p for take in takes for p in take.pictures.values()), np.zeros((180, 320, 3), np.uint8))
    width, height, caption = SHEET_WIDTH, round(SHEET_WIDTH * some.shape[0] / some.shape[1]), 22
    columns = max(1, *(len(take.pictures) for take in takes))
    page = Image.new("RGB", (columns * (width + 4) + 4, len(takes) * (height + caption + 4) + 4), (24, 24, 24))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for row, take in enumerate(takes):
        y = row * (height + caption + 4) + 4
        label = "   ".join(f"{key} = {value}" for key, value in take.values.items())
        pen.text((8, y + 2), f"w{row:03d}   {label}", (235, 235, 235), font)
        if take.error:
            pen.text((8, y + caption + 8), take.error, (240, 110, 100), font)
        for column, (frame, picture) in enumerate(take.pictures.items()):
            x = column * (width + 4) + 4
            page.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS), (x, y + caption))
            pen.text((x + 6, y + caption + height - 20), str(frame), (255, 255, 255), font, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(page)


def _pictures(done: Run) -> dict[int, np.ndarray]:
    """A few finished frames of a take, evenly spread up to the last, (H, W, 3) u8 in the shot's own view."""
    from render.display import displayed

    output = done.shot.output
    gain = float(done.results["draw"].folder.get("static")["exposure"]) * 2.0**output.exposure
    chosen = sorted({done.frames[round(k)] for k in np.linspace(len(done.frames) - 1, 0, SHEET_FRAMES)})
    return {frame: displayed(finished(done, frame), output.view, gain) for frame in chosen}


def _combined(axes: Sequence[tuple[str, list[str]]], zipped: bool) -> list[dict[str, str]]:
    from pipeline.command import UsageError

    keys = [key for key, _ in axes]
    if len(set(keys)) < len(keys):
        raise UsageError(f"--wedge: {max(keys, key=keys.count)} is given twice")
    lengths = {len(values) for _, values in axes}
    if zipped and len(lengths) > 1:
        raise UsageError(f"--zip: {', '.join(f'{key} has {len(values)} values' for key, values in axes)}; want as many of each")
    rows = zip(*(values for _, values in axes), strict=True) if zipped else itertools.product(*(values for _, values in axes))
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _split(text: str) -> list[str]:
    """Parts between commas that stand outside brackets, braces and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in "[{") - (letter in "]}") if not quote else 0
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _plain(take: Take) -> dict[str, Any]:
    return {"take": take.label, "values": take.values, "folder": str(take.folder), "metrics": take.metrics, "error": take.error}


def _figure(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4g}"
