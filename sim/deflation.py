# pyright: basic, reportInvalidTypeForm=false
"""Conjugate gradients on a large lattice, preconditioned on two levels, without its matrix.

In: the springs (sim/springs.py), masses and places of some clusters, A = kappa K + mu M. Out: TwoLevel, which solves A u = f.

Adapted deflation A-DEF2 (Tang, Nabben, Vuik, Erlangga 2009, eq. 2.19) of a 6x6 block Jacobi D with the rigid modes Z of every aggregate:
    z = D^-1 r,  z += Z E^-1 Z^T (r - A z),   E = Z^T A Z
Within an aggregate K Z = 0. So E is the lattice of the aggregates, held together by the bonds between them with levers from the aggregates'
centres, and Z^T A z needs those bonds alone and the masses. E is factored (sim/factor.py). One thread, fixed order of all sums.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse
import taichi as ti

from sim.factor import Factors, directions, step_or_residual, substitute
from sim.linked import link
from sim.springs import BLOCK, MAT3, SIX, VEC3, Springs, at_lever, inner_stiffness, levered, pull

Blocks: Any = ti.types.ndarray(dtype=BLOCK, ndim=1)
Sixes: Any = ti.types.ndarray(dtype=SIX, ndim=1)
Threes: Any = ti.types.ndarray(dtype=VEC3, ndim=1)
Frames: Any = ti.types.ndarray(dtype=ti.types.vector(15, ti.f64), ndim=1)
Numbers: Any = ti.types.ndarray(dtype=ti.i32, ndim=1)
Halves: Any = ti.types.ndarray(dtype=ti.types.vector(21, ti.f64), ndim=1)
Masses: Any = ti.types.ndarray(dtype=ti.types.vector(10, ti.f64), ndim=1)
Reals: Any = ti.types.ndarray(dtype=ti.f64, ndim=1)


@dataclass(frozen=True)
class TwoLevel:
    """Solves A u = f of large clusters."""

    springs: Springs
    stiffness: np.ndarray  # (k, 6) kappa times theirs
    mass: np.ndarray  # (n, 10) mu times mass and inertia
    diagonal: np.ndarray  # (n, 21) upper half of D^-1
    aggregate: np.ndarray  # (n) i32
    lever: np.ndarray  # (n, 3) [m] from its centre
    across: np.ndarray  # i32 springs between aggregates, or to the ground
    coarse: Factors  # of E
    place: np.ndarray  # (aggregates) i32 their rows there

    def gradients(
        self, start: np.ndarray, f: np.ndarray, u: np.ndarray, tolerance: float, limit: int
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """Solve A u = f from u (n, 6); cluster k, from row start[k], has scalars and a stop of its own. Solution, iterations, (m) bool:
        converged."""
        n, m = len(f), len(start)
        u, ends, told, s = u.copy(), np.r_[start, n].astype(np.int32), np.zeros(m + 1, np.int32), self.springs
        _gradients(
            *self.coarse.arrays, self.coarse.spans(self.place), self.place, np.empty((self.coarse.rows, 6)),
            s.bond, s.a, s.b, self.stiffness, s.frame, self.mass, self.diagonal, self.aggregate, self.lever, self.across,
            ends, s.first[ends], f, u, np.empty((4 * n + 2 * len(self.place), 6)), np.empty(m), told, tolerance, limit,
        )
        return u, int(told[m]), told[:m] == 0


def two_level(
    springs: Springs, mass: np.ndarray, position: np.ndarray, box: np.ndarray, rank: np.ndarray, kappa: float, mu: float
) -> TwoLevel:
    """Set up for rows with masses (n, 6, 6) at positions (n, 3). What hangs together within a `box` (n) is an aggregate; those of lower
    `rank` (n), which all rows of a box share, are eliminated first."""
    n = len(position)
    aggregate, lever, across = np.empty(n, np.int32), np.empty((n, 3)), np.empty(len(springs.bond), np.int32)
    count, first = np.zeros(2, np.int32), np.zeros(n + 1, np.int32)
    stiffness = kappa * springs.stiffness
    mass = mu * np.concatenate([mass[:, :1, 0], mass[:, 3:, 3:].reshape(-1, 9)], axis=1)
    _aggregates(springs.a, springs.b, box.astype(np.int32), position, aggregate, lever, np.empty((n, 3)), across, first, count)
    count, across = int(count[0]), across[: count[1]].copy()
    first = np.cumsum(first[: count + 1], dtype=np.int32)
    diagonal, column, data = np.empty((n, 21)), np.empty(first[-1], np.int32), np.empty((first[-1], 6, 6))
    _set_up(
        springs.bond, springs.a, springs.b, stiffness, springs.frame, mass, aggregate, lever, across, first, np.empty(count, np.int32),
        np.empty((n, 6, 6)), diagonal, column, data,
    )
    leader = np.empty(count, np.int64)
    leader[aggregate[::-1]] = np.arange(n)[::-1]
    order = np.empty(count, np.int64)
    order[np.argsort(rank[leader], kind="stable")] = np.arange(count)
    coarse = Factors()
    place = coarse.add(sparse.bsr_matrix((data, column, first), shape=(6 * count, 6 * count)), order)
    return TwoLevel(springs, stiffness, mass, diagonal, aggregate, lever, across, coarse, place)


@ti.kernel
def _aggregates(
    a: Numbers, b: Numbers, box: Numbers, position: Threes, aggregate: Numbers, lever: Threes, centre: Threes, across: Numbers,
    first: Numbers, count: Numbers,
):
    """Aggregates in order of their first rows, levers, springs between them; at first[1:] the blocks of each row of E. count (2): of
    aggregates, of springs between them."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        n = box.shape[0]
        for i in range(n):
            aggregate[i] = i
        for e in range(a.shape[0]):
            if b[e] >= 0 and box[a[e]] == box[ti.max(b[e], 0)]:
                link(aggregate, a[e], b[e])
        made = 0
        for i in range(n):  # roots come before what hangs on them; ~ marks numbers of aggregates
            if aggregate[i] == i:
                aggregate[i] = ~made
                centre[made] = VEC3(0.0)
                first[made + 1] = 0
                made += 1
            else:
                j = aggregate[i]
                while j >= 0:
                    j = aggregate[j]
                aggregate[i] = j
        for i in range(n):
            k = ~aggregate[i]
            aggregate[i] = k
            centre[k] = centre[k] + position[i]
            first[k + 1] = first[k + 1] + 1
        for k in range(made):
            centre[k] = centre[k] / ti.cast(first[k + 1], ti.f64)
            first[k + 1] = 1
        for i in range(n):
            lever[i] = position[i] - centre[aggregate[i]]
        found = 0
        for e in range(a.shape[0]):
            apart = 1
            if b[e] >= 0:
                i, j = aggregate[a[e]], aggregate[b[e]]
                if i == j:
                    apart = 0
                else:
                    first[i + 1] = first[i + 1] + 1
                    first[j + 1] = first[j + 1] + 1
            if apart == 1:
                across[found] = e
                found += 1
        count[0] = made
        count[1] = found


@ti.kernel
def _set_up(
    bond: Numbers, a: Numbers, b: Numbers, stiffness: Sixes, frame: Frames, mass: Masses, aggregate: Numbers, lever: Threes,
    across: Numbers, first: Numbers, next_: Numbers, own: Blocks, diagonal: Halves, column: Numbers, data: Blocks,
):
    """D^-1, and E in compressed rows, each row's diagonal block first."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        for k in range(next_.shape[0]):
            next_[k] = first[k] + 1
            column[first[k]] = k
            data[first[k]] = BLOCK(0.0)
        for i in range(aggregate.shape[0]):
            m, I, zero = mass[i], MAT3(0.0), VEC3(0.0)
            for p in ti.static(range(3)):
                for q in ti.static(range(3)):
                    I[p, q] = m[1 + 3 * p + q]
            T = m[0] * ti.Matrix.identity(ti.f64, 3)
            own[i] = levered(T, I, zero, zero)
            k = first[aggregate[i]]
            data[k] = data[k] + levered(T, I, lever[i], lever[i])
        for e in range(bond.shape[0]):
            g = frame[bond[e]]
            T, W = inner_stiffness(g, stiffness[e])
            for side in ti.static(range(2)):
                i = a[e] if ti.static(side == 0) else b[e]
                if i >= 0:
                    r = VEC3(g[9 + 3 * side], g[10 + 3 * side], g[11 + 3 * side])
                    own[i] = own[i] + levered(T, W, r, r)
        for i in range(aggregate.shape[0]):
            diagonal[i] = halved(inverted_by_halves(own[i]))
        for c in range(across.shape[0]):
            e = across[c]
            g = frame[bond[e]]
            T, W = inner_stiffness(g, stiffness[e])
            ra = VEC3(g[9], g[10], g[11]) + lever[a[e]]
            k = aggregate[a[e]]
            data[first[k]] = data[first[k]] + levered(T, W, ra, ra)
            if b[e] >= 0:
                rb = VEC3(g[12], g[13], g[14]) + lever[b[e]]
                l = aggregate[b[e]]
                data[first[l]] = data[first[l]] + levered(T, W, rb, rb)
                B = -levered(T, W, ra, rb)
                data[next_[k]] = B
                column[next_[k]] = l
                next_[k] = next_[k] + 1
                data[next_[l]] = B.transpose()
                column[next_[l]] = k
                next_[l] = next_[l] + 1


@ti.func
def part(D: BLOCK, row: ti.template(), column: ti.template()) -> MAT3:
    """A quarter of a block."""
    A = MAT3(0.0)
    for i in ti.static(range(3)):
        for j in ti.static(range(3)):
            A[i, j] = D[row + i, column + j]
    return A


@ti.func
def inverted_by_halves(D: BLOCK) -> BLOCK:
    """Inverse of a symmetric block by its quarters; upper half only."""
    G, C = part(D, 0, 0).inverse(), part(D, 0, 3)
    X = G @ C
    S = (part(D, 3, 3) - C.transpose() @ X).inverse()
    Y = X @ S
    P, B = G + Y @ X.transpose(), BLOCK(0.0)
    for i in ti.static(range(3)):
        for j in ti.static(range(3)):
            B[i, j], B[i, 3 + j], B[3 + i, 3 + j] = P[i, j], -Y[i, j], S[i, j]
    return B


@ti.func
def halved(B: BLOCK):
    """Upper half of a block, row by row."""
    h = ti.Vector.zero(ti.f64, 21)
    for i in ti.static(range(6)):
        for j in ti.static(range(i, 6)):
            h[i * (11 - i) // 2 + j] = B[i, j]
    return h


@ti.func
def half_times(h: ti.template(), x: SIX) -> SIX:
    """Product with a symmetric block whose upper half is given."""
    y = SIX(0.0)
    for i in ti.static(range(6)):
        for j in ti.static(range(i, 6)):
            y[i] += h[i * (11 - i) // 2 + j] * x[j]
            if ti.static(j > i):
                y[j] += h[i * (11 - i) // 2 + j] * x[i]
    return y


@ti.func
def mass_times(m: ti.template(), x: SIX) -> SIX:
    """M x, from mass and inertia."""
    y = SIX(0.0)
    for i in ti.static(range(3)):
        y[i] = m[0] * x[i]
        y[3 + i] = m[1 + 3 * i] * x[3] + m[2 + 3 * i] * x[4] + m[3 + 3 * i] * x[5]
    return y


@ti.func
def moved(y: SIX, r: VEC3) -> SIX:
    """Motion at the end of a lever on something that moves by y."""
    t = VEC3(y[0], y[1], y[2]) + VEC3(y[3], y[4], y[5]).cross(r)
    return SIX(t[0], t[1], t[2], y[3], y[4], y[5])


@ti.func
def gathered(f: SIX, r: VEC3) -> SIX:
    """Load at the end of a lever, about its foot."""
    return at_lever(VEC3(f[0], f[1], f[2]), VEC3(f[3], f[4], f[5]), r)


@ti.kernel
def _gradients(
    start: Numbers, row: Numbers, lower: Blocks, inverse: Blocks, span: Numbers, place: Numbers, x: Sixes, bond: Numbers,
    a: Numbers, b: Numbers, stiffness: Sixes, frame: Frames, mass: Masses, diagonal: Halves, aggregate: Numbers,
    lever: Threes, across: Numbers, ends: Numbers, bonds: Numbers, f: Sixes, u: Sixes, work: Sixes, rz: Reals, told: Numbers,
    tolerance: ti.f64, limit: ti.i32,
):
    """work (4 n + 2 coarse): r, z, p, A p, right side and answer of the coarse level. told (m + 1): clusters that are still open, and the
    iterations. Two rounds go before the first step: r = f - A u with Z E^-1 Z^T r for the start, then the same r anew; so product and
    solve are said once, which halves the kernel."""
    n, m, coarse = f.shape[0], rz.shape[0], place.shape[0]
    Z, P, AP, Y = n, 2 * n, 3 * n, 4 * n
    ti.loop_config(serialize=True)
    for _ in range(1):
        for i in range(n):
            work[P + i] = u[i]
        for k in range(m):
            told[k] = 1
        iteration, opened = -2, m
        while True:
            iteration += 1
            for k in range(m):
                if told[k] == 1:
                    for i in range(ends[k], ends[k + 1]):
                        work[AP + i] = mass_times(mass[i], work[P + i])
                    for e in range(bonds[k], bonds[k + 1]):
                        g = frame[bond[e]]
                        i, j, ub = a[e], b[e], SIX(0.0)
                        if j >= 0:
                            ub = work[P + j]
                        F, G = pull(g, stiffness[e], work[P + i], ub)
                        work[AP + i] = work[AP + i] - at_lever(F, G, VEC3(g[9], g[10], g[11]))
                        if j >= 0:
                            work[AP + j] = work[AP + j] + at_lever(F, G, VEC3(g[12], g[13], g[14]))
                    step_or_residual(ends[k], ends[k + 1], iteration, rz[k], f, u, work, n)
            for i in range(coarse):
                work[Y + i] = SIX(0.0)
            for i in range(n):
                z, rest = SIX(0.0), work[i]
                if iteration >= 0:
                    z = half_times(diagonal[i], rest)
                    rest -= mass_times(mass[i], z)
                work[Z + i] = z
                k = aggregate[i]
                work[Y + k] = work[Y + k] + gathered(rest, lever[i])
            if iteration >= 0:
                for c in range(across.shape[0]):
                    e = across[c]
                    g = frame[bond[e]]
                    i, j, ub = a[e], b[e], SIX(0.0)
                    if j >= 0:
                        ub = work[Z + j]
                    F, G = pull(g, stiffness[e], work[Z + i], ub)
                    k = Y + aggregate[i]
                    work[k] = work[k] + at_lever(F, G, VEC3(g[9], g[10], g[11]) + lever[i])
                    if j >= 0:
                        k = Y + aggregate[j]
                        work[k] = work[k] - at_lever(F, G, VEC3(g[12], g[13], g[14]) + lever[j])
            substitute(start, row, lower, inverse, span, place, x, work, Y, work, Y + coarse)
            for i in range(n):
                work[Z + i] = work[Z + i] + moved(work[Y + coarse + aggregate[i]], lever[i])
            if iteration < 0:
                for i in range(n):
                    u[i] = u[i] + work[Z + i]
                    work[P + i] = u[i]
            else:
                opened = directions(ends, iteration, tolerance, f, u, work, n, rz, told)
                if opened == 0 or iteration == limit:
                    break
