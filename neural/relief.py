"""Relief finer than any mesh: what pitted concrete, fresh breaks and gravel do to light. Drawn, not learnt.

In: one frame of guides, its lens, the light, a seed. Out: (H, W, 3) the factor on the radiance of the smooth surface. The
height is self-affine (Hurst exponent 0.8, octaves of value noise from WAVE_LONGEST down, fixed to the rest position); its
slope tilts the normal (Blinn 1978, "Simulation of wrinkled surfaces"), hollows see less sky. Octaves shorter than a pixel
fade out, so that the mean colour of far surfaces stays. The turn of a piece from rest to world is fitted to its pixels
(Kabsch 1976), so no pose is needed. The training references carry the same factor: a bump map is part of the scene, like
its paint, and a network that sees it need not invent it. Not handled: shadows of one bump on another.
"""

# pyright: basic, reportInvalidTypeForm=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportOptionalOperand=false
# no `from __future__ import annotations`: Taichi reads the annotations
from collections.abc import Mapping

import numpy as np
import taichi as ti

from neural.guide_tensor import Lens
from neural.noise import mix, unit
from shot.device import taichi_ready
from shot.hashing import stream_key
from shot.params import Light

HURST, OCTAVES, WAVE_LONGEST = 0.8, 6, 0.48  # [m]
ROUGH = {"built": (0.35, 0.06), "ground": (0.28, 0.48), "cut": (0.8, 0.48)}  # slope over all octaves, longest wave [m]
GROUND_LEVEL = 1e-3  # [m] |rest.y| of the ground, which lies at zero
FACING_LEAST = 0.25  # of the cosine by which a slanted pixel grows
RATIO = 2.5  # most that relief may brighten or darken
CAVITY = 0.15  # share of the sky that a deviation of height hides or shows
VALUE_DEVIATION, SLOPE_DEVIATION = 0.37, 0.665  # of value noise with a uniform lattice in -1..1


def relief_factor(arrays: Mapping[str, np.ndarray], lens: Lens, light: Light, seed: int) -> np.ndarray:
    """(H, W, 3) float32 factor; 1 in the sky, fading to 1 where a pixel shows several pieces."""
    taichi_ready()
    identity = arrays["id"]
    out = np.ones((*identity.shape, 3), np.float32)
    order, turn = turns(arrays, lens)
    f32 = np.float32
    whole = (arrays["ids"] == identity[..., None]).mean(-1, dtype=f32) ** 2 * np.isfinite(arrays["depth"])
    ground = (np.abs(arrays["rest"][..., 1]) < GROUND_LEVEL) & (arrays["normal"][..., 1] > 0.99)
    kind = np.where(arrays["interior"] > 0.5, 2, ground).astype(np.int32)
    key = stream_key(seed, "refine/relief")
    _relief(
        np.ascontiguousarray(arrays["rest"], f32), arrays["normal"].astype(f32), np.ascontiguousarray(arrays["depth"], f32),
        arrays["sun"].astype(f32), arrays["occlusion"].astype(f32), whole, kind, np.array(list(ROUGH.values()), f32), order, turn,
        np.asarray(lens.view[2, :3], f32), lens.pixel, ti.math.vec3(*np.asarray(lens.sun, float)), ti.math.vec3(*light.sun),
        ti.math.vec3(*light.sky), ti.math.vec3(*light.ground_bounce), key & 0x7FFFFFFF, (key >> 32) & 0x7FFFFFFF, out,
    )
    return out


def turns(arrays: Mapping[str, np.ndarray], lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) i32 row of each pixel's piece, -1 where there is none or too little is seen of it; (N, 3, 3) f32 turns, rest to world.

    The turn that brings the rest positions of a piece's pixels nearest to their world positions. Two extents suffice: a turn
    has no mirror image."""
    identity, depth = arrays["id"], arrays["depth"]
    height, width = identity.shape
    seen = np.flatnonzero((identity > 0).reshape(-1) & np.isfinite(depth).reshape(-1))
    order = np.full(identity.size, -1, np.int32)
    labels, row = np.unique(identity.reshape(-1)[seen], return_inverse=True)
    count = np.bincount(row, minlength=len(labels)).astype(float)
    z = depth.reshape(-1)[seen].astype(float)
    y, x = np.divmod(seen, width)
    camera = np.stack([(x + 0.5 - width / 2) * lens.pixel * z, (height / 2 - y - 0.5) * lens.pixel * z, -z], 1)
    world, rest = camera @ lens.view[:3, :3], arrays["rest"].reshape(-1, 3)[seen].astype(float)

    def sums(values: np.ndarray) -> np.ndarray:
        return np.bincount(row, values, len(labels))

    middle = [np.stack([sums(points[:, k]) for k in range(3)], 1) / count[:, None] for points in (world, rest)]
    world, rest = world - middle[0][row], rest - middle[1][row]
    spread = np.stack([[sums(world[:, i] * rest[:, j]) for j in range(3)] for i in range(3)]).transpose(2, 0, 1)
    u, size, v = np.linalg.svd(spread)
    u[:, :, 2] *= np.linalg.det(u @ v)[:, None]
    footprint = sums(z) / count * lens.pixel
    order[seen] = np.where(size[:, 1] > count * footprint**2, np.arange(len(labels)), -1)[row]
    return order.reshape(height, width), (u @ v).astype(np.float32)


@ti.func
def value_noise(p: ti.math.vec3, salt: ti.u32):
    """Value noise of deviation about 1 and its gradient, scaled so that a component has deviation about 1."""
    base = ti.floor(p)
    f = p - base
    w, dw = f * f * (3.0 - 2.0 * f), 6.0 * f * (1.0 - f)
    cell = ti.cast(base, ti.i32)
    value, slope = 0.0, ti.math.vec3(0.0)
    for i, j, k in ti.static(ti.ndrange(2, 2, 2)):
        h = mix(mix(mix(salt ^ ti.cast(cell.x + i, ti.u32)) ^ ti.cast(cell.y + j, ti.u32)) ^ ti.cast(cell.z + k, ti.u32))
        lattice = 2.0 * unit(h) - 1.0
        a = w.x if ti.static(i == 1) else 1.0 - w.x
        b = w.y if ti.static(j == 1) else 1.0 - w.y
        c = w.z if ti.static(k == 1) else 1.0 - w.z
        value += lattice * a * b * c
        slope += lattice * ti.math.vec3((2 * i - 1) * dw.x * b * c, (2 * j - 1) * dw.y * a * c, (2 * k - 1) * dw.z * a * b)
    return value / VALUE_DEVIATION, slope / SLOPE_DEVIATION


@ti.kernel
def _relief(
    rest: ti.types.ndarray(ndim=3),  # (H, W, 3) [m]
    normal: ti.types.ndarray(ndim=3),  # (H, W, 3) world
    depth: ti.types.ndarray(ndim=2),
    visible: ti.types.ndarray(ndim=2),  # of the sun
    occlusion: ti.types.ndarray(ndim=2),
    whole: ti.types.ndarray(ndim=2),  # how far the pixel is one piece
    kind: ti.types.ndarray(ndim=2),  # row of rough
    rough: ti.types.ndarray(ndim=2),  # (3, 2) slope, longest wave
    order: ti.types.ndarray(ndim=2),  # row of turn
    turn: ti.types.ndarray(ndim=3),  # (N, 3, 3)
    axis: ti.types.ndarray(ndim=1),  # (3) of view, world
    pixel: ti.f32,
    sun: ti.math.vec3,
    sunlight: ti.math.vec3,
    sky: ti.math.vec3,
    bounce: ti.math.vec3,
    key_low: ti.i32,
    key_high: ti.i32,
    # outputs
    out: ti.types.ndarray(ndim=3),
):
    for y, x in depth:
        piece = order[y, x]
        if piece >= 0:
            n = ti.math.vec3(normal[y, x, 0], normal[y, x, 1], normal[y, x, 2]).normalized()
            place = ti.math.vec3(rest[y, x, 0], rest[y, x, 1], rest[y, x, 2])
            facing = ti.max(ti.abs(n.dot(ti.math.vec3(axis[0], axis[1], axis[2]))), FACING_LEAST)
            footprint = depth[y, x] * pixel / facing
            steep, longest = rough[kind[y, x], 0], rough[kind[y, x], 1]
            rise, slope = 0.0, ti.math.vec3(0.0)
            steep_sum, deep_sum = 0.0, 0.0
            for octave in range(OCTAVES):
                wave = WAVE_LONGEST / ti.pow(2.0, octave)
                share, deep = ti.pow(2.0, octave * (1.0 - HURST)), ti.pow(2.0, -octave * HURST)
                steep_sum += share * share
                deep_sum += deep * deep
                seen = ti.math.clamp(wave / footprint - 1.0, 0.0, 1.0)
                if seen > 0.0 and wave <= 1.001 * longest:
                    salt = mix(mix(ti.cast(key_low, ti.u32) ^ ti.cast(octave, ti.u32)) ^ ti.cast(key_high, ti.u32))
                    value, gradient = value_noise(place / wave, salt)
                    rise += seen * deep * value
                    slope += seen * share * gradient
            rise /= ti.sqrt(deep_sum)
            s = slope * (steep / ti.sqrt(steep_sum))
            tilt = ti.math.vec3(0.0)
            for k in ti.static(range(3)):
                tilt[k] = turn[piece, k, 0] * s.x + turn[piece, k, 1] * s.y + turn[piece, k, 2] * s.z
            tilted = (n - tilt + tilt.dot(n) * n).normalized()
            hollow = occlusion[y, x] * (1.0 + CAVITY * ti.math.clamp(2.5 * steep * rise, -1.0, 1.0))
            direct = sunlight * visible[y, x]
            bumpy = direct * ti.max(tilted.dot(sun), 0.0) + hollow * ti.math.mix(bounce, sky, 0.5 + 0.5 * tilted.y)
            smooth = direct * ti.max(n.dot(sun), 0.0) + occlusion[y, x] * ti.math.mix(bounce, sky, 0.5 + 0.5 * n.y)
            for k in ti.static(range(3)):
                factor = ti.math.clamp(bumpy[k] / ti.max(smooth[k], 1e-6), 1.0 / RATIO, RATIO)
                out[y, x, k] = 1.0 + whole[y, x] * (factor - 1.0)
