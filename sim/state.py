"""The state of a World as a whole: taken back within a step, saved and loaded, and the contact list of the last step.

In: a World. Out: snapshots on the device, dicts of numpy arrays, Contacts. A loaded world goes on with the same bits: multipliers,
penalties, slip, birth overlaps, cached axes, sleep counters and loads are all in the tables that are saved.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import taichi as ti

from sim.column import column_copy, column_read, column_write
from sim.layout import ASLEEP, BODY, CONTACT, FIXED, FRAGMENT, JOINT, PER_POINT, POINTS
from sim.rest import rest_none, rows_all
from sim.world import Contacts, Table, World, bodies_read

HOST = ("label", "fixed", "com")
KEPT = (*HOST, "contact_now", "contact_count", "joint_count", "still", "laid")


def state_snapshot(world: World) -> None:
    """Remember the state, on the device; the next `contact_step`s leave the remembered contact list alone. One snapshot is held."""
    held = world.snapshot or {}
    for name, table in _tables(world).items():
        copies = held.get(name)
        if copies is None or any(copies[k].shape != a.shape for k, a in table.items()):
            copies = {k: ti.ndarray(table_type[k], a.shape[0]) for table_type in (_columns(name),) for k, a in table.items()}
        for k, a in table.items():
            column_copy(copies[k], a)
        held[name] = copies
    held |= {k: getattr(world, k) for k in KEPT} | {"energy": dict(world.energy)}
    world.snapshot = held


def state_restore(world: World) -> None:
    """Back to the snapshot, which stays. Raises ValueError without one."""
    held = world.snapshot
    if held is None:
        raise ValueError("no snapshot to restore")
    for name, table in _tables(world).items():
        for k, a in table.items():
            column_copy(a, held[name][k])
    for k in KEPT:
        setattr(world, k, held[k])
    world.energy = dict(held["energy"])


def _tables(world: World) -> dict[str, dict]:
    return {"body": world.body.array, "fragment": world.fragment.array, "joint": world.joint.array}


def _columns(name: str) -> dict:
    return {"body": BODY, "fragment": FRAGMENT, "joint": JOINT}[name]


def world_save(world: World) -> dict[str, np.ndarray]:
    """The complete state as arrays, for np.savez."""
    out = {f"body_{k}": column_read(a) for k, a in world.body.array.items()}
    out |= {f"fragment_{k}": column_read(a) for k, a in world.fragment.array.items()}
    out |= {f"joint_{k}": column_read(a, world.joint_count) for k, a in world.joint.array.items()}
    rows = rows_all(world)
    out |= {f"contact_{k}": a for k, a in _unused_blanked(rows).items()}
    out |= {k: np.asarray(getattr(world, k)) for k in HOST}
    out["energy"] = np.array(list(world.energy.values()), np.float64)
    out["energy_name"] = np.array(list(world.energy), "U16")
    return out


def _unused_blanked(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Contact rows, zero where nothing met: what an older step left there is never read, yet would tell a resumed run from a whole one."""
    apart = rows["count"] == 0
    unused = (np.arange(POINTS) >= rows["count"][:, None]).reshape(-1)
    for name, values in rows.items():
        if name in PER_POINT:
            values[unused & ((np.arange(len(unused)) % POINTS > 0) | (name != "apart"))] = 0
        elif name in ("normal", "friction", "gap", "crush", "crushed", "crushing", "yields", "facing"):
            values[apart] = 0
    return rows


def world_load(world: World, saved: Mapping[str, np.ndarray]) -> None:
    """Put a saved state into a world of the same fragments. Raises ValueError if sizes or columns differ."""
    if len(saved["label"]) != world.count:
        raise ValueError(f"saved state has {len(saved['label'])} fragments, the scene {world.count}")
    wanted = {f"{t}_{k}" for t, c in (("body", BODY), ("fragment", FRAGMENT), ("joint", JOINT), ("contact", CONTACT)) for k in c}
    missing = wanted - set(saved)
    if missing:
        raise ValueError(f"saved state lacks {sorted(missing)}")
    joints, contacts = len(saved["joint_bond"]), len(saved["contact_count"])
    if joints > world.joint.size:
        world.joint = Table(JOINT, joints)
    world.contact_now, world.contact_count, world.joint_count, world.snapshot, world.work = 0, contacts, joints, None, None
    world.still, world.laid = None, rest_none(world.count, world.contact[0].array)
    if contacts > world.contact[0].size:
        world.contact[0] = Table(CONTACT, contacts)
    for name, table in (("body", world.body), ("fragment", world.fragment), ("joint", world.joint), ("contact", world.contact[0])):
        for k, a in table.array.items():
            column_write(a, saved[f"{name}_{k}"])
    for k in HOST:
        setattr(world, k, np.array(saved[k]))
    world.energy = dict(zip(saved["energy_name"].tolist(), saved["energy"].tolist(), strict=True))


def contacts_read(world: World, h: float) -> Contacts:
    """Pressed points of the last step of h seconds that had an awake body, sorted by (a, b)."""
    read = rows_all(world, woken=True)
    n = len(read["count"])
    now = bodies_read(world)
    row = np.repeat(np.arange(n), POINTS)
    slot = np.tile(np.arange(POINTS), n)
    body = read["body"]
    still = np.logical_not(np.concatenate([now.v, now.w], axis=1).any(axis=1, keepdims=True))[:, 0]
    resting = (np.isin(now.state[body], (ASLEEP, FIXED)) & still[body]) | (body < 0)
    pressed = (slot < read["count"][row]) & (read["force_n"] < 0) & ~np.all(resting, axis=1)[row]
    row, point = row[pressed], np.flatnonzero(pressed)
    a, b = body[row].T
    normal = read["normal"][row]
    force = -(read["force_n"][point, None] * normal + read["force_t"][point])
    arm_a, arm_b = read["arm_a"][point], read["arm_b"][point]
    after = -(now.v[a] + np.cross(now.w[a], arm_a))
    after += np.where((b >= 0)[:, None], now.v[b] + np.cross(now.w[b], arm_b), 0)
    hull = world.hulls.fragment
    pair = read["pair"][row]
    before = read["approach"][point]
    impulse = (h * force).astype(np.float32)
    energy = np.maximum(-0.5 * (impulse * (before + after)).sum(axis=1), 0)
    crushed = np.where(read["crushing"][row] > 0, hull[np.take_along_axis(pair, read["yields"][row, None], axis=1)[:, 0]], -1)
    fragment = np.stack([hull[pair[:, 0]], np.where(pair[:, 1] >= 0, hull[pair[:, 1]], -1)], axis=1).astype(np.int32)
    return Contacts(fragment, now.x[a] + arm_a, normal, impulse, before, energy.astype(np.float32), crushed)
