# pyright: basic, reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false
"""Skylight and bounced light between the pieces: transport along 24 directions on a coarse grid.

In: points on the pieces' surfaces, the sun's shadow map, sky, dust. Out: `Ambient`: the light a face receives at every cell, as a
cube of six irradiances (McTaggart 2006), and the mean radiance there for the dust. In the open it is exactly the sky's own.
The method is discrete ordinates (Chandrasekhar 1950) by sweeps. Directions are d = (1, +-1/2, +-1/2) / norm and its permutations, all of
equal solid angle, so that a ray enters a cell from the corner between four cells of the slice before:
    L(x) = mean of the four Q,     Q = L T + S (1 - T),     T = (1 - c) e^(-k l)
L arriving radiance, c the share of the cell's cross-section that its surfaces cover seen along d, S what the surfaces facing the receiver
send out (sun with shadow, then sky and earlier bounces), k and l the dust's extinction and the path. Rooms go dark, sunlit floors
light their ceilings, the foot of a wall takes colour from the ground. What is smaller than a cell is left to image-space occlusion.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import taichi as ti

from render.camera import Pose, ray_frame
from render.light_grid import Lattice
from render.scene_tables import Poses
from render.sky import Sky, sky_irradiance, sky_radiance
from shot import hashing
from shot.params import Shot
from shot.results import Fragments

vec3 = ti.math.vec3
Image1 = ti.types.ndarray(dtype=ti.f32, ndim=2)
Image = ti.types.ndarray(dtype=ti.f32, ndim=3)
Flat = ti.types.ndarray(dtype=ti.f32, ndim=1)
Index = ti.types.ndarray(dtype=ti.i32, ndim=1)
Cube = ti.types.ndarray(dtype=ti.f32, ndim=5)

DIRECTIONS = 24
CELL_LEAST = 0.5  # [m]
BOUNCES = 2
POINTS_PER_CELL = 6.0  # samples by which a face as large as a cell enters the grid
SIDES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)


def ordinates() -> np.ndarray:
    """(24, 3) f64: for each axis and sign four directions, dominant part 1 and the others +-1/2; not normalised."""
    found = []
    for axis, sign in product(range(3), (1.0, -1.0)):
        for a, b in product((0.5, -0.5), repeat=2):
            direction = np.zeros(3)
            direction[axis], direction[(axis + 1) % 3], direction[(axis + 2) % 3] = sign, a, b
            found.append(direction)
    return np.array(found)


def side_weights() -> np.ndarray:
    """(24, 6) f32: share of each direction in the irradiance of each side; radiance 1 from everywhere is irradiance pi."""
    direction = ordinates()
    weight = np.maximum(direction / np.linalg.norm(direction, axis=1, keepdims=True) @ SIDES.T, 0)
    return (weight / weight.sum(0)).astype(np.float32)


@dataclass(frozen=True)
class SurfacePoints:
    """Points spread over the pieces' surfaces, fixed to them."""

    place: np.ndarray  # (N, 3) f32 [m] local
    normal: np.ndarray  # (N, 3) f32 local
    body: np.ndarray  # (N) i64
    area: np.ndarray  # (N) f32 [m2] of the surface each stands for
    albedo: np.ndarray  # (N, 3) f32


def surface_points(shot: Shot, fragments: Fragments, lattice: Lattice, normal: np.ndarray, bodies: np.ndarray,
                   materials: np.ndarray) -> SurfacePoints:
    """Points on the faces, one for every share of their summed area, on a face by the R2 sequence (Roberts 2018) from a hashed start.

    normal (T, 4), bodies and materials are the tables of scene_tables."""
    faces = np.diff(fragments.face_start)
    owner = np.repeat(np.arange(fragments.count), faces)
    corner = fragments.vertex.astype(float)[fragments.face + np.repeat(fragments.vertex_start[:-1], faces)[:, None]]
    a, b, c = np.moveaxis(corner, 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    share = lattice.cell**2 / POINTS_PER_CELL
    end = np.cumsum(area)
    face = np.searchsorted(end, (np.arange(int(end[-1] / share)) + 0.5) * share)
    first = np.searchsorted(face, face)  # of the points on the same face
    index = np.arange(len(face)) - first
    u, v = ((hashing.uniform(shot.seed, "draw/surface points", face, lane) + index * step)[:, None] % 1
            for lane, step in enumerate((0.7548776662466927, 0.5698402909980532)))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    place = a[face] + u * (b - a)[face] + v * (c - a)[face]
    row = materials[bodies[owner, 4].astype(int)]
    colour = np.where(normal[:, 3:] > 0.5, row[:, 4:7], row[:, :3]) * bodies[owner, 3:4]
    f32 = np.float32
    return SurfacePoints(place.astype(f32), normal[face, :3].astype(f32), owner[face], np.full(len(face), share, f32),
                         colour[face].astype(f32))


WEIGHT = side_weights()


def ambient_lattice(lower: np.ndarray, upper: np.ndarray, cells: int) -> Lattice:
    """So many cells along the longest side of a box, not finer than CELL_LEAST; the box is the same for the whole shot."""
    cell = max(float((upper - lower).max()) / cells, CELL_LEAST)
    shape = np.maximum(np.ceil((upper - lower) / cell).astype(int), 2)
    return Lattice(lower, cell, (int(shape[0]), int(shape[1]), int(shape[2])))


@dataclass(frozen=True)
class Veil:
    """Dust on the ambient lattice."""

    extinction: np.ndarray  # (x, y, z) f32 [1/m]
    sun: np.ndarray  # (x, y, z) f32 share of the sun that arrives
    albedo: np.ndarray  # (3) f32


@dataclass(frozen=True)
class Ambient:
    """Light without the sun itself."""

    lattice: Lattice
    cube: np.ndarray  # (x, y, z, 6, 3) f32 irradiance / pi on faces turned to +x -x +y -y +z -z
    mean: np.ndarray  # (x, y, z, 3) f32 mean radiance over all directions
    open: np.ndarray  # (6, 3) f32 the cube under open sky over sunlit ground


@dataclass(frozen=True)
class ShadowMap:
    """The sun's depth map."""

    depth: np.ndarray  # (S, S) f32
    light: np.ndarray  # (4, 4) f64 world to map, 0..1


def ambient_light(lattice: Lattice, points: SurfacePoints, poses: Poses, shadow: ShadowMap, veil: Veil | None,
                  sky: Sky) -> Ambient:
    """Light of the first bounces everywhere in the lattice."""
    direction = ordinates()
    unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    outside = sky_radiance(sky, unit).astype(np.float32)
    sun = sky.sun_radiance.astype(np.float32)
    world, normal, place = points_placed(points, poses, lattice)
    lit = sun_share(shadow, world + 0.1 * normal) * np.maximum(normal @ sky.sun, 0).astype(np.float32)
    facing = np.maximum(normal @ SIDES.T, 0).astype(np.float32) * points.area[:, None]
    order, start = points_grouped(place)
    floor = floor_places(lattice)
    floor_lit = (sun_share(shadow, floor) * max(sky.sun[1], 0)).astype(np.float32)[..., None] * sun
    # the shot says what the open ground sends up; under the building it is that, by how much less light it gets
    full = sky.sun_radiance * max(sky.sun[1], 0) + sky_irradiance(sky, np.array([0.0, 1.0, 0.0]))
    ground_share = (sky.bounce / full).astype(np.float32)
    extinction, dust_lit, dust_albedo = veil_arrays(veil, lattice, sun)

    cells = int(np.prod(lattice.shape))
    cover, source = np.zeros(cells * 6, np.float32), np.zeros(cells * 18, np.float32)
    cube = np.zeros((*lattice.shape, 6, 3), np.float32)
    mean = np.zeros((*lattice.shape, 3), np.float32)
    arriving, leaving = sweep_memory(lattice.shape)
    side = np.float32(lattice.cell**2)
    _points_cover(order, start, place, facing, side, cover)
    for _ in range(BOUNCES):
        _points_send(order, start, place, facing, normal, lit, points.albedo, vec3(*sun), side, cube.reshape(-1), source)
        ground = np.ascontiguousarray(ground_share * (floor_lit + cube[:, 0, :, 2]))
        dust_source = dust_albedo * (dust_lit + mean)
        _sweep(*lattice.shape, direction.astype(np.float32), outside, cover, source, extinction.reshape(-1), dust_source.reshape(-1),
               ground, lattice.cell, arriving, leaving)
        _collect(*lattice.shape, arriving, cube.reshape(-1), mean.reshape(-1))
    return Ambient(lattice, cube, mean, WEIGHT.T @ outside)


@lru_cache(maxsize=1)
def sweep_memory(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Arriving and leaving radiance, flat (direction, cell with a border of one, channel) f32: kept, for a frame needs all of it anew."""
    size = DIRECTIONS * int(np.prod(np.array(shape) + 2)) * 3
    return np.zeros(size, np.float32), np.zeros(size, np.float32)


def points_placed(points: SurfacePoints, poses: Poses, lattice: Lattice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World places and normals (N, 3), and flat cell numbers (N) i32, -1 outside the lattice."""
    linear = poses.linear.astype(np.float32)[points.body]
    world = np.einsum("nij,nj->ni", linear, points.place) + poses.position[points.body]
    normal = np.einsum("nij,nj->ni", linear, points.normal)
    # a face on a cell's border belongs to the cell behind it
    cell = np.floor((world - 1e-3 * lattice.cell * normal - lattice.lower) / lattice.cell).astype(np.int64)
    inside = np.all((cell >= 0) & (cell < lattice.shape), axis=1)
    flat = np.full(len(cell), -1, np.int32)
    flat[inside] = np.ravel_multi_index(tuple(cell[inside].T), lattice.shape)
    return world, normal, flat


def points_grouped(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points inside the lattice in order of their cells (K) i32, those of a cell in their own order, and where cells begin (C + 1)."""
    order = np.argsort(place, kind="stable")
    order = order[np.searchsorted(place[order], 0):]
    begins = np.flatnonzero(np.diff(place[order], prepend=-1))
    return order.astype(np.int32), np.append(begins, len(order)).astype(np.int32)


def sun_share(shadow: ShadowMap, world: np.ndarray) -> np.ndarray:
    """f32: 1 where the sun reaches world places (..., 3), 0 in shadow."""
    q = world @ shadow.light[:3, :3].T + shadow.light[:3, 3]
    size = len(shadow.depth)
    column, row = (np.floor(q[..., k] * size).astype(np.int64) for k in (0, 1))
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    depth = shadow.depth[np.clip(row, 0, size - 1), np.clip(column, 0, size - 1)]
    return np.where(inside & (depth < np.minimum(q[..., 2], 1)), 0, 1).astype(np.float32)


def floor_places(lattice: Lattice) -> np.ndarray:
    """(x, z, 3) f64 ground below the cells."""
    x, z = (lattice.lower[k] + lattice.cell * (np.arange(lattice.shape[k]) + 0.5) for k in (0, 2))
    return np.stack([*np.meshgrid(x, [0.02], z, indexing="ij")], -1)[:, 0]


def veil_arrays(veil: Veil | None, lattice: Lattice, sun: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Extinction (x, y, z), sunlight scattered by the dust (x, y, z, 3) and its albedo; zeros without dust."""
    if veil is None:
        return np.zeros(lattice.shape, np.float32), np.zeros((*lattice.shape, 3), np.float32), np.zeros(3, np.float32)
    # isotropic: pi sun / (4 pi) a unit of optical depth
    return veil.extinction, (veil.sun[..., None] * sun / 4).astype(np.float32), veil.albedo


@ti.kernel
def _points_cover(order: Index, start: Index, place: Index, facing: Image1, side: ti.f32,
                  # output
                  cover: Flat):
    """Share of a cell's cross-section that faces cover, (cell, side); sums in the order of the points."""
    for g in range(start.shape[0] - 1):
        total = ti.Vector.zero(ti.f64, 6)
        for j in range(start[g], start[g + 1]):
            for s in ti.static(range(6)):
                total[s] += ti.cast(facing[order[j], s], ti.f64)
        for s in ti.static(range(6)):
            cover[6 * place[order[start[g]]] + s] = ti.cast(total[s], ti.f32) / side


@ti.kernel
def _points_send(order: Index, start: Index, place: Index, facing: Image1, normal: Image1, lit: Flat, albedo: Image1, sun: vec3,
                 side: ti.f32, cube: Flat,
                 # output
                 source: Flat):
    """What the faces in a cell send to each side, (cell, side, channel): sun and the light of the bounces before."""
    for g in range(start.shape[0] - 1):
        cell = place[order[start[g]]]
        total = ti.Matrix.zero(ti.f64, 6, 3)
        for j in range(start[g], start[g + 1]):
            i = order[j]
            light = vec3(0.0)
            for k in ti.static(range(3)):
                at = 18 * cell + 3 * ti.select(normal[i, k] > 0, 2 * k, 2 * k + 1)
                light += normal[i, k] * normal[i, k] * vec3(cube[at], cube[at + 1], cube[at + 2])
            light = (lit[i] * sun + light) * vec3(albedo[i, 0], albedo[i, 1], albedo[i, 2])
            for s, n in ti.static(ti.ndrange(6, 3)):
                total[s, n] += ti.cast(facing[i, s] * light[n], ti.f64)
        for s, n in ti.static(ti.ndrange(6, 3)):
            source[18 * cell + 3 * s + n] = ti.cast(total[s, n], ti.f32) / side


@ti.func
def colour_at(a: ti.template(), c) -> vec3:
    return vec3(a[c], a[c + 1], a[c + 2])


@ti.func
def colour_put(a: ti.template(), c, colour: vec3):
    for n in ti.static(range(3)):
        a[c + n] = colour[n]


@ti.kernel
def _sweep(nx: ti.i32, ny: ti.i32, nz: ti.i32, direction: Image1, outside: Image1, cover: Flat, source: Flat, extinction: Flat,
           dust_source: Flat, ground: Image, cell: ti.f32,
           # outputs
           arriving: Flat, leaving: Flat):
    sz, sy, sx = 3, 3 * (nz + 2), 3 * (nz + 2) * (ny + 2)  # strides with the border
    for d in range(DIRECTIONS):  # each direction is one task: its slices depend on each other
        w = vec3(direction[d, 0], direction[d, 1], direction[d, 2])
        sky = vec3(outside[d, 0], outside[d, 1], outside[d, 2])
        first = d * (nx + 2) * sx + sx + sy + sz  # of cell (0, 0, 0)
        for x, y in ti.ndrange((-1, nx + 1), (-1, ny + 1)):
            row = first + x * sx + y * sy
            colour_put(leaving, row - sz, sky)
            colour_put(leaving, row + nz * sz, sky)
            if x < 0 or x == nx or y == ny:
                for z in range(nz):
                    colour_put(leaving, row + z * sz, sky)
            elif y < 0:
                for z in range(nz):
                    colour_put(leaving, row + z * sz, vec3(ground[x, z, 0], ground[x, z, 1], ground[x, z, 2]))
        # receiver to its four sources: one cell along the dominant axis, none or one along the others
        low, high = 0, ti.math.ivec2(0)
        turn = 0
        for k in ti.static(range(3)):
            stride = ti.Vector([sx, sy, sz])[k]
            step = ti.select(w[k] > 0, stride, -stride)
            if ti.abs(w[k]) > 0.75:
                low += step
            else:
                low += ti.min(step, 0)
                high[turn] = stride
                turn += 1
        path = w.norm() * cell
        slant = ti.abs(w)
        # sides of a source that face the receiver
        side = ti.math.ivec3(ti.select(w[0] > 0, 1, 0), ti.select(w[1] > 0, 3, 2), ti.select(w[2] > 0, 5, 4))
        for a in range(nx):
            x = ti.select(w[0] > 0, nx - 1 - a, a)
            for b in range(ny):
                y = ti.select(w[1] > 0, ny - 1 - b, b)
                for e in range(nz):
                    z = ti.select(w[2] > 0, nz - 1 - e, e)
                    c, p = first + x * sx + y * sy + z * sz, (x * ny + y) * nz + z
                    near = c + low
                    light = colour_at(leaving, near)
                    light += colour_at(leaving, near + high[1])
                    light += colour_at(leaving, near + high[0])
                    light += colour_at(leaving, near + high[0] + high[1])
                    light *= 0.25
                    colour_put(arriving, c, light)
                    covered = 0.0
                    for s in ti.static(range(3)):
                        covered += slant[s] * cover[6 * p + side[s]]
                    if covered > 0.0:
                        sent = vec3(0.0)
                        for s in ti.static(range(3)):
                            sent += slant[s] * colour_at(source, 18 * p + 3 * side[s])
                        sent /= covered
                        light = sent + (light - sent) * ti.max(1.0 - covered, 0.0)
                    if extinction[p] > 0.0:
                        dust = colour_at(dust_source, 3 * p)
                        light = dust + (light - dust) * ti.exp(-extinction[p] * path)
                    colour_put(leaving, c, light)


@ti.kernel
def _collect(nx: ti.i32, ny: ti.i32, nz: ti.i32, arriving: Flat,
             # outputs
             cube: Flat, mean: Flat):
    sz, sy, sx = 3, 3 * (nz + 2), 3 * (nz + 2) * (ny + 2)
    for row in range(nx * ny):
        first = (row // ny + 1) * sx + (row % ny + 1) * sy + sz
        for z in range(nz):
            total, side = vec3(0.0), ti.Matrix.zero(ti.f32, 6, 3)
            for d in ti.static(range(DIRECTIONS)):
                light = colour_at(arriving, d * (nx + 2) * sx + first + z * sz)
                total += light
                for s in ti.static(range(6)):
                    if ti.static(WEIGHT[d, s] > 0):
                        for n in ti.static(range(3)):
                            side[s, n] += ti.static(float(WEIGHT[d, s])) * light[n]
            p = row * nz + z
            colour_put(mean, 3 * p, total / DIRECTIONS)
            for s, n in ti.static(ti.ndrange(6, 3)):
                cube[18 * p + 3 * s + n] = side[s, n]


def ambient_irradiance(ambient: Ambient, sky: Sky, depth: np.ndarray, normal: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Irradiance / pi (H, W, 3) of each pixel's face, and its luminance (H, W) against open sky, at most 1; sky pixels get 0 and 1."""
    corner, right, down = ray_frame(pose)
    light, share = np.empty((*depth.shape, 3), np.float32), np.empty_like(depth)
    lower = (ambient.lattice.lower - pose.eye) / ambient.lattice.cell
    _irradiance(ambient.cube, ambient.open, sky.irradiance.astype(np.float32), depth, normal, vec3(*corner), vec3(*right), vec3(*down),
                vec3(*lower), 1 / ambient.lattice.cell, light, share)
    return light, share


@ti.kernel
def _irradiance(cube: Cube, open: Image1, basis: Image1, depth: Image1, normal: Image, corner: vec3, right: vec3, down: vec3, lower: vec3,
                scale: ti.f32,
                # outputs
                light: Image, share: Image1):
    nx, ny, nz = cube.shape[0], cube.shape[1], cube.shape[2]
    for y, x in depth:
        z = depth[y, x]
        total, seen = vec3(0.0), 1.0
        if z < 1e30:
            n = vec3(normal[y, x, 0], normal[y, x, 1], normal[y, x, 2])
            terms = ti.Vector([1.0, n[0], n[1], n[2], n[0] * n[1], n[1] * n[2], n[2] * n[0], n[0] * n[0], n[1] * n[1], n[1] ** 3])
            for t in ti.static(range(10)):
                total += terms[t] * vec3(basis[t, 0], basis[t, 1], basis[t, 2])
            total = ti.max(total, 0.0)
            p = z * (corner + (ti.cast(x, ti.f32) + 0.5) * right + (ti.cast(y, ti.f32) + 0.5) * down)
            # a little in front of the face, away from the light behind it
            q = p * scale - lower + 0.7 * n - 0.5
            q[1] = ti.max(q[1], 0.0)
            base = ti.floor(q)
            f = q - base
            i, j, k = ti.cast(base[0], ti.i32), ti.cast(base[1], ti.i32), ti.cast(base[2], ti.i32)
            if -1 <= i < nx and j < ny and -1 <= k < nz:
                found, free = vec3(0.0), vec3(0.0)
                for s in ti.static(range(3)):
                    side = ti.select(n[s] > 0, 2 * s, 2 * s + 1)
                    part = n[s] * n[s]
                    clear = vec3(open[side, 0], open[side, 1], open[side, 2])
                    free += part * clear
                    for a, b, c in ti.static(ti.ndrange(2, 2, 2)):
                        w = (f[0] if ti.static(a == 1) else 1 - f[0]) * (f[1] if ti.static(b == 1) else 1 - f[1]) * (
                            f[2] if ti.static(c == 1) else 1 - f[2])
                        u, v, m = i + a, j + b, k + c
                        if 0 <= u < nx and 0 <= v < ny and 0 <= m < nz:
                            found += part * w * vec3(cube[u, v, m, side, 0], cube[u, v, m, side, 1], cube[u, v, m, side, 2])
                        else:
                            found += part * w * clear
                ratio = found / ti.max(free, 1e-6)
                total *= ratio
                seen = ti.min(ratio.dot(vec3(0.2126, 0.7152, 0.0722)), 1.0)
        for c in ti.static(range(3)):
            light[y, x, c] = total[c]
        share[y, x] = seen
