"""Gaussian noise that sticks to surfaces: white in every picture, the same on the same piece of surface in all of them.

In: per pixel the fragment id and the rest position [m] of the nearest sample. Out: (C, H, W) float32, unit variance,
independent between pixels. Each face carries impulses of independent N(0, 1) values, one jittered in each cell of a lattice
on the face; their values are a hash of (seed, id, level, axis, cell). A pixel is the sum of the impulses that project into
its square, over the root of their number. Squares of different pixels hold different impulses, so the picture is white;
when the surface moves by d pixels the same impulses are summed again but for those that crossed the border, so the
correlation along the motion is the overlap of the squares, the bound that noise warping (Chang et al. 2024, "How I warped
your noise") reaches too. Unlike warping there is no state: any frame is computed alone, nothing drifts.

Symbols: R rest position, u v pixel axes (right, down), J = [dR/du dR/dv], k the axis closest to the normal of J, M the 2x2
part of J without row k, A = |det M| the lattice area of a pixel [m2], c = 2^level the cell side [m], K = A / c^2 impulses
per pixel. The level is chosen so that DENSITY <= K < 4 DENSITY; in the last part of that octave the next coarser level
fades in, variance kept.

Not handled: a surface less than two pixels wide has no gradient, and grazing squares longer than SPAN cells are cut; such
pixels, and the sky, take noise fixed to the screen. Transparent dust has no surface.
"""

# pyright: basic, reportInvalidTypeForm=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportOptionalOperand=false
# no `from __future__ import annotations`: Taichi reads the annotations
import numpy as np
import taichi as ti

from shot.device import taichi_ready
from shot.hashing import normal, stream_key

DENSITY = 2.0  # least mean number of impulses in a pixel
FADE = 0.75  # part of an octave after which the coarser level fades in
SPAN = 32  # most cells along a lattice axis that one pixel looks at
CHANNELS = 3
STREAM = "refine/noise"


def surface_noise(rest: np.ndarray, identity: np.ndarray, seed: int) -> np.ndarray:
    """(3, H, W) float32 noise stuck to rest positions; rest (H, W, 3), identity (H, W), 0 for sky."""
    taichi_ready()
    height, width = identity.shape
    out = fixed_noise(height, width, seed)
    key = stream_key(seed, STREAM)
    splat_impulses(
        np.ascontiguousarray(rest, np.float32), np.ascontiguousarray(identity, np.int32), key & 0x7FFFFFFF, (key >> 32) & 0x7FFFFFFF, out
    )
    return out


def fixed_noise(height: int, width: int, seed: int) -> np.ndarray:
    """(3, H, W) noise fixed to the screen: the control that shows what sticking to surfaces is worth."""
    index = np.arange(CHANNELS * height * width)
    return normal(seed, f"{STREAM}/fixed", index).astype(np.float32).reshape(CHANNELS, height, width)


def fresh_noise(height: int, width: int, seed: int, frame: int) -> np.ndarray:
    """(3, H, W) noise new in every frame."""
    index = np.arange(CHANNELS * height * width)
    return normal(seed, f"{STREAM}/fresh/{frame}", index).astype(np.float32).reshape(CHANNELS, height, width)


@ti.func
def mix(x: ti.u32) -> ti.u32:
    """32-bit finaliser of Ellis and Wang's hash prospector (bias 0.17)."""
    x = (x ^ (x >> 16)) * ti.u32(0x7FEB352D)
    x = (x ^ (x >> 15)) * ti.u32(0x846CA68B)
    return x ^ (x >> 16)


@ti.func
def unit(x: ti.u32) -> ti.f32:
    """(0, 1) of a hash, never 0 or 1."""
    return (ti.cast(x >> 8, ti.f32) + 0.5) * 5.9604645e-8


@ti.func
def gradient(rest: ti.template(), identity: ti.template(), y, x, dy, dx, height, width):
    """dR along (dx, dy) from the neighbours of the same piece; of two that disagree (a crease) the shorter one. Zero if there are none."""
    here = ti.math.vec3(rest[y, x, 0], rest[y, x, 1], rest[y, x, 2])
    ahead, behind = ti.math.vec3(0.0), ti.math.vec3(0.0)
    has_ahead, has_behind = False, False
    ya, xa, yb, xb = y + dy, x + dx, y - dy, x - dx
    if ya < height and xa < width and identity[ya, xa] == identity[y, x]:
        ahead = ti.math.vec3(rest[ya, xa, 0], rest[ya, xa, 1], rest[ya, xa, 2]) - here
        has_ahead = True
    if yb >= 0 and xb >= 0 and identity[yb, xb] == identity[y, x]:
        behind = here - ti.math.vec3(rest[yb, xb, 0], rest[yb, xb, 1], rest[yb, xb, 2])
        has_behind = True
    result = ahead
    if has_behind:
        result = behind
        if has_ahead:
            result = 0.5 * (ahead + behind)
            if (ahead - behind).norm() > 0.25 * ti.min(ahead.norm(), behind.norm()):
                result = ahead
                if behind.norm() < ahead.norm():
                    result = behind
    return result


@ti.func
def pixel_sum(base: ti.u32, level: ti.i32, origin: ti.math.vec2, M: ti.math.mat2):
    """Sum of the impulses of one level inside the pixel square around `origin`, and their number (0 if the square is too long)."""
    c = ti.pow(2.0, ti.cast(level, ti.f32))
    inverse = M.inverse()
    reach = 0.5 * ti.math.vec2(ti.abs(M[0, 0]) + ti.abs(M[0, 1]), ti.abs(M[1, 0]) + ti.abs(M[1, 1]))
    lower = ti.cast(ti.floor((origin - reach) / c), ti.i32)
    upper = ti.cast(ti.floor((origin + reach) / c), ti.i32)
    total = ti.math.vec3(0.0)
    count = 0
    if upper.x - lower.x < SPAN and upper.y - lower.y < SPAN:
        salt = mix(base ^ ti.cast(level + 64, ti.u32))
        for i in range(lower.x, upper.x + 1):
            row = mix(salt ^ ti.cast(i, ti.u32))
            for j in range(lower.y, upper.y + 1):
                h = mix(row + ti.cast(j, ti.u32) * ti.u32(0x9E3779B9))
                corner = ti.math.vec2(ti.cast(i, ti.f32), ti.cast(j, ti.f32))
                jitter = ti.math.vec2(ti.cast(h & 0xFFFF, ti.f32) + 0.5, ti.cast(h >> 16, ti.f32) + 0.5) / 65536.0
                offset = inverse @ (c * (corner + jitter) - origin)
                if -0.5 <= offset.x < 0.5 and -0.5 <= offset.y < 0.5:
                    h1 = mix(h + ti.u32(0x68E31DA4))
                    h2 = mix(h + ti.u32(0xB5297A4D))
                    h3 = mix(h + ti.u32(0x1B56C4E9))
                    h4 = mix(h + ti.u32(0xC2B2AE35))
                    r1 = ti.sqrt(-2.0 * ti.log(unit(h1)))
                    r2 = ti.sqrt(-2.0 * ti.log(unit(h2)))
                    a1, a2 = 6.2831853 * unit(h3), 6.2831853 * unit(h4)
                    total += ti.math.vec3(r1 * ti.cos(a1), r1 * ti.sin(a1), r2 * ti.cos(a2))
                    count += 1
    return total, count


@ti.kernel
def splat_impulses(
    rest: ti.types.ndarray(ndim=3),  # (H, W, 3) f32 [m]
    identity: ti.types.ndarray(ndim=2),  # (H, W) i32
    key_low: ti.i32,
    key_high: ti.i32,
    # outputs
    out: ti.types.ndarray(ndim=3),  # (3, H, W) f32, left alone where no surface can be followed
):
    height, width = identity.shape[0], identity.shape[1]
    for y, x in ti.ndrange(height, width):
        if identity[y, x] != 0:
            du = gradient(rest, identity, y, x, 0, 1, height, width)
            dv = gradient(rest, identity, y, x, 1, 0, height, width)
            n = ti.abs(du.cross(dv))
            axis = 0
            if n.y > n.x and n.y >= n.z:
                axis = 1
            elif n.z > n.x and n.z > n.y:
                axis = 2
            a, b = (axis + 1) % 3, (axis + 2) % 3
            origin = ti.math.vec2(rest[y, x, a], rest[y, x, b])
            du_a, du_b, dv_a, dv_b = 0.0, 0.0, 0.0, 0.0
            for k in ti.static(range(3)):
                if k == a:
                    du_a, dv_a = du[k], dv[k]
                if k == b:
                    du_b, dv_b = du[k], dv[k]
            M = ti.math.mat2([[du_a, dv_a], [du_b, dv_b]])
            area = ti.abs(du_a * dv_b - dv_a * du_b)
            if area > 1e-12:
                octave = 0.5 * ti.log(area / DENSITY) / 0.6931472
                level = ti.cast(ti.floor(octave), ti.i32)
                base = mix(mix(ti.cast(key_low, ti.u32) ^ ti.cast(identity[y, x], ti.u32)) ^ ti.cast(key_high, ti.u32))
                base = mix(base + ti.cast(axis, ti.u32))
                fine, fine_count = pixel_sum(base, level, origin, M)
                value = ti.math.vec3(out[0, y, x], out[1, y, x], out[2, y, x])
                if fine_count > 0:
                    value = fine / ti.sqrt(ti.cast(fine_count, ti.f32))
                    share = (octave - ti.cast(level, ti.f32) - FADE) / (1.0 - FADE)
                    if share > 0.0:
                        coarse, coarse_count = pixel_sum(base, level + 1, origin, M)
                        if coarse_count > 0:
                            value = ti.sqrt(1.0 - share) * value + ti.sqrt(share) * coarse / ti.sqrt(ti.cast(coarse_count, ti.f32))
                for k in ti.static(range(3)):
                    out[k, y, x] = value[k]
