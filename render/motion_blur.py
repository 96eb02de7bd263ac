# pyright: basic, reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false
"""Motion blur from motion and depth: what a shutter that is open around the frame would have gathered.

In: a picture, motion per pixel [px / frame], depth [m], shutter [frames]. Out: the picture blurred along what moves, bit for bit the same
where nothing moves within reach. Reconstruction filter of McGuire, Hennessy, Bukowski and Osman (I3D 2012): tiles of side K hold their
fastest motion, a pixel gathers along the fastest of its 3 x 3 tiles, and each tap counts as foreground that smears over the
pixel, background that the moving pixel uncovers, or both moving together.

Deviations: K is the frame's longest half-path instead of a constant, taps lie a pixel apart (at most TAPS), and the first tap is shifted by
a fixed pattern of the pixel, so that still frames stay still. Not handled: rotation within the shutter, reflections.
"""

import numpy as np
import taichi as ti

from shot.device import taichi_open

TAPS = 48
LONGEST = 96  # [px] half-path; longer motion is cut to it
STILL = 0.25  # [px] half-path below which a tile is copied
SOFT_DEPTH = 0.02  # of the nearer depth: how far apart two surfaces must be to be told apart

vec2 = ti.math.vec2
vec3 = ti.math.vec3
Plane = ti.types.ndarray(dtype=ti.f32, ndim=2)
Image = ti.types.ndarray(dtype=ti.f32, ndim=3)


def motion_blurred(picture: np.ndarray, motion: np.ndarray, depth: np.ndarray, shutter: float) -> np.ndarray:
    """(H, W, 3) f32. `motion` (H, W, 2) is x right, y down, the mean of before and after; the shutter is centred on the frame."""
    half = np.ascontiguousarray(0.5 * shutter * motion, np.float32)
    length = np.sqrt(half[..., 0] ** 2 + half[..., 1] ** 2)  # norm along an axis of two is slow
    half *= (np.minimum(length, LONGEST) / np.maximum(length, 1e-6))[..., None]
    if not (length > STILL).any():
        return picture
    taichi_open()
    side = int(np.ceil(min(float(length.max()), LONGEST)))
    h, w = depth.shape
    tile = np.zeros((-(-h // side), -(-w // side), 2), np.float32)
    near = np.zeros_like(tile)
    out = np.empty(picture.shape, np.float32)
    _tiles(half, side, tile)
    _neighbours(tile, near)
    finite = np.where(np.isfinite(depth), depth, np.float32(1e30)).astype(np.float32)
    _gather(np.ascontiguousarray(picture, np.float32), half, finite, near, side, out)
    return out


@ti.kernel
def _tiles(half: Image, side: ti.i32, tile: Image):
    for ty, tx in ti.ndrange(tile.shape[0], tile.shape[1]):
        best, fastest = vec2(0.0), 0.0
        for y in range(ty * side, ti.min((ty + 1) * side, half.shape[0])):
            for x in range(tx * side, ti.min((tx + 1) * side, half.shape[1])):
                v = vec2(half[y, x, 0], half[y, x, 1])
                if v.norm_sqr() > fastest:
                    best, fastest = v, v.norm_sqr()
        tile[ty, tx, 0], tile[ty, tx, 1] = best[0], best[1]


@ti.kernel
def _neighbours(tile: Image, near: Image):
    for ty, tx in ti.ndrange(tile.shape[0], tile.shape[1]):
        best, fastest = vec2(0.0), 0.0
        for y in range(ti.max(ty - 1, 0), ti.min(ty + 2, tile.shape[0])):
            for x in range(ti.max(tx - 1, 0), ti.min(tx + 2, tile.shape[1])):
                v = vec2(tile[y, x, 0], tile[y, x, 1])
                if v.norm_sqr() > fastest:
                    best, fastest = v, v.norm_sqr()
        near[ty, tx, 0], near[ty, tx, 1] = best[0], best[1]


@ti.func
def cone(distance, reach):
    """How much of a path of half-length `reach` lies at `distance`."""
    return ti.math.clamp(1.0 - distance / ti.max(reach, 1e-6), 0.0, 1.0)


@ti.func
def cylinder(distance, reach):
    """1 within the path, 0 beyond, soft over its last tenth."""
    t = ti.math.clamp((distance - 0.95 * reach) / ti.max(0.1 * reach, 1e-6), 0.0, 1.0)
    return 1.0 - t * t * (3.0 - 2.0 * t)


@ti.kernel
def _gather(picture: Image, half: Image, depth: Plane, near: Image, side: ti.i32, out: Image):
    """p pixel, s tap; v half-paths, z depths, front / behind: soft comparison of the tap's depth with the pixel's."""
    for y, x in ti.ndrange(picture.shape[0], picture.shape[1]):
        own = vec3(picture[y, x, 0], picture[y, x, 1], picture[y, x, 2])
        path = vec2(near[y // side, x // side, 0], near[y // side, x // side, 1])
        longest = path.norm()
        light, weight = vec3(0.0), 0.0
        if longest > STILL:
            reach_p, z_p = vec2(half[y, x, 0], half[y, x, 1]).norm(), depth[y, x]
            taps = ti.min(2 * ti.cast(ti.ceil(longest), ti.i32) + 1, TAPS)
            pattern = 0.06711056 * ti.cast(x, ti.f32) + 0.00583715 * ti.cast(y, ti.f32)  # interleaved gradient noise, Jimenez 2014
            shift = 52.9829189 * (pattern - ti.floor(pattern))
            shift = shift - ti.floor(shift) - 0.5
            for k in range(taps):
                t = 2.0 * (ti.cast(k, ti.f32) + 0.5 + 0.95 * shift) / ti.cast(taps, ti.f32) - 1.0
                sy = ti.cast(ti.round(ti.cast(y, ti.f32) + t * path[1]), ti.i32)
                sx = ti.cast(ti.round(ti.cast(x, ti.f32) + t * path[0]), ti.i32)
                if 0 <= sy < picture.shape[0] and 0 <= sx < picture.shape[1] and not (sx == x and sy == y):
                    reach_s, z_s = vec2(half[sy, sx, 0], half[sy, sx, 1]).norm(), depth[sy, sx]
                    distance = ti.abs(t) * longest
                    soft = SOFT_DEPTH * ti.min(z_p, z_s)
                    front = ti.math.clamp(1.0 - (z_s - z_p) / soft, 0.0, 1.0)
                    behind = ti.math.clamp(1.0 - (z_p - z_s) / soft, 0.0, 1.0)
                    share = 0.0
                    if reach_s > STILL:
                        share += front * cone(distance, reach_s)
                    if reach_p > STILL:
                        share += behind * cone(distance, reach_p)
                    if reach_s > STILL and reach_p > STILL:
                        share += 2.0 * cylinder(distance, reach_s) * cylinder(distance, reach_p)
                    weight += share
                    light += share * vec3(picture[sy, sx, 0], picture[sy, sx, 1], picture[sy, sx, 2])
            if weight > 0.0:
                # a pixel that moves shares its own light over its path; one that stands keeps what the others leave
                self_weight = ti.cast(taps, ti.f32) * 0.5 / ti.max(reach_p, 0.5)
                light = (light + self_weight * own) / (weight + self_weight)
        if weight > 0.0:
            for c in ti.static(range(3)):
                out[y, x, c] = light[c]
        else:
            for c in ti.static(range(3)):
                out[y, x, c] = own[c]
