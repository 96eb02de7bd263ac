# pyright: basic, reportInvalidTypeForm=false
"""Faces, edges and vertices of convex hulls, laid out for the separating-axis test.

In: Fragments (hull vertices, local to each fragment). Out: a HullTable: per hull its vertices, planar faces as vertex loops
(coplanar triangles merged, for a manifold is clipped against whole faces), and edges with the two faces that they join.
Everything is relative to the fragment's centre of mass at rest. Qhull (Barber, Dobkin, Huhdanpaa 1996) finds the facets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import taichi as ti
from scipy.spatial import ConvexHull, QhullError

from shot.errors import ShotError
from shot.results import Fragments
from shot.rotation import cross
from sim.layout import EDGES, HULL

BATCH = 4096  # hulls whose features are found at once: some 10 MB of pairs of vertex and face
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
    count, first = len(fragments.hull_fragment), np.asarray(fragments.hull_vertex_start)
    points = np.asarray(fragments.hull_vertex, np.float64)
    clouds = [points[first[c] : first[c + 1]] for c in range(count)]
    radius, parts = np.zeros(fragments.count), []
    for begin in range(0, count, BATCH):
        try:
            part = hulls_features(clouds[begin : begin + BATCH])
        except QhullError:
            flat = next(c for c in range(begin, count) if not _solid(clouds[c]))
            raise ShotError(f"{_owner(fragments, fragments.hull_fragment[flat])}: hull {flat} has no volume") from None
        parts.append(part)
    span = np.cumsum(np.concatenate([np.zeros((1, 3), int), *(part.count for part in parts)]), axis=0)
    edges = np.diff(span[:, 2])
    if edges.max(initial=0) > EDGES:
        c = int(np.argmax(edges > EDGES))
        owner = _owner(fragments, fragments.hull_fragment[c])
        raise ShotError(f"{owner}: hull {c} has {edges[c]} edges, at most {EDGES} are told apart in contact")
    vertex, normal, offset, length, loop, edge = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("vertex", "normal", "offset", "loop_length", "loop", "edge")
    )
    batch = np.arange(count) // BATCH
    base = span[:-1][batch * BATCH]  # hulls of a batch are counted through
    of_vertex, of_face, of_edge = (np.repeat(np.arange(count), np.diff(span[:, k])) for k in range(3))
    loop += np.repeat(base[of_face, 0], length)
    edge += base[of_edge][:, [0, 0, 1, 1]]
    centre = np.add.reduceat(vertex, span[:-1, 0]) / np.diff(span[:, 0])[:, None]
    vertex = centre[of_vertex] + (1.0 - shrink) * (vertex - centre[of_vertex])
    offset = (1.0 - shrink) * offset + shrink * np.einsum("fk,fk->f", normal, centre[of_face])
    np.maximum.at(radius, np.asarray(fragments.hull_fragment)[of_vertex], np.linalg.norm(vertex, axis=1))
    rows = {
        "fragment": np.asarray(fragments.hull_fragment, np.int32),
        "span": np.concatenate([span, np.zeros((count + 1, 1), int)], axis=1).astype(np.int32),
        "vertex": vertex.astype(np.float32),
        "normal": normal.astype(np.float32),
        "offset": offset.astype(np.float32),
        "loop_start": np.concatenate([[0], np.cumsum(length)]).astype(np.int32),
        "loop": loop.astype(np.int32),
        "edge": edge.astype(np.int32),
    }
    return HullTable(rows), radius


def _solid(points: np.ndarray) -> bool:
    """True if points span a volume."""
    try:
        ConvexHull(points)
    except QhullError:
        return False
    return True


def _owner(fragments: Fragments, fragment: int) -> str:
    """'fragment 17 (ground.column.3)'."""
    return f"fragment {fragment} ({fragments.element_name[int(fragments.element[fragment])]})"


@dataclass(frozen=True)
class Features:
    """Of several hulls in a row, vertices and faces counted through."""

    count: np.ndarray  # (C, 3) vertices, faces, edges of each hull
    vertex: np.ndarray  # (V, 3)
    normal: np.ndarray  # (P, 3) outwards
    offset: np.ndarray  # (P)
    loop_length: np.ndarray  # (P) vertices of each face
    loop: np.ndarray  # all faces' vertices, each face's in a loop
    edge: np.ndarray  # (E, 4) vertex, vertex, face, face


def hulls_features(clouds: Sequence[np.ndarray]) -> Features:
    """Features of the hulls of point clouds (V, 3). All at once: numpy on one hull alone takes ten times as long as Qhull."""
    vertices, vertex, corner, facet_face, faces, normal, offset, neighbour = _facets(clouds)
    # every vertex of every face once, by face and by angle about the face's middle
    facets, total = len(corner), len(vertex)
    face_of, member = np.divmod(np.unique((facet_face[:, None] * total + corner).ravel()), total)
    length = np.bincount(face_of, minlength=len(normal))
    thin = np.eye(3)[np.argmin(np.abs(normal), axis=1)]
    u = cross(normal, thin)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    w = cross(normal, u)
    middle = np.stack([np.bincount(face_of, vertex[member, k], len(normal)) for k in range(3)], axis=1) / length[:, None]
    arm = vertex[member] - middle[face_of]
    angle = np.arctan2(np.einsum("ik,ik->i", arm, w[face_of]), np.einsum("ik,ik->i", arm, u[face_of]))
    loop = member[np.lexsort((member, angle, face_of))]
    i, j = np.repeat(np.arange(facets), 3), neighbour.ravel()
    between = np.flatnonzero((facet_face[i] != facet_face[j]) & (i < j))
    i, j, slot = i[between], j[between], between % 3  # Qhull: neighbour k lies opposite corner k
    edge = np.stack([corner[i, (slot + 1) % 3], corner[i, (slot + 2) % 3], facet_face[i], facet_face[j]], axis=1)
    hull_of_face = np.repeat(np.arange(len(clouds)), faces)
    edges = np.bincount(hull_of_face[edge[:, 2]], minlength=len(clouds))
    return Features(np.stack([vertices, faces, edges], axis=1), vertex, normal, offset, length, loop, edge)


def hull_faces(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3), facets (T, 3) and the face of each (T), outward normals (P, 3), offsets (P), neighbours of each facet (T, 3)."""
    _, vertex, corner, face, _, normal, offset, neighbour = _facets([points])
    return vertex, corner, face, normal, offset, neighbour


def _facets(clouds: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Of several hulls, all counted through: vertices of each hull (C), vertices (V, 3), facets (T, 3), the face of each facet (T), faces
    of each hull (C), normals (P, 3), offsets (P), neighbours (T, 3). A face is what facets make that hang together over flat edges."""
    hulls = [ConvexHull(points) for points in clouds]
    vertices, facets = (np.array([len(k) for k in ks]) for ks in zip(*((h.vertices, h.simplices) for h in hulls), strict=True))
    sizes = np.array([len(points) for points in clouds])
    first_point, first_facet = np.cumsum(sizes) - sizes, np.repeat(np.cumsum(facets) - facets, facets)
    points = np.concatenate(clouds)
    chosen = np.concatenate([h.vertices for h in hulls]) + np.repeat(first_point, vertices)
    number = np.full(len(points), -1)
    number[chosen] = np.arange(len(chosen))
    vertex = points[chosen]
    corner = number[np.concatenate([h.simplices for h in hulls]) + np.repeat(first_point, facets)[:, None]]
    neighbour = np.concatenate([h.neighbors for h in hulls]) + first_facet[:, None]
    facet_normal = np.concatenate([h.equations for h in hulls])[:, :3]
    i = np.repeat(np.arange(len(corner)), 3)
    flat = (np.einsum("ij,ij->i", facet_normal[i], facet_normal[neighbour.ravel()]) > COPLANAR).reshape(-1, 3)
    lowest, before = np.arange(len(corner)), np.full(len(corner), -1)
    while (lowest != before).any():  # lowest facet that a facet hangs together with over flat edges
        before = lowest
        lowest = np.minimum(before, np.where(flat, before[neighbour], before[:, None]).min(axis=1))
    head = lowest == np.arange(len(corner))
    face = np.cumsum(head)[lowest] - 1
    a, b, c = (vertex[corner[:, k]] for k in range(3))
    area = np.linalg.norm(cross(b - a, c - a), axis=1)
    total = int(np.count_nonzero(head))
    normal = np.stack([np.bincount(face, area * facet_normal[:, k], minlength=total) for k in range(3)], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    facet_hull = np.repeat(np.arange(len(clouds)), facets)
    faces = np.bincount(facet_hull[head], minlength=len(clouds))
    # offset: farthest of the hull's vertices along the normal
    every = np.repeat(vertices, faces)
    first_vertex = np.repeat(np.cumsum(vertices) - vertices, faces)
    start = np.cumsum(every) - every
    pair = np.arange(every.sum()) - np.repeat(start - first_vertex, every)
    offset = np.maximum.reduceat(np.einsum("ik,ik->i", vertex[pair], np.repeat(normal, every, axis=0)), start)
    return vertices, vertex, corner, face, faces, normal, offset, neighbour
