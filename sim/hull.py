# pyright: basic, reportInvalidTypeForm=false
"""Faces, edges and vertices of convex hulls, laid out for the separating-axis test.

In: Fragments (hull vertices, local to each fragment). Out: a HullTable: per hull its vertices, planar faces as vertex loops
(coplanar triangles merged, for a manifold is clipped against whole faces), and edges with the two faces that they join.
Everything is relative to the fragment's centre of mass at rest. Qhull (Barber, Dobkin, Huhdanpaa 1996) finds the facets.
"""

import numpy as np
import taichi as ti
from scipy.spatial import ConvexHull, QhullError

from shot.errors import ShotError
from shot.results import Fragments
from sim.layout import EDGES, HULL

COPLANAR = 0.9999  # cosine of the angle under which two facets are one face: 0.8 degrees, far above the f32 noise of a cut


class HullTable:
    """The arrays of HULL on the device; `count` hulls."""

    def __init__(self, rows: dict[str, np.ndarray]):
        self.count = len(rows["fragment"])
        self.fragment = rows["fragment"]
        first = rows["span"][:-1, 0]
        self.extent = np.maximum.reduceat(rows["vertex"], first) - np.minimum.reduceat(rows["vertex"], first)  # (C, 3) f32 [m] at rest
        rows = {**rows, "vertex_now": rows["vertex"], "normal_now": rows["normal"]}
        rows |= {"lower": np.zeros((self.count, 3), np.float32), "upper": np.zeros((self.count, 3), np.float32)}
        rows |= {"turned": np.zeros((self.count, 4), np.float32), "centre": np.zeros((self.count, 3))}  # no rotation: not made yet
        self.array = {k: ti.ndarray(e, max(1, len(rows[k]))) for k, e in HULL.items()}
        for k, a in self.array.items():
            if len(rows[k]):
                a.from_numpy(np.ascontiguousarray(rows[k]))


def hull_table(fragments: Fragments, shrink: float) -> tuple[HullTable, np.ndarray]:
    """Features of all hulls, each shrunk by this share about its centre, and each fragment's radius (F) f64 [m].

    Raises ShotError naming the fragment whose hull has no volume, or more edges than contact has room for.
    """
    radius = np.zeros(fragments.count)
    parts: dict[str, list] = {k: [] for k in ("span", "vertex", "normal", "offset", "loop_length", "loop", "edge")}
    v0 = p0 = e0 = 0
    for c, f in enumerate(fragments.hull_fragment):
        points = np.asarray(fragments.hull_vertex[fragments.hull_vertex_start[c] : fragments.hull_vertex_start[c + 1]], np.float64)
        try:
            vertex, normal, offset, loops, edge = hull_features(points)
        except QhullError as error:
            raise ShotError(f"{_owner(fragments, f)}: hull {c} has no volume") from error
        if len(edge) > EDGES:
            raise ShotError(f"{_owner(fragments, f)}: hull {c} has {len(edge)} edges, at most {EDGES} are told apart in contact")
        centre = vertex.mean(axis=0)
        vertex = centre + (1.0 - shrink) * (vertex - centre)
        offset = (1.0 - shrink) * offset + shrink * (normal @ centre)
        radius[f] = max(radius[f], float(np.linalg.norm(vertex, axis=1).max()))
        parts["span"].append((v0, p0, e0, 0))
        parts["vertex"].append(vertex)
        parts["normal"].append(normal)
        parts["offset"].append(offset)
        parts["loop_length"].append([len(loop) for loop in loops])
        parts["loop"].append(np.concatenate(loops) + v0)
        parts["edge"].append(edge + np.array([v0, v0, p0, p0]))
        v0, p0, e0 = v0 + len(vertex), p0 + len(normal), e0 + len(edge)
    parts["span"].append((v0, p0, e0, 0))
    rows = {
        "fragment": np.asarray(fragments.hull_fragment, np.int32),
        "span": np.array(parts["span"], np.int32),
        "vertex": np.concatenate(parts["vertex"]).astype(np.float32),
        "normal": np.concatenate(parts["normal"]).astype(np.float32),
        "offset": np.concatenate(parts["offset"]).astype(np.float32),
        "loop_start": np.concatenate([[0], np.cumsum(np.concatenate(parts["loop_length"]))]).astype(np.int32),
        "loop": np.concatenate(parts["loop"]).astype(np.int32),
        "edge": np.concatenate(parts["edge"]).astype(np.int32),
    }
    return HullTable(rows), radius


def _owner(fragments: Fragments, fragment: int) -> str:
    """'fragment 17 (ground.column.3)'."""
    return f"fragment {fragment} ({fragments.element_name[int(fragments.element[fragment])]})"


def hull_features(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """Vertices (V, 3), outward normals (P, 3), offsets (P), vertex loops of each face, edges (E, 4: v, v, face, face)."""
    vertex, corner, face, normal, offset, neighbour = hull_faces(points)
    loops = []
    for p, n in enumerate(normal):
        members = np.unique(corner[face == p])
        u = _cross(n, np.eye(3)[np.argmin(np.abs(n))])
        u /= np.linalg.norm(u)
        arm = vertex[members] - vertex[members].mean(axis=0)
        loops.append(members[np.argsort(np.arctan2(arm @ _cross(n, u), arm @ u), kind="stable")])
    facets = len(corner)
    i, j = np.repeat(np.arange(facets), 3), neighbour.ravel()
    between = (face[i] != face[j]) & (i < j)
    slot = np.tile(np.arange(3), facets)  # Qhull: neighbour k lies opposite corner k
    v = corner[i[between]]
    s = slot[between]
    rows = np.arange(len(s))
    edge = np.stack([v[rows, (s + 1) % 3], v[rows, (s + 2) % 3], face[i[between]], face[j[between]]], axis=1)
    return vertex, normal, offset, loops, edge.reshape(-1, 4)


def hull_faces(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3), facets (T, 3) and the face of each (T), outward normals (P, 3), offsets (P), neighbours of each facet (T, 3)."""
    hull = ConvexHull(points)
    number = np.full(len(points), -1)
    number[hull.vertices] = np.arange(len(hull.vertices))
    vertex, corner, neighbour = points[hull.vertices], number[hull.simplices], hull.neighbors
    facet_normal = hull.equations[:, :3]
    i = np.repeat(np.arange(len(corner)), 3)
    flat = (np.einsum("ij,ij->i", facet_normal[i], facet_normal[neighbour.ravel()]) > COPLANAR).reshape(-1, 3)
    lowest, before = np.arange(len(corner)), np.full(len(corner), -1)
    while (lowest != before).any():  # lowest facet that a facet hangs together with over flat edges
        before = lowest
        lowest = np.minimum(before, np.where(flat, before[neighbour], before[:, None]).min(axis=1))
    face = np.cumsum(lowest == np.arange(len(corner)))[lowest] - 1
    faces = int(face.max()) + 1
    a, b, c = (vertex[corner[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    normal = np.stack([np.bincount(face, area * facet_normal[:, k], minlength=faces) for k in range(3)], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return vertex, corner, face, normal, (vertex @ normal.T).max(axis=0), neighbour


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two vectors; numpy's takes ten times as long for so few numbers."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
