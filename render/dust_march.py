# pyright: basic, reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false
"""Dust as a lit volume: marched at half resolution against the depth pass, then brought to full resolution along depth edges.

In: a Dust frame, sun grid and ambient light, depth (H, W). Out: `DustImage`: premultiplied in-scattered light with alpha, mean depth,
motion. Per step of length s with extinction k: alpha grows by (1 - e^(-k s)) of what is left, the light by the same share of
    L = albedo * ( sum_i (b a)^i  E  HG(g c^i)  e^(-c^i tau) lit  +  ambient ),   a = albedo, b = 0.8, c = 0.5, i = 0..2,
E the sun's irradiance, tau the dust's optical depth to the sun: the octaves of Wrenninge et al. 2013 stand for light scattered
more than once, which is what keeps thick dust warm and bright instead of sooty. The upsampling is joint bilateral
(Kopf et al. 2007): a low pixel counts by how near it is and whether its depth limit agrees. Dust does not light the solids.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import taichi as ti

from render.ambient import Ambient
from render.camera import Pose, camera_pose, ray_frame
from render.light_grid import Lattice, SunGrid, grid_resample, grid_value, sun_grid
from render.samples import DustLight
from render.sky import Sky
from shot.params import Shot

vec3 = ti.math.vec3
Image1 = ti.types.ndarray(dtype=ti.f32, ndim=2)
Image = ti.types.ndarray(dtype=ti.f32, ndim=3)
Volume = ti.types.ndarray(dtype=ti.f32, ndim=3)
Volumes = ti.types.ndarray(dtype=ti.f32, ndim=4)

BRICK = 8  # cells along a side of the empty-space grid
OCTAVES = 3
OCTAVE_LIGHT, OCTAVE_SPREAD = 0.8, 0.5
THIN = 1e-4  # alpha below which there is no dust


@dataclass(frozen=True)
class DustVolume:
    """Extinction of one frame's dust."""

    extinction: np.ndarray  # (x, y, z) f32 [1/m]
    lower: np.ndarray  # (3) f64 [m]
    cell: float  # [m]
    velocity: np.ndarray | None  # (u, v, w, 3) f32 [m/s] on the whole grid, where the frame brings it
    origin: np.ndarray  # (3) f64 [m] of the whole grid


@dataclass(frozen=True)
class DustImage:
    """Dust of one frame, (H, W)."""

    dust: np.ndarray  # (H, W, 4) f32 premultiplied
    depth: np.ndarray  # (H, W) f32 [m], inf where there is none
    motion: np.ndarray  # (H, W, 2) f32 [px], here minus previous


def dust_volume(shot: Shot, grid: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> DustVolume | None:
    """Extinction of a Dust frame, coarse or fine; None where there is no dust."""
    mass = arrays["mass"]
    if mass.size == 0 or shot.look.dust_extinction == 0 or not np.any(mass > 0):
        return None
    cell, origin = float(grid["cell"]), np.asarray(grid["origin"], float)
    lower = origin + cell * np.asarray(arrays.get("lower", np.zeros(3)), float)
    extinction = np.ascontiguousarray(mass, np.float32) * np.float32(shot.look.dust_extinction / cell**3)
    velocity = np.ascontiguousarray(arrays["velocity"], np.float32) if "velocity" in arrays else None
    return DustVolume(extinction, lower, cell, velocity, origin)


def dust_sun(volume: DustVolume, sky: Sky, shadow: np.ndarray, light: np.ndarray) -> SunGrid:
    """Sun in the dust, on cells twice as wide as the dust's, with a cell of clear air around."""
    cell = 2 * volume.cell
    shape = np.ceil(np.array(volume.extinction.shape) / 2).astype(int) + 2
    lattice = Lattice(volume.lower - cell, cell, (int(shape[0]), int(shape[1]), int(shape[2])))
    return sun_grid(lattice, grid_resample(volume.extinction, volume.lower, volume.cell, lattice), sky.sun, shadow, light)


def dust_light(sun: SunGrid) -> DustLight:
    """What the raster needs to let the dust shade the solids."""
    extent = np.array(sun.lattice.shape) * sun.lattice.cell
    return DustLight(np.exp(-sun.depth), sun.lattice.lower, extent)


def dust_image(shot: Shot, volume: DustVolume, sun: SunGrid, air: Ambient, sky: Sky, depth: np.ndarray, pose: Pose,
               frame: int) -> DustImage:
    """March and upsample."""
    h, w = depth.shape
    corner, right, down = ray_frame(pose)
    low = ((h + 1) // 2, (w + 1) // 2)
    light, limit, mean = np.zeros((*low, 4), np.float32), np.empty(low, np.float32), np.empty(low, np.float32)
    bricks = brick_maxima(volume.extinction)
    albedo = np.asarray(shot.look.dust_albedo, np.float32)
    octaves = np.array([[(OCTAVE_LIGHT * a) ** i for a in albedo] for i in range(OCTAVES)], np.float32)
    irradiance = (np.pi * sky.sun_radiance).astype(np.float32)

    def cells(lattice_lower: np.ndarray, cell: float) -> tuple[vec3, float]:
        return vec3(*((pose.eye - lattice_lower) / cell - 0.5)), 1 / cell

    fine, to_fine = cells(volume.lower, volume.cell)
    lit, to_lit = cells(sun.lattice.lower, sun.lattice.cell)
    up, to_up = cells(air.lattice.lower, air.lattice.cell)
    _march(depth, volume.extinction, bricks, sun.depth, sun.lit, air.mean, octaves, vec3(*corner), vec3(*right), vec3(*down),
           fine, to_fine, lit, to_lit, up, to_up, vec3(*sky.sun), vec3(*irradiance), vec3(*albedo), shot.look.dust_phase,
           shot.look.dust_steps, light, limit, mean)
    out = DustImage(np.empty((h, w, 4), np.float32), np.empty((h, w), np.float32), np.empty((h, w, 2), np.float32))
    _upsample(depth, light, limit, mean, out.dust, out.depth)
    before = camera_pose(shot, frame - 1)
    clip = before.projection[:3, :3] @ before.turn
    velocity = volume.velocity if volume.velocity is not None else np.zeros((1, 1, 1, 3), np.float32)
    coarse, to_coarse = cells(volume.origin, volume.cell)
    _dust_motion(out.depth, velocity, vec3(*corner), vec3(*right), vec3(*down), vec3(*(pose.eye - before.eye)), vec3(*clip[0]),
                 vec3(*clip[1]), vec3(*-before.turn[2]), coarse, to_coarse, 1 / shot.fps, out.motion)
    return out


def brick_maxima(extinction: np.ndarray) -> np.ndarray:
    """Largest extinction that a trilinear lookup can meet in each brick of BRICK^3 cells."""
    shape = [-(-n // BRICK) for n in extinction.shape]
    bricks = np.zeros(shape, np.float32)
    _brick_maxima(extinction, bricks)
    return bricks


@ti.kernel
def _brick_maxima(extinction: Volume,
                  # output
                  bricks: Volume):
    for bx, by, bz in bricks:
        largest = 0.0
        for x in range(ti.max(bx * BRICK - 1, 0), ti.min(bx * BRICK + BRICK + 1, extinction.shape[0])):
            for y in range(ti.max(by * BRICK - 1, 0), ti.min(by * BRICK + BRICK + 1, extinction.shape[1])):
                for z in range(ti.max(bz * BRICK - 1, 0), ti.min(bz * BRICK + BRICK + 1, extinction.shape[2])):
                    largest = ti.max(largest, extinction[x, y, z])
        bricks[bx, by, bz] = largest


@ti.func
def henyey_greenstein(g: ti.f32, cosine: ti.f32) -> ti.f32:
    """Phase function [1/sr]."""
    return (1.0 - g * g) / (12.566371 * ti.pow(1.0 + g * g - 2.0 * g * cosine, 1.5))


@ti.func
def grid_colour(grid: ti.template(), p: vec3) -> vec3:
    """Trilinear colour, held at the border."""
    q = ti.math.clamp(p, vec3(0.0), vec3(grid.shape[0] - 1.0, grid.shape[1] - 1.0, grid.shape[2] - 1.0))
    base = ti.floor(q)
    f = q - base
    i, j, k = ti.cast(base[0], ti.i32), ti.cast(base[1], ti.i32), ti.cast(base[2], ti.i32)
    total = vec3(0.0)
    for a, b, c in ti.static(ti.ndrange(2, 2, 2)):
        w = (f[0] if ti.static(a == 1) else 1 - f[0]) * (f[1] if ti.static(b == 1) else 1 - f[1]) * (
            f[2] if ti.static(c == 1) else 1 - f[2])
        x, y, z = ti.min(i + a, grid.shape[0] - 1), ti.min(j + b, grid.shape[1] - 1), ti.min(k + c, grid.shape[2] - 1)
        total += w * vec3(grid[x, y, z, 0], grid[x, y, z, 1], grid[x, y, z, 2])
    return total


@ti.kernel
def _march(depth: Image1, extinction: Volume, bricks: Volume, sun_depth: Volume, sun_lit: Volume, air: Volumes, octaves: Image1,
           corner: vec3, right: vec3, down: vec3, fine: vec3, to_fine: ti.f32, lit: vec3, to_lit: ti.f32, up: vec3, to_up: ti.f32,
           sun: vec3, irradiance: vec3, albedo: vec3, phase: ti.f32, steps: ti.i32,
           # outputs
           light: Image, limit: Image1, mean: Image1):
    h, w = depth.shape[0], depth.shape[1]
    box = vec3(extinction.shape[0], extinction.shape[1], extinction.shape[2])
    last = vec3(bricks.shape[0] - 1, bricks.shape[1] - 1, bricks.shape[2] - 1)
    for v, u in limit:
        # nearest of the four pixels on one colour of a checkerboard, farthest on the other: both sides of an edge are marched
        nearest, farthest = depth[2 * v, 2 * u], depth[2 * v, 2 * u]
        for s in ti.static(range(1, 4)):
            z = depth[ti.min(2 * v + s // 2, h - 1), ti.min(2 * u + s % 2, w - 1)]
            nearest = ti.min(nearest, z)
            farthest = ti.max(farthest, z)
        end = ti.select((u + v) % 2 == 0, nearest, farthest)
        limit[v, u] = end
        ray = corner + (2.0 * u + 1.0) * right + (2.0 * v + 1.0) * down  # depth 1
        reach = ray.norm()
        way = ray / reach
        # enter and leave the box, in cells along the ray; cell centres are at whole numbers
        t0, t1 = 0.0, ti.min(end * reach, 1e7) * to_fine
        for k in ti.static(range(3)):
            a, b = (-0.5 - fine[k]) / way[k], (box[k] - 0.5 - fine[k]) / way[k]
            if way[k] != 0.0:
                t0, t1 = ti.max(t0, ti.min(a, b)), ti.min(t1, ti.max(a, b))
            elif fine[k] < -0.5 or fine[k] > box[k] - 0.5:
                t1 = -1.0
        through, colour, weighed = 1.0, vec3(0.0), 0.0
        if t1 > t0:
            stride = ti.max((t1 - t0) / steps, 1.0)
            lobes = ti.Matrix.zero(ti.f32, OCTAVES, 3)
            for i, c in ti.static(ti.ndrange(OCTAVES, 3)):
                lobes[i, c] = octaves[i, c] * henyey_greenstein(phase * OCTAVE_SPREAD**i, way.dot(sun))
            jitter = 52.9829189 * ti.math.fract(0.06711056 * u + 0.00583715 * v)
            t = t0 + stride * (jitter - ti.floor(jitter))
            while t < t1 and through > 4e-3:
                p = fine + t * way
                cell = ti.math.clamp(ti.floor((p + 0.5) / BRICK), vec3(0.0), last)
                if bricks[ti.cast(cell[0], ti.i32), ti.cast(cell[1], ti.i32), ti.cast(cell[2], ti.i32)] * stride < 1e-4 * to_fine:
                    away = 1e9
                    for k in ti.static(range(3)):
                        face = (cell[k] + (1.0 if way[k] > 0 else 0.0)) * BRICK - 0.5
                        if way[k] != 0.0:
                            away = ti.min(away, (face - p[k]) / way[k])
                    t += stride * ti.max(ti.ceil(away / stride), 1.0)
                    continue
                k = grid_value(extinction, p)
                span = ti.min(stride, t1 - t + 0.5 * stride)
                lost = 1.0 - ti.exp(-k * span / to_fine)
                if lost > 1e-5:
                    at = t / to_fine * way
                    s = lit + at * to_lit
                    tau, free = grid_value(sun_depth, s), grid_value(sun_lit, s)
                    fade = ti.exp(-tau * OCTAVE_SPREAD ** (OCTAVES - 1))  # each octave's is the next one's squared: spread is 1/2
                    glow = vec3(0.0)
                    for i in ti.static(range(OCTAVES - 1, -1, -1)):
                        glow += fade * vec3(lobes[i, 0], lobes[i, 1], lobes[i, 2])
                        fade *= fade
                    source = albedo * (irradiance * free * glow + grid_colour(air, up + at * to_up))
                    colour += through * lost * source
                    weighed += through * lost * t
                    through *= 1.0 - lost
                t += stride
        alpha = 1.0 - through
        light[v, u, 0], light[v, u, 1], light[v, u, 2], light[v, u, 3] = colour[0], colour[1], colour[2], alpha
        mean[v, u] = ti.select(alpha > THIN, weighed / ti.max(alpha, THIN) / (to_fine * reach), 0.0)


@ti.kernel
def _upsample(depth: Image1, light: Image, limit: Image1, mean: Image1,
              # outputs
              dust: Image, dust_depth: Image1):
    lh, lw = limit.shape[0], limit.shape[1]
    for y, x in depth:
        z = depth[y, x]
        cy, cx = (y + 0.5) / 2.0 - 0.5, (x + 0.5) / 2.0 - 0.5
        by, bx = ti.cast(ti.round(cy), ti.i32), ti.cast(ti.round(cx), ti.i32)
        dusty = False
        for j, i in ti.static(ti.ndrange((-1, 2), (-1, 2))):
            dusty |= light[ti.math.clamp(by + j, 0, lh - 1), ti.math.clamp(bx + i, 0, lw - 1), 3] > 0.0
        result, far, fars = ti.Vector([0.0, 0.0, 0.0, 0.0]), 0.0, 0.0
        if dusty:
            total, weights = ti.Vector([0.0, 0.0, 0.0, 0.0]), 0.0
            best, least = ti.Vector([0.0, 0.0, 0.0, 0.0]), 1e30
            for j, i in ti.static(ti.ndrange((-1, 2), (-1, 2))):
                v, u = ti.math.clamp(by + j, 0, lh - 1), ti.math.clamp(bx + i, 0, lw - 1)
                value = ti.Vector([light[v, u, 0], light[v, u, 1], light[v, u, 2], light[v, u, 3]])
                dy, dx = by + j - cy, bx + i - cx
                # depth limits that both lie behind the dust agree, whatever they are
                near, other = ti.min(z, 1e7), ti.min(limit[v, u], 1e7)
                behind = mean[v, u] * 1.5 + 5.0
                gap = ti.abs(ti.min(near, behind) - ti.min(other, behind)) / (0.02 * ti.min(near, other) + 0.05)
                weight = ti.exp(-1.1 * (dx * dx + dy * dy)) * ti.exp(-gap)
                total += weight * value
                weights += weight
                if gap < least:
                    least = gap
                    best = value
                far += weight * value[3] * mean[v, u]
                fars += weight * value[3]
            result = best
            if weights > 1e-4:
                result = total / weights
        for k in ti.static(range(4)):
            dust[y, x, k] = result[k]
        dust_depth[y, x] = ti.select(result[3] > THIN and fars > 0.0, far / ti.max(fars, 1e-12), ti.math.inf)


@ti.kernel
def _dust_motion(depth: Image1, velocity: Volumes, corner: vec3, right: vec3, down: vec3, shift: vec3, clip_x: vec3, clip_y: vec3,
                 axis: vec3, coarse: vec3, to_coarse: ti.f32, seconds: ti.f32,
                 # output
                 motion: Image):
    h, w = depth.shape[0], depth.shape[1]
    for y, x in depth:
        backward = ti.math.vec2(0.0)
        z = depth[y, x]
        if z < 1e30:
            p = z * (corner + (x + 0.5) * right + (y + 0.5) * down)
            before = p + shift - seconds * grid_colour(velocity, coarse + p * to_coarse)
            deep = axis.dot(before)
            if deep > 1e-3:
                was = ti.math.vec2((1.0 + clip_x.dot(before) / deep) * w, (1.0 - clip_y.dot(before) / deep) * h) / 2.0
                backward = ti.math.vec2(x + 0.5, y + 0.5) - was
        motion[y, x, 0], motion[y, x, 1] = backward[0], backward[1]
