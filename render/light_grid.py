# pyright: basic, reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false
"""Sunlight in the dust, and the grids that light is kept on.

In: the dust's extinction, the sun's shadow map. Out: `SunGrid`, the dust's optical depth towards the sun and the share of the sun that
pieces let by, at cell centres. The optical depth comes from a sweep: slice after slice away from the sun, each cell takes
the value its ray had in the slice before and adds what lies between (the deep-opacity idea of Yuksel and Keyser 2008,
sheared along the ray). Interpolating from slice to slice softens what the dust casts far away.
"""

from dataclasses import dataclass

import numpy as np
import taichi as ti

vec3 = ti.math.vec3
Image1 = ti.types.ndarray(dtype=ti.f32, ndim=2)
Volume = ti.types.ndarray(dtype=ti.f32, ndim=3)

TETRAHEDRON = ((0.25, 0.25, 0.25), (0.25, -0.25, -0.25), (-0.25, 0.25, -0.25), (-0.25, -0.25, 0.25))  # places in a cell


@dataclass(frozen=True)
class Lattice:
    """Cubic cells of a grid."""

    lower: np.ndarray  # (3) f64 [m]
    cell: float  # [m]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class SunGrid:
    """Sun in the dust, at cell centres."""

    lattice: Lattice
    depth: np.ndarray  # (x, y, z) f32 optical depth of the dust towards the sun
    lit: np.ndarray  # (x, y, z) f32 share of the sun that pieces let by


def sun_grid(lattice: Lattice, dust: np.ndarray, sun: np.ndarray, shadow: np.ndarray, light: np.ndarray) -> SunGrid:
    """Sweep the sun through dust (x, y, z) f32 [1/m]; shadow (S, S) is the sun's depth map, light (4, 4) world to it."""
    axis = int(np.argmax(np.abs(sun)))
    count = lattice.shape[axis]
    step = sun / abs(sun[axis])
    length = float(np.linalg.norm(step)) * lattice.cell
    depth = np.zeros(lattice.shape, np.float32)
    order = range(count - 2, -1, -1) if sun[axis] > 0 else range(1, count)
    for at in order:
        _sun_sweep(axis, at, vec3(*step), length, dust, depth)
    to_world = np.diag([lattice.cell, lattice.cell, lattice.cell, 1.0])
    to_world[:3, 3] = lattice.lower + lattice.cell / 2
    to_map = light @ to_world
    lit = np.empty(lattice.shape, np.float32)
    _sun_lit(shadow, vec3(*to_map[:3, 0]), vec3(*to_map[:3, 1]), vec3(*to_map[:3, 2]), vec3(*to_map[:3, 3]), lit)
    return SunGrid(lattice, depth, lit)


@ti.kernel
def _sun_sweep(axis: ti.i32, at: ti.i32, step: vec3, length: ti.f32, dust: Volume,
               # output
               depth: Volume):
    na = ti.select(axis == 0, dust.shape[1], dust.shape[0])
    nb = ti.select(axis == 2, dust.shape[1], dust.shape[2])
    for u, v in ti.ndrange(na, nb):
        x = ti.select(axis == 0, at, u)
        y = ti.select(axis == 1, at, ti.select(axis == 0, u, v))
        z = ti.select(axis == 2, at, v)
        p = vec3(x, y, z) + step
        middle = grid_value(dust, vec3(x, y, z) + 0.5 * step)
        depth[x, y, z] = grid_value(depth, p) + length * (dust[x, y, z] + 4.0 * middle + grid_value(dust, p)) / 6.0


@ti.kernel
def _sun_lit(shadow: Image1, ax: vec3, ay: vec3, az: vec3, base: vec3,
             # output
             lit: Volume):
    size = shadow.shape[0]
    for x, y, z in lit:
        total = 0.0
        for s in ti.static(range(4)):  # four places in the cell, so that beams have soft edges
            o = ti.static(TETRAHEDRON[s])
            q = (x + o[0]) * ax + (y + o[1]) * ay + (z + o[2]) * az + base
            i, j = ti.cast(ti.floor(q[0] * size), ti.i32), ti.cast(ti.floor(q[1] * size), ti.i32)
            open = 1.0
            if 0 <= i < size and 0 <= j < size and shadow[j, i] < ti.min(q[2], 1.0) - 1e-5:
                open = 0.0
            total += 0.25 * open
        lit[x, y, z] = total


def grid_resample(source: np.ndarray, lower: np.ndarray, cell: float, lattice: Lattice) -> np.ndarray:
    """Mean of a finer grid (lower corner [m], cell [m]) over the cells of a lattice: overlaps are exact along each axis."""
    result = np.ascontiguousarray(source, np.float32)
    for axis in range(3):
        shape, n = list(result.shape), result.shape[axis]
        scale = cell / lattice.cell
        edges = (lattice.lower[axis] + lattice.cell * np.arange(lattice.shape[axis] + 1) - lower[axis]) / cell
        shape[axis] = lattice.shape[axis]
        found = np.empty(shape, np.float32)
        lines = (int(np.prod(shape[:axis])), -1, int(np.prod(shape[axis + 1:])))
        _resample(result.reshape(lines), np.clip(edges, 0, n).astype(np.float32), scale, found.reshape(lines))
        result = found
    return result


@ti.kernel
def _resample(source: Volume, edges: ti.types.ndarray(dtype=ti.f32, ndim=1), scale: ti.f32,
              # output
              out: Volume):
    """Along the middle axis: sums between edges, in cells of the source, times `scale`."""
    for o, i in ti.ndrange(out.shape[0], out.shape[1]):
        low, high = edges[i], edges[i + 1]
        first, last = ti.cast(ti.floor(low), ti.i32), ti.cast(ti.ceil(high), ti.i32)
        for j in range(out.shape[2]):
            total = 0.0
            for k in range(first, last):
                total += (ti.min(high, k + 1.0) - ti.max(low, ti.cast(k, ti.f32))) * source[o, k, j]
            out[o, i, j] = total * scale


@ti.func
def grid_value(grid: ti.template(), p: vec3) -> ti.f32:
    """Trilinear value at cell coordinates (centres at whole numbers), zero outside."""
    base = ti.floor(p)
    f = p - base
    i, j, k = ti.cast(base[0], ti.i32), ti.cast(base[1], ti.i32), ti.cast(base[2], ti.i32)
    total = 0.0
    for a, b, c in ti.static(ti.ndrange(2, 2, 2)):
        x, y, z = i + a, j + b, k + c
        if 0 <= x < grid.shape[0] and 0 <= y < grid.shape[1] and 0 <= z < grid.shape[2]:
            w = (f[0] if ti.static(a == 1) else 1 - f[0]) * (f[1] if ti.static(b == 1) else 1 - f[1]) * (
                f[2] if ti.static(c == 1) else 1 - f[2])
            total += w * grid[x, y, z]
    return total
