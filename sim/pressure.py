"""The pressure solve of the air: conjugate gradients with one multigrid V-cycle as preconditioner.

In: how open each face is and the divergence each cell has to lose. Out: the pressure (times dt / rho / cell) that removes it.
Reference: McAdams, Sifakis, Teran, "A parallel multigrid Poisson solver for fluids simulation on large grids" (SCA 2010);
coarse faces take the series resistance of the fine ones they span, so that a thin plate between two coarse planes still blocks.

Every array is flat and holds all levels one behind the other; each level has one ring of ghost cells. A ghost is air at
pressure 0 (open side, open top) or lies behind a face of openness 0 (floor), so no loop needs a border case.

    w    openness of a face, in (0, 1]; wx[c] is the lower x face of cell c
    A    (A p)_c = sum over the six faces of w (p_c - p_neighbour); symmetric, positive definite
    M    one V-cycle: red, black, coarse, black, red. Symmetric, so plain conjugate gradients may use it

Sums are taken per row, then over rows in order: the shape never depends on the thread count, so neither do the bits.
Not handled: fully closed pockets (a face is never fully closed: see `faces_openness` in air.py) and Taichi on a GPU,
where one level after the other in a serial task would crawl. Kernel file: no `from __future__ import annotations`.
"""
# pyright: reportInvalidTypeForm=false, reportGeneralTypeIssues=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false, reportOptionalOperand=false, reportOptionalCall=false

from dataclasses import dataclass

import numpy as np
import taichi as ti

F32 = ti.types.ndarray(dtype=ti.f32, ndim=1)
F64 = ti.types.ndarray(dtype=ti.f64, ndim=1)
I32 = ti.types.ndarray(dtype=ti.i32, ndim=2)
T = ti.template()

COARSEST = 4  # cells along the shortest side at which coarsening stops
SWEEPS_COARSEST = 12
PARALLEL_FROM = 250_000  # cells: below, waking threads for each of nine loops costs more than the loops
RZ, DQ, RR, BB = 0, 1, 2, 3  # places in `scalar`


@dataclass(frozen=True)
class Levels:
    """The multigrid hierarchy of one grid and all memory of the solve. Arrays are flat over all levels, ghosts included."""

    table: np.ndarray  # (L, 4) i32: offset, cells in x, y, z
    wx: np.ndarray  # (sum) f32 openness of lower x faces; level 0 is what the caller fills
    wy: np.ndarray
    wz: np.ndarray
    diagonal_inverse: np.ndarray  # (sum) f32
    r: np.ndarray  # (sum) f32 residual; on coarse levels the right-hand side
    z: np.ndarray  # (sum) f32 preconditioned residual
    q: np.ndarray  # (sum) f32 scratch: A d, and residuals inside the V-cycle
    d: np.ndarray  # (level 0) f32 search direction
    part: np.ndarray  # (2 x rows) f64 row sums
    scalar: np.ndarray  # (4) f64

    @property
    def size(self) -> int:
        """Cells of level 0 with ghosts."""
        _, nx, ny, nz = self.table[0]
        return int((nx + 2) * (ny + 2) * (nz + 2))


def levels_make(shape: tuple[int, int, int]) -> Levels:
    """Memory for a grid of `shape` cells."""
    rows, offset, n = [], 0, np.array(shape, int)
    while True:
        rows.append([offset, *n])
        offset += int(np.prod(n + 2))
        if n.min() <= COARSEST:
            break
        n = (n + 1) // 2
    empty = [np.zeros(offset, np.float32) for _ in range(7)]
    level0 = int(np.prod(np.array(shape) + 2))
    return Levels(np.array(rows, np.int32), *empty, np.zeros(level0, np.float32),
                  np.zeros(2 * shape[0] * shape[1], np.float64), np.zeros(4, np.float64))


def pressure_solve(levels: Levels, p: np.ndarray, b: np.ndarray, tolerance: float, iterations: int) -> tuple[int, float]:
    """Solve A p = b for p (in: first guess). Returns iterations used and |r| / |b|; stops at `tolerance` or after `iterations`.

    `levels.wx, wy, wz` of level 0 must hold the openness; p and b are level-0 arrays with ghosts (p's ghosts zero)."""
    L = levels
    serial = bool(np.prod(L.table[0, 1:].astype(np.int64)) < PARALLEL_FROM)
    _hierarchy(L.table, L.wx, L.wy, L.wz, L.diagonal_inverse, len(L.table), serial)
    _begin(L.table, L.wx, L.wy, L.wz, p, b, L.r, L.d, L.part, L.scalar, serial)
    goal = tolerance**2 * L.scalar[BB]
    if L.scalar[BB] == 0.0:
        p[:] = 0.0
        return 0, 0.0
    used = 0
    while L.scalar[RR] > goal and used < iterations:
        _precondition(L.table, L.wx, L.wy, L.wz, L.diagonal_inverse, L.r, L.z, L.q, L.d, L.part, L.scalar, len(L.table), serial)
        _step(L.table, L.wx, L.wy, L.wz, p, L.r, L.q, L.d, L.part, L.scalar, serial)
        used += 1
    return used, float(np.sqrt(L.scalar[RR] / L.scalar[BB]))


@ti.func
def _minus_neighbours(wx: T, wy: T, wz: T, a: T, c, sx, sy):
    """Sum over the six faces of w a_neighbour."""
    return (wx[c] * a[c - sx] + wx[c + sx] * a[c + sx] + wy[c] * a[c - sy] + wy[c + sy] * a[c + sy]
            + wz[c] * a[c - 1] + wz[c + 1] * a[c + 1])


@ti.func
def _openness(wx: T, wy: T, wz: T, c, sx, sy):
    """Sum of the six face opennesses: the diagonal of A."""
    return wx[c] + wx[c + sx] + wy[c] + wy[c + sy] + wz[c] + wz[c + 1]


@ti.func
def _smooth_row(wx: T, wy: T, wz: T, inverse: T, b: T, z: T, row, colour, i, j, nz, sx, sy):
    """Gauss-Seidel on the cells of one colour of one row; `row` is the flat index of its ghost at k = 0."""
    first = 1 + (i + j + colour) % 2
    for n in range((nz - first) // 2 + 1):
        c = row + first + 2 * n
        z[c] = (b[c] + _minus_neighbours(wx, wy, wz, z, c, sx, sy)) * inverse[c]


@ti.func
def _series(a, b, c):
    """Openness of a path through half a face a, a face b and half a face c."""
    return 2.0 / (0.5 / ti.max(a, 1e-6) + 1.0 / ti.max(b, 1e-6) + 0.5 / ti.max(c, 1e-6))


@ti.func
def _coarsen_row(table: T, wx: T, wy: T, wz: T, level, I, J):
    """Face openness of one row of a coarse level: mean over four fine columns of their series resistance."""
    o, nx, ny, nz = table[level - 1, 0], table[level - 1, 1], table[level - 1, 2], table[level - 1, 3]
    O, NY, NZ = table[level, 0], table[level, 2], table[level, 3]
    sy, SY = nz + 2, NZ + 2
    sx, SX = (ny + 2) * sy, (NY + 2) * SY
    for K in range(1, NZ + 2):
        C = O + I * SX + J * SY + K
        x, y, z = 0.0, 0.0, 0.0
        for e in range(4):
            g, h = e // 2, e % 2
            # fine indices of the coarse cell's lower corner; clamped where an odd grid leaves a coarse cell half empty
            i, j, k = ti.min(2 * I - 1, nx + 1), ti.min(2 * J - 1 + g, ny), ti.min(2 * K - 1 + h, nz)
            c = o + i * sx + j * sy + k
            x += _series(wx[c - sx] if i > 1 else wx[c], wx[c], wx[c + sx] if i <= nx else wx[c])
            i, j, k = ti.min(2 * I - 1 + g, nx), ti.min(2 * J - 1, ny + 1), ti.min(2 * K - 1 + h, nz)
            c = o + i * sx + j * sy + k
            y += _series(wy[c - sy] if j > 1 else wy[c], wy[c], wy[c + sy] if j <= ny else wy[c])
            i, j, k = ti.min(2 * I - 1 + g, nx), ti.min(2 * J - 1 + h, ny), ti.min(2 * K - 1, nz + 1)
            c = o + i * sx + j * sy + k
            z += _series(wz[c - 1] if k > 1 else wz[c], wz[c], wz[c + 1] if k <= nz else wz[c])
        scale = 0.25 * 0.25  # mean of four, and the coarse cell's squared spacing
        wx[C] = x * scale
        wy[C] = 0.0 if J == 1 else y * scale
        wz[C] = z * scale


@ti.func
def _diagonal_row(table: T, wx: T, wy: T, wz: T, inverse: T, level, i, j):
    o, ny, nz = table[level, 0], table[level, 2], table[level, 3]
    sy = nz + 2
    sx = (ny + 2) * sy
    for k in range(1, nz + 1):
        c = o + i * sx + j * sy + k
        inverse[c] = 1.0 / _openness(wx, wy, wz, c, sx, sy)


@ti.kernel
def _hierarchy(table: I32, wx: F32, wy: F32, wz: F32, inverse: F32, count: ti.i32, serial: ti.template()):
    nx, ny = table[0, 1], table[0, 2]
    ti.loop_config(serialize=serial)
    for row in range(nx * ny):
        _diagonal_row(table, wx, wy, wz, inverse, 0, row // ny + 1, row % ny + 1)
    ti.loop_config(serialize=True)
    for level in range(1, count):
        NX, NY = table[level, 1], table[level, 2]
        for I in range(1, NX + 2):
            for J in range(1, NY + 2):
                _coarsen_row(table, wx, wy, wz, level, I, J)
        for I in range(1, NX + 1):
            for J in range(1, NY + 1):
                _diagonal_row(table, wx, wy, wz, inverse, level, I, J)


@ti.kernel
def _begin(table: I32, wx: F32, wy: F32, wz: F32, p: F32, b: F32, r: F32, d: F32, part: F64, scalar: F64,
           serial: ti.template()):
    """r = b - A p, d = 0."""
    nx, ny, nz = table[0, 1], table[0, 2], table[0, 3]
    sy = nz + 2
    sx = (ny + 2) * sy
    ti.loop_config(serialize=serial)
    for row in range(nx * ny):
        first = (row // ny + 1) * sx + (row % ny + 1) * sy
        rr, bb = ti.f64(0.0), ti.f64(0.0)
        for k in range(1, nz + 1):
            c = first + k
            r[c] = b[c] - _openness(wx, wy, wz, c, sx, sy) * p[c] + _minus_neighbours(wx, wy, wz, p, c, sx, sy)
            d[c] = 0.0
            rr += ti.f64(r[c]) * r[c]
            bb += ti.f64(b[c]) * b[c]
        part[row] = rr
        part[nx * ny + row] = bb
    ti.loop_config(serialize=True)
    for _ in range(1):
        rr, bb = ti.f64(0.0), ti.f64(0.0)
        for row in range(nx * ny):
            rr += part[row]
            bb += part[nx * ny + row]
        scalar[RR], scalar[BB], scalar[RZ] = rr, bb, 0.0


@ti.func
def _residual_row(table: T, wx: T, wy: T, wz: T, b: T, z: T, q: T, level, i, j):
    """q = b - A z on one row."""
    o, ny, nz = table[level, 0], table[level, 2], table[level, 3]
    sy = nz + 2
    sx = (ny + 2) * sy
    for k in range(1, nz + 1):
        c = o + i * sx + j * sy + k
        q[c] = b[c] - _openness(wx, wy, wz, c, sx, sy) * z[c] + _minus_neighbours(wx, wy, wz, z, c, sx, sy)


@ti.func
def _restrict_row(table: T, q: T, r: T, z: T, level, I, J):
    """r of `level` = transpose of the trilinear prolongation / 8, from q one level finer; z = 0."""
    o, nx, ny, nz = table[level - 1, 0], table[level - 1, 1], table[level - 1, 2], table[level - 1, 3]
    O, NY, NZ = table[level, 0], table[level, 2], table[level, 3]
    sy, SY = nz + 2, NZ + 2
    sx, SX = (ny + 2) * sy, (NY + 2) * SY
    for K in range(1, NZ + 1):
        total = 0.0
        for a in ti.static(range(4)):
            for b in ti.static(range(4)):
                i, j = 2 * I - 2 + a, 2 * J - 2 + b
                if 1 <= i <= nx and 1 <= j <= ny:
                    weight = (0.75 if ti.static(a in (1, 2)) else 0.25) * (0.75 if ti.static(b in (1, 2)) else 0.25)
                    c = o + i * sx + j * sy + 2 * K
                    line = 0.75 * q[c - 1]
                    if 2 * K - 2 >= 1:
                        line += 0.25 * q[c - 2]
                    if nz >= 2 * K:
                        line += 0.75 * q[c]
                    if nz > 2 * K:
                        line += 0.25 * q[c + 1]
                    total += weight * line
        C = O + I * SX + J * SY + K
        r[C] = 0.125 * total
        z[C] = 0.0


@ti.func
def _prolong_row(table: T, z: T, level, i, j):
    """z of `level` += trilinear interpolation of z one level coarser (ghosts are zero)."""
    o, ny, nz = table[level, 0], table[level, 2], table[level, 3]
    O, NY, NZ = table[level + 1, 0], table[level + 1, 2], table[level + 1, 3]
    sy, SY = nz + 2, NZ + 2
    sx, SX = (ny + 2) * sy, (NY + 2) * SY
    I, J = (i + 1) // 2, (j + 1) // 2
    X, Y = (2 * (1 - i % 2) - 1) * SX, (2 * (1 - j % 2) - 1) * SY  # towards the nearer neighbour
    for k in range(1, nz + 1):
        C = O + I * SX + J * SY + (k + 1) // 2
        Z = 2 * (1 - k % 2) - 1
        near = 0.75 * (0.75 * z[C] + 0.25 * z[C + Y]) + 0.25 * (0.75 * z[C + X] + 0.25 * z[C + X + Y])
        far = 0.75 * (0.75 * z[C + Z] + 0.25 * z[C + Y + Z]) + 0.25 * (0.75 * z[C + X + Z] + 0.25 * z[C + X + Y + Z])
        z[o + i * sx + j * sy + k] += 0.75 * near + 0.25 * far


@ti.func
def _smooth_level(table: T, wx: T, wy: T, wz: T, inverse: T, r: T, z: T, level, colour):
    o, nx, ny, nz = table[level, 0], table[level, 1], table[level, 2], table[level, 3]
    sy = nz + 2
    sx = (ny + 2) * sy
    for i in range(1, nx + 1):
        for j in range(1, ny + 1):
            _smooth_row(wx, wy, wz, inverse, r, z, o + i * sx + j * sy, colour, i, j, nz, sx, sy)


@ti.kernel
def _precondition(table: I32, wx: F32, wy: F32, wz: F32, inverse: F32, r: F32, z: F32, q: F32, d: F32, part: F64,
                  scalar: F64, count: ti.i32, serial: ti.template()):
    """z = M r, then d = z + (r.z / previous r.z) d."""
    nx, ny, nz = table[0, 1], table[0, 2], table[0, 3]
    rows = nx * ny
    sy = nz + 2
    sx = (ny + 2) * sy
    ti.loop_config(serialize=serial)
    for row in range(rows):  # red cells from z = 0: their black neighbours do not count yet
        i, j = row // ny + 1, row % ny + 1
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            z[c] = r[c] * inverse[c] if (i + j + k) % 2 == 1 else 0.0
    ti.loop_config(serialize=serial)
    for row in range(rows):
        i, j = row // ny + 1, row % ny + 1
        _smooth_row(wx, wy, wz, inverse, r, z, i * sx + j * sy, 1, i, j, nz, sx, sy)
    ti.loop_config(serialize=serial)
    for row in range(rows):
        _residual_row(table, wx, wy, wz, r, z, q, 0, row // ny + 1, row % ny + 1)
    ti.loop_config(serialize=serial)
    for row in range(table[1, 1] * table[1, 2]):
        _restrict_row(table, q, r, z, 1, row // table[1, 2] + 1, row % table[1, 2] + 1)
    ti.loop_config(serialize=True)
    for _ in range(1):
        for level in range(1, count - 1):
            _smooth_level(table, wx, wy, wz, inverse, r, z, level, 0)
            _smooth_level(table, wx, wy, wz, inverse, r, z, level, 1)
            for i in range(1, table[level, 1] + 1):
                for j in range(1, table[level, 2] + 1):
                    _residual_row(table, wx, wy, wz, r, z, q, level, i, j)
            for i in range(1, table[level + 1, 1] + 1):
                for j in range(1, table[level + 1, 2] + 1):
                    _restrict_row(table, q, r, z, level + 1, i, j)
        for sweep in range(2 * SWEEPS_COARSEST):  # red black ... black red: symmetric
            first = 0 if sweep < SWEEPS_COARSEST else 1
            _smooth_level(table, wx, wy, wz, inverse, r, z, count - 1, first)
            _smooth_level(table, wx, wy, wz, inverse, r, z, count - 1, 1 - first)
        for up in range(2, count):
            level = count - up
            for i in range(1, table[level, 1] + 1):
                for j in range(1, table[level, 2] + 1):
                    _prolong_row(table, z, level, i, j)
            _smooth_level(table, wx, wy, wz, inverse, r, z, level, 1)
            _smooth_level(table, wx, wy, wz, inverse, r, z, level, 0)
    ti.loop_config(serialize=serial)
    for row in range(rows):
        _prolong_row(table, z, 0, row // ny + 1, row % ny + 1)
    ti.loop_config(serialize=serial)
    for row in range(rows):
        i, j = row // ny + 1, row % ny + 1
        _smooth_row(wx, wy, wz, inverse, r, z, i * sx + j * sy, 1, i, j, nz, sx, sy)
    ti.loop_config(serialize=serial)
    for row in range(rows):
        i, j = row // ny + 1, row % ny + 1
        _smooth_row(wx, wy, wz, inverse, r, z, i * sx + j * sy, 0, i, j, nz, sx, sy)
        rz = ti.f64(0.0)
        for k in range(1, nz + 1):
            rz += ti.f64(r[i * sx + j * sy + k]) * z[i * sx + j * sy + k]
        part[row] = rz
    ti.loop_config(serialize=True)
    for _ in range(1):
        rz = ti.f64(0.0)
        for row in range(rows):
            rz += part[row]
        scalar[DQ] = rz / scalar[RZ] if scalar[RZ] > 0.0 else 0.0  # beta, until _step needs the place
        scalar[RZ] = rz
    ti.loop_config(serialize=serial)
    for row in range(rows):
        beta = ti.f32(scalar[DQ])
        for k in range(1, nz + 1):
            c = (row // ny + 1) * sx + (row % ny + 1) * sy + k
            d[c] = z[c] + beta * d[c]


@ti.kernel
def _step(table: I32, wx: F32, wy: F32, wz: F32, p: F32, r: F32, q: F32, d: F32, part: F64, scalar: F64, serial: ti.template()):
    """p += alpha d, r -= alpha A d with alpha = r.z / d.Ad."""
    nx, ny, nz = table[0, 1], table[0, 2], table[0, 3]
    rows = nx * ny
    sy = nz + 2
    sx = (ny + 2) * sy
    ti.loop_config(serialize=serial)
    for row in range(rows):
        dq = ti.f64(0.0)
        for k in range(1, nz + 1):
            c = (row // ny + 1) * sx + (row % ny + 1) * sy + k
            q[c] = _openness(wx, wy, wz, c, sx, sy) * d[c] - _minus_neighbours(wx, wy, wz, d, c, sx, sy)
            dq += ti.f64(d[c]) * q[c]
        part[row] = dq
    ti.loop_config(serialize=True)
    for _ in range(1):
        dq = ti.f64(0.0)
        for row in range(rows):
            dq += part[row]
        scalar[DQ] = dq
    ti.loop_config(serialize=serial)
    for row in range(rows):
        alpha = ti.f32(scalar[RZ] / scalar[DQ]) if scalar[DQ] > 0.0 else 0.0
        rr = ti.f64(0.0)
        for k in range(1, nz + 1):
            c = (row // ny + 1) * sx + (row % ny + 1) * sy + k
            p[c] += alpha * d[c]
            r[c] -= alpha * q[c]
            rr += ti.f64(r[c]) * r[c]
        part[row] = rr
    ti.loop_config(serialize=True)
    for _ in range(1):
        rr = ti.f64(0.0)
        for row in range(rows):
            rr += part[row]
        scalar[RR] = rr
