"""The solver's log as one list of events that can shed: bonds that broke, impacts, crushed fragments.

In: two Motion frames, Fragments, Bonds. Out: Events of the time between them, in the order of the log (breaks, impacts, crushes).
An event has up to two sides, the fragments it takes material from. Its identity is a hash of what it is (bond; pair, time
and place), not of where it stands in the log, so that one more event changes no other one's random numbers.

The energy that breaks material is, of the logged energy E: for a bond min(E, max(G_f A, comminution E)), because the crack itself
costs G_f A; for impacts and crushing comminution E (1 to 3 % in mills and crushers). Friction heat is part of the rest.
The solver logs contact points step by step; points of one pair in one frame, within half the smaller fragment of each other, are one
hit, so that neither the time step nor the number of points of a manifold decides how coarse its debris is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from shot.hashing import hashed
from shot.params import Debris
from shot.results import Bonds, Fragments
from shot.rotation import rotate

BREAK, IMPACT, CRUSH = 0, 1, 2


@dataclass(frozen=True)
class Events:
    """E events. Sides are fragment indices, -1 where there is none (the ground sheds nothing)."""

    identity: np.ndarray  # (E) u64
    kind: np.ndarray  # (E) i8: BREAK, IMPACT, CRUSH
    time: np.ndarray  # (E) f64 [s since the first frame]
    energy: np.ndarray  # (E) f64 [J]
    fracture: np.ndarray  # (E) f64 [J] of it that breaks material
    position: np.ndarray  # (E, 3) f64 [m] middle of the crack, contact point, centre of the crushed fragment
    normal: np.ndarray  # (E, 3) f64 unit, of the crack or contact
    axis: np.ndarray  # (E, 3) f64 unit, in the plane: first axis of the crack; way out of the contact
    extent: np.ndarray  # (E, 2) f64 [m] half sides of the patch along axis and normal x axis
    speed: np.ndarray  # (E) f64 [m/s] at which the sides part or hit, plus the elastic release speed
    ground: np.ndarray  # (E) bool: against the ground
    side: np.ndarray  # (E, 2) i32
    velocity: np.ndarray  # (E, 2, 3) f64 [m/s] of each side at the position

    @property
    def count(self) -> int:
        """Number of events."""
        return len(self.kind)


def frame_events(
    before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray], fragments: Fragments, bonds: Bonds, debris: Debris, start: float,
    fps: float,
) -> Events:  # fmt: skip
    """Every event logged in the frame `now` that released energy; the frame `before` it lies at `start` [s since the first frame]."""
    pose = _Poses(before, now, start, fps)
    parts = _breaks(now, fragments, bonds, debris, pose), _impacts(now, fragments, debris, pose), _crushes(now, fragments, debris, pose)
    events = Events(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Events)})
    keep = (events.energy > 0) & np.isfinite(events.energy)
    return Events(**{f.name: getattr(events, f.name)[keep] for f in fields(Events)})


class _Poses:
    """Rigid motion between two frames, linear in time: enough for inherited velocities and crack axes."""

    def __init__(self, before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray], start: float, fps: float):
        self.before, self.now, self.start, self.fps = before, now, start, fps

    def mix(self, name: str, fragment: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Values (N, ...) of a per-fragment array at given times."""
        share = np.clip((time - self.start) * self.fps, 0.0, 1.0)[:, None]
        return (1.0 - share) * self.before[name][fragment].astype(float) + share * self.now[name][fragment].astype(float)

    def velocity(self, fragment: np.ndarray, point: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Velocity (N, 3) [m/s] of the body point at a place; zero for fragment -1."""
        arm = point - self.mix("position", fragment, time)
        speed = self.mix("velocity", fragment, time) + np.cross(self.mix("angular_velocity", fragment, time), arm)
        return np.where(fragment[:, None] >= 0, speed, 0.0)


def _breaks(now: Mapping[str, np.ndarray], fragments: Fragments, bonds: Bonds, debris: Debris, pose: _Poses) -> Events:
    """Bonds that broke: patch = rectangle along the bond's principal axes with the polygon's exact area."""
    bond, time = now["break_bond"].astype(np.int64), now["break_time"].astype(float)
    a, b = bonds.fragment_a[bond], bonds.fragment_b[bond]
    energy, area = now["break_energy"].astype(float), bonds.area[bond]
    position, normal = now["break_position"].astype(float), _unit(now["break_normal"].astype(float))
    axis = rotate(now["rotation"][a], bonds.axis[bond])
    axis = _unit(axis - _dot(axis, normal)[:, None] * normal)
    reach = bonds.reach[bond][:, ::-1]  # reach[0] is measured from axis 1, so it extends along axis 2
    extent = reach * np.sqrt(area / np.maximum(4.0 * reach.prod(axis=1), 1e-12))[:, None]
    fracture = np.minimum(energy, np.maximum(bonds.fracture_energy[bond] * area, debris.comminution * energy))
    # stored energy of the stressed column A L set free: 1/2 rho A L v^2 = E, that is v = stress / sqrt(rho young), at most at failure
    density = fragments.mass[a] / fragments.volume[a]
    release = np.sqrt(2.0 * energy / np.maximum(density * area * bonds.length[bond], 1e-12))
    release = np.minimum(release, bonds.compression[bond] / np.sqrt(density * bonds.young[bond]))
    sides = np.stack([a, np.where(b >= 0, b, -1)], axis=1).astype(np.int32)
    return Events(
        identity=hashed(0, "break", bond),
        kind=np.full(len(bond), BREAK, np.int8), time=time, energy=energy, fracture=fracture, position=position, normal=normal,
        axis=axis, extent=extent, speed=np.linalg.norm(now["break_velocity"].astype(float), axis=1) + release, ground=b < 0, side=sides,
        velocity=np.stack([pose.velocity(sides[:, k], position, time) for k in (0, 1)], axis=1),
    )  # fmt: skip


def _impacts(now: Mapping[str, np.ndarray], fragments: Fragments, debris: Debris, pose: _Poses) -> Events:
    """Contacts that lost energy: patch = a quarter of the smaller fragment; the way out leads away from its centre."""
    hit, place = _hits(now, fragments)
    count = len(place)
    energy = np.bincount(hit, weights=now["impact_energy"], minlength=count)
    share = now["impact_energy"] / np.maximum(energy, 1e-300)[hit]

    def mean(values: np.ndarray) -> np.ndarray:  # over the points of a hit, by energy
        return np.stack([np.bincount(hit, weights=share * column, minlength=count) for column in values.T.astype(float)], axis=-1)

    pair, time = place[:, :2].astype(np.int32), mean(now["impact_time"][:, None])[:, 0]
    a, b = pair[:, 0], pair[:, 1]
    position, normal = mean(now["impact_position"]), _unit(mean(now["impact_normal"]))
    speed = mean(np.linalg.norm(now["impact_velocity"].astype(float), axis=1)[:, None])[:, 0]
    size_b = np.where(b >= 0, fragments.size[b], np.inf)
    smaller = np.where(fragments.size[a] <= size_b, a, b)
    out = position - pose.mix("position", smaller, time)
    out = out - _dot(out, normal)[:, None] * normal
    length = np.linalg.norm(out, axis=1, keepdims=True)
    axis = np.where(length > 1e-6, out / np.maximum(length, 1e-12), _across(normal))
    extent = np.repeat(0.25 * np.minimum(fragments.size[a], size_b)[:, None], 2, axis=1)
    return Events(
        identity=_identity(pair, pose.start, place[:, 2:]),
        kind=np.full(len(a), IMPACT, np.int8), time=time, energy=energy, fracture=debris.comminution * energy, position=position,
        normal=normal, axis=axis, extent=extent, speed=speed, ground=b < 0, side=pair,
        velocity=np.stack([pose.velocity(pair[:, k], position, time) for k in (0, 1)], axis=1),
    )  # fmt: skip


def _crushes(now: Mapping[str, np.ndarray], fragments: Fragments, debris: Debris, pose: _Poses) -> Events:
    """Fragments pressed beyond their strength: the patch is the fragment, the way out is every way."""
    fragment, time = now["crush_fragment"].astype(np.int32), now["crush_time"].astype(float)
    energy = now["crush_energy"].astype(float)
    position = pose.mix("position", fragment, time)
    sides = np.stack([fragment, np.full_like(fragment, -1)], axis=1)
    up = np.broadcast_to([0.0, 1.0, 0.0], position.shape)
    return Events(
        identity=_identity(sides, time, np.zeros((len(fragment), 3), np.int64)),
        kind=np.full(len(fragment), CRUSH, np.int8), time=time, energy=energy, fracture=debris.comminution * energy, position=position,
        normal=up, axis=np.broadcast_to([1.0, 0.0, 0.0], position.shape), ground=np.zeros(len(fragment), bool),
        extent=np.repeat(0.5 * fragments.size[fragment].astype(float)[:, None], 2, axis=1),
        speed=np.sqrt(2.0 * debris.comminution * energy / fragments.mass[fragment]), side=sides,
        velocity=np.stack([pose.velocity(sides[:, k], position, time) for k in (0, 1)], axis=1),
    )  # fmt: skip


def _hits(now: Mapping[str, np.ndarray], fragments: Fragments) -> tuple[np.ndarray, np.ndarray]:
    """Hit (I) of every logged contact point; fragments a, b and cell (H, 5) i64 of every hit, in order of first appearance."""
    pair = now["impact_fragment"].astype(np.int64)
    size = np.where(pair >= 0, fragments.size[pair], np.inf).min(axis=1, initial=np.inf)
    cell = np.floor(now["impact_position"].astype(float) / (0.5 * size[:, None])).astype(np.int64)
    place, first, hit = np.unique(np.concatenate([pair, cell], axis=1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[hit.ravel()], place[order]


def _identity(pair: np.ndarray, time: np.ndarray | float, cell: np.ndarray) -> np.ndarray:
    """u64 hash of who, when and where."""
    when = np.broadcast_to(np.asarray(time, float), len(pair)).copy().view(np.uint64)
    identity = hashed(0, "pair", (pair[:, 0].astype(np.uint64) << np.uint64(32)) | (pair[:, 1] + 1).astype(np.uint64))
    for word in (when, *cell.T):
        identity = hashed(0, "place", identity ^ hashed(0, "word", word))
    return identity


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b)


def _unit(v: np.ndarray) -> np.ndarray:
    """Unit vectors; up where a vector is null."""
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.where(length > 1e-12, v / np.maximum(length, 1e-12), np.array([0.0, 1.0, 0.0]))


def _across(normal: np.ndarray) -> np.ndarray:
    """Some unit vector at right angles to each normal."""
    helper = np.where(np.abs(normal[:, :1]) < 0.7, np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    return _unit(np.cross(normal, helper))
