"""Bodies that events bring in, in time: when they come in, how they are thrown, along which path they are driven.

In: the events of a shot, the fragments with the bodies behind them (sim/body.py). Out: Entries, which says for any step which bodies wait,
which are driven, and where to; and the hands that put them there. Depends on the step number alone.

A projectile is at its position, with its velocity, in the picture of its frame; from then on it is a piece like any other. Its energy
is booked as work done from outside. A collider is FIXED with a velocity: infinite mass, and a motion in the step that all contact rows know
(sim/sweep.py); at the end of each step it is where its path says. What it does is the work of the forces on it.
Before its frame a body is kept at the height PARKED, fixed, far from everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shot.params import AnyEvent, Collider, Projectile
from shot.results import PARKED, Fragments
from sim.column import column_read, column_write
from sim.world import World, forces_read


@dataclass(frozen=True)
class Entries:
    """Bodies of the events, in the order of their fragments; all (N)."""

    fragment: np.ndarray  # i64
    step: np.ndarray  # before which each comes in
    driven: np.ndarray  # bool: a collider
    start: np.ndarray  # (N, 3) f64 [m]
    velocity: np.ndarray  # (N, 3) [m/s] of projectiles
    spin: np.ndarray  # (N, 3) [rad/s]
    path: tuple[np.ndarray, ...]  # (K, 4) step, x, y, z of colliders; empty for projectiles
    h: float  # [s]

    @property
    def fastest(self) -> float:
        """[m/s] at which any body comes in or is driven."""
        driven = [np.linalg.norm(np.diff(p[:, 1:], axis=0), axis=1) / (np.diff(p[:, 0]) * self.h) for p in self.path if len(p)]
        return float(np.max(np.concatenate([np.linalg.norm(self.velocity, axis=1), *driven]), initial=0.0))


def entries(events: Sequence[AnyEvent], fragments: Fragments, first: int, steps_per_frame: int, h: float) -> Entries:
    """The bodies among the events."""
    found = [event for event in events if isinstance(event, Projectile | Collider)]
    count = len(found)
    fragment = np.arange(fragments.count - count, fragments.count)
    velocity = [event.velocity if isinstance(event, Projectile) else (0.0, 0.0, 0.0) for event in found]
    spin = [event.spin if isinstance(event, Projectile) else (0.0, 0.0, 0.0) for event in found]
    path = [np.array(event.path) if isinstance(event, Collider) else np.zeros((0, 4)) for event in found]
    for keys in path:
        keys[:, 0] = (keys[:, 0] - first) * steps_per_frame
    return Entries(
        fragment, np.array([max(event.frame - first, 0) * steps_per_frame for event in found], np.int64),
        np.array([isinstance(event, Collider) for event in found], bool), fragments.position[fragment],
        np.array(velocity).reshape(-1, 3), np.array(spin).reshape(-1, 3), tuple(path), h,
    )  # fmt: skip


def entry_until(bodies: Entries) -> float:
    """Step by which all bodies are there and all colliders stand at the end of their paths."""
    return float(max((max([step, *path[-1:, 0]]) for step, path in zip(bodies.step, bodies.path, strict=True)), default=-1.0))


def fixed_at(bodies: Entries, step: int, count: int) -> np.ndarray:
    """(F) bool: fragments that no force moves before this step, because they wait or are driven."""
    fixed = np.zeros(count, bool)
    fixed[bodies.fragment] = bodies.driven | (bodies.step > step)
    return fixed


def waiting_at(bodies: Entries, step: int) -> np.ndarray:
    """Fragments that have not come in before this step."""
    return bodies.fragment[bodies.step > step]


def enter(world: World, bodies: Entries, step: int) -> float:
    """Put the bodies of this step in their places, already free or fixed as `fixed_at` says; the energy [J] that they bring in."""
    energy = 0.0
    for k in np.flatnonzero(bodies.step == step):
        f = int(bodies.fragment[k])
        v, w, moment = bodies.velocity[k], bodies.spin[k], world.rest_inertia[f] @ bodies.spin[k]
        place = bodies.start[k] if not bodies.driven[k] else place_at(bodies, int(k), step)
        _put(world, f, x=place, v=v, v_before=v, w=w, spin=moment)
        energy += 0.5 * world.rest_mass[f] * float(v @ v) + 0.5 * float(w @ moment)
    return energy


def park(world: World, bodies: Entries, step: int) -> None:
    """Put the bodies that are not there yet out of the way."""
    for f in waiting_at(bodies, step):
        x = world.rest[f].copy()
        x[1] += PARKED
        _put(world, int(f), x=x)


def lead(world: World, bodies: Entries, step: int) -> None:
    """Give the colliders the velocity of this step."""
    for k in np.flatnonzero(bodies.driven & (bodies.step <= step)):
        _put(world, int(bodies.fragment[k]), v=(place_at(bodies, int(k), step + 1) - place_at(bodies, int(k), step)) / bodies.h)


def arrive(world: World, bodies: Entries, step: int) -> None:
    """Put the colliders where this step ends."""
    for k in np.flatnonzero(bodies.driven & (bodies.step <= step)):
        _put(world, int(bodies.fragment[k]), x=place_at(bodies, int(k), step + 1))


def work_done(world: World, bodies: Entries, step: int) -> float:
    """[J] that the colliders did in the step that just ended: the reaction of the forces on them."""
    driven = bodies.fragment[bodies.driven & (bodies.step <= step)]
    if not len(driven):
        return 0.0
    force, v = forces_read(world)[0][driven].astype(float), column_read(world.body.array["v"])[driven].astype(float)
    return -bodies.h * float((force * v).sum())


def place_at(bodies: Entries, k: int, step: int) -> np.ndarray:
    """(3) [m] of collider k before a step: straight between its keys."""
    keys = bodies.path[k]
    return np.array([np.interp(step, keys[:, 0], keys[:, axis]) for axis in (1, 2, 3)])


def _put(world: World, body: int, **columns: np.ndarray) -> None:
    for name, value in columns.items():
        rows = column_read(world.body.array[name])
        rows[body] = value
        column_write(world.body.array[name], rows)
