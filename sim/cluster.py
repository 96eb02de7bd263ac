"""Clusters: which fragments move as one rigid body.

In: bonds and their states. Out: a label per fragment, the lowest fragment index of its connected component over intact bonds,
and whether that component holds to the ground. Hinged bonds do not connect: the contact solver carries them as joints.
Mass properties and momentum of the parts of a split cluster are those of sim/world.py (bodies_split).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from shot.results import BOND_BROKEN, BOND_INTACT, GROUND, Bonds


def clusters(bonds: Bonds, state: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(F) i32 labels and (F) bool held by the ground, for bond states (B)."""
    a, b = bonds.fragment_a, bonds.fragment_b
    joins = (state == BOND_INTACT) & (b != GROUND)
    graph = csr_matrix((np.ones(np.count_nonzero(joins), np.int8), (a[joins], b[joins])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    lowest = np.full(component.max(initial=-1) + 1, count)
    np.minimum.at(lowest, component, np.arange(count))
    label = lowest[component].astype(np.int32)
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
