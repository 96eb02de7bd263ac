"""Contact sheets: labelled tiles on one PNG.

In: pictures (arrays or PNG files) with a label each, a number of columns. Out: one PNG, tiles in reading order, labels below them.
`spread` chooses the frames of a shot's own sheet; takes of a wedge use the same tiles with their parameters as labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILES = 24  # of a shot's own sheet
TILE_WIDTH, GAP, LABEL = 320, 8, 22  # [px]
PAPER, INK = (24, 24, 26), (224, 224, 220)


def sheet_write(path: Path, tiles: Sequence[tuple[str, Path | np.ndarray]], columns: int, text: dict[str, str] | None = None) -> None:
    """Publish a sheet. Tiles keep their shape; the row is as high as its tallest. Raises ValueError if there is no tile."""
    from render.display import png_write

    if not tiles:
        raise ValueError(f"{path}: a sheet of no tiles")
    pictures = [(label, tile_of(source)) for label, source in tiles]
    columns = min(columns, len(pictures))
    rows = [pictures[k : k + columns] for k in range(0, len(pictures), columns)]
    heights = [max(picture.height for _, picture in row) + LABEL for row in rows]
    sheet = Image.new("RGB", (GAP + columns * (TILE_WIDTH + GAP), GAP + sum(heights) + GAP * len(rows)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    y = GAP
    for row, height in zip(rows, heights, strict=True):
        for k, (label, picture) in enumerate(row):
            x = GAP + k * (TILE_WIDTH + GAP)
            sheet.paste(picture, (x, y))
            draw.text((x + 2, y + picture.height + 2), shortened(label, draw, font), fill=INK, font=font)
        y += height + GAP
    png_write(path, np.asarray(sheet), text or {})


def spread(frames: Sequence[int], count: int = TILES) -> list[int]:
    """At most `count` frames, evenly over the shot, first and last among them."""
    frames = sorted(frames)
    if len(frames) <= count:
        return list(frames)
    return [frames[round(k * (len(frames) - 1) / (count - 1))] for k in range(count)]


def tile_of(source: Path | np.ndarray) -> Image.Image:
    """A picture scaled to the width of a tile."""
    if isinstance(source, np.ndarray):
        image = Image.fromarray(source)
    else:
        with Image.open(source) as opened:
            image = opened.convert("RGB")
    return image.resize((TILE_WIDTH, max(1, round(image.height * TILE_WIDTH / image.width))), Image.Resampling.LANCZOS)


def shortened(label: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """A label that fits a tile."""
    if draw.textlength(label, font=font) <= TILE_WIDTH - 4:
        return label
    while label and draw.textlength(label + "…", font=font) > TILE_WIDTH - 4:
        label = label[:-1]
    return label + "…"
