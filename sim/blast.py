"""What a charge does through the air: pressure on every face that sees it.

In: charges, hulls of all pieces, where they are now. Out: the force on every piece in a step. Rays from the charge, evenly over the
sphere, take the first hull in their way, so what stands behind something is spared. A ray of solid angle dW that meets a face with outward
normal n at distance R brings the momentum of the area R^2 dW / cos it stands for:

    dI = -n i(R) R^2 dW,   i(R) = W^(1/3) exp(6.7853 - 1.3466 L + 0.101 L^2 - 0.01123 L^3) Pa s,   L = ln Z,  Z = R / W^(1/3) in m/kg^(1/3)

i(R) is the normally reflected impulse of a charge of W kg TNT on open ground: Swisdak (1994) after Kingery and Bulmash (1984), for Z of
0.06 to 40; nearer counts as 0.06, farther as nothing. Close in it is the momentum of the products themselves spread over the half sphere
(W sqrt(2 E), E = 4.5 MJ/kg: 30 % apart at Z = 0.1). A face at an angle gets i(R) cos. The impulse arrives as a triangle
p ~ 1 - t/pulse from R / front on. It acts at the pieces' centres; its reaction is the air's and the ground's.

Not handled: reflections between walls and the pressure that stays in closed rooms (inside buildings this is too little), diffraction
round edges, suction, clearing, drag of the wind behind the front. The state it needs is where the pieces are: nothing to save.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shot.params import AnyEvent, Charge
from shot.results import Fragments
from shot.rotation import conjugate, rotate
from sim.event import step_first
from sim.hull import hull_faces

RAYS = 16384  # over the whole sphere
NEAR, FAR = 0.06, 40.0  # [m/kg^(1/3)]
FIT = (6.7853, -1.3466, 0.101, -0.01123)


@dataclass(frozen=True)
class Blasts:
    """All charges of a shot, and the hulls they may meet."""

    event: tuple[Charge, ...]
    step: tuple[int, ...]  # at which each goes off
    h: float  # [s]
    plane: tuple[np.ndarray, ...]  # per hull (P, 4) n, d at rest: n . p <= d
    middle: np.ndarray  # (C, 3) [m] local
    radius: np.ndarray  # (C) [m]
    owner: np.ndarray  # (C) fragment


def blasts(events: Sequence[AnyEvent], fragments: Fragments, first: int, steps_per_frame: int, h: float) -> Blasts:
    """The charges among the events; hulls only if there are any."""
    found = tuple(event for event in events if isinstance(event, Charge))
    hulls = [fragments.hull_vertex[a:b].astype(float) for a, b in pairwise(fragments.hull_vertex_start)] if found else []
    plane = tuple(np.concatenate([n, d[:, None]], axis=1) for _, _, _, n, d, _ in map(hull_faces, hulls))
    middle = np.array([0.5 * (p.min(axis=0) + p.max(axis=0)) for p in hulls]).reshape(-1, 3)
    radius = np.array([np.linalg.norm(p - m, axis=1).max() for p, m in zip(hulls, middle, strict=True)])
    starts = tuple(step_first(event.frame, first, steps_per_frame) for event in found)
    return Blasts(found, starts, h, plane, middle, radius, fragments.hull_fragment[: len(hulls)])


def blast_force(blast: Blasts, step: int, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(F, 3) [N] mean force of all charges in a step on pieces at position (F, 3) with rotation (F, 4)."""
    force = np.zeros((len(position), 3))
    for event, start in zip(blast.event, blast.step, strict=True):
        began = (step - start) * blast.h
        nearest = np.linalg.norm(position[blast.owner] + rotate(rotation[blast.owner], blast.middle) - event.centre, axis=1) - blast.radius
        reach = nearest[nearest < FAR * np.cbrt(event.tnt)]
        if began < 0 or not len(reach) or began > (reach.max() + 2.0 * blast.radius.max()) / event.front + event.pulse:
            continue
        piece, normal, distance = _struck(blast, np.array(event.centre), position, rotation)
        ends = [_arrived((began + k * blast.h - distance / event.front) / event.pulse) for k in (0, 1)]
        momentum = reflected_impulse(distance, event.tnt) * distance**2 * (4.0 * np.pi / RAYS) * (ends[1] - ends[0])
        for axis in range(3):
            force[:, axis] -= np.bincount(piece, momentum * normal[:, axis], len(position)) / blast.h
    return force


def reflected_impulse(distance: np.ndarray, tnt: float) -> np.ndarray:
    """[Pa s] that a face turned to the charge gets in all."""
    root = np.cbrt(tnt)
    scaled = np.asarray(distance) / root
    log = np.log(np.maximum(scaled, NEAR))
    return np.where(scaled <= FAR, root * np.exp(FIT[0] + log * (FIT[1] + log * (FIT[2] + log * FIT[3]))), 0.0)


def blast_until(blast: Blasts) -> float:
    """Step by which the last pressure is gone."""
    spread = 2.0 * np.max(blast.radius, initial=0.0)
    lasts = [(FAR * np.cbrt(event.tnt) + spread) / event.front + event.pulse for event in blast.event]
    return max((start + seconds / blast.h for start, seconds in zip(blast.step, lasts, strict=True)), default=-1.0)


def blast_speed(blast: Blasts, mass: np.ndarray) -> float:
    """[m/s] at most that the charges can give to a piece: their impulse right beside it, over masses (F) [kg]."""
    most = np.max(blast.radius**2 * np.pi / mass[blast.owner], initial=0.0)
    return sum(float(reflected_impulse(np.array(0.0), event.tnt)) * float(most) for event in blast.event)


def _arrived(part: np.ndarray) -> np.ndarray:
    """Share of the impulse that has come at a part of the pulse: integral of 2 (1 - s)."""
    s = np.clip(part, 0.0, 1.0)
    return s * (2.0 - s)


def _directions() -> np.ndarray:
    """(RAYS, 3) unit vectors evenly over the sphere: the golden spiral."""
    k = np.arange(RAYS) + 0.5
    y = 1.0 - 2.0 * k / RAYS
    angle = np.pi * (1.0 + np.sqrt(5.0)) * k
    ring = np.sqrt(1.0 - y * y)
    return np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1)


def _struck(blast: Blasts, centre: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the rays that strike something before the ground: the fragment, its outward normal there, the distance."""
    way = _directions()
    best = np.where(way[:, 1] < 0, centre[1] / np.maximum(-way[:, 1], 1e-12), np.inf)
    piece, normal = np.full(RAYS, -1), np.zeros((RAYS, 3))
    at = position[blast.owner] + rotate(rotation[blast.owner], blast.middle) - centre
    away = np.linalg.norm(at, axis=1)
    # rays of a hull lie in the cone around it; with y falling along the spiral they are a run of it
    half = np.arcsin(np.minimum(blast.radius / np.maximum(away, 1e-12), 1.0))
    polar = np.arccos(np.clip(at[:, 1] / np.maximum(away, 1e-12), -1.0, 1.0))
    low = np.cos(np.minimum(polar + half, np.pi))
    high = np.where(away > blast.radius, np.cos(np.maximum(polar - half, 0.0)), 1.0)
    low = np.where(away > blast.radius, low, -1.0)
    first = np.clip(np.floor(0.5 * RAYS * (1.0 - high)).astype(int) - 1, 0, RAYS)
    last = np.clip(np.ceil(0.5 * RAYS * (1.0 - low)).astype(int) + 1, 0, RAYS)
    for c in np.argsort(away, kind="stable"):
        rays = np.arange(int(first[c]), int(last[c]))
        if away[c] > blast.radius[c]:
            along = way[rays] @ at[c]
            rays = rays[(along > 0) & (along**2 >= away[c] ** 2 - blast.radius[c] ** 2)]
        rays = rays[best[rays] > away[c] - blast.radius[c]]
        if not len(rays):
            continue
        back = conjugate(rotation[blast.owner[c]])
        n, d = blast.plane[c][:, :3], blast.plane[c][:, 3]
        origin = rotate(back, centre - position[blast.owner[c]])
        speed = rotate(back, way[rays]) @ n.T  # (rays, P)
        gap = d - n @ origin
        with np.errstate(divide="ignore", invalid="ignore"):
            t = gap / speed
        enters = np.where(speed < 0, t, np.where((speed == 0) & (gap < 0), np.inf, -np.inf))
        leaves = np.where(speed > 0, t, np.inf)
        face = np.argmax(enters, axis=1)
        near = enters[np.arange(len(rays)), face]
        hit = (near > 0) & (near < leaves.min(axis=1)) & (near < best[rays])
        best[rays[hit]], piece[rays[hit]] = near[hit], blast.owner[c]
        normal[rays[hit]] = rotate(rotation[blast.owner[c]], n[face[hit]])
    struck = piece >= 0
    return piece[struck], normal[struck], best[struck]
