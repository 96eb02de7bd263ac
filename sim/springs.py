# pyright: basic, reportInvalidTypeForm=false
"""Products with the stiffness of a lattice, bond by bond, without its matrix.

In: the lattice's tables, which fragments and bonds are wanted. Out: Springs, a list of bonds with the rows of their two sides, and what is
summed over it: K u, blocks of K. With T = [1, -[r]x], which takes a fragment's motion to the end of its lever r,

    K_ab = -[T_a^T K_t T_b + K_r],   K_t = R^T diag(k_1..3) R,   K_r = R^T diag(k_4..6) R        3x3 each, in place of S^T k S

A bond is 15 numbers that never change and 6 that do, its two blocks off the diagonal 72: of 15 000 bonds a product takes 0.6 ms bond by
bond, 0.8 with a matrix whose blocks are read in the order in which the compiler can use vector instructions, 1.5 in the other.
One thread, fixed order of all sums.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import taichi as ti

from shot.device import taichi_ready

BLOCK, MAT3 = ti.types.matrix(6, 6, ti.f64), ti.types.matrix(3, 3, ti.f64)
VEC3, SIX, FRAME = (ti.types.vector(n, ti.f64) for n in (3, 6, 15))
Sixes: Any = ti.types.ndarray(dtype=SIX, ndim=1)
Frames: Any = ti.types.ndarray(dtype=FRAME, ndim=1)
Numbers: Any = ti.types.ndarray(dtype=ti.i32, ndim=1)
Flags: Any = ti.types.ndarray(dtype=ti.u8, ndim=1)


@dataclass(frozen=True)
class Springs:
    """Bonds of some clusters, sorted by the row of their side a, hence by cluster."""

    bond: np.ndarray  # (k) i32 in the lattice
    a: np.ndarray  # (k) i32 row
    b: np.ndarray  # (k) i32 row, or -1 the ground
    stiffness: np.ndarray  # (k, 6) as it was when the list was made
    frame: np.ndarray  # (B, 15) of all bonds of the lattice: axes, lever of a, lever of b
    first: np.ndarray  # (n + 1) i32 first bond of each row

    def product(self, u: np.ndarray) -> np.ndarray:
        """K u, (n, 6)."""
        y = np.empty((len(self.first) - 1, 6))
        _product(self.bond, self.a, self.b, self.stiffness, self.frame, np.ascontiguousarray(u), y)
        return y


def springs_of(
    fragment: np.ndarray, held: np.ndarray, ends: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], stiffness: np.ndarray,
    frame: np.ndarray,
) -> Springs:
    """Bonds `held` (B) bool of fragments (n), which join no others; `ends` of bonds as for sim/assembly.py, stiffness (B, 6)."""
    taichi_ready()
    n, fragment = len(fragment), fragment.astype(np.int32)
    row, start = np.zeros(len(ends[0]), np.int32), np.zeros(n + 1, np.int32)
    row[fragment] = np.arange(n)
    _springs_count(fragment, held.view(np.uint8), ends[0], ends[1], ends[2], start)
    np.cumsum(start, out=start)
    bond, a, b = np.empty((3, start[-1]), np.int32)
    _springs_list(fragment, held.view(np.uint8), *ends, row, start, bond, a, b)
    return Springs(bond, a, b, stiffness[bond], frame, start)


@ti.func
def apart(g: FRAME, ua: SIX, ub: SIX):
    """Motion and turn of side b of a bond's face against side a."""
    ra, rb = VEC3(g[9], g[10], g[11]), VEC3(g[12], g[13], g[14])
    ta, tb = VEC3(ua[3], ua[4], ua[5]), VEC3(ub[3], ub[4], ub[5])
    return VEC3(ub[0] - ua[0], ub[1] - ua[1], ub[2] - ua[2]) + tb.cross(rb) - ta.cross(ra), tb - ta


@ti.func
def pull(g: FRAME, k: SIX, ua: SIX, ub: SIX):
    """Force and moment of a bond on its side a at the shared face; opposite on b."""
    d, turn = apart(g, ua, ub)
    F, G = VEC3(0.0), VEC3(0.0)
    for i in ti.static(range(3)):
        axis = VEC3(g[3 * i], g[3 * i + 1], g[3 * i + 2])
        F += axis * (k[i] * axis.dot(d))
        G += axis * (k[3 + i] * axis.dot(turn))
    return F, G


@ti.func
def at_lever(F: VEC3, G: VEC3, r: VEC3) -> SIX:
    """A force and a moment at the end of a lever, about its foot."""
    M = G + r.cross(F)
    return SIX(F[0], F[1], F[2], M[0], M[1], M[2])


@ti.func
def inner_stiffness(g: FRAME, k: SIX):
    """K_t and K_r of a bond."""
    T, W = MAT3(0.0), MAT3(0.0)
    for i in ti.static(range(3)):
        axis = VEC3(g[3 * i], g[3 * i + 1], g[3 * i + 2])
        T += k[i] * axis.outer_product(axis)
        W += k[3 + i] * axis.outer_product(axis)
    return T, W


@ti.func
def levered(T: MAT3, W: MAT3, ra: VEC3, rb: VEC3) -> BLOCK:
    """T_a^T K_t T_b + K_r; row by row T [r]x is a cross product."""
    B = BLOCK(0.0)
    X = MAT3(0.0)
    for i in ti.static(range(3)):
        x = VEC3(T[i, 0], T[i, 1], T[i, 2]).cross(rb)
        y = ra.cross(VEC3(T[0, i], T[1, i], T[2, i]))
        for j in ti.static(range(3)):
            X[i, j] = x[j]
            B[i, j], B[i, 3 + j], B[3 + j, i] = T[i, j], -x[j], y[j]
    for i in ti.static(range(3)):
        v = ra.cross(VEC3(X[0, i], X[1, i], X[2, i]))
        for j in ti.static(range(3)):
            B[3 + j, 3 + i] = W[j, i] - v[j]
    return B


@ti.kernel
def _springs_count(fragment: Numbers, held: Flags, first: Numbers, bond: Numbers, side: Numbers, start: Numbers):
    """Bonds in each row, at start[1:]."""
    ti.loop_config(serialize=True)
    for i in range(fragment.shape[0]):
        count = 0
        for e in range(first[fragment[i]], first[fragment[i] + 1]):
            if held[bond[e]] != 0 and side[e] == 0:
                count += 1
        start[i + 1] = count


@ti.kernel
def _springs_list(
    fragment: Numbers, held: Flags, first: Numbers, bond: Numbers, side: Numbers, other: Numbers, row: Numbers, start: Numbers,
    into: Numbers, a: Numbers, b: Numbers,
):
    ti.loop_config(serialize=True)
    for i in range(fragment.shape[0]):
        p = start[i]
        for e in range(first[fragment[i]], first[fragment[i] + 1]):
            if held[bond[e]] != 0 and side[e] == 0:
                into[p] = bond[e]
                a[p] = i
                b[p] = row[other[e]] if other[e] >= 0 else -1
                p += 1


@ti.kernel
def _product(bond: Numbers, a: Numbers, b: Numbers, stiffness: Sixes, frame: Frames, u: Sixes, y: Sixes):
    ti.loop_config(serialize=True)
    for _ in range(1):
        for i in range(y.shape[0]):
            y[i] = SIX(0.0)
        for e in range(bond.shape[0]):
            g = frame[bond[e]]
            ub = SIX(0.0)
            if b[e] >= 0:
                ub = u[b[e]]
            F, G = pull(g, stiffness[e], u[a[e]], ub)
            y[a[e]] = y[a[e]] - at_lever(F, G, VEC3(g[9], g[10], g[11]))
            if b[e] >= 0:
                y[b[e]] = y[b[e]] + at_lever(F, G, VEC3(g[12], g[13], g[14]))
