# pyright: basic, reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false
"""2x2 samples to pixels: light is averaged, data is taken from the nearest sample, never mixed.

In: `Samples` of render/gl.py and the body tables. Out: `Pixels`, (H, W) arrays. Samples of a pixel are counted left to right,
top to bottom; the nearest is the one of least depth, the first of equals. Rest positions follow from id and depth: the
sample is unprojected along its own ray and taken back by the pose of its body.
"""

from dataclasses import dataclass

import numpy as np
import taichi as ti

from render.camera import Pose, ray_frame
from render.samples import Samples

vec3 = ti.math.vec3
Image1 = ti.types.ndarray(dtype=ti.f32, ndim=2)
Image = ti.types.ndarray(dtype=ti.f32, ndim=3)


@dataclass(frozen=True)
class Pixels:
    """Resolved images; names and units as in Guides, float32 where Guides has float16."""

    direct: np.ndarray  # (H, W, 3)
    ambient: np.ndarray  # (H, W, 3) albedo seen through haze: what ambient light falls on
    albedo: np.ndarray  # (H, W, 3) u8
    normal: np.ndarray  # (H, W, 3)
    sun: np.ndarray  # (H, W)
    depth: np.ndarray  # (H, W)
    ids: np.ndarray  # (H, W, 4) i32
    id: np.ndarray  # (H, W) i32
    motion_backward: np.ndarray  # (H, W, 2)
    motion_forward: np.ndarray  # (H, W, 2)
    rest: np.ndarray  # (H, W, 3)
    interior: np.ndarray  # (H, W)
    age: np.ndarray  # (H, W)
    alpha: np.ndarray  # (H, W)


def pixels_resolve(samples: Samples, pose: Pose, rows_now: np.ndarray, rest: np.ndarray, age: np.ndarray) -> Pixels:
    """Resolve a frame. rows_now (B, 3, 4) and rest (B, 3) are the tables that were drawn with, age (B) [s]."""
    h, w = pose.height, pose.width
    f32 = np.float32
    out = Pixels(np.empty((h, w, 3), f32), np.empty((h, w, 3), f32), np.empty((h, w, 3), np.uint8), np.empty((h, w, 3), f32),
                 np.empty((h, w), f32), np.empty((h, w), f32), np.empty((h, w, 4), np.int32), np.empty((h, w), np.int32),
                 np.empty((h, w, 2), f32), np.empty((h, w, 2), f32), np.empty((h, w, 3), f32), np.empty((h, w), f32),
                 np.empty((h, w), f32), np.empty((h, w), f32))
    corner, right, down = ray_frame(pose)
    code = np.arange(256) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(f32)
    _resolve(samples.direct, samples.ambient, samples.albedo, samples.normal, samples.id.view(np.int32), samples.motion,
             rows_now, np.ascontiguousarray(rest, f32), age, linear, vec3(*corner), vec3(*right), vec3(*down),
             out.direct, out.ambient, out.albedo, out.normal, out.sun, out.depth, out.ids, out.id,
             out.motion_backward, out.motion_forward, out.rest, out.interior, out.age, out.alpha)
    return out


@ti.func
def srgb_coded(c):
    return ti.select(c <= 0.0031308, 12.92 * c, 1.055 * ti.pow(ti.max(c, 1e-9), 1.0 / 2.4) - 0.055)


@ti.kernel
def _resolve(
    direct: Image, ambient: Image, albedo: ti.types.ndarray(dtype=ti.u8, ndim=3), normal: Image,
    id: ti.types.ndarray(dtype=ti.i32, ndim=2), motion: Image, rows: Image, rest: Image1,
    age: ti.types.ndarray(dtype=ti.f32, ndim=1), linear: ti.types.ndarray(dtype=ti.f32, ndim=1),
    corner: vec3, right: vec3, down: vec3,
    # outputs
    o_direct: Image, o_ambient: Image, o_albedo: ti.types.ndarray(dtype=ti.u8, ndim=3), o_normal: Image, o_sun: Image1,
    o_depth: Image1, o_ids: ti.types.ndarray(dtype=ti.i32, ndim=3), o_id: ti.types.ndarray(dtype=ti.i32, ndim=2),
    o_backward: Image, o_forward: Image, o_rest: Image, o_interior: Image1, o_age: Image1, o_alpha: Image1,
):
    for y, x in o_depth:
        lit, sky, base = vec3(0.0), vec3(0.0), vec3(0.0)
        sun, fresh, cover = 0.0, 0.0, 0.0
        best = 0
        nearest = direct[2 * y, 2 * x, 3]
        for s in ti.static(range(4)):
            r, c = 2 * y + s // 2, 2 * x + s % 2
            for k in ti.static(range(3)):
                lit[k] += 0.25 * direct[r, c, k]
                sky[k] += 0.25 * ambient[r, c, k]
                base[k] += 0.25 * linear[ti.cast(albedo[r, c, k], ti.i32)]
            i = id[r, c]
            o_ids[y, x, s] = i
            if i > 0:
                cover += 0.25
                sun += normal[r, c, 3]
                fresh += ti.cast(albedo[r, c, 3], ti.f32) / 255.0
            z = direct[r, c, 3]
            if z < nearest:
                nearest = z
                best = s
        r, c = 2 * y + best // 2, 2 * x + best % 2
        body = id[r, c] - 1
        for k in ti.static(range(3)):
            o_direct[y, x, k] = lit[k]
            o_ambient[y, x, k] = sky[k]
            o_albedo[y, x, k] = ti.cast(ti.floor(ti.math.clamp(srgb_coded(base[k]), 0.0, 1.0) * 255.0 + 0.5), ti.u8)
            o_normal[y, x, k] = normal[r, c, k]
        o_sun[y, x] = sun / ti.max(4.0 * cover, 1.0)
        o_interior[y, x] = fresh / ti.max(4.0 * cover, 1.0)
        o_alpha[y, x] = cover
        o_depth[y, x] = nearest
        o_id[y, x] = body + 1
        for k in ti.static(range(2)):
            o_backward[y, x, k] = motion[r, c, k]
            o_forward[y, x, k] = motion[r, c, 2 + k]
        place = vec3(0.0)
        seconds = 60.0
        if body >= 0:
            seconds = age[body]
            px = ti.cast(x, ti.f32) + 0.25 + 0.5 * ti.cast(best % 2, ti.f32)
            py = ti.cast(y, ti.f32) + 0.25 + 0.5 * ti.cast(best // 2, ti.f32)
            p = nearest * (corner + px * right + py * down)
            q = vec3(p[0] - rows[body, 0, 3], p[1] - rows[body, 1, 3], p[2] - rows[body, 2, 3])
            scale = ti.sqrt(rows[body, 0, 0] ** 2 + rows[body, 1, 0] ** 2 + rows[body, 2, 0] ** 2)
            for k in ti.static(range(3)):
                place[k] = (rows[body, 0, k] * q[0] + rows[body, 1, k] * q[1] + rows[body, 2, k] * q[2]) / scale + rest[body, k]
        for k in ti.static(range(3)):
            o_rest[y, x, k] = place[k]
        o_age[y, x] = seconds
