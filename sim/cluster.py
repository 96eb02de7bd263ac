"""Clusters: which fragments move as one rigid body.

In: bonds and their states. Out: a label per fragment, the lowest fragment index of its connected component over intact bonds,
and whether that component holds to the ground. Hinged bonds do not connect: the contact solver carries them as joints.
Mass properties and momentum of the parts of a split cluster are those of sim/world.py (bodies_split).
"""

from __future__ import annotations

import numpy as np

from shot.results import BOND_BROKEN, BOND_INTACT, GROUND, Bonds
from sim.linked import lowest_linked


def clusters(bonds: Bonds, state: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(F) i32 labels and (F) bool held by the ground, for bond states (B)."""
    a, b = bonds.fragment_a, bonds.fragment_b
    joins = (state == BOND_INTACT) & (b != GROUND)
    label = lowest_linked(a[joins], b[joins], count)
    held = np.zeros(count, bool)
    held[label[a[(state == BOND_INTACT) & (b == GROUND)]]] = True
    return label, held[label]


def bonds_inside(bonds: Bonds, state: np.ndarray, label: np.ndarray, held: np.ndarray) -> np.ndarray:
    """(B) bool: bonds that carry stress inside a cluster, hinged ones included; those to the ground count in held clusters."""
    a, b = bonds.fragment_a, bonds.fragment_b
    same = np.where(b == GROUND, held[a], label[a] == label[b])
    return same & (state != BOND_BROKEN)


def hinges_between(bonds: Bonds, state: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Indices of hinged bonds between two bodies: the contact solver's joints."""
    return np.flatnonzero((state != BOND_BROKEN) & (state != BOND_INTACT) & ~inside)
