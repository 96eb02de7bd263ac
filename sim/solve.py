# pyright: basic, reportInvalidTypeForm=false
"""One contact step: pairs, manifolds, coloured sweeps, velocities, sleep.

In: World, h, Settings, accelerations. Out: the World one step later.

    y_i            = x_i + h v_i + h^2 a_i         inertial target; for rotation y = h w_mid, w_mid from an implicit midpoint rule that
                     keeps L = I w
    block of body i: (M/h^2 + sum J^T K J) d = -(M/h^2 (x - y) + sum J^T F), LDL^T of the 6x6
    sweep          bodies colour by colour (no two touching bodies share one), then the dual update of all rows
    end            v = (x - x0)/h;  L += I (theta - y_theta)/h, w = I^-1 L;  q = exp(theta) q0

Rows are in sim/contact.py, sim/quad.py and sim/joint.py, kernels in sim/sweep.py. On one thread, and below `SERIAL_POINTS` points,
the whole solve is one serial task; above it each colour is a parallel loop, which is 60 us to start some hundred times a step. Both give
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

from typing import Any

import numpy as np
import taichi as ti
from taichi.lang import impl

from shot.rotation import rotate
from sim.broadphase import PairPack, TurnPack, hulls_turn, pairs_find
from sim.colour import COLOURS
from sim.column import column_copy, column_read, column_write
from sim.launch import Launch
from sim.layout import AWAKE, CLIP, CONTACT, EDGES, GRID, JOINT_ROW, REST, WORK, Tuning
from sim.narrowphase import ARCS, CANDIDATES, LANES, ManifoldPack, manifolds_make
from sim.quad import QUADS, SUMS
from sim.renew import MIDDLE, AheadPack, ChoosePack, OrderPack, RenewPack, hulls_ahead, rows_choose, rows_order, rows_renew
from sim.rest import Rest, flooded, rest_append, rest_lay, rest_moved, rest_take
from sim.state import world_save
from sim.sweep import (
    BeginPack,
    EndPack,
    ForcePack,
    SolvePack,
    solve_begin,
    solve_colour,
    solve_dual,
    solve_end,
    solve_forces,
    solve_serial,
)
from sim.world import Settings, Table, World, contacts_fit

SERIAL_POINTS = 40_000
ALPHA, GAMMA, FORCE_DECAY = 0.95, 0.99, 0.9
BETA = 32.0  # penalty growth per metre of error, in (m/h^2)/L
FORCE_SCALE = 0.35  # load at which penalties grow twice as fast, in m L/h^2
PENALTY_MIN, PENALTY_MAX = 1e-2, 3e6  # in m/h^2
SLACK, STICK, MERGE, FACE_BIAS, KEEP = 0.04, 0.02, 0.02, 0.004, 0.002  # in L
HOLD = 0.025  # slip below which a touch is held, in sqrt(g L): 5 cm/s at half a metre
RELAX = 0.025  # speed at which a birth overlap opens, in sqrt(g L): 5 cm/s at half a metre
CRUSH_DEPTH = 0.02  # in L: strain at which crushed concrete has lost its strength, with the rim that spalls first
CRUSH_PACKED = 0.5  # in L: half its size is voids once crushed, as in dumped rubble
TURN_MAX = 0.8  # [rad] in a step

ENERGY = ("friction", "contact", "integrator", "joints", "elastic", "work", "kinetic")


def contact_step(world: World, h: float, settings: Settings, acceleration: np.ndarray | None = None) -> None:
    """Advance all bodies by h seconds. acceleration (F, 3) [m/s2] per fragment, beside gravity, or None.

    Where nothing is awake, steps are taken until one changes nothing; those behind it cost nothing (`acceleration` moves no sleeper).
    Raises FloatingPointError naming the first fragment whose body left the finite numbers.
    """
    if world.still is not None and world.still[:2] == (h, settings) and same(world.still[2], poses_of(world)):
        return
    before = None if np.any(column_read(world.body.array["state"]) == AWAKE) else world_save(world)
    work = work_of(world)
    tune = work.tuning(world, h, settings)
    into = next(i for i in range(3) if i != world.contact_now and (world.snapshot is None or i != world.snapshot["contact_now"]))
    push_set(world, work, acceleration)
    work.launch(world, into, hulls_turn, TurnPack)(world.hulls.count)
    joints, count = world.joint_count, world.count
    pairs, *order = rows_begin(world, work, into, tune)
    if settings.iterations > 1:
        sweeps(world, work, into, tune, settings.iterations // 2, order)
        order = rows_look(world, work, into, tune, pairs, order)
    sweeps(world, work, into, tune, settings.iterations - settings.iterations // 2, order)
    active = order[3]
    work.launch(world, into, solve_forces, ForcePack)(pairs, active, count)
    work.launch(world, into, solve_end, EndPack, tune)(pairs, joints, count)
    world.contact_now, world.contact_count = into, pairs
    work.age = 0 if rest_lay(world, column_read(work.grid["keep"], pairs), work.age) else work.age + 1
    world.energy = dict(zip(ENERGY, column_read(work.array["term"]).tolist(), strict=True))
    if not np.isfinite(world.energy["integrator"]):
        bad = np.flatnonzero(~np.isfinite(column_read(world.body.array["x"])).all(axis=1))
        raise FloatingPointError(f"fragment {bad[0] if len(bad) else '?'}: its body left the finite numbers")
    world.still = (h, settings, poses_of(world)) if before is not None and same(before, world_save(world)) else None


def poses_of(world: World) -> dict[str, np.ndarray]:
    """Where all bodies are, how they move, and whether they are awake."""
    return {k: column_read(world.body.array[k]) for k in ("x", "q", "v", "w", "state")}


def _threads() -> int:
    """That Taichi was opened with."""
    config: Any = impl.current_cfg()
    return config.cpu_max_num_threads


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """All arrays equal bit by bit."""
    return all(one[k].tobytes() == other[k].tobytes() for k in one)


class Work:
    """Scratch of a step and the argument packs over all arrays: nothing here outlives a step."""

    def __init__(self, world: World):
        self.count, self.joints = world.count, world.joint.size
        extent = world.hulls.extent
        self.cell = float(1.25 * np.median(extent.max(axis=1)))  # [m]
        self.mask = (1 << int(np.ceil(np.log2(2.0 * world.hulls.count + 64)))) - 1
        self.entries = int(np.prod(extent / self.cell + 2.0, axis=1).sum()) + 64
        self.pushed = False  # by accelerations of the last step
        sizes = dict.fromkeys(("point", "separation", "feature"), CANDIDATES) | {"arc": ARCS}
        self.clip = {k: ti.ndarray(e, LANES * sizes.get(k, EDGES)) for k, e in CLIP.items()}
        self.row = {k: ti.ndarray(e, self.joints) for k, e in JOINT_ROW.items()}
        self.array: dict = {}
        self.rest: dict = {}
        self.laid: Rest | None = None  # what `rest` holds
        self.age = 0  # steps since rows were laid aside
        self.grid: dict = {}
        self.packs: dict = {}
        self.launches: dict = {}
        self.tuned: tuple = (None, None)  # what the scalars were made for, and they
        self.grow(world, self.entries, world.contact[0].size)

    def grow(self, world: World, entries: int, pairs: int) -> None:
        """Room for this many grid entries and hull pairs."""
        self.entries, self.pairs = entries, pairs
        sizes = {"start": self.mask + 4, "hull": entries, "cell": entries, "first": world.hulls.count + 1, "need": 2}
        sizes |= {f"still_{k}": sizes[k] for k in ("start", "hull", "cell")}
        sizes |= dict.fromkeys(("still", "sweep", "out", "ahead", "low", "high"), world.hulls.count)
        self.grid = {k: ti.ndarray(e, sizes.get(k, pairs)) for k, e in GRID.items()}  # Taichi makes them all zero
        sizes = dict.fromkeys(("active", "row", "look", "found", "plane", "law", "pair"), pairs)
        sizes |= {"side": 2 * pairs, "joint_side": 2 * self.joints, "sum": SUMS * self.count, "quad": QUADS * pairs}
        sizes |= {"start": self.count + 1, "joint_start": self.count + 1}
        sizes |= {"colour_start": COLOURS + 2, "count": 7, "term": len(ENERGY)}
        for k, e in WORK.items():
            if k not in self.array or self.array[k].shape[0] < sizes.get(k, self.count):
                self.array[k] = ti.ndarray(e, sizes.get(k, self.count))
        self.packs, self.launches = {}, {}

    def lay(self, rest: Rest) -> None:
        """Hand the rows laid aside to the device."""
        if self.laid is rest:
            return
        same_rows = self.laid is not None and self.laid.load is rest.load
        for name, element in REST.items():
            value = getattr(rest, name)
            if name in self.rest and same_rows and name not in ("owner", "live"):
                continue
            if name not in self.rest or self.rest[name].shape[0] < len(value):
                self.rest[name] = ti.ndarray(element, max(1024, 2 * len(value)))
                self.forget("rest")
            column_write(self.rest[name], value)
        self.laid = rest

    def forget(self, table: str) -> None:
        """Drop the packs that hold arrays of this table: to make them all anew takes 2 ms each."""
        lost = [key for key, pack in self.packs.items() if any(name.startswith(f"{table}_") for name in pack.keys)]
        packs = [self.packs.pop(key) for key in lost]
        self.launches = {key: launch for key, launch in self.launches.items() if all(launch.pack is not pack for pack in packs)}

    def tuning(self, world: World, h: float, settings: Settings):
        """`tuning`, or that of the last step if it would be the same."""
        if self.tuned[0] != (h, settings):
            self.tuned, self.launches = ((h, settings), tuning(world, h, settings)), {}
        return self.tuned[1]

    def launch(self, world: World, into: int, kernel, kind, tune=None) -> Launch:
        """A kernel on its pack; `tune` is that of the step."""
        key = (id(kernel), world.contact_now, into)
        if key not in self.launches:
            self.launches[key] = Launch(kernel, self.pack(world, kind, into), tune)
        return self.launches[key]

    def pack(self, world: World, kind, into: int):
        """The columns of this pack type; `into` is the contact table being written."""
        key = (id(kind), world.contact_now, into)
        if key not in self.packs:
            tables = {
                "body": world.body.array, "fragment": world.fragment.array, "hull": world.hulls.array, "joint": world.joint.array,
                "contact": world.contact[into].array, "last": world.contact[world.contact_now].array,
                "row": self.row, "grid": self.grid, "clip": self.clip, "rest": self.rest, "work": self.array,
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
        h=h, gravity=settings.gravity, friction_ground=settings.friction_ground, stiction=settings.stiction,
        hold_speed=HOLD * float(np.sqrt(settings.gravity * size)),
        slack=SLACK * size, stick=STICK * size, keep=KEEP * size, merge=MERGE * size, face_bias=FACE_BIAS * size,
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


def rows_begin(world: World, work: Work, into: int, tune) -> tuple[int, ...]:
    """Pairs, manifolds, and all that the sweeps start from: number of pairs, awake bodies, colours, points, active rows.

    Rows laid aside whose bodies move come back first; where a hit then reaches more of them, all is done once more with those."""
    rest, moved = world.laid, rest_moved(world)
    while True:
        behind = 0
        if moved is not None and (moved.any() or world.laid is not rest):
            rows = rest_take(world, rest, moved)
            behind = len(rows)
            table_fit(world, world.contact_now, world.contact_count + behind)
            rest_append(world, rest, rows)
        work.lay(world.laid)
        pairs = pairs_of_step(world, work, into, tune, behind)
        work.launch(world, into, manifolds_make, ManifoldPack, tune)(pairs)
        work.launch(world, into, solve_begin, BeginPack, tune)(pairs, world.joint_count, world.count)
        awake, colours, points, active, reached = (int(k) for k in column_read(work.array["count"], 5))
        if not reached:
            return pairs, awake, colours, points, active
        moved = flooded(world, column_read(work.array["budget"]), into, pairs, tune.sleep_speed)


def sweeps(world: World, work: Work, into: int, tune, number: int, order: list[int]) -> None:
    """So many sweeps over all bodies and rows. order: of `rows_begin`, without the pairs."""
    awake, colours, points, active = order
    joints = world.joint_count
    if points < SERIAL_POINTS or colours > COLOURS or _threads() == 1:
        work.launch(world, into, solve_serial, SolvePack, tune)(number, awake, active, joints)
        return
    ends = column_read(work.array["colour_start"]).tolist()
    colour, dual = (work.launch(world, into, kernel, SolvePack, tune) for kernel in (solve_colour, solve_dual))
    for _ in range(number):
        for begin, end in zip(ends[:colours], ends[1:], strict=False):
            colour(begin, end)
        dual(active, joints)


def rows_look(world: World, work: Work, into: int, tune, pairs: int, order: list[int]) -> list[int]:
    """Give new points to pairs that the sweeps have moved into each other (sim/renew.py); the order of the sweeps that follow."""
    work.launch(world, into, rows_choose, ChoosePack, tune)(world.hulls.count, pairs)
    looks, waiting = int(column_read(work.array["count"])[5]), 1
    for part in (1.0, MIDDLE):
        if looks and waiting:
            work.launch(world, into, hulls_ahead, AheadPack, tune)(world.hulls.count, part)
            work.launch(world, into, rows_renew, RenewPack, tune)(looks, part)
            work.launch(world, into, rows_order, OrderPack, tune)(looks, world.joint_count, world.count)
            *order, _, _, waiting = (int(k) for k in column_read(work.array["count"]))
    return order


def table_fit(world: World, which: int, rows: int) -> None:
    """Make room for so many rows in a contact list, which keeps what it holds."""
    table = world.contact[which]
    if rows > table.size:
        contacts_fit(world, rows)
        larger = Table(CONTACT, rows)
        for name, array in table.array.items():
            column_copy(larger.array[name], array)
        world.contact[which] = larger
        if world.work is not None:
            world.work.packs, world.work.launches = {}, {}


def pairs_of_step(world: World, work: Work, into: int, tune, behind: int) -> int:
    """Fill the pairs of the next contact table, growing tables until they fit; the number of pairs. Raises MemoryError."""
    while True:
        room = min(work.pairs, world.contact[into].size)
        find = work.launch(world, into, pairs_find, PairPack, tune)
        find(world.hulls.count, world.contact_count, behind, work.mask, work.entries, room, work.cell)
        entries, pairs = (int(k) for k in column_read(work.grid["need"]))
        if entries <= work.entries and pairs <= room:
            return pairs
        size = max(work.pairs, int(1.5 * pairs) + 64 if pairs > room else 0)
        if pairs > world.contact[into].size:
            contacts_fit(world, size)
            world.contact[into] = Table(CONTACT, size)
        work.grow(world, max(work.entries, int(1.25 * entries)), size)
