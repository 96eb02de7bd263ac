"""What a building costs that stands: CPU time of a frame while nothing happens, and while its load never stays the same.

    python -m bench.standing [SHOT] [--pieces 5000] [-s key=value ...] [--frames 20]

The shot's building, whole: its events are left out, its strength is that of its materials, and its pieces are made as small as it takes to
have the number asked for. `untouched`: no event at all. `wind`: all of it is pushed sideways by up to a percent of its weight, another
share every frame, so that the lattice has to be solved in each step; none of its bonds may crack, or the bench says so.
Process CPU times of one thread, medians over frames: solver, guard and state hash; and what packing and writing the frame adds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.digest import ROOT
from pipeline.run import run
from shot.device import taichi_open
from shot.frames import FrameFolder
from shot.load import Loaded, shot_load
from shot.params import Event
from shot.results import Bonds, Fragments
from sim.collapse import Counts, Records, collapse_create
from sim.simulate import frame_arrays, frame_hash, guard
from sim.step import step

SHOTS = ROOT / "assets" / "shots"
LOWER, UPPER = (-1e4, -1e4, -1e4), (1e4, 1e4, 1e4)
WARM = 3  # frames before the clock runs
BOUNDS = {"untouched": 5.0, "wind": 150.0}  # [ms]


def main() -> None:
    """Both cases, one table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("shot", nargs="?", default="apartment_block")
    ask.add_argument("--pieces", type=int, default=5000)
    ask.add_argument("-s", dest="overrides", action="append", default=[])
    ask.add_argument("--frames", type=int, default=20)
    ask.add_argument("--cache", type=Path, default=None)
    given = ask.parse_args()
    loaded, fragments, bonds = building(given.shot, given.overrides, given.pieces, given.cache)
    taichi_open("cpu", 1)
    shot = loaded.shot
    print(f"{fragments.count} fragments, {bonds.count} bonds, {shot.fps:g} frames a second, {shot.steps_per_frame} steps each\n")
    print("| case | CPU ms a frame | greatest | packed and written | lattice solves a frame | bound | |")
    print("|---|---|---|---|---|---|---|")
    for case, bound in BOUNDS.items():
        events = wind(given.frames + WARM, loaded.shot.first) if case == "wind" else ()
        ms, written, solves, broken = frames_timed(loaded, events, fragments, bonds, given.frames)
        met = "met" if np.median(ms) < bound else "NOT met"
        note = f"; {broken} BONDS CRACKED" if broken else ""
        print(f"| {case} | {np.median(ms):.1f} | {np.max(ms):.1f} | {np.median(written):.1f} | {np.mean(solves):.1f} | {bound:g} "
              f"| {met}{note} |", flush=True)


def building(shot: str, overrides: list[str], pieces: int, cache: Path | None) -> tuple[Loaded, Fragments, Bonds]:
    """The shot's whole building in about so many pieces: their number goes with a power of their size that two tries tell."""
    base = ["events=[]", "fracture.strength_scale=1.0", *overrides]
    size, made = [1.2, 1.0], []
    while True:
        loaded = shot_load(shot, [*base, f"fracture.piece={size[len(made)]:.4g}"], SHOTS)
        with tempfile.TemporaryDirectory() as folder:
            fragments, bonds = run(loaded, None, "shatter", Path(folder), cache).results["shatter"]
        made.append(fragments.count)
        if abs(fragments.count / pieces - 1) < 0.05 or len(made) == 6:
            return loaded, fragments, bonds
        if len(made) > 1:
            power = np.clip(np.log(made[-1] / made[-2]) / np.log(size[-1] / size[-2]), -3, -0.5)
            size.append(size[-1] * (pieces / made[-1]) ** (1 / power))


def wind(frames: int, first: int) -> tuple[Event, ...]:
    """A push on everything in every frame, each another one, up to 1 % of the weight."""
    strength = np.random.default_rng(0).uniform(-0.1, 0.1, (frames, 2))
    return tuple(
        Event(kind="push", frame=first + 1 + k, frames=1, force=(float(x), 0.0, float(z)), lower=LOWER, upper=UPPER)
        for k, (x, z) in enumerate(strength)
    )


def frames_timed(
    loaded: Loaded, events: tuple[Event, ...], fragments: Fragments, bonds: Bonds, frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """CPU ms of each frame, of packing and writing it, lattice solves in it, and bonds that cracked in all."""
    shot = loaded.shot.model_copy(update={"events": events})
    c = collapse_create(shot, fragments, bonds)
    rows, arrays, moved = [], {}, True
    with tempfile.TemporaryDirectory() as folder:
        out = FrameFolder(Path(folder))
        for k in range(WARM + frames):
            c.records, c.counts, before, moved = Records(), Counts(), moved, False
            clock = time.process_time_ns()
            for _ in range(shot.steps_per_frame):
                if step(c):
                    guard(c, shot, k)
                    moved = True
            arrays = frame_arrays(c) if moved or before else arrays | {"hash": frame_hash(c)}  # as sim/simulate.py
            made = time.process_time_ns()
            out.put_frame(k, arrays)
            rows.append(((made - clock) / 1e6, (time.process_time_ns() - made) / 1e6, c.counts.solves))
    ms, written, solves = np.array(rows[WARM:]).T
    return ms, written, solves, int(np.count_nonzero(c.breakage.damage > 0))


if __name__ == "__main__":
    main()
