"""Convex polyhedra: from a closed mesh, cut by half-spaces, turned into triangles.

In: vertices and triangles of a convex solid, planes n.x <= d. Out: polyhedra whose faces are convex polygons over shared vertices,
so that every edge lies in exactly two faces and a cut keeps it so. Each face carries a tag that tells where it came from: negative
tags are faces of the solid, others are given by the cutter (the neighbouring Voronoi site). float64 throughout.
Reference: Sutherland and Hodgman 1974 for the clip; the cap is the reverse of the half-edges that lost their partner.
Does not handle non-convex solids (see `sim/solid.py`) or vertices closer together than `eps`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SURFACE = -1  # tag of faces that belong to the surface of the solid
COPLANAR = 1e-7  # unit normals of neighbours that differ less are one face; noisier meshes keep their triangles, with the same surface


@dataclass(frozen=True)
class Polyhedron:
    """A closed convex polyhedron. Vertices no face uses do not exist."""

    vertex: np.ndarray  # (V, 3) f64 [m]
    loop: tuple[tuple[int, ...], ...]  # vertex indices of each face, counter-clockwise from outside
    tag: tuple[int, ...]  # one per face


def polyhedron_from_mesh(vertex: np.ndarray, face: np.ndarray) -> Polyhedron:
    """Convex solid of a closed triangle mesh, coplanar triangles joined to one polygon each; all tags SURFACE.

    A coplanar patch that is not a disc (it cannot be on a convex solid, but can by rounding) stays as triangles: the same surface.
    """
    a, b, c = (vertex[face[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    face = face[length > 0.0]
    normal = cross[length > 0.0] / length[length > 0.0, None]
    half = np.concatenate([face[:, [0, 1]], face[:, [1, 2]], face[:, [2, 0]]])
    tri = np.tile(np.arange(len(face)), 3)
    near = tri[np.lexsort((half[:, 1], half[:, 0]))]
    far = tri[np.lexsort((half[:, 0], half[:, 1]))]  # the triangle across each half-edge
    flat = np.abs(normal[near] - normal[far]).max(axis=1) <= COPLANAR
    graph = coo_matrix((np.ones(flat.sum()), (near[flat], far[flat])), (len(face), len(face)))
    label = connected_components(graph, directed=False)[1]
    patches = np.split(np.argsort(label, kind="stable"), np.flatnonzero(np.diff(np.sort(label))) + 1)
    loops: list[tuple[int, ...]] = []
    for patch in patches:
        triangles = [tuple(int(i) for i in face[t]) for t in patch]
        chained = boundary_loop(triangles)
        loops += [chained] if chained else triangles
    return _compact(vertex, loops, [SURFACE] * len(loops))


def polyhedron_box(lower: np.ndarray, upper: np.ndarray) -> Polyhedron:
    """The axis-aligned box; all tags SURFACE."""
    corner = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    vertex = np.where(corner == 1, np.asarray(upper, float), np.asarray(lower, float))
    loops = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return Polyhedron(vertex, loops, (SURFACE,) * 6)


def cut(solid: Polyhedron, normal: np.ndarray, offset: float, tag: int, eps: float) -> Polyhedron | None:
    """The part with normal.x <= offset, its new face tagged; None if nothing is left.

    Vertices within `eps` [m] of the plane count as on it, so a cut through a vertex makes no splinter there.
    """
    return cut_at(solid, solid.vertex @ normal - offset, tag, eps)


def cut_at(solid: Polyhedron, distance: np.ndarray, tag: int, eps: float) -> Polyhedron | None:
    """As `cut`, from the signed distances (V) [m] of the vertices to the plane."""
    if distance.max() <= eps:
        return solid
    if distance.min() >= -eps:
        return None
    for tolerance in (eps, 1e-3 * eps, 0.0):
        part = _cut(solid, distance.tolist(), tag, tolerance)
        if part is not None:
            return part
    raise ArithmeticError("a convex cut has no simple rim: the solid is not convex")


def _cut(solid: Polyhedron, distance: list[float], tag: int, eps: float) -> Polyhedron | None:
    """One attempt of `cut_at`; None if rounding left a rim that is not one simple loop."""
    side = [1 if s > eps else (-1 if s < -eps else 0) for s in distance]
    vertex = solid.vertex
    first_new = len(vertex)
    edge_vertex: dict[tuple[int, int], int] = {}
    points: list[np.ndarray] = []
    loops: list[tuple[int, ...]] = []
    tags: list[int] = []
    for loop, face_tag in zip(solid.loop, solid.tag, strict=True):
        out: list[int] = []
        inside = False
        i = loop[-1]
        for j in loop:
            if side[i] * side[j] < 0:
                key = (i, j) if i < j else (j, i)
                k = edge_vertex.get(key)
                if k is None:
                    k = edge_vertex[key] = first_new + len(points)
                    p, q = key
                    t = distance[p] / (distance[p] - distance[q])
                    points.append(vertex[p] + t * (vertex[q] - vertex[p]))
                out.append(k)
            if side[j] <= 0:
                out.append(j)
                inside = inside or side[j] < 0
            i = j
        if inside:
            loops.append(tuple(out))
            tags.append(face_tag)
    cap = boundary_loop(loops)
    if not cap or any(len(loop) < 3 for loop in loops):
        return None
    loops.append(cap[::-1])
    tags.append(tag)
    return _compact(np.vstack([vertex, *points]) if points else vertex, loops, tags)


def boundary_loop(loops: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The one simple loop around a patch of faces, in their direction; empty if there is none or more than one."""
    half_edges = {(loop[k - 1], loop[k]) for loop in loops for k in range(len(loop))}
    follow = {i: j for i, j in half_edges if (j, i) not in half_edges}
    if len(follow) < 3 or len(follow) != sum((j, i) not in half_edges for i, j in half_edges):
        return ()
    start = min(follow)
    chain = [start]
    while (following := follow.get(chain[-1])) is not None and following != start and len(chain) < len(follow):
        chain.append(following)
    return tuple(chain) if len(chain) == len(follow) and follow.get(chain[-1]) == start else ()


def closed(solid: Polyhedron) -> bool:
    """True if every edge lies in exactly two faces, once in each direction."""
    edges = [(loop[k - 1], loop[k]) for loop in solid.loop for k in range(len(loop))]
    known = set(edges)
    return len(known) == len(edges) and all((j, i) in known for i, j in edges)


def _compact(vertex: np.ndarray, loops: list[tuple[int, ...]], tags: list[int]) -> Polyhedron:
    """Drop vertices that no face uses."""
    used = sorted({i for loop in loops for i in loop})
    if len(used) == len(vertex):
        return Polyhedron(vertex, tuple(loops), tuple(tags))
    index = {old: new for new, old in enumerate(used)}
    return Polyhedron(vertex[used], tuple(tuple(index[i] for i in loop) for loop in loops), tuple(tags))


def triangles(solid: Polyhedron) -> tuple[np.ndarray, np.ndarray]:
    """Fans of all faces: (T, 3) i32 vertex indices, (T) i32 face each triangle came from."""
    face = [(loop[0], loop[k], loop[k + 1]) for loop in solid.loop for k in range(1, len(loop) - 1)]
    owner = np.repeat(np.arange(len(solid.loop)), [len(loop) - 2 for loop in solid.loop])
    return np.array(face, np.int32), owner.astype(np.int32)


def planes(solid: Polyhedron) -> tuple[np.ndarray, np.ndarray]:
    """Outward unit normals (N, 3) and offsets (N) [m] of the faces (Newell's normals)."""
    corner = [solid.vertex[list(loop)] for loop in solid.loop]
    normal = np.array([np.cross(p - p[0], np.roll(p, -1, axis=0) - p[0]).sum(axis=0) for p in corner])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    offset = np.array([n @ p.mean(axis=0) for n, p in zip(normal, corner, strict=True)])
    return normal, offset
