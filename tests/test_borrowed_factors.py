"""Factors of earlier rounds as preconditioner: the answers are those of a fresh factor, and depend on no history once it is forgotten."""

import numpy as np
import pytest

from shot.params import Material
from sim import stress
from sim.stress import Borrowed, Lattice, bond_strains, lattice_build, lattice_forget, lattice_soften, system_build, system_of, system_solve
from tests.structures import boxes

KAPPA, MU = 1.0, 72.0**2  # the dynamic form at h = impact_time: free parts stay regular


def block() -> tuple[Lattice, np.ndarray]:
    """A wall of 6 x 15 x 1 boxes on the ground, more than BORROW_LEAST, and its weight (F, 6)."""
    cells = np.array([(i, j, 0) for i in range(6) for j in range(15)])
    fragments, bonds = boxes(cells, (0.5, 0.4, 0.3), Material(steel=0.0))
    load = np.zeros((fragments.count, 6))
    load[:, 1] = -9.81 * fragments.mass
    load[:, 0] = 0.3 * 9.81 * fragments.mass
    return lattice_build(fragments, bonds), load


def solved(lattice: Lattice, load: np.ndarray, borrow: bool, guess: np.ndarray | float = 0.0) -> tuple[np.ndarray, stress.System, int]:
    """u (F, 6) of all fragments as one cluster."""
    ask = lattice, np.zeros(len(load), int), np.ones(len(load), bool), np.ones(len(lattice.a), bool), KAPPA, MU, len(load)
    system = system_of(*ask) if borrow else system_build(*ask)
    u, iterations, converged = system_solve(system, load, np.zeros_like(load) + guess, 1e-3, 60)
    assert converged.all()
    return u, system, iterations


def energy_error(system: stress.System, u: np.ndarray, exact: np.ndarray) -> float:
    """|u - exact| / |exact| in the norm of A."""
    e = u - exact
    return float(np.sqrt(np.sum(e * system.product(e)) / np.sum(exact * system.product(exact))))


def test_a_crack_is_solved_with_the_factor_from_before():
    """One bed joint lost, its neighbour softened: iterations with the stale factor stop within the tolerance 1e-3 of the energy norm,
    bonds within 1 %."""
    lattice, load = block()
    before, first, none = solved(lattice, load, borrow=True)
    assert isinstance(first.inverse, Borrowed) and first.inverse.own and none == 0
    bed = np.flatnonzero((lattice.b >= 0) & (np.abs(lattice.a - lattice.b) == 1))
    lattice_soften(lattice, bed[20:22], np.array([[0.0], [0.2]]) * lattice.whole[bed[20:22]])
    u, system, iterations = solved(lattice, load, True, before)
    assert isinstance(system.inverse, Borrowed) and not system.inverse.own and 0 < iterations <= stress.BORROW_LIMIT
    exact, fresh, _ = solved(lattice, load, borrow=False)
    assert energy_error(fresh, u, exact) < 1e-3
    bond = np.arange(len(lattice.a))
    q, wanted = (lattice.stiffness * bond_strains(lattice, bond, x) for x in (u, exact))
    assert np.linalg.norm(q - wanted) < 0.01 * np.linalg.norm(wanted)


def test_a_stale_factor_is_replaced():
    """Two thirds of all bonds gone, so that most pieces are held by inertia alone: eight iterations do not do, the answer is a factor's."""
    lattice, load = block()
    solved(lattice, load, borrow=True)
    lost = np.flatnonzero(np.arange(len(lattice.a)) % 3 > 0)
    lattice_soften(lattice, lost, np.zeros((len(lost), 6)))
    u, system, iterations = solved(lattice, load, borrow=True)
    assert iterations == stress.BORROW_LIMIT
    exact, _, _ = solved(lattice, load, borrow=False)
    np.testing.assert_allclose(u, exact, rtol=1e-7, atol=1e-9 * np.abs(exact).max())
    assert isinstance(system.inverse, Borrowed) and len(system.inverse.pool.factors.span) == 1


def test_nothing_of_the_past_is_left_once_forgotten():
    """Bits after `lattice_forget` are those of a lattice that never saw the rounds before: what a resumed run has."""
    walked, load = block()
    row = np.arange(40, 44)
    before = solved(walked, load, borrow=True)[0]
    lattice_soften(walked, row, 0.5 * walked.whole[row])
    near = solved(walked, load, True, before)[0]
    lattice_forget(walked)
    again = solved(walked, load, borrow=True)[0]
    fresh, _ = block()
    lattice_soften(fresh, row, 0.5 * fresh.whole[row])
    np.testing.assert_array_equal(again, solved(fresh, load, borrow=True)[0])
    assert not np.array_equal(near, again)


@pytest.mark.parametrize("lost", [0, 1])
def test_factors_nobody_needs_are_dropped(lost: int):
    """A pool holds no factor whose fragments all have newer ones."""
    lattice, load = block()
    for _ in range(4):
        bond = np.flatnonzero(np.arange(len(lattice.a)) % 3 > lost)
        lattice_soften(lattice, bond, np.zeros((len(bond), 6)))
        solved(lattice, load, borrow=True)
        lattice_soften(lattice, bond, lattice.whole[bond])
        solved(lattice, load, borrow=True)
    assert lattice.pool is not None
    row, factors = lattice.pool.row, lattice.pool.factors
    assert all(np.any((begin <= row) & (row < end)) for begin, end in factors.span)
    assert factors.blocks == factors.start[factors.rows] and factors.rows == sum(end - begin for begin, end in factors.span)
