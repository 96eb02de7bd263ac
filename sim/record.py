"""What a step leaves for dust, debris and sound: breaks, impacts, crushes.

In: the bonds that parted in a step and the solver's contact points. Out: rows for Motion (shot/results.py), appended to the frame's
records. Contact points of one pair in one step become one impact; those that dissipate less than `notice` are left out.
What a contact point dissipates while it presses as hard as the weaker fragment bears goes into crushing that fragment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shot.results import GROUND, Bonds, Fragments
from shot.rotation import rotate
from sim.world import Contacts, Poses


@dataclass
class Broken:
    """Bonds that parted in this step so far, each with its energy [J]."""

    bond: list[np.ndarray] = field(default_factory=list)
    energy: list[np.ndarray] = field(default_factory=list)
    crush_bond: list[np.ndarray] = field(default_factory=list)
    crush_energy: list[np.ndarray] = field(default_factory=list)

    def note(self, bond: np.ndarray, energy: np.ndarray) -> None:
        """Bonds parted, and the elastic energy they held."""
        self.bond.append(bond)
        self.energy.append(energy)

    def crush(self, bond: np.ndarray, energy: np.ndarray) -> None:
        """Bonds that failed in compression, and what crushing them took."""
        self.crush_bond.append(bond)
        self.crush_energy.append(energy)


BREAK = {"break_time": np.float64, "break_bond": np.int32, "break_energy": np.float32, "break_position": np.float32,
         "break_normal": np.float32, "break_velocity": np.float32}
IMPACT = {"impact_time": np.float64, "impact_fragment": np.int32, "impact_position": np.float32, "impact_normal": np.float32,
          "impact_impulse": np.float32, "impact_energy": np.float32, "impact_velocity": np.float32}
CRUSH = {"crush_time": np.float64, "crush_fragment": np.int32, "crush_energy": np.float32}
WIDTH = {"break_position": 3, "break_normal": 3, "break_velocity": 3, "impact_fragment": 2, "impact_position": 3, "impact_normal": 3,
         "impact_velocity": 3}


def breaks_of(broken: Broken, bonds: Bonds, fragments: Fragments, poses: Poses, time: float) -> dict[str, np.ndarray]:
    """Rows of the bonds that parted in a step, by bond; velocities are those after the step."""
    bond = np.concatenate([np.zeros(0, np.int64), *broken.bond])
    energy = np.concatenate([np.zeros(0), *broken.energy])
    order = np.argsort(bond, kind="stable")
    bond, energy = bond[order], energy[order]
    a, b = bonds.fragment_a[bond], bonds.fragment_b[bond]
    arm = rotate(poses.rotation[a], bonds.centroid[bond] - fragments.position[a])
    place = poses.position[a] + arm
    speed_a = poses.velocity[a] + np.cross(poses.angular_velocity[a], arm)
    speed_b = poses.velocity[b] + np.cross(poses.angular_velocity[b], place - poses.position[b])
    opening = np.where((b == GROUND)[:, None], 0.0, speed_b) - speed_a
    rows = np.full(len(bond), time), bond, energy, place, rotate(poses.rotation[a], bonds.normal[bond]), opening
    return {name: value.astype(kind) for (name, kind), value in zip(BREAK.items(), rows, strict=True)}


def impacts_of(contacts: Contacts, notice: float, time: float) -> dict[str, np.ndarray]:
    """Rows of the pairs that dissipated at least `notice` [J] in a step; position and velocity weighted by impulse."""
    pair, start = _pairs(contacts)
    if not len(start):
        return joined([], IMPACT)
    weight = np.linalg.norm(contacts.impulse.astype(float), axis=1) + 1e-12
    total = np.add.reduceat(weight, start)[:, None]
    energy = np.add.reduceat(contacts.energy.astype(float), start)
    keep = energy >= notice

    def mean(value: np.ndarray) -> np.ndarray:
        return (np.add.reduceat(weight[:, None] * value, start) / total)[keep]

    normal = mean(contacts.normal.astype(float))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    impulse = np.linalg.norm(np.add.reduceat(contacts.impulse.astype(float), start), axis=1)[keep]
    times = np.full(len(impulse), time)
    rows = times, pair[keep], mean(contacts.position), normal, impulse, energy[keep], mean(contacts.velocity)
    return {name: value.astype(kind) for (name, kind), value in zip(IMPACT.items(), rows, strict=True)}


def crushes_of(
    broken: Broken, contacts: Contacts, bonds: Bonds, fragments: Fragments, notice: float, time: float
) -> tuple[dict[str, np.ndarray], float]:
    """Rows of crushed fragments in a step, and the energy [J] among them that contact had booked as its own."""
    count = fragments.count
    energy = np.zeros(count)
    bond = np.concatenate([np.zeros(0, np.int64), *broken.crush_bond])
    a, b = bonds.fragment_a[bond], bonds.fragment_b[bond]
    smaller = np.where((b != GROUND) & (fragments.mass[b] < fragments.mass[a]), b, a)
    np.add.at(energy, smaller, np.concatenate([np.zeros(0), *broken.crush_energy]))

    yields = contacts.crushed >= 0
    taken = np.bincount(contacts.crushed[yields], contacts.energy[yields], count)
    taken = np.where(taken >= notice, taken, 0.0)
    rows_of = np.flatnonzero(energy + taken > 0)
    rows = np.full(len(rows_of), time), rows_of, (energy + taken)[rows_of]
    return {name: value.astype(kind) for (name, kind), value in zip(CRUSH.items(), rows, strict=True)}, float(taken.sum())


def joined(steps: list[dict[str, np.ndarray]], columns: dict) -> dict[str, np.ndarray]:
    """One table of the rows of several steps."""
    return {
        name: np.concatenate([np.zeros((0, *((WIDTH[name],) if name in WIDTH else ())), kind), *(rows[name] for rows in steps)])
        for name, kind in columns.items()
    }


def _pairs(contacts: Contacts) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) pairs and the first contact of each; contacts are sorted by pair."""
    pair = contacts.fragment
    new = np.flatnonzero(np.r_[True, (pair[1:] != pair[:-1]).any(axis=1)]) if len(pair) else np.zeros(0, np.int64)
    return pair[new], new
