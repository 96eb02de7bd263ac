"""Does the two-level stress solver hold on large lattices?  `python -m bench.lattice [--storeys 10 14 20]`

Bare frames under their weight, all one body, solved cold: 20 iterations of sim/stress.py beside SuperLU (scipy's `splu`), the same matrix.
Printed per size: process CPU time of either, memory of the process so far, and by how much the bond forces differ (2-norm, over all bonds).
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy.sparse.linalg import splu

from shot.device import taichi_open
from shot.params import Material
from sim.stress import Lattice, bond_strains, lattice_build, system_build, system_solve
from tests.structures import frame

ITERATIONS = 20
BAYS = {10: (8, 6), 14: (10, 8), 20: (12, 10)}


def forces(lattice: Lattice, u: np.ndarray) -> np.ndarray:
    """(B, 6) [N], [N m] of all bonds."""
    return lattice.stiffness * bond_strains(lattice, np.arange(len(lattice.a)), u)


def main() -> None:
    """Print a row for each size."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--storeys", nargs="+", type=int, choices=list(BAYS), default=list(BAYS))
    taichi_open("cpu", 1)
    print("| fragments, bonds | two levels: setting up + 20 iterations, CPU s | SuperLU | bond forces apart | MB |\n|---|---|---|---|---|")
    for turn, storeys in enumerate((10, *ask.parse_args().storeys)):  # the first compiles the kernels
        fragments, bonds = frame(storeys, *BAYS[storeys], Material(steel=0.0))
        count = fragments.count
        load = np.zeros((count, 6))
        load[:, 1] = -9.81 * fragments.mass
        lattice, clock = lattice_build(fragments, bonds), [time.process_time()]
        system = system_build(lattice, np.zeros(count, int), np.ones(count, bool), np.ones(bonds.count, bool), 1.0, 0.0)
        clock.append(time.process_time())
        u, _, _ = system_solve(system, load, np.zeros((count, 6)), 0.0, ITERATIONS)
        clock.append(time.process_time())
        exact = splu(system.K.tocsc()).solve(load.ravel()).reshape(-1, 6)
        clock.append(time.process_time())
        want = forces(lattice, exact)
        apart = np.linalg.norm(forces(lattice, u) - want) / np.linalg.norm(want)
        ours, first, direct = np.diff(clock)
        if turn:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"| {count}, {bonds.count} | {ours:.2f} + {first:.2f} | {direct:.1f} | {apart:.2%} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
