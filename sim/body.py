"""Bodies that events bring in: their shape and mass, as fragments behind those of the building.

In: the events of a shot, its materials, the building's fragments. Out: Fragments at rest where the bodies start. A ball is drawn as an
icosphere of 5 120 faces and touches as one of 320; both have the volume of the ball. A box is a box. They are turned by their heading
at rest, so that their rest rotation is the identity like everyone's. They never break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from shot.errors import ShotError
from shot.params import AnyEvent, Collider, Materials, Projectile
from shot.results import MEMBER_KINDS, Fragments, Motion
from sim.mass import mass_properties

DRAWN, TOUCHED = 4, 2  # times that the faces of an icosahedron are quartered
INSIDE = 1e-3  # [m] of overlap at the start that is a mistake


def bodies_of(events: Sequence[AnyEvent], fragments: Fragments, materials: Materials) -> Fragments | None:
    """One fragment per body that the events bring in, in their order; None if there is none."""
    rows = [_body(event, k, materials) for k, event in enumerate(events) if isinstance(event, Projectile | Collider)]
    if not rows:
        return None
    names = tuple(dict.fromkeys((*fragments.material_name, *(row.material_name[0] for row in rows))))
    base, member = len(fragments.element_name), int(fragments.member.max(initial=-1)) + 1
    placed = [
        replace(row, material=np.array([names.index(row.material_name[0])], np.int16), element=np.array([base + k], np.int32),
                member=np.array([member + k], np.int32), material_name=names)
        for k, row in enumerate(rows)
    ]
    return _chained(placed, names, tuple(row.element_name[0] for row in rows))


def with_bodies(fragments: Fragments, bodies: Fragments | None) -> Fragments:
    """The building's fragments and the bodies behind them."""
    if bodies is None:
        return fragments
    return _chained([fragments, bodies], bodies.material_name, fragments.element_name + bodies.element_name)


def moved_pieces(fragments: Fragments, motion: Motion) -> Fragments:
    """All that `motion` moves."""
    return with_bodies(fragments, motion.bodies)


def start_check(events: Sequence[AnyEvent], fragments: Fragments) -> None:
    """Raise ShotError where a body starts in the ground, or in the building while that still stands."""
    places = [k for k, event in enumerate(events) if isinstance(event, Projectile | Collider)]
    still = min((event.frame for event in events), default=0)
    first = fragments.count - len(places)
    for k, body in zip(places, range(first, fragments.count), strict=True):
        vertex = fragments.vertex[fragments.vertex_start[body] : fragments.vertex_start[body + 1]] + fragments.position[body]
        if vertex[:, 1].min() < -INSIDE:
            raise ShotError(f"events.{k}: the {events[k].kind} starts {-vertex[:, 1].min():.2f} m deep in the ground: raise it")
        if events[k].frame > still:
            continue
        other, depth = _deepest(fragments, body, first)
        if depth > INSIDE:
            name = fragments.element_name[int(fragments.element[other])]
            raise ShotError(f"events.{k}: the {events[k].kind} starts {depth:.2f} m deep inside {name}: move it out")


def _deepest(fragments: Fragments, body: int, count: int) -> tuple[int, float]:
    """Which of the first `count` fragments a body overlaps most, and how thick [m] the largest ball is that fits into both."""
    start, owner = fragments.hull_vertex_start, fragments.hull_fragment
    hulls = [fragments.hull_vertex[a:b] + fragments.position[f] for (a, b), f in zip(pairwise(start), owner, strict=True)]
    own = np.concatenate([hulls[c] for c in np.flatnonzero(owner == body)])
    planes, found = ConvexHull(own).equations, (-1, 0.0)
    for c in np.flatnonzero(owner < count):
        if (hulls[c].max(axis=0) < own.min(axis=0)).any() or (hulls[c].min(axis=0) > own.max(axis=0)).any():
            continue
        both = np.concatenate([planes, ConvexHull(hulls[c]).equations])  # n x + d + r <= 0, r as large as can be
        best = linprog([0, 0, 0, -1], np.c_[both[:, :3], np.ones(len(both))], -both[:, 3], bounds=[(None, None)] * 3 + [(0, None)])
        if best.success and 2.0 * best.x[3] > found[1]:
            found = int(owner[c]), float(2.0 * best.x[3])
    return found


def _body(event: Projectile | Collider, order: int, materials: Materials) -> Fragments:
    """One body at its start; material, element and member are set by the caller."""
    edges = np.array(event.size)
    if event.shape == "ball":
        (vertex, face), (hull, _) = (_icosphere(level) for level in (DRAWN, TOUCHED))
        vertex, hull = 0.5 * edges * vertex, 0.5 * edges * hull
    else:
        vertex, face = _box()
        vertex = hull = edges * vertex
    angle = np.radians(event.heading)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    vertex, hull = vertex @ turn.T, hull @ turn.T
    volume, _, inertia = mass_properties(vertex, np.array([0, len(vertex)]), face, np.array([0, len(face)]))
    material = getattr(materials, event.material)
    own = event.mass if isinstance(event, Projectile) else 0.0
    mass = own if own > 0 else material.density * volume[0]
    start = event.position if isinstance(event, Projectile) else event.path[0][1:]
    one = np.zeros(1, np.int32)
    return Fragments(
        position=np.array([start], float), volume=volume, mass=np.array([mass]), inertia=inertia * (mass / volume[0]),
        size=np.cbrt(volume).astype(np.float32), member=one, kind=np.array([MEMBER_KINDS.index("body")], np.int8), element=one,
        material=one.astype(np.int16), vertex=vertex.astype(np.float32), vertex_start=np.array([0, len(vertex)], np.int32),
        face=face.astype(np.int32), face_start=np.array([0, len(face)], np.int32), face_interior=np.zeros(len(face), bool),
        hull_vertex=hull.astype(np.float32), hull_vertex_start=np.array([0, len(hull)], np.int32), hull_fragment=one,
        material_name=(event.material,), element_name=(f"event{order:02d}/{event.kind}",),
    )  # fmt: skip


def _chained(parts: list[Fragments], material_name: tuple[str, ...], element_name: tuple[str, ...]) -> Fragments:
    """Fragments one behind the other."""
    values = {}
    for field in fields(Fragments):
        rows = [getattr(part, field.name) for part in parts]
        if field.name.endswith("_start"):
            ends = np.cumsum([0, *(row[-1] for row in rows)])
            chained = np.concatenate([rows[0][:1], *(row[1:] + end for row, end in zip(rows, ends, strict=False))])
            values[field.name] = chained.astype(rows[0].dtype)
        elif field.name == "hull_fragment":
            counts = np.cumsum([0, *(part.count for part in parts)])
            values[field.name] = np.concatenate([row + n for row, n in zip(rows, counts, strict=False)]).astype(rows[0].dtype)
        elif isinstance(rows[0], np.ndarray):
            values[field.name] = np.concatenate(rows).astype(rows[0].dtype)
    return Fragments(**values, material_name=material_name, element_name=element_name)


def _box() -> tuple[np.ndarray, np.ndarray]:
    """Unit cube about the origin: vertices (8, 3), faces (12, 3) outward."""
    vertex = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return vertex, np.array([(q[0], q[i], q[i + 1]) for q in quads for i in (1, 2)])


def _icosphere(level: int) -> tuple[np.ndarray, np.ndarray]:
    """Polyhedron with the volume of the unit ball: vertices (V, 3), faces (20 * 4^level, 3) outward."""
    g = (1.0 + np.sqrt(5.0)) / 2.0
    vertex = [np.roll(np.array([0.0, a, b * g]), k) for k in range(3) for a in (-1, 1) for b in (-1, 1)]
    points = np.array(vertex) / np.hypot(1.0, g)
    qhull = ConvexHull(points)
    face = qhull.simplices.copy()
    a, b, c = (points[face[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    face[inward] = face[inward][:, ::-1]
    for _ in range(level):
        edge = np.sort(np.concatenate([face[:, [0, 1]], face[:, [1, 2]], face[:, [2, 0]]]), axis=1)
        pair, place = np.unique(edge, axis=0, return_inverse=True)
        middle = points[pair].sum(axis=1)
        m01, m12, m20 = (len(points) + place.reshape(3, -1))
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        f0, f1, f2 = face.T
        face = np.concatenate([np.stack(t, 1) for t in ((f0, m01, m20), (f1, m12, m01), (f2, m20, m12), (m01, m12, m20))])
    a, b, c = (points[face[:, k]] for k in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0
    return points * np.cbrt(4.0 / 3.0 * np.pi / volume), face
