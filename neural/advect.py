"""The fine dust: carry it with the coarse air, stir it below the coarse cell, and meet every coarse cell's mass exactly.

In: the fine mass of the frame before, coarse mass and velocity. Out: the fine mass of this frame.
References: wavelet turbulence (Kim et al. 2008) for detail that the flow carries, as strong as what the coarse grid dissipates
(Smagorinsky 1963, Lilly 1967); mass is met by projection instead of fluxes, since the coarse solver already owns it.

    c   coarse mass of a cell [kg]; active cells are those that hold more than ACTIVE_LEAST of the largest
    y   fine mass [kg]; r^3 fine cells share a coarse cell
    S   what carrying alone would put into a coarse cell
y is carried along midpoint paths and read with limited Catmull-Rom interpolation; where S < c the missing dust (freshly shed, or
numerical haze) comes in smoothly; where S > c it thins smoothly; then each cell is scaled to c. The smooth part goes first because
scaling alone shows the coarse grid as seams.

Not handled: walls inside a coarse cell (the fine dust does not know the pieces); the stirring is free of divergence before it is
scaled by the local strength, not after: the projection takes up the rest.
Kernel file: no `from __future__ import annotations`.
"""
# pyright: reportInvalidTypeForm=false, reportGeneralTypeIssues=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false, reportOptionalOperand=false, reportOperatorIssue=false

from dataclasses import dataclass

import numpy as np
import taichi as ti

from shot.hashing import normal, uniform

CELLS = ti.types.ndarray(dtype=ti.i32, ndim=2)
REAL1 = ti.types.ndarray(dtype=ti.f32, ndim=1)
REAL3 = ti.types.ndarray(dtype=ti.f32, ndim=3)
REAL4 = ti.types.ndarray(dtype=ti.f32, ndim=4)
T = ti.template()

ACTIVE_LEAST = 1e-7  # of the largest coarse mass: thinner haze is numerical and is dropped
TILE = 64  # fine cells of the noise tile's period
TILE_CELLS = 16  # coarse cells of that period: four samples a coarse cell, as fine as the finest output
LIFE = 16  # frames after which carried texture coordinates start afresh; two sets, half a life apart, take turns
SMAGORINSKY = 0.17  # Lilly 1967
STRENGTH, FIRST_SET, SECOND_SET, CHANNELS = 3, 4, 7, 10  # channels of `carrier`, after three of velocity


@dataclass
class FineState:
    """What the next fine frame depends on."""

    frame: int
    mass: np.ndarray  # (r nx, r ny, r nz) f32 [kg]
    texture: np.ndarray  # (nx, ny, nz, 6) f32 [coarse cells] where the air of a cell was at the birth of each set, minus here


def active_cells(c: np.ndarray) -> np.ndarray:
    """(n, 3) i32 coarse cells that hold dust, in memory order."""
    return np.argwhere(c > ACTIVE_LEAST * c.max(initial=0.0)).astype(np.int32)


def fine_start(c: np.ndarray, r: int, frame: int) -> FineState:
    """Coarse dust (nx, ny, nz), interpolated and projected: the first state of a window."""
    fine = np.zeros(tuple(r * n for n in c.shape), np.float32)
    texture = np.zeros((*c.shape, 6), np.float32)
    cells = active_cells(c)
    if len(cells):
        refill(cells, r, c, np.zeros_like(c), c, fine)
    return FineState(frame, fine, texture)


def fine_carry(state: FineState, c: np.ndarray, velocity: np.ndarray, r: int, step: float, sink: float, detail: float,
               noise: np.ndarray, first: int, seed: int) -> tuple[FineState, np.ndarray]:
    """One frame on. Returns the projected state and S (nx, ny, nz), what carrying alone gave.

    velocity (nx, ny, nz, 3) [m/s] of the way from the last frame to this one; step = seconds per frame / coarse cell;
    sink [m/s] of the dust; detail scales the stirring; noise from `noise_tile`; first = first frame of the shot."""
    frame, shape = state.frame + 1, c.shape
    age = np.array([(frame - first) % LIFE, (frame - first + LIFE // 2) % LIFE])
    birth = frame - age
    texture = np.zeros_like(state.texture)
    texture_carry(velocity, np.float32(step), state.texture.reshape(-1), texture)
    for k in range(2):
        if age[k] == 0:
            texture[..., 3 * k:3 * k + 3] = 0.0
    carrier = np.concatenate([velocity, np.zeros((*shape, 1), np.float32), texture], -1)
    eddy_strength(velocity, carrier)
    carrier[..., 1] -= sink
    share = 1.0 - np.abs(2.0 * age / LIFE - 1.0)
    share = detail * share / np.linalg.norm(share)
    place = [TILE_CELLS * uniform(seed, f"dust noise {k}", np.full(3, birth[k]) * 3 + np.arange(3)) for k in range(2)]
    fine, carried = np.zeros_like(state.mass), np.zeros(shape, np.float32)
    cells = active_cells(c)
    if len(cells):
        carry(cells, r, carrier.reshape(-1), np.float32(step), noise.reshape(-1), *(np.float32(s) for s in share),
              np.concatenate(place).astype(np.float32), state.mass.reshape(-1), fine, carried)
        thin = np.where(carried > c, c / np.maximum(carried, 1e-30), 1.0).astype(np.float32)
        refill(cells, r, c, thin, np.maximum(c - carried, 0.0), fine)
    return FineState(frame, fine, texture), carried


def noise_tile(seed: int) -> np.ndarray:
    """(TILE, TILE, TILE, 3) f32 periodic, divergence-free velocity of root mean square 1 per component: wavelengths of one to
    three coarse cells, energy falling as k^-5/3; the curl of a hashed Gaussian potential."""
    index = np.arange(TILE**3 * 3)
    potential = np.fft.rfftn(normal(seed, "dust noise", index).reshape(3, TILE, TILE, TILE), axes=(1, 2, 3))
    k = np.stack(np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE), np.fft.rfftfreq(TILE), indexing="ij")) * TILE / TILE_CELLS
    size = np.maximum(np.sqrt((k**2).sum(0)), 1e-9)  # waves per coarse cell
    band = np.where((size >= 1.0 / 3.0) & (size <= 1.0), size ** (-5.0 / 6.0 - 1.0 - 1.0), 0.0)  # E ~ k^2 |u|^2, u ~ k potential
    curl = 1j * np.cross(np.moveaxis(k, 0, -1), np.moveaxis(potential * band, 0, -1))
    field = np.fft.irfftn(curl, s=(TILE,) * 3, axes=(0, 1, 2))
    return np.ascontiguousarray(field / np.sqrt((field**2).mean()), np.float32)


# ---------------------------------------------------------------- kernels


@ti.func
def _place(g, n):
    """Lower index and fraction on a lattice of n cell centres, clamped; g in cells."""
    h = ti.math.clamp(g - 0.5, 0.0, n - 1.0)
    i = ti.min(int(h), ti.max(n - 2, 0))
    return i, h - i


@ti.func
def _nodes(p, n, width):
    """Flat offsets of the eight nodes around p [coarse cells] in an array of n cells with `width` channels, and the fractions."""
    i, x = _place(p.x, n.x)
    j, y = _place(p.y, n.y)
    k, z = _place(p.z, n.z)
    I, J, K = ti.min(i + 1, n.x - 1), ti.min(j + 1, n.y - 1), ti.min(k + 1, n.z - 1)
    a, b, c, d = (i * n.y + j) * n.z, (i * n.y + J) * n.z, (I * n.y + j) * n.z, (I * n.y + J) * n.z
    return width * ti.Vector([a + k, a + K, b + k, b + K, c + k, c + K, d + k, d + K]), ti.Vector([x, y, z])


@ti.func
def _between(a: T, o, f, channel):
    """Trilinear value of one channel between eight nodes."""
    low = (a[o[0] + channel] * (1 - f.z) + a[o[1] + channel] * f.z) * (1 - f.y) + \
        (a[o[2] + channel] * (1 - f.z) + a[o[3] + channel] * f.z) * f.y
    high = (a[o[4] + channel] * (1 - f.z) + a[o[5] + channel] * f.z) * (1 - f.y) + \
        (a[o[6] + channel] * (1 - f.z) + a[o[7] + channel] * f.z) * f.y
    return low * (1 - f.x) + high * f.x


@ti.func
def _between3(a: T, o, f, channel):
    """Three channels from `channel` on."""
    return ti.Vector([_between(a, o, f, channel), _between(a, o, f, channel + 1), _between(a, o, f, channel + 2)])


@ti.func
def _coarse_scalar(a: T, p):
    """Trilinear value of a coarse scalar at p [coarse cells]."""
    i, x = _place(p.x, a.shape[0])
    j, y = _place(p.y, a.shape[1])
    k, z = _place(p.z, a.shape[2])
    I, J, K = ti.min(i + 1, a.shape[0] - 1), ti.min(j + 1, a.shape[1] - 1), ti.min(k + 1, a.shape[2] - 1)
    low = (a[i, j, k] * (1 - z) + a[i, j, K] * z) * (1 - y) + (a[i, J, k] * (1 - z) + a[i, J, K] * z) * y
    high = (a[I, j, k] * (1 - z) + a[I, j, K] * z) * (1 - y) + (a[I, J, k] * (1 - z) + a[I, J, K] * z) * y
    return low * (1 - x) + high * x


@ti.func
def _noise(tile: T, p):
    """Trilinear velocity of the periodic tile at p [coarse cells]."""
    g = p * ti.static(TILE / TILE_CELLS)
    b = ti.floor(g)
    f = g - b
    i, j, k = int(b.x) & ti.static(TILE - 1), int(b.y) & ti.static(TILE - 1), int(b.z) & ti.static(TILE - 1)
    I, J, K = (i + 1) & ti.static(TILE - 1), (j + 1) & ti.static(TILE - 1), (k + 1) & ti.static(TILE - 1)
    a, b2, c, d = (i * TILE + j) * TILE, (i * TILE + J) * TILE, (I * TILE + j) * TILE, (I * TILE + J) * TILE
    return _between3(tile, 3 * ti.Vector([a + k, a + K, b2 + k, b2 + K, c + k, c + K, d + k, d + K]), f, 0)


@ti.func
def _weights(t):
    """Catmull-Rom weights of the four nodes around a fraction t."""
    return ti.Vector([
        t * (-0.5 + t * (1.0 - 0.5 * t)), 1.0 + t * t * (1.5 * t - 2.5),
        t * (0.5 + t * (2.0 - 1.5 * t)), t * t * (0.5 * t - 0.5)])


@ti.func
def _fine_value(y: T, n, g):
    """Catmull-Rom value of the fine mass (flat, n cells) at g [fine cells], kept between the least and most of the eight nodes around it;
    outside is clean air."""
    h = g - 0.5
    b = ti.cast(ti.floor(h), ti.i32)
    f = h - ti.floor(h)
    wx, wy, wz = _weights(f.x), _weights(f.y), _weights(f.z)
    total, least, most = 0.0, 1e30, 0.0
    inside = (b.x >= 1 and b.y >= 1 and b.z >= 1 and b.x + 2 < n.x and b.y + 2 < n.y and b.z + 2 < n.z)
    if inside:
        corner = ((b.x - 1) * n.y + b.y - 1) * n.z + b.z - 1
        for p in ti.static(range(4)):
            for q in ti.static(range(4)):
                row, line = corner + (p * n.y + q) * n.z, 0.0
                for s in ti.static(range(4)):
                    value = y[row + s]
                    line += wz[s] * value
                    if ti.static(p in (1, 2) and q in (1, 2) and s in (1, 2)):
                        least = ti.min(least, value)
                        most = ti.max(most, value)
                total += wx[p] * wy[q] * line
    else:
        for p in range(2):
            for q in range(2):
                for s in range(2):
                    i, j, k = b.x + p, b.y + q, b.z + s
                    value = 0.0
                    # below the floor lies what is on it: dust that sinks must not pull clean air out of the ground
                    if 0 <= i < n.x and j < n.y and 0 <= k < n.z:
                        value = y[(i * n.y + ti.max(j, 0)) * n.z + k]
                    weight = (f.x if p == 1 else 1 - f.x) * (f.y if q == 1 else 1 - f.y) * (f.z if s == 1 else 1 - f.z)
                    total += weight * value
                    least = ti.min(least, value)
                    most = ti.max(most, value)
    return ti.math.clamp(total, least, most)


@ti.kernel
def texture_carry(velocity: REAL4, step: ti.f32, old: REAL1, new: REAL4):
    """Both sets of texture coordinates, kept as offsets, one frame on: semi-Lagrangian on the coarse grid."""
    n = ti.Vector([velocity.shape[0], velocity.shape[1], velocity.shape[2]])
    for i, j, k in ti.ndrange(velocity.shape[0], velocity.shape[1], velocity.shape[2]):
        p = ti.Vector([i + 0.5, j + 0.5, k + 0.5])
        d = -step * ti.Vector([velocity[i, j, k, 0], velocity[i, j, k, 1], velocity[i, j, k, 2]])
        o, f = _nodes(p + d, n, 6)
        for a in ti.static(range(6)):
            new[i, j, k, a] = _between(old, o, f, a) + d[a % 3]


@ti.func
def _slope(v: T, i, j, k, axis: T, channel: T):
    """Central difference of one component along one axis, per coarse cell; one-sided at the border."""
    at, n = ti.Vector([i, j, k]), v.shape[axis]
    low, high = at, at
    low[axis] = ti.max(at[axis] - 1, 0)
    high[axis] = ti.min(at[axis] + 1, n - 1)
    return (v[high.x, high.y, high.z, channel] - v[low.x, low.y, low.z, channel]) / ti.max(high[axis] - low[axis], 1)


@ti.kernel
def eddy_strength(v: REAL4, carrier: REAL4):
    """Speed of eddies of one coarse cell D: (e D)^(1/3) = Cs^(2/3) D |S| with Smagorinsky's e = (Cs D)^2 |S|^3, Cs = 0.17 (Lilly)."""
    for i, j, k in ti.ndrange(v.shape[0], v.shape[1], v.shape[2]):
        total = 0.0
        for a in ti.static(range(3)):
            for b in ti.static(range(3)):
                s = 0.5 * (_slope(v, i, j, k, a, b) + _slope(v, i, j, k, b, a))
                total += 2.0 * s * s
        carrier[i, j, k, STRENGTH] = SMAGORINSKY ** (2.0 / 3.0) * ti.sqrt(total)


@ti.kernel
def carry(cells: CELLS, r: ti.i32, carrier: REAL1, step: ti.f32, noise: REAL1, share_a: ti.f32, share_b: ti.f32, place: REAL1,
          old: REAL1, new: REAL3, carried: REAL3):
    """new = old carried along midpoint paths of coarse velocity and noise; carried = its sum over each active coarse cell."""
    coarse = ti.Vector([carried.shape[0], carried.shape[1], carried.shape[2]])
    for n in range(cells.shape[0]):
        I, J, K = cells[n, 0], cells[n, 1], cells[n, 2]
        total = ti.f64(0.0)
        for e in range(r * r * r):
            i, j, k = I * r + e // (r * r), J * r + e // r % r, K * r + e % r
            p = ti.Vector([i + 0.5, j + 0.5, k + 0.5]) / r
            o, f = _nodes(p, coarse, CHANNELS)
            here = _between3(carrier, o, f, 0)
            stir = ti.Vector([0.0, 0.0, 0.0])
            if share_a + share_b > 0.0:
                a = p + ti.Vector([place[0], place[1], place[2]]) + _between3(carrier, o, f, FIRST_SET)
                b = p + ti.Vector([place[3], place[4], place[5]]) + _between3(carrier, o, f, SECOND_SET)
                stir = _between(carrier, o, f, STRENGTH) * (share_a * _noise(noise, a) + share_b * _noise(noise, b))
            o, f = _nodes(p - 0.5 * step * here, coarse, CHANNELS)
            value = _fine_value(old, coarse * r, (p - step * (_between3(carrier, o, f, 0) + stir)) * r)
            new[i, j, k] = value
            total += value
        carried[I, J, K] = ti.f32(total)


@ti.kernel
def refill(cells: CELLS, r: ti.i32, c: REAL3, thin: REAL3, missing: REAL3, fine: REAL3):
    """fine = fine x thin + missing, both interpolated, then scaled to c in every active coarse cell."""
    for n in range(cells.shape[0]):
        I, J, K = cells[n, 0], cells[n, 1], cells[n, 2]
        each = 1.0 / (r * r * r)
        total = ti.f64(0.0)
        for e in range(r * r * r):
            i, j, k = I * r + e // (r * r), J * r + e // r % r, K * r + e % r
            p = ti.Vector([i + 0.5, j + 0.5, k + 0.5]) / r
            value = fine[i, j, k] * _coarse_scalar(thin, p) + each * _coarse_scalar(missing, p)
            fine[i, j, k] = value
            total += value
        for e in range(r * r * r):
            i, j, k = I * r + e // (r * r), J * r + e // r % r, K * r + e % r
            fine[i, j, k] = ti.f32(fine[i, j, k] * (c[I, J, K] / total)) if total > 0.0 else c[I, J, K] * each
