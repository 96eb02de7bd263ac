# pyright: basic, reportInvalidTypeForm=false
"""Sums over the bonds of a lattice (sim/stress.py): its stiffness matrix, its strains, the loads of turned levers; rigid motions.

In: the lattice's tables, which fragments and bonds are wanted. Out: a block matrix in compressed rows, each row's diagonal block first,
then one block per bond, in the order of bonds (two bonds of a pair stay two blocks); strains of bonds; loads on fragments. One thread,
fixed order of all sums; in numpy each of them would copy the blocks it reads.
"""

from typing import Any

import numpy as np
import scipy.sparse as sparse
import taichi as ti

from shot.device import taichi_ready
from sim.springs import FRAME, MAT3, SIX, VEC3, apart

Blocks: Any = ti.types.ndarray(dtype=ti.types.matrix(6, 6, ti.f64), ndim=1)
Sixes: Any = ti.types.ndarray(dtype=SIX, ndim=1)
Threes: Any = ti.types.ndarray(dtype=VEC3, ndim=1)
Frames: Any = ti.types.ndarray(dtype=FRAME, ndim=1)
Places: Any = ti.types.ndarray(dtype=ti.i64, ndim=1)
Numbers: Any = ti.types.ndarray(dtype=ti.i32, ndim=1)
Flags: Any = ti.types.ndarray(dtype=ti.u8, ndim=1)


def stiffness_matrix(
    fragment: np.ndarray, held: np.ndarray, first: np.ndarray, bond: np.ndarray, side: np.ndarray, other: np.ndarray, block: np.ndarray
) -> sparse.bsr_matrix:
    """K (6n, 6n) of fragments (n) in this order over bonds `held` (B) bool, which join no others.

    Ends of bonds: those of fragment k from first[k] (F + 1) on, each with its bond, the side it is on, the fragment on the other side or
    a negative number for the ground; block (3, B, 6, 6) of sides a a, a b, b b."""
    taichi_ready()
    n, fragment, held = len(fragment), fragment.astype(np.int32), held.view(np.uint8)
    start, row = np.zeros(n + 1, np.int32), np.zeros(len(first), np.int32)
    row[fragment] = np.arange(n)
    _count(fragment, held, first, bond, other, start)
    np.cumsum(start, out=start)
    index, data = np.empty(start[-1], np.int32), np.empty((start[-1], 6, 6))
    _assemble(fragment, held, first, bond, side, other, row, block.reshape(-1, 6, 6), start, index, data)
    return sparse.bsr_matrix((data, index, start), shape=(6 * n, 6 * n))


def strains(bond: np.ndarray, a: np.ndarray, b: np.ndarray, frame: np.ndarray, offset: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(n, 6) S_b u_b - S_a u_a - s0 of some bonds (n); a, b (B), frame (B, 15) as in sim/springs.py, s0 (B, 6), u (F, 6)."""
    taichi_ready()
    s = np.empty((len(bond), 6))
    if len(bond):
        _strains(bond, a, b, frame, offset, np.ascontiguousarray(u), s)
    return s


def turned(bond: np.ndarray, a: np.ndarray, b: np.ndarray, frame: np.ndarray, q: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(F, 6) moments of the forces q (n, 6) of some bonds (n), frames (B, 15), whose levers have turned with u (F, 6)."""
    taichi_ready()
    f = np.zeros(u.shape)
    if len(bond):
        _turned(bond, a, b, frame, q, np.ascontiguousarray(u), f)
    return f


def rigid_motion(position: np.ndarray, mass: np.ndarray, start: np.ndarray, free: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n, 6) the rigid motion of each free cluster whose momentum equals that of p (n, 6); zero in held clusters. position (n, 3), mass
    (n, 6, 6), rows of cluster k from start[k]; free (m) bool."""
    taichi_ready()
    v = np.zeros((len(p), 6))
    if len(p):
        ends = np.r_[start, len(p)].astype(np.int32)
        _rigid_motion(np.ascontiguousarray(position), mass, ends, free.view(np.uint8), np.ascontiguousarray(p), v)
    return v


@ti.kernel
def _count(fragment: Numbers, held: Flags, first: Numbers, bond: Numbers, other: Numbers, start: Numbers):
    """Blocks in each row, at start[1:]."""
    ti.loop_config(serialize=True)
    for i in range(fragment.shape[0]):
        count = 1
        for e in range(first[fragment[i]], first[fragment[i] + 1]):
            if held[bond[e]] != 0 and other[e] >= 0:
                count += 1
        start[i + 1] = count


@ti.kernel
def _assemble(
    fragment: Numbers, held: Flags, first: Numbers, bond: Numbers, side: Numbers, other: Numbers, row: Numbers, block: Blocks,
    start: Numbers, index: Numbers, data: Blocks,
):
    bonds = block.shape[0] // 3
    ti.loop_config(serialize=True)
    for i in range(fragment.shape[0]):
        own = ti.Matrix.zero(ti.f64, 6, 6)
        p = start[i]
        index[p] = i
        for e in range(first[fragment[i]], first[fragment[i] + 1]):
            b = bond[e]
            if held[b] != 0:
                own += block[2 * bonds * side[e] + b]
                if other[e] >= 0:
                    p += 1
                    index[p] = row[other[e]]
                    if side[e] == 0:
                        data[p] = block[bonds + b]
                    else:
                        data[p] = block[bonds + b].transpose()
        data[start[i]] = own


@ti.kernel
def _strains(bond: Places, a: Places, b: Places, frame: Frames, offset: Sixes, u: Sixes, s: Sixes):
    ti.loop_config(serialize=True)
    for n in range(bond.shape[0]):
        k = bond[n]
        g, ua, ub = frame[k], u[a[k]], SIX(0.0)
        if b[k] >= 0:
            ub = u[b[k]]
        d, turn = apart(g, ua, ub)
        y = -offset[k]
        for i in ti.static(range(3)):
            axis = VEC3(g[3 * i], g[3 * i + 1], g[3 * i + 2])
            y[i] += axis.dot(d)
            y[3 + i] += axis.dot(turn)
        s[n] = y


@ti.kernel
def _turned(bond: Places, a: Places, b: Places, frame: Frames, q: Sixes, u: Sixes, f: Sixes):
    ti.loop_config(serialize=True)
    for n in range(bond.shape[0]):
        k = bond[n]
        g = frame[k]
        Q = VEC3(0.0)
        for i in ti.static(range(3)):
            Q += q[n][i] * VEC3(g[3 * i], g[3 * i + 1], g[3 * i + 2])
        for side in ti.static(range(2)):
            i = a[k] if ti.static(side == 0) else b[k]
            if i >= 0:
                r = VEC3(g[9 + 3 * side], g[10 + 3 * side], g[11 + 3 * side])
                turn = VEC3(u[i][3], u[i][4], u[i][5])
                moment = 0.5 * (r * Q.dot(turn) + Q * r.dot(turn)) - r.dot(Q) * turn
                h = f[i]
                for j in ti.static(range(3)):
                    h[3 + j] += moment[j] if ti.static(side == 0) else -moment[j]
                f[i] = h


@ti.kernel
def _rigid_motion(position: Threes, mass: Blocks, ends: Numbers, free: Flags, p: Sixes, v: Sixes):
    ti.loop_config(serialize=True)
    for k in range(free.shape[0]):
        if free[k] != 0:
            total, centre, push = ti.f64(0.0), VEC3(0.0), VEC3(0.0)
            for i in range(ends[k], ends[k + 1]):
                m = mass[i][0, 0]
                total += m
                centre += m * position[i]
                push += VEC3(p[i][0], p[i][1], p[i][2])
            centre /= total
            inertia, moment = MAT3(0.0), VEC3(0.0)
            for i in range(ends[k], ends[k + 1]):
                r, m = position[i] - centre, mass[i]
                inertia += m[0, 0] * (r.dot(r) * ti.Matrix.identity(ti.f64, 3) - r.outer_product(r))
                for a in ti.static(range(3)):
                    for b in ti.static(range(3)):
                        inertia[a, b] += m[3 + a, 3 + b]
                moment += VEC3(p[i][3], p[i][4], p[i][5]) + r.cross(VEC3(p[i][0], p[i][1], p[i][2]))
            w = inertia.inverse() @ moment
            for i in range(ends[k], ends[k + 1]):
                t = push / total + w.cross(position[i] - centre)
                v[i] = SIX(t[0], t[1], t[2], w[0], w[1], w[2])
