"""How well a preview foretells the full run: first break, direction of fall, extent of the rubble.

    python -m bench.preview [SHOT] [-s key=value ...] [--cache FOLDER]

Simulates the shot and its preview (or takes them from the store) and prints both side by side with the bounds that a previs
user may rely on: first break within 2 frames, direction of fall within 10 degrees, extent of the rubble within 15 %.
Direction: where the centre of mass went, in space; what falls straight down has none seen from above. Extent: the radius
around the building's own centre that holds 95 % of the mass. Both simulations' process CPU times are printed where they were run.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.digest import ROOT
from pipeline.preview import preview_of
from pipeline.run import run
from shot.load import Loaded, shot_load
from shot.results import BOND_BROKEN, Fragments, Motion

SHOTS = ROOT / "assets" / "shots"
FRAMES, DEGREES, SHARE = 2, 10.0, 0.15
LARGE = 0.1  # share of the bond area: by then it is coming down


@dataclass(frozen=True)
class Fall:
    """What a previs user asks of a collapse."""

    pieces: int
    first_break: int  # frame
    coming_down: int  # frame in which LARGE of the bond area is broken
    drift: np.ndarray  # (3) [m] of the centre of mass
    extent: float  # [m]
    height: float  # [m] of the rubble's 95 % quantile
    seconds: float  # CPU


def main() -> None:
    """Both runs, one table."""
    parser = argparse.ArgumentParser(description="Agreement of a preview with its full run.")
    parser.add_argument("shot", nargs="?", default="apartment_block")
    parser.add_argument("-s", dest="overrides", action="append", default=[])
    parser.add_argument("--cache", type=Path, default=None)
    options = parser.parse_args()
    loaded = shot_load(options.shot, options.overrides, SHOTS)
    full, rough = fall_of(loaded, options.cache), fall_of(preview_of(loaded)[0], options.cache)
    for name in ("pieces", "first_break", "coming_down", "extent", "height", "seconds"):
        print(f"{name:12} full {getattr(full, name):10.5g}   preview {getattr(rough, name):10.5g}")
    print(f"{'drift':12} full {full.drift.round(2)}   preview {rough.drift.round(2)}")
    turned = angle(full.drift, rough.drift)
    verdict("first break", abs(full.first_break - rough.first_break), FRAMES, "frames")
    verdict("direction of fall", turned, DEGREES, "degrees")
    verdict("extent of rubble", abs(rough.extent / full.extent - 1), SHARE, "of the full run's")


def fall_of(loaded: Loaded, cache: Path | None) -> Fall:
    """Simulate and measure."""
    begun = time.process_time()
    made = run(loaded, None, "simulate", root=cache).results
    spent = time.process_time() - begun
    (fragments, bonds), motion = made["shatter"], made["simulate"]
    return measured(fragments, np.asarray(bonds.area), motion, list(loaded.shot.frame_range), spent)


def measured(fragments: Fragments, area: np.ndarray, motion: Motion, frames: list[int], spent: float) -> Fall:
    """The figures of a motion over some frames."""
    broken = np.array([area[motion.frame(f)["bond_state"] == BOND_BROKEN].sum() for f in frames]) / area.sum()
    position = motion.frame(frames[-1])["position"].astype(float)
    start = np.average(fragments.position, axis=0, weights=fragments.mass)
    end = np.average(position, axis=0, weights=fragments.mass)
    away = np.linalg.norm((position - start)[:, [0, 2]], axis=1)
    first = [frames[int(np.argmax(broken > bound))] for bound in (0.0, LARGE)]
    return Fall(
        fragments.count, first[0], first[1], end - start, quantile(away, fragments.mass, 0.95),
        quantile(position[:, 1], fragments.mass, 0.95), spent,
    )


def quantile(value: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The value below which this share of the weight lies."""
    order = np.argsort(value)
    return float(value[order][np.searchsorted(np.cumsum(weight[order]), share * weight.sum())])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """[degrees] between two directions."""
    return float(np.degrees(np.arccos(np.clip(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12), -1, 1))))


def verdict(name: str, found: float, bound: float, unit: str) -> None:
    """One line: within or not."""
    print(f"{name}: {found:.3g} {unit} apart, {'within' if found <= bound else 'NOT within'} {bound:g}")


if __name__ == "__main__":
    main()
