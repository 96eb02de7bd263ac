"""How the inside of rigid clusters answers to their loads: one step of the elastic lattice.

In: contact forces of the step, gravity, pushes and spin. Out: displacements of the lattice of every cluster that is not at peace, and the
strains of its bonds. Displacements are millimetres; they decide what breaks and are not drawn.

Dynamic form (sim.dynamic), semi-implicit Euler with stiffness damping tau K taken implicitly:
    M (v1 - v0)/h + K u0 + tau K v1 = f,   u1 = u0 + h v1
    (mu M + kappa K) u1 = f + (kappa - 1) K u0 + M (mu u0 + v0/h),   mu = 1/h^2,  kappa = tau/h
Quasi-static form: K u1 = f.

A rigid cluster that hits something is stopped within one step, with a force that grows as 1/h. Damping makes the strain independent of
that: a part stiff against h answers an impulse J in one step with exactly the static answer to J/tau, then decays within tau. So tau is
the time over which an impact presses, `sim.impact_time`, and h <= tau. Slow parts ring with damping ratio pi tau times their
frequency: 9 % at 2 Hz. Average acceleration was tried first (mu = 2/h^2, kappa = 1/2 + tau/h, loads averaged over tau): it overshoots
sudden loads by 20 % where h is near tau, and more at large steps than at small ones, so that what broke followed the step.

Second order (sim.buckling): the forces of the last step turn with u0 and push it further, P-delta a step behind. Above the buckling load
that grows at the rate at which the column itself would fall; the quasi-static form takes one such iteration a step.

Free clusters are loaded against their own inertia (inertia relief): gravity and every rigid acceleration drop out.
A lattice that has come to rest keeps its displacements and costs nothing until a load changes by more than NOTICE_LOAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shot.params import Sim
from shot.results import GROUND, Bonds, Fragments
from shot.rotation import conjugate, cross, rotate
from sim.stress import Lattice, System, bond_strains, loads_balance, prestress, rigid_part, sway_loads, system_of, system_solve

NOTICE_LOAD = 0.01  # smaller load changes, as a share of the weakest bond around the fragment, wake nothing
PEACE = 1e-4  # energy of one step's motion over the elastic energy, below which the lattice counts as still
PEACE_TIME = 0.1  # [s] of stillness before a lattice is left alone


@dataclass
class Elastic:
    """State of the lattice between steps; all rows in rest axes."""

    u: np.ndarray  # (F, 6) [m, rad]
    v: np.ndarray  # (F, 6) [m/s, rad/s]
    load: np.ndarray  # (F, 6) [N, N m] under which u was last solved
    lively: np.ndarray  # (F) bool: its cluster is not at rest inside
    calm: np.ndarray  # (F) i32 still steps so far

    @classmethod
    def still(cls, count: int) -> Elastic:
        """No displacement, no load."""
        zero = np.zeros((count, 6))
        return cls(zero.copy(), zero.copy(), zero.copy(), np.zeros(count, bool), np.zeros(count, np.int32))


@dataclass(frozen=True)
class Response:
    """One solved step of the lattice, not yet accepted. Rows are those of `system.fragment`."""

    system: System
    free: np.ndarray  # (m) bool per cluster of the system
    u_before: np.ndarray  # (n, 6)
    u: np.ndarray  # (n, 6)
    bond: np.ndarray  # (k) bonds inside these clusters
    strain: np.ndarray  # (k, 6)
    iterations: int
    stalled: int  # clusters that missed the tolerance


def contact_loads(force: np.ndarray, moment: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(F, 6) contact and joint loads in rest axes."""
    turn = conjugate(rotation)
    return np.concatenate([rotate(turn, force), rotate(turn, moment)], axis=1)


def body_loads(
    fragments: Fragments, label: np.ndarray, held: np.ndarray, rotation: np.ndarray, spin: np.ndarray, gravity: float, push: np.ndarray
) -> np.ndarray:
    """(F, 6) gravity on held clusters, pushes, and the centrifugal load of spinning ones, in rest axes; spin (F, 3) world."""
    m = fragments.mass[:, None]
    load = np.zeros((len(label), 6))
    load[held, 1] = -fragments.mass[held] * gravity
    load[:, :3] += m * rotate(conjugate(rotation), push)
    total = np.bincount(label, fragments.mass, minlength=len(label))
    centre = np.stack([np.bincount(label, fragments.mass * fragments.position[:, k], minlength=len(label)) for k in range(3)], axis=1)
    r = fragments.position - (centre / np.maximum(total, 1e-300)[:, None])[label]
    w = rotate(conjugate(rotation), spin)
    load[:, :3] -= m * cross(w, cross(w, r))
    return load


def bond_capacity(bonds: Bonds, count: int) -> np.ndarray:
    """(F) [N] tensile force of the weakest bond around each fragment."""
    weakest = np.full(count, np.inf)
    force = bonds.tension * bonds.area
    np.minimum.at(weakest, bonds.fragment_a, force)
    inner = bonds.fragment_b != GROUND
    np.minimum.at(weakest, bonds.fragment_b[inner], force[inner])
    return weakest


def wake(label: np.ndarray, stirred: np.ndarray) -> np.ndarray:
    """(F) bool: all fragments of clusters that hold a stirred one (F) bool."""
    awake = np.zeros(len(label), bool)
    awake[label[stirred]] = True
    return awake[label]


def load_changed(
    load: np.ndarray, before: np.ndarray, capacity: np.ndarray, size: np.ndarray, label: np.ndarray, held: np.ndarray, mass: np.ndarray,
    gravity: float,
) -> np.ndarray:
    """(F) bool: fragments whose load (F, 6) differs from what it was by a share NOTICE_LOAD of their weakest bond, and all of a cluster
    that holds to the ground if its loads together differ by that share of its weight: a wind that no fragment notices bends a building."""
    change = load - before
    force = np.linalg.norm(change[:, :3], axis=1) + np.linalg.norm(change[:, 3:], axis=1) / size
    total = np.stack([np.bincount(label, change[:, k], minlength=len(label)) for k in range(3)], axis=1)
    weight = max(gravity, 1.0) * np.bincount(label, mass, minlength=len(label))
    noticed = np.linalg.norm(total, axis=1) > NOTICE_LOAD * weight
    return (force > NOTICE_LOAD * capacity) | (held & noticed[label])


def particle_speed(bonds: Bonds, fragments: Fragments) -> np.ndarray:
    """(F) [m/s] at most that an elastic wave gives to what it passes: strength over impedance, f_c / sqrt(rho E); the material of the
    strongest bond around each fragment. A faster push crushes it."""
    most = np.zeros(fragments.count)
    for side in (bonds.fragment_a, bonds.fragment_b):
        inner = side != GROUND
        f = side[inner]
        density = fragments.mass[f] / fragments.volume[f]
        np.maximum.at(most, f, bonds.compression[inner] / np.sqrt(density * bonds.young[inner]))
    return most


def sway_given(
    sway: np.ndarray, most: np.ndarray, fragments: Fragments, old: np.ndarray, old_free: np.ndarray, new: np.ndarray, new_free: np.ndarray
) -> np.ndarray:
    """(F, 6) of the sway (F, 6) in clusters `old` (F), the rigid motion that the clusters `new` (F) take along where they come loose.

    What hangs together moves as one only in the mean; a part that comes loose goes on with its own. Zero where nothing changed. The parts
    of a free cluster get no momentum in sum; what was held has it from the ground. Beyond `most` (F) [m/s], the `particle_speed`, the sway
    is no motion: a piece whose bonds have gone soft while the contact that presses on it still found it held."""
    moving = np.any(sway != 0.0, axis=1)
    loose = new_free & ((np.bincount(new, minlength=len(new))[new] != np.bincount(old, minlength=len(old))[old]) | (old_free != new_free))
    rows = np.flatnonzero(wake(new, np.logical_and(loose, moving)))
    given = np.zeros_like(sway)
    if len(rows):
        speed = np.linalg.norm(sway[:, :3], axis=1)
        own = sway * np.minimum(1.0, most / np.maximum(speed, 1e-12))[:, None]
        own -= _rigid(own, fragments, old, old_free, np.flatnonzero(wake(old, moving)))
        given[rows] = _rigid(own, fragments, new, new_free, rows)[rows]
    return given


def body_motion(motion: np.ndarray, label: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bodies (n) that a rigid motion (F, 6) moves, velocity (n, 3) of their centres and spin (n, 3), in rest axes."""
    body = np.unique(label[motion.any(axis=1)])
    weight = np.bincount(label, mass, minlength=len(label))[body, None]
    v = np.stack([np.bincount(label, mass * motion[:, k], minlength=len(label))[body] for k in range(3)], axis=1) / weight
    return body, v, motion[body, 3:]


def _rigid(motion: np.ndarray, fragments: Fragments, label: np.ndarray, free: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(F, 6) rigid motion of the free clusters among `rows`, which holds clusters whole."""
    rows = rows[np.argsort(label[rows], kind="stable")]
    start = np.flatnonzero(np.diff(label[rows], prepend=-1))
    mass = np.zeros((len(rows), 6, 6))
    mass[:, :3, :3] = fragments.mass[rows, None, None] * np.eye(3)
    mass[:, 3:, 3:] = fragments.inertia[rows]
    out = np.zeros_like(motion)
    out[rows] = rigid_part(fragments.position[rows], mass, start, free[rows][start], np.einsum("nij,nj->ni", mass, motion[rows]))
    return out


def respond(
    lattice: Lattice, elastic: Elastic, label: np.ndarray, held: np.ndarray, inside: np.ndarray, wanted: np.ndarray,
    load: np.ndarray, h: float, sim: Sim, dynamic: bool, answers: Sequence[Response] = (),
) -> Response | None:
    """Solve one step of the lattice of the fragments `wanted` (F) bool. `load` (F, 6); `inside` (B) bool bonds that hold; `answers`
    to nearly the same question start the solver. None if no bond is concerned."""
    tied = np.zeros(len(label), bool)
    tied[label[lattice.a[inside]]] = True
    wanted = wanted & tied[label]
    bond = np.flatnonzero(inside & wanted[lattice.a])
    if not len(bond):
        return None
    kappa, mu = (max(sim.impact_time, h) / h, 1.0 / h**2) if dynamic else (1.0, 0.0)
    system = system_of(lattice, label, wanted, inside, kappa, mu, sim.stress_direct)
    rows = system.fragment
    free = ~held[rows[system.start]]
    position, M = lattice.position[rows], system.M
    # a part that came loose keeps its own strain; its share of the sway it had with the rest is now its body's motion
    u0 = elastic.u[rows] - rigid_part(position, M, system.start, free, system.inertial(elastic.u[rows]))
    v0 = elastic.v[rows] - rigid_part(position, M, system.start, free, system.inertial(elastic.v[rows]))
    full = elastic.u.copy()
    full[rows] = u0
    given = load + prestress(lattice, bond)
    if sim.buckling:
        given += sway_loads(lattice, bond, full)
    f = loads_balance(position, M, system.start, free, given[rows])
    rhs = f + (kappa - 1.0) * system.stiff(u0) + system.inertial(mu * u0 + v0 / h) if dynamic else f
    full[rows] = u0 + h * v0 if dynamic else u0
    for answer in answers:
        full[answer.system.fragment] = answer.u
    u, iterations, converged = system_solve(system, rhs, full[rows], sim.stress_tolerance, sim.stress_iterations)
    full[rows] = u
    strain = bond_strains(lattice, bond, full)
    return Response(system, free, u0, u, bond, strain, iterations, int(np.count_nonzero(~converged)))


def accept(
    elastic: Elastic, answers: Sequence[Response], load: np.ndarray, energy_scale: np.ndarray, h: float, dynamic: bool
) -> None:
    """Take the responses of a step into the state, later ones over earlier ones; `energy_scale` (F) [J] bonds at their strength."""
    calm_before, load_before = elastic.calm.copy(), elastic.load.copy()
    elastic.lively[:] = False
    for response in answers:
        rows, start = response.system.fragment, response.system.start
        counts = np.diff(np.r_[start, len(rows)])
        step = response.u - response.u_before
        moved = np.add.reduceat(np.einsum("ni,ni->n", step, response.system.stiff(step)), start)
        stored = np.add.reduceat(np.einsum("ni,ni->n", response.u, response.system.stiff(response.u)), start)
        still = moved <= PEACE * (stored + 0.01 * np.add.reduceat(energy_scale[rows], start))
        changed = np.linalg.norm((load - load_before)[rows], axis=1)
        steady = np.add.reduceat(changed, start) <= NOTICE_LOAD * np.add.reduceat(np.linalg.norm(load[rows], axis=1), start) + 1e-9
        calm = np.where(np.repeat(still & steady, counts), calm_before[rows] + 1, 0)
        last = h * elastic.v[rows]
        grows = moved > np.add.reduceat(np.einsum("ni,ni->n", last, response.system.stiff(last)), start)  # slowly at first: it may buckle
        rests = (calm * h >= PEACE_TIME) & np.repeat(~grows, counts) if dynamic else np.repeat(still, counts)
        elastic.v[rows] = np.where(rests[:, None], 0.0, step / h) if dynamic else 0.0
        elastic.u[rows] = response.u
        elastic.load[rows] = load[rows]
        elastic.calm[rows] = calm
        elastic.lively[rows] = ~rests
