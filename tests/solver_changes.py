# pyright: basic, reportInvalidTypeForm=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalCall=false
# pyright: reportCallIssue=false
"""Changes to the contact solver that the tests of determinism play: pairs that arrive in another order, and two mistakes.

    permuted   the broadphase finds its pairs in a hashed order, another in each step: bits must stay
    unsorted   as above, and nobody sorts them: what the sort is there for
    atomic     contact and joint forces are summed into fragments by a parallel loop with float atomics, in the order in which threads come.
               With one thread that is the order of the rows, and so the same bits; with more, two threads are made to meet

`change(name)` puts one into sim.solve, `change("")` takes it out. Expects Taichi to be open.
"""

import numpy as np
import taichi as ti
from taichi.lang import impl

import sim.rest
import sim.solve
from sim.broadphase import PairPack, entries_fill, pairs_match, pairs_search, pairs_sort, turn
from sim.column import column_read, column_write
from sim.layout import POINTS, Tuning, pack_type
from sim.sweep import joint_load
from tests.collapse_scene import TASK

ScatterPack = pack_type(
    body="q", fragment="offset force moment", hull="fragment", contact="pair body count normal arm_a arm_b force_n force_t",
    joint="fragment force", row="body arm_a arm_b frame",
)
FEWEST = sim.rest.FEWEST
PATIENCE = 10_000_000  # times a thread looks for the other before it goes on alone
ORIGINAL = {"pairs_find": sim.solve.pairs_find, "solve_end": sim.solve.solve_end}


def change(name: str) -> None:
    """Play one change, or none."""
    for attribute, function in ORIGINAL.items():
        setattr(sim.solve, attribute, function)
    sim.rest.FEWEST = 10**9 if name == "atomic" else FEWEST  # its sums are over the rows in the list
    if name in ("permuted", "unsorted"):
        sim.solve.pairs_find = lambda *arguments: pairs_find_permuted(*arguments, int(name == "permuted"))
    elif name == "atomic":
        sim.solve.solve_end = solve_end_atomic
    elif name:
        raise ValueError(name)


@ti.kernel
def pairs_find_permuted(
    S: PairPack, hulls: ti.i32, last_count: ti.i32, behind: ti.i32, mask: ti.i32, room: ti.i32, pair_room: ti.i32, cell_size: ti.f32,
    tune: Tuning, sort: ti.i32,
):
    """sim.broadphase.pairs_find with the pairs shuffled between search and sort."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        S.grid_need[0] = entries_fill(S, hulls, mask, room, cell_size, tune)
        S.grid_need[1] = 0
        if S.grid_need[0] <= room:
            pairs = pairs_search(S, hulls, last_count + behind, mask, pair_room, tune)
            S.grid_need[1] = pairs
            if pairs <= pair_room:
                shuffle(S, pairs)
                if sort == 1:
                    pairs_sort(S, hulls, pairs)
                    pairs_match(S, last_count, behind, pairs)
                else:
                    for p in range(pairs):
                        S.contact_pair[p] = S.grid_pair[p]
                    pairs_match(S, 0, 0, pairs)  # matching merges two sorted lists: from unsorted ones nothing is carried over
                    for p in range(pairs):
                        for m in range(last_count + behind):
                            same = S.last_pair[m][0] == S.contact_pair[p][0] and S.last_pair[m][1] == S.contact_pair[p][1]
                            if same and S.last_count[m] >= 0:
                                S.grid_source[p] = m


@ti.func
def shuffle(S: ti.template(), pairs):
    """Fisher and Yates, drawn from a hash (Wang) of place and number of pairs."""
    for back in range(pairs - 1):
        p = pairs - 1 - back
        x = ti.cast(p * 9781 + pairs * 6271 + 17, ti.u32)
        x = (x ^ ti.u32(61)) ^ (x >> 16)
        x *= ti.u32(9)
        x = x ^ (x >> 4)
        x *= ti.u32(668265261)
        x = x ^ (x >> 15)
        other = ti.cast(x % ti.cast(p + 1, ti.u32), ti.i32)
        held = S.grid_pair[p]
        S.grid_pair[p] = S.grid_pair[other]
        S.grid_pair[other] = held


def solve_end_atomic(S, pairs: int, joints: int, count: int, tune) -> None:
    """sim.sweep.solve_end, but for the forces on fragments."""
    own = ScatterPack(**{name: S[name] for name in ScatterPack.members})
    forces_scatter(own, np.zeros(1, np.int32), impl.current_cfg().cpu_max_num_threads, pairs, joints, count)
    columns = (S["fragment_force"], S["fragment_moment"])
    rows = [column_read(c) for c in columns]
    ORIGINAL["solve_end"](S, pairs, joints, count, tune)
    for column, value in zip(columns, rows, strict=True):
        column_write(column, value)


@ti.kernel
def forces_scatter(
    S: ScatterPack, gate: ti.types.ndarray(dtype=ti.i32, ndim=1), threads: ti.i32, pairs: ti.i32, joints: ti.i32, count: ti.i32
):
    """Each row adds its forces to its two fragments."""
    for f in range(count):
        S.fragment_force[f] = ti.Vector([0.0, 0.0, 0.0])
        S.fragment_moment[f] = ti.Vector([0.0, 0.0, 0.0])
    for m in range(pairs):
        meet(gate, m, threads)
        for k in range(S.contact_count[m]):
            at = m * POINTS + k
            a, b = S.contact_body[m][0], S.contact_body[m][1]
            on_b = -(S.contact_force_n[at] * S.contact_normal[m] + S.contact_force_t[at])
            add(S, S.hull_fragment[S.contact_pair[m][0]], a, S.contact_arm_a[at], -on_b)
            if b >= 0:
                add(S, S.hull_fragment[S.contact_pair[m][1]], b, S.contact_arm_b[at], on_b)
    for j in range(joints):
        on_b, twist = joint_load(S, j)
        a, b = S.row_body[j][0], S.row_body[j][1]
        add(S, S.joint_fragment[j][0], a, S.row_arm_a[j], -on_b)
        S.fragment_moment[S.joint_fragment[j][0]] -= twist
        if b >= 0:
            add(S, S.joint_fragment[j][1], b, S.row_arm_b[j], on_b)
            S.fragment_moment[S.joint_fragment[j][1]] += twist


@ti.func
def meet(gate: ti.template(), m, threads):
    """The first rows of the first two tasks wait for each other: a thread could be done with both before a second one is awake."""
    if threads > 1 and (m == 0 or m == TASK):
        ti.atomic_add(gate[0], 1)
        patience = PATIENCE
        nothing = threads >> 16  # a plain read, or a sum with a zero that the compiler sees, would be taken out of the loop
        while patience > 0 and ti.atomic_add(gate[0], nothing) < 2:
            patience -= 1


@ti.func
def add(S: ti.template(), f, b, arm, force):
    """Force and moment on fragment f: atomic, as `+=` in a parallel loop is."""
    S.fragment_force[f] += force
    S.fragment_moment[f] += (arm - turn(S.body_q[b], S.fragment_offset[f])).cross(force)
