"""Figures and pictures of a finished run: what regression compares and what a wedge lists.

In: a `Run` with the results of its stages. Out: `metrics`, plain numbers and curves that a table or JSON can hold, and `pictures`,
8-bit images of the guides that are the same for the same guides. Stages that were not run are left out. Nothing here judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.run import Run
from pipeline.stages import pieces
from shot.results import BOND_BROKEN, BOND_HINGED

WHITE = 3.0  # scene-linear: brighter than a white wall in full sun
Metrics = dict[str, Any]  # name -> int, float, list of float or list of str


def metrics(run: Run) -> Metrics:
    """Figures of the run up to its last frame. Energies [J], masses [kg], lengths [m]."""
    made, last, values = run.results, run.frames[-1], {}
    if "shatter" in made:
        fragments, bonds = made["shatter"]
        values |= {"fragments": fragments.count, "bonds": bonds.count, "mass": float(fragments.mass.sum())}
    if "simulate" in made:
        values |= _collapse(made["simulate"], made["shatter"][0], range(run.shot.first, last + 1))
    if "shed" in made:
        values |= _debris(made, run.shot.first, last)
    if "dust" in made:
        emitted = float(made["dust"].frame(last)["emitted"])
        shed = float(made["shed"].until(run.shot.first, last).dust_mass.sum())
        values |= {"dust_shed": shed, "dust_emitted": emitted, "dust_per_shed": emitted / shed if shed else 0.0}
    return values


def pictures(run: Run, frames: Sequence[int]) -> dict[str, np.ndarray]:
    """Images (H, W, 3) u8 by "frame/guide". Colours are toned and coded, vectors centred on grey, ids packed into 24 bits."""
    shown: dict[str, np.ndarray] = {}
    if "draw" not in run.results:
        return shown
    for frame in frames:
        guide = run.results["draw"].frame(frame)
        dust = guide["dust"].astype(np.float32)
        images = {
            "beauty": display(_beauty(guide)),
            "solid": display(guide["solid"]),
            "dust": display(dust[..., :3]),
            "dust_alpha": _grey(dust[..., 3]),
            "normal": _centred(guide["normal"], 1.0),
            "depth": _grey(1.0 / (1.0 + 0.1 * guide["depth"].astype(np.float64))),
            "motion": _centred(np.pad(guide["motion_backward"], ((0, 0), (0, 0), (0, 1))), 16.0),
            "sun": _grey(guide["sun"]),
            "occlusion": _grey(guide["occlusion"]),
            "id": np.stack([(guide["id"].astype(np.int64) >> s & 255) for s in (0, 8, 16)], axis=-1).astype(np.uint8),
        }
        if "refine" in run.results:
            images["refined"] = display(finished(run, frame))
        shown |= {f"{frame}/{name}": image for name, image in images.items()}
    return shown


def finished(run: Run, frame: int) -> np.ndarray:
    """The finished picture of a frame, sharp: refined over beauty by mask and mix where it was refined; (H, W, 3) f32 scene-linear."""
    picture = _beauty(run.results["draw"].frame(frame))
    if "refine" not in run.results:
        return picture
    refined = run.results["refine"].frame(frame)
    share = (refined["mask"].astype(np.float32) * refined["mix"])[..., None]
    return picture * (1.0 - share) + refined["refined"].astype(np.float32) * share


def _beauty(guide: Mapping[str, np.ndarray]) -> np.ndarray:
    dust = guide["dust"].astype(np.float32)
    return guide["solid"].astype(np.float32) * (1.0 - dust[..., 3:]) + dust[..., :3]


def display(linear: np.ndarray) -> np.ndarray:
    """Scene-linear (H, W, 3) to u8: gamma 2.2 with white at WHITE. One code is 1 to 2 % of a sunlit surface's light: its shading
    by a sun two degrees on differs by more. Not a view: it must not change when a view does."""
    return _byte(np.clip(linear.astype(np.float64) / WHITE, 0.0, 1.0) ** (1.0 / 2.2))


def id_colours(packed: np.ndarray) -> np.ndarray:
    """A loud colour for each id packed into 24 bits, (H, W, 3) u8; black for background."""
    number = packed.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    mixed = number * np.uint32(2654435761)
    colour = np.stack([mixed >> s & 255 for s in (24, 16, 8)], axis=-1) // 2 + 96
    return np.where(number[..., None] == 0, 0, colour).astype(np.uint8)


def _collapse(motion: Any, fragments: Any, frames: range) -> Metrics:
    """What moved and broke: state hashes and kinetic energy of every frame, the rest of the last one."""
    hashes, kinetic, potential = [], [], []
    now: dict[str, np.ndarray] = {}
    for frame in frames:
        now = motion.frame(frame)
        hashes.append(f"{int(now['hash']):016x}")
        kinetic.append(float(now["ledger"][motion.LEDGER.index("kinetic")]))
        potential.append(float(now["ledger"][motion.LEDGER.index("potential")]))
    position = now["position"].astype(float)[: fragments.count]  # the building's, not the bodies behind them
    middle = np.average(fragments.position, axis=0, weights=fragments.mass)
    spread = np.linalg.norm((position - middle)[:, [0, 2]], axis=1)
    return {
        "hash": hashes,
        "kinetic": kinetic,
        "kinetic_peak": max(kinetic),
        "fall": potential[0] - potential[-1],
        "broken": int((now["bond_state"] == BOND_BROKEN).sum()),
        "hinged": int((now["bond_state"] == BOND_HINGED).sum()),
        "clusters": len(np.unique(now["cluster"])),
        "rubble_extent": float(np.quantile(spread, 0.95)),
        "rubble_height": float(np.quantile(position[:, 1] + 0.5 * fragments.size, 0.95)),
    }


def _debris(made: dict[str, Any], first: int, last: int) -> Metrics:
    fragments, seeds = pieces(made), made["shed"].until(first, last)
    density = (fragments.mass / fragments.volume)[seeds.source]
    mass = density * 4.0 / 3.0 * np.pi * seeds.radius.astype(float) ** 3 * seeds.weight
    values = {"debris": len(seeds.time), "debris_mass": float(mass.sum()), "shed_mass": float(seeds.event_mass.sum())}
    if "scatter" in made:
        values["debris_alive"] = int(made["scatter"].frame(last)["alive"].sum())
    return values


def _grey(value: np.ndarray) -> np.ndarray:
    return np.repeat(_byte(value.reshape(*value.shape[:2], 1).astype(np.float64)), 3, axis=-1)


def _centred(value: np.ndarray, reach: float) -> np.ndarray:
    return _byte(0.5 + 0.5 * value.astype(np.float64) / reach)


def _byte(value: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(np.nan_to_num(value, nan=1.0), 0.0, 1.0) * 255.0).astype(np.uint8)
