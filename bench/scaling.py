"""What a contact step costs as a heap grows: CPU time, contacts and memory from a thousand to twenty thousand hulls.

    python -m bench.scaling                        1k, 2k, 5k, 10k, 20k: some CPU minutes
    python -m bench.scaling --full                 also 50k
    python -m bench.scaling --counts 1000 2000     any others

Prints a markdown table with the exponent of a fit of log time to log count. Each count runs in a fresh process, so that its peak memory
is its own; times are process CPU times of steps of 1/60 s (all threads), settings those of shot/params.py. Three states:

    collapsing   boxes at random attitudes fall on each other (the pile of bench/contact.py), 0.75 s after they were let go
    resting      a block of bricks in bond stands, nothing may sleep
    asleep       the same block once all of it sleeps as the product has it, five seconds later at most
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from bench.contact import Scene, boxes, pile, place
from pipeline.digest import ROOT

COUNTS = (1000, 2000, 5000, 10_000, 20_000)
LARGE = 50_000
H = 1 / 60
FALL, STAND, DOZE, TIMED = 45, 10, 300, 8  # steps; at most DOZE, until all sleep
STATES = ("collapsing", "resting", "asleep")


def block(n: int) -> Scene:
    """n bricks of 0.5 x 0.25 x 0.25 m in bond, as wide as deep as high, 5 mm joints."""
    high = max(1, round(n ** (1 / 3)))
    across = max(1, int(np.ceil(np.sqrt(n / high / 2))))
    along = int(np.ceil(n / high / across))  # twice as many thin sides as long ones
    i = np.arange(n)
    layer, rest = i // (across * along), i % (across * along)
    x = 0.505 * (rest % across + 0.5 * (layer % 2))
    z = 0.255 * (rest // across)
    return Scene(boxes(np.stack([x, 0.125 + 0.25 * layer, z], axis=1), np.tile([0.25, 0.125, 0.125], (n, 1))))


def measure(count: int, threads: int) -> dict[str, float]:
    """CPU ms of a step (median), contact rows of each state, and peak memory [MB] of this process."""
    from shot.device import taichi_open

    taichi_open("cpu", threads)
    import sim.solve
    from shot.params import Sim
    from sim.layout import ASLEEP
    from sim.world import Settings, World, bodies_read

    usual = Sim()
    sleepy = Settings(usual.gravity, usual.contact_iterations, usual.friction_ground, usual.sleep_speed, usual.sleep_time, usual.rolling)
    wakeful = Settings(usual.gravity, usual.contact_iterations, usual.friction_ground, 0.0, usual.sleep_time, usual.rolling)

    def run(world: World, settings: Settings, steps: int) -> float:
        ms = []
        for _ in range(steps):
            clock = time.process_time_ns()
            sim.solve.contact_step(world, H, settings)
            ms.append((time.process_time_ns() - clock) / 1e6)
        return float(np.median(ms))

    least = sim.solve.SERIAL_POINTS
    for limit in (0, least):  # compile the parallel and the serial solve
        sim.solve.SERIAL_POINTS = limit
        run(place(pile(64)), sleepy, 2)
    found: dict[str, float] = {"count": count}
    world = place(pile(count))
    run(world, sleepy, FALL)
    found |= {"collapsing": run(world, sleepy, TIMED), "collapsing_rows": world.contact_count}
    world = place(block(count))
    run(world, wakeful, STAND)
    found |= {"resting": run(world, wakeful, TIMED), "resting_rows": world.contact_count}
    for _ in range(DOZE // 10):
        if (bodies_read(world).state == ASLEEP).all():
            break
        run(world, sleepy, 10)
    found |= {"asleep": run(world, sleepy, TIMED), "asleep_rows": world.contact_count}
    found["sleepers"] = float((bodies_read(world).state == ASLEEP).mean())
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def exponent(count: list[float], value: list[float]) -> float:
    """Slope of log value over log count, least squares."""
    return float(np.polyfit(np.log(count), np.log(value), 1)[0]) if len(count) > 1 else float("nan")


def main() -> None:
    """Run all counts and print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--counts", nargs="+", type=int, default=list(COUNTS))
    ask.add_argument("--full", action="store_true", help=f"also {LARGE} hulls")
    ask.add_argument("--threads", type=int, default=1)
    ask.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.threads)))
        return
    rows = []
    for count in [*given.counts, *([LARGE] if given.full else [])]:
        print(f"{count} hulls", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "bench.scaling", "--one", str(count), "--threads", str(given.threads)]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{count} hulls: failed ({done.returncode})", flush=True)
            continue
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    print("| hulls | " + " | ".join(f"{s}: CPU ms/step (contact rows)" for s in STATES) + " | asleep share | peak memory MB |")
    print("|---" * (len(STATES) + 3) + "|")
    for r in rows:
        cells = " | ".join(f"{r[s]:.1f} ({r[s + '_rows']:.0f})" for s in STATES)
        print(f"| {r['count']} | {cells} | {r['sleepers']:.2f} | {r['memory']:.0f} |")
    count = [r["count"] for r in rows]
    fit = " | ".join(f"n^{exponent(count, [r[s] for r in rows]):.2f}" for s in STATES)
    print(f"| fit | {fit} | | |", flush=True)


if __name__ == "__main__":
    main()
