"""Does what breaks depend on the time step?  `python -m bench.timestep [--static] [--rounds N] [--only NAME]`

Structures on the bare solver, each at h = 1/72 s, h/2 and h/4: a bonded concrete cube that lands on an edge at 1, 3, 10 and 20 m/s; a
three-storey frame that loses a row of columns, or all; a tower of ten storeys that loses all; a reinforced portal pushed until it hinges.
Printed per run: area of broken and of hinged bonds, time of the first break, height of the centre of mass at the end, and how far h/2 and
h/4 are apart. The bar is 20 %.
What breaks near its threshold is chance, and a portal has six bonds that can: a cube is dropped at sixteen tilts, the portal pressed
with eight loads, frames and the tower fall under six gravities within 3 %, and their figures are means.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import product

import numpy as np

from shot.device import taichi_open
from shot.params import Event, Fracture, Material, Shot, Sim
from shot.results import BOND_BROKEN, BOND_HINGED, BOND_INTACT, Bonds, Fragments
from shot.rotation import rotate
from sim.collapse import Collapse, Records, collapse_create
from sim.step import step
from sim.world import bodies_read, bodies_write, fragments_read
from tests.structures import boxes, frame

SCALES = (1, 2, 4)
TILTS = tuple(np.linspace(0.2, 0.5, 16))
LOADS = tuple(np.linspace(0.9, 1.1, 8))  # of the portal's press
GRAVITIES = tuple(np.linspace(0.97, 1.03, 6))


@dataclass(frozen=True)
class Scene:
    """A structure, what happens to it, and for how long."""

    name: str
    fragments: Fragments
    bonds: Bonds
    events: tuple[Event, ...]
    seconds: float
    speed: float = 0.0  # [m/s] downwards at the start
    tilts: tuple[float, ...] = (0.0,)  # [rad] about z, then as much about x: one run each, the figures are their means
    loads: tuple[float, ...] = (1.0,)  # factors of the pushes: likewise
    gravities: tuple[float, ...] = (1.0,)  # factors of the weight: likewise


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    broken: float  # [m2] beside what was cut
    spread: float  # [m2] standard error of that
    hinged: float  # [m2]
    first: float  # [s] nan if nothing broke
    height: float  # [m] centre of mass at the end
    clusters: float
    seconds: float  # process time


def scenes() -> list[Scene]:
    """All of them."""
    block = np.array([(i, j, k) for i in range(4) for j in range(4) for k in range(4)])
    cube = boxes(block, (0.5, 0.5, 0.5), Material(steel=0.0), ground=False, origin=(-1.0, 0.8, -1.0))
    building = frame(3, 2, 1, Material(steel=0.003), piece=0.9)
    cut = Event(kind="cut", frame=1002, lower=(-9, 0.4, -9), upper=(-3, 2.0, 9), members=("column",))
    every = Event(kind="cut", frame=1002, lower=(-9, 0.4, -9), upper=(9, 2.0, 9), members=("column",))
    tower = frame(10, 2, 2, Material(steel=0.003))
    portal = frame(1, 1, 0, Material(steel=0.01), bay=5.0, storey=3.5, piece=0.5)
    heavy = Event(kind="push", frame=1002, frames=60, upper=(9, 9, 9), lower=(-9, 3.2, -9), members=("beam",), force=(0.0, -300.0, 0.0))
    return [
        *(Scene(f"cube {v:g} m/s", *cube, (), 0.8, v, TILTS) for v in (1.0, 3.0, 10.0, 20.0)),
        Scene("frame, one row cut", *building, (cut,), 2.0, gravities=GRAVITIES),
        Scene("frame, all cut", *building, (every,), 2.0, gravities=GRAVITIES),
        Scene("ten storeys, all cut", *tower, (every,), 6.0, gravities=GRAVITIES),
        Scene("portal pressed", *portal, (heavy,), 2.5, loads=LOADS),
    ]


def start(scene: Scene, tilt: float, load: float, gravity: float, scale: int, **sim) -> Collapse:
    """The scene before its first step."""
    events = tuple(event.model_copy(update={"force": tuple(load * f for f in event.force)}) for event in scene.events)
    shot = Shot(sim=Sim(steps_scale=scale, gravity=gravity * Sim().gravity, **sim), events=events, fracture=Fracture(shrink=0.01))
    collapse = collapse_create(shot, scene.fragments, scene.bonds)
    if scene.speed:
        bodies = bodies_read(collapse.world)
        c, s = np.cos(tilt / 2), np.sin(tilt / 2)
        q = np.tile([c * c, s * c, s * s, c * s], (scene.fragments.count, 1))
        v = np.tile([0.0, -scene.speed, 0.0], (scene.fragments.count, 1))
        corner = rotate(q[0], scene.fragments.position + np.sign(scene.fragments.position - bodies.com[0]) * 0.25 - bodies.com[0])
        x = bodies.x - [0.0, bodies.x[0, 1] + corner[:, 1].min() - 0.02, 0.0]  # the lowest corner 2 cm above the ground
        bodies_write(collapse.world, x, q, v, np.zeros_like(v))
    return collapse


def run(scene: Scene, scale: int, **sim) -> Outcome:
    """Simulate one scene at one step, at all its tilts, loads and gravities."""
    clock, rows = time.process_time(), []
    for tilt, load, gravity in product(scene.tilts, scene.loads, scene.gravities):
        collapse = start(scene, tilt, load, gravity, scale, **sim)
        plan = collapse.plan
        cut = np.concatenate([np.zeros(0, int), *(t for k, t in zip(plan.kind, plan.target, strict=True) if k == "cut")])
        own = np.setdiff1d(np.arange(scene.bonds.count), cut)
        first = np.nan
        while collapse.step * collapse.h < scene.seconds - 1e-9:
            step(collapse)
            collapse.records = Records()
            if np.isnan(first) and (collapse.breakage.state[own] != BOND_INTACT).any():
                first = collapse.step * collapse.h
        area, state = scene.bonds.area[own], collapse.breakage.state[own]
        height = np.average(fragments_read(collapse.world).position[:, 1], weights=scene.fragments.mass)
        rows.append((area[state == BOND_BROKEN].sum(), area[state == BOND_HINGED].sum(), first, height, len(np.unique(collapse.label))))
    table = np.array(rows, float)
    firsts = table[~np.isnan(table[:, 2]), 2]
    broken, hinged, _, height, parts = table.mean(axis=0)
    spread = table[:, 0].std() / np.sqrt(len(table))
    return Outcome(broken, spread, hinged, firsts.mean() if len(firsts) else np.nan, height, parts, time.process_time() - clock)


def apart(a: float, b: float, floor: float) -> float:
    """Relative difference, against at least `floor`."""
    return abs(a - b) / max(abs(a), abs(b), floor)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="does what breaks depend on the time step?")
    parser.add_argument("--static", action="store_true", help="quasi-static stress instead of dynamic")
    parser.add_argument("--rounds", type=int, default=Sim().break_rounds)
    parser.add_argument("--only", default="", help="scenes whose name holds this")
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES)
    options = parser.parse_args()
    taichi_open("cpu")
    columns = ("h", 6), ("broken m2", 10), ("+-", 6), ("hinged m2", 10), ("first s", 8), ("height m", 9), ("parts", 6), ("cpu s", 6)
    print(f"{'scene':20}" + "".join(f"{name:>{width + 1}}" for name, width in columns), flush=True)
    for scene in scenes():
        if options.only not in scene.name:
            continue
        outcomes = []
        for scale in options.scales:
            o = run(scene, scale, dynamic=not options.static, break_rounds=options.rounds)
            outcomes.append(o)
            print(
                f"{scene.name:20} {'1/' + str(72 * scale):>6} {o.broken:10.3f} {o.spread:6.2f} {o.hinged:10.3f} {o.first:8.4f} "
                f"{o.height:9.3f} {o.clusters:6.1f} {o.seconds:6.1f}",
                flush=True,
            )
        if len(outcomes) > 1:
            a, b = outcomes[-2:]
            print(
                f"{'  last two apart':20} {'':6} {apart(a.broken, b.broken, 0.01):10.0%} {'':6} {apart(a.hinged, b.hinged, 0.01):10.0%} "
                f"{apart(a.first, b.first, 1 / 72):8.0%} {apart(a.height, b.height, 0.1):9.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
