"""Voronoi sites spread evenly through a closed mesh of any shape.

In: a closed triangle mesh, a wanted spacing. Out: sites inside the solid. A grid over the bounding box would put two sites on both sides of
a thin wall's middle and slice it into sheets; sites here keep a least distance of SPACING pieces within the material, so a wall
thinner than a piece is cut across. Candidates come from lines along the three axes: between the points where a line enters and leaves
the solid they stand evenly, one in the middle of a thin wall. Sites are chosen farthest first (Gonzalez 1985), then relaxed by
Lloyd's rounds on the candidates: more rounds for less jitter. Lines that meet an edge exactly have an odd count and are left out.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from shot.hashing import uniform
from sim.pairs import ragged, ragged_product

SPACING = 0.9  # of a piece, between the nearest sites: about one site per piece squared in a wall
LINES = 3  # candidate lines per piece and axis
REGULAR_ROUNDS = 6  # Lloyd rounds at jitter 0


def sites_in_mesh(
    vertex: np.ndarray, face: np.ndarray, piece: float, pieces_min: int, jitter: float, seed: int, stream: str
) -> np.ndarray:
    """Sites (N, 3) [m]; at least one, at least pieces_min where there are as many candidates."""
    candidate = np.concatenate([
        points_on_lines(vertex, face, axis, piece / LINES, uniform(seed, f"{stream}/line", np.arange(2), axis)) for axis in range(3)
    ])
    if len(candidate) == 0:
        return vertex[face].mean(axis=(0, 1))[None]
    chosen = [int(uniform(seed, stream, 0) * len(candidate))]
    gap = _square(candidate - candidate[chosen[0]])
    while len(chosen) < len(candidate):
        farthest = int(np.argmax(gap))
        if len(chosen) >= pieces_min and gap[farthest] < (SPACING * piece) ** 2 or gap[farthest] == 0.0:
            break
        chosen.append(farthest)
        gap = np.minimum(gap, _square(candidate - candidate[farthest]))
    site = candidate[chosen]
    for _ in range(round(REGULAR_ROUNDS * (1.0 - jitter))):
        owner = KDTree(site).query(candidate)[1]
        share = np.bincount(owner, minlength=len(site))
        mean = np.stack([np.bincount(owner, candidate[:, k], len(site)) for k in range(3)], axis=1) / np.maximum(share, 1)[:, None]
        site = np.where(share[:, None] > 0, mean, site)
    return site


def _square(v: np.ndarray) -> np.ndarray:
    """Squared lengths."""
    return np.einsum("ij,ij->i", v, v)


def points_on_lines(vertex: np.ndarray, face: np.ndarray, axis: int, step: float, phase: np.ndarray) -> np.ndarray:
    """Points (N, 3) inside a closed mesh on a square grid of lines along `axis`, about `step` [m] apart; phase (2) shifts the grid."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    lower, extent = vertex.min(axis=0), np.ptp(vertex, axis=0)
    count = np.maximum(1, np.ceil(extent[[u, v]] / step)).astype(np.int64)
    pitch = extent[[u, v]] / count
    at = (vertex[:, [u, v]] - lower[[u, v]]) / pitch - phase  # line (i, j) is at integer coordinates
    corner = at[face]  # (T, 3, 2)
    first = np.ceil(corner.min(axis=1)).astype(np.int64)
    last = np.floor(corner.max(axis=1)).astype(np.int64)
    span = np.maximum(0, last - first + 1)
    tri, i, j = ragged_product(span[:, 0], span[:, 1])
    line = first[tri] + np.stack([i, j], axis=1)
    a, b, c = (corner[tri, k] - line for k in range(3))
    wa, wb, wc = _cross(b, c), _cross(c, a), _cross(a, b)
    total = wa + wb + wc
    hit = ((wa > 0) & (wb > 0) & (wc > 0)) | ((wa < 0) & (wb < 0) & (wc < 0))
    tri, line = tri[hit], line[hit]
    weight = np.stack([wa, wb, wc], axis=1)[hit] / total[hit, None]
    depth = np.einsum("ij,ij->i", weight, vertex[face[tri], axis])
    key = line[:, 0] * (count[1] + 2) + line[:, 1]
    order = np.lexsort((depth, key))
    key, depth, line = key[order], depth[order], line[order]
    start = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, np.int64)
    crossings = np.diff(np.append(start, len(key)))
    row, place = ragged(np.where(crossings % 2 == 0, crossings // 2, 0))
    enter = start[row] + 2 * place
    thickness = depth[enter + 1] - depth[enter]
    row, place = ragged(np.maximum(1, np.round(thickness / step)).astype(np.int64))
    point = np.empty((len(row), 3))
    point[:, [u, v]] = lower[[u, v]] + (line[enter[row]] + phase) * pitch
    pieces = np.bincount(row, minlength=len(enter))[row]
    point[:, axis] = depth[enter[row]] + (place + 0.5) / pieces * thickness[row]
    return point


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """z of the cross product in the plane."""
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
