"""Contacts of members that reach into each other deeper than faces can touch: imported models, where a beam runs into its column.

In: pieces, and the pairs that already share a face. Out: one contact per overlapping pair of the rest: the section through the middle of
the common body, across its thinnest axis. A beam's end inside a column gives the beam's section; a column through a slab gives the
column's. The common body is that of the hulls, so it is an estimate for pieces that are not convex, and a pair is one contact however
often it meets.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull

from sim.adjacency import Contact, Piece
from sim.mass import mass_properties
from sim.pairs import box_pairs
from sim.polyhedron import Polyhedron, cut, planes, polyhedron_from_mesh, triangles

CAP = -2  # tag of the section


def contacts_overlapping(pieces: list[Piece], touching: set[tuple[int, int]], touch: float) -> list[Contact]:
    """Contacts of pieces of different members whose hulls overlap by more than `touch` [m], except the pairs in `touching`."""
    lower = np.array([piece.vertex.min(axis=0) for piece in pieces]) + 0.5 * touch
    upper = np.array([piece.vertex.max(axis=0) for piece in pieces]) - 0.5 * touch
    upper = np.maximum(lower, upper)
    member = np.array([piece.member for piece in pieces])
    pair = box_pairs(lower, upper)
    pair = pair[member[pair[:, 0]] != member[pair[:, 1]]]
    body: dict[int, list[Polyhedron]] = {}
    contacts = []
    for a, b in pair.tolist():
        if (a, b) in touching:
            continue
        for k in (a, b):
            if k not in body:
                body[k] = [_body(hull) for hull in pieces[k].hull]
        common = [shared for p in body[a] for q in body[b] if (shared := _common(p, q, touch)) is not None]
        if common:
            contacts.append(_section(a, b, max(common, key=lambda body: _mass(body)[0]), pieces))
    return contacts


def _body(hull: np.ndarray) -> Polyhedron:
    """Convex polyhedron of hull vertices; Qhull's triangles are turned outward by its own normals."""
    qhull = ConvexHull(hull)
    face = qhull.simplices.copy()
    a, b, c = (hull[face[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), qhull.equations[:, :3]) < 0.0
    face[inward] = face[inward][:, ::-1]
    return polyhedron_from_mesh(hull, face)


def _common(p: Polyhedron, q: Polyhedron, touch: float) -> Polyhedron | None:
    """Intersection of two convex bodies, if it is thicker than `touch`."""
    eps = 1e-9 * float(np.ptp(p.vertex, axis=0).max())
    body: Polyhedron | None = p
    normal, offset = planes(q)
    for n, d in zip(normal, offset, strict=True):
        if float((p.vertex @ n).min()) > d - touch:
            return None
        body = cut(body, n, float(d), CAP, eps)
        if body is None:
            return None
    return body


def _mass(body: Polyhedron) -> tuple[float, np.ndarray, np.ndarray]:
    """Volume, centroid and inertia of one body."""
    face = triangles(body)[0]
    volume, centre, inertia = mass_properties(body.vertex, np.array([0, len(body.vertex)]), face, np.array([0, len(face)]))
    return float(volume[0]), centre[0], inertia[0]


def _section(a: int, b: int, body: Polyhedron, pieces: list[Piece]) -> Contact:
    """The cut through the middle of the common body across its thinnest axis, that of the largest inertia."""
    _, centre, inertia = _mass(body)
    normal = np.linalg.eigh(inertia)[1][:, 2]
    toward = pieces[b].vertex.mean(axis=0) - pieces[a].vertex.mean(axis=0)
    if normal @ toward < 0.0:
        normal = -normal
    half = cut(body, normal, float(normal @ centre), CAP, 0.0)
    assert half is not None  # a plane through the centroid has body on both sides
    return Contact(a, b, normal, [half.vertex[list(half.loop[-1])]])
