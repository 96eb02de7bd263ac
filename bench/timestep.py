"""Does what breaks depend on the time step?  `python -m bench.timestep [--static] [--rounds N]`

Three kinds of structure on the bare solver, each at h = 1/72 s, h/2 and h/4: a bonded concrete cube that lands on an edge at 1, 3 and 10 m/s; a
three-storey frame whose corner columns are cut; a reinforced portal pushed down until it hinges. Printed per run: area of broken and of hinged
bonds, time of the first break, height of the centre of mass at the end, and how far h/2 and h/4 are apart. The bar is 20 %.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from shot.device import taichi_open
from shot.params import Event, Fracture, Material, Shot, Sim
from shot.results import BOND_BROKEN, BOND_HINGED, Bonds, Fragments
from sim.collapse import Collapse, Records, collapse_create
from sim.step import step
from sim.world import bodies_read, bodies_write, fragments_read
from tests.structures import boxes, frame

SCALES = (1, 2, 4)


@dataclass(frozen=True)
class Scene:
    """A structure, what happens to it, and for how long."""

    name: str
    fragments: Fragments
    bonds: Bonds
    events: tuple[Event, ...]
    seconds: float
    speed: float = 0.0  # [m/s] downwards at the start
    tilt: float = 0.0  # [rad] about z, then as much about x


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    broken: float  # [m2]
    hinged: float  # [m2]
    first: float  # [s] nan if nothing broke
    height: float  # [m] centre of mass at the end
    clusters: int
    residual: float  # [J] over the greatest energy that was turned over
    seconds: float  # process time


def scenes() -> list[Scene]:
    """The three kinds, six scenes."""
    block = np.array([(i, j, k) for i in range(4) for j in range(4) for k in range(4)])
    cube = boxes(block, (0.5, 0.5, 0.5), Material(steel=0.0), ground=False, origin=(-1.0, 0.8, -1.0))
    building = frame(3, 2, 1, Material(steel=0.01), piece=0.9)
    cut = Event(kind="cut", frame=1002, lower=(-9, 0.4, -9), upper=(-3, 2.0, 9), members=("column",))
    every = Event(kind="cut", frame=1002, lower=(-9, 0.4, -9), upper=(9, 2.0, 9), members=("column",))
    portal = frame(1, 1, 0, Material(steel=0.01), bay=5.0, storey=3.5, piece=0.5)
    heavy = Event(kind="push", frame=1002, frames=60, upper=(9, 9, 9), lower=(-9, 3.2, -9), members=("beam",), force=(0.0, -200.0, 0.0))
    return [
        *(Scene(f"cube {v} m/s", *cube, (), 0.8, speed=v, tilt=0.35) for v in (1.0, 3.0, 10.0)),
        Scene("frame, one row cut", *building, (cut,), 2.0),
        Scene("frame, all cut", *building, (every,), 2.0),
        Scene("portal pressed", *portal, (heavy,), 1.5),
    ]


def start(scene: Scene, scale: int, **sim) -> Collapse:
    """The scene before its first step."""
    shot = Shot(sim=Sim(steps_scale=scale, **sim), events=scene.events, fracture=Fracture(shrink=0.01))
    collapse = collapse_create(shot, scene.fragments, scene.bonds)
    if scene.speed:
        bodies = bodies_read(collapse.world)
        c, s = np.cos(scene.tilt / 2), np.sin(scene.tilt / 2)
        q = np.tile([c * c, s * c, s * s, c * s], (scene.fragments.count, 1))
        v = np.tile([0.0, -scene.speed, 0.0], (scene.fragments.count, 1))
        bodies_write(collapse.world, bodies.x, q, v, np.zeros_like(v))
    return collapse


def run(scene: Scene, scale: int, **sim) -> Outcome:
    """Simulate one scene at one step."""
    clock, collapse = time.process_time(), start(scene, scale, **sim)
    first = float("nan")
    while collapse.step * collapse.h < scene.seconds - 1e-9:
        before = collapse.breakage.state.copy()
        step(collapse)
        collapse.records = Records()
        if np.isnan(first) and (collapse.breakage.state != before).any() and collapse.step * collapse.h > 2.5 / 24:
            first = collapse.step * collapse.h
    area, state = scene.bonds.area, collapse.breakage.state
    poses = fragments_read(collapse.world)
    return Outcome(
        float(area[state == BOND_BROKEN].sum()), float(area[state == BOND_HINGED].sum()), first,
        float(np.average(poses.position[:, 1], weights=scene.fragments.mass)), len(np.unique(collapse.label)), 0.0, time.process_time() - clock,
    )


def apart(a: float, b: float, floor: float) -> float:
    """Relative difference, against at least `floor`."""
    return abs(a - b) / max(abs(a), abs(b), floor)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--static", action="store_true", help="quasi-static stress instead of dynamic")
    parser.add_argument("--rounds", type=int, default=Sim().break_rounds)
    parser.add_argument("--only", default="", help="scenes whose name holds this")
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES)
    options = parser.parse_args()
    taichi_open("cpu")
    print(f"{'scene':22} {'h':>6} {'broken m2':>10} {'hinged m2':>10} {'first s':>8} {'height m':>9} {'clusters':>8} {'cpu s':>6}", flush=True)
    for scene in scenes():
        if options.only not in scene.name:
            continue
        outcomes = []
        for scale in options.scales:
            outcome = run(scene, scale, dynamic=not options.static, break_rounds=options.rounds)
            outcomes.append(outcome)
            print(
                f"{scene.name:22} {'1/' + str(72 * scale):>6} {outcome.broken:10.3f} {outcome.hinged:10.3f} {outcome.first:8.4f} "
                f"{outcome.height:9.3f} {outcome.clusters:8d} {outcome.seconds:6.1f}",
                flush=True,
            )
        if len(outcomes) > 1:
            a, b = outcomes[-2:]
            print(
                f"{'  last two apart':22} {'':6} {apart(a.broken, b.broken, 0.01):10.0%} {apart(a.hinged, b.hinged, 0.01):10.0%} "
                f"{apart(a.first, b.first, 1 / 72):8.0%} {apart(a.height, b.height, 0.1):9.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
