# pyright: basic, reportInvalidTypeForm=false
"""Sparse factors of symmetric matrices of 6x6 blocks, A = L D L^T with D block diagonal, and conjugate gradients that they precondition.

In: the rows of A = kappa K + mu M as blocks in compressed rows, in the order in which they shall be eliminated (`elimination_rank`).
Out: Factors, one or several in a row, which solve exactly what they were made of and approximately what has changed little since.

    D_j = A_jj - sum_k L_jk D_k L_jk^T,   L_ij = (A_ij - sum_k L_ik D_k L_jk^T) D_j^-1,   k over the columns that reach row j
Left-looking by block columns; elimination tree and pattern by walks up the tree (Davis, Direct Methods for Sparse Linear Systems, 2006,
ch. 4). A product of blocks is 432 operations on 108 numbers, unrolled: 10 GFlop/s and half the work, where a general sparse LU does 2.
Breaking only takes bonds away, so one order, of least degree on the rest graph, serves all systems of a structure: what is left of it
has no more fill than the whole. Pivots are whole blocks and are not searched for: right for positive definite matrices, and for others
that stay regular. One thread, fixed order of all sums.
"""

from typing import Any

import numpy as np
import scipy.sparse as sparse
import taichi as ti
from scipy.sparse.linalg import splu

from shot.device import taichi_ready

BLOCK, SIX = ti.types.matrix(6, 6, ti.f64), ti.types.vector(6, ti.f64)
Blocks: Any = ti.types.ndarray(dtype=BLOCK, ndim=1)
Sixes: Any = ti.types.ndarray(dtype=SIX, ndim=1)
Numbers: Any = ti.types.ndarray(dtype=ti.i32, ndim=1)
Reals: Any = ti.types.ndarray(dtype=ti.f64, ndim=1)


class Factors:
    """L and D^-1 of several matrices, one behind the other; rows and blocks are counted through all of them."""

    def __init__(self):
        self.rows = self.blocks = 0  # in use
        self.span: list[tuple[int, int]] = []  # rows of each matrix
        self.start = np.zeros(1, np.int32)  # first block of each column; blocks below the diagonal lie column by column
        self.row = np.zeros(1, np.int32)  # ascending in each column
        self.lower = np.zeros((1, 6, 6))
        self.inverse = np.zeros((1, 6, 6))  # D^-1

    def keep(self, some: np.ndarray) -> np.ndarray:
        """Forget the matrices that `some` (k) bool leaves out; (rows) i32 where each row is now, or -1."""
        place, old = np.full(self.rows, -1, np.int32), self.span
        self.rows = self.blocks = 0
        self.span = []
        for begin, end in (span for span, kept in zip(old, some, strict=True) if kept):
            first, last, base, block = self.start[begin], self.start[end], self.rows, self.blocks
            self.rows, self.blocks = base + end - begin, block + int(last - first)
            if base < begin:
                self.start[base : self.rows + 1] = self.start[begin : end + 1] - (first - block)
                self.row[block : self.blocks] = self.row[first:last] - (begin - base)
                self.lower[block : self.blocks] = self.lower[first:last]
                self.inverse[base : self.rows] = self.inverse[begin:end]
            place[begin:end] = np.arange(base, self.rows)
            self.span.append((base, self.rows))
        return place

    def add(
        self, matrix: sparse.bsr_matrix, rank: np.ndarray, mass: np.ndarray | None = None, kappa: float = 1.0, mu: float = 0.0
    ) -> np.ndarray:
        """Factor kappa K + mu M; (n) i32 its rows here. K is a symmetric block matrix that stores its diagonal, M (n, 6, 6) another
        diagonal; rows are eliminated by ascending `rank` (n).

        Raises LinAlgError if a pivot is singular."""
        taichi_ready()
        n, base = len(rank), self.rows
        order = np.argsort(rank).astype(np.int32)
        turn = np.empty(2 * n, np.int32)  # row of each step, and the other way round
        turn[:n], turn[n + order] = order, np.arange(n)
        first, column = matrix.indptr, matrix.indices
        tree, count, work = np.full(n, -1, np.int32), np.zeros(n, np.int32), np.full(4 * n, -1, np.int32)
        _count(first, column, turn, tree, count, work)
        self.rows, begin = base + n, self.blocks
        self.blocks += int(count.sum())
        self.start = _room(self.start, base + 1, self.rows + 1)
        self.row, self.lower = _room(self.row, begin, self.blocks), _room(self.lower, begin, self.blocks)
        self.inverse = _room(self.inverse, base, self.rows)
        self.start[base] = begin
        self.start[base + 1 : self.rows + 1] = begin + np.cumsum(count)
        work[:] = -1
        _fill(first, column, turn, tree, self.start, self.row, work, base)
        mass = np.zeros((n, 6, 6)) if mass is None else mass
        _factor(
            first, column, turn, matrix.data, mass, kappa, mu, self.start, self.row, self.lower, np.empty((n, 6, 6)), self.inverse, work,
            base,
        )
        if not np.isfinite(self.inverse[base : self.rows]).all():
            raise np.linalg.LinAlgError("a singular stiffness matrix")
        self.span.append((base, self.rows))
        return base + turn[n:]

    def solve(self, place: np.ndarray, f: np.ndarray) -> np.ndarray:
        """(n, 6) answer to f (n, 6), whose rows are the rows `place` (n) i32 here; other rows bear nothing."""
        x = np.empty((len(f), 6))
        _solve(*self.arrays, self.spans(place), place, np.empty((self.rows, 6)), f, x)
        return x

    def spans(self, place: np.ndarray) -> np.ndarray:
        """(2 k) i32 first and last row of each matrix that has one of the rows `place`."""
        some = np.zeros(self.rows + 1, bool)
        some[place] = True
        return np.array([end for span in self.span if some[span[0] : span[1]].any() for end in span], np.int32)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What `substitute` needs: first blocks, rows, blocks of L, D^-1."""
        return self.start, self.row, self.lower, self.inverse

    def gradients(
        self, place: np.ndarray, K: sparse.bsr_matrix, M: np.ndarray, kappa: float, mu: float, start: np.ndarray, f: np.ndarray,  # noqa: N803
        u: np.ndarray, tolerance: float, limit: int,
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """Solve (kappa K + mu M) u = f from u (n, 6) by conjugate gradients with these as preconditioner; cluster k, from row start[k], has
        scalars and a stop of its own. Solution, iterations, (m) bool: converged."""
        n, m = len(f), len(start)
        u, ends, told = u.copy(), np.r_[start, n].astype(np.int32), np.zeros(m + 1, np.int32)
        _gradients(
            *self.arrays, self.spans(place), place, np.empty((self.rows, 6)), K.indptr, K.indices, K.data, M, kappa, mu, ends, f, u,
            np.empty((4 * n, 6)), np.empty(m), told, tolerance, limit,
        )
        return u, int(told[m]), told[:m] == 0


def elimination_rank(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(count) place of each node in an elimination order of little fill, multiple minimum degree (Liu 1985), of the graph (a, b)."""
    one = np.ones(len(a))
    graph = sparse.coo_matrix((np.r_[one, one], (np.r_[a, b], np.r_[b, a])), shape=(count, count))
    graph = sparse.diags(1.0 + np.asarray(graph.sum(axis=0)).ravel()) - graph
    return splu(graph.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0).perm_c


def _room(array: np.ndarray, used: int, wanted: int) -> np.ndarray:
    """The array, or one with room for `wanted` rows that begins with its `used` ones."""
    if wanted <= len(array):
        return array
    more = np.empty((wanted + wanted // 2, *array.shape[1:]), array.dtype)
    more[:used] = array[:used]
    return more


@ti.kernel
def _count(first: Numbers, column: Numbers, turn: Numbers, tree: Numbers, count: Numbers, mark: Numbers):
    """Elimination tree, and blocks below the diagonal in each column."""
    n = first.shape[0] - 1
    ti.loop_config(serialize=True)
    for i in range(n):
        mark[i] = i
        for e in range(first[turn[i]], first[turn[i] + 1]):
            k = turn[n + column[e]]
            if k < i:
                while mark[k] != i:
                    if tree[k] < 0:
                        tree[k] = i
                    count[k] = count[k] + 1
                    mark[k] = i
                    k = tree[k]


@ti.kernel
def _fill(first: Numbers, column: Numbers, turn: Numbers, tree: Numbers, start: Numbers, row: Numbers, work: Numbers, base: ti.i32):
    """Rows of each column, ascending, from `base` on. work (4 n): of -1."""
    n = first.shape[0] - 1
    ti.loop_config(serialize=True)
    for i in range(n):
        work[i] = i
        work[n + i] = start[base + i]
        for e in range(first[turn[i]], first[turn[i] + 1]):
            k = turn[n + column[e]]
            if k < i:
                while work[k] != i:
                    row[work[n + k]] = base + i
                    work[n + k] = work[n + k] + 1
                    work[k] = i
                    k = tree[k]


@ti.func
def inverted(given: BLOCK) -> BLOCK:
    """Inverse of a block by Gauss and Jordan on the diagonal, made symmetric."""
    m = given
    for k in range(6):  # not unrolled: it is a small part of the work and would be half of the kernel
        p = 1.0 / m[k, k]
        m[k, k] = 1.0
        for j in ti.static(range(6)):
            m[k, j] = m[k, j] * p
        for i in range(6):
            if i != k:
                f = m[i, k]
                m[i, k] = 0.0
                for j in ti.static(range(6)):
                    m[i, j] = m[i, j] - f * m[k, j]
    return 0.5 * (m + m.transpose())


@ti.kernel
def _factor(
    first: Numbers, column: Numbers, turn: Numbers, data: Blocks, mass: Blocks, kappa: ti.f64, mu: ti.f64, start: Numbers, row: Numbers,
    lower: Blocks, pivot: Blocks, inverse: Blocks, work: Numbers, base: ti.i32,
):
    """L, D and D^-1 from row `base` on. work (4 n): place of each row in the column at hand; first column that reaches a row next; the one
    after a column; the block with which it does."""
    n = first.shape[0] - 1
    ti.loop_config(serialize=True)
    for j in range(n):
        work[n + j] = -1
    ti.loop_config(serialize=True)
    for j in range(n):
        begin, end = start[base + j], start[base + j + 1]
        for p in range(begin, end):
            work[row[p] - base] = p
            lower[p] = BLOCK(0.0)
        D = mu * mass[turn[j]]
        for e in range(first[turn[j]], first[turn[j] + 1]):
            i = turn[n + column[e]]
            if i == j:
                D += kappa * data[e]
            elif i > j:
                lower[work[i]] = lower[work[i]] + kappa * data[e].transpose()
        k = work[n + j]
        while k >= 0:
            after, p = work[2 * n + k], work[3 * n + k]
            W = lower[p] @ pivot[k]
            D -= W @ lower[p].transpose()
            T = W.transpose()
            last = start[base + k + 1]
            for q in range(p + 1, last):
                i = work[row[q] - base]
                lower[i] = lower[i] - lower[q] @ T
            if p + 1 < last:
                i = row[p + 1] - base
                work[3 * n + k] = p + 1
                work[2 * n + k] = work[n + i]
                work[n + i] = k
            k = after
        pivot[j] = D
        G = inverted(D)
        inverse[base + j] = G
        for p in range(begin, end):
            lower[p] = lower[p] @ G
        if begin < end:
            i = row[begin] - base
            work[3 * n + j] = begin
            work[2 * n + j] = work[n + i]
            work[n + i] = j


@ti.func
def substitute(
    start: ti.template(), row: ti.template(), lower: ti.template(), inverse: ti.template(), span: ti.template(), place: ti.template(),
    x: ti.template(), source: ti.template(), source_from: ti.i32, target: ti.template(), target_from: ti.i32,
):
    """target = A^-1 source, for the matrices of these spans; x (rows) is scratch. The way down reads the blocks in the slower order; from a
    transposed copy of them it takes twice as long, for they come from far memory."""
    n = place.shape[0]
    for s in range(span.shape[0] // 2):
        for j in range(span[2 * s], span[2 * s + 1]):
            x[j] = SIX(0.0)
    for i in range(n):
        x[place[i]] = source[source_from + i]
    for s in range(span.shape[0] // 2):
        for j in range(span[2 * s], span[2 * s + 1]):
            y = x[j]
            for p in range(start[j], start[j + 1]):
                i = row[p]
                x[i] = x[i] - lower[p] @ y
        for back in range(span[2 * s + 1] - span[2 * s]):
            j = span[2 * s + 1] - 1 - back
            y = inverse[j].transpose() @ x[j]  # symmetric
            for p in range(start[j], start[j + 1]):
                y -= lower[p].transpose() @ x[row[p]]
            x[j] = y
    for i in range(n):
        target[target_from + i] = x[place[i]]


@ti.kernel
def _solve(
    start: Numbers, row: Numbers, lower: Blocks, inverse: Blocks, span: Numbers, place: Numbers, x: Sixes, f: Sixes, u: Sixes
):
    ti.loop_config(serialize=True)
    for _ in range(1):
        substitute(start, row, lower, inverse, span, place, x, f, 0, u, 0)


@ti.func
def step_or_residual(
    begin: ti.i32, end: ti.i32, iteration: ti.i32, rz: ti.f64, f: ti.template(), u: ti.template(), work: ti.template(), n: ti.i32
):
    """Rows of a cluster one step along p, or, before the first, their r = f - A u; work: r, z, p, A p of n rows each."""
    P, AP = 2 * n, 3 * n
    if iteration <= 0:
        for i in range(begin, end):
            work[i] = f[i] - work[AP + i]
    else:
        curvature = ti.f64(0.0)
        for i in range(begin, end):
            curvature += work[P + i].dot(work[AP + i])
        alpha = rz / curvature if curvature > 0.0 else ti.f64(0.0)
        for i in range(begin, end):
            u[i] = u[i] + alpha * work[P + i]
            work[i] = work[i] - alpha * work[AP + i]


@ti.func
def directions(
    ends: ti.template(), iteration: ti.i32, tolerance: ti.f64, f: ti.template(), u: ti.template(), work: ti.template(), n: ti.i32,
    rz: ti.template(), told: ti.template(),
) -> ti.i32:
    """New p of every open cluster, with scalars and a stop of its own; how many stay open. told[m] becomes the iteration."""
    Z, P, m = n, 2 * n, rz.shape[0]
    opened = 0
    for k in range(m):
        if told[k] == 1:
            s, energy = ti.f64(0.0), ti.f64(0.0)
            for i in range(ends[k], ends[k + 1]):
                s += work[i].dot(work[Z + i])
                energy += u[i].dot(f[i])
            beta = s / rz[k] if iteration > 0 and rz[k] > 0.0 else ti.f64(0.0)
            rz[k] = s
            told[k] = 1 if s > tolerance * tolerance * ti.max(energy, 0.0) else 0
            opened += told[k]
            for i in range(ends[k], ends[k + 1]):
                work[P + i] = work[Z + i] + beta * work[P + i]
    told[m] = iteration
    return opened


@ti.kernel
def _gradients(
    start: Numbers, row: Numbers, lower: Blocks, inverse: Blocks, span: Numbers, place: Numbers, x: Sixes, first: Numbers,
    column: Numbers, data: Blocks, mass: Blocks, kappa: ti.f64, mu: ti.f64, ends: Numbers, f: Sixes, u: Sixes, work: Sixes, rz: Reals,
    told: Numbers, tolerance: ti.f64, limit: ti.i32,
):
    """work (4 n): r, z, p, A p. told (m + 1): clusters that are still open, and the iterations. The first round makes r = f - A u, the
    others step: product and solve are said once, which halves the kernel. The matrix is symmetric, and is read column by column: so the
    compiler finds vector instructions."""
    n, m = f.shape[0], rz.shape[0]
    Z, P, AP = n, 2 * n, 3 * n
    ti.loop_config(serialize=True)
    for _ in range(1):
        for i in range(n):
            work[P + i] = u[i]
        for k in range(m):
            told[k] = 1
        iteration, opened = -1, m
        while True:
            iteration += 1
            for k in range(m):
                if told[k] == 1:
                    for i in range(ends[k], ends[k + 1]):
                        work[AP + i] = mu * (mass[i].transpose() @ work[P + i])
                    for i in range(ends[k], ends[k + 1]):
                        y = kappa * work[P + i]
                        for e in range(first[i], first[i + 1]):
                            work[AP + column[e]] = work[AP + column[e]] + data[e].transpose() @ y
                    step_or_residual(ends[k], ends[k + 1], iteration, rz[k], f, u, work, n)
            substitute(start, row, lower, inverse, span, place, x, work, 0, work, Z)
            opened = directions(ends, iteration, tolerance, f, u, work, n, rz, told)
            if opened == 0 or iteration == limit:
                break
