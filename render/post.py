# pyright: basic, reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false
"""Image-space passes from depth and normal: ambient occlusion and edges.

In: depth (H, W) [m], inf for sky; normal (H, W, 3) world; rays of the pixels. Out: occlusion (H, W), 1 where the sky is free and
0 where it is shut off within the radius; edge (H, W) in 0..1.
Occlusion is the obscurance integral of McGuire et al. 2011 ("Alchemy") on a spiral of taps whose turn repeats every 4 x 4 pixels,
averaged over those 16 pixels where they lie on the same surface. Edges are creases and steps of the geometry: a crack between two
pieces of one plane is none until it opens. What is off screen or hidden does not occlude.
"""

from functools import lru_cache

import numpy as np
import taichi as ti

from render.camera import Pose, ray_frame

vec3 = ti.math.vec3
Image1 = ti.types.ndarray(dtype=ti.f32, ndim=2)
Image = ti.types.ndarray(dtype=ti.f32, ndim=3)
TAPS = 12
GOLDEN = 2.39996323


def ambient_occlusion(depth: np.ndarray, normal: np.ndarray, pose: Pose, radius: float, strength: float) -> np.ndarray:
    """(H, W) f32 share of the ambient light that arrives from within `radius` [m]; 1 for the sky."""
    corner, right, down = ray_frame(pose)
    raw, smooth = np.empty_like(depth), np.empty_like(depth)
    focal = pose.projection[1, 1] * pose.height / 2
    _obscurance(depth, normal, spiral(), vec3(*corner), vec3(*right), vec3(*down), focal, radius, strength, raw)
    _obscurance_smooth(depth, normal, vec3(*corner), vec3(*right), vec3(*down), 1 / focal, raw, smooth)
    return smooth


@lru_cache(maxsize=1)
def spiral() -> np.ndarray:
    """(16, TAPS, 2) f32 directions of the taps, x and y, for each of the 4 x 4 pixels."""
    turn = np.arange(16, dtype=np.float32) * np.float32(6.2831853 / 16.0) * np.float32(5.0)
    angle = turn[:, None] + np.arange(TAPS, dtype=np.float32) * np.float32(GOLDEN)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def edges(depth: np.ndarray, normal: np.ndarray, pose: Pose) -> np.ndarray:
    """(H, W) f32: 0 on smooth surfaces, 1 at silhouettes and sharp creases."""
    corner, right, down = ray_frame(pose)
    edge = np.empty_like(depth)
    _edges(depth, normal, vec3(*corner), vec3(*right), vec3(*down), 2 / (pose.projection[1, 1] * pose.height), edge)
    return edge


@ti.func
def place(y, x, z, corner, right, down):
    return z * (corner + (ti.cast(x, ti.f32) + 0.5) * right + (ti.cast(y, ti.f32) + 0.5) * down)


@ti.func
def normal_at(normal: ti.template(), y, x):
    return vec3(normal[y, x, 0], normal[y, x, 1], normal[y, x, 2])


@ti.kernel
def _obscurance(depth: Image1, normal: Image, spiral: Image, corner: vec3, right: vec3, down: vec3, focal: ti.f32, radius: ti.f32,
                strength: ti.f32,
                # output
                out: Image1):
    h, w = depth.shape[0], depth.shape[1]
    for y, x in depth:
        z = depth[y, x]
        open = 1.0
        reach = ti.min(radius * focal / z, 0.25 * ti.cast(h, ti.f32))  # [px]
        if z < 1e30 and reach > 1.0:
            p, n = place(y, x, z, corner, right, down), normal_at(normal, y, x)
            turn = (x % 4) * 4 + (y % 4)
            span = reach * z / focal  # [m] what the clamped disc covers
            blocked = 0.0
            for i in range(TAPS):
                rho = reach * (ti.cast(i, ti.f32) + 0.5) / TAPS
                qx = x + ti.cast(ti.round(rho * spiral[turn, i, 0]), ti.i32)
                qy = y + ti.cast(ti.round(rho * spiral[turn, i, 1]), ti.i32)
                if 0 <= qx < w and 0 <= qy < h and depth[qy, qx] < 1e30:
                    v = place(qy, qx, depth[qy, qx], corner, right, down) - p
                    d2 = v.dot(v)
                    near = ti.max(1.0 - d2 / (span * span), 0.0)
                    blocked += near * near * ti.max(v.dot(n) - 2e-3 * z, 0.0) * ti.rsqrt(d2 + 1e-4 * span * span)
            open = ti.max(1.0 - strength * 1.6 * blocked / TAPS, 0.0)
        out[y, x] = open


@ti.kernel
def _obscurance_smooth(depth: Image1, normal: Image, corner: vec3, right: vec3, down: vec3, pixel: ti.f32, raw: Image1,
                       # output
                       out: Image1):
    h, w = depth.shape[0], depth.shape[1]
    for y, x in depth:
        z = depth[y, x]
        mean = 1.0
        if z < 1e30:
            p, n = place(y, x, z, corner, right, down), normal_at(normal, y, x)
            total, weights = 0.0, 0.0
            for j, i in ti.static(ti.ndrange((-2, 2), (-2, 2))):
                qy, qx = ti.math.clamp(y + j, 0, h - 1), ti.math.clamp(x + i, 0, w - 1)
                zq = depth[qy, qx]
                if zq < 1e30:
                    step = ti.abs(n.dot(place(qy, qx, zq, corner, right, down) - p))
                    same = ti.max(1.0 - step / (4.0 * pixel * z), 0.0) * ti.max(n.dot(normal_at(normal, qy, qx)) - 0.5, 0.0)
                    total += same * raw[qy, qx]
                    weights += same
            mean = ti.select(weights > 1e-4, total / ti.max(weights, 1e-4), raw[y, x])
        out[y, x] = mean


@ti.kernel
def _edges(depth: Image1, normal: Image, corner: vec3, right: vec3, down: vec3, pixel: ti.f32,
           # output
           out: Image1):
    h, w = depth.shape[0], depth.shape[1]
    for y, x in depth:
        z = depth[y, x]
        edge = 0.0
        for side in ti.static(range(4)):
            qy = ti.math.clamp(y + ti.static((0, 0, 1, -1)[side]), 0, h - 1)
            qx = ti.math.clamp(x + ti.static((1, -1, 0, 0)[side]), 0, w - 1)
            zq = depth[qy, qx]
            if z > 1e30 or zq > 1e30:
                if (z > 1e30) != (zq > 1e30):
                    edge = 1.0
            else:
                n, m = normal_at(normal, y, x), normal_at(normal, qy, qx)
                v = place(qy, qx, zq, corner, right, down) - place(y, x, z, corner, right, down)
                step = ti.min(ti.abs(n.dot(v)), ti.abs(m.dot(v))) / (3.0 * pixel * ti.min(z, zq))
                crease = (1.0 - n.dot(m)) * 1.5
                edge = ti.max(edge, ti.max(ti.math.clamp(step - 0.5, 0.0, 1.0), ti.math.clamp(crease - 0.05, 0.0, 1.0)))
        out[y, x] = edge
