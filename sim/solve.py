# pyright: basic, reportInvalidTypeForm=false
"""One contact step: pairs, manifolds, coloured sweeps, velocities, sleep.

In: World, h, Settings, accelerations. Out: the World one step later.

    y_i            = x_i + h v_i + h^2 a_i         inertial target; for rotation y = h w_mid, w_mid from an implicit midpoint rule that
                     keeps L = I w
    block of body i: (M/h^2 + sum J^T K J) d = -(M/h^2 (x - y) + sum J^T F), LDL^T of the 6x6
    sweep          bodies colour by colour (no two touching bodies share one), then the dual update of all rows
    end            v = (x - x0)/h;  L += I (theta - y_theta)/h, w = I^-1 L;  q = exp(theta) q0

Rows are in sim/contact.py and sim/joint.py, kernels in sim/sweep.py. Below `SERIAL_POINTS` contact points the whole solve is one
serial task: a parallel loop costs 0.2 ms to start and a step has a hundred; above it each colour is a parallel loop. Both give
the same bits (fast_math is off, every sum has a fixed order). One thread gathers a body's rows however many there are.

Energy of a step, from d(KE) = sum of impulses times mean velocity, which is exact for v and exact to O(h) for w:
    friction, contact  - J . (u0 + u1) / 2 of each point, u the relative velocity there: what the tangential, normal impulses take [J]
    integrator         h/2 F . (v1 - v0) of gravity and push: loss because implicit Euler moves with the end velocity
    joints, elastic    what the joints took, by the same rule; energy now stored in them
    work, kinetic      of the accelerations handed in; change of kinetic energy as the velocities show it
so kinetic + d(potential) = work - friction - contact - integrator - joints up to what the sweeps left open; no term is a remainder.

Scales: penalties follow m/h^2, forces m L/h^2, lengths L, with m and L the median mass and size of the fragments. So
a scene ten times as large, played sqrt(10) slower, repeats its motion.
"""

import numpy as np
import taichi as ti

from shot.rotation import rotate
from sim.broadphase import PairPack, TurnPack, hulls_turn, pairs_find
from sim.column import column_read, column_write
from sim.layout import CLIP, CONTACT, GRID, JOINT_ROW, POINTS, WORK, Tuning
from sim.narrowphase import CANDIDATES, EDGES, LANES, ManifoldPack, manifolds_make
from sim.sweep import COLOURS, BeginPack, EndPack, SolvePack, solve_begin, solve_colour, solve_dual, solve_end, solve_serial
from sim.world import Settings, Table, World

SERIAL_POINTS = 40_000
ALPHA, GAMMA, FORCE_DECAY = 0.95, 0.99, 0.9
BETA = 32.0  # penalty growth per metre of error, in (m/h^2)/L
FORCE_SCALE = 0.35  # load at which penalties grow twice as fast, in m L/h^2
PENALTY_MIN, PENALTY_MAX = 1e-2, 3e6  # in m/h^2
SLACK, STICK, MERGE, FACE_BIAS = 0.04, 0.02, 0.02, 0.004  # in L
RELAX = 0.025  # speed at which a birth overlap opens, in sqrt(g L): 5 cm/s at half a metre
CRUSH_DEPTH = 0.02  # in L: strain at which crushed concrete has lost its strength, with the rim that spalls first
CRUSH_PACKED = 0.5  # in L: half its size is voids once crushed, as in dumped rubble
TURN_MAX = 0.8  # [rad] in a step

ENERGY = ("friction", "contact", "integrator", "joints", "elastic", "work", "kinetic")


def contact_step(world: World, h: float, settings: Settings, acceleration: np.ndarray | None = None) -> None:
    """Advance all bodies by h seconds. acceleration (F, 3) [m/s2] per fragment, beside gravity, or None.

    Raises FloatingPointError naming the first fragment whose body left the finite numbers.
    """
    work = work_of(world)
    tune = tuning(world, h, settings)
    into = next(i for i in range(3) if i != world.contact_now and (world.snapshot is None or i != world.snapshot["contact_now"]))
    push_set(world, work, acceleration)
    hulls_turn(work.pack(world, TurnPack, into), world.hulls.count)
    pairs = pairs_of_step(world, work, into, tune)
    manifolds_make(work.pack(world, ManifoldPack, into), pairs, tune)
    joints, count = world.joint_count, world.count
    solve_begin(work.pack(world, BeginPack, into), pairs, joints, count, tune)
    awake, colours, points, active = (int(k) for k in column_read(work.array["count"]))
    solve = work.pack(world, SolvePack, into)
    if points < SERIAL_POINTS or colours > COLOURS:
        solve_serial(solve, settings.iterations, awake, active, joints, tune)
    else:
        ends = column_read(work.array["colour_start"])
        for _ in range(settings.iterations):
            for c in range(colours):
                solve_colour(solve, int(ends[c]), int(ends[c + 1]), tune)
            solve_dual(solve, active, joints, tune)
    solve_end(work.pack(world, EndPack, into), pairs, joints, count, tune)
    world.contact_now, world.contact_count = into, pairs
    world.energy = dict(zip(ENERGY, column_read(work.array["term"]).tolist(), strict=True))
    if not np.isfinite(world.energy["integrator"]):
        bad = np.flatnonzero(~np.isfinite(column_read(world.body.array["x"])).all(axis=1))
        raise FloatingPointError(f"fragment {bad[0] if len(bad) else '?'}: its body left the finite numbers")


class Work:
    """Scratch of a step and the argument packs over all arrays: nothing here outlives a step."""

    def __init__(self, world: World):
        self.count, self.joints = world.count, world.joint.size
        extent = world.hulls.extent
        self.cell = float(1.25 * np.median(extent.max(axis=1)))  # [m]
        self.mask = (1 << int(np.ceil(np.log2(2.0 * world.hulls.count + 64)))) - 1
        self.entries = int(np.prod(extent / self.cell + 2.0, axis=1).sum()) + 64
        self.pushed = True
        self.clip = {k: ti.ndarray(e, LANES * (EDGES if k == "edge" else CANDIDATES)) for k, e in CLIP.items()}
        self.row = {k: ti.ndarray(e, self.joints) for k, e in JOINT_ROW.items()}
        self.array: dict = {}
        self.grid: dict = {}
        self.packs: dict = {}
        self.grow(world, self.entries, world.contact[0].size)

    def grow(self, world: World, entries: int, pairs: int) -> None:
        """Room for this many grid entries and hull pairs."""
        self.entries, self.pairs = entries, pairs
        sizes = {"start": self.mask + 4, "hull": entries, "cell": entries, "first": world.hulls.count + 1, "need": 2}
        self.grid = {k: ti.ndarray(e, sizes.get(k, pairs)) for k, e in GRID.items()}
        sizes = {"side": 2 * pairs, "active": pairs, "error": POINTS * pairs, "joint_side": 2 * self.joints}
        sizes |= {"start": self.count + 1, "joint_start": self.count + 1}
        sizes |= {"colour_start": COLOURS + 2, "count": 4, "term": len(ENERGY)}
        for k, e in WORK.items():
            if k not in self.array or self.array[k].shape[0] < sizes.get(k, self.count):
                self.array[k] = ti.ndarray(e, sizes.get(k, self.count))
                self.array[k].fill(0)
        self.packs = {}

    def pack(self, world: World, kind, into: int):
        """The columns of this pack type; `into` is the contact table being written."""
        key = (id(kind), world.contact_now, into)
        if key not in self.packs:
            tables = {
                "body": world.body.array, "fragment": world.fragment.array, "hull": world.hulls.array, "joint": world.joint.array,
                "contact": world.contact[into].array, "last": world.contact[world.contact_now].array,
                "row": self.row, "grid": self.grid, "clip": self.clip, "work": self.array,
            }
            self.packs[key] = kind(**{name: tables[name.split("_", 1)[0]][name.split("_", 1)[1]] for name in kind.members})
        return self.packs[key]


def work_of(world: World) -> Work:
    """The world's scratch, made when missing or outgrown."""
    work = world.work
    if work is None or work.joints != world.joint.size:
        work = world.work = Work(world)
    return work


def tuning(world: World, h: float, settings: Settings):
    """Scalars of the step from the scene's median mass and size."""
    m, size = world.mass_scale, world.length_scale
    stiffness = m / h**2
    return Tuning(
        h=h, gravity=settings.gravity, friction_ground=settings.friction_ground,
        slack=SLACK * size, stick=STICK * size, merge=MERGE * size, face_bias=FACE_BIAS * size,
        relax=RELAX * float(np.sqrt(settings.gravity * size)) * h,
        alpha=ALPHA, gamma=GAMMA, force_decay=FORCE_DECAY, beta=BETA * stiffness / size, force_scale=FORCE_SCALE * stiffness * size,
        penalty_min=PENALTY_MIN * stiffness, penalty_max=PENALTY_MAX * stiffness, length=size, turn_max=TURN_MAX,
        sleep_speed=settings.sleep_speed, sleep_time=settings.sleep_time, rolling=settings.rolling * size,
        crush_residual=settings.crush_residual, crush_depth=CRUSH_DEPTH * size,
        crush_packed=CRUSH_PACKED * size,
    )


def push_set(world: World, work: Work, acceleration: np.ndarray | None) -> None:
    """Acceleration and twist of every body from accelerations of its fragments."""
    if acceleration is None:
        if work.pushed:
            work.array["acceleration"].fill(0)
            work.array["twist"].fill(0)
        work.pushed = False
        return
    work.pushed = True
    q = column_read(world.body.array["q"])[world.label]
    arm = rotate(q, world.rest - world.com[world.label])
    force = world.rest_mass[:, None] * np.asarray(acceleration, np.float64)
    moment = np.cross(arm, force)
    total = np.stack([np.bincount(world.label, c, minlength=world.count) for c in (*force.T, *moment.T)], axis=1)
    mass = np.bincount(world.label, world.rest_mass, minlength=world.count)
    column_write(work.array["acceleration"], total[:, :3] / np.maximum(mass, 1e-30)[:, None])
    column_write(work.array["twist"], total[:, 3:])


def pairs_of_step(world: World, work: Work, into: int, tune) -> int:
    """Fill the pairs of the next contact table, growing tables until they fit; the number of pairs."""
    while True:
        room = min(work.pairs, world.contact[into].size)
        pairs_find(
            work.pack(world, PairPack, into), world.hulls.count, world.contact_count, work.mask, work.entries, room, work.cell, tune
        )
        entries, pairs = (int(k) for k in column_read(work.grid["need"]))
        if entries <= work.entries and pairs <= room:
            return pairs
        size = max(work.pairs, int(1.5 * pairs) + 64 if pairs > room else 0)
        if pairs > world.contact[into].size:
            world.contact[into] = Table(CONTACT, size)
        work.grow(world, max(work.entries, int(1.25 * entries)), size)
