"""What a frame of guides costs: process CPU seconds by part, for a row of fragment counts, with and without dust.

Run: `python -m bench.draw [--fragments 1000 4000] [--width 960 --height 540]`. Prints one table; writes nothing. The scene is a block of
tumbling boxes over a ground, with debris and a cloud of dust; the first frame of a scene (compiling, uploading) is not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from draw_scene import bonds_of, debris_of, dust_of, fragments_of, motion_of  # noqa: E402  # pyright: ignore[reportMissingImports]

from render import draw as stage  # noqa: E402
from render.gl import GuideRenderer, context_describe  # noqa: E402
from shot import hashing  # noqa: E402
from shot.device import taichi_open  # noqa: E402
from shot.frames import FrameFolder  # noqa: E402
from shot.params import Camera, Shot  # noqa: E402

PARTS = ("frame_rows", "dust_sun", "ambient_light", "pixels_resolve", "ambient_occlusion", "ambient_irradiance", "edges", "dust_image")


def main() -> None:
    """Time each size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fragments", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--debris", type=int, default=5000)
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--height", type=int, default=540)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for count in given.fragments:
        for dusty in (False, True):
            name = f"{count}{' + dust' if dusty else ''}"
            rows[name] = frame_cost(count, given.debris, dusty, given.width, given.height, given.repeats)
    print(context_describe())
    print(f"{given.width} x {given.height}, {given.debris} debris; process CPU seconds per frame, best of {given.repeats}")
    names = list(next(iter(rows.values())))
    print("| fragments | " + " | ".join(names) + " |")
    print("|" + " --- |" * (len(names) + 1))
    for name, cost in rows.items():
        print(f"| {name} | " + " | ".join(f"{cost.get(part, 0):.3f}" for part in names) + " |")


def frame_cost(count: int, pieces: int, dusty: bool, width: int, height: int, repeats: int) -> dict[str, float]:
    """CPU seconds of a frame by part, the cheapest of the repeats."""
    index = np.arange(count)
    draw = [hashing.uniform(3, "bench", index, lane) for lane in range(6)]
    centre = np.stack([16 * (draw[0] - 0.5), 0.5 + 22 * draw[1], 12 * (draw[2] - 0.5)], 1)
    half = 0.25 + 0.4 * np.stack(draw[3:], 1)
    fragments = fragments_of(centre - half, centre + half, index % 3)
    shot = Shot(frames=3, camera=Camera(width=width, height=height, position=(26, 4, 30), target=(0, 10, 0)))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        position = np.stack([fragments.position + 0.2 * t for t in range(3)])
        motion = motion_of(place / "motion", shot.first, position)
        shed, debris = debris_of(place / "debris", shot, pieces, 24.0)
        dust = cloud(place / "dust", shot) if dusty else None
        timed: dict[str, float] = {}
        watched_parts: dict[str, Any] = dict.fromkeys(PARTS, stage)
        watched_parts |= {"draw_shadow": GuideRenderer, "draw_guides": GuideRenderer, "put_frame": FrameFolder}
        restore = [watched(owner, part, timed) for part, owner in watched_parts.items()]
        try:
            taichi_open()
            scene = stage.scene_open(shot, fragments, dust, rocks=True)
            breaks = stage.tables.Breaks(shot, fragments, bonds_of([]), motion)
            out = FrameFolder(place / "out")
            runs = []
            for _ in range(repeats + 1):
                timed.clear()
                start = time.process_time()
                out.put_frame(1002, stage.frame_arrays(shot, scene, fragments, breaks, (motion, shed, debris, dust), 1002))
                runs.append({"total": time.process_time() - start, **{part: timed.get(part, 0.0) for part in watched_parts}})
        finally:
            for undo in restore:
                undo()
    return min(runs[1:], key=lambda run: run["total"])  # the first one compiles


def cloud(folder: Path, shot: Shot):
    """A billowing cloud on 160 x 96 x 160 cells of 25 cm."""
    shape, cell = (160, 96, 160), 0.25
    coarse = [hashing.uniform(5, "bench/cloud", np.arange(12**3), lane).reshape(12, 12, 12) for lane in range(2)]
    x, y, z = np.meshgrid(*[np.linspace(0, 10.99, n) for n in shape], indexing="ij")
    i, j, k = (a.astype(int) for a in (x, y, z))
    density = coarse[0][i, j, k] * (1 - y / 11) * (np.hypot(x - 5.5, z - 5.5) < 5)
    return dust_of(folder, shot, (-20, 0, -20), cell, density * 1e-2 * cell**3)


def watched(owner, name: str, timed: dict[str, float]):
    """Add the CPU time of owner.name to timed[name]; returns what undoes it."""
    plain = getattr(owner, name)

    def timing(*args, **named):
        start = time.process_time()
        try:
            return plain(*args, **named)
        finally:
            timed[name] = timed.get(name, 0.0) + time.process_time() - start

    setattr(owner, name, timing)
    return lambda: setattr(owner, name, plain)


if __name__ == "__main__":
    main()
