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
Volume = ti.types.ndarray(dtype=ti.f32, ndim=3)
Volumes = ti.types.ndarray(dtype=ti.f32, ndim=4)
Cube = ti.types.ndarray(dtype=ti.f32, ndim=5)

DIRECTIONS = 24
CELLS = 56  # along the longest side
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


def ambient_lattice(lower: np.ndarray, upper: np.ndarray) -> Lattice:
    """Cells over a box, CELLS along its longest side, not finer than CELL_LEAST; the box is the same for the whole shot."""
    cell = max(float((upper - lower).max()) / CELLS, CELL_LEAST)
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
    cover = cells_sum(place, facing, lattice) / np.float32(lattice.cell**2)
    floor = floor_places(lattice)
    floor_lit = (sun_share(shadow, floor) * max(sky.sun[1], 0)).astype(np.float32)[..., None] * sun
    # the shot says what the open ground sends up; under the building it is that, by how much less light it gets
    full = sky.sun_radiance * max(sky.sun[1], 0) + sky_irradiance(sky, np.array([0.0, 1.0, 0.0]))
    ground_share = (sky.bounce / full).astype(np.float32)
    extinction, dust_lit, dust_albedo = veil_arrays(veil, lattice, sun)

    cube = np.zeros((*lattice.shape, 6, 3), np.float32)
    mean = np.zeros((*lattice.shape, 3), np.float32)
    arriving, leaving = (np.empty((DIRECTIONS, *lattice.shape, 3), np.float32) for _ in range(2))  # a direction's cells lie together
    weight = np.maximum(unit @ SIDES.T, 0)
    weight = (weight / weight.sum(0)).astype(np.float32)  # radiance 1 from everywhere is irradiance pi
    for _ in range(BOUNCES):
        received = lit[:, None] * sun + cube_at_points(cube, place, normal)
        sent = np.einsum("ns,nc->nsc", facing, points.albedo * received).reshape(len(place), 18)
        source = cells_sum(place, sent, lattice) / np.float32(lattice.cell**2)
        ground = np.ascontiguousarray(ground_share * (floor_lit + cube[:, 0, :, 2]))
        dust_source = dust_albedo * (dust_lit + mean)
        _sweep(direction.astype(np.float32), outside, cover, source, extinction, dust_source, ground, lattice.cell, arriving, leaving)
        _collect(arriving, weight, cube, mean)
    return Ambient(lattice, cube, mean, weight.T @ outside)


def points_placed(points: SurfacePoints, poses: Poses, lattice: Lattice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World places and normals (N, 3), and flat cell numbers (N), -1 outside the lattice."""
    linear = poses.linear.astype(np.float32)[points.body]
    world = np.einsum("nij,nj->ni", linear, points.place) + poses.position[points.body]
    normal = np.einsum("nij,nj->ni", linear, points.normal)
    # a face on a cell's border belongs to the cell behind it
    cell = np.floor((world - 1e-3 * lattice.cell * normal - lattice.lower) / lattice.cell).astype(np.int64)
    inside = np.all((cell >= 0) & (cell < lattice.shape), axis=1)
    flat = np.full(len(cell), -1)
    flat[inside] = np.ravel_multi_index(tuple(cell[inside].T), lattice.shape)
    return world, normal, flat


def cells_sum(place: np.ndarray, values: np.ndarray, lattice: Lattice) -> np.ndarray:
    """(K, x, y, z) f32 sums of values (N, K) over the cells at place (N); in fixed order."""
    inside = place >= 0
    total = int(np.prod(lattice.shape))
    at, kept = place[inside], values[inside]
    sums = np.empty((values.shape[1], total), np.float32)
    for k, row in enumerate(sums):
        row[:] = np.bincount(at, kept[:, k], total)
    return sums.reshape(-1, *lattice.shape)


def cube_at_points(cube: np.ndarray, place: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(N, 3) irradiance / pi that the cube of each point's cell gives its face."""
    share = normal**2
    side = np.stack([np.where(normal[:, k] > 0, 2 * k, 2 * k + 1) for k in range(3)], 1)
    values = cube.reshape(-1, 6, 3)[np.maximum(place, 0)[:, None], side]
    return np.where(place[:, None] >= 0, np.einsum("nk,nkc->nc", share, values), 0).astype(np.float32)


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
def _sweep(direction: Image1, outside: Image1, cover: Volumes, source: Volumes, extinction: Volume, dust_source: Volumes, ground: Image,
           cell: ti.f32,
           # outputs
           arriving: Cube, leaving: Cube):
    nx, ny, nz = extinction.shape[0], extinction.shape[1], extinction.shape[2]
    for d in range(DIRECTIONS):  # each direction is one task: its slices depend on each other
        w = vec3(direction[d, 0], direction[d, 1], direction[d, 2])
        # receiver to source: one cell along the dominant axis, none or one along the others
        first = ti.math.ivec3(0)
        last = ti.math.ivec3(0)
        for k in ti.static(range(3)):
            if ti.abs(w[k]) > 0.75:
                first[k] = last[k] = ti.select(w[k] > 0, 1, -1)
            elif w[k] > 0:
                last[k] = 1
            else:
                first[k] = -1
        path = w.norm() * cell
        # sides of a source that face the receiver
        side = ti.math.ivec3(ti.select(w[0] > 0, 1, 0), ti.select(w[1] > 0, 3, 2), ti.select(w[2] > 0, 5, 4))
        sky = vec3(outside[d, 0], outside[d, 1], outside[d, 2])
        for a in range(nx):
            x = ti.select(w[0] > 0, nx - 1 - a, a)
            for b in range(ny):
                y = ti.select(w[1] > 0, ny - 1 - b, b)
                for c in range(nz):
                    z = ti.select(w[2] > 0, nz - 1 - c, c)
                    light = vec3(0.0)
                    for i in range(first[0], last[0] + 1):
                        for j in range(first[1], last[1] + 1):
                            for k in range(first[2], last[2] + 1):
                                u, v, m = x + i, y + j, z + k
                                if u < 0 or u >= nx or m < 0 or m >= nz or v >= ny:
                                    light += sky
                                elif v < 0:
                                    light += vec3(ground[u, m, 0], ground[u, m, 1], ground[u, m, 2])
                                else:
                                    light += vec3(leaving[d, u, v, m, 0], leaving[d, u, v, m, 1], leaving[d, u, v, m, 2])
                    light *= 0.25
                    for n in ti.static(range(3)):
                        arriving[d, x, y, z, n] = light[n]
                    covered, sent = 0.0, vec3(0.0)
                    for s in ti.static(range(3)):
                        slant = ti.abs(w[s])
                        covered += slant * cover[side[s], x, y, z]
                        for n in ti.static(range(3)):
                            sent[n] += slant * source[3 * side[s] + n, x, y, z]
                    if covered > 0.0:
                        sent /= covered
                        light = sent + (light - sent) * ti.max(1.0 - covered, 0.0)
                    if extinction[x, y, z] > 0.0:
                        dust = vec3(dust_source[x, y, z, 0], dust_source[x, y, z, 1], dust_source[x, y, z, 2])
                        light = dust + (light - dust) * ti.exp(-extinction[x, y, z] * path)
                    for n in ti.static(range(3)):
                        leaving[d, x, y, z, n] = light[n]


@ti.kernel
def _collect(arriving: Cube, weight: Image1,
             # outputs
             cube: Cube, mean: Volumes):
    for x, y, z in ti.ndrange(mean.shape[0], mean.shape[1], mean.shape[2]):
        total, side = vec3(0.0), ti.Matrix.zero(ti.f32, 6, 3)
        for d in range(DIRECTIONS):
            light = vec3(arriving[d, x, y, z, 0], arriving[d, x, y, z, 1], arriving[d, x, y, z, 2])
            total += light
            for s, n in ti.static(ti.ndrange(6, 3)):
                side[s, n] += weight[d, s] * light[n]
        for n in ti.static(range(3)):
            mean[x, y, z, n] = total[n] / DIRECTIONS
            for s in ti.static(range(6)):
                cube[x, y, z, s, n] = side[s, n]


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
