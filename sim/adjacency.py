"""Which pieces touch, and the exact polygon where they do.

In: pieces with faces that know their Voronoi plane or lie on the surface. Out: contacts, three kinds of them:
  inside a member   both pieces own a face on the same bisector plane; for a convex member the face itself is the shared polygon,
                    for a solid the triangles of both sides are clipped against each other
  between members   surface polygons that face each other within `touch` metres; clipped in their common plane
  to the ground     downward surface polygons of a grounded member on the member's lowest plane
Pieces may touch in several planes; each plane is one contact. Reference: Sutherland and Hodgman 1974 for the clip. Members that
interpenetrate deeper than `touch` share no faces: `sim/overlap.py` gives them a section.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shot.results import GROUND
from sim.pairs import box_pairs, ragged_product
from sim.section import clip_polygon

PARALLEL = 2e-3  # faces of two members face each other below this angle [rad]
TOUCH = 1e-4  # of the scene's diagonal: gap or overlap within which faces of two members touch
THIN = 0.05  # of the thinner member: the most that touch may be
NOTHING = 1e-12  # of a polygon's size squared: area left by rounding where polygons only touch
CHUNK = 4_000_000  # polygon pairs held at once


@dataclass(frozen=True)
class Piece:
    """One fragment before it is packed, in world coordinates; every face is a convex polygon."""

    member: int
    vertex: np.ndarray  # (V, 3) f64 [m]
    loop: tuple[tuple[int, ...], ...]  # vertex indices per face, counter-clockwise from outside
    own: tuple[int, ...]  # per face: the Voronoi site whose cell it bounds
    other: tuple[int, ...]  # per face: the site across it; negative on the member's surface
    hull: tuple[np.ndarray, ...]  # vertices (H, 3) of convex hulls that cover it


@dataclass(frozen=True)
class Contact:
    """Where pieces a < b (or a and the ground) touch in one plane."""

    a: int
    b: int
    normal: np.ndarray  # (3) unit, from a to b
    polygon: list[np.ndarray]  # disjoint convex polygons (k, 3) [m], counter-clockwise seen against the normal


def contacts_inside(pieces: list[Piece], first: int, convex: bool) -> list[Contact]:
    """Contacts between the pieces of one member; piece k has index first + k."""
    sides: dict[tuple[int, int], tuple[list, list]] = {}
    for k, piece in enumerate(pieces):
        for loop, own, other in zip(piece.loop, piece.own, piece.other, strict=True):
            if other >= 0:
                key = (own, other) if own < other else (other, own)
                sides.setdefault(key, ([], []))[own > other].append((first + k, piece.vertex[list(loop)]))
    found: dict[tuple[int, int, tuple[int, int]], tuple[np.ndarray, list[np.ndarray]]] = {}
    for key in sorted(sides):
        near, far = sides[key]
        if not near or not far:
            continue
        normal = _normal([polygon for _, polygon in near])
        for i, p in near:
            for j, q in far:
                if i == j:
                    continue
                shared = p if convex else clip_in_plane(p, q, normal)
                if len(shared) >= 3:
                    found.setdefault((i, j, key), (normal, []))[1].append(shared)
    return [
        Contact(i, j, normal, polygon) if i < j else Contact(j, i, -normal, [p[::-1] for p in polygon])
        for (i, j, _), (normal, polygon) in found.items()
    ]


def _normal(polygons: list[np.ndarray]) -> np.ndarray:
    """Common unit normal of coplanar polygons, area weighted."""
    total = np.zeros(3)
    for p in polygons:
        total += np.cross(p - p[0], np.roll(p, -1, axis=0) - p[0]).sum(axis=0)
    return total / np.linalg.norm(total)


def plane_axes(normal: np.ndarray) -> np.ndarray:
    """Two unit rows (2, 3) that span the plane and form a right-handed frame with the normal."""
    x, y, z = normal.tolist()
    smallest = min(abs(x), abs(y), abs(z))  # the world axis farthest from the normal, crossed with it
    u = (0.0, -z, y) if abs(x) == smallest else ((z, 0.0, -x) if abs(y) == smallest else (-y, x, 0.0))
    r = math.sqrt(u[0] * u[0] + u[1] * u[1] + u[2] * u[2])
    a, b, c = u[0] / r, u[1] / r, u[2] / r
    return np.array([[a, b, c], [y * c - z * b, z * a - x * c, x * b - y * a]])


def clip_in_plane(p: np.ndarray, q: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Intersection (k, 3) of polygon p with the facing polygon q, both projected on p's plane; (0, 3) if they only touch."""
    axes = plane_axes(normal)
    flat_p, flat_q = (p - p[0]) @ axes.T, ((q - p[0]) @ axes.T)[::-1]
    shared = clip_polygon([tuple(x) for x in flat_p.tolist()], [tuple(x) for x in flat_q.tolist()])
    if len(shared) < 3:
        return np.zeros((0, 3))
    twice_area = sum(shared[k - 1][0] * y - x * shared[k - 1][1] for k, (x, y) in enumerate(shared))
    return p[0] + np.array(shared) @ axes if twice_area > NOTHING * np.ptp(flat_p) ** 2 else np.zeros((0, 3))


@dataclass(frozen=True)
class Surface:
    """Surface polygons of all pieces, in piece order."""

    polygon: list[np.ndarray]  # (k, 3) [m]
    piece: np.ndarray  # (P) i64
    start: np.ndarray  # (N + 1) i64: polygons of piece n are start[n]:start[n + 1]
    normal: np.ndarray  # (P, 3) unit, outward
    lower: np.ndarray  # (P, 3) [m]
    upper: np.ndarray  # (P, 3) [m]


def surface_of(pieces: list[Piece]) -> Surface:
    """Collect the surface polygons of all pieces."""
    polygon, owner = [], []
    for n, piece in enumerate(pieces):
        for loop, other in zip(piece.loop, piece.other, strict=True):
            if other < 0:
                polygon.append(piece.vertex[list(loop)])
                owner.append(n)
    length = np.array([len(p) for p in polygon])
    point = np.concatenate(polygon)
    start = np.concatenate([[0], np.cumsum(length)])[:-1]
    first = np.repeat(start, length)
    after = np.arange(len(point)) + 1
    after = np.where(after < first + np.repeat(length, length), after, first)
    normal = np.add.reduceat(np.cross(point - point[first], point[after] - point[first]), start)
    size = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.divide(normal, size, out=np.zeros_like(normal), where=size > 0.0)
    piece = np.array(owner, np.int64)
    return Surface(
        polygon, piece, np.searchsorted(piece, np.arange(len(pieces) + 1)), normal,
        np.minimum.reduceat(point, start), np.maximum.reduceat(point, start),
    )


def touch_distance(lower: np.ndarray, upper: np.ndarray) -> float:
    """Gap [m] within which faces of members with corners (M, 3) touch: a share of the scene, never of a panel's thickness."""
    diagonal = float(np.linalg.norm(upper.max(axis=0) - lower.min(axis=0)))
    return min(TOUCH * diagonal, THIN * float((upper - lower).min()))


def contacts_between(pieces: list[Piece], surface: Surface, touch: float) -> list[Contact]:
    """Contacts between pieces of different members whose surfaces face each other within `touch` [m]."""
    lower = np.array([piece.vertex.min(axis=0) for piece in pieces]) - 0.5 * touch
    upper = np.array([piece.vertex.max(axis=0) for piece in pieces]) + 0.5 * touch
    member = np.array([piece.member for piece in pieces])
    pair = box_pairs(lower, upper)
    pair = pair[member[pair[:, 0]] != member[pair[:, 1]]]
    count = np.diff(surface.start)
    work = np.cumsum(count[pair[:, 0]] * count[pair[:, 1]])
    found: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for block in np.split(pair, np.searchsorted(work, np.arange(CHUNK, work[-1] if len(work) else 0, CHUNK))):
        row, i, j = ragged_product(count[block[:, 0]], count[block[:, 1]])
        i, j = i + surface.start[block[row, 0]], j + surface.start[block[row, 1]]
        facing = np.einsum("ij,ij->i", surface.normal[i], surface.normal[j]) < -np.cos(PARALLEL)
        i, j = i[facing], j[facing]
        near = np.all((surface.lower[i] - touch <= surface.upper[j]) & (surface.lower[j] - touch <= surface.upper[i]), axis=1)
        for p, q in zip(i[near].tolist(), j[near].tolist(), strict=True):
            normal = surface.normal[p]
            shared = clip_in_plane(surface.polygon[p], surface.polygon[q], normal)
            if len(shared) >= 3 and abs(surface.normal[q] @ (shared.mean(axis=0) - surface.polygon[q][0])) <= touch:
                found.setdefault((int(surface.piece[p]), int(surface.piece[q])), []).append((normal, shared))
    contacts = []
    for a, b in sorted(found):
        contacts += [Contact(a, b, normal, polygon) for normal, polygon in _by_plane(found[a, b], touch)]
    return contacts


def _by_plane(parts: list[tuple[np.ndarray, np.ndarray]], touch: float) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Polygons grouped by common plane, in order of first appearance."""
    planes: list[tuple[np.ndarray, list[np.ndarray]]] = []
    for normal, polygon in parts:
        for base, group in planes:
            if base @ normal > np.cos(PARALLEL) and abs(base @ (polygon[0] - group[0][0])) <= touch:
                group.append(polygon)
                break
        else:
            planes.append((normal, [polygon]))
    return planes


def contacts_ground(pieces: list[Piece], surface: Surface, grounded: np.ndarray, touch: float) -> list[Contact]:
    """Contacts of grounded members (M bool) with the ground, where their surface lies on their own lowest plane."""
    member = np.array([piece.member for piece in pieces])
    lowest = np.full(len(grounded), np.inf)
    np.minimum.at(lowest, member, [piece.vertex[:, 1].min() for piece in pieces])
    owner = member[surface.piece]
    flat = grounded[owner] & (surface.normal[:, 1] < -np.cos(PARALLEL)) & (surface.upper[:, 1] <= lowest[owner] + touch)
    found: dict[int, list[np.ndarray]] = {}
    for p in np.flatnonzero(flat).tolist():
        found.setdefault(int(surface.piece[p]), []).append(surface.polygon[p])
    return [Contact(a, GROUND, np.array([0.0, -1.0, 0.0]), found[a]) for a in sorted(found)]
