"""Convex hulls that cover a piece, for contact.

In: a closed mesh. Out: the vertices of 1..HULLS convex hulls. One, if the hull is within CONVEX of the piece's volume; else the piece is
halved by the plane that brings the hulls' volume down most, worst half first. Candidate planes: those of faces at reflex edges, and the
three through the middle. In the spirit of V-HACD (Mamou 2009): exact for what reflex faces cut apart (frames, L and T shapes), up to
CONVEX too large on curved hollows. Round pieces keep at most HULL_VERTICES points of a hull, those that stand out farthest: contact costs
edges times edges, and the loss is below the shrink of the hulls for anything that looks round.
"""

from __future__ import annotations

import manifold3d
import numpy as np
from scipy.spatial import ConvexHull

from sim.mass import segment_sum

CONVEX = 0.1  # a piece is convex enough if its hulls hold at most this share of extra volume
HULLS = 8  # most hulls of a piece
CANDIDATES = 8  # most reflex planes tried per halving
DUST = 1e-9  # of the piece's volume: less is rounding of a split
FLAT = 1e-6  # of the piece's size: a block thinner than that is a face that a split doubled, and no hull can be built on it
HULL_VERTICES = 48  # most vertices of a hull; a Voronoi cell has about 27
DEVIATION = 0.005  # of the piece's size: a reduced hull stops here

Mesh = tuple[np.ndarray, np.ndarray, np.ndarray]  # vertices (V, 3), triangles (T, 3), label per triangle (T), -1 or above


def hulls_of(vertex: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, ...]:
    """Vertices (H, 3) of 1..HULLS convex hulls that together cover the part."""
    part = manifold_of(vertex, face, np.zeros(len(face), np.int64))
    volume, size = part.volume(), float(np.ptp(vertex, axis=0).max())
    blocks = [(part, part.hull())]
    while len(blocks) < HULLS:
        excess = [hull.volume() - block.volume() for block, hull in blocks]
        if sum(excess) <= CONVEX * volume:
            break
        worst = int(np.argmax(excess))
        halves = halved(blocks[worst][0], DUST * volume, FLAT * size)
        if not halves or sum(h.volume() for _, h in halves) > (1.0 - 1e-3) * blocks[worst][1].volume():
            break
        blocks[worst : worst + 1] = halves
    return tuple(reduced(mesh_of(hull)[0]) for _, hull in blocks)


def reduced(point: np.ndarray) -> np.ndarray:
    """At most HULL_VERTICES of the points (H, 3) of a convex body, the farthest outside the hull of those chosen before first."""
    if len(point) <= HULL_VERTICES:
        return point
    size = float(np.ptp(point, axis=0).max())
    chosen = np.unique(np.concatenate([point.argmin(axis=0), point.argmax(axis=0)])).tolist()
    if len(chosen) < 5 or np.linalg.matrix_rank(point[chosen] - point[chosen[0]], tol=1e-6 * size) < 3:
        chosen = corners(point, 1e-6 * size)
        if len(chosen) < 4:
            return point  # flat: no hull can be built on it, which hull_table says
    while len(chosen) < HULL_VERTICES:
        plane = ConvexHull(point[chosen]).equations  # anew: Qhull's incremental mode loses its footing on coplanar points
        outside = (point @ plane[:, :3].T + plane[:, 3]).max(axis=1)
        farthest = int(np.argmax(outside))
        if outside[farthest] <= DEVIATION * size:
            break
        chosen.append(farthest)
    return point[sorted(chosen)]


def corners(point: np.ndarray, least: float) -> list[int]:
    """The lowest point along x, the farthest from it, from their line, from their plane: fewer if none is `least` [m] away."""
    chosen = [int(point[:, 0].argmin())]
    arm = point - point[chosen[0]]
    while len(chosen) < 4:
        away = np.linalg.norm(arm, axis=1)
        farthest = int(np.argmax(away))
        if away[farthest] <= least:
            break
        chosen.append(farthest)
        axis = arm[farthest] / away[farthest]
        arm = arm - np.outer(arm @ axis, axis)
    return chosen


def manifold_of(vertex: np.ndarray, face: np.ndarray, label: np.ndarray) -> manifold3d.Manifold:
    """A manifold whose triangles keep `label` through booleans (as 1 + label)."""
    mesh = manifold3d.Mesh64(
        np.ascontiguousarray(vertex, np.float64), np.ascontiguousarray(face, np.uint64),
        face_id=np.ascontiguousarray(label + 1, np.uint64),
    )
    mesh.merge()
    return manifold3d.Manifold(mesh)


def mesh_of(solid: manifold3d.Manifold) -> Mesh:
    """Vertices, triangles and labels of a manifold."""
    mesh = solid.to_mesh64()
    vertex = np.array(mesh.vert_properties)[:, :3]
    face = np.array(mesh.tri_verts).astype(np.int64).reshape(-1, 3)
    same = np.arange(len(vertex))
    same[np.array(mesh.merge_from_vert).astype(np.int64)] = np.array(mesh.merge_to_vert).astype(np.int64)
    return vertex, same[face], np.array(mesh.face_id).astype(np.int64) - 1


def halved(part: manifold3d.Manifold, least: float, thinnest: float) -> list[tuple[manifold3d.Manifold, manifold3d.Manifold]]:
    """The separate halves, each with its hull, of the cut whose hulls are smallest in sum; empty if no plane cuts.

    Blocks below `least` [m3] or thinner than `thinnest` [m] are left out."""
    best: list[tuple[manifold3d.Manifold, manifold3d.Manifold]] = []
    smallest = np.inf
    for normal, offset in split_planes(*mesh_of(part)[:2]):
        halves = [
            block for side in part.split_by_plane(normal, offset) for block in side.decompose()
            if block.volume() > max(least, 0.5 * thinnest * block.surface_area())
        ]
        if len(halves) < 2:
            continue
        pairs = [(block, block.hull()) for block in halves]
        total = sum(hull.volume() for _, hull in pairs)
        if total < (1.0 - 1e-9) * smallest:
            best, smallest = pairs, total
    return best


def split_planes(vertex: np.ndarray, face: np.ndarray) -> list[tuple[tuple[float, float, float], float]]:
    """Planes worth trying: of faces at reflex edges, those with most reflex edge first, then through the middle across each axis."""
    a, b, c = (vertex[face[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    normal = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-300)
    half = np.concatenate([face[:, [0, 1]], face[:, [1, 2]], face[:, [2, 0]]])
    tri = np.tile(np.arange(len(face)), 3)
    tip = np.concatenate([face[:, 2], face[:, 0], face[:, 1]])
    forward = np.lexsort((half[:, 1], half[:, 0]))
    backward = np.lexsort((half[:, 0], half[:, 1]))  # pairs each half-edge with its opposite
    rise = np.einsum("ij,ij->i", normal[tri[forward]], vertex[tip[backward]] - vertex[half[forward, 0]])
    size = float(np.ptp(vertex, axis=0).max())
    length = np.linalg.norm(vertex[half[forward, 0]] - vertex[half[forward, 1]], axis=1)
    reflex = rise > 1e-6 * size
    weight = segment_sum(np.where(reflex, length, 0.0)[np.argsort(tri[forward], kind="stable")], np.arange(0, len(half) + 1, 3))
    planes: list[tuple[np.ndarray, float]] = []
    for t in np.argsort(-weight, kind="stable").tolist():
        if weight[t] <= 0.0 or len(planes) == CANDIDATES:
            break
        offset = float(normal[t] @ a[t])
        if not any(abs(n @ normal[t]) > 1 - 1e-6 and abs(np.sign(n @ normal[t]) * d - offset) < 1e-6 * size for n, d in planes):
            planes.append((normal[t], offset))
    middle = 0.5 * (vertex.min(axis=0) + vertex.max(axis=0))
    planes += [(np.eye(3)[k], float(middle[k])) for k in range(3)]
    return [((float(n[0]), float(n[1]), float(n[2])), d) for n, d in planes]
