# pyright: basic, reportInvalidTypeForm=false
"""The rigid bodies of a collapse: their state, their hulls, their contacts, and how all of it is set, read and saved.

In: Fragments (rest masses, hulls). Out: a World, owner of every Taichi array of the contact solver.

A cluster of bonded fragments is ONE body. Body slot b = the lowest fragment index of the cluster, so labels are stable and
arrays of bodies have length F; slots that name no cluster are EMPTY. Every rest orientation is the identity, hence
a fragment's pose is (x_b + R(q_b) offset_f, q_b) with offset_f = rest position of f - rest centre of mass of b.
A body bonded to the ground is FIXED (inverse mass 0); its fragments still report forces. A FIXED body with a velocity is driven: it
moves by it in the step, whatever is in its way, and meets fixed bodies too; whoever gave the velocity writes where it arrived.
The ground is the half-space y <= 0, exact and without a hull. Fragments of one body never collide.

The contact solver, from outside (host arrays are numpy; F fragments):
    world = world_create(fragments, friction, shrink)      friction (F) per fragment; all one-fragment bodies at rest, free
    bodies_split(world, label, fixed)                       regroup: label (F) lowest fragment of each one's cluster, fixed (F) bool
    bodies_write(world, x, q, v, w) / bodies_read(world)    whole-body state, slots as above; read gives Bodies
    fragments_read(world) -> Poses                          position, rotation, velocity, angular velocity per fragment
    joints_set(world, joints) / joints_read(world)          elastoplastic six-row hinges between bodies (sim/joint.py)
    contact_step(world, h, settings, acceleration)          one step (sim/solve.py); acceleration (F, 3) [m/s2] beside gravity
    forces_read(world) -> force (F, 3) [N], moment (F, 3)   mean of the step, contact + joints, about each fragment's centre
    contacts_read(world, h) -> Contacts                     touching points of the last step, sorted by (a, b) (sim/state.py)
    energy_read(world) -> dict                              work terms of the last step [J]
    state_snapshot(world); state_restore(world)             within one step: re-solve after bonds broke, on the device (sim/state.py)
    world_save(world) -> dict; world_load(world, dict)      complete state, bit-identical continuation (sim/state.py)
    world_digest(world) -> int                              u64 of x, q, v, w, state, fragment_body

x is f64: a 300 m scene leaves f32 an ulp of 30 um, as large as resting overlaps. Velocities, increments, arms and hulls are f32, always
relative to a centre of mass. Arrays are ti.ndarray in argument packs: another size, another scene, a resized contact list compile nothing.
"""

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import taichi as ti

from shot.results import Fragments
from shot.rotation import conjugate, rotate
from sim.column import column_bytes, column_read, column_write
from sim.hull import HullTable, hull_table
from sim.layout import ASLEEP, AWAKE, BODY, CONTACT, EMPTY, FIXED, FRAGMENT, JOINT, PER_POINT, POINTS
from sim.rest import Rest, rest_none, rest_regrouped

if TYPE_CHECKING:
    from sim.solve import Work


@dataclass
class Table:
    """Arrays of one kind."""

    columns: dict
    size: int
    array: dict = field(default_factory=dict)

    def __post_init__(self):
        self.array = {k: ti.ndarray(e, max(1, self.length(k))) for k, e in self.columns.items()}  # Taichi makes them all zero

    def length(self, name: str) -> int:
        """Rows of a column."""
        return self.size * (POINTS if self.columns is CONTACT and name in PER_POINT else 1)


@dataclass(frozen=True)
class Bodies:
    """Whole-body state on the host; slots that name no cluster have state EMPTY."""

    x: np.ndarray  # (F, 3) f64 [m]
    q: np.ndarray  # (F, 4) f32
    v: np.ndarray  # (F, 3) f32 [m/s]
    w: np.ndarray  # (F, 3) f32 [rad/s]
    mass: np.ndarray  # (F) f32 [kg]
    state: np.ndarray  # (F) i32
    com: np.ndarray  # (F, 3) f64 [m] rest centre of mass


@dataclass(frozen=True)
class Poses:
    """Fragments on the host."""

    position: np.ndarray  # (F, 3) f64 [m] centre of mass
    rotation: np.ndarray  # (F, 4) f32
    velocity: np.ndarray  # (F, 3) f32 [m/s]
    angular_velocity: np.ndarray  # (F, 3) f32 [rad/s]
    body: np.ndarray  # (F) i32
    state: np.ndarray  # (F) i32, that of its body


@dataclass(frozen=True)
class Contacts:
    """Touching points of the last step, sorted by (a, b, feature)."""

    fragment: np.ndarray  # (N, 2) i32 a, b; b = -1 the ground
    position: np.ndarray  # (N, 3) f64 [m]
    normal: np.ndarray  # (N, 3) f32 from a to b
    impulse: np.ndarray  # (N, 3) f32 [N s] on b over the step
    velocity: np.ndarray  # (N, 3) f32 [m/s] of b minus a before the step
    energy: np.ndarray  # (N) f32 [J] dissipated there over the step, an estimate
    crushed: np.ndarray  # (N) i32 the fragment that the pair crushed in the step, -1 none


@dataclass(frozen=True)
class Settings:
    """What a step needs of shot.params.Sim."""

    gravity: float  # [m/s2] downwards
    iterations: int
    friction_ground: float
    sleep_speed: float  # [m/s]
    sleep_time: float  # [s]
    rolling: float = 0.0  # lever of the rolling resistance over the median size
    crush_residual: float = 1.0  # share of its strength that a crushed fragment still bears
    stiction: float = 1.0  # static over sliding friction


class World:
    """Owner of the solver's arrays. Made by `world_create`; behaviour lives in functions."""

    def __init__(self, fragments: Fragments, friction: np.ndarray, hulls: HullTable, radius: np.ndarray):
        count = fragments.count
        self.count = count
        self.rest = np.asarray(fragments.position, np.float64)
        self.rest_mass = np.asarray(fragments.mass, np.float64)
        self.rest_inertia = np.asarray(fragments.inertia, np.float64)
        self.rest_radius = radius  # (F) f64 [m] farthest hull vertex from each fragment's centre
        self.mass_scale = float(np.median(self.rest_mass))  # [kg] medians: one giant among bricks must not set the scale
        self.length_scale = float(np.median(np.cbrt(np.asarray(fragments.volume, np.float64))))  # [m]
        self.hulls = hulls
        self.body = Table(BODY, count)
        self.fragment = Table(FRAGMENT, count)
        self.contact = [Table(CONTACT, 8 * hulls.count + 64) for _ in range(3)]
        self.contact_now = 0  # index of the last step's list; one of the others is written next, one may be held by a snapshot
        self.contact_count = 0
        self.laid: Rest = rest_none(count, self.contact[0].array)  # rows between sleepers, out of the lists
        self.joint = Table(JOINT, 1)
        self.joint_count = 0
        self.label = np.arange(count, dtype=np.int32)  # host mirrors of what only the host changes
        self.fixed = np.zeros(count, bool)
        self.com = self.rest.copy()
        self.energy: dict[str, float] = {}
        self.still: tuple | None = None  # h, settings, poses of a step that changed nothing: another one would not either
        self.snapshot: dict | None = None
        self.work: Work | None = None  # scratch of sim/solve.py, rebuilt when missing, no part of the state
        column_write(self.fragment.array["friction"], friction)
        column_write(self.fragment.array["mass"], self.rest_mass)
        self.crush_set(np.full(count, np.inf))

    def crush_set(self, force: np.ndarray) -> None:
        """What crushes each fragment (F) [N]; none is crushed yet."""
        column_write(self.fragment.array["crush"], np.stack([force, np.zeros(self.count)], axis=1))
        self.still = None


def world_create(fragments: Fragments, friction: np.ndarray, shrink: float) -> World:
    """All fragments at rest, each its own free body. friction (F); hulls shrink by this share about their centres.

    Raises ShotError for a hull without volume or with too many edges.
    """
    hulls, radius = hull_table(fragments, shrink)
    world = World(fragments, friction, hulls, radius)
    count = world.count
    q = np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))
    zero = np.zeros((count, 3), np.float32)
    _bodies_group(world, np.ones(count, bool), world.rest, q, zero, zero, np.full(count, AWAKE, np.int32))
    return world


def contacts_fit(world: World, pairs: int) -> None:
    """Raise MemoryError if the three contact lists would take more than half of this machine's memory at so many pairs of hulls."""
    table = world.contact[0]
    row = sum(column_bytes(a) for a in table.array.values()) / table.size
    wanted = len(world.contact) * pairs * row
    if wanted > 0.5 * memory():
        raise MemoryError(f"{pairs} pairs of pieces may touch in this step; their contacts would take {wanted / 1e9:.3g} GB")


def memory() -> float:
    """[bytes] of this machine."""
    return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")


def bodies_split(world: World, label: np.ndarray, fixed: np.ndarray) -> None:
    """Regroup fragments into bodies: label (F) = lowest fragment of the cluster, fixed (F) = cluster holds to the ground.

    New bodies inherit their mother's rigid motion at their own centre of mass: v + w x r, w (momentum is conserved).
    Bodies whose members and fixity stay the same are untouched. Raises ValueError if fragments of different bodies would
    join, unless all fragments are at rest in their rest pose.
    """
    label, fixed = np.asarray(label, np.int32), np.asarray(fixed, bool)
    old = world.label
    size_new = np.bincount(label, minlength=world.count)
    size_old = np.bincount(old, minlength=world.count)
    changed = (label != old) | (size_new[label] != size_old[old]) | (fixed != world.fixed)
    if not changed.any():
        return
    mother = old[label]  # body of each new cluster's lowest fragment
    now = bodies_read(world)
    joined = (old != mother) & changed
    if joined.any():
        here = now.x[old] + rotate(now.q[old], world.rest - world.com[old])
        rigid = now.x[mother] + rotate(now.q[mother], world.rest - world.com[mother])
        if np.abs(here - rigid)[joined].max() > 1e-4 * world.length_scale or np.abs(now.q[old] - now.q[mother])[joined].max() > 1e-4:
            raise ValueError(f"fragment {int(np.flatnonzero(joined)[0])} cannot join a body that has moved away from it")
    world.label, world.fixed = label, fixed
    com = _segment_mean(label, world.rest_mass, world.rest)
    x, v = now.x.copy(), now.v.copy()
    slot = np.unique(label[changed])
    m = mother[slot]
    r = rotate(now.q[m], com[slot] - world.com[m])
    x[slot] = now.x[m] + r
    q, w = now.q.copy(), now.w.copy()
    q[slot], w[slot] = now.q[m], now.w[m]
    v[slot] = now.v[m] + np.cross(now.w[m], r)
    still = fixed[slot]
    v[slot[still]] = 0
    w[slot[still]] = 0
    state = np.full(world.count, EMPTY, np.int32)
    state[label] = now.state[label]
    state[slot] = np.where(still, FIXED, AWAKE)
    world.laid = rest_regrouped(world.laid, np.concatenate([old[changed], label[changed]]))
    _bodies_group(world, changed, x, q, v, w, state)


def bodies_kick(world: World, body: np.ndarray, dv: np.ndarray, dw: np.ndarray) -> float:
    """Add velocities dv [m/s] and dw [rad/s] (n, 3), in their own axes, to some bodies (n) that are free; the energy [J] it takes."""
    a = world.body.array
    v, w, spin = (column_read(a[name]) for name in ("v", "w", "spin"))
    mass, q = column_read(a["mass"])[body, None].astype(float), column_read(a["q"])[body].astype(float)
    dv, dw = rotate(q, dv), rotate(q, dw)
    turn = _spin(column_read(a["inertia"])[body].astype(float), q, dw)
    given = np.sum(mass * dv * (v[body] + 0.5 * dv)) + np.sum(turn * (w[body] + 0.5 * dw))
    v[body], w[body], spin[body] = v[body] + dv, w[body] + dw, spin[body] + turn
    for name, rows in (("v", v), ("v_before", v), ("w", w), ("spin", spin)):
        column_write(a[name], rows)
    world.still = None
    return float(given)


def _segment_mean(label: np.ndarray, weight: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Weighted mean of value (F, k) over each label, in slots; zero elsewhere."""
    total = np.bincount(label, weight, minlength=len(label))
    sums = np.stack([np.bincount(label, weight * value[:, k], minlength=len(label)) for k in range(value.shape[1])], axis=1)
    return sums / np.where(total > 0, total, 1)[:, None]


def _bodies_group(world: World, changed: np.ndarray, x, q, v, w, state) -> None:
    """Mass properties of every body from its fragments, then write all; calm and load start anew where `changed`."""
    label, count = world.label, world.count
    world.com = _segment_mean(label, world.rest_mass, world.rest)
    offset = world.rest - world.com[label]
    mass = np.bincount(label, world.rest_mass, minlength=count)
    square = (offset**2).sum(axis=1)
    spread = world.rest_mass[:, None, None] * (square[:, None, None] * np.eye(3) - offset[:, :, None] * offset[:, None, :])
    parts = (world.rest_inertia + spread).reshape(count, 9)
    inertia = np.stack([np.bincount(label, parts[:, k], minlength=count) for k in range(9)], axis=1).reshape(count, 3, 3)
    used = state != EMPTY
    inertia[~used] = np.eye(3)
    radius = np.zeros(count)
    np.maximum.at(radius, label, np.sqrt(square) + world.rest_radius)
    body, fragment = world.body.array, world.fragment.array
    keep = np.ones(count, bool)
    keep[label[changed]] = False
    keep &= used
    fresh = {"calm": 0, "peak": 0, "load": 0, "load_moment": 0, "load_size": 0, "v_before": v[~keep], "spin": _spin(inertia, q, w)[~keep]}
    for name, value in fresh.items():
        rows = column_read(body[name])
        rows[~keep] = value
        column_write(body[name], rows)
    values = {"x": x, "q": q, "v": v, "w": w, "mass": mass, "inertia": inertia, "inertia_inverse": np.linalg.inv(inertia), "radius": radius}
    values["state"] = state
    for name, value in values.items():
        column_write(body[name], value)
    column_write(fragment["body"], label)
    column_write(fragment["offset"], offset)
    world.still = None


def _spin(inertia: np.ndarray, q: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Angular momentum R I R^T w, world."""
    return rotate(q, np.einsum("bij,bj->bi", inertia, rotate(conjugate(q), w)))


def bodies_read(world: World) -> Bodies:
    """Whole-body state on the host."""
    a = world.body.array
    return Bodies(*(column_read(a[k]) for k in ("x", "q", "v", "w", "mass", "state")), com=world.com)


def bodies_write(world: World, x: np.ndarray, q: np.ndarray, v: np.ndarray, w: np.ndarray) -> None:
    """Set pose and velocity of all bodies (F slots; EMPTY ones are ignored) and wake the free ones."""
    a = world.body.array
    state = column_read(a["state"])
    q = np.asarray(q, np.float64)
    q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-12)
    state = np.where(state == ASLEEP, AWAKE, state)
    spin = _spin(column_read(a["inertia"]).astype(np.float64), q, w)
    values = {"x": x, "q": q, "v": v, "w": w, "spin": spin, "v_before": v, "state": state, "calm": np.zeros(world.count)}
    for name, value in values.items():
        column_write(a[name], value)
    world.still = None


def bodies_rouse(world: World, fragment: np.ndarray) -> None:
    """Wake the sleeping bodies of fragments (F) bool."""
    state = column_read(world.body.array["state"])
    roused = np.zeros(world.count, bool)
    roused[world.label[fragment]] = True
    roused &= state == ASLEEP
    if roused.any():
        state[roused] = AWAKE
        calm = column_read(world.body.array["calm"])
        calm[roused] = 0.0
        column_write(world.body.array["state"], state)
        column_write(world.body.array["calm"], calm)


def fragments_read(world: World) -> Poses:
    """Pose and velocity of every fragment on the host."""
    b = bodies_read(world)
    r = rotate(b.q[world.label], world.rest - world.com[world.label])
    w = b.w[world.label]
    velocity = b.v[world.label] + np.cross(w, r).astype(np.float32)
    return Poses(b.x[world.label] + r, b.q[world.label], velocity, w, world.label.copy(), b.state[world.label])


def forces_read(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Contact and joint force (F, 3) f32 [N] on each fragment, and moment (F, 3) [N m] about its centre: means of the last step."""
    return column_read(world.fragment.array["force"]), column_read(world.fragment.array["moment"])


def energy_read(world: World) -> dict[str, float]:
    """Work terms of the last step [J]; see sim/solve.py for what each one is."""
    return dict(world.energy)


def world_digest(world: World) -> int:
    """u64 of everything that moves: x, q, v, w, state of used slots, and the body of each fragment."""
    b = bodies_read(world)
    used = b.state != EMPTY
    h = hashlib.blake2b(digest_size=8)
    for a in (b.x, b.q, b.v, b.w, b.state):
        h.update(np.ascontiguousarray(a[used]).tobytes())
    h.update(world.label.tobytes())
    return int.from_bytes(h.digest(), "little")
