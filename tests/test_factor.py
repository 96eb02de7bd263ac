"""Block factors and the gradients they precondition: against dense algebra, and what is kept when others are forgotten."""

import numpy as np
import pytest
import scipy.sparse as sparse

from sim.factor import Factors, elimination_rank


def matrix(count: int, links: int, seed: int) -> tuple[sparse.bsr_matrix, np.ndarray, np.ndarray]:
    """A random positive definite block matrix whose rows begin with their diagonal block, one pair of rows linked twice; and its links."""
    random = np.random.default_rng(seed)
    a, b = random.integers(0, count, (2, links))
    a, b = np.r_[a[a != b], 0, 0], np.r_[b[a != b], 1, 1]
    block = random.standard_normal((len(a), 6, 6))
    row, column = np.r_[np.arange(count), a, b], np.r_[np.arange(count), b, a]
    data = np.concatenate([np.tile(20.0 * links / count * np.eye(6), (count, 1, 1)), block, block.transpose(0, 2, 1)])
    order = np.argsort(row, kind="stable")
    first = np.searchsorted(row[order], np.arange(count + 1)).astype(np.int32)
    shape = (6 * count, 6 * count)
    return sparse.bsr_matrix((data[order], column[order].astype(np.int32), first), shape=shape), a, b


@pytest.mark.parametrize("count", [1, 2, 60])
def test_factor_solves(count):
    """L D L^T x = f to rounding, against a dense solution of kappa K + mu M, in any order of elimination."""
    K, a, b = matrix(max(count, 2), 3 * count, 1)
    count = (len(K.indptr) - 1)
    M = np.random.default_rng(2).uniform(1.0, 2.0, count)[:, None, None] * np.eye(6)
    f = np.random.default_rng(3).standard_normal((count, 6))
    A = 0.7 * K.toarray() + 3.0 * sparse.block_diag(list(M)).toarray()
    wanted = np.linalg.solve(A, f.ravel()).reshape(-1, 6)
    for rank in (elimination_rank(count, a, b), np.arange(count)[::-1]):
        factors = Factors()
        np.testing.assert_allclose(factors.solve(factors.add(K, rank, M, 0.7, 3.0), f), wanted, rtol=1e-10, atol=1e-12)


def test_least_degree_fills_less_than_given_order():
    """On a 20 x 20 grid, multiple minimum degree leaves under half the blocks of row by row, whose band is 20 wide."""
    cell = np.arange(400).reshape(20, 20)
    a, b = np.r_[cell[:, 1:].ravel(), cell[1:].ravel()], np.r_[cell[:, :-1].ravel(), cell[:-1].ravel()]
    index = sparse.coo_matrix((np.full(len(a), -0.1), (a, b)), shape=(400, 400))
    K = sparse.bsr_matrix(sparse.kron(index + index.T + sparse.eye(400), np.eye(6)), blocksize=(6, 6))
    least, given = Factors(), Factors()
    least.add(K, elimination_rank(400, a, b))
    given.add(K, np.arange(400))
    assert given.blocks > 19 * 360 and least.blocks < 0.5 * given.blocks


def test_what_is_kept_stays():
    """Of three matrices the middle one is forgotten: the others solve as before from their new rows, and a fourth one is added behind."""
    made, factors = [matrix(count, 4 * count, count)[0] for count in (9, 14, 11, 8)], Factors()
    place = [factors.add(K, np.arange(len(K.indptr) - 1)) for K in made[:3]]
    f = [np.random.default_rng(k).standard_normal(((len(K.indptr) - 1), 6)) for k, K in enumerate(made)]
    before = [factors.solve(where, right) for where, right in zip(place, f, strict=False)]
    now = factors.keep(np.array([True, False, True]))
    assert (now[place[1]] == -1).all() and factors.rows == 20
    for k in (0, 2):
        np.testing.assert_array_equal(factors.solve(now[place[k]], f[k]), before[k])
    added = factors.add(made[3], np.arange(8))
    np.testing.assert_allclose(made[3] @ factors.solve(added, f[3]).ravel(), f[3].ravel(), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(factors.solve(now[place[2]], f[2]), before[2])


def test_gradients_stop_cluster_by_cluster():
    """Two systems side by side with a factor of one and a stale one of the other: the first takes one iteration, both end within 1e-6."""
    (one, *_), (other, *_), factors = matrix(12, 40, 5), matrix(15, 50, 6), Factors()
    stale = other.copy()
    stale.data = stale.data * np.where(np.arange(len(stale.data)) % 4 == 0, 1.5, 1.0)[:, None, None]
    stale = sparse.bsr_matrix(0.5 * (stale + stale.T), blocksize=(6, 6))
    place = np.r_[factors.add(one, np.arange(12)), factors.add(stale, np.arange(15))]
    K = sparse.bsr_matrix(sparse.block_diag([one, other]), blocksize=(6, 6))
    M, f, zero = np.zeros((27, 6, 6)), np.random.default_rng(7).standard_normal((27, 6)), np.zeros((27, 6))
    start = np.array([0, 12])
    exact = np.linalg.solve(K.toarray(), f.ravel()).reshape(-1, 6)
    u, iterations, converged = factors.gradients(place, K, M, 1.0, 0.0, start, f, zero, 1e-6, 40)
    assert converged.all() and 1 < iterations < 40
    e = (u - exact).ravel()
    assert e @ (K @ e) < 1e-11 * (exact.ravel() @ f.ravel())
    u, iterations, converged = factors.gradients(place, K, M, 1.0, 0.0, start, f, zero, 1e-6, 1)
    assert iterations == 1 and converged.tolist() == [True, False]


def test_singular_pivots_are_refused():
    """A block without any stiffness has no inverse."""
    K, *_ = matrix(4, 6, 8)
    K.data[:] = 0.0
    with pytest.raises(np.linalg.LinAlgError):
        Factors().add(K, np.arange(4))
