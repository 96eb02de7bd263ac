"""The building as built: what its bonds carry before anything happens.

In: the intact lattice and its weight. Out: displacements at rest, and per bond the strain s0 at which it carries nothing.

An elastic lattice that is loaded all at once hangs the infill on its mortar edges while the columns shorten below it, and tears them. Real
infill and panels are set into a frame that already carries itself, and peaks creep away. So bonds above `rest_load` of their
strength are relieved: their stiffness is cut to a share r until none exceeds it (the load finds other ways), and then
s0 = (1 - r) s keeps exactly that state of forces with every stiffness whole again: K u = f + S^T k s0.
Relief moves load, it cannot remove it: a structure that cannot stand stays beyond its strength and falls when time starts.
"""

from __future__ import annotations

import logging

import numpy as np

from shot.errors import SimulationFailed
from shot.params import Sim
from shot.results import Fragments
from sim.bond import Section, utilisation
from sim.stress import Lattice, bond_strains, lattice_soften, system_build, system_solve

log = logging.getLogger(__name__)
ROUNDS = 12  # of relief; a ten-storey block needs five
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
        rows = system.fragment
        u[rows], _, converged = system_solve(system, load[rows], u[rows], 0.1 * sim.stress_tolerance, 20 * sim.stress_iterations)
        if not converged.all():
            raise SimulationFailed("the structure's own weight: the stress solve does not converge; is a part held by almost nothing?")
        strain = bond_strains(lattice, bond, u)
        U, _ = utilisation(section, bond, lattice.stiffness[bond] * strain, np.ones(len(bond)))
        over = 1.02 * sim.rest_load < U
        if not over.any():
            break
        high = bond[over]
        share[high] = np.maximum(share[high] * 0.95 * sim.rest_load / U[over], LEAST)
        lattice_soften(lattice, high, section.stiffness[high] * share[high, None])
    beyond = int(np.count_nonzero(U > 1.0))
    if beyond:
        log.warning("%d bonds are beyond their strength under the structure's own weight (worst %.2f): it will not stand", beyond, U.max())
    offset = np.zeros((len(inside), 6))
    offset[bond] = (1.0 - share[bond, None]) * strain
    lattice_soften(lattice, np.flatnonzero(share < 1.0), section.stiffness[share < 1.0])
    return offset, u


def weight_of(fragments: Fragments, held: np.ndarray, gravity: float) -> np.ndarray:
    """(F, 6) weight of the fragments whose cluster holds to the ground."""
    load = np.zeros((fragments.count, 6))
    load[held, 1] = -fragments.mass[held] * gravity
    return load
