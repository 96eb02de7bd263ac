"""What airborne dust costs, and how much of the air a falling slab drives out at its rim.

    python -m bench.dust --frames 40

prints process CPU milliseconds per frame of `dust` and of `upsample` on a block of 8 storeys in 1 m pieces (44 x 40 x 40 cells of
1 m), and the rim flux of a 10 m slab against v A for gaps of 0.5 to 4 cells. First frames pay for compilation and are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from neural.upsample import upsample
from shot.device import taichi_open
from shot.frames import FrameFolder
from shot.hashing import normal, uniform
from shot.params import Shot
from shot.results import Dust, Fragments, Motion, Seeds, progress_silent
from sim.dust import dust
from sim.dust_pairs import boxes_fragments, dust_seeds, shed_write

FIRST, FPS = 1001, 24.0
WEIGHTS = Path(__file__).resolve().parent.parent / "assets/weights/dust_upsampler.onnx"


def main() -> None:
    """Both measurements."""
    parser = argparse.ArgumentParser(description="Measure the dust stages.")
    parser.add_argument("--frames", type=int, default=40)
    frames = parser.parse_args().frames
    taichi_open("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch)
        for gap in (0.5, 1.0, 2.0, 4.0):
            print(f"slab 10 m, 10 m/s, gap {gap} cells: rim flux {rim_flux(path / str(gap), gap):.2f} v A")
        costs(path, frames)


def costs(path: Path, frames: int) -> None:
    """CPU per frame of the stages."""
    fragments, motion, seeds = block(path / "motion", frames)
    shot = Shot.model_validate({"frames": frames})
    ticks: list[float] = []

    def tick(_frame: int) -> None:
        ticks.append(time.process_time())

    def report(name: str) -> None:
        ms = 1e3 * np.diff(ticks)[3:]
        print(f"{name}: {ms.mean():.0f} CPU ms per frame (most {ms.max():.0f})")
        ticks.clear()

    shed = shed_write(FrameFolder(path / "shed"), seeds, shot)
    coarse = dust(shot, fragments, motion, shed, FrameFolder(path / "coarse"), shot.frame_range, tick)
    last = coarse.frame(FIRST + frames - 1)["mass"]
    print(f"{fragments.count} pieces, grid {coarse.grid['shape']}, {np.count_nonzero(last > 1e-7 * last.max())} cells with dust at the end")
    report("dust")
    for upsampler in ("advect", "network") if WEIGHTS.exists() else ("advect",):
        one = Shot.model_validate({"frames": frames, "dust": {"upsampler": upsampler}})
        upsample(one, coarse, FrameFolder(path / upsampler), one.frame_range, tick, WEIGHTS)
        report(f"upsample, {upsampler}")


def block(path: Path, frames: int) -> tuple[Fragments, Motion, Seeds]:
    """Eight storeys of 1 m slab pieces that fall 0.2 s after the start with hashed jitter, shedding dust as they part and land."""
    centre = np.array([[x, 3.0 * (s + 1), z] for s in range(8) for x in np.arange(-7.5, 8) for z in np.arange(-5.5, 6)])
    count, index, folder = len(centre), np.arange(len(centre)), FrameFolder(path)
    start = 0.2 + 0.15 * uniform(1, "bench start", index)
    rest = 0.15 + 0.17 * (centre[:, 1] - 3.0) + 0.3 * uniform(1, "bench rest", index)
    drift = np.stack([2.0 * normal(1, f"bench drift {a}", index) for a in range(2)], 1)
    turn = np.zeros((count, 4), np.float32)
    turn[:, 0] = 1.0
    for frame in range(frames):
        t = np.maximum(frame / FPS - start, 0.0)
        p = centre.copy()
        p[:, 1] = np.maximum(centre[:, 1] - 3.7 * t * t, rest)
        p[:, [0, 2]] += drift * ((centre[:, 1] - p[:, 1]) / (centre[:, 1] - rest))[:, None] ** 2
        folder.put_frame(FIRST + frame, {"position": p.astype(np.float32), "rotation": turn})
    land = start + np.sqrt((centre[:, 1] - rest) / 3.7)
    below = np.stack([centre[:, 0] + drift[:, 0], rest, centre[:, 2] + drift[:, 1]], 1)
    time_, place = np.concatenate([start, land]), np.concatenate([centre, below])
    mass = np.concatenate([np.full(count, 0.1), np.full(count, 0.6)])
    order = np.argsort(time_, kind="stable")
    seeds = dust_seeds(time_[order], place[order], np.zeros((2 * count, 3)), np.full(2 * count, 0.7), mass[order])
    return boxes_fragments(centre, np.tile([1.0, 0.2, 1.0], (count, 1))), Motion(folder), seeds


def rim_flux(path: Path, gap: float, fall: float = 10.0, frames: int = 4) -> float:
    """Air that leaves below a slab of 10 x 10 m at `gap` m above the ground, over v A; cells of 1 m."""
    centre = np.array([[0.0, gap + 0.1 + fall * (frames - 1) / FPS, 0.0]])
    fragments, folder = boxes_fragments(centre, np.array([[10.0, 0.2, 10.0]])), FrameFolder(path / "motion")
    for frame in range(frames):
        position = centre - [0.0, fall * frame / FPS, 0.0]
        folder.put_frame(FIRST + frame, {"position": position.astype(np.float32), "rotation": np.array([[1, 0, 0, 0]], np.float32)})
    shot = Shot.model_validate({"frames": frames, "dust": {"margin": 8.0, "wind": (0, 0, 0), "turbulence": 0.0}})
    none = dust_seeds(np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    shed = shed_write(FrameFolder(path / "shed"), none, shot)
    result: Dust = dust(shot, fragments, Motion(folder), shed, FrameFolder(path / "dust"), shot.frame_range, progress_silent)
    v, grid = result.frame(FIRST + frames - 1)["velocity"], result.grid
    inside = np.flatnonzero(np.abs(grid["origin"][0] + np.arange(v.shape[0]) + 0.5) < 5.0)
    a, b = inside[0], inside[-1]
    out = 0.5 * ((v[b, :, inside, 0] + v[b + 1, :, inside, 0]).sum(0) - (v[a, :, inside, 0] + v[a - 1, :, inside, 0]).sum(0)
                 + (v[inside, :, b, 2] + v[inside, :, b + 1, 2]).sum(0) - (v[inside, :, a, 2] + v[inside, :, a - 1, 2]).sum(0))
    return float(np.cumsum(out).max() / (fall * 100.0))


if __name__ == "__main__":
    main()
