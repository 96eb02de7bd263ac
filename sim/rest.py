"""Contacts between sleepers, laid aside: a step neither copies nor visits them.

In: the contact list of a step, body states. Out: `Rest`, an immutable store of rows with what they press with on every fragment.

A row whose two bodies stay where they are says the same in every step. Once enough such rows are there (`rest_lay`), they leave the
list; their forces are summed once, per owner: a sleeping body, or a fragment of a body that holds to the ground. An owner that rows of
the list press on as well is summed anew in the order of all its pairs (sim/sweep.py, `solve_forces`), so no bit tells whether rows were
laid aside: what is stored, or read as contacts, has both kinds. A body that wakes, splits, is driven or may be woken by a hit takes its
rows back into the list (`rest_take`), behind the list's end, sorted like it. Not handled: joints between sleepers; each step visits them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sim.column import column_read, column_rows, column_set, column_write
from sim.layout import ASLEEP, AWAKE, CONTACT, FIXED, PER_POINT, POINTS

if TYPE_CHECKING:
    from sim.world import World

FEWEST, SHARE, AGE = 64, 8, 30  # rows that wait: laid aside from so many on, and from an eighth of those there are, or after so many steps


@dataclass(frozen=True)
class Rest:
    """Rows laid aside, sorted by pair, and what they press with. R rows, E points on an owner, F fragments."""

    row: dict[str, np.ndarray]  # columns of CONTACT
    live: np.ndarray  # (R) i32: 0 back in the list
    body: np.ndarray  # (F) bool: bodies that live rows touch
    owner: np.ndarray  # (F) i32: 0 none, 1 its sums hold, 2 some of its rows are back in the list
    start: np.ndarray  # (F + 1) i32: points of each owner, by pair
    key: np.ndarray  # (E, 2) i32: their pair
    source: np.ndarray  # (E) i32: their row
    load: np.ndarray  # (E, 10) f32: force, moment about the fragment's centre, about the body's, |force|
    fragment: np.ndarray  # (E) i32
    force: np.ndarray  # (F, 3) f32: sums over each fragment
    moment: np.ndarray  # (F, 3) f32
    pressing: np.ndarray  # (F, 7) f32: over each body: force, moment, |force|
    rouse: np.ndarray | None = None  # (F) bool: bodies regrouped since the last step

    @property
    def count(self) -> int:
        """Rows there are, live or not."""
        return len(self.live)


def rest_none(count: int, table: dict) -> Rest:
    """Nothing laid aside; `table` has the columns of contacts."""
    columns = {k: column_read(a, 0) for k, a in table.items()}
    zero = np.zeros(0, np.int32)
    flag, three = np.zeros(count, np.int32), np.zeros((count, 3), np.float32)
    return Rest(
        columns, zero, flag.astype(bool), flag, np.zeros(count + 1, np.int32), np.zeros((0, 2), np.int32), zero,
        np.zeros((0, 10), np.float32), zero, three, three, np.zeros((count, 7), np.float32),
    )


def rest_regrouped(rest: Rest, body: np.ndarray) -> Rest:
    """The same; the bodies in these slots are others now, so their rows go back at the next step."""
    if not rest.live.any():
        return rest
    rouse = np.zeros(len(rest.body), bool) if rest.rouse is None else rest.rouse.copy()
    rouse[body] = True
    return replace(rest, rouse=rouse)


def rest_moved(world: World) -> np.ndarray:
    """(F) bool: bodies with rows laid aside that no longer rest."""
    rest, body = world.laid, world.body.array
    if not rest.live.any():
        return np.zeros(world.count, bool)
    state = column_read(body["state"])
    moved = rest.body & (state != ASLEEP)
    held = np.flatnonzero(moved & (state == FIXED))
    if len(held):
        moved[held] = (column_rows(body["v"], held) != 0).any(axis=1) | (column_rows(body["w"], held) != 0).any(axis=1)
    return moved if rest.rouse is None else moved | rest.rouse


def rest_take(world: World, rest: Rest, bodies: np.ndarray) -> np.ndarray:
    """Take the live rows of `rest` that touch the bodies (F) bool out of world.laid; which of them are out now, ascending.

    `rest` is what there was at the start of the step; all that left it since is counted."""
    a, b = rest.row["body"].T
    out = (rest.live == 1) & (bodies[a] | ((b >= 0) & bodies[b]))
    out |= (rest.live == 1) & (world.laid.live == 0)
    live, touched = rest.live.copy(), np.zeros(world.count, bool)
    live[out] = 0
    point = np.repeat(np.arange(world.count), np.diff(rest.start))  # its owner
    holds = np.bincount(point[live[rest.source] == 1], minlength=world.count) > 0
    lost = np.bincount(point[live[rest.source] == 0], minlength=world.count) > 0
    owner = np.where(holds, np.where(lost, 2, 1), 0).astype(np.int32)
    for side in (a, b):
        touched[side[(live == 1) & (side >= 0)]] = True
    world.laid = replace(rest, live=live, owner=owner, body=touched, rouse=None)
    return np.flatnonzero(out)


def rest_append(world: World, rest: Rest, rows: np.ndarray) -> None:
    """Write these rows behind the last list's end, which has the room."""
    table, first = world.contact[world.contact_now].array, world.contact_count
    for name, value in rest.row.items():
        if name in PER_POINT:
            value = value.reshape(-1, POINTS, *value.shape[1:])[rows].reshape(-1, *value.shape[1:])
            column_set(table[name], POINTS * first, value)
        else:
            column_set(table[name], first, value[rows])


def flooded(world: World, budget: np.ndarray, into: int, pairs: int, sleep_speed: float) -> np.ndarray:
    """(F) bool: sleepers with rows laid aside that the budgets (F) of what was hit could reach: at least those of sim/sleep.py."""
    table, rest = world.contact[into].array, world.laid
    state, mass = column_read(world.body.array["state"]), column_read(world.body.array["mass"]).astype(np.float64)
    body = np.concatenate([column_read(table["body"], pairs)[column_read(table["count"], pairs) > 0], rest.row["body"][rest.live == 1]])
    body = body[body[:, 1] >= 0]
    a, b = body[(state[body] == ASLEEP).all(axis=1)].T
    need = 0.999 * mass * sleep_speed
    parts = np.maximum(np.bincount(np.concatenate([a, b]), minlength=world.count), 1)
    left, before = 1.001 * budget.astype(np.float64), np.zeros(0)  # above all that rounding does; a factor in the loop would grow in turn
    while not np.array_equal(left, before):
        before = left.copy()
        part = (before - need) / parts
        np.maximum.at(left, b, np.where(part[a] > need[b], part[a], 0.0))
        np.maximum.at(left, a, np.where(part[b] > need[a], part[b], 0.0))
    return rest.body & (state == ASLEEP) & (left > 0.0)


def rest_lay(world: World, keep: np.ndarray, age: int) -> bool:
    """Lay rows of the list just written aside if enough wait; True if it was done. keep: 1 for rows that were copied in this step.

    Their count in the list becomes -1: the pair is there, the row is not."""
    copied = np.flatnonzero(keep == 1)
    rest, live = world.laid, int(world.laid.live.sum())
    if len(copied) < FEWEST or (len(copied) * SHARE < live and age < AGE):
        return False
    table, pairs = world.contact[world.contact_now].array, len(keep)
    state = column_read(world.body.array["state"])
    body, count = column_read(table["body"], pairs), column_read(table["count"], pairs)
    still = (state == ASLEEP) | (state == FIXED)
    new = copied[(count[copied] > 0) & still[body[copied, 0]] & ((body[copied, 1] < 0) | still[body[copied, 1]])]
    if len(new) < FEWEST:
        return False
    old = np.flatnonzero(rest.live)
    rows = {}
    for name in CONTACT:
        if name in PER_POINT:
            mine = rest.row[name].reshape(-1, POINTS, *table[name].element_shape)[old]
            value = column_read(table[name], POINTS * pairs).reshape(pairs, POINTS, *table[name].element_shape)[new]
        else:
            mine, value = rest.row[name][old], column_rows(table[name], new)
        rows[name] = np.concatenate([mine.astype(value.dtype), value])
    order = np.lexsort((rows["pair"][:, 1], rows["pair"][:, 0]))
    rows = {k: v[order].reshape(-1, *v.shape[2:]) if k in PER_POINT else v[order] for k, v in rows.items()}
    count[new] = -1
    column_write(table["count"], count)
    world.laid = _summed(world, rows, state)
    return True


def _summed(world: World, row: dict[str, np.ndarray], state: np.ndarray) -> Rest:
    """The store of these rows: their points by owner, and sums over them in the order, and to the bit, of `solve_forces`."""
    f4, fragments = np.float32, world.count
    hull, pair, body = world.hulls.fragment, row["pair"], row["body"]
    at = np.arange(len(pair) * POINTS)
    at = at[at % POINTS < row["count"][at // POINTS]]
    r = at // POINTS
    on_b = -(row["force_n"][at, None] * row["normal"][r] + row["force_t"][at])
    q, offset = column_read(world.body.array["q"]), column_read(world.fragment.array["offset"])
    parts = []
    for side, arm, force in ((0, row["arm_a"][at], -on_b), (1, row["arm_b"][at], on_b)):
        here = body[r, side] >= 0
        b, f = body[r, side][here], hull[pair[r, side][here]]
        arm, force = arm[here], force[here]
        moment = _cross(arm - _turn(q[b], offset[f]), force)
        size = np.sqrt(force[:, 0] * force[:, 0] + force[:, 1] * force[:, 1] + force[:, 2] * force[:, 2])
        load = np.concatenate([force, moment, _cross(arm, force), size[:, None]], axis=1).astype(f4)
        parts.append((np.where(state[b] == FIXED, f, b), at[here], b, f, load))
    owner, point, b, f, load = (np.concatenate(p) for p in zip(*parts, strict=True))
    order = np.lexsort((point, owner))
    owner, point, b, f, load = owner[order], point[order], b[order], f[order], load[order]
    start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=fragments))]).astype(np.int32)
    force, moment, pressing = np.zeros((fragments, 3), f4), np.zeros((fragments, 3), f4), np.zeros((fragments, 7), f4)
    np.add.at(force, f, load[:, :3])
    np.add.at(moment, f, load[:, 3:6])
    np.add.at(pressing, b, load[:, [0, 1, 2, 6, 7, 8, 9]])
    touched = np.zeros(fragments, bool)
    touched[body[body >= 0]] = True
    source = (point // POINTS).astype(np.int32)
    return Rest(
        row, np.ones(len(pair), np.int32), touched, (np.diff(start) > 0).astype(np.int32), start, pair[source], source, load,
        f.astype(np.int32), force, moment, pressing,
    )


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, in the kernel's order."""
    return np.stack([a[:, i] * b[:, j] - a[:, j] * b[:, i] for i, j in ((1, 2), (2, 0), (0, 1))], axis=1)


def _turn(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """`turn` of sim/broadphase.py."""
    u = q[:, 1:]
    t = np.float32(2.0) * _cross(u, p)
    return p + q[:, :1] * t + _cross(u, t)


def rows_all(world: World, woken: bool = False) -> dict[str, np.ndarray]:
    """Columns of the last step's rows, sorted by pair: those of the list and those laid aside, or of these only those of woken bodies."""
    n, table, rest = world.contact_count, world.contact[world.contact_now].array, world.laid
    rows = {k: column_read(a, n * (POINTS if k in PER_POINT else 1)) for k, a in table.items()}
    wanted = rest.live == 1
    if woken:
        woke = rest.body & (column_read(world.body.array["state"]) == AWAKE)
        if not woke.any():
            return rows  # those whose row was laid aside have no points
        a, b = rest.row["body"].T
        wanted = wanted & (woke[a] | ((b >= 0) & woke[b]))
    if not wanted.any() and (rows["count"] >= 0).all():
        return rows
    held = rows["count"] >= 0
    pair = np.concatenate([rows["pair"][held], rest.row["pair"][wanted]])
    order = np.lexsort((pair[:, 1], pair[:, 0]))
    for name, value in rows.items():
        if name in PER_POINT:
            shape = (-1, POINTS, *value.shape[1:])
            both = np.concatenate([value.reshape(shape)[held], rest.row[name].reshape(shape)[wanted].astype(value.dtype)])
            rows[name] = both[order].reshape(-1, *value.shape[1:])
        else:
            rows[name] = np.concatenate([value[held], rest.row[name][wanted].astype(value.dtype)])[order]
    return rows
