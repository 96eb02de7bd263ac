"""Sums bond by bond against the matrix, the coarse level against Z^T A Z, and what hangs together against scipy's graph."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from sim.deflation import TwoLevel
from sim.linked import lowest_linked
from sim.stress import System, lattice_build, lattice_soften, system_build
from tests.test_stress import wall

KAPPA, MU = 1.3, 5184.0


def cracked() -> tuple[System, np.ndarray]:
    """A wall in two clusters with a tenth of its bonds gone or soft, iterated, and a motion of its rows."""
    fragments, bonds = wall()
    lattice, count = lattice_build(fragments, bonds), fragments.count
    random = np.random.default_rng(1)
    some = np.flatnonzero(random.random(bonds.count) < 0.1)
    lattice_soften(lattice, some, lattice.whole[some] * random.choice([0.0, 0.3], len(some))[:, None])
    label = np.where(fragments.position[:, 0] < 10.5, 0, int(np.argmax(fragments.position[:, 0] > 10.5)))
    inside = (bonds.fragment_b < 0) | (label[bonds.fragment_a] == label[bonds.fragment_b])
    system = system_build(lattice, label, np.ones(count, bool), inside, KAPPA, MU)
    return system, random.standard_normal((count, 6))


def test_product_needs_no_matrix():
    """K u bond by bond is K u to rounding, softened and broken bonds and those to the ground included."""
    system, u = cracked()
    np.testing.assert_allclose(system.stiff(u).ravel(), system.K @ u.ravel(), rtol=0, atol=1e-12 * np.abs(system.K.data).max())


def test_coarse_level_is_that_of_the_matrix():
    """The factor of the aggregates' lattice solves Z^T A Z, which inner bonds do not enter; D^-1 inverts A's diagonal blocks."""
    system, _ = cracked()
    level = system.inverse
    assert isinstance(level, TwoLevel)
    n, count = len(level.aggregate), len(level.place)
    assert 0.1 * n < count < 0.6 * n
    A, Z = KAPPA * system.K.toarray(), np.zeros((6 * n, 6 * count))
    for i in range(n):
        A[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] += MU * system.M[i]
        x, y, z = level.lever[i]
        own = np.eye(6)
        own[:3, 3:] = [[0, z, -y], [-z, 0, x], [y, -x, 0]]
        Z[6 * i : 6 * i + 6, 6 * level.aggregate[i] : 6 * level.aggregate[i] + 6] = own
    load = np.random.default_rng(2).standard_normal((count, 6))
    wanted = np.linalg.solve(Z.T @ A @ Z, load.ravel()).reshape(-1, 6)
    np.testing.assert_allclose(level.coarse.solve(level.place, load), wanted, rtol=1e-7, atol=1e-7 * np.abs(wanted).max())
    upper = np.triu_indices(6)
    for i in range(n):
        own = np.linalg.inv(A[6 * i : 6 * i + 6, 6 * i : 6 * i + 6])
        np.testing.assert_allclose(level.diagonal[i], own[upper], rtol=0, atol=1e-10 * np.abs(own).max())


def test_components_are_named_by_their_lowest_member():
    """Random graphs of 300 nodes, thin to dense, without pairs as well."""
    random = np.random.default_rng(3)
    for pairs in (0, 60, 150, 280, 900):
        a, b = random.integers(0, 300, (2, pairs))
        _, component = connected_components(csr_matrix((np.ones(pairs), (a, b)), shape=(300, 300)), directed=False)
        lowest = np.array([np.flatnonzero(component == c)[0] for c in component])
        np.testing.assert_array_equal(lowest_linked(a, b, 300), lowest)
