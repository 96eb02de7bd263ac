"""The air on a staggered grid: what moving pieces push aside, what is carried along, and conservative transport of dust.

In and out: flat numpy arrays over cells with one ring of ghosts (as in pressure.py). u[c], v[c], w[c] are velocities [m/s] on
the lower x, y, z face of cell c; mass is kilograms per cell.

References: Harlow and Welch 1965 (staggered grid); Selle et al. 2008 (clamped MacCormack); Fedkiw et al. 2001 (vorticity
confinement); Batty et al. 2007 (openness of faces); van Leer 1977 (limited fluxes).

Pieces and air. u is the velocity of the MIXTURE of air and pieces through a face, so its divergence is zero everywhere, also
where a piece moves, and it never grows large in a crack:
    a   share of a face that pieces block, seen along the face's normal (a thin plate blocks all, whatever its thickness)
    r   resistance a / (1 - a); a plate between two faces adds its resistance to both in proportion, so that their series is constant
    o   openness 1 / (1 + r), never below OPEN_LEAST: closed pockets would leave the pressure without a solution
    u* = (1 - s) u + s u_piece      pieces drag; s -> 1 - o for plates, of the order of the Courant number for loose grit
    u  = u* - o grad p,  div u = 0
Sums over pieces are sums of integers (shares times 2^24), hence the same in any order and for any number of threads.

Not handled: viscosity and a boundary layer at the ground (it slips), heat, compressibility (speeds are capped at SPEED_MOST),
drag of dust on the air beyond its weight and the momentum it is shed with.
Kernel file: no `from __future__ import annotations`.
"""
# pyright: reportInvalidTypeForm=false, reportGeneralTypeIssues=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false, reportOptionalOperand=false, reportOptionalCall=false

from dataclasses import dataclass

import numpy as np
import taichi as ti

F32 = ti.types.ndarray(dtype=ti.f32, ndim=1)
F64 = ti.types.ndarray(dtype=ti.f64, ndim=1)
I64 = ti.types.ndarray(dtype=ti.i64, ndim=1)
ROWS32 = ti.types.ndarray(dtype=ti.f32, ndim=2)
AXES32 = ti.types.ndarray(dtype=ti.f32, ndim=3)
COUNTS = ti.types.ndarray(dtype=ti.i32, ndim=2)
T = ti.template()

AIR_DENSITY = 1.2  # [kg/m3] at 20 C and sea level
SPEED_MOST = 100.0  # [m/s] about Mach 0.3: above, the air would compress and this solver be wrong
OPEN_LEAST = 0.005  # leaks a few percent of what a plate of ten cells pushes; smaller costs iterations
SHARE_UNIT = float(2**24)  # integer units of one whole share


@dataclass(frozen=True)
class Grid:
    """Cells of the air: `shape` cells of side `cell`, lower corner at `origin`."""

    origin: np.ndarray  # (3) f64 [m]
    cell: float  # [m]
    shape: tuple[int, int, int]

    @property
    def padded(self) -> tuple[int, int, int]:
        """Shape with ghosts."""
        x, y, z = self.shape
        return x + 2, y + 2, z + 2

    def zeros(self, dtype=np.float32) -> np.ndarray:
        """A flat array over cells and ghosts."""
        return np.zeros(int(np.prod(self.padded)), dtype)

    def cells(self, flat: np.ndarray) -> np.ndarray:
        """View (nx, ny, nz) of the cells of a flat array."""
        return flat.reshape(self.padded)[1:-1, 1:-1, 1:-1]


@dataclass(frozen=True)
class Pieces:
    """Boxes that stand for the moving pieces at one instant, in cells from the ghost corner (cell (1, 1, 1) starts at 1, 1, 1)."""

    centre: np.ndarray  # (F, 3) f32 [cells]
    axes: np.ndarray  # (F, 3, 3) f32 [cells] row a: half edge a of the box
    count: np.ndarray  # (F, 3) i32 samples along each edge, no farther apart than a cell
    share: np.ndarray  # (F, 4) f32 of one sample: faces blocked across x, y, z, and volume [cells]
    velocity: np.ndarray  # (F, 3) f32 [m/s]
    spin: np.ndarray  # (F, 3) f32 [m/s per cell], about the box centre


# ---------------------------------------------------------------- pieces


@ti.func
def _trilinear_add(share: T, momentum: T, gx, gy, gz, hx, hy, hz, ny, nz, amount, speed):
    """Add `amount` (and amount x speed) at point g of a lattice with nodes 1..h, clamped to it."""
    sy = nz + 2
    sx = (ny + 2) * sy
    px, py, pz = ti.math.clamp(gx, 1.0, hx), ti.math.clamp(gy, 1.0, hy), ti.math.clamp(gz, 1.0, hz)
    i, j, k = ti.min(int(px), int(hx)), ti.min(int(py), int(hy)), ti.min(int(pz), int(hz))
    fx, fy, fz = px - i, py - j, pz - k
    for a in ti.static(range(2)):
        for b in ti.static(range(2)):
            for c in ti.static(range(2)):
                weight = (fx if a else 1.0 - fx) * (fy if b else 1.0 - fy) * (fz if c else 1.0 - fz) * amount
                if weight > 0.0:
                    at = (i + a) * sx + (j + b) * sy + k + c
                    ti.atomic_add(share[at], ti.cast(weight * SHARE_UNIT, ti.i64))
                    ti.atomic_add(momentum[at], ti.cast(weight * speed * SHARE_UNIT, ti.i64))


@ti.kernel
def pieces_rasterise(nx: ti.i32, ny: ti.i32, nz: ti.i32, centre: ROWS32, axes: AXES32, count: COUNTS, share: ROWS32,
                     velocity: ROWS32, spin: ROWS32, ax: I64, ay: I64, az: I64, mx: I64, my: I64, mz: I64, volume: I64,
                     unused: I64):
    """Blocked share a and share-weighted speed m of every face, and volume of pieces in every cell, in integer units."""
    for f in range(centre.shape[0]):
        for s in range(count[f, 0] * count[f, 1] * count[f, 2]):
            e = ti.Vector([s // (count[f, 1] * count[f, 2]), s // count[f, 2] % count[f, 1], s % count[f, 2]])
            arm = ti.Vector([0.0, 0.0, 0.0])
            for a in ti.static(range(3)):
                t = (2.0 * e[a] + 1.0) / count[f, a] - 1.0
                arm += t * ti.Vector([axes[f, a, 0], axes[f, a, 1], axes[f, a, 2]])
            p = ti.Vector([centre[f, 0], centre[f, 1], centre[f, 2]]) + arm
            inside = (p.x > 1.0 and p.x < nx + 1.0 and p.y > 1.0 and p.y < ny + 1.0 and p.z > 1.0 and p.z < nz + 1.0)
            if inside:
                vel = ti.Vector([velocity[f, 0], velocity[f, 1], velocity[f, 2]])
                vel += ti.math.cross(ti.Vector([spin[f, 0], spin[f, 1], spin[f, 2]]), arm)
                X, Y, Z = float(nx), float(ny), float(nz)
                _trilinear_add(ax, mx, p.x, p.y - 0.5, p.z - 0.5, X + 1.0, Y, Z, ny, nz, share[f, 0], vel.x)
                _trilinear_add(ay, my, p.x - 0.5, p.y, p.z - 0.5, X, Y + 1.0, Z, ny, nz, share[f, 1], vel.y)
                _trilinear_add(az, mz, p.x - 0.5, p.y - 0.5, p.z, X, Y, Z + 1.0, ny, nz, share[f, 2], vel.z)
                _trilinear_add(volume, unused, p.x - 0.5, p.y - 0.5, p.z - 0.5, X, Y, Z, ny, nz, share[f, 3], 0.0)


@ti.func
def _face_openness(a: T, m: T, c, step, last, open_: T, speed: T):
    """Resistance of face c from its share and its neighbours' along the normal: a plate shares itself between two faces."""
    unit = 1.0 / SHARE_UNIT
    here = ti.min(ti.f32(a[c]) * unit, 1.0)
    beside = ti.f32(a[c - step])
    if not last:
        beside = ti.max(beside, ti.f32(a[c + step]))
    pair = here + ti.min(beside * unit, 1.0)
    r = here / (1.0 - ti.min(pair, 1.0 - OPEN_LEAST))
    open_[c] = ti.max(1.0 / (1.0 + r), OPEN_LEAST)
    speed[c] = ti.f32(m[c]) / ti.f32(a[c]) if a[c] > 0 else 0.0


@ti.kernel
def faces_openness(nx: ti.i32, ny: ti.i32, nz: ti.i32, ax: I64, ay: I64, az: I64, mx: I64, my: I64, mz: I64,
                   ox: F32, oy: F32, oz: F32, px: F32, py: F32, pz: F32):
    """Openness o and piece speed p of every face. The floor is closed, sides and top are open."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range((nx + 1) * (ny + 1)):
        i, j = row // (ny + 1) + 1, row % (ny + 1) + 1
        for k in range(1, nz + 2):
            c = i * sx + j * sy + k
            if j <= ny and k <= nz:
                _face_openness(ax, mx, c, sx, i > nx, ox, px)
            if i <= nx and k <= nz:
                _face_openness(ay, my, c, sy, j > ny, oy, py)
                if j == 1:
                    oy[c] = 0.0
                    py[c] = 0.0
            if i <= nx and j <= ny:
                _face_openness(az, mz, c, 1, k > nz, oz, pz)


# ---------------------------------------------------------------- carrying velocity


@ti.func
def _corner(gx, gy, gz, hx, hy, hz, sx, sy):
    """Flat index of the lower corner and the fractions of point g on a lattice with nodes 1..h."""
    px, py, pz = ti.math.clamp(gx, 1.0, hx), ti.math.clamp(gy, 1.0, hy), ti.math.clamp(gz, 1.0, hz)
    i, j, k = ti.min(int(px), int(hx) - 1), ti.min(int(py), int(hy) - 1), ti.min(int(pz), int(hz) - 1)
    return i * sx + j * sy + k, ti.Vector([px - i, py - j, pz - k])


@ti.func
def _blend(a: T, c, f, sx, sy):
    """Trilinear value of a in the cell of corners that starts at c."""
    low = (a[c] * (1 - f.z) + a[c + 1] * f.z) * (1 - f.y) + (a[c + sy] * (1 - f.z) + a[c + sy + 1] * f.z) * f.y
    d = c + sx
    high = (a[d] * (1 - f.z) + a[d + 1] * f.z) * (1 - f.y) + (a[d + sy] * (1 - f.z) + a[d + sy + 1] * f.z) * f.y
    return low * (1 - f.x) + high * f.x


@ti.func
def _least(a: T, c, sx, sy):
    d = c + sx
    return ti.min(a[c], a[c + 1], a[c + sy], a[c + sy + 1], a[d], a[d + 1], a[d + sy], a[d + sy + 1])


@ti.func
def _most(a: T, c, sx, sy):
    d = c + sx
    return ti.max(a[c], a[c + 1], a[c + sy], a[c + sy + 1], a[d], a[d + 1], a[d + sy], a[d + sy + 1])


@ti.func
def _velocity(u: T, v: T, w: T, p, nx, ny, nz, sx, sy):
    X, Y, Z = float(nx), float(ny), float(nz)
    cu, fu = _corner(p.x, p.y - 0.5, p.z - 0.5, X + 1, Y, Z, sx, sy)
    cv, fv = _corner(p.x - 0.5, p.y, p.z - 0.5, X, Y + 1, Z, sx, sy)
    cw, fw = _corner(p.x - 0.5, p.y - 0.5, p.z, X, Y, Z + 1, sx, sy)
    return ti.Vector([_blend(u, cu, fu, sx, sy), _blend(v, cv, fv, sx, sy), _blend(w, cw, fw, sx, sy)])


@ti.kernel
def path_trace(nx: ti.i32, ny: ti.i32, nz: ti.i32, courant: ti.f32, u: F32, v: F32, w: F32, dx: F32, dy: F32, dz: F32):
    """Displacement [cells] of the air that arrives at each cell centre: midpoint rule, courant = dt / cell."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            here = 0.5 * ti.Vector([u[c] + u[c + sx], v[c] + v[c + sy], w[c] + w[c + 1]])
            middle = ti.Vector([i + 0.5, j + 0.5, k + 0.5]) - 0.5 * courant * here
            d = courant * _velocity(u, v, w, middle, nx, ny, nz, sx, sy)
            dx[c], dy[c], dz[c] = d.x, d.y, d.z


@ti.func
def _predict(a: T, p, offset, d, n, wind, sx, sy):
    """Value, least and most of a at p - d; the wind where that lies outside. `offset` moves p onto a's lattice of size n."""
    q = p - d
    value, low, high = wind, wind, wind
    outside = q.x < 1.0 or q.z < 1.0 or q.x > n[0] or q.y > n[1] or q.z > n[2]
    if not outside:
        g = q - offset
        c, f = _corner(g.x, g.y, g.z, n[3], n[4], n[5], sx, sy)
        value, low, high = _blend(a, c, f, sx, sy), _least(a, c, sx, sy), _most(a, c, sx, sy)
    return value, low, high


@ti.kernel
def advect_predict(nx: ti.i32, ny: ti.i32, nz: ti.i32, wind_x: ti.f32, wind_y: ti.f32, wind_z: ti.f32,
                   u: F32, v: F32, w: F32, dx: F32, dy: F32, dz: F32,
                   u1: F32, v1: F32, w1: F32, ul: F32, vl: F32, wl: F32, uh: F32, vh: F32, wh: F32):
    """Semi-Lagrangian half of MacCormack: new values and the bounds that the correction must keep."""
    sy = nz + 2
    sx = (ny + 2) * sy
    X, Y, Z = float(nx), float(ny), float(nz)
    for row in range((nx + 1) * (ny + 1)):
        i, j = row // (ny + 1) + 1, row % (ny + 1) + 1
        for k in range(1, nz + 2):
            c = i * sx + j * sy + k
            p = ti.Vector([float(i), float(j), float(k)])
            own = ti.min(i, nx) * sx + ti.min(j, ny) * sy + ti.min(k, nz)
            d = ti.Vector([dx[own], dy[own], dz[own]])
            if j <= ny and k <= nz:
                b = ti.max(i - 1, 1) * sx + j * sy + k
                e = 0.5 * (d + ti.Vector([dx[b], dy[b], dz[b]]))
                n = ti.Vector([X + 1, Y + 1, Z + 1, X + 1, Y, Z])
                o = ti.Vector([0.0, 0.5, 0.5])
                u1[c], ul[c], uh[c] = _predict(u, p + o, o, e, n, wind_x, sx, sy)
            if i <= nx and k <= nz:
                b = i * sx + ti.max(j - 1, 1) * sy + k
                e = 0.5 * (d + ti.Vector([dx[b], dy[b], dz[b]]))
                n = ti.Vector([X + 1, Y + 1, Z + 1, X, Y + 1, Z])
                o = ti.Vector([0.5, 0.0, 0.5])
                v1[c], vl[c], vh[c] = _predict(v, p + o, o, e, n, wind_y, sx, sy)
            if i <= nx and j <= ny:
                b = i * sx + j * sy + ti.max(k - 1, 1)
                e = 0.5 * (d + ti.Vector([dx[b], dy[b], dz[b]]))
                n = ti.Vector([X + 1, Y + 1, Z + 1, X, Y, Z + 1])
                o = ti.Vector([0.5, 0.5, 0.0])
                w1[c], wl[c], wh[c] = _predict(w, p + o, o, e, n, wind_z, sx, sy)


@ti.func
def _correct(a: T, a1: T, low: T, high: T, c, p, offset, d, n, sx, sy):
    """Half the error of tracing there and back, within the bounds."""
    g = p + d - offset
    b, f = _corner(g.x, g.y, g.z, n.x, n.y, n.z, sx, sy)
    return ti.math.clamp(a1[c] + 0.5 * (a[c] - _blend(a1, b, f, sx, sy)), low[c], high[c])


@ti.kernel
def advect_correct(nx: ti.i32, ny: ti.i32, nz: ti.i32, u: F32, v: F32, w: F32, dx: F32, dy: F32, dz: F32,
                   u1: F32, v1: F32, w1: F32, ul: F32, vl: F32, wl: F32, uh: F32, vh: F32, wh: F32, u2: F32, v2: F32, w2: F32):
    """MacCormack correction. The way forward is the mirrored way back: second order where the flow is smooth."""
    sy = nz + 2
    sx = (ny + 2) * sy
    X, Y, Z = float(nx), float(ny), float(nz)
    for row in range((nx + 1) * (ny + 1)):
        i, j = row // (ny + 1) + 1, row % (ny + 1) + 1
        for k in range(1, nz + 2):
            c = i * sx + j * sy + k
            p = ti.Vector([float(i), float(j), float(k)])
            own = ti.min(i, nx) * sx + ti.min(j, ny) * sy + ti.min(k, nz)
            d = ti.Vector([dx[own], dy[own], dz[own]])
            if j <= ny and k <= nz:
                b = ti.max(i - 1, 1) * sx + j * sy + k
                e = 0.5 * (d + ti.Vector([dx[b], dy[b], dz[b]]))
                o = ti.Vector([0.0, 0.5, 0.5])
                u2[c] = _correct(u, u1, ul, uh, c, p + o, o, e, ti.Vector([X + 1, Y, Z]), sx, sy)
            if i <= nx and k <= nz:
                b = i * sx + ti.max(j - 1, 1) * sy + k
                e = 0.5 * (d + ti.Vector([dx[b], dy[b], dz[b]]))
                o = ti.Vector([0.5, 0.0, 0.5])
                v2[c] = _correct(v, v1, vl, vh, c, p + o, o, e, ti.Vector([X, Y + 1, Z]), sx, sy)
            if i <= nx and j <= ny:
                b = i * sx + j * sy + ti.max(k - 1, 1)
                e = 0.5 * (d + ti.Vector([dx[b], dy[b], dz[b]]))
                o = ti.Vector([0.5, 0.5, 0.0])
                w2[c] = _correct(w, w1, wl, wh, c, p + o, o, e, ti.Vector([X, Y, Z + 1]), sx, sy)


# ---------------------------------------------------------------- forces


@ti.kernel
def vorticity(nx: ti.i32, ny: ti.i32, nz: ti.i32, cell: ti.f32, u: F32, v: F32, w: F32,
              wx: F32, wy: F32, wz: F32, size: F32):
    """curl of the velocity [1/s] at cell centres and its length; ghosts of the velocity repeat the border cell."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            xl, xh = (c - sx if i > 1 else c), (c + sx if i < nx else c)
            yl, yh = (c - sy if j > 1 else c), (c + sy if j < ny else c)
            zl, zh = (c - 1 if k > 1 else c), (c + 1 if k < nz else c)
            h = 0.25 / cell  # centred over two cells, of the mean of two faces
            x = (w[yh] + w[yh + 1] - w[yl] - w[yl + 1]) - (v[zh] + v[zh + sy] - v[zl] - v[zl + sy])
            y = (u[zh] + u[zh + sx] - u[zl] - u[zl + sx]) - (w[xh] + w[xh + 1] - w[xl] - w[xl + 1])
            z = (v[xh] + v[xh + sy] - v[xl] - v[xl + sy]) - (u[yh] + u[yh + sx] - u[yl] - u[yl + sx])
            wx[c], wy[c], wz[c] = h * x, h * y, h * z
            size[c] = h * ti.sqrt(x * x + y * y + z * z)


@ti.kernel
def confinement(nx: ti.i32, ny: ti.i32, nz: ti.i32, cell: ti.f32, wx: F32, wy: F32, wz: F32, size: F32,
                fx: F32, fy: F32, fz: F32):
    """Acceleration [m/s2] cell |w| (N x w), N = grad|w| / |grad|w||: spins eddies up. `forces` scales it, see stir_rows."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            g = ti.Vector([
                size[c + sx if i < nx else c] - size[c - sx if i > 1 else c],
                size[c + sy if j < ny else c] - size[c - sy if j > 1 else c],
                size[c + 1 if k < nz else c] - size[c - 1 if k > 1 else c]])
            length = g.norm()
            a = ti.Vector([0.0, 0.0, 0.0])
            if length > 1e-6:
                a = cell * size[c] * ti.math.cross(g / length, ti.Vector([wx[c], wy[c], wz[c]]))
            fx[c], fy[c], fz[c] = a.x, a.y, a.z


@ti.kernel
def stir_rows(nx: ti.i32, ny: ti.i32, nz: ti.i32, u: F32, v: F32, w: F32, u1: F32, v1: F32, w1: F32, fx: F32, fy: F32, fz: F32,
              loss: F64, power: F64):
    """Per row: twice the kinetic energy that carrying lost (u before, u1 after), and twice the power of the confinement.

    Confinement may only return what interpolation smeared: an unlimited one feeds on itself and never stops."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        lost, gained = ti.f64(0.0), ti.f64(0.0)
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            lost += u[c] * u[c] - u1[c] * u1[c] + v[c] * v[c] - v1[c] * v1[c] + w[c] * w[c] - w1[c] * w1[c]
            gained += ti.abs(fx[c] * (u1[c] + u1[c + sx]) + fy[c] * (v1[c] + v1[c + sy]) + fz[c] * (w1[c] + w1[c + 1]))
        loss[row] = lost
        power[row] = gained


@ti.func
def _force_face(u: T, f: T, gain: T, momentum: T, mass: T, open_: T, piece: T, c, step, first, last, dt, courant, cell, air,
                pull, stir):
    """New velocity of one face; `first` and `last` say that only the upper or lower of its two cells is inside."""
    low, high = (c if first else c - step), (c - step if last else c)
    dust = 0.5 * ti.f32(mass[low] + mass[high])
    load = dust / (air * cell * cell * cell + dust)
    x = u[c] + dt * (0.5 * stir * (f[low] + f[high]) - pull * load)
    shed = 0.5 * (gain[low] + gain[high])
    if shed > 0.0:
        x += (0.5 * (momentum[low] + momentum[high]) - shed * x) / (air * cell * cell * cell + dust)
    r = 1.0 / ti.max(open_[c], OPEN_LEAST) - 1.0
    if r > 0.0:
        loose = r * ti.min(1.0, ti.abs(piece[c] - x) * courant + 0.1 * r)
        x += loose / (1.0 + loose) * (piece[c] - x)
    # not clamp(), which would turn NaN into a speed and hide it from the check
    return SPEED_MOST if x > SPEED_MOST else (-SPEED_MOST if x < -SPEED_MOST else x)


@ti.kernel
def forces(nx: ti.i32, ny: ti.i32, nz: ti.i32, dt: ti.f32, cell: ti.f32, air: ti.f32, pull: ti.f32, stir: ti.f32,
           fx: F32, fy: F32, fz: F32, gain: F32, gx: F32, gy: F32, gz: F32, mass: F64,
           ox: F32, oy: F32, oz: F32, px: F32, py: F32, pz: F32, u: F32, v: F32, w: F32):
    """Confinement times `stir`, weight of the dust (`pull` [m/s2]), momentum of shed dust, drag of pieces; in place."""
    sy = nz + 2
    sx = (ny + 2) * sy
    courant = dt / cell
    for row in range((nx + 1) * (ny + 1)):
        i, j = row // (ny + 1) + 1, row % (ny + 1) + 1
        for k in range(1, nz + 2):
            c = i * sx + j * sy + k
            if j <= ny and k <= nz:
                u[c] = _force_face(u, fx, gain, gx, mass, ox, px, c, sx, i == 1, i > nx, dt, courant, cell, air, 0.0, stir)
            if i <= nx and k <= nz:
                v[c] = _force_face(v, fy, gain, gy, mass, oy, py, c, sy, j == 1, j > ny, dt, courant, cell, air, pull, stir)
                if j == 1:
                    v[c] = 0.0
            if i <= nx and j <= ny:
                w[c] = _force_face(w, fz, gain, gz, mass, oz, pz, c, 1, k == 1, k > nz, dt, courant, cell, air, 0.0, stir)


# ---------------------------------------------------------------- projection


@ti.kernel
def divergence(nx: ti.i32, ny: ti.i32, nz: ti.i32, u: F32, v: F32, w: F32, b: F32):
    """b = - (net outflow of each cell) [m/s]: the right-hand side of the pressure."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            b[c] = (u[c] - u[c + sx]) + (v[c] - v[c + sy]) + (w[c] - w[c + 1])


@ti.kernel
def pressure_apply(nx: ti.i32, ny: ti.i32, nz: ti.i32, p: F32, ox: F32, oy: F32, oz: F32, u: F32, v: F32, w: F32):
    """u -= o grad p; ghosts of p are zero."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range((nx + 1) * (ny + 1)):
        i, j = row // (ny + 1) + 1, row % (ny + 1) + 1
        for k in range(1, nz + 2):
            c = i * sx + j * sy + k
            if j <= ny and k <= nz:
                u[c] -= ox[c] * (p[c] - p[c - sx])
            if i <= nx and k <= nz:
                v[c] -= oy[c] * (p[c] - p[c - sy])
            if i <= nx and j <= ny:
                w[c] -= oz[c] * (p[c] - p[c - 1])


# ---------------------------------------------------------------- dust


@ti.kernel
def emit(nx: ti.i32, ny: ti.i32, nz: ti.i32, first: ti.i32, last: ti.i32, place: ROWS32, speed: ROWS32, radius: F32,
         amount: F64, volume: I64, mass: F64, gain: F32, gx: F32, gy: F32, gz: F32, lost: F64):
    """Spread the mass of events first..last over (1 - d2/R2)^2 around their place [cells], R at least one cell, in the
    share of each cell that pieces leave open: what an impact throws up is not inside the rubble.

    One event after the other, so that sums have one order. Weights are normalised over the cells inside; an event whose ball
    misses the box adds to lost[0]."""
    sy = nz + 2
    sx = (ny + 2) * sy
    ti.loop_config(serialize=True)
    for e in range(first, last):
        p = ti.Vector([place[e, 0], ti.max(place[e, 1], 1.0), place[e, 2]])
        R = ti.max(radius[e], 1.0)
        low = ti.max(ti.cast(ti.floor(p - R), ti.i32), 1)
        high = ti.min(ti.cast(ti.floor(p + R), ti.i32), ti.Vector([nx, ny, nz]))
        for turn in ti.static(range(2)):
            total = ti.f64(0.0)
            if ti.static(turn == 1):
                total = lost[1]
            for i in range(low.x, high.x + 1):
                for j in range(low.y, high.y + 1):
                    for k in range(low.z, high.z + 1):
                        d = ti.Vector([i + 0.5, j + 0.5, k + 0.5]) - p
                        t = 1.0 - d.dot(d) / (R * R)
                        if t > 0.0:
                            c = i * sx + j * sy + k
                            weight = ti.f64(t * t * ti.max(1.0 - ti.f32(volume[c]) / SHARE_UNIT, OPEN_LEAST))
                            if ti.static(turn == 0):
                                total += weight
                            else:
                                m = amount[e] * weight / total
                                mass[c] += m
                                gain[c] += ti.f32(m)
                                gx[c] += ti.f32(m) * speed[e, 0]
                                gy[c] += ti.f32(m) * speed[e, 1]
                                gz[c] += ti.f32(m) * speed[e, 2]
            if ti.static(turn == 0):
                lost[1] = total
                if total == 0.0:
                    lost[0] += amount[e]


@ti.func
def _slope(below, above):
    """Monotonised central slope: sharper fronts than the harmonic mean, no new extremes."""
    size = ti.min(2.0 * ti.abs(below), 2.0 * ti.abs(above), 0.5 * ti.abs(below + above))
    return (size if above > 0.0 else -size) if below * above > 0.0 else 0.0


@ti.func
def _flux(mass: T, c, step, courant):
    """Mass through a face in one step: second order, limited, upwind; c is the cell above the face."""
    flux = ti.f64(0.0)
    if courant > 0.0:
        m = mass[c - step]
        if m > 0.0:
            below, above = m - mass[c - 2 * step], mass[c] - m
            flux = courant * (m + 0.5 * (1.0 - courant) * _slope(below, above))
    elif courant < 0.0:
        m = mass[c]
        if m > 0.0:
            below, above = m - mass[c - step], mass[c + step] - m
            flux = courant * (m - 0.5 * (1.0 + courant) * _slope(below, above))
    return flux


@ti.kernel
def dust_fluxes(nx: ti.i32, ny: ti.i32, nz: ti.i32, courant: ti.f64, settle: ti.f32, u: F32, v: F32, w: F32, oy: F32, mass: F64,
                fx: F64, fy: F64, fz: F64):
    """Mass that crosses each face in one step. `settle` [m/s] is added downwards, less where pieces block the way."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range((nx + 1) * (ny + 1)):
        i, j = row // (ny + 1) + 1, row % (ny + 1) + 1
        for k in range(1, nz + 2):
            c = i * sx + j * sy + k
            if j <= ny and k <= nz:
                # at the border c - 2 step and c + step leave the arrays, and clean air outside needs no slope
                fx[c] = _flux(mass, c, sx, courant * u[c]) if 1 < i <= nx else _flux_border(mass, c, sx, courant * u[c])
            if i <= nx and k <= nz:
                sink = settle if j == 1 else settle * oy[c]
                y = courant * ti.f64(v[c] - sink)
                fy[c] = _flux(mass, c, sy, y) if 1 < j <= ny else _flux_border(mass, c, sy, y)
            if i <= nx and j <= ny:
                fz[c] = _flux(mass, c, 1, courant * w[c]) if 1 < k <= nz else _flux_border(mass, c, 1, courant * w[c])


@ti.func
def _flux_border(mass: T, c, step, courant):
    """First-order upwind through the border of the box; ghosts hold no mass, so nothing comes in."""
    return courant * (mass[c - step] if courant > 0.0 else mass[c])


@ti.kernel
def dust_limit(nx: ti.i32, ny: ti.i32, nz: ti.i32, mass: F64, fx: F64, fy: F64, fz: F64, keep: F64):
    """keep = share of a cell's outgoing fluxes that its mass can pay for: 1 below a Courant sum of 1/2, never below 0."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            out = (ti.max(fx[c + sx], 0.0) - ti.min(fx[c], 0.0) + ti.max(fy[c + sy], 0.0) - ti.min(fy[c], 0.0)
                   + ti.max(fz[c + 1], 0.0) - ti.min(fz[c], 0.0))
            keep[c] = ti.min(1.0, mass[c] / out) if out > 0.0 else 1.0


@ti.func
def _kept(flux: T, keep: T, c, step):
    return flux[c] * (keep[c - step] if flux[c] > 0.0 else keep[c])


@ti.kernel
def dust_update(nx: ti.i32, ny: ti.i32, nz: ti.i32, fx: F64, fy: F64, fz: F64, keep: F64, mass: F64):
    """mass -= net outflow of the limited fluxes."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            net = (_kept(fx, keep, c, sx) - _kept(fx, keep, c + sx, sx) + _kept(fy, keep, c, sy) - _kept(fy, keep, c + sy, sy)
                   + _kept(fz, keep, c, 1) - _kept(fz, keep, c + 1, 1))
            after = mass[c] + net
            mass[c] = 0.0 if after < 0.0 else after  # rounding only; not max(), which would hide NaN


@ti.kernel
def dust_borders(nx: ti.i32, ny: ti.i32, nz: ti.i32, fx: F64, fy: F64, fz: F64, keep: F64, ledger: F64):
    """Add what crossed the open sides to ledger[1] and what reached the floor to ledger[2], in one fixed order."""
    sy = nz + 2
    sx = (ny + 2) * sy
    ti.loop_config(serialize=True)
    for _ in range(1):
        left, settled = ti.f64(0.0), ti.f64(0.0)
        for j in range(1, ny + 1):
            for k in range(1, nz + 1):
                left += _kept(fx, keep, (nx + 1) * sx + j * sy + k, sx) - _kept(fx, keep, sx + j * sy + k, sx)
        for i in range(1, nx + 1):
            for k in range(1, nz + 1):
                left += _kept(fy, keep, i * sx + (ny + 1) * sy + k, sy)
                settled -= _kept(fy, keep, i * sx + sy + k, sy)
        for i in range(1, nx + 1):
            for j in range(1, ny + 1):
                left += _kept(fz, keep, i * sx + j * sy + nz + 1, 1) - _kept(fz, keep, i * sx + j * sy + 1, 1)
        ledger[1] += left
        ledger[2] += settled


@ti.kernel
def outflow_courant(nx: ti.i32, ny: ti.i32, nz: ti.i32, settle: ti.f32, u: F32, v: F32, w: F32, rows: F32):
    """rows[i, j] = largest sum of outgoing face speeds [m/s] of the row's cells: bounds the transport step."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        most = 0.0
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            most = ti.max(most, ti.max(u[c + sx], 0.0) - ti.min(u[c], 0.0) + ti.max(v[c + sy], 0.0) - ti.min(v[c], 0.0)
                          + ti.max(w[c + 1], 0.0) - ti.min(w[c], 0.0) + settle)
        rows[row] = most


@ti.kernel
def centre_velocity(nx: ti.i32, ny: ti.i32, nz: ti.i32, u: F32, v: F32, w: F32, out: ti.types.ndarray(dtype=ti.f32, ndim=4)):
    """Velocity at cell centres (nx, ny, nz, 3)."""
    sy = nz + 2
    sx = (ny + 2) * sy
    for row in range(nx * ny):
        i, j = row // ny + 1, row % ny + 1
        for k in range(1, nz + 1):
            c = i * sx + j * sy + k
            out[i - 1, j - 1, k - 1, 0] = 0.5 * (u[c] + u[c + sx])
            out[i - 1, j - 1, k - 1, 1] = 0.5 * (v[c] + v[c + sy])
            out[i - 1, j - 1, k - 1, 2] = 0.5 * (w[c] + w[c + 1])
