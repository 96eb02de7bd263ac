"""Pieces of a closed mesh of any shape: Voronoi cells intersected with it, and convex hulls that cover each piece.

In: a closed outward mesh. Out: Pieces whose render mesh is the exact part of the solid, each triangle marked with the bisector plane it
lies on or as surface. The boolean is manifold3d's (Lalish; exact in topology, f64), which carries a label from each input triangle to
the output. A cell can hold several separate parts (a wall corner cut off): each is a piece; parts below SPLINTER of the median join the
part they share most face with, as a second closed shell of the same piece. Cavities stay with the part around them.
Does not repair meshes: an open or inside-out one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import manifold3d
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from shot.errors import ShotError
from sim.adjacency import Piece, contacts_inside
from sim.cover import Mesh, hulls_of, manifold_of, mesh_of
from sim.mass import mass_properties
from sim.polyhedron import SURFACE, Polyhedron, polyhedron_box, triangles
from sim.scatter_sites import sites_in_mesh
from sim.section import sections_of
from sim.voronoi import EPS, voronoi_cell

SPLINTER = 0.05  # of the median part: smaller ones are glued to a neighbour
DUST = 1e-9  # of the solid's volume: parts below are rounding of the boolean and are dropped


def pieces_of_solid(
    member: int, vertex: np.ndarray, face: np.ndarray, piece: float, pieces_min: int, jitter: float, seed: int, stream: str
) -> list[Piece]:
    """Cut one member. Raises ShotError if its mesh is not closed and outward."""
    centre = 0.5 * (vertex.min(axis=0) + vertex.max(axis=0))
    vertex = vertex - centre
    solid = solid_of(member, vertex, face)
    site = sites_in_mesh(vertex, face, piece, pieces_min, jitter, seed, stream)
    size = float(np.ptp(vertex, axis=0).max())
    space = polyhedron_box(vertex.min(axis=0) - 0.1 * size, vertex.max(axis=0) + 0.1 * size)
    tree = KDTree(site)
    cells = [(own, cell) for own in range(len(site)) if (cell := voronoi_cell(space, site, own, tree, EPS * size)) is not None]
    return [moved(piece, centre) for piece in pieces_in_cells(member, solid, cells, lambda own, other: own)]


def solid_of(member: int, vertex: np.ndarray, face: np.ndarray) -> manifold3d.Manifold:
    """A member's mesh for booleans, its faces labelled as surface. Raises ShotError if it is not closed and outward."""
    solid = manifold_of(vertex, face, np.full(len(face), SURFACE))
    if solid.status() != manifold3d.Error.NoError or solid.volume() <= 0.0:
        raise ShotError(f"member {member}: the mesh is not closed and outward ({solid.status().name}); repair it before it is cut")
    return solid


def pieces_in_cells(
    member: int, solid: manifold3d.Manifold, cells: Iterable[tuple[int, Polyhedron]], own_at: Callable[[int, int], int]
) -> list[Piece]:
    """The solid cut into numbered convex cells that fill it, faces tagged with what lies across; own_at(number, tag) names this side.

    Where a cell's face lies on the solid's surface it is surface: of coplanar faces the first operand's label stays."""
    parts: list[tuple[int, Mesh]] = []
    for number, cell in cells:
        parts += [(number, part) for part in parts_of(solid ^ manifold_of_cell(cell), DUST * solid.volume())]
    pieces = []
    for number, (points, tri, other) in parts:
        loops = tuple(tuple(t) for t in tri.tolist())
        across = tuple(other.tolist())
        pieces.append(Piece(member, points, loops, tuple(own_at(number, tag) for tag in across), across, hulls_of(points, tri)))
    return glued(pieces)


def manifold_of_cell(cell: Polyhedron) -> manifold3d.Manifold:
    """A Voronoi cell; each triangle is labelled with the site across it."""
    face, owner = triangles(cell)
    return manifold_of(cell.vertex, face, np.array(cell.tag)[owner])


def parts_of(solid: manifold3d.Manifold, least: float) -> list[Mesh]:
    """Separate parts above `least` [m3], ordered by place; a cavity belongs to the part around it."""
    vertex, face, other = mesh_of(solid)
    if len(face) == 0:
        return []
    edges = np.concatenate([face[:, [0, 1]], face[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(vertex), len(vertex)))
    label = connected_components(graph, directed=False)[1][face[:, 0]]
    shells = [_compact(vertex, face[label == k], other[label == k]) for k in np.unique(label)]
    volume = [signed_volume(v, f) for v, f, _ in shells]
    solids = [k for k in range(len(shells)) if volume[k] > least]
    holes: dict[int, list[int]] = {k: [] for k in solids}
    for k in range(len(shells)):
        if volume[k] < -least:
            around = [s for s in solids if abs(winding_number(shells[k][0][0], *shells[s][:2])) > 0.5]
            holes[min(around, key=lambda s: volume[s])].append(k)
    parts = [_joined([shells[k], *(shells[h] for h in holes[k])]) for k in solids]
    return sorted(parts, key=lambda part: tuple(part[0].mean(axis=0)))


def signed_volume(vertex: np.ndarray, face: np.ndarray) -> float:
    """[m3] of a closed mesh, negative if it is inside out; a sheet, which booleans of touching faces leave behind, has none."""
    a, b, c = (vertex[face[:, k]] - vertex[0] for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0)


def _compact(vertex: np.ndarray, face: np.ndarray, other: np.ndarray) -> Mesh:
    """Drop vertices that no triangle uses."""
    used, index = np.unique(face, return_inverse=True)
    return vertex[used], index.reshape(-1, 3), other


def _joined(shells: list[Mesh]) -> Mesh:
    """Several shells as one mesh."""
    first = np.cumsum([0] + [len(vertex) for vertex, _, _ in shells])
    return (
        np.concatenate([vertex for vertex, _, _ in shells]),
        np.concatenate([face + at for (_, face, _), at in zip(shells, first, strict=False)]),
        np.concatenate([other for _, _, other in shells]),
    )


def winding_number(point: np.ndarray, vertex: np.ndarray, face: np.ndarray) -> float:
    """1 inside, 0 outside a closed mesh: its solid angle / 4 pi (van Oosterom and Strackee 1983)."""
    a, b, c = (vertex[face[:, k]] - point for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
    top = np.einsum("ij,ij->i", a, np.cross(b, c))
    dots = [np.einsum("ij,ij->i", x, y) for x, y in ((a, b), (b, c), (c, a))]
    return float(np.arctan2(top, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb).sum() / (2.0 * np.pi))


def glued(pieces: list[Piece]) -> list[Piece]:
    """Join splinters, smallest first, to the neighbour they share most face with."""
    volume = volumes_of(pieces)
    small = volume < SPLINTER * np.median(volume)
    if not small.any():
        return pieces
    contacts = contacts_inside(pieces, 0, convex=False)
    area = sections_of([c.polygon for c in contacts], np.array([c.normal for c in contacts]).reshape(-1, 3)).area if contacts else []
    shared: dict[int, dict[int, float]] = {}
    for contact, amount in zip(contacts, area, strict=True):
        for i, j in ((contact.a, contact.b), (contact.b, contact.a)):
            shared.setdefault(i, {})[j] = shared.get(i, {}).get(j, 0.0) + float(amount)
    host = list(range(len(pieces)))

    def root(k: int) -> int:
        while host[k] != k:
            k = host[k]
        return k

    for k in np.argsort(volume, kind="stable").tolist():
        neighbours = {j: amount for j, amount in shared.get(k, {}).items() if root(j) != root(k)}
        if small[k] and neighbours:
            host[root(k)] = root(max(sorted(neighbours), key=lambda j: neighbours[j]))
    groups: dict[int, list[Piece]] = {}
    for k, piece in enumerate(pieces):
        groups.setdefault(root(k), []).append(piece)
    return [_together(groups[k]) for k in sorted(groups)]


def _together(group: list[Piece]) -> Piece:
    """Several pieces as closed shells of one."""
    if len(group) == 1:
        return group[0]
    first = np.cumsum([0] + [len(piece.vertex) for piece in group]).tolist()
    return Piece(
        group[0].member,
        np.concatenate([piece.vertex for piece in group]),
        tuple(tuple(i + at for i in loop) for piece, at in zip(group, first, strict=False) for loop in piece.loop),
        tuple(own for piece in group for own in piece.own),
        tuple(other for piece in group for other in piece.other),
        tuple(hull for piece in group for hull in piece.hull),
    )


def moved(piece: Piece, by: np.ndarray) -> Piece:
    """The piece elsewhere."""
    return Piece(piece.member, piece.vertex + by, piece.loop, piece.own, piece.other, tuple(hull + by for hull in piece.hull))


def turned(piece: Piece, frame: np.ndarray) -> Piece:
    """A piece given in a frame whose axes are rows (3, 3), in the world's."""
    return Piece(piece.member, piece.vertex @ frame, piece.loop, piece.own, piece.other, tuple(hull @ frame for hull in piece.hull))


def volumes_of(pieces: list[Piece]) -> np.ndarray:
    """Volumes (N) [m3] of pieces made of triangles."""
    vertex_start = np.cumsum([0] + [len(piece.vertex) for piece in pieces])
    face_start = np.cumsum([0] + [len(piece.loop) for piece in pieces])
    face = np.concatenate([np.array(piece.loop) for piece in pieces])
    return mass_properties(np.concatenate([piece.vertex for piece in pieces]), vertex_start, face, face_start)[0]
