"""How a refined frame leans on the one before it: warping, validity, clamp, and where the recurrence restarts.

In: the previous frame's residual, both frames' guides. Out: the residual carried along the motion, and where that is sound.
A pixel is valid if its surface point was seen: same fragment id, and the previous sample's rest position within a pixel of
its own. Rest positions are exact and move with the piece, so this needs no depth test and no estimate. Carrying uses
Catmull-Rom weights over samples of the same piece only (bilinear ones blur more every frame). Shadows do not move with
surfaces: `history_blend` therefore clamps the carried residual to the 3x3 neighbourhood of the new one (Karis 2014,
"High-quality temporal supersampling").

Where the recurrence restarts, and which guides a frame therefore depends on: `shot/chunks.py`.
"""

# pyright: basic, reportInvalidTypeForm=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportOptionalOperand=false
# no `from __future__ import annotations`: Taichi reads the annotations
from collections.abc import Mapping

import numpy as np
import taichi as ti

from neural.noise import gradient
from shot.device import taichi_ready


def carry(
    residual: np.ndarray, before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray], pixel: float
) -> tuple[np.ndarray, np.ndarray]:
    """Previous residual (3, H, W) seen from the present frame, and (H, W) float32 1 where it holds; zero elsewhere."""
    taichi_ready()
    height, width = now["id"].shape
    carried, valid = np.zeros((3, height, width), np.float32), np.zeros((height, width), np.float32)
    carry_kernel(
        np.ascontiguousarray(residual, np.float32), np.ascontiguousarray(before["id"]), np.ascontiguousarray(before["rest"]),
        np.ascontiguousarray(now["id"]), np.ascontiguousarray(now["rest"]), np.ascontiguousarray(now["depth"]),
        np.ascontiguousarray(now["motion_backward"]), pixel, carried, valid,
    )
    return carried, valid


def history_blend(residual: np.ndarray, carried: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(1 - weight) residual + weight clamp(carried) with the clamp to the residual's 3x3 neighbourhood; weight (H, W)."""
    edge = np.pad(residual, ((0, 0), (1, 1), (1, 1)), mode="edge")
    low, high = residual.copy(), residual.copy()
    height, width = residual.shape[1:]
    for dy in range(3):
        for dx in range(3):
            shifted = edge[:, dy:dy + height, dx:dx + width]
            np.minimum(low, shifted, out=low)
            np.maximum(high, shifted, out=high)
    return residual + weight * (np.clip(carried, low, high) - residual)


@ti.func
def catmull_rom(f):
    """Weights of the samples at -1, 0, 1, 2 for a point f in 0..1 past sample 0."""
    return ti.math.vec4(
        f * (-0.5 + f * (1.0 - 0.5 * f)), 1.0 + f * f * (1.5 * f - 2.5), f * (0.5 + f * (2.0 - 1.5 * f)), f * f * (0.5 * f - 0.5)
    )


@ti.kernel
def carry_kernel(
    residual: ti.types.ndarray(ndim=3),  # (3, H, W) of the previous frame
    id_before: ti.types.ndarray(ndim=2),
    rest_before: ti.types.ndarray(ndim=3),
    id_now: ti.types.ndarray(ndim=2),
    rest_now: ti.types.ndarray(ndim=3),
    depth: ti.types.ndarray(ndim=2),
    motion: ti.types.ndarray(ndim=3),  # (H, W, 2) here minus previous [px]
    pixel: ti.f32,
    # outputs
    carried: ti.types.ndarray(ndim=3),
    valid: ti.types.ndarray(ndim=2),
):
    height, width = id_now.shape[0], id_now.shape[1]
    for y, x in ti.ndrange(height, width):
        label = id_now[y, x]
        sx, sy = ti.cast(x, ti.f32) - motion[y, x, 0], ti.cast(y, ti.f32) - motion[y, x, 1]
        if label != 0 and -0.5 <= sx < width - 0.5 and -0.5 <= sy < height - 0.5:
            here = ti.math.vec3(rest_now[y, x, 0], rest_now[y, x, 1], rest_now[y, x, 2])
            du = gradient(rest_now, id_now, y, x, 0, 1, height, width)
            dv = gradient(rest_now, id_now, y, x, 1, 0, height, width)
            reach = du.norm() + dv.norm() + depth[y, x] * pixel
            ix, iy = ti.cast(ti.floor(sx), ti.i32), ti.cast(ti.floor(sy), ti.i32)
            nx, ny = ti.cast(ti.floor(sx + 0.5), ti.i32), ti.cast(ti.floor(sy + 0.5), ti.i32)
            there = ti.math.vec3(rest_before[ny, nx, 0], rest_before[ny, nx, 1], rest_before[ny, nx, 2])
            if id_before[ny, nx] == label and (there - here).norm() < reach:
                wx, wy = catmull_rom(sx - ti.floor(sx)), catmull_rom(sy - ti.floor(sy))
                total = ti.math.vec3(0.0)
                weight = 0.0
                for j in ti.static(range(4)):
                    for i in ti.static(range(4)):
                        qx, qy = ix + i - 1, iy + j - 1
                        if 0 <= qx < width and 0 <= qy < height and id_before[qy, qx] == label:
                            w = wx[i] * wy[j]
                            total += w * ti.math.vec3(residual[0, qy, qx], residual[1, qy, qx], residual[2, qy, qx])
                            weight += w
                if weight > 0.5:
                    valid[y, x] = 1.0
                    for k in ti.static(range(3)):
                        carried[k, y, x] = total[k] / weight
