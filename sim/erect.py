"""The building as built: what its bonds carry before anything happens.

In: the intact lattice and its weight. Out: displacements at rest, and per bond the strain s0 at which it carries nothing.

An elastic lattice that is loaded all at once hangs the infill on its mortar edges while the columns shorten below it, and tears them. Real
infill and panels are set into a frame that already carries itself, and peaks creep away. So bonds above `rest_load` of their
strength are relieved: their stiffness is cut to a share r until none exceeds it (the load finds other ways), and then
s0 = (1 - r) s keeps exactly that state of forces with every stiffness whole again: K u = f + S^T k s0.
P-delta is part of the state (`carry`). Relief moves load, it cannot remove it: a structure that cannot stand stays beyond its strength and
falls when time starts.
"""

from __future__ import annotations

import logging

import numpy as np

from shot.errors import SimulationFailed
from shot.params import Sim
from shot.results import Fragments
from sim.bond import Section, utilisation
from sim.stress import Lattice, System, bond_strains, lattice_soften, sway_loads, system_build, system_solve

log = logging.getLogger(__name__)
RAISE, DOUBLINGS, BISECTIONS = 1.1, 100, 20  # of the search for the safety factor: up to 1.1^100 times the weight, to 1e-7
ROUNDS = 12  # of relief; a ten-storey block needs five
SWAYS = 60  # of P-delta: enough at 0.9 of the buckling load
LEAST = 1e-3  # least share of its stiffness that a relieved bond keeps


def relief(
    lattice: Lattice, section: Section, label: np.ndarray, held: np.ndarray, inside: np.ndarray, fragments: Fragments, sim: Sim
) -> tuple[np.ndarray, np.ndarray]:
    """s0 (B, 6) and displacements (F, 6) under the structure's own weight. Raises SimulationFailed if the solver cannot find them."""
    u, share = np.zeros((fragments.count, 6)), np.ones(len(inside))
    bond = np.flatnonzero(inside & held[lattice.a])
    if not len(bond):
        return np.zeros((len(inside), 6)), u
    tied = np.isin(label, label[lattice.a[bond]])
    load = weight_of(fragments, held, sim.gravity)
    for _ in range(ROUNDS):
        system = system_build(lattice, label, tied, inside, 1.0, 0.0, sim.stress_direct)
        stable = carry(system, lattice, bond, load, u, sim)
        strain = bond_strains(lattice, bond, u)
        U, _ = utilisation(section, bond, lattice.stiffness[bond] * strain, np.ones(len(bond)))
        over = 1.02 * sim.rest_load < U
        if not over.any():
            break
        high = bond[over]
        share[high] = np.maximum(share[high] * 0.95 * sim.rest_load / U[over], LEAST)
        lattice_soften(lattice, high, section.stiffness[high] * share[high, None])
    if not stable:
        log.warning("the structure buckles under its own weight: it will not stand")
    beyond = int(np.count_nonzero(U > 1.0))
    if beyond:
        log.warning("%d bonds are beyond their strength under the structure's own weight (worst %.2f): it will not stand", beyond, U.max())
    offset = np.zeros((len(inside), 6))
    offset[bond] = (1.0 - share[bond, None]) * strain
    lattice_soften(lattice, np.flatnonzero(share < 1.0), section.stiffness[share < 1.0])
    return offset, u


def safety(
    lattice: Lattice, section: Section, label: np.ndarray, held: np.ndarray, inside: np.ndarray, fragments: Fragments, u: np.ndarray,
    sim: Sim,
) -> tuple[float, int, float]:
    """What multiple of its weight breaks the first bond, which one, and the greatest utilisation at rest; infinity and -1 where none can.

    The building was set up under its weight (`relief`, u (F, 6)); more of it finds every bond whole: q(n) = q(1) + (n - 1) dq. First order,
    so that close to buckling it breaks sooner."""
    bond = np.flatnonzero(inside & held[lattice.a])
    if not len(bond):
        return np.inf, -1, 0.0
    one, load = np.ones(len(bond)), weight_of(fragments, held, sim.gravity)
    q = lattice.stiffness[bond] * bond_strains(lattice, bond, u)
    system = system_build(lattice, label, np.isin(label, label[lattice.a[bond]]), inside, 1.0, 0.0, sim.stress_direct)
    more, rows = np.zeros_like(u), system.fragment
    more[rows], _, converged = system_solve(system, load[rows], u[rows], 0.1 * sim.stress_tolerance, 20 * sim.stress_iterations)
    if not converged.all():
        raise SimulationFailed("the structure's own weight: the stress solve does not converge; is a part held by almost nothing?")
    dq = lattice.stiffness[bond] * (bond_strains(lattice, bond, more) + lattice.offset[bond])

    def used(multiple: np.ndarray) -> np.ndarray:
        return utilisation(section, bond, q + (multiple - 1.0)[:, None] * dq, one)[0]

    low, high = one.copy(), one.copy()
    for _ in range(DOUBLINGS):
        low, high = np.where(used(high) < 1.0, high, low), np.where(used(high) < 1.0, high * RAISE, high)
    reached = used(high) >= 1.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        over = used(middle) >= 1.0
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    high = np.where(reached, high, np.inf)
    first = int(np.argmin(high))
    return float(high[first]), int(bond[first]) if reached[first] else -1, float(used(one).max())


def carry(system: System, lattice: Lattice, bond: np.ndarray, load: np.ndarray, u: np.ndarray, sim: Sim) -> bool:
    """Solve for `u` (F, 6) in place under load (F, 6) and the sway of its bonds. False if it buckles: u is then of first order."""
    rows = system.fragment

    def solved(f: np.ndarray, guess: np.ndarray) -> np.ndarray:
        answer, _, converged = system_solve(system, f[rows], guess, 0.1 * sim.stress_tolerance, 20 * sim.stress_iterations)
        if not converged.all():
            raise SimulationFailed("the structure's own weight: the stress solve does not converge; is a part held by almost nothing?")
        return answer

    first = u[rows] = solved(load, u[rows])
    for _ in range(SWAYS if sim.buckling else 0):
        last = u[rows]
        u[rows] = solved(load + sway_loads(lattice, bond, u), last)
        change = u[rows] - last
        if np.sum(change * system.product(change)) <= sim.stress_tolerance**2 * np.sum(last * load[rows]):
            return True
    u[rows] = first
    return not sim.buckling


def weight_of(fragments: Fragments, held: np.ndarray, gravity: float) -> np.ndarray:
    """(F, 6) weight of the fragments whose cluster holds to the ground."""
    load = np.zeros((fragments.count, 6))
    load[held, 1] = -fragments.mass[held] * gravity
    return load
