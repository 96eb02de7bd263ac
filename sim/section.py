"""Plane sections: clipping convex polygons, and area, centroid and principal second moments of polygon sets.

In: convex polygons of points in a common plane. Out: what a bond needs of its face. Reference: per triangle, integral of x x^T =
A / 12 (aa^T + bb^T + cc^T + ss^T), s = a + b + c, which equals Green's boundary sums (Steger 1996) and holds for non-convex sets as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.mass import segment_sum

ROUND = 1e-6  # moments that differ by less than this share count as equal: a square has no principal axes of its own


@dataclass(frozen=True)
class Section:
    """Faces of bonds, one row each."""

    area: np.ndarray  # (B) [m2]
    centroid: np.ndarray  # (B, 3) [m]
    axis: np.ndarray  # (B, 3) unit: the axis of the larger second moment
    second_moment: np.ndarray  # (B, 2) [m4] about axis, about normal x axis
    reach: np.ndarray  # (B, 2) [m] farthest point from axis, from normal x axis


def sections_of(polygons: list[list[np.ndarray]], normal: np.ndarray) -> Section:
    """Section of each set of disjoint convex polygons (k, 3) that share a plane with unit normal (B, 3).

    Equal moments (a square, a disc) take the direction of the longest side as axis, so that rounding does not choose it.
    """
    if not polygons:
        empty = np.zeros((0, 3))
        return Section(np.zeros(0), empty, empty, empty[:, :2], empty[:, :2])
    sizes = np.array([sum(len(p) for p in group) for group in polygons], np.int64)
    point = np.concatenate([p for group in polygons for p in group])
    point_start = np.concatenate([[0], np.cumsum(sizes)])
    length = np.array([len(p) for group in polygons for p in group], np.int64)
    first = np.repeat(np.concatenate([[0], np.cumsum(length)[:-1]]), length)
    here = np.arange(len(point))
    after = np.where(here + 1 < first + np.repeat(length, length), here + 1, first)
    origin = point[point_start[:-1]]
    row = np.repeat(np.arange(len(polygons)), sizes)
    q = point - origin[row]
    a, b, c = q[first], q[here], q[after]
    signed = 0.5 * np.einsum("ij,ij->i", np.cross(b - a, c - a), normal[row])
    s = a + b + c
    area = segment_sum(signed, point_start)
    centre = segment_sum(signed[:, None] * s, point_start) / (3.0 * area[:, None])
    outer = sum(x[:, :, None] * x[:, None, :] for x in (a, b, c, s))
    tensor = segment_sum(signed[:, None, None] * outer, point_start) / 12.0
    tensor -= area[:, None, None] * centre[:, :, None] * centre[:, None, :]

    side = q[after] - q[here]
    longest = _first_longest(np.einsum("ij,ij->i", side, side), row, point_start)
    u = side[longest]
    u = u - np.einsum("ij,ij->i", u, normal)[:, None] * normal
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(normal, u)
    uu, vv, uv = (np.einsum("bi,bij,bj->b", x, tensor, y) for x, y in ((u, u), (v, v), (u, v)))
    # moment about direction (cos t, sin t): vv cos^2 + uu sin^2 - 2 uv sin cos; largest where tan 2t = -2 uv / (vv - uu)
    angle = 0.5 * np.arctan2(-2.0 * uv, vv - uu)
    angle = np.where(np.hypot(2.0 * uv, vv - uu) <= ROUND * (uu + vv), 0.0, angle)
    axis = np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v
    other = np.cross(normal, axis)
    moment = np.stack([np.einsum("bi,bij,bj->b", x, tensor, x) for x in (other, axis)], axis=1)
    spread = q - centre[row]
    far = [np.abs(np.einsum("ij,ij->i", spread, x[row])) for x in (other, axis)]
    reach = np.stack([np.maximum.reduceat(d, point_start[:-1]) for d in far], axis=1)
    return Section(area, origin + centre, axis, moment, reach)


def _first_longest(value: np.ndarray, row: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Index of the first entry of each row within ROUND of the row's largest."""
    largest = np.maximum.reduceat(value, start[:-1])
    hit = np.flatnonzero(value >= (1.0 - ROUND) * largest[row])
    return hit[np.unique(row[hit], return_index=True)[1]]


def clip_polygon(subject: list[tuple[float, float]], window: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intersection of two convex counter-clockwise polygons in 2D (Sutherland and Hodgman); empty if they do not overlap."""
    out = subject
    bx, by = window[-1]
    for cx, cy in window:
        dx, dy = cx - bx, cy - by
        if not out:
            return out
        previous, out = out, []
        px, py = previous[-1]
        s = dx * (py - by) - dy * (px - bx)
        for qx, qy in previous:
            t = dx * (qy - by) - dy * (qx - bx)
            if (s < 0.0) != (t < 0.0):
                w = s / (s - t)
                out.append((px + w * (qx - px), py + w * (qy - py)))
            if t >= 0.0:
                out.append((qx, qy))
            px, py, s = qx, qy, t
        bx, by = cx, cy
    return out
